// See columns_tile.hpp.
#include "cuda/columns_tile.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

constexpr int slice = 32;  // positions that are put into lines at once (kernels/columns/shape.cuh)
constexpr int warpgroup = 128;

int round_up(Int v, Int to) { return static_cast<int>((v + to - 1) / to * to); }
Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

/// place_of() of kernels/columns/fetch.cuh.
int place_of(const ColumnsShape& s, int span, int i) {
  if (!s.parted) return i;
  const int channel = i / s.all_taps, tap = i % s.all_taps;
  const int kh = s.kernel[1], kw = s.kernel[2], sd = s.stride[0], sh = s.stride[1], sw = s.stride[2];
  const int d = tap / (kh * kw), h = tap / kw % kh, w = tap % kw;
  const int shift = (d / sd * (kh / sh) + h / sh) * (kw / sw) + w / sw;
  return shift * span + channel * s.phases + (d % sd * sh + h % sh) * sw + w % sw;
}
/// weight_of().
Int weight_of(const ColumnsShape& s, int run, int i) {
  if (!s.w_last) return i;
  const int channels = run / s.all_taps;
  return Int{i / channels} * s.co + i % channels;
}
/// row_place() of kernels/columns/multiply.cuh.
int row_place(const ColumnsShape& s, int run, int row) {
  if (s.pairs() || s.parted || (!s.w_last && s.all_taps == s.row_phases())) return row;
  const int channels = s.w_last ? run / s.all_taps : 1;
  const int channel = row / s.row_phases(), phase = row % s.row_phases();
  const int sh = s.stride[1], sw = s.stride[2];
  const int tap = s.separate ? 0 : (phase / (sh * sw) * s.kernel[1] + phase / sw % sh) * s.kernel[2] + phase % sw;
  return s.w_last ? tap * channels + channel : channel * s.all_taps + tap;
}

/// Turns that shared memory needs for one access of a warp: `bytes` each (2 to 16) at these byte addresses.
int turns(const std::vector<int>& addresses, int bytes) {
  const int together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  int all = 0;
  for (std::size_t first = 0; first < addresses.size(); first += static_cast<std::size_t>(together)) {
    std::array<std::set<int>, 32> words;
    for (std::size_t i = first; i < addresses.size() && i < first + static_cast<std::size_t>(together); ++i)
      for (int b = 0; b < std::max(bytes, 4); b += 4) {
        const int word = addresses[i] / 4 + b / 4;
        words[static_cast<std::size_t>(word % 32)].insert(word);
      }
    std::size_t most = 0;
    for (const auto& w : words) most = std::max(most, w.size());
    all += static_cast<int>(most);
  }
  return all;
}

/// Turns of a warp's loads of one fragment (load_weights() of kernels/columns/multiply.cuh).
int fragment_turns(const ColumnsShape& s, int run, int pitch, int warp) {
  const int row_g = s.pairs() ? 2 : 1, row_half = s.pairs() ? 1 : 8, lane_channels = s.tf32 ? 1 : 2;
  const int bytes = s.element_bytes;
  int all = 0;
  for (int i = 0; i < (s.tf32 ? 2 : 4); ++i)
    for (int half = 0; half < (s.pairs() ? 1 : 2); ++half) {
      std::vector<int> addresses;
      for (int lane = 0; lane < 32; ++lane) {
        const int channel = lane % 4 * lane_channels + (s.tf32 ? 4 * i : i % 2 + i / 2 * 8);
        addresses.push_back((row_place(s, run, warp * 16 + lane / 4 * row_g + half * row_half) + channel * pitch) *
                            bytes);
      }
      all += turns(addresses, s.pairs() ? 2 * bytes : bytes);
    }
  return all;
}

/// Turns of a warp's stores of eight positions of a unit (put() of kernels/columns/store.cuh).
int put_turns(const ColumnsShape& s, const ColumnsTile& t) {
  const int sw = s.stride[2], bytes = s.element_bytes;
  const int row_g = s.pairs() ? 2 : 1, row_half = s.pairs() ? 1 : 8;
  const auto at = [&](int line, int e) { return (line * t.line_pitch + e + e * bytes / 128 * t.line_skew) * bytes; };
  int all = 0;
  const auto each = [&](int half, int odd, int phase, int count) {
    std::vector<int> addresses;
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4 * row_g + half * row_half, position = lane % 4 * 2 + odd;
      addresses.push_back(s.separate ? at(row, position * sw + phase) : at(row / sw, position * sw + row % sw));
    }
    all += turns(addresses, count * bytes);
  };
  for (int half = 0; half < 2; ++half) {
    if (sw == 1) {
      each(half, 0, 0, 2);
    } else if (s.separate && sw == 2) {
      each(half, 0, 0, 4);
    } else if (s.separate) {
      for (int phase = 0; phase < sw; ++phase) each(half, 0, phase, 1), each(half, 1, phase, 1);
    } else if (s.pairs() && sw == 2) {
      if (half == 0) each(0, 0, 0, 4);
    } else if (s.pairs() && sw % 2 == 0) {
      if (half == 0) each(0, 0, 0, 2), each(0, 1, 0, 2);
    } else {
      each(half, 0, 0, 1), each(half, 1, 0, 1);
    }
  }
  return all;
}

