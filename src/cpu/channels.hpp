// The kernel family `cpu_channels`: vectors across channels. Each task copies the part of the source tensor it
// needs into a local channels-last tile, multiplies it with packed weight panels in register tiles of
// positions x channels, and stores whole output lines. This header is the seam between the planners
// (channels_gather.cpp, channels_weight.cpp) and the kernels compiled once per instruction set.
//
// Mapping of the passes to the matrix product C[m][v] += A[m][k] * B[k][v] of the main loop:
//   pass             A (broadcast)   B (vectors)     C        m                  k              v
//   forward          x tile          w panel         y tile   output positions   taps x C_in    C_out
//   backward_input   dy tile         w panel         dx tile  input positions    taps x C_out   C_in
//   backward_weight  x or dy tile    dy or x tile    dw       channels of A      positions      channels of B
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "epilogue/steps.hpp"
#include "upconv/problem.hpp"

namespace upconv::cpu {

/// A tensor (n, channel, d, h, w) of one dtype and its element strides.
struct TensorView {
  DType dtype;
  std::int64_t n, c, d, h, w;
};

TensorView view_of(DType dtype, Layout layout, std::int64_t channels, const std::array<std::int64_t, 3>& size);

/// One tap of one dimension: destination index q reads source coordinate step*q + shift.
struct GatherTap {
  std::int64_t tap;
  std::int64_t shift;
};

/// Part of a class: for q in [q_begin, q_end) exactly the taps [tap_begin, tap_end) of the class read inside the
/// source.
struct GatherSegment {
  std::int64_t q_begin, q_end;
  std::int64_t tap_begin, tap_end;
};

/// Destination coordinates of one dimension that share their taps: spread*q + first for q in [q_begin, q_end).
/// Taps are ordered by rising shift.
struct GatherClass {
  std::int64_t first;
  std::int64_t q_begin, q_end;
  const GatherTap* taps;
  std::int64_t n_taps;
  const GatherSegment* segments;  ///< no product reads outside the source
  std::int64_t n_segments;
  GatherSegment whole;  ///< every tap everywhere: reads the tile's zeros beyond the source
};

struct GatherDim {
  std::int64_t source_size, dest_size;
  std::int64_t step;    ///< source coordinates per q
  std::int64_t spread;  ///< destination coordinates per q
  std::int64_t q_min, q_max;
  std::int64_t shift_min, shift_max;
  std::int64_t first_min;
  const GatherClass* classes;
  std::int64_t n_classes;
  std::int64_t tile;  ///< q per tile
  std::int64_t tiles;
  std::int64_t tile_source;  ///< source coordinates a tile reads
  bool by_segments;          ///< border positions are worth their own products; otherwise they read zeros
};

/// One output phase: a class of each dimension, with at least one tap.
struct GatherPhase {
  std::int64_t cls[3];
  std::int64_t n_taps;
  std::int64_t taps_before;        ///< of the phases before it: where its weight panels begin
  const std::int64_t* tap_source;  ///< per tap: element offset in the source tile
  const std::int64_t* tap_weight;  ///< per tap: element offset in w
};

/// Everything about a forward or backward_input pass; immutable, owned by the planner.
struct GatherConfig {
  TensorView source, dest;
  std::int64_t batch, groups;
  std::int64_t k, v;  ///< source and destination channels of one group
  GatherDim dim[3];
  const GatherPhase* phases;
  std::int64_t n_phases;
  std::int64_t max_taps;
  std::int64_t taps;               ///< of the whole kernel
  bool dense_taps;                 ///< the taps of a pair of channels are contiguous in w, in kernel order
  bool neighbours;                 ///< positions along w, and taps, are one source element apart
  bool fold;                       ///< taps along w are contiguous in the source tile: one run of k * taps
  std::int64_t w_group, w_k, w_v;  ///< weight element strides of a group, a source and a destination channel
  std::int64_t block;              ///< destination channels of a register tile: two vectors, or three if they hold all
  std::int64_t v_padded;           ///< v rounded up to whole vector blocks, as panels hold it
  std::int64_t all_taps;           ///< of all phases
  bool pack_in_task;               ///< few tiles: each task packs its own panels instead of all being packed first
  std::int64_t k_piece;            ///< source channels in the tile, and packed by a task, at a time
  std::int64_t pack_blocks;        ///< blocks of channels packed at once: several where their weights are neighbours
  std::int64_t tile_batch, batch_tiles;
  std::int64_t pitch;             ///< elements between source positions in the tile
  std::int64_t v_split, v_tasks;  ///< destination channels a task computes (a multiple of the vector block)
  bool tiles_first;               ///< tasks of the same channels follow each other, not those of the same tile
  std::int64_t v_chunk;           ///< destination channels of the local destination tile
  std::int64_t k_chunk;           ///< products per pass over the register tile
  std::int64_t source_elements, dest_elements, panel_elements, positions;  ///< sizes of a worker's scratch
  bool reads_zeros;         ///< some product reads beyond the source: not if a weight is inf or NaN
  bool holes, holes_exact;  ///< some destination positions get no product (by_segments, all by segments)
  const EpilogueSteps* epilogue;
};

struct GatherTensors {
  const void* source;
  const void* w;
  const void* bias;  ///< null: none
  void* dest;
  const Operand* operands;  ///< of the epilogue
};

/// A pass over a group's gradient of the weight: C[a][b] = sum over positions of A[pos][a] * B[pos'][b].
struct WeightDim {
  std::int64_t in_size, out_size;
  std::int64_t stride, dilation, padding, kernel;
  std::int64_t tile, tiles;  ///< input positions per tile
  std::int64_t tile_out;     ///< output positions a tile reads
};

struct WeightConfig {
  TensorView x, dy;
  std::int64_t batch, groups, ci, co;
  WeightDim dim[3];
  std::int64_t tile_batch, batch_tiles;
  bool x_is_a;                    ///< x is broadcast and dy read in vectors; otherwise the reverse
  std::int64_t a, b;              ///< channels of one group on either side
  std::int64_t a_range, b_range;  ///< channels per task
  std::int64_t a_ranges, b_ranges;
  std::int64_t tap_range, tap_ranges;  ///< taps per task
  std::int64_t slots;                  ///< parts of the positions, added up in order
  std::int64_t x_pitch, dy_pitch;
  std::int64_t dy_step;              ///< elements between dy positions `stride` apart along w: odd in cache lines
  const std::int32_t* dy_offset;     ///< element offset of each position of a dy line in the tile
  std::int64_t dy_line;              ///< elements of a dy line in the tile
  std::int64_t w_group, w_ci, w_co;  ///< dw element strides
  std::int64_t w_tap[3];
  std::int64_t x_elements, dy_elements, sum_elements, rows;  ///< a worker's scratch
};

/// What one instruction set provides for forward and backward_input. Panels and scratch hold the compute type:
/// double for f64, else float.
struct GatherIsa {
  int vector_f32, vector_f64;  ///< lanes
  int block_m, block_n;        ///< the register tile: positions, vectors
  /// Packs the weights of (group, pack_blocks blocks of channels) number `part`; returns whether all were finite.
  bool (*pack)(const GatherConfig&, const void* w, void* panels, std::int64_t part);
  /// `exact`: some weight is not finite, so no tap may touch a position it does not belong to.
  void (*run)(const GatherConfig&, const GatherTensors&, const void* panels, bool exact, void* scratch,
              std::int64_t task);
};

/// The same for backward_weight.
struct WeightIsa {
  int vector_f32, vector_f64;
  int block_m, block_n;
  /// Sums a task's share of the positions into its place of `partials`.
  void (*run)(const WeightConfig&, const void* x, const void* dy, void* partials, void* scratch, std::int64_t task);
  /// Adds up the slots of one share (a range of channels and taps), in order, into dw.
  void (*reduce)(const WeightConfig&, const void* partials, void* dw, std::int64_t share);
};

/// The tables of the instruction set in use.
const GatherIsa& gather_isa();
const WeightIsa& weight_isa();

}  // namespace upconv::cpu
