// What a launch of columns.cuh passes by value. launch/columns.hpp fills it, with void for Element.
#pragma once

#include "arguments/divider.cuh"
#include "arguments/strides.cuh"
#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

template <class Element>
struct Columns {
  TensorMap map;  // of x as (position, 1, 1, channel, sample); only where `bulk`
  const Element* x;
  const Element* w;
  const Element* bias;
  Element* y;
  Strides x_strides, y_strides;
  // x as it is read: rows of in_w elements, every row_pitch positions. (Where no shift tells them apart, all rows of a
  // sample are one.)
  int in_d, in_h, in_w;
  Divider row_pitch, rows, rows_h;  // positions of a row; rows of a sample, of a depth
  int first_d, first_h;             // of x, of the grid's first positions without shift
  int lead;                         // positions of x that a tile reads before its own
  int ahead;                        // rows that may lie before the first sample
  int used;                         // positions of x that a tile reads
  int vector_bits;                  // copies bring 2^vector_bits elements of x
  Divider row_pieces;               // of a row of x: so many copies
  int bulk;                         // 1: x comes by bulk copies, a box for 64 positions
  int shifted;                      // 16-bit rows of an odd number of elements: words, shifted into place
  // y
  Divider sample, grid_w, grid_h;  // positions of a sample, of a row, rows of a depth
  int out_d, out_h, out_w;
  int batch, positions;
  int first;  // of the first tile
  int own;    // positions that a warpgroup writes
  int step;   // from tile to tile
  int position_tiles, row_tiles;
  int band;                           // row tiles that share a band: its tiles follow each other, rows first
  Divider in_band, of_band, of_last;  // tiles of a band; row tiles of a band, and of the last
  int tiles;
  int copy_weights;  // whether w begins at a multiple of the pieces that are copied
  int store_bytes;   // that a lane writes at once
};

}  // namespace upconv::arguments
