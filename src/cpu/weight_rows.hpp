// What the candidate "cpu_weight_rows" (weight_rows.cpp: dx of dense layers) hands to its kernels
// (weight_rows_kernels.cpp). Weights are broadcast and vectors run along positions, both in the order in which the
// tensors hold them, so neither is transposed:
//   C[m][v] += A[m][k] * B[k][v]:  m input channels, v positions of dx, k (output channel, tap);
//   A is w as it lies, w[m][k]; B is dy, each line split by residues modulo the stride.
#pragma once

#include <cstdint>

#include "upconv/problem.hpp"

namespace upconv::cpu {

/// One dimension. Position q and a tap read dy at stride*q + dilation*tap - padding = stride*(q + shift) + residue.
struct WeightRowsDim {
  std::int64_t in, out, stride;
  std::int64_t tile, tiles;        ///< positions of a box
  std::int64_t shift_min, extent;  ///< of one residue's copy of dy in a box
  const std::int64_t* residue;     ///< those that taps meet, rising
  std::int64_t residues;
};

/// Where a tap reads. coordinate[d] is dilation*tap - padding.
struct WeightRowsTap {
  std::int32_t offset;  ///< elements from a position's place in a channel's panel
  std::int64_t coordinate[3];
};

struct WeightRowsJob {
  DType dtype;
  std::int64_t batch, groups, ci, co;  ///< channels of one group
  WeightRowsDim dim[3];
  std::int64_t tile_batch, batch_tiles;
  std::int64_t taps;
  const WeightRowsTap* tap;
  std::int64_t rows, row_tasks;              ///< input channels of a task
  std::int64_t rows_at_once;                 ///< whose piece of the weights stays in the second-level cache
  std::int64_t channels_at_once;             ///< output channels whose panel is made at a time
  std::int64_t sample_pitch, channel_pitch;  ///< elements of a panel
  std::int64_t panel, result, offsets;       ///< elements of a worker's scratch
  bool reads_zeros;                          ///< some product reads beyond dy
};

struct WeightRowsKernels {
  int rows, positions;                                      ///< of a register tile
  std::int64_t most_k;                                      ///< products per pass over a register tile
  std::int64_t (*scratch_bytes)(const WeightRowsJob& job);  ///< of one worker
  void (*run)(const WeightRowsJob& job, const void* dy, const void* w, void* dx, void* scratch, std::int64_t task);
};

}  // namespace upconv::cpu
