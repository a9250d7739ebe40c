// What a launch of implicit_gemm_weight.cuh passes by value. launch/implicit_gemm_weight.hpp fills it.
#pragma once

#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

/// Taps of one launch at most: their maps fit the 4 KiB of a launch's arguments.
constexpr int implicit_gemm_weight_taps = 12;

/// Three numbers stand for D, H, W.
struct ImplicitGemmWeight {
  const char* x;
  const char* dy;
  float* sums;  ///< [split][tap][ci of all groups][co of a group].
  int plain;    ///< Threads bring the boxes: there are no maps.
  int first_tap, taps, splits;
  int batch, in[3], out[3];
  int box_n, box[3], boxes_n;  ///< Samples and positions of a box, of which there are at most 64; boxes of the batch.
  /// By tap of the launch: positions of x that reach dy by this tap, [first, end), and boxes of them.
  int first[implicit_gemm_weight_taps][3], end[implicit_gemm_weight_taps][3], boxes[implicit_gemm_weight_taps][3];
  TensorMap x_map[implicit_gemm_weight_taps], dy_map[implicit_gemm_weight_taps];  ///< As large as `end` says.
};
static_assert(sizeof(ImplicitGemmWeight) <= 4096, "arguments of a launch");

}  // namespace upconv::arguments
