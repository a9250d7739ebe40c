// What kernels/columns.cuh is specialised for, and its tiles: which fit, and how long each is expected to take. Pure
// functions of a problem and a target, called by columns.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

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
  std::array<int, 3> kernel{}, stride{};
  std::array<std::int64_t, 3> padding{}, in{}, out{}, grid{};
  int shift_w = 0;                            ///< The largest shift of W.
  std::vector<std::pair<int, int>> segments;  ///< Shifts of D and H that are held apart.
  int all_taps = 1, phases = 1;
  bool separate = false;  ///< Each phase has a row block of its own.
  bool parted = false;    ///< Weights of a stage lie by shift, rows side by side.
  bool w_last = false;
  double positions = 0, x_bytes = 0, y_bytes = 0, weight_bytes = 0;

  [[nodiscard]] int row_phases() const { return separate ? 1 : phases; }
  [[nodiscard]] std::int64_t rows() const { return co * row_phases(); }
  /// Rows of a fragment lie in pairs.
  [[nodiscard]] bool pairs() const { return !separate && (parted || (!w_last && all_taps == phases)); }
  [[nodiscard]] int step_channels() const { return tf32 ? 8 : 16; }
};

/// A product of a chunk's first step_channels channels.
struct ColumnsStep {
  int weight, segment, shift, block;
};

struct ColumnsTile {
  int down = 2, across = 1;  ///< Warpgroups that share out rows, positions.
  int kinds = 1;             ///< 2: the warpgroups have different phases.
  int staged = 256, lead = 0, positions = 256;  ///< `positions` of one warpgroup.
  int group_rows = 64, block_rows = 128, row_blocks = 1;
  int channels = 8, stages = 4, depth = 2;
  int shares = 1;  ///< Threads that fetch one position of x.
  int weight_run = 0, weight_pitch = 0, span = 0, piece = 0;  ///< In elements; `piece` in bytes.
  int fragment_turns = 0;  ///< Of shared memory, for a warpgroup's loads of one fragment.
  int line_pitch = 0, line_skew = 0, line_buffers = 2;
  int compute_registers = 184, fetch_registers = 136;
  std::array<std::vector<ColumnsStep>, 2> steps;
  std::array<std::vector<int>, 2> units;  ///< The phase of the lines of a unit (`separate`).
  unsigned shared_bytes = 0;
  double seconds = 1e30;

  [[nodiscard]] int tile_positions() const { return positions * across; }
};

ColumnsShape columns_shape(const Problem& problem, const Geometry& geometry);

/// Every tile that fits, the one predicted to be fastest first.
std::vector<ColumnsTile> columns_tiles(const ColumnsShape& shape, const CudaTarget& target);

std::string to_string(const ColumnsTile& tile);

}  // namespace upconv::cuda
