// The family "cpu_positions": vectors run across positions of W, for layers with few channels a group on the
// side that is written. This header is the plain data its planner (positions_plan.cpp) hands to the kernels
// (positions_kernels.cpp, positions_weight_kernels.cpp), which are compiled once per instruction set.
//
// Forward and dx are one computation here. The source is split by residues of its own step into planes, the
// destination into phases; every value is then a stride-1 correlation
//   destination_phase[row][p] = sum over source channels and the phase's taps of source_plane[p + offset] * weight.
// Forward: source x (step 1), destination y (step s, o + padding = s*p + r). dx: source dy (step s), destination
// dx (step 1). A row is a (phase, channel) pair; phases whose taps sit at the same offsets form one class, so that a
// vector of the source is loaded once for all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "epilogue/steps.hpp"

namespace upconv::cpu {

/// One activation tensor. `step` is the distance of neighbouring positions: coordinate = step*position + residue -
/// shift.
struct PositionsTensor {
  std::int64_t channels = 0;  ///< of one group
  std::int64_t size[3] = {}, step[3] = {}, shift[3] = {};
  std::int64_t n = 0, c = 0, d[3] = {};  ///< element strides
};

/// Rows [row, row + rows) of the destination tile and their packed weights [channel][tap][rows].
struct PositionsBlock {
  std::int32_t rows = 0, row = 0;
  std::int32_t steps = 0;       ///< taps
  std::int32_t first_step = 0;  ///< into offsets and step_position
  std::int64_t panel = 0;       ///< first element within the group's panel
};

/// One destination row of a tile.
struct PositionsRow {
  std::int32_t channel = 0;    ///< within the group
  std::int32_t first_tap = 0;  ///< into taps: weight offset of each step
};

/// A box of positions computed at once, copied to a local source tile [channel][residue][n][d][h][w + halo].
struct PositionsTile {
  std::int64_t begin[3] = {}, end[3] = {};  ///< positions of the whole problem
  std::int64_t low[3] = {};                 ///< smallest offset of any tap
  std::int64_t size[4] = {};                ///< n, d, h, w
  std::int64_t count[4] = {};               ///< tiles in n, d, h, w
  std::int64_t extent[3] = {};              ///< local source extent d, h, w: size plus halo
  std::int64_t residue_pitch = 0, channel_pitch = 0;
  std::int64_t source_elements = 0;
  /// A run is a stretch of positions that are contiguous both in the local source and in the local destination:
  /// a row of w, or several rows laid end to end, the halo between them computed and thrown away.
  std::int64_t runs[3] = {1, 1, 1};  ///< in n, d, h
  std::int64_t run_length = 0;
  std::int64_t source_run[3] = {}, destination_run[3] = {};  ///< distance of neighbouring runs
  std::int64_t place[3] = {};                                ///< distance in the destination of neighbouring n, d, h
  std::int64_t destination_pitch = 0;                        ///< of rows
};

struct PositionsJob {
  std::int64_t batch = 0, groups = 0;
  PositionsTensor source, destination;
  PositionsTile tile;
  std::int64_t rows = 0, blocks = 0, residues = 0;
  const PositionsBlock* block = nullptr;
  const PositionsRow* row = nullptr;
  const std::int32_t* offsets = nullptr;        ///< per step: where it reads in the local source of a channel
  const std::int32_t* step_position = nullptr;  ///< per step: residue plane and offset (d, h, w), for the exact path
  const std::int64_t* taps = nullptr;           ///< weight offset per (row's phase, step)
  const std::int32_t* residue = nullptr;        ///< residue triples of the source planes in use
  const std::int32_t* residue_plane =
      nullptr;                              ///< source plane of residue (rd*sh + rh)*sw + rw, -1 when no tap reads it
  const std::int32_t* phase_row = nullptr;  ///< first row of destination phase (rd*sh + rh)*sw + rw
  std::int64_t w_group = 0, w_channel = 0, w_row = 0;
  std::int64_t channel_block = 0;  ///< source channels in the local tile at once
  std::int64_t panel = 0;          ///< elements of one group's packed weights
  std::int64_t chunk = 0;          ///< positions done for all blocks before moving on
  bool stream = false;             ///< the result is larger than the caches: store around them
  bool blocks_outside = false;     ///< panels too large for the first-level cache: all runs per block
  EpilogueSteps epilogue;
  // dw: steps of its only class; the rows of a group in parts, the boxes in slots, each with its own partial sums.
  std::int64_t steps = 0, row_parts = 1, slots = 1;
};

// Static, as everything that sources compiled once per instruction set call: each keeps its own copy.

/// Tiles of one group.
static inline std::int64_t boxes_of(const PositionsJob& job) {
  return job.tile.count[0] * job.tile.count[1] * job.tile.count[2] * job.tile.count[3];
}
/// Task index of tile `box` (of boxes_of()) of a group.
static inline std::int64_t place_box(const PositionsJob& job, std::int64_t box, std::int64_t group) {
  const std::int64_t inner = job.tile.count[1] * job.tile.count[2] * job.tile.count[3];
  return (box / inner * job.groups + group) * inner + box % inner;
}

/// The functions of one storage type and one instruction set.
struct PositionsKernels {
  /// Packs block `b` of group `g`; false when a weight is not finite.
  bool (*pack)(const PositionsJob& job, const void* w, void* panel, std::int64_t group, std::int64_t block);
  /// Computes one tile of one group: task = ((n tile * groups + group) * d tiles + d) ...
  void (*run)(const PositionsJob& job, const void* source, const void* panels, const unsigned char* finite,
              const void* bias, void* destination, const Operand* operands, std::int64_t task, void* scratch);
};

struct PositionsWeightKernels {
  /// Fills the partial sums [slot][group][row][channel][step] of task (group, part, slot).
  void (*run)(const PositionsJob& job, const void* x, const void* dy, void* partials, std::int64_t task, void* scratch);
  void (*reduce)(const PositionsJob& job, void* partials, void* dw, std::int64_t channel);
};

}  // namespace upconv::cpu
