// How long a tile of kernels/columns.cuh is expected to take: see columns_tile.hpp. Clocks of one multiprocessor, from
// the figures of docs/measured-hopper.md.
#include <algorithm>
#include <cmath>

#include "cuda/columns_tile.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

/// Measured seconds = start + factor * what is counted: of x in rows of 64 positions (SWIZZLED) with a tile's own
/// clocks, 9 tiles of two layers within a tenth; of the others least squares over tests/shapes (and of fp32 without
/// phases 150 clocks a tile, which put larger tiles first where memory is what binds: 55 us for 60).
struct Fit {
  double start, factor, clocks_of_tile;
};
Fit fit_of(const ColumnsShape& s, const ColumnsTile& t) {
  if (t.swizzled()) return {0.0, 1.0, 1200.0};
  if (s.halves()) return {4e-6, 1.25, 0.0};
  return {4e-6, 1.10, s.phases == 1 ? 150.0 : 0.0};
}

/// What tiles of 64 rows take longer than by that fit, one after the other: sixteen of layers of L2/2, 20, 26, 34, 36,
/// 91, 93 and 100, within a tenth. With an epilogue of many instructions cuda_boxes, which this is for, takes longer
/// too (L2/16: 1.59 ms, 1.45 here).
double few_rows(const ColumnsShape& s, const ColumnsTile& t, double waves) {
  if (s.halves() || s.phases == 1 || t.swizzled() || t.block_rows > 64 || waves < 4.0 || s.long_epilogue) return 1.0;
  return t.kinds == 1 ? 1.16 : t.stages > 2 ? 1.23 : 1.10;
}

/// Clocks between two barriers of one chunk. `kept`: of weights that stay from tile to tile.
double chunk_clocks(const ColumnsShape& s, const ColumnsTile& t, bool kept) {
  const double factor = s.parts == 2 ? 3 : 1, n = t.positions, segments = double(t.segments.size());
  double steps = 0;
  for (int group = 0; group < 2; ++group)
    steps += double(t.channels) / s.step_channels() *
             double(t.steps[static_cast<std::size_t>(t.kinds == 2 ? group : 0)].size());
  const double tensor = steps * factor * std::max(n / 2.0, 13.0);
  // Shared memory: both operands of the products, what copies write, and the turning of x.
  const double weights = kept ? 0.0 : double(t.channels) * t.weight_run * s.element_bytes / 128.0;
  const double raw = segments * t.channels * t.staged * s.element_bytes / 128.0;
  const double unit = segments * t.channels * t.staged * (s.tf32 ? 4.0 : 2.0 * s.parts) / 128.0;
  const double loads = t.a_shared ? steps * factor * 16.0 : steps / (t.quads ? 2.0 : 1.0) * t.fragment_turns * 1.2;
  const double shared = steps * factor * 0.35 * n + loads + weights + raw + (t.turned ? raw + unit : 0.0);
  // The copies themselves, and memory beyond.
  const double scattered = t.parted && !t.a_shared ? 4.0 : 2.0;
  const double narrow = t.piece == 16 ? scattered : t.piece == 8 ? 2.0 : t.piece == 4 ? 5.5 : 60.0;
  const double copies = weights * narrow + raw * (t.turned ? 3.7 : t.swizzled() ? 1.0 : 2.0);
  const double l2 = (weights + raw) * 128.0 / 34.0;
  const double longest = std::max({tensor, shared, copies, l2});
  // Swizzled, what copies write is fenced off only where weights come by them.
  if (t.swizzled())
    return longest + 0.1 * (tensor + shared + copies - std::min(tensor + shared + copies, 2 * longest)) +
           (t.a_shared ? 350.0 : 50.0);
  // Two warps turn a chunk. Of more than so many 16-bit elements it took 1.16 to 1.38 times as long as counted in all
  // four tiles that were timed (dcgan), of fewer 0.8 to 1.1 (one 1.2).
  const double large = s.halves() && t.turned && segments * t.channels * t.staged > 11000 ? 1.25 : 1.0;
  return large * (longest + 0.3 * (tensor + shared + copies - std::min(tensor + shared + copies, 2 * longest)) + 140.0);
}

}  // namespace

double columns_seconds(const ColumnsShape& s, const ColumnsTile& t, const CudaTarget& target) {
  constexpr double clock = 1.6e9;
  const double chunks = std::ceil(double(ceil_div(s.k, t.channels)) / t.split);
  const double stored = double(t.block_rows) * (s.separate ? s.phases : 1) * t.tile_positions() / t.split;
  // What a lane writes at once, where rows of y allow no more than some elements.
  const std::int64_t row = s.out[2] * s.element_bytes, two = 2 * std::int64_t{s.element_bytes};
  const double piece = row % 16 == 0 ? 16.0 : row % 8 == 0 ? 8.0 : row % two == 0 ? double(two) : s.element_bytes;
  const double write = stored * s.element_bytes / 16.0;
  const double issue = stored * s.element_bytes / piece / 256.0 * (piece < 16.0 ? 60.0 : 36.0) + 300.0;
  const double waves = double(ceil_div(t.position_tiles * t.row_tiles, target.clusters(t.split)));
  const bool kept = t.swizzled() && waves > 1 && t.split == 1 && t.stages % static_cast<int>(chunks) == 0;
  const double one = chunks * chunk_clocks(s, t, kept);
  // Of a tile's store most runs beside the products of the next, where there is one.
  const double visible = waves > 1 ? 0.35 * issue : issue;
  const Fit fit = fit_of(s, t);
  const double steady = std::max(one + visible, write) + fit.clocks_of_tile;
  const double first = 2500.0 + (t.split > 1 ? 2000.0 : 0.0) + (waves > 1 ? 0.65 * issue : 0.0);
  const double memory = (s.x_bytes + s.y_bytes + s.weight_bytes) / (0.9 * target.bytes_per_second);
  // Few stages hide the time from memory to the first product badly.
  const double hidden = t.stages == 2 ? 1.2 : t.stages == 3 ? 1.05 : 1.0;
  const double work = (waves * steady + first) / clock;
  const double counted = hidden * (std::max(work, memory) + 0.1 * std::min(work, memory)) + 4e-6;
  return fit.start + fit.factor * few_rows(s, t, waves) * counted;
}

}  // namespace upconv::cuda
