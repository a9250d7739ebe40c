// What kernels/columns.cuh is specialised for, and its tiles: which fit, and how long each is expected to take. Pure
// functions of a problem and a target, called by columns.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "launch/columns.hpp"
#include "plan/target.hpp"
#include "problem/geometry.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {

/// One tap of a dimension: shift q and phase r of tap t, dilation * t = q * stride + r.
struct ColumnsTap {
  int shift, phase;
};

struct ColumnsShape {
  bool tf32 = false;
  int element_bytes = 4, parts = 1;  ///< 2 parts: high and low bf16.
  std::int64_t batch = 1, groups = 1, k = 0, co = 0;
  std::array<std::vector<ColumnsTap>, 3> taps;
  std::array<int, 3> kernel{}, stride{}, shift{};  ///< shift: the largest.
  std::array<std::int64_t, 3> padding{}, in{}, out{};
  int all_taps = 1, phases = 1;
  bool separate = false;       ///< Each phase has a row block of its own.
  bool operands = false;       ///< The epilogue reads some that differ within a channel.
  bool long_epilogue = false;  ///< Of many instructions.
  double x_bytes = 0, y_bytes = 0, weight_bytes = 0;

  [[nodiscard]] bool halves() const { return element_bytes == 2; }
  [[nodiscard]] int row_phases() const { return separate ? 1 : phases; }
  [[nodiscard]] std::int64_t rows() const { return co * row_phases(); }
  [[nodiscard]] int step_channels() const { return tf32 ? 8 : 16; }
  /// Phases of W that belong to the position before.
  [[nodiscard]] int rotated() const { return static_cast<int>(padding[2] % stride[2]); }
};

/// A product of a chunk's first step_channels channels.
struct ColumnsStep {
  int weight, segment, shift_h, shift_w, block;  ///< shift_h: of merged rows.
};

struct ColumnsTile {
  // How weights and x lie in shared memory.
  bool turned = true;                         ///< x with its channels side by side, else its positions.
  bool a_shared = false;                      ///< wgmma reads the weights from shared memory.
  bool parted = false;                        ///< Weights lie by shift, rows side by side.
  bool pairs = false;                         ///< Rows of a lane's fragment are neighbours.
  bool quads = false;                         ///< And both shifts of W beside them.
  bool merged_h = false;                      ///< A shift of H is another first position.
  std::vector<std::pair<int, int>> segments;  ///< Shifts of D and H that are held apart.
  // Who does what.
  int down = 2, across = 1;           ///< Warpgroups that share out rows, positions.
  int kinds = 1;                      ///< 2: the warpgroups have different phases.
  int split = 1;                      ///< Blocks that share the channels.
  int staged = 256, positions = 256;  ///< `positions` of one warpgroup.
  int group_rows = 64, block_rows = 128, row_blocks = 1;
  int channels = 8, stages = 4, raw_slots = 3;
  int weight_run = 0, weight_pitch = 0, span = 0, piece = 0;  ///< In elements; `piece` in bytes.
  int fragment_turns = 0;                          ///< Of shared memory, for a warpgroup's loads of one step's weights.
  std::int64_t position_tiles = 1, row_tiles = 1;  ///< Of the launch.
  int slice = 32, line_pitch = 0, line_skew = 0;
  int compute_registers = 184, bring_registers = 136;  ///< Two and one of three parts of 3 * 168 in all.
  std::array<std::vector<ColumnsStep>, 2> steps;
  std::array<std::vector<int>, 2> units;  ///< The phase of the lines of a unit (`separate`).
  unsigned shared_bytes = 0;
  double seconds = 1e30;

  /// x lies in rows of 64 positions: every product begins with one.
  [[nodiscard]] bool swizzled() const { return !turned && !merged_h && across == 1; }
  [[nodiscard]] int tile_positions() const { return positions * across; }
};

ColumnsShape columns_shape(const Problem& problem, const Geometry& geometry);

/// Every tile that fits, the one predicted to be fastest first.
std::vector<ColumnsTile> columns_tiles(const ColumnsShape& shape, const CudaTarget& target);

/// Seconds that a launch is expected to take (columns_cost.cpp).
double columns_seconds(const ColumnsShape& shape, const ColumnsTile& tile, const CudaTarget& target);

/// What a launch of a tile depends on.
launch::ColumnsFixed columns_fixed(const ColumnsShape& shape, const ColumnsTile& tile);

std::string to_string(const ColumnsTile& tile);

}  // namespace upconv::cuda