/// Bytes of the widest copies that every weight allows; 0: none.
int piece_of(const ColumnsShape& s, const ColumnsTile& t) {
  for (const int bytes : {16, 8, 4}) {
    const int e = bytes / s.element_bytes;
    if (e == 0 || t.weight_run % e != 0 || s.co * s.all_taps % e != 0) continue;
    if (Int{t.block_rows} * (s.all_taps / s.row_phases()) % e != 0 && !s.w_last) continue;
    if (s.w_last && (s.co % e != 0 || t.block_rows / s.row_phases() % e != 0)) continue;
    bool good = true;
    for (int i = 0; i < t.weight_run && good; i += e) {
      const int place = place_of(s, t.span, i);
      const Int weight = weight_of(s, t.weight_run, i);
      good = place % e == 0 && weight % e == 0;
      for (int j = 1; j < e && good; ++j)
        good = place_of(s, t.span, i + j) == place + j && weight_of(s, t.weight_run, i + j) == weight + j;
    }
    if (good) return bytes;
  }
  return 0;
}

/// Rows, weights and steps; false when the tile cannot be.
bool place_weights(const ColumnsShape& s, ColumnsTile& t) {
  const int sw = s.stride[2];
  if (s.separate) {
    t.group_rows = 64;
    t.block_rows = 64 * t.down;
  } else {
    const int unit = sw % 2 == 0 ? sw : 2 * sw;  // whole lines, and whole pairs of rows
    if (unit > 64) return false;
    t.group_rows = 64 / unit * unit;
    const bool whole = s.all_taps != s.phases || s.w_last;  // channels must be whole
    t.block_rows = t.down * t.group_rows;
    if (whole) {
      t.block_rows = t.block_rows / s.phases * s.phases;
      if (t.block_rows == 0) return false;
    }
  }
  t.weight_run = t.block_rows * (s.all_taps / s.row_phases());
  // Shifts lie 16 words apart, so that copies of neighbouring shifts meet no bank.
  t.span = s.parted ? round_up(t.block_rows, 32) + 64 / s.element_bytes : 0;
  const int shifts = s.all_taps / s.phases;
  const int used = s.parted ? t.span * shifts : t.weight_run;
  const int align = 16 / s.element_bytes;
  int best = 1 << 30;
  for (int i = 0; i < 8; ++i) {
    const int pitch = round_up(used, align) + i * align;
    int cost = 0;
    for (int warp = 0; warp < 4; ++warp) cost += fragment_turns(s, t.weight_run, pitch, warp);
    if (cost < best) best = t.fragment_turns = cost, t.weight_pitch = pitch;
  }
  t.piece = piece_of(s, t);
  // Steps, by shift: neighbours read the same positions.
  const auto segment_of = [&](int qd, int qh) {
    return static_cast<int>(std::find(s.segments.begin(), s.segments.end(), std::pair(qd, qh)) - s.segments.begin());
  };
  t.steps = {}, t.units = {};
  if (s.separate) {
    const int sd = s.stride[0], sh = s.stride[1], lines_groups = sd * sh;
    std::vector<int> load(static_cast<std::size_t>(lines_groups), 0);
    const auto taps = [&](auto&& visit) {
      for (int d = 0; d < s.kernel[0]; ++d)
        for (int h = 0; h < s.kernel[1]; ++h)
          for (int w = 0; w < s.kernel[2]; ++w) {
            const auto a = s.taps[0][static_cast<std::size_t>(d)], b = s.taps[1][static_cast<std::size_t>(h)],
                       c = s.taps[2][static_cast<std::size_t>(w)];
            visit((d * s.kernel[1] + h) * s.kernel[2] + w, a, b, c, a.phase * sh + b.phase);
          }
    };
    taps([&](int, ColumnsTap, ColumnsTap, ColumnsTap, int lg) { ++load[static_cast<std::size_t>(lg)]; });
    std::vector<int> order(static_cast<std::size_t>(lines_groups));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return load[static_cast<std::size_t>(a)] > load[static_cast<std::size_t>(b)]; });
    std::array<int, 2> work{};
    std::vector<std::pair<int, int>> home(static_cast<std::size_t>(lines_groups));  // kind, unit
    for (int lg : order) {
      int kind = 0;
      if (t.kinds == 2) {
        const std::size_t most = static_cast<std::size_t>(lines_groups / 2);
        kind = t.units[0].size() == most || (work[1] < work[0] && t.units[1].size() < most) ? 1 : 0;
      }
      work[static_cast<std::size_t>(kind)] += load[static_cast<std::size_t>(lg)];
      home[static_cast<std::size_t>(lg)] = {kind, static_cast<int>(t.units[static_cast<std::size_t>(kind)].size())};
      t.units[static_cast<std::size_t>(kind)].push_back(lg * sw);
    }
    t.row_blocks = lines_groups / t.kinds * sw;
    taps([&](int tap, ColumnsTap d, ColumnsTap h, ColumnsTap w, int lg) {
      const auto [kind, unit] = home[static_cast<std::size_t>(lg)];
      const int channels = t.weight_run / s.all_taps;
      t.steps[static_cast<std::size_t>(kind)].push_back(
          {s.w_last ? tap * channels : tap, segment_of(d.shift, h.shift), w.shift, unit * sw + w.phase});
    });
    for (auto& list : t.steps)
      std::stable_sort(list.begin(), list.end(), [](ColumnsStep a, ColumnsStep b) {
        return std::pair(a.segment, a.shift) < std::pair(b.segment, b.shift);
      });
    for (int kind = 0; kind < t.kinds; ++kind)
      if (t.steps[static_cast<std::size_t>(kind)].empty()) return false;
  } else {
    t.units[0] = {0};
    int number = 0;
    for (int d = 0; d < s.kernel[0]; d += s.stride[0])
      for (int h = 0; h < s.kernel[1]; h += s.stride[1])
        for (int w = 0; w < s.kernel[2]; w += s.stride[2], ++number) {
          const int tap = (d * s.kernel[1] + h) * s.kernel[2] + w;
          const int weight = s.parted ? number * t.span : s.w_last ? tap * (t.weight_run / s.all_taps) : tap;
          t.steps[0].push_back({weight, segment_of(d / s.stride[0], h / s.stride[1]), w / s.stride[2], 0});
        }
  }
  return true;
}

