// What the candidate "cpu_depthwise" (depthwise.cpp: one channel a group, channels last) hands to its kernels
// (depthwise_kernels.cpp). Vectors run across channels, which are contiguous in every tensor; weights are packed to
// [tap][channel]. No tile and no halo: a tap that falls outside is left out.
#pragma once

#include <cstdint>

#include "epilogue/steps.hpp"

namespace upconv::cpu {

/// A tap of one dimension: source coordinate = source_step * q + shift.
struct DepthwiseTap {
  std::int32_t tap = 0, shift = 0;
};

struct DepthwiseJob {
  std::int64_t batch = 0, channels = 0;
  // Forward: source x, destination y, destination coordinate = destination_step*q + r - padding. dx: source dy,
  // destination dx. dw: source dy, "destination" x, as dx.
  std::int64_t source[3] = {}, destination[3] = {};
  std::int64_t source_step[3] = {1, 1, 1}, destination_step[3] = {1, 1, 1}, padding[3] = {};
  std::int64_t kernel[3] = {};
  const DepthwiseTap* taps[3] = {};           ///< of each dimension, by residue r
  const std::int32_t* first_tap[3] = {};      ///< taps of residue r: [first_tap[r], first_tap[r + 1])
  std::int64_t w_channel = 0, w_tap[3] = {};  ///< element strides of w
  std::int64_t slots = 1;                     ///< dw: partial sums
  EpilogueSteps epilogue;
};

struct DepthwiseKernels {
  void (*pack)(const DepthwiseJob& job, const void* w, void* packed);
  /// One row (n, d, h) of the destination; `scratch` as large as scratch_bytes says.
  void (*row)(const DepthwiseJob& job, const void* source, const void* packed, const void* bias, void* destination,
              const Operand* operands, std::int64_t row, void* scratch);
  /// Partial dw [tap][channel] of rows [first, end) of x.
  void (*weight_rows)(const DepthwiseJob& job, const void* x, const void* dy, void* partial, std::int64_t first,
                      std::int64_t end, void* scratch);
  void (*weight_reduce)(const DepthwiseJob& job, const void* partials, void* dw);
};

}  // namespace upconv::cpu
