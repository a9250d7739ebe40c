// What a launch of input_wgmma.cuh passes by value. launch/input_wgmma.hpp fills it.
#pragma once

#include "arguments/strides.cuh"
#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

struct InputWgmma {
  const char* dy;
  const char* w;
  void* dx;
  Strides xs, ys;
  int in_d, in_h, in_w, out_d, out_h, out_w;
  int boxes_d, boxes_h, boxes_w;
  int all_boxes, tiles;  ///< Boxes of positions; those times input channels and groups.
  int vector;            ///< Elements of dy that may be copied at once.
  int lines;             ///< Lines of dy begin and end at multiples of 16 bytes.
  int store_bytes;       ///< Of dx that a lane writes at once, if more than an element.
  int w_bulk;            ///< w comes by bulk copies through the map.
  TensorMap w_map;
};

}  // namespace upconv::arguments
