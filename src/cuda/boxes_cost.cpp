// See boxes_cost.hpp.
#include "cuda/boxes_cost.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include "cuda/launching.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

constexpr double clock_rate = 1.755e9, start_seconds = 5e-6;
/// Whether a thread has registers for its sums, the addresses of its segments and the fragments. Of three
/// warpgroups, folded forms with more spilled 8 bytes.
bool fits_registers(const BoxProblem& p, int warpgroups, int sums, int segments) {
  if (p.folded) return sums + 4 * segments <= (warpgroups == 2 ? 148 : 64);
  if (warpgroups == 2) return sums + (p.tf32 ? 0 : 8 * segments) <= (p.tf32 ? 128 : 148);
  return sums + (p.tf32 ? 4 : 8) * segments <= (p.tf32 ? 104 : 80);
}
constexpr int most_fragments = 240;   ///< Of a stage: they are written out.
constexpr int most_products = 300;    ///< Of a stage: 315 took 8 s to compile, 280 take 2.
constexpr std::size_t weighed = 400;  ///< Forms whose boxes are looked for.

/// Clocks of a fragment that feeds products of these columns.
double fragment_clocks(const BoxProblem& p, const std::vector<int>& columns) {
  const double factor = p.folded ? 2.0 : p.parts == 2 ? 3.0 : 1.0;
  double tensor = 0.0, all = 0.0;
  for (int c : columns) tensor += factor * std::max(13.0, c / 2.0), all += factor * c;
  const double shared = (p.channels_k() == 8 ? 19.5 : 35.0) + 0.36 * all;
  return std::max({tensor, shared, 28.0 + 0.11 * all}) + 2.0;
}

/// Runs of sums that neighbouring taps feed, fragment by fragment, for one segment.
struct Arrangement {
  std::vector<std::vector<int>> runs;
  int blocks = 0, slots = 0;
};

Arrangement arrangement_of(const BoxProblem& p, Merge merge, bool depth_loop, bool overlapped, int rows) {
  BoxForm f;
  f.columns = 8;
  f.rows = rows, f.merge = merge, f.depth_loop = depth_loop, f.overlapped = overlapped;
  const BoxWork work = box_work(p, f);
  Arrangement a;
  a.blocks = work.blocks, a.slots = work.slots;
  for (const Fragment& fragment : work.fragments) {
    std::vector<int> runs;
    for (const Product& product : fragment.products) runs.push_back(product.columns);
    a.runs.push_back(std::move(runs));
  }
  return a;
}

double clocks_of(const BoxProblem& p, const Arrangement& a, int columns) {
  double sum = 0.0;
  const int most = 256 / columns;
  for (const std::vector<int>& runs : a.runs) {
    std::vector<int> parts;
    for (int run : runs)
      for (; run > 0; run -= most) parts.push_back(std::min(run, most) * columns);
    sum += fragment_clocks(p, parts);
  }
  return sum;
}

Int round_down(Int v, Int to) { return v / to * to; }

/// Words of weights of one chunk and tap of the loop.
Int weight_words(const BoxProblem& p, int slots, int columns) {
  return Int{p.parts} * (p.folded ? 4 : 8) * slots * columns;
}

/// Elements of a row set of a box, and its positions, at most, as lanes go over them (kernels/boxes/store.cuh).
Int set_elements(const BoxProblem& p, const BoxForm& f) {
  const Int positions = f.overlapped ? f.room : 64 * f.segments, at_once = p.element_bytes == 2 ? 2 : 1;
  return launch::ceil_div(positions * p.axis[2].phases, 32 * at_once) * 32 * at_once;
}

/// Bytes of a step's staging, for all warpgroups.
Int staging_bytes(const std::array<BoxAxis, 3>& axis, const BoxForm& f, bool result_last) {
  const int row_sets = f.rows * axis[0].used_count * axis[1].used_count;
  const Int positions = 64 * f.segments;
  const Int line_words = row_sets * (f.overlapped ? f.room * axis[2].used_count : positions * axis[2].phases);
  return 4 * f.warpgroups *
         (result_last ? 2 * 8 * ((line_words + 7) / 8 * 8 + 4) : 2 * 4 * ((line_words + 15) / 16 * 16 + 8));
}

