// See columns_tile.hpp.
#include "cuda/columns_tile.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

int round_up(Int v, Int to) { return static_cast<int>((v + to - 1) / to * to); }

// ---- weights --------------------------------------------------------------------------------------------------------

/// Of place_of() in kernels/columns/bring.cuh: shift and row of the i-th weight.
std::pair<int, int> shift_and_row(const ColumnsShape& s, const ColumnsTile& t, int i) {
  if (!t.parted) return {0, i};
  const int channel = i / s.all_taps, tap = i % s.all_taps;
  const int kh = s.kernel[1], kw = s.kernel[2], sd = s.stride[0], sh = s.stride[1], sw = s.stride[2];
  const int d = tap / (kh * kw), h = tap / kw % kh, w = tap % kw;
  return {(d / sd * (kh / sh) + h / sh) * (kw / sw) + w / sw,
          channel * s.phases + (d % sd * sh + h % sh) * sw + w % sw};
}
/// row_place() of kernels/columns/multiply.cuh.
int row_place(const ColumnsShape& s, const ColumnsTile& t, int row) {
  if (t.parted || s.all_taps == s.row_phases()) return row;
  const int channel = row / s.row_phases(), phase = row % s.row_phases();
  const int sh = s.stride[1], sw = s.stride[2];
  const int tap = s.separate ? 0 : (phase / (sh * sw) * s.kernel[1] + phase / sw % sh) * s.kernel[2] + phase % sw;
  return channel * s.all_taps + tap;
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

/// Turns of a warp's loads of one step's weights (load_weights() of kernels/columns/multiply.cuh).
int load_turns(const ColumnsShape& s, const ColumnsTile& t, int pitch, int warp) {
  const int row_g = t.pairs ? 2 : 1, row_half = t.pairs ? 1 : 8, lane_channels = s.tf32 ? 1 : 2;
  const int bytes = s.element_bytes * (t.quads ? 4 : t.pairs ? 2 : 1);
  int all = 0;
  for (int i = 0; i < (s.tf32 ? 2 : 4); ++i)
    for (int half = 0; half < (t.pairs ? 1 : 2); ++half) {
      std::vector<int> addresses;
      for (int lane = 0; lane < 32; ++lane) {
        const int channel = lane % 4 * lane_channels + (s.tf32 ? 4 * i : i % 2 + i / 2 * 8);
        addresses.push_back((row_place(s, t, warp * 16 + lane / 4 * row_g + half * row_half) + channel * pitch) *
                            s.element_bytes);
      }
      all += turns(addresses, bytes);
    }
  return all;
}

/// Bytes of the widest copies that every weight allows; 0: none.
int piece_of(const ColumnsShape& s, const ColumnsTile& t) {
  for (const int bytes : {16, 8, 4}) {
    const int e = bytes / s.element_bytes;
    if (e == 0 || t.weight_run % e != 0 || s.co * s.all_taps % e != 0) continue;
    if (Int{t.block_rows} * (s.all_taps / s.row_phases()) % e != 0) continue;
    bool good = true;
    for (int i = 0; i < t.weight_run && good; i += e) {
      const auto [shift, row] = shift_and_row(s, t, i);
      good = row % e == 0;
      for (int j = 1; j < e && good; ++j) good = shift_and_row(s, t, i + j) == std::pair(shift, row + j);
    }
    if (good) return bytes;
  }
  return 0;
}

/// Whether rows 2 g and 2 g + 1 of every fragment are neighbours at an even place.
bool has_pairs(const ColumnsShape& s, const ColumnsTile& t) {
  if (s.separate || t.a_shared) return false;
  for (int row = 0; row < t.block_rows; row += 2)
    if (row_place(s, t, row) % 2 != 0 || row_place(s, t, row + 1) != row_place(s, t, row) + 1) return false;
  for (const ColumnsStep& step : t.steps[0])
    if (step.weight % 2 != 0) return false;
  return true;
}

/// Which products there are, by shift: neighbours read the same positions.
bool find_steps(const ColumnsShape& s, ColumnsTile& t) {
  std::set<std::pair<int, int>> apart;
  for (const ColumnsTap a : s.taps[0])
    for (const ColumnsTap b : s.taps[1]) apart.emplace(a.shift, t.merged_h ? 0 : b.shift);
  t.segments.assign(apart.begin(), apart.end());
  if (t.segments.size() > 16) return false;
  const auto segment_of = [&](int qd, int qh) {
    const auto at = std::find(t.segments.begin(), t.segments.end(), std::pair(qd, t.merged_h ? 0 : qh));
    return static_cast<int>(at - t.segments.begin());
  };
  t.steps = {}, t.units = {};
  const int sd = s.stride[0], sh = s.stride[1], sw = s.stride[2];
  if (!s.separate) {
    t.units[0] = {0};
    int number = 0;
    for (int d = 0; d < s.kernel[0]; d += sd)
      for (int h = 0; h < s.kernel[1]; h += sh)
        for (int w = 0; w < s.kernel[2]; w += sw, ++number) {
          const int tap = (d * s.kernel[1] + h) * s.kernel[2] + w;
          const int weight = t.parted ? number * (t.a_shared ? 1 : t.span) : tap;
          t.steps[0].push_back({weight, segment_of(d / sd, h / sh), t.merged_h ? h / sh : 0, w / sw, 0});
        }
    return true;
  }
  const int lines_groups = sd * sh;
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
    t.steps[static_cast<std::size_t>(kind)].push_back(
        {tap, segment_of(d.shift, h.shift), t.merged_h ? h.shift : 0, w.shift, unit * sw + w.phase});
  });
  for (auto& list : t.steps)
    std::stable_sort(list.begin(), list.end(), [](const ColumnsStep& a, const ColumnsStep& b) {
      return std::tuple(a.segment, a.shift_h, a.shift_w) < std::tuple(b.segment, b.shift_h, b.shift_w);
    });
  for (int kind = 0; kind < t.kinds; ++kind)
    if (t.steps[static_cast<std::size_t>(kind)].empty()) return false;
  return true;
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
    t.block_rows = t.down * t.group_rows;
    if (s.all_taps != s.phases) {  // channels must be whole
      t.block_rows = t.block_rows / s.phases * s.phases;
      if (t.block_rows == 0) return false;
    }
  }
  t.weight_run = t.block_rows * (s.all_taps / s.row_phases());
  // Shifts lie 16 words apart, so that copies of neighbouring shifts meet no bank.
  t.span = t.parted ? round_up(t.block_rows, 32) + 64 / s.element_bytes : 0;
  if (!find_steps(s, t)) return false;
  t.piece = piece_of(s, t);
  if (t.a_shared) return t.group_rows == 64 && t.piece >= 4;
  t.pairs = has_pairs(s, t);
  t.quads = t.pairs && !t.parted && sw == 2 && s.kernel[2] == 4;
  for (int row = 0; t.quads && row < t.block_rows; row += 2) t.quads = row_place(s, t, row) % 4 == 0;
  const int shifts = s.all_taps / s.phases;
  const int used = t.parted ? t.span * shifts : t.weight_run;
  const int align = 16 / s.element_bytes;
  int best = 1 << 30;
  for (int i = 0; i < 8; ++i) {
    const int pitch = round_up(used, align) + i * align;
    int cost = 0;
    for (int warp = 0; warp < 4; ++warp) cost += load_turns(s, t, pitch, warp);
    if (cost < best) best = t.fragment_turns = cost, t.weight_pitch = pitch;
  }
  return true;
}

