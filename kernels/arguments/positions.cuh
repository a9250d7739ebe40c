// What a launch of positions.cuh or scatter.cuh passes by value. launch/positions.hpp and src/cuda/scatter.cpp fill it.
#pragma once

namespace upconv::arguments {

struct Positions {
  int in_d, in_h, in_w;
  int out_d, out_h, out_w;
  int rows, columns;  ///< positions: blocks of UH rows per plane, and positions of a line (in threads)
  int positions;      ///< threads' worth of work of one (sample, group, channel tile); scatter: planes of positions
  int total;          ///< positions times batch
  int blocks;         ///< blocks a (group, channel tile)
  int steps;          ///< rounds of a block over its positions
  int slices;         ///< parts of a block that share the summed channels
  int vectors;        ///< output lines may be stored PHASES elements at a time
  int groups;
};

}  // namespace upconv::arguments
