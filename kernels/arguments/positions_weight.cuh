// What a launch of positions_weight.cuh passes by value. launch/positions_weight.hpp fills it.
#pragma once

namespace upconv::arguments {

struct PositionsWeight {
  int in_d, in_h, in_w;
  int out_d, out_h, out_w;
  int rows;       ///< blocks of UH input rows in a plane
  int positions;  ///< threads' worth of work in a sample
  int total;      ///< positions times batch
  int splits;     ///< blocks that share the positions
  int groups;
  long long elements;  ///< of dw
};

}  // namespace upconv::arguments