// ---- lines ----------------------------------------------------------------------------------------------------------

int line_rows(const ColumnsShape& s) { return s.separate ? 1 : s.stride[2]; }
int team_of(const ColumnsShape& s) { return 16 % line_rows(s) == 0 ? 1 : 4; }
int lines_of(const ColumnsShape& s, const ColumnsTile& t) {
  return team_of(s) == 1 ? 16 / line_rows(s) : t.group_rows / line_rows(s);
}

/// Turns of a warp's stores of eight positions (put() and put_four() of kernels/columns/store.cuh).
int put_turns(const ColumnsShape& s, const ColumnsTile& t) {
  const int sw = s.stride[2], bytes = s.element_bytes;
  const int row_g = t.pairs ? 2 : 1, row_half = t.pairs ? 1 : 8;
  const bool by_pairs = !s.separate && sw % 2 == 0 && (t.pairs || t.a_shared);
  const auto at = [&](int line, int e) {
    e = std::max(e, 0);
    return (line * t.line_pitch + e + e * bytes / 128 * t.line_skew) * bytes;
  };
  int all = 0;
  const auto each = [&](auto&& address, int count) {
    std::vector<int> addresses;
    for (int lane = 0; lane < 32; ++lane) addresses.push_back(address(lane, lane % 4 * 2));
    all += turns(addresses, count * bytes);
  };
  const auto pair_of = [&](int lane) { return t.pairs ? lane / 4 : lane / 8 + (lane & 4); };
  for (int half = 0; half < 2; ++half) {
    if (sw == 1) {
      each([&](int lane, int p) { return at(lane / 4 * row_g + half * row_half, p); }, 2);
    } else if (sw == 2 && s.separate) {
      each([&](int lane, int p) { return at(lane / 4 + half * 8, p * 2); }, 4);
    } else if (sw == 2 && by_pairs) {
      if (half == 0) each([&](int lane, int p) { return at(pair_of(lane), p * 2); }, 4);
    } else if (by_pairs && s.rotated() % 2 == 0) {
      each(
          [&](int lane, int p) {
            const int row = pair_of(lane) * 2;
            return at(row / sw, (p + half) * sw + row % sw - s.rotated());
          },
          2);
    } else {
      for (int odd = 0; odd < 2; ++odd)
        each(
            [&](int lane, int p) {
              const int row = lane / 4 * row_g + half * row_half;
              return at(row / line_rows(s), (p + odd) * sw + (s.separate ? 0 : row % sw) - s.rotated());
            },
            1);
    }
  }
  return all;
}

