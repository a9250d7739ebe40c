// Which box a worker (a block, or a ring of one) takes in each round. Where D is a loop, boxes of one depth take as
// long as taps reach it, which repeats every few depths; a worker whose boxes are always as many depths apart may have
// none but long ones. Then each round is turned by one depth more than the round before. And which shape it has: where
// PARTED, boxes of the last columns come beside those of the same rows, with which they share sectors. Part of
// boxes.cuh.
#pragma once

namespace upconv {

/// A permutation of the boxes of each whole round, as launch/boxes.hpp (taken_box) has it too.
__device__ __forceinline__ int taken_box(const Arguments& a, int box) {
  if (!depth_loop || a.turn == 0) return box;
  const int round = box / a.round, first = round * a.round;
  return first > a.all_boxes - a.round ? box : first + (box - first + round * a.turn) % a.round;
}

/// A box's shape and its number among the boxes of that shape.
struct Numbered {
  int shape, number;

  __device__ __forceinline__ Numbered(const Arguments& a, int box) : shape(0), number(taken_box(a, box)) {
    if constexpr (PARTED) {
      const long long second = a.second_boxes, all = a.all_boxes;
      const int before = static_cast<int>(box * second / all);
      shape = static_cast<int>((box + 1) * second / all) - before;
      number = shape == 1 ? before : box - before;
    }
  }
};

}  // namespace upconv