/// Room in shared memory; false when nothing is left for the source.
bool lay_out(const BoxProblem& p, const std::array<BoxAxis, 3>& axis, int slots, bool result_last, Int limit,
             BoxForm& f) {
  const Int of_set = set_elements(p, f) / 32;  // bits of a lane, kept by the word
  const Int positions = set_elements(p, f) / axis[2].phases, sets = Int{axis[0].phases} * axis[1].phases * f.rows;
  if (!f.line && of_set > 32) return false;
  const Int words = f.line ? 0 : (sets + 32 / of_set - 1) / (32 / of_set);
  const Int stores = f.direct ? positions * 16
                              : f.together * staging_bytes(axis, f, result_last) +
                                    (f.line ? 0 : f.warpgroups * 3 * 32 * words * 4) + positions * 16;
  const Int weights = weight_words(p, slots, f.columns) * 4 * f.steps;
  const Int resident = f.resident ? weights * (f.depth_loop ? p.depth_taps : 1) * p.chunks(f.steps) : 0;
  const Int rings = f.shared ? 1 : f.warpgroups;
  const Int streamed = f.resident ? 0 : (weights + 127) / 128 * 128;
  const Int room = round_down((limit - 2048 - resident - stores) / (rings * f.stages), 128) - streamed;
  if (limit - 2048 - resident - stores < 0 || room < 4096) return false;
  if (f.source_words == 0)
    f.source_words = static_cast<int>(std::min<Int>(room, 96 * 1024) / 128 * 32);
  else if (room < Int{f.source_words} * 4)
    return false;
  f.shared_bytes =
      static_cast<unsigned>(resident + stores + rings * f.stages * (streamed + Int{f.source_words} * 4) + 128);
  return true;
}

/// What a stage has room for, roughly: the most positions of a warpgroup's box, its columns, and its source's bytes.
struct Fit {
  int positions = 0, columns = 0;
  double bytes = 0.0;
  bool whole = false;  ///< Overlapped, with all of the source's rows.
};

Fit fit_source(const BoxProblem& p, const std::array<BoxAxis, 3>& axis, const BoxForm& f) {
  const auto count = [&](int d) {
    return axis[static_cast<std::size_t>(d)].q_end - axis[static_cast<std::size_t>(d)].q_begin;
  };
  const int merged = static_cast<int>(f.merge), lines_in = merged == 1 || count(1) == 1 ? 0 : 1;
  const bool several_lines = !f.line && lines_in != merged && !(lines_in == 0 && f.depth_loop);
  const int all = 64 * f.segments, unit = 16 / p.element_bytes;
  Fit best;
  // Overlapped, columns of products are source elements.
  const int more = f.overlapped ? axis[2].span : 0;
  const auto consider = [&](int columns) {
    if (f.wide) columns = (columns + 15) / 16 * 16;
    columns = std::min(columns, all);
    if (columns <= more) return;
    const int most_lines = several_lines ? static_cast<int>(std::min<Int>(all / columns, count(lines_in))) : 1;
    for (int lines = most_lines; lines > 0 && columns * lines >= best.positions; --lines) {
      std::array<Int, 3> q = {1, 1, columns - more};
      q[static_cast<std::size_t>(lines_in)] *= lines;
      if (merged >= 0) q[static_cast<std::size_t>(merged)] = f.rows;
      if (f.shared) {
        const int along = merged >= 0 && count(merged) > f.rows ? merged : lines_in == 1 && count(1) > q[1] ? 1 : 2;
        q[static_cast<std::size_t>(along)] *= f.warpgroups;
      }
      double bytes = double(p.channels_k()) * f.steps * p.element_bytes;
      for (std::size_t d = 0; d < 3; ++d)
        if (d > 0 || !f.depth_loop)
          bytes *= double(axis[d].step * (q[d] - 1) + axis[d].span + 1 + (d == 2 ? unit - 1 : 0));
      if (bytes > 4.0 * f.source_words) continue;
      if (columns * lines > best.positions || bytes < best.bytes) best = {columns * lines, columns, bytes};
      return;
    }
  };
  if (more > 0 && p.src[2] <= all && (!f.wide || p.src[2] % 16 == 0)) {
    consider(static_cast<int>(p.src[2]));
    if (best.columns == p.src[2]) best.whole = true;
    if (best.whole) return best;
  }
  for (Int parts = 1; parts <= 6; ++parts)
    consider(static_cast<int>(std::min<Int>((count(2) + parts - 1) / parts + more, all)));
  for (int columns = all; columns >= 16; columns /= 2)
    if (columns < count(2)) consider(columns);
  return best;
}