/// Pitch and skew of lines by the positions of a slice: the same for all tiles of one mode.
typedef std::map<int, std::pair<int, int>> Lines;

/// Where lines of `t.slice` positions lie: a pitch and a skew at which stores meet few banks twice.
void place_lines(const ColumnsShape& s, Lines& known, ColumnsTile& t) {
  if (const auto found = known.find(t.slice); found != known.end()) {
    std::tie(t.line_pitch, t.line_skew) = found->second;
    return;
  }
  const int align = 16 / s.element_bytes, elements = t.slice * s.stride[2], last = elements - 1;
  int best = 1 << 30;
  ColumnsTile chosen = t;
  for (const int skew : {0, align, 2 * align, 4 * align})
    for (int i = 0; i < 8; ++i) {
      ColumnsTile c = t;
      c.line_skew = skew;
      c.line_pitch = round_up(last + last * s.element_bytes / 128 * skew + 1, align) + i * align;
      const int cost = put_turns(s, c) * 64 + c.line_pitch / align;
      if (cost < best) best = cost, chosen = c;
    }
  t = chosen;
  known[t.slice] = {t.line_pitch, t.line_skew};
}

// ---- shared memory --------------------------------------------------------------------------------------------------

struct Bytes {
  Int stage = 0, raw = 0, tables = 0, own = 0;
  Int partial = 0;
};

