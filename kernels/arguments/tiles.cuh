// What a launch of tiles.cuh passes by value. launch/tiles.hpp fills it, with void for Element.
#pragma once

#include "arguments/strides.cuh"

namespace upconv::arguments {

template <class Element>
struct Tiles {
  const Element* src;
  const Element* w;
  const Element* bias;
  Element* out;
  Strides src_strides, out_strides;
  long long w_k, w_n, w_tap, w_group;  // of source channel, result channel, tap and group
  int groups;
  int src_d, src_h, src_w;
  int out_d, out_h, out_w;
  int first_row, first_column;  // the first q of each dimension
  int tiles_row, tiles_column;  // tiles a plane of outputs
  int tiles;                    // work items: batch * out_d * tiles, times groups * blocks unless resident
  int vector;                   // words of src that may be copied at once: 4, 2 or 1
  int pairs;                    // whether lines of fp32 may be written two words at a time
};

}  // namespace upconv::arguments