/// What overlapped forms take longer than their parts say, by the fit: with resident weights, and with each share of
/// the result channels, which reads the source again.
double overlapped_factor(const BoxProblem& p, const BoxForm& f) {
  if (!f.overlapped) return 1.0;
  return (f.resident ? 1.15 : 1.0) *
         (!p.tf32        ? 1.2
          : f.depth_loop ? 0.95
                         : 1.0) *
         (0.97 + 0.03 * std::ceil(double(p.n) / f.columns));
}

/// What boxes of y take longer that stage four channels between two meetings, by how many these are and what part of a
/// box is its store, where W has one phase (L1/71 448 us, 402 with eight; docs/measured-cuda-boxes.md).
double staging_factor(const BoxProblem& p, const BoxForm& f, double products, double store) {
  if (p.backward || p.axis[2].phases > 1 || f.line || f.direct || f.overlapped || f.together > 1) return 1.0;
  const double meetings = double(f.columns) / 4;
  return 1.0 + 0.095 * std::max(0.0, 1.0 - 2.0 / meetings) * store / (2.0 * products + store);
}

/// Shared memory that these boxes leave goes to the staging: fewer meetings, and more loads in flight.
void fit_store(const BoxProblem& p, bool result_last, Int limit, int slots, BoxChoice& c) {
  const auto bytes = [&](const arguments::Boxes<void>& a) {
    return Int{a.box[0]} * a.pitch_n * p.element_bytes + (a.pitch_h * p.element_bytes % 16 == 0 ? 0 : 16);
  };
  // Boxes of the last columns take no more than the others.
  const Int need = std::max(bytes(c.launch.plain.main), c.launch.may_bulk ? bytes(c.launch.bulk.main) : 0);
  const int steps = c.form.columns / (result_last ? 8 : 4);
  const BoxForm before = c.form;
  if (before.direct) return;
  for (const int together : {16, 12, 8, 6, 4, 3, 2}) {
    if (steps % together != 0) continue;
    c.form.together = together;
    c.form.source_words = static_cast<int>((need + 127) / 128 * 32);
    if (lay_out(p, axes_of(p, c.form), slots, result_last, limit, c.form)) return;
    c.form = before;
  }
}