/// As kernels/columns/shape.cuh and store.cuh lay it out.
Bytes bytes_of(const ColumnsShape& s, const ColumnsTile& t) {
  Bytes b;
  const Int e = s.element_bytes, channels = t.channels, segments = static_cast<Int>(t.segments.size());
  const Int block = channels * 16 + 16, shifts = t.parted ? s.all_taps / s.phases : 1;
  const Int weights = t.a_shared ? shifts * ((t.block_rows + 7) / 8) * block : channels * t.weight_pitch * e;
  const Int spare = t.turned && s.halves() ? 8 : 0;
  const Int unit = segments * (t.staged + spare) * 16;
  const Int as_it_lies = t.swizzled() ? t.staged / 64 * (channels * 128) : t.staged / 8 * block;
  b.stage = (t.swizzled() ? round_up(weights, 1024) : weights) +
            (t.turned ? s.parts * (channels / (s.tf32 ? 4 : 8)) * unit : segments * as_it_lies);
  if (t.turned) b.raw = segments * channels * (t.staged + 8) * e;
  b.tables = 2 * segments * ((t.staged + 4) / 4 * 4) * 4;
  const Int share = (t.positions / 8 + t.split - 1) / t.split * 8, stored = t.split > 1 ? share : t.positions;
  const Int places = (t.split - 1) * share + (stored + t.slice - 1) / t.slice * t.slice;
  const Int teams = 4 / team_of(s), lines = lines_of(s, t);
  b.own = 2 * (2 * 16 * (places + places / 8 + teams * lines) + teams * lines * t.line_pitch * e);
  b.partial = t.split > 1 ? Int{t.row_blocks} * (t.positions / 8) * 256 * 16 : 0;
  return b;
}

/// Stages and slices of lines; false when two stages do not fit.
bool fit(const ColumnsShape& s, const CudaTarget& target, Lines& lines, ColumnsTile& t) {
  const int chunks = static_cast<int>((s.k + t.channels - 1) / t.channels);
  const bool again = t.position_tiles * t.row_tiles > target.processors;  // blocks do several tiles
  const Int share = (t.positions / 8 + t.split - 1) / t.split * 8;
  const int line_bytes = s.stride[2] * s.element_bytes;
  ColumnsTile best;
  best.stages = 0;
  int last = 0;
  for (const int wanted : {512, 256, 128}) {
    t.slice = std::max(8, std::min<int>(wanted / line_bytes / 8 * 8, static_cast<int>(share)));
    if (t.slice == last) continue;
    last = t.slice;
    place_lines(s, lines, t);
    for (t.raw_slots = t.turned ? 3 : 1; t.raw_slots >= (t.turned ? 2 : 1); --t.raw_slots) {
      const Bytes b = bytes_of(s, t);
      const Int left = target.shared_per_block - 1024 - b.own - b.tables - t.raw_slots * b.raw;
      t.stages = left > 0 ? static_cast<int>(std::min<Int>(8, left / b.stage)) : 0;
      if (t.stages * b.stage < b.partial) t.stages = 0;
      // Weights stay in stages that get the same chunk of every tile (kernels/columns/bring.cuh): of two tiles at
      // least, so that the next one's x is brought meanwhile.
      if (again && t.swizzled() && t.split == 1 && t.stages >= 2 * chunks) t.stages = t.stages / chunks * chunks;
      t.shared_bytes = static_cast<unsigned>(t.stages * b.stage + t.raw_slots * b.raw + b.tables + b.own);
      // Long lines are worth less than a fourth stage.
      if (t.stages >= 2 && std::min(t.stages, 4) > std::min(best.stages, 4)) best = t;
    }
  }
  t = best;
  return t.stages >= 2;
}

