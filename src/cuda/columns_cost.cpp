// How long a tile of kernels/columns.cuh is expected to take: see columns_tile.hpp. Clocks of one multiprocessor, from
// the figures of docs/measured-hopper.md.
#include <algorithm>
#include <cmath>

#include "cuda/columns_tile.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

/// Clocks between two barriers of one chunk.
double chunk_clocks(const ColumnsShape& s, const ColumnsTile& t) {
  const double factor = s.parts == 2 ? 3 : 1, n = t.positions, segments = double(t.segments.size());
  double steps = 0;
  for (int group = 0; group < 2; ++group)
    steps += double(t.channels) / s.step_channels() *
             double(t.steps[static_cast<std::size_t>(t.kinds == 2 ? group : 0)].size());
  const double tensor = steps * factor * std::max(n / 2.0, 13.0);
  // Shared memory: both operands of the products, what copies write, and the turning of x.
  const double weights = double(t.channels) * t.weight_run * s.element_bytes / 128.0;
  const double raw = segments * t.channels * t.staged * s.element_bytes / 128.0;
  const double unit = segments * t.channels * t.staged * (s.tf32 ? 4.0 : 2.0 * s.parts) / 128.0;
  const double loads = t.a_shared ? steps * factor * 16.0 : steps / (t.quads ? 2.0 : 1.0) * t.fragment_turns * 1.2;
  const double shared = steps * factor * 0.35 * n + loads + weights + raw + (t.turned ? raw + unit : 0.0);
  // The copies themselves, and memory beyond.
  const double narrow = t.piece == 16 ? 2.0 : t.piece == 8 ? 3.5 : t.piece == 4 ? 5.0 : 60.0;
  const double copies = weights * narrow + raw * 2.0;
  const double l2 = (weights + raw) * 128.0 / 34.0;
  const double longest = std::max({tensor, shared, copies, l2});
  return longest + 0.1 * (tensor + shared + copies - std::min(tensor + shared + copies, 2 * longest)) + 50.0;
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
  const double one = chunks * chunk_clocks(s, t);
  const double own = t.positions - (s.rotated() > 0 ? 4 : 0);
  const double position_tiles = std::ceil(columns_positions(s, t) / std::max(1.0, own * t.across));
  const double tiles = double(s.groups) * double(ceil_div(s.rows(), t.block_rows)) * position_tiles;
  const double waves = std::ceil(tiles / target.clusters(t.split));
  // Of a tile's store most runs beside the products of the next, where there is one.
  const double visible = waves > 1 ? 0.35 * issue : issue;
  const double steady = std::max(one + visible, write);
  const double first = 2500.0 + (t.split > 1 ? 2000.0 : 0.0) + (waves > 1 ? 0.65 * issue : 0.0);
  const double memory = (s.x_bytes + s.y_bytes + s.weight_bytes) / (0.9 * target.bytes_per_second);
  // Few stages hide the time from memory to the first product badly.
  const double hidden = t.stages == 2 ? 1.2 : t.stages == 3 ? 1.05 : 1.0;
  const double work = (waves * steady + first) / clock;
  return hidden * (std::max(work, memory) + 0.1 * std::min(work, memory)) + 4e-6;
}

}  // namespace upconv::cuda
