// What a launch of weight_mma.cuh passes by value, and most of what one of weight_wgmma.cuh does. launch/weight_mma.hpp
// fills it.
#pragma once

#include "arguments/strides.cuh"

namespace upconv::arguments {

struct WeightMma {
  const char* x;
  const char* dy;
  void* out;  ///< dw, or `splits` partial sums of it in fp32.
  Strides xs, ys;
  long long boxes, splits;
  long long dw_size;
  int in_d, in_h, in_w, out_d, out_h, out_w;  ///< in_h: LATE more than x has, where weight_wgmma.cuh stacks taps.
  int boxes_d, boxes_h, boxes_w;
  int x_vector, y_vector;  ///< Elements that may be copied at once.
  int quad_steps;          ///< Known here, but ptxas unrolls a loop whose length it knows, and runs out of registers.
  int partial;             ///< 1: `out` is the workspace.
};

}  // namespace upconv::arguments