int lines_of(const ColumnsShape& s, const ColumnsTile& t) { return s.separate ? 64 : t.group_rows / s.stride[2]; }

void place_lines(const ColumnsShape& s, ColumnsTile& t) {
  const int align = 16 / s.element_bytes, elements = slice * s.stride[2];
  int best = 1 << 30;
  for (const int skew : {0, align, 2 * align, 4 * align})
    for (int i = 0; i < 10; ++i) {
      ColumnsTile c = t;
      c.line_skew = skew;
      const int last = elements - 1;
      c.line_pitch = round_up(last + last * s.element_bytes / 128 * skew + 1, align) + i * align / 2;
      if (i % 2 == 1 && s.stride[2] == 2) continue;  // its stores are 16 (8) bytes wide
      const int cost = put_turns(s, c) * 64 + c.line_pitch / align;
      if (cost < best) best = cost, t.line_pitch = c.line_pitch, t.line_skew = skew;
    }
  // Buffers begin aligned.
  while (lines_of(s, t) * t.line_pitch * s.element_bytes % 16 != 0) t.line_pitch += align / 2;
}

/// Clocks of a chunk and of a tile, seconds of the whole; measured figures from docs/measured-hopper.md.
void estimate(const ColumnsShape& s, const CudaTarget& target, ColumnsTile& t) {
  constexpr double clock = 1.6e9;
  const int factor = s.parts == 2 ? 3 : 1;
  const double steps_k = double(t.channels) / s.step_channels();
  double products = 0;
  for (int group = 0; group < 2; ++group)
    products += steps_k * double(t.steps[static_cast<std::size_t>(t.kinds == 2 ? group : 0)].size());
  const double tensor = products * factor * std::max(t.positions / 2.0, 13.0);
  const double segments = double(s.segments.size());
  const double x_words = segments * t.channels * t.staged * (s.tf32 || s.parts == 2 ? 1.0 : 0.5);
  const double loads = segments * t.channels * t.staged / 32.0;
  const double weights = double(t.channels) * t.weight_run * s.element_bytes / 128.0;
  const double shared = 1.2 * products * t.fragment_turns + products * factor * 0.35 * t.positions + 1.2 * x_words / 32.0 +
                        loads + weights * (t.piece == 16 ? 1.2 : t.piece == 8 ? 2.0 : 4.0) +
                        (t.piece == 0 ? weights * 40.0 : 0.0);
  const int each = (t.staged + warpgroup - 1) / warpgroup;
  const double fetches = segments * t.channels / 8.0 / t.shares;
  const double latency = 800.0 * fetches / std::min<double>(t.depth, std::max(fetches, double(t.depth)));
  const double issue = fetches * each * 8.0 * 5.0 + 60.0;  // a warp of each scheduler's four
  const double slowest = std::max({tensor, shared, latency, issue});
  const double chunk = slowest + 0.1 * (tensor + shared - std::min(slowest, tensor + shared)) + 30.0;
  const double chunks = double(ceil_div(s.k, t.channels));
  const double stored = double(t.block_rows) * (s.separate ? s.phases : 1) * t.tile_positions();
  const double store = stored / 32.0 * (s.element_bytes == 4 ? 3.5 : 4.0) + 600.0;
  const double position_tiles = std::ceil(s.positions / t.tile_positions());
  const double tiles = double(s.groups) * double(ceil_div(s.rows(), t.block_rows)) * position_tiles;
  const double waves = std::ceil(tiles / target.processors);
  const double work = waves * (chunks * chunk + store) + 1500.0;
  const double memory = (s.x_bytes + s.y_bytes + s.weight_bytes) / (0.9 * target.bytes_per_second);
  // Few stages hide the time from memory to the first product badly.
  const double hidden = t.stages == 2 ? 1.2 : t.stages == 3 ? 1.05 : 1.0;
  t.seconds = hidden * std::max(work / clock, memory) + 5e-6;
}

}  // namespace