/// The modes in which weights and x may lie in shared memory, and who shares what.
std::vector<ColumnsTile> bases(const ColumnsShape& s) {
  std::vector<ColumnsTile> all;
  const int line_groups = s.stride[0] * s.stride[1];
  const bool may_part = !s.separate && s.phases > 1 && s.all_taps > s.phases;
  for (const int mode : {0, 1, 2})  // rows, positions, phases shared out
    for (const bool turned : {false, true})
      for (const bool a_shared : {false, true})
        for (const bool parted : {false, true})
          for (const bool merged : {false, true}) {
            if (mode == 2 && !(s.separate && line_groups % 2 == 0)) continue;
            if (mode == 0 && s.rows() <= 64) continue;
            if (!turned && (!s.halves() || s.shift[2] > 0)) continue;
            if (a_shared && (!s.halves() || s.separate || parted != (s.all_taps > s.phases))) continue;
            if (parted && !may_part && !a_shared) continue;
            if (merged && s.shift[1] == 0) continue;
            ColumnsTile t;
            t.turned = turned, t.a_shared = a_shared, t.parted = parted, t.merged_h = merged;
            t.down = mode == 0 ? 2 : 1, t.across = mode == 1 ? 2 : 1, t.kinds = mode == 2 ? 2 : 1;
            if (place_weights(s, t)) all.push_back(t);
          }
  return all;
}

void consider(const ColumnsShape& s, const CudaTarget& target, Lines& lines, ColumnsTile t,
              std::vector<ColumnsTile>& found) {
  std::size_t fewest = t.steps[0].size();
  if (t.kinds == 2) fewest = std::min(fewest, t.steps[1].size());
  const int loads = static_cast<int>(fewest) / (t.quads ? 2 : 1);
  const int least_channels = s.step_channels();
  for (int channels = least_channels; channels <= 128; channels *= 2) {
    const int steps_k = channels / s.step_channels();
    if (channels > least_channels && channels / 2 >= s.k) break;
    // Enough products between two barriers, not more.
    if (channels > least_channels && double(steps_k) * double(fewest) * t.positions * s.parts > 8192) break;
    if (!t.a_shared && steps_k * loads < 2) continue;
    t.channels = channels;
    if (t.split > (s.k + channels - 1) / channels) continue;
    ColumnsTile c = t;
    if (!fit(s, target, lines, c)) continue;
    c.seconds = columns_seconds(s, c, target);
    found.push_back(c);
  }
}

}  // namespace

ColumnsShape columns_shape(const Problem& p, const Geometry& g) {
  ColumnsShape s;
  s.tf32 = p.dtype == DType::f32 && p.precision == Precision::tf32;
  s.element_bytes = static_cast<int>(size_of(p.dtype));
  s.parts = p.dtype == DType::f32 && !s.tf32 ? 2 : 1;
  s.batch = g.batch, s.groups = g.groups, s.k = g.ci, s.co = g.co;
  s.padding = g.padding, s.in = g.in, s.out = g.out;
  for (std::size_t d = 0; d < 3; ++d) {
    const Int k = g.kernel[d], st = g.stride[d], dilation = g.dilation[d];
    s.kernel[d] = static_cast<int>(k), s.stride[d] = static_cast<int>(st);
    s.all_taps *= static_cast<int>(k), s.phases *= static_cast<int>(st);
    if (k % st != 0 || (dilation != 1 && k > 1)) s.separate = true;
    for (Int t = 0; t < k; ++t)
      s.taps[d].push_back({static_cast<int>(dilation * t / st), static_cast<int>(dilation * t % st)});
    s.shift[d] = s.taps[d].back().shift;
  }
  s.x_bytes = double(g.batch) * double(g.in_channels()) * double(g.in_volume()) * s.element_bytes;
  s.y_bytes = double(g.batch) * double(g.out_channels()) * double(g.out_volume()) * s.element_bytes;
  s.weight_bytes = double(g.in_channels()) * double(g.co) * double(g.taps()) * s.element_bytes;
  return s;
}

