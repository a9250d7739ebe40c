// What a launch of columns.cuh passes by value. launch/columns.hpp fills it, with void for Element.
#pragma once

#include "arguments/strides.cuh"

namespace upconv::arguments {

template <class Element>
struct Columns {
  const Element* x;
  const Element* w;
  const Element* bias;
  Element* y;
  Strides x_strides, y_strides;
  int batch;
  int in_d, in_h, in_w;
  int out_d, out_h, out_w;
  int first_d, first_h;         // of the grid of positions
  int grid_d, grid_h, grid_w;   // its size; columns of w that lie beyond x are zeros between two rows
  int positions;                // batch * grid
  int position_tiles, row_tiles;
  int band;                     // row tiles that share a band: its tiles follow each other, rows first
  int tiles;
  int copy_weights;             // whether w begins at a multiple of the pieces that are copied
};

}  // namespace upconv::arguments
