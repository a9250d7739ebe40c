// Chooses how kernels/input_wgmma.cuh cuts dx: boxes of positions, input channels, pairs of a stage. Pure functions of
// a shape and a GPU's limits and rates.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cuda/weight_shape.hpp"
#include "launch/input_wgmma.hpp"
#include "plan/target.hpp"

namespace upconv::cuda {

struct InputTile {
  std::array<int, 3> box{};
  int columns = 8;    ///< Input channels of a tile.
  int fragments = 1;  ///< Of 64 positions, of each of the two warpgroups that multiply.
  int pairs = 32;     ///< (Output channel, tap) of a stage.
  int phases = 1;     ///< Taps that stages begin with.
  int channels = 1;   ///< Output channels that a stage may meet.
  int stages = 2;
  int lead = 0, vector = 1;   ///< Elements before a line so that copies of `vector` elements are aligned.
  int span_read = 0;          ///< Elements that are read of a line of dy.
  int span = 0, channel = 0;  ///< From line to line of dy, from channel to channel, so that loads meet few banks twice.
  int split = 1;              ///< Blocks of a cluster, which share the pairs of a tile.
  bool line_copies = false;   ///< Whole lines of dy by bulk copies, where rows allow it.
  double conflicts = 1.0;     ///< Times that a load of dy takes, for banks.
  std::int64_t tiles = 0;
  double seconds = 0.0;

  static constexpr int warpgroups = 2;
  static constexpr int left_bytes = 9216;  ///< Of shared memory, through which sums leave.
  [[nodiscard]] int positions() const { return box[0] * box[1] * box[2]; }
  [[nodiscard]] static int threads() { return (warpgroups + 1) * 128; }
};

/// Bytes of a stage: w, then dy.
int stage_bytes(const WeightShape& shape, const InputTile& tile);

/// What a launch of that tile depends on.
launch::InputWgmmaFixed input_fixed(const WeightShape& shape, const InputTile& tile);

/// At most `count` tiles, the one predicted to be fastest first; none when none fits the GPU.
std::vector<InputTile> input_tiles(const WeightShape& shape, const CudaTarget& target, int count);

}  // namespace upconv::cuda
