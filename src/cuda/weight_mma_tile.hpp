// Chooses how a block of kernels/weight_mma.cuh cuts dw: channels, taps, positions, warps, stages and the split of the
// positions over blocks. Pure functions of a shape and a GPU's limits and rates.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/weight_shape.hpp"
#include "launch/weight_mma.hpp"
#include "plan/target.hpp"
#include "problem/geometry.hpp"

namespace upconv::cuda {

/// The stride of W where rows of dy are kept whole in shared memory, 1 where their residues are set apart.
int weight_inner(const Geometry& geometry, int taps);

struct WeightTile {
  int mt = 1, nt = 1;          ///< 16 x 8 fragments of a warp
  int wm = 1, wn = 1, wk = 1;  ///< warps over input channels, output channels, positions
  std::array<int, 3> taps{}, box{};
  int stages = 2, occupancy = 1;
  int lead = 0, y_vector = 1;  ///< Elements before tap 0's row so that copies of y_vector elements are aligned.
  int planes = 1, span = 0, window = 1;
  int lines_d = 0, lines_h = 0;
  int inner = 1;    ///< Distance in shared memory of dy's elements for neighbouring positions: 1, or the stride where
                    ///< rows are kept whole.
  int x_words = 0;  ///< 32-bit words of x's tile.
  int y_pitch = 0;  ///< Words between channels of dy's tile.
  std::int64_t tiles = 0;  ///< Blocks for one share of the positions.
  std::int64_t boxes = 0, splits = 1;
  double cycles = 0.0;  ///< A multiprocessor spends on one box.
  double seconds = 0.0;

  [[nodiscard]] int mb() const { return wm * mt * 16; }
  [[nodiscard]] int nb() const { return wn * nt * 8; }
  [[nodiscard]] int tap_count() const { return taps[0] * taps[1] * taps[2]; }
  [[nodiscard]] int positions() const { return box[0] * box[1] * box[2]; }
  [[nodiscard]] int stage_bytes() const { return 4 * (x_words + nb() * y_pitch); }
  [[nodiscard]] int shared_bytes() const;
};

/// What a launch of that tile depends on.
launch::WeightMmaFixed weight_fixed(const WeightShape& shape, const WeightTile& tile, const CudaTarget& target);

/// At most `count` tiles, the one predicted to be fastest first; none when none fits the GPU. More than one takes
/// longer to find: fewer are ruled out early.
std::vector<WeightTile> weight_tiles(const WeightShape& shape, const CudaTarget& target, int count);

}  // namespace upconv::cuda