launch::ColumnsFixed columns_fixed(const ColumnsShape& s, const ColumnsTile& t) {
  launch::ColumnsFixed f;
  f.turned = t.turned, f.merged_h = t.merged_h, f.element_bytes = s.element_bytes;
  f.groups = s.groups, f.k = s.k, f.n = s.co;
  f.stride_d = s.stride[0], f.stride_h = s.stride[1], f.stride_w = s.stride[2];
  f.padding_d = s.padding[0], f.padding_h = s.padding[1], f.padding_w = s.padding[2];
  f.shift_d = s.shift[0], f.shift_h = s.shift[1], f.shift_w = s.shift[2];
  f.rows = s.rows(), f.block_rows = t.block_rows;
  f.positions = t.positions, f.across = t.across, f.staged = t.staged, f.split = t.split;
  f.piece = t.piece;
  f.box_channels = t.swizzled() ? t.channels : 0;
  f.shared_bytes = t.shared_bytes;
  return f;
}

std::vector<ColumnsTile> columns_tiles(const ColumnsShape& s, const CudaTarget& target) {
  std::vector<ColumnsTile> found;
  const launch::Sizes sizes{s.batch, {s.in[0], s.in[1], s.in[2]}, {s.out[0], s.out[1], s.out[2]}};
  for (const ColumnsTile& base : bases(s)) {
    Lines lines;
    const Int row = launch::least_row(columns_fixed(s, base), sizes) + 7;  // rounded for wide stores, at most
    const Int lead = s.shift[2] + (base.merged_h ? s.shift[1] * row : 0);
    // Lines of four warps need more registers to be put together, phases apart more to be multiplied, operands more
    // beside the sums.
    const int sums = s.operands ? 160 : team_of(s) == 4 && s.halves() ? 240 : 256;
    const int most = sums / base.row_blocks / 8 * 8;
    bool holds_all = false;
    for (int n = 8; n <= most && !holds_all; n += 8) {
      ColumnsTile t = base;
      t.positions = n;
      if (s.separate && n * t.row_blocks > 192) t.compute_registers = 192, t.bring_registers = 120;
      t.staged = round_up(lead + Int{n} * t.across, t.swizzled() ? 64 : 32);
      if (t.staged > 640 || lead > 2 * n + 32) continue;
      const launch::ColumnsGrid grid = launch::grid_of(columns_fixed(s, t), sizes);
      if (grid.refusal) continue;
      t.position_tiles = grid.position_tiles, t.row_tiles = grid.row_tiles;
      holds_all = t.position_tiles == 1;
      for (const int split : {1, 2, 4, 8}) {
        t.split = split;
        if (split > 1 && t.position_tiles * t.row_tiles > target.clusters(split)) break;
        consider(s, target, lines, t, found);
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const ColumnsTile& a, const ColumnsTile& b) { return a.seconds < b.seconds; });
  // The best of every kind first: tuning tries few, and they should differ.
  std::set<std::tuple<int, int, bool, bool, bool, bool, int, int>> kinds;
  std::vector<ColumnsTile> first, others;
  for (const ColumnsTile& t : found) {
    const bool fresh =
        kinds.emplace(t.down, t.kinds, t.turned, t.a_shared, t.parted, t.merged_h, t.split, t.channels).second;
    (fresh ? first : others).push_back(t);
  }
  first.insert(first.end(), others.begin(), others.end());
  return first;
}

std::string to_string(const ColumnsTile& t) {
  char text[240];
  std::snprintf(text, sizeof text,
                "tiles of %d rows x %d positions%s%s%s%s, %d channels a stage, %d stages, copies of %d bytes, %u KB",
                t.block_rows, t.tile_positions(),
                t.kinds == 2    ? ", warpgroups by phases"
                : t.across == 2 ? ", warpgroups side by side"
                                : "",
                t.split > 1 ? (", channels shared by " + std::to_string(t.split) + " blocks").c_str() : "",
                t.turned ? "" : ", x as it lies", t.a_shared ? ", weights from shared memory" : "", t.channels,
                t.stages, t.piece, t.shared_bytes / 1024);
  return text;
}

}  // namespace upconv::cuda
