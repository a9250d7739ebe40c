// What a launch of implicit_gemm.cuh passes by value. launch/implicit_gemm.hpp fills it.
#pragma once

#include "arguments/strides.cuh"
#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

/// "source" is x (forward) or dy (dx), "out" is y or dx; arrays are sample, D, H, W, or D, H, W.
struct ImplicitGemm {
  const char* source;
  const void* weights;                 ///< w, where it comes plainly.
  long long w_k, w_n, w_tap, w_group;  ///< Elements.
  const void* bias;
  char* out;
  Strides source_strides, out_strides;
  int batch, source_size[3], out_size[3];
  int box[4], boxes[4];  ///< Positions of a tile; tiles of all positions of a phase.
  int box_bytes;         ///< Of the source's box in shared memory.
  int positions, tiles;  ///< Boxes of one phase; those times phases and column tiles.
  int plain;             ///< No tensor map describes the source: it comes element by element, or (2) by 8 bytes.
  int plain_weights;     ///< So do the weights, from where they lie.
  int wide;              ///< Channels of out lie so that 16 bytes may be written at once.
  TensorMap source_map, weight_map;
};

}  // namespace upconv::arguments