launch::BoxesFixed fixed_of(const BoxProblem& p, const Problem& problem, const Geometry& g, const BoxForm& f, int slots,
                            double clocks, double store_clocks) {
  const WeightStrides w = weight_strides(problem, g);
  const std::array<BoxAxis, 3> axis = axes_of(p, f);
  launch::BoxesFixed x;
  x.backward = p.backward;
  x.source_last = (p.backward ? problem.y_layout : problem.x_layout) == Layout::channels_last;
  x.out_last = (p.backward ? problem.x_layout : problem.y_layout) == Layout::channels_last;
  x.shared = f.shared, x.depth_loop = f.depth_loop, x.wide = f.wide, x.line = f.line, x.direct = f.direct;
  x.overlapped = f.overlapped, x.room = f.room, x.warpgroups = f.warpgroups;
  x.merge = static_cast<int>(f.merge), x.rows = f.rows, x.segments = f.segments, x.columns = f.columns;
  x.element_bytes = p.element_bytes, x.channels = p.channels_k() * f.steps;
  x.groups = g.groups, x.k = p.k, x.n = p.n;
  x.w_k = p.backward ? w.co : w.ci;
  x.w_n = p.backward ? w.ci : w.co;
  x.w_tap = w.tap[2];
  x.w_group = g.ci * w.ci;
  x.step_d = axis[0].step, x.step_h = axis[1].step, x.step_w = axis[2].step;
  x.offset_d = axis[0].first, x.offset_h = axis[1].first, x.offset_w = axis[2].first;
  x.span_d = axis[0].span, x.span_h = axis[1].span, x.span_w = axis[2].span;
  x.phases_d = axis[0].phases, x.phases_h = axis[1].phases, x.phases_w = axis[2].phases;
  x.padding_d = f.depth_loop ? g.padding[0] : axis[0].padding;
  x.padding_h = axis[1].padding, x.padding_w = axis[2].padding;
  x.depth_taps = f.depth_loop ? p.depth_taps : 1;
  x.depth_stride = f.depth_loop && !p.backward ? g.stride[0] : 1;
  x.depth_dilation = g.dilation[0];
  x.source_words = f.source_words;
  x.shared_bytes = f.shared_bytes;
  x.streamed_bytes = f.resident ? 0 : weight_words(p, slots, f.columns) * 4 * f.steps;
  x.share_bytes = weight_words(p, slots, f.columns) * 4 * x.depth_taps * p.chunks(f.steps) * f.steps;
  x.share_units = x.share_bytes / (16 * p.parts);
  x.clocks = clocks;
  x.store_clocks = store_clocks;
  return x;
}

}  // namespace

double stage_clocks(const BoxProblem& p, const BoxWork& work, int columns) {
  double sum = 0.0;
  for (const Fragment& fragment : work.fragments) {
    std::vector<int> parts;
    for (const Product& product : fragment.products) parts.push_back(product.columns * columns);
    sum += fragment_clocks(p, parts);
  }
  return sum;
}