ColumnsShape columns_shape(const Problem& p, const Geometry& g) {
  ColumnsShape s;
  s.tf32 = p.dtype == DType::f32 && p.precision == Precision::tf32;
  s.element_bytes = static_cast<int>(size_of(p.dtype));
  s.parts = p.dtype == DType::f32 && !s.tf32 ? 2 : 1;
  s.batch = g.batch, s.groups = g.groups, s.k = g.ci, s.co = g.co;
  s.padding = g.padding, s.in = g.in, s.out = g.out;
  s.w_last = p.w_layout == Layout::channels_last && g.taps() > 1;
  for (std::size_t d = 0; d < 3; ++d) {
    const Int k = g.kernel[d], st = g.stride[d], dilation = g.dilation[d];
    s.kernel[d] = static_cast<int>(k), s.stride[d] = static_cast<int>(st);
    s.all_taps *= static_cast<int>(k), s.phases *= static_cast<int>(st);
    if (k % st != 0 || (dilation != 1 && k > 1)) s.separate = true;
    for (Int t = 0; t < k; ++t)
      s.taps[d].push_back({static_cast<int>(dilation * t / st), static_cast<int>(dilation * t % st)});
    s.grid[d] = (g.out[d] - 1 + g.padding[d]) / st + 1 - (d < 2 ? g.padding[d] / st : 0);
  }
  s.shift_w = s.taps[2].back().shift;
  s.grid[2] = std::max(g.in[2] + s.shift_w, s.grid[2]);
  s.positions = double(g.batch) * double(s.grid[0]) * double(s.grid[1]) * double(s.grid[2]);
  std::set<std::pair<int, int>> segments;
  for (const ColumnsTap a : s.taps[0])
    for (const ColumnsTap b : s.taps[1]) segments.emplace(a.shift, b.shift);
  s.segments.assign(segments.begin(), segments.end());
  // Runs of rows that lie side by side in memory must be whole copies: 4 bytes or more.
  int run = s.stride[2];
  if (s.kernel[2] == s.stride[2]) run *= s.stride[1];
  if (s.kernel[2] == s.stride[2] && s.kernel[1] == s.stride[1]) run *= s.stride[0];
  s.parted = !s.separate && s.phases > 1 && s.all_taps > s.phases && !s.w_last && run * s.element_bytes % 4 == 0;
  s.x_bytes = double(g.batch) * double(g.in_channels()) * double(g.in_volume()) * s.element_bytes;
  s.y_bytes = double(g.batch) * double(g.out_channels()) * double(g.out_volume()) * s.element_bytes;
  s.weight_bytes = double(g.in_channels()) * double(g.co) * double(g.taps()) * s.element_bytes;
  return s;
}

