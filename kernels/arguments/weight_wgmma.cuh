// What a launch of weight_wgmma.cuh passes by value. launch/weight_wgmma.hpp fills it.
#pragma once

#include "arguments/tensor_map.cuh"
#include "arguments/weight_mma.cuh"

namespace upconv::arguments {

struct WeightWgmma : WeightMma {
  int x_bulk = 0;    ///< x comes by bulk copies through the map, and through x_behind where its lines begin anywhere.
  int y_bulk = 0;    ///< dy comes by bulk copies through the map.
  int y_pieces = 0;  ///< dy's lines begin as far behind multiples of 16 bytes as the kernel's pitches have it.
  long long dy_size = 0;  ///< Elements of dy.
  int chain = 1;          ///< Boxes whose products are added up by the tensor cores alone.
  TensorMap x_map, x_behind, y_map;
};

}  // namespace upconv::arguments