std::vector<BoxChoice> box_choices(const BoxProblem& p, const Problem& problem, const Geometry& g,
                                   const CudaTarget& target, std::size_t most) {
  struct Sketch {
    BoxForm form;
    int slots;
    double clocks, store_clocks, estimate;
  };
  std::vector<Sketch> sketches;
  std::map<std::tuple<int, bool, bool, int>, Arrangement> arrangements;
  std::vector<std::tuple<Merge, bool, bool>> roles = {{Merge::none, false, false}};
  const bool deep = p.out[0] > 1 || p.src[0] > 1, high = p.out[1] > 1 || p.src[1] > 1;
  if (high) roles.push_back({Merge::height, false, false});
  if (deep) {
    roles.push_back({Merge::none, true, false});
    roles.push_back({Merge::height, true, false});
    roles.push_back({Merge::depth, false, false});
  }
  const bool result_last = (p.backward ? problem.x_layout : problem.y_layout) == Layout::channels_last;
  const double all_positions = double(p.batch) * double(p.whole_depth.q_end - p.whole_depth.q_begin) *
                               double(p.axis[1].q_end - p.axis[1].q_begin) *
                               double(p.axis[2].q_end - p.axis[2].q_begin);
  // Whether the source comes by copies of its rows, which cost less for each channel where a stage has more of them.
  const bool copied = (p.backward ? problem.y_layout : problem.x_layout) != Layout::channels_last &&
                      p.src[2] * p.element_bytes % 16 != 0;
  // wide, line, direct, channels of a stage twice
  std::vector<std::tuple<bool, bool, bool, bool>> options;
  for (const bool twice : {false, true})
    for (const auto& [wide, line, direct] : {std::tuple{false, false, false},
                                             {true, false, false},
                                             {true, true, false},
                                             {false, true, false},
                                             {false, false, true},
                                             {true, false, true}})
      if (copied || !twice) options.emplace_back(wide, line, direct, twice);
  // With the taps of W as columns, all of them again.
  const BoxAxis& w = p.axis[2];
  if (!p.backward && !result_last && w.offset.size() > 1 && w.phases == 1)
    for (std::size_t i = 0, all = roles.size(); i < all; ++i) {
      roles.push_back(roles[i]);
      std::get<2>(roles.back()) = true;
    }
  for (const auto& [merge, depth_loop, overlapped] : roles) {
    BoxForm f;
    f.merge = merge, f.depth_loop = depth_loop, f.overlapped = overlapped;
    const std::array<BoxAxis, 3> axis = axes_of(p, f);
    const Int per_row = Int{axis[0].used_count} * axis[1].used_count * axis[2].used_count;
    for (int rows : {1, 2, 3, 4, 5, 6, 8}) {
      if ((merge == Merge::none) != (rows == 1)) continue;
      if (merge != Merge::none) {
        const BoxAxis& along = axis[static_cast<std::size_t>(merge)];
        if (rows > along.q_end - along.q_begin || along.offset.size() == 1) continue;
      }
      if (!fits_registers(p, 2, static_cast<int>(per_row * rows * 4), 1)) continue;
      for (int columns : {8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256}) {
        if (columns > (p.n + 7) / 8 * 8 || per_row * rows * columns / 2 > 128) break;
        Arrangement& a = arrangements[{static_cast<int>(merge), depth_loop, overlapped, rows}];
        if (a.slots == 0) a = arrangement_of(p, merge, depth_loop, overlapped, rows);
        const double one = clocks_of(p, a, columns);
        const int products_of_step =
            std::accumulate(a.runs.begin(), a.runs.end(), 0, [columns](int sum, const std::vector<int>& runs) {
              for (int run : runs) sum += (run * columns + 255) / 256;
              return sum;
            });
        for (int segments : {1, 2, 3, 4}) {
          if (per_row * rows * columns / 2 * segments > 128) break;
          if (static_cast<int>(a.runs.size()) * segments > most_fragments) break;
          for (const auto& [resident, shared] : {std::pair{true, false}, {true, true}, {false, true}})
            for (int warpgroups : {2, 3})
              for (int stages : {2, 3, 4, 6})
                for (const auto& [wide, line, direct, twice] : options) {
                  // Few fragments a stage would be waited for too often, and three cannot overlap (boxes.cuh).
                  f.steps = 1;
                  const int fragments = static_cast<int>(a.runs.size()) * segments;
                  while (f.steps < 4 && (fragments * f.steps < 6 || fragments * f.steps == 3)) f.steps *= 2;
                  if (twice) f.steps *= 2;
                  if (twice && (p.chunks(f.steps / 2) % 2 != 0 || fragments * f.steps > most_fragments)) continue;
                  if (products_of_step * segments * f.steps > most_products) continue;
                  if (!fits_registers(p, warpgroups, static_cast<int>(per_row * rows * columns / 2 * segments),
                                      segments))
                    continue;
                  if (shared && stages < warpgroups) continue;
                  f.source_words = 0, f.together = 1, f.warpgroups = warpgroups;
                  f.rows = rows, f.columns = columns, f.segments = segments;
                  f.resident = resident, f.shared = shared, f.stages = stages, f.wide = wide, f.line = line,
                  f.direct = direct;
                  if (overlapped && (line || direct)) continue;
                  f.room = overlapped ? 64 * segments + 16 : 0;
                  if (direct && (p.element_bytes != 4 || axis[2].phases != 1 || result_last)) continue;
                  const double width = double(axis[2].q_end - axis[2].q_begin), full = 64.0 * segments;
                  if (line && (result_last || (wide && width < 16))) continue;
                  if (wide && axis[2].q_end - axis[2].q_begin < 16) continue;
                  if (!wide && segments > 2 && !p.tf32) continue;
                  if (!lay_out(p, axis, a.slots, result_last, target.shared_per_block, f)) continue;
                  const Fit fit = fit_source(p, axis, f);
                  if (fit.positions == 0) continue;
                  if (overlapped && fit.positions < 32 * segments) continue;
                  // A row of boxes ends with a part of one; boxes of several rows are fitted to the plane.
                  const double whole = width <= fit.columns ? width : fit.columns - (p.element_bytes == 2 ? 16 : 8);
                  const double filled =
                      line        ? whole > 0.0 ? width / (std::ceil(width / whole) * full) : 0.0
                      : fit.whole ? 0.96 * fit.positions / full * width / double(p.src[2])
                                  : 0.92 * fit.positions / full *
                                        (overlapped ? double(fit.columns - w.span) / double(fit.columns) : 1.0);
                  if (line && filled < 0.4) continue;
                  const double shares = double(p.groups) * std::ceil(double(p.n) / columns);
                  const double stages_of_box =
                      double(p.chunks(f.steps)) *
                      (depth_loop ? double(p.depth_taps) / (p.backward ? 1.0 : double(g.stride[0])) : 1.0);
                  const double depths =
                      depth_loop ? double(p.out[0]) / double(p.whole_depth.q_end - p.whole_depth.q_begin) : 1.0;
                  const double streamed =
                      resident ? 0.0
                               : double(weight_words(p, a.slots, columns) * f.steps) * 4.0 / 20.0 / double(warpgroups);
                  const double source_rate = !copied ? 28.0 : twice ? 19.0 : 14.0;
                  const double set = double(warpgroups), stage = one * segments * f.steps;
                  // Elements of a box, and how many of them a warpgroup writes in a clock.
                  const double written =
                      double(rows) * axis[0].phases * axis[1].phases * 64.0 * segments * axis[2].phases * columns;
                  const double columns_of_line = 64.0 * segments * axis[2].phases;
                  const double rate = (direct ? 2.3
                                       : line ? 2.6 * columns_of_line / (columns_of_line + 64.0)
                                              : 1.6) *
                                      (p.element_bytes == 2 ? 1.4 : 1.0) * (warpgroups == 2 ? 1.0 : 0.7);
                  // Overlapped, each sum is staged and read; fitted to 80 forms (docs/measured-cuda-boxes.md).
                  const double store = overlapped
                                           ? (11.5 * columns + 18.3 * double(per_row * rows * segments * columns)) *
                                                 (warpgroups == 2 ? 1.0 : 1.95)
                                           : written / rate;
                  const double products = stages_of_box * stage;
                  const double box =
                      std::max({set * products, 2.0 * products + store,
                                stages_of_box * ((shared ? 1.0 : set) * fit.bytes / source_rate + set * streamed),
                                set * written * p.element_bytes / 17.0});
                  const double estimate = all_positions * depths / (64.0 * segments * rows * filled) * shares * box /
                                          set * (stages == 2 ? 1.05 : 1.0) * (wide ? 1.0 : 1.02) *
                                          overlapped_factor(p, f);
                  sketches.push_back({f, a.slots, one * segments * f.steps, store, estimate});
                }
        }
      }
    }
  }
  // Among equals the first: fewer stages, and more room for what is stored.
  std::stable_sort(sketches.begin(), sketches.end(),
                   [](const Sketch& a, const Sketch& b) { return a.estimate < b.estimate; });
  const std::size_t looked_at = std::min(sketches.size(), weighed);
  std::vector<BoxChoice> choices;
  for (std::size_t i = 0; i < looked_at; ++i) {
    BoxChoice c{
        sketches[i].form,
        fixed_of(p, problem, g, sketches[i].form, sketches[i].slots, sketches[i].clocks, sketches[i].store_clocks),
        {},
        0.0};
    c.launch = launch::launch_of(c.fixed, sizes_of(g), target.processors);
    if (c.launch.refusal || c.launch.refitted || c.launch.plain.grid == 0) continue;
    fit_store(p, result_last, target.shared_per_block, sketches[i].slots, c);
    c.fixed = fixed_of(p, problem, g, c.form, sketches[i].slots, sketches[i].clocks, sketches[i].store_clocks);
    c.launch = launch::launch_of(c.fixed, sizes_of(g), target.processors);
    if (c.launch.refusal || c.launch.refitted || c.launch.plain.grid == 0) continue;
    const BoxForm& f = c.form;
    const double once = (f.resident ? double(c.fixed.share_bytes) / 24.0 : 0.0) + 2.0e-6 * clock_rate;
    const double products = sketches[i].clocks * double(p.chunks(f.steps)) *
                            (f.depth_loop ? double(p.depth_taps) / (p.backward ? 1.0 : double(g.stride[0])) : 1.0);
    const double factor = overlapped_factor(p, f) * staging_factor(p, f, products, sketches[i].store_clocks);
    c.seconds = (c.launch.clocks * (f.stages == 2 ? 1.05 : 1.0) * factor + once) / clock_rate + start_seconds;
    choices.push_back(std::move(c));
  }
  // Of forms that differ in stages alone, in f32 four, where they leave the staging of boxes more than a step, else
  // three (docs/measured-cuda-boxes.md).
  const auto rank = [&](const BoxForm& f) {
    if (f.stages < 4) return 2 * f.stages;
    return p.element_bytes == 2 || (!f.direct && !f.line && f.together == 1) ? 5 : 8;
  };
  std::stable_sort(choices.begin(), choices.end(), [&](const BoxChoice& a, const BoxChoice& b) {
    return a.seconds != b.seconds ? a.seconds < b.seconds : rank(a.form) > rank(b.form);
  });
  // Not wide, but with the same boxes: the same kernel with more addresses.
  const auto twin = [&](const BoxChoice& c) {
    return !c.form.wide && std::any_of(choices.begin(), choices.end(), [&](const BoxChoice& d) {
      const BoxForm &x = c.form, &y = d.form;
      const launch::BoxesWay &m = c.launch.may_bulk ? c.launch.bulk : c.launch.plain,
                             &n = d.launch.may_bulk ? d.launch.bulk : d.launch.plain;
      return y.wide && x.columns == y.columns && x.segments == y.segments && x.rows == y.rows && x.merge == y.merge &&
             x.depth_loop == y.depth_loop && x.line == y.line && x.direct == y.direct && x.warpgroups == y.warpgroups &&
             x.resident == y.resident && x.shared == y.shared && x.stages == y.stages && x.steps == y.steps &&
             x.overlapped == y.overlapped && std::equal(m.main.extent, m.main.extent + 4, n.main.extent) &&
             std::equal(m.last.extent, m.last.extent + 4, n.last.extent);
    });
  };
  // Of forms that differ in stages and the shape of boxes alone, two.
  const auto alike = [](const BoxForm& x, const BoxForm& y) {
    return x.columns == y.columns && x.segments == y.segments && x.rows == y.rows && x.merge == y.merge &&
           x.depth_loop == y.depth_loop && x.line == y.line && x.direct == y.direct && x.warpgroups == y.warpgroups &&
           x.resident == y.resident && x.overlapped == y.overlapped;
  };
  std::vector<bool> drop;
  for (const BoxChoice& c : choices) drop.push_back(twin(c));
  std::vector<BoxChoice> kept;
  for (std::size_t i = 0; i < choices.size() && kept.size() < most; ++i) {
    if (drop[i]) continue;
    const auto same =
        std::count_if(kept.begin(), kept.end(), [&](const BoxChoice& k) { return alike(k.form, choices[i].form); });
    if (same < 2) kept.push_back(std::move(choices[i]));
  }
  choices = std::move(kept);
  return choices;
}

}  // namespace upconv::cuda