std::vector<ColumnsTile> columns_tiles(const ColumnsShape& s, const CudaTarget& target) {
  std::vector<ColumnsTile> found;
  const int lead = round_up(s.shift_w, 8);
  const int line_groups = s.stride[0] * s.stride[1];
  const bool by_phases = s.separate && line_groups % 2 == 0;
  for (const int mode : {0, 1, 2}) {  // rows, positions, phases shared out
    if (mode == 2 && !by_phases) continue;
    if (mode == 0 && s.rows() <= 64) continue;
    ColumnsTile base;
    base.down = mode == 0 ? 2 : 1;
    base.across = mode == 1 ? 2 : 1;
    base.kinds = mode == 2 ? 2 : 1;
    base.lead = lead;
    if (!place_weights(s, base)) continue;
    place_lines(s, base);
    for (const int staged : {32, 64, 96, 128, 160, 192, 224, 256, 384, 480, 512}) {
      ColumnsTile t = base;
      t.staged = staged;
      t.positions = (staged - lead) / t.across / 8 * 8;
      if (t.positions < 8 || t.positions > 256 || lead > staged / 2) continue;
      if (staged > 256 && t.across == 1) continue;
      if (staged > 32 && staged - 32 - lead >= s.positions) continue;  // a smaller one holds all
      const int sums = t.row_blocks * t.positions / 2;
      if (sums > 128) continue;
      std::size_t fewest = t.steps[0].size();
      if (t.kinds == 2) fewest = std::min(fewest, t.steps[1].size());
      int last_channels = 0;
      for (int channels = s.step_channels(); channels <= 64; channels *= 2) {
        const int steps = channels / s.step_channels() * static_cast<int>(fewest);
        if (steps < 2) continue;
        if (last_channels && channels > s.k) break;
        // Enough products between two barriers, not more.
        if (last_channels && last_channels / s.step_channels() * static_cast<int>(fewest) * t.positions >= 1024) break;
        last_channels = channels;
        t.channels = channels;
        for (t.shares = 4; t.shares * staged > warpgroup || channels % (8 * t.shares) != 0; t.shares /= 2)
          if (t.shares == 1) break;
        const Int weights = Int{channels} * t.weight_pitch * s.element_bytes;
        const Int x = Int{channels} * static_cast<Int>(s.segments.size()) * staged * (s.element_bytes == 4 ? 4 : 2);
        for (const int buffers : {2, 1}) {
          t.line_buffers = buffers;
          const Int own = 2 * (32 * Int{t.positions} + Int{buffers} * lines_of(s, t) * t.line_pitch * s.element_bytes);
          const Int left = target.shared_per_block - 1024 - own;
          t.stages = static_cast<int>(std::min<Int>(8, left / (weights + x)));
          t.shared_bytes = static_cast<unsigned>(t.stages * (weights + x) + own);
          if (left > 0 && t.stages >= 4) break;
        }
        if (t.stages < 2) continue;
        // Loads of x in flight: up to 64 words a thread.
        const int each = (staged + warpgroup - 1) / warpgroup;
        const int fetches = static_cast<int>(s.segments.size()) * channels / 8 / t.shares;
        const int most = std::max(1, (t.piece == 0 ? 4 : 8) / each);
        if (fetches >= most) {
          t.depth = most;
          while (fetches % t.depth != 0) --t.depth;
        } else {
          t.depth = std::min(most, 4 * fetches);
          t.depth = (t.depth + fetches - 1) / fetches * fetches;
        }
        if (each == 4 && sums > 124) continue;  // its fetches need the registers
        t.compute_registers = sums > 124 ? 184 : sums > 96 ? 176 : 168;
        t.fetch_registers = (504 - 2 * t.compute_registers) / 8 * 8;
        estimate(s, target, t);
        found.push_back(t);
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const ColumnsTile& a, const ColumnsTile& b) { return a.seconds < b.seconds; });
  return found;
}

std::string to_string(const ColumnsTile& t) {
  char text[200];
  std::snprintf(text, sizeof text,
                "tiles of %d rows x %d positions%s, %d channels a stage, %d stages, copies of %d bytes, %u KB",
                t.block_rows, t.tile_positions(),
                t.kinds == 2 ? ", warpgroups by phases" : t.across == 2 ? ", warpgroups side by side" : "", t.channels,
                t.stages, t.piece, t.shared_bytes / 1024);
  return text;
}

}  // namespace upconv::cuda
