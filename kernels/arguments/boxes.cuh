// What a launch of boxes.cuh passes by value. launch/boxes.hpp fills it, with void for Element.
#pragma once

#include "arguments/strides.cuh"
#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

template <class Element>
struct Boxes {
  TensorMap map;  ///< Of src as (w, h, d, channel of a group, sample and group); only where `bulk`.
  const Element* src;
  const unsigned* weights;  ///< As boxes_prepare.cuh prepared them.
  const Element* bias;
  Element* out;
  Strides src_strides, out_strides;
  int groups, samples;
  int src_size[3], out_size[3];
  int first[3];   ///< The first q of each dimension.
  int extent[4];  ///< Positions of a warpgroup's box: n, d, h, w (of MERGE's dimension, ROWS together).
  int columns;    ///< Rows of its products along w: extent[3], but where OVERLAPPED source elements,
  int from_w;     ///< whose first lies so far from the first of a box's positions.
  int put_from;   ///< OVERLAPPED, a tap's products of a row set as they are staged: where those of the first source
  int read_from;  ///< element lie, where the first position reads those of the first tap,
  int line_room;  ///< and both from line to line.
  int step[4];    ///< From box to box: n, d, h, w.
  int second[4];  ///< Where the next warpgroup's box lies from one's, where they share a source.
  int boxes[3];   ///< Boxes in w, h, d.
  int all_boxes;  ///< For one share of the result channels.
  int round;      ///< Boxes that are worked on at once,
  int turn;       ///< and those of one depth, by which rounds are turned (boxes/balance.cuh); 0: they are not.
  int line;       ///< LINE: columns of the result that a box writes of a row, at most.
  int box[4];     ///< Source elements of a stage: n, d, h, w.
  int pitch_h, pitch_d, pitch_c, pitch_n;  ///< Of the source in a stage, in elements.
  int next_place[2];       ///< Bytes from where the row after a plane's (a sample's) last would lie to the next one's
  long long next_from[2];  ///< first, in a stage and in memory.
  int bulk;                ///< 1: the source comes by bulk copies of `bulk_bytes`.
  int bulk_bytes;
  int alike;  ///< 1: rows of all channels begin equally far from multiples of 16 bytes.
};

}  // namespace upconv::arguments
