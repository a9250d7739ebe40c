// See positions_plan.hpp. Everything here is decided by the problem alone, never by the number of workers, so that
// results do not depend on it.
#include "cpu/positions_plan.hpp"

#include <algorithm>
#include <array>
#include <map>

namespace upconv::cpu {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

/// A tap of one dimension as the source sees it: its plane, the offset there, and its place in the weight.
struct Reach {
  std::int64_t residue = 0, offset = 0, tap = 0;
};

/// Destination phases of one dimension that have their taps at the same places.
struct DimClass {
  std::vector<std::int64_t> phases;
  std::vector<std::vector<Reach>> reach;  ///< per phase, same residues and offsets in each
};

/// A phase of one dimension of y: positions [begin, end) and taps by rising place in w.
struct OutputPhase {
  std::int64_t residue = 0, begin = 0, end = 0;
  std::vector<Reach> reach;
};

/// The phases when output o is position p of residue r with o + padding - back = s*p + r. With back = 0 those whose
/// taps sit at the same offsets (k4 s2) share a class; with back = padding modulo s output 0 is the first of its
/// position, so that the outputs take the fewest positions.
std::vector<OutputPhase> output_phases(const Geometry& g, int dim, std::int64_t back) {
  const auto phases = make_phases(g, dim);
  const std::int64_t s = g.stride[dim];
  std::vector<OutputPhase> of;
  for (std::int64_t r = 0; r < s; ++r) {
    const Phase& phase = phases[static_cast<std::size_t>((r + back) % s)];
    const std::int64_t carry = (r + back) / s;
    OutputPhase to{r, phase.q_begin - carry, phase.q_end - carry, {}};
    for (const PhaseTap& t : phase.taps) to.reach.push_back({0, carry - t.offset, t.tap});
    of.push_back(std::move(to));
  }
  return of;
}

std::vector<DimClass> forward_classes(const Geometry& g, int dim, std::int64_t back) {
  std::map<std::vector<std::int64_t>, DimClass> by_offsets;
  for (OutputPhase& phase : output_phases(g, dim, back)) {
    std::vector<std::int64_t> key;
    for (const Reach& x : phase.reach) key.push_back(-x.offset);
    DimClass& c = by_offsets[key];
    c.phases.push_back(phase.residue);
    c.reach.push_back(std::move(phase.reach));
  }
  std::vector<DimClass> classes;
  for (auto& [key, c] : by_offsets) classes.push_back(std::move(c));
  return classes;
}

std::vector<DimClass> gradient_classes(const Geometry& g, int dim) {
  DimClass c;
  c.phases = {0};
  c.reach.emplace_back();
  for (std::int64_t t = 0; t < g.kernel[dim]; ++t) {
    const std::int64_t u = g.dilation[dim] * t - g.padding[dim], s = g.stride[dim];
    const std::int64_t residue = (u % s + s) % s;
    c.reach[0].push_back({residue, (u - residue) / s, t});
  }
  return {c};
}

/// Positions [begin, end) of one dimension, over all phases.
struct Positions {
  std::int64_t begin = 0, end = 0;
};
Positions forward_positions(const Geometry& g, int dim, std::int64_t back) {
  const auto phases = output_phases(g, dim, back);
  Positions of{phases[0].begin, phases[0].end};
  for (const OutputPhase& p : phases) {
    if (p.begin >= p.end) continue;
    of.begin = std::min(of.begin, p.begin);
    of.end = std::max(of.end, p.end);
  }
  return of;
}

typedef std::array<std::int64_t, 3> Backs;

/// The `back` of each dimension with the least work: positions times, for each block of up to four rows, its rows and
/// one load of the source a tap.
Backs choose_backs(const Geometry& g) {
  Backs best{};
  std::vector<DimClass> classes[3][2];  // without back and with it
  std::int64_t positions[3][2];
  for (int d = 0; d < 3; ++d)
    for (int i = 0; i < (g.padding[d] % g.stride[d] == 0 ? 1 : 2); ++i) {
      const std::int64_t back = i * (g.padding[d] % g.stride[d]);
      classes[d][i] = forward_classes(g, d, back);
      const Positions of = forward_positions(g, d, back);
      positions[d][i] = of.end - of.begin;
    }
  double least = 0.0;
  for (int choice = 0; choice < 8; ++choice) {
    const int of[3] = {choice & 1, choice >> 1 & 1, choice >> 2};
    double work = 1.0;
    for (int d = 0; d < 3; ++d) work *= classes[d][of[d]].empty() ? 0.0 : double(positions[d][of[d]]);
    if (work == 0.0) continue;
    std::int64_t a_position = 0;
    for (const DimClass& cd : classes[0][of[0]])
      for (const DimClass& ch : classes[1][of[1]])
        for (const DimClass& cw : classes[2][of[2]]) {
          const auto count = [&](auto&& f) { return static_cast<std::int64_t>(f(cd) * f(ch) * f(cw)); };
          const std::int64_t rows = g.co * count([](const DimClass& c) { return c.phases.size(); });
          a_position += count([](const DimClass& c) { return c.reach[0].size(); }) * (rows + ceil_div(rows, 4));
        }
    work *= double(a_position);
    if (least > 0.0 && work >= least) continue;
    least = work;
    for (int d = 0; d < 3; ++d) best[static_cast<std::size_t>(d)] = of[d] * (g.padding[d] % g.stride[d]);
  }
  return best;
}

/// Positions and offsets of one dimension, over all phases.
void span(const Request& r, int dim, std::int64_t back, const std::vector<DimClass>& classes, PositionsTile& tile) {
  const Positions of =
      r.pass == Pass::forward ? forward_positions(r.geometry, dim, back) : Positions{0, r.geometry.in[dim]};
  tile.begin[dim] = of.begin, tile.end[dim] = of.end;
  bool first = true;
  std::int64_t low = 0, high = 0;
  for (const DimClass& c : classes)
    for (const auto& reach : c.reach)
      for (const Reach& x : reach) {
        low = first ? x.offset : std::min(low, x.offset);
        high = first ? x.offset : std::max(high, x.offset);
        first = false;
      }
  tile.low[dim] = low;
  tile.extent[dim] = high - low;  // the halo; the tile's size is added once it is known
}

/// Bytes that a tile may take of the second-level cache, shared by source and destination.
constexpr std::int64_t tile_bytes = 224 * 1024;
/// dw reads a few rows of the tile over and over: they should stay in the first-level cache.
constexpr std::int64_t weight_tile_bytes = 96 * 1024;

/// Results from this size on are stored around the caches: on a Zen 3 with 32 MB of last-level cache plain stores
/// reach 7.8 GB/s at 64 MB, streaming ones 20.3, and they break even near 16 MB. Only rows of whole cache lines: with
/// partial ones streaming was 3 to 7 times slower (rows of 127 and 63 floats).
constexpr double stream_bytes = 16e6;

/// Splits `n` into equal tiles of at most `most`.
void split(std::int64_t n, std::int64_t most, std::int64_t& size, std::int64_t& count) {
  count = ceil_div(n, std::max<std::int64_t>(1, most));
  size = ceil_div(n, count);
  count = ceil_div(n, size);
}

/// Chooses the box: full rows where they fit, then the rows and planes that copy the fewest halo positions, then
/// samples. `channels` is how many source channels must fit beside `rows` destination rows.
void choose_tile(PositionsTables& t, std::int64_t rows, std::int64_t channels, std::int64_t budget) {
  PositionsJob& job = t.job;
  PositionsTile& tile = job.tile;
  std::int64_t n[3], halo[3];
  for (int d = 0; d < 3; ++d) n[d] = std::max<std::int64_t>(1, tile.end[d] - tile.begin[d]), halo[d] = tile.extent[d];
  const std::int64_t T = t.compute_size;
  const auto bytes = [&](std::int64_t tn, std::int64_t td, std::int64_t th, std::int64_t tw) {
    return T * tn * (rows * td * th * tw + channels * job.residues * (td + halo[0]) * (th + halo[1]) * (tw + halo[2]));
  };
  const auto most = [&](auto&& cost, std::int64_t limit) {  // largest value whose cost fits, at least 1
    std::int64_t low = 1, high = std::max<std::int64_t>(1, limit);
    while (low < high) {
      const std::int64_t middle = (low + high + 1) / 2;
      if (cost(middle) <= budget)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  };
  const std::int64_t widest = std::max<std::int64_t>(48, most([&](std::int64_t w) { return bytes(1, 1, 1, w); }, 1024));
  split(n[2], widest, tile.size[3], tile.count[3]);
  if (tile.count[3] > 1) tile.size[3] = round_up(tile.size[3], 8), tile.count[3] = ceil_div(n[2], tile.size[3]);
  const std::int64_t w = tile.size[3];
  double least = 0.0;
  for (std::int64_t most_d = 1; most_d <= std::min<std::int64_t>(n[0], 64); ++most_d) {
    if (most_d > 1 && bytes(1, most_d, 1, w) > budget) break;
    std::int64_t d = 0, d_count = 0, h = 0, h_count = 0;
    split(n[0], most_d, d, d_count);
    split(n[1], most([&](std::int64_t v) { return bytes(1, d, v, w); }, n[1]), h, h_count);
    const double copied = double(d_count * h_count) * double((d + halo[0]) * (h + halo[1]));
    if (least > 0.0 && copied >= least) continue;
    least = copied;
    tile.size[1] = d, tile.count[1] = d_count, tile.size[2] = h, tile.count[2] = h_count;
  }
  const bool volumes = tile.count[1] * tile.count[2] * tile.count[3] == 1 && n[0] * n[1] * n[2] < 256;
  split(job.batch,
        volumes ? most([&](std::int64_t b) { return bytes(b, tile.size[1], tile.size[2], w); },
                       std::max<std::int64_t>(1, std::min<std::int64_t>(job.batch, 1024 / (n[0] * n[1] * n[2]))))
                : 1,
        tile.size[0], tile.count[0]);
  for (int d = 0; d < 3; ++d) tile.extent[d] = tile.size[d + 1] + halo[d];
}

/// How far positions are laid end to end: the level with the fewest vectors, an eighth of a run counted as overhead.
void choose_runs(PositionsTables& t) {
  PositionsTile& tile = t.job.tile;
  const std::int64_t* size = tile.size;
  const std::int64_t row = tile.extent[2], plane = tile.extent[1] * row, volume = tile.extent[0] * plane;
  const std::int64_t length[4] = {size[3], (size[2] - 1) * row + size[3],
                                  (size[1] - 1) * plane + (size[2] - 1) * row + size[3],
                                  (size[0] - 1) * volume + (size[1] - 1) * plane + (size[2] - 1) * row + size[3]};
  const std::int64_t runs[4] = {size[0] * size[1] * size[2], size[0] * size[1], size[0], 1};
  const std::int64_t vector = 32 / t.compute_size;
  int level = 0;
  for (int i = 1; i < 4; ++i)
    if (runs[i] * (ceil_div(length[i], vector) + 2) < runs[level] * (ceil_div(length[level], vector) + 2)) level = i;
  tile.run_length = length[level];
  const std::int64_t pitch = round_up(tile.run_length, 64 / t.compute_size);
  tile.runs[0] = level < 3 ? size[0] : 1;
  tile.runs[1] = level < 2 ? size[1] : 1;
  tile.runs[2] = level < 1 ? size[2] : 1;
  tile.source_run[0] = volume, tile.source_run[1] = plane, tile.source_run[2] = row;
  tile.destination_run[2] = pitch;
  tile.destination_run[1] = tile.runs[2] * pitch;
  tile.destination_run[0] = tile.runs[1] * tile.destination_run[1];
  tile.place[2] = level < 1 ? tile.destination_run[2] : row;
  tile.place[1] = level < 2 ? tile.destination_run[1] : plane;
  tile.place[0] = level < 3 ? tile.destination_run[0] : volume;
  // An odd number of cache lines between rows keeps them out of each other's cache sets.
  const std::int64_t line = 64 / t.compute_size;
  tile.destination_pitch = tile.runs[0] * tile.destination_run[0];
  if (tile.destination_pitch / line % 2 == 0) tile.destination_pitch += line;
  tile.residue_pitch = size[0] * volume;
  tile.channel_pitch = t.job.residues * tile.residue_pitch;
}

struct Product {
  const DimClass* d[3];
};

/// Rows, blocks, offsets and tap places of every class (one per combination of the dimensions' classes).
void fill_tables(const std::vector<DimClass> (&classes)[3], const WeightStrides& ws, PositionsTables& t) {
  PositionsJob& job = t.job;
  const PositionsTile& tile = job.tile;
  std::map<std::array<std::int64_t, 3>, std::int32_t> plane;
  for (std::size_t i = 0; i + 3 <= t.residues.size(); i += 3)
    plane[{t.residues[i], t.residues[i + 1], t.residues[i + 2]}] = static_cast<std::int32_t>(i / 3);
  const std::int64_t* step = job.destination.step;
  t.phase_row.assign(static_cast<std::size_t>(step[0] * step[1] * step[2]), 0);
  std::int32_t row = 0;
  for (const DimClass& cd : classes[0])
    for (const DimClass& ch : classes[1])
      for (const DimClass& cw : classes[2]) {
        const auto first_step = static_cast<std::int32_t>(t.offsets.size());
        for (const Reach& d : cd.reach[0])
          for (const Reach& h : ch.reach[0])
            for (const Reach& w : cw.reach[0]) {
              const std::int32_t p = plane.at({d.residue, h.residue, w.residue});
              const std::int64_t local[3] = {d.offset - tile.low[0], h.offset - tile.low[1], w.offset - tile.low[2]};
              t.offsets.push_back(static_cast<std::int32_t>(
                  p * tile.residue_pitch + (local[0] * tile.extent[1] + local[1]) * tile.extent[2] + local[2]));
              for (const std::int64_t v : {std::int64_t(p), d.offset, h.offset, w.offset})
                t.step_position.push_back(static_cast<std::int32_t>(v));
            }
        const auto steps = static_cast<std::int32_t>(t.offsets.size()) - first_step;
        const std::int32_t first_row = row;
        for (std::size_t a = 0; a < cd.phases.size(); ++a)
          for (std::size_t b = 0; b < ch.phases.size(); ++b)
            for (std::size_t c = 0; c < cw.phases.size(); ++c) {
              t.phase_row[static_cast<std::size_t>((cd.phases[a] * step[1] + ch.phases[b]) * step[2] + cw.phases[c])] =
                  row;
              const auto first_tap = static_cast<std::int32_t>(t.taps.size());
              for (const Reach& d : cd.reach[a])
                for (const Reach& h : ch.reach[b])
                  for (const Reach& w : cw.reach[c])
                    t.taps.push_back(d.tap * ws.tap[0] + h.tap * ws.tap[1] + w.tap * ws.tap[2]);
              for (std::int32_t i = 0; i < job.destination.channels; ++i, ++row) t.rows.push_back({i, first_tap});
            }
        const std::int32_t count = row - first_row, parts = (count + 3) / 4;  // blocks of 4, 3, 2 or 1 rows
        for (std::int32_t i = 0; i < parts; ++i) {
          const std::int32_t begin = first_row + count * i / parts, end = first_row + count * (i + 1) / parts;
          t.blocks.push_back({end - begin, begin, steps, first_step, job.panel});
          job.panel += job.source.channels * steps * (end - begin);
        }
      }
}

void collect_residues(const std::vector<DimClass> (&classes)[3], PositionsTables& t) {
  std::vector<std::int64_t> used[3];
  for (int d = 0; d < 3; ++d) {
    for (const DimClass& c : classes[d])
      for (const Reach& r : c.reach[0]) used[d].push_back(r.residue);
    std::sort(used[d].begin(), used[d].end());
    used[d].erase(std::unique(used[d].begin(), used[d].end()), used[d].end());
  }
  for (std::int64_t a : used[0])
    for (std::int64_t b : used[1])
      for (std::int64_t c : used[2])
        for (std::int64_t v : {a, b, c}) t.residues.push_back(static_cast<std::int32_t>(v));
  t.job.residues = static_cast<std::int64_t>(t.residues.size() / 3);
  const std::int64_t* step = t.job.source.step;
  t.residue_plane.assign(static_cast<std::size_t>(step[0] * step[1] * step[2]), -1);
  for (std::size_t i = 0; i < t.residues.size(); i += 3)
    t.residue_plane[static_cast<std::size_t>((t.residues[i] * step[1] + t.residues[i + 1]) * step[2] +
                                             t.residues[i + 2])] = static_cast<std::int32_t>(i / 3);
}

/// Source channels held at once, positions done at once: what keeps the local tile in the second-level cache and
/// what the kernel rereads in the first.
void choose_blocking(PositionsTables& t, std::int64_t budget) {
  PositionsJob& job = t.job;
  const std::int64_t T = t.compute_size, per_channel = job.tile.channel_pitch * T;
  const std::int64_t fit =
      std::clamp<std::int64_t>(budget / std::max<std::int64_t>(1, per_channel), 1, job.source.channels);
  job.channel_block = ceil_div(job.source.channels, ceil_div(job.source.channels, fit));
  job.tile.source_elements = job.channel_block * job.tile.channel_pitch + 256 / T;
  const std::int64_t panel_bytes = job.panel / std::max<std::int64_t>(1, job.source.channels) * job.channel_block * T;
  job.blocks_outside = panel_bytes > 24 * 1024;
  const std::int64_t lines = job.channel_block * std::max<std::int64_t>(1, static_cast<std::int64_t>(t.offsets.size()));
  // A short product needs long stretches to pay for its call, a long one short stretches to stay in the cache.
  job.chunk = job.blocks_outside ? job.tile.run_length : std::clamp<std::int64_t>(8192 / lines / 96 * 96, 96, 1 << 20);
}

/// About 16 tasks in all, while their partial sums stay within 8 MB.
void choose_slots(PositionsTables& t) {
  PositionsJob& job = t.job;
  const std::int64_t tasks = job.groups * job.row_parts;
  const std::int64_t bytes = job.groups * job.rows * job.source.channels * job.steps * t.compute_size;
  job.slots = std::clamp<std::int64_t>(std::min(ceil_div(16, tasks), (8 << 20) / std::max<std::int64_t>(1, bytes)), 1,
                                       boxes_of(job));
}

}  // namespace

PositionsTensor positions_tensor(const Geometry& g, Layout layout, bool of_output) {
  PositionsTensor t;
  t.channels = of_output ? g.co : g.ci;
  const std::int64_t all = t.channels * g.groups;
  const auto& size = of_output ? g.out : g.in;
  for (int d = 0; d < 3; ++d) t.size[d] = size[d], t.step[d] = 1;
  const std::int64_t unit = layout == Layout::channels_last ? all : 1;
  t.d[2] = unit, t.d[1] = size[2] * unit, t.d[0] = size[1] * t.d[1];
  t.n = size[0] * size[1] * size[2] * all;
  t.c = layout == Layout::channels_last ? 1 : size[0] * size[1] * size[2];
  return t;
}

void build_positions(const Request& r, PositionsTables& t) {
  const Geometry& g = r.geometry;
  const bool forward = r.pass == Pass::forward;
  PositionsJob& job = t.job;
  t.compute_size = r.problem.dtype == DType::f64 ? 8 : 4;
  job.batch = g.batch, job.groups = g.groups;
  job.source = forward ? positions_tensor(g, r.problem.x_layout, false) : positions_tensor(g, r.problem.y_layout, true);
  job.destination =
      forward ? positions_tensor(g, r.problem.y_layout, true) : positions_tensor(g, r.problem.x_layout, false);
  const Backs back = forward ? choose_backs(g) : Backs{};
  PositionsTensor& strided = forward ? job.destination : job.source;
  for (int d = 0; d < 3; ++d) {
    strided.step[d] = g.stride[d];
    if (forward) strided.shift[d] = g.padding[d] - back[d];
  }
  std::vector<DimClass> classes[3];
  for (int d = 0; d < 3; ++d) {
    classes[d] = forward ? forward_classes(g, d, back[d]) : gradient_classes(g, d);
    span(r, d, back[d], classes[d], job.tile);
  }
  collect_residues(classes, t);
  job.rows = job.destination.channels * job.destination.step[0] * job.destination.step[1] * job.destination.step[2];
  // A row of x for every input channel of dw would fill the cache: take them in parts.
  const bool weight = r.pass == Pass::backward_weight;
  if (weight) job.row_parts = ceil_div(job.rows, 16);
  // Many phases mean many weights, read again for every box: larger boxes then.
  const std::int64_t budget = weight ? weight_tile_bytes : forward && job.rows >= 256 ? 2 * tile_bytes : tile_bytes;
  // Few source channels at once make a large box with little halo; enough of them keep the accumulators in registers.
  std::int64_t steps = 1;
  for (int d = 0; d < 3; ++d) steps *= forward ? ceil_div(g.kernel[d], g.stride[d]) : g.kernel[d];
  const std::int64_t channels = std::clamp<std::int64_t>(ceil_div(weight ? 12 : 64, steps), 1, job.source.channels);
  choose_tile(t, ceil_div(job.rows, job.row_parts), channels, budget);
  choose_runs(t);
  const WeightStrides ws = weight_strides(r.problem, g);
  job.w_group = g.ci * ws.ci;
  job.w_channel = forward ? ws.ci : ws.co;
  job.w_row = forward ? ws.co : ws.ci;
  fill_tables(classes, ws, t);
  choose_blocking(t, budget);
  job.steps = t.blocks.front().steps;
  if (weight) choose_slots(t);
  job.epilogue = flatten(r.epilogue);
  job.blocks = static_cast<std::int64_t>(t.blocks.size());
  job.block = t.blocks.data(), job.row = t.rows.data(), job.offsets = t.offsets.data();
  job.step_position = t.step_position.data(), job.taps = t.taps.data(), job.residue = t.residues.data();
  job.phase_row = t.phase_row.data(), job.residue_plane = t.residue_plane.data();
  const double bytes = double(g.batch) * double(job.destination.n) * double(size_of(r.problem.dtype));
  job.stream = bytes >= stream_bytes && job.destination.d[2] == 1 && r.problem.dtype != DType::f16 &&
               r.problem.dtype != DType::bf16 && job.tile.count[3] == 1 &&
               job.destination.size[2] * t.compute_size % 64 == 0;
  const std::int64_t elements = job.tile.source_elements + job.rows * job.tile.destination_pitch + job.rows +
                                job.tile.extent[2] * g.stride[2] + 4 * 64 / t.compute_size;
  t.scratch_bytes = round_up(elements * t.compute_size + 8 * g.stride[2], 64) + 256;
}

}  // namespace upconv::cpu
