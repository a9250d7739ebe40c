// The tile of kernels/gather_mma.cuh: what may be chosen, what it costs, and the cheapest. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "plan/target.hpp"
#include "problem/geometry.hpp"

namespace upconv::cuda {

/// The problem as the kernel sees it: positions x columns x depth x taps.
struct GatherShape {
  bool forward = true;
  std::int64_t batch = 1, groups = 1;
  std::int64_t columns = 1, depth = 1;  ///< Of one group, merged residues included.
  std::array<bool, 3> merged{};
  std::array<std::int64_t, 3> grid{};   ///< Positions of each dimension.
  std::array<std::int64_t, 3> first{};  ///< The smallest.
  std::array<int, 3> taps{}, span{}, phases{}, planes{}, entries{};
  int spread = 1, merged_w = 1;  ///< Output step of a position in w; how much of it is among the columns.
  int pack = 1, parts = 1;       ///< Numbers a word, words a number (or pair).
  int products = 1;              ///< Tensor-core products of one multiplication.
  int element_bytes = 4;
  double source_bytes = 0, out_bytes = 0, weight_bytes = 0;  ///< Whole tensors.
  double sample = 0, plane = 0;  ///< Elements of one sample of the source, and of one step in its first dimension.
  std::array<int, 3> step{};     ///< Source steps of a position.
  bool source_last = false, out_last = false;

  [[nodiscard]] int tap_count() const { return taps[0] * taps[1] * taps[2]; }
  [[nodiscard]] int phase_count() const { return phases[0] * phases[1] * phases[2]; }
  [[nodiscard]] int plane_count() const { return planes[0] * planes[1] * planes[2]; }
  [[nodiscard]] int entry_count() const { return entries[0] * entries[1] * entries[2]; }
};

struct GatherTile {
  int n = 1, d = 1, h = 1, w = 1;  ///< Positions of a block.
  int mt = 1, nt = 1;              ///< m16 and n8 tiles of a warp.
  int warps_m = 1, warps_n = 1, warps_k = 1;
  int run = 1;                                  ///< Consecutive positions a lane holds.
  int kc = 8;                                   ///< Depth of a chunk.
  bool resident = false;                        ///< All weights of the block's columns stay in shared memory.
  bool staged = false;                          ///< Output lines are put together in shared memory.
  bool raw_source = false, raw_weight = false;  ///< TF32 rounded as fragments are loaded, not as chunks arrive.
  int lw = 0, npad = 0, pitch = 0, skew = 0;    ///< Words: line, extra a sample, depth row, its skew.
  int blocks = 1;                               ///< Blocks of a multiprocessor.
  int loop = 0;                                 ///< Dimensions whose taps are looped at run time, as bits.
  int fetch = 16;                               ///< Registers a thread holds of the chunk it brings in.
  std::int64_t shared_bytes = 0;
  double seconds = 0;  ///< Predicted.

  [[nodiscard]] int threads() const { return 32 * warps_m * warps_n * warps_k; }
  [[nodiscard]] int positions() const { return n * d * h * w; }
  [[nodiscard]] int columns() const { return 8 * nt * warps_n; }
};

std::string to_string(const GatherTile& tile);

/// All legal tiles worth a thought, cheapest first.
std::vector<GatherTile> gather_tiles(const GatherShape& shape, const CudaTarget& target);

}  // namespace upconv::cuda
