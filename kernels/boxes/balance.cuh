// Which box a worker (a block, or a ring of one) takes in each round. Where D is a loop, boxes of one depth take as
// long as taps reach it, which repeats every few depths; a worker whose boxes are always as many depths apart may have
// none but long ones. Then each round is turned by one depth more than the round before. Part of boxes.cuh.
#pragma once

namespace upconv {

/// A permutation of the boxes of each whole round, as launch/boxes.hpp (taken_box) has it too.
__device__ __forceinline__ int taken_box(const Arguments& a, int box) {
  if (!depth_loop || a.turn == 0) return box;
  const int round = box / a.round, first = round * a.round;
  return first > a.all_boxes - a.round ? box : first + (box - first + round * a.turn) % a.round;
}

}  // namespace upconv
