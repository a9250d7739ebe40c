// Closing steps of the CPU engine: what the chain plan (chain.cpp) hands to the kernels (closing_kernels.cpp), which
// are compiled once per instruction set. Values lie dense, channels first, in the compute type; a "flat" index counts
// elements of (n, channel, d, h, w) from the first sample of the slab on.
#pragma once

#include <cstdint>

#include "epilogue/steps.hpp"

namespace upconv::cpu {

/// Element-wise steps on values of one shape.
struct ClosingProgram {
  EpilogueSteps steps;
  const Operand* operands = nullptr;
  bool spatial = false;  ///< some operand differs along d, h or w
  std::int64_t n0 = 0;   ///< sample of the tensor that is the slab's first
  std::int64_t channels = 1, volume = 1, h = 1, w = 1;
};

/// Reductions and softmax: values seen as [outer][length][inner].
struct ClosingRange {
  std::int64_t length = 1, inner = 1;
  int reduction = 0;  ///< as ClosingStep::Reduction numbers them
};

struct ClosingPool {
  std::int64_t in[3], out[3], kernel[3], stride[3], padding[3];
  bool average, count_include_pad;
};

/// Most positions of one reduction or softmax over an outer dimension.
inline constexpr std::int64_t closing_block = 512;

/// Of one storage type and one instruction set. Pointers without a type are to the compute type unless said otherwise.
struct ClosingKernels {
  /// Mean and sum of squared differences of n values.
  void (*moments)(const void* values, std::int64_t n, double* mean, double* squares);
  /// out = program(in * scale + shift) on n values from `flat` on, all of one channel; out may be in.
  void (*affine)(const ClosingProgram& program, const void* in, void* out, std::int64_t flat, std::int64_t n,
                 double scale, double shift);
  /// out = program(in) of one sample whose channels have one value each.
  void (*channels)(const ClosingProgram& program, const void* in, void* out, std::int64_t n);
  /// LayerNorm of one row; weight and bias of the storage type or null.
  void (*row_norm)(const ClosingProgram& program, const void* in, void* out, std::int64_t flat, std::int64_t n,
                   const void* weight, const void* bias, double eps);
  /// Positions [first, first + count) of an outer index.
  void (*reduce)(const ClosingRange& range, const void* in, void* out, std::int64_t outer, std::int64_t first,
                 std::int64_t count);
  void (*softmax)(const ClosingProgram& program, const ClosingRange& range, const void* in, void* out,
                  std::int64_t outer, std::int64_t first, std::int64_t count);
  /// Rows of outputs [first, end) (counted over d and h) of one plane; `line` holds a row of inputs.
  void (*pool)(const ClosingProgram& program, const ClosingPool& pool, const void* in, void* out, std::int64_t flat,
               std::int64_t first, std::int64_t end, void* line);
  /// The prologue: rows of the storage type, along w or channels; `place` and the program's operands as for x.
  void (*rows)(const EpilogueSteps& steps, const Operand* operands, const RowPlace& place, const void* in, void* out,
               std::int64_t n);
  void (*widen)(const void* storage, void* values, std::int64_t n);
  void (*narrow)(const void* values, void* storage, std::int64_t n);
};

}  // namespace upconv::cpu
