// What a launch of implicit_gemm_weight.cuh passes by value. launch/implicit_gemm_weight.hpp fills it.
#pragma once

#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

/// Taps of one launch at most, and different maps of x and dy that these may have: they fit the 4 KiB of a launch's
/// arguments.
constexpr int implicit_gemm_weight_taps = 16, implicit_gemm_weight_maps = 26;

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
  /// By tap: which of the maps are those of x and dy. A map is as large as its taps' `end` says.
  unsigned char x_map[implicit_gemm_weight_taps], dy_map[implicit_gemm_weight_taps];
  TensorMap maps[implicit_gemm_weight_maps];
};
static_assert(sizeof(ImplicitGemmWeight) <= 4096, "arguments of a launch");

}  // namespace upconv::arguments
