// What a launch of gather_mma.cuh passes by value. launch/gather_mma.hpp fills it.
#pragma once

namespace upconv::arguments {

/// "source" is x (forward) or dy (dx), "out" is y or dx. Strides in elements.
struct GatherMma {
  const void* source;
  const void* weight;
  const void* bias;
  void* out;
  long long source_n, source_c, source_d, source_h, source_w;
  long long out_n, out_c, out_d, out_h, out_w;
  long long weight_group;
  int batch;
  int source_size[3], out_size[3];
  int first[3];    ///< Smallest position of the grid.
  int padding[3];  ///< Of the transposed convolution.
  int tiles_n, tiles_d, tiles_h, tiles_w;
  int column_blocks;  ///< Of one group.
  int groups;
};

}  // namespace upconv::arguments
