// Launch of weight_wgmma.cuh: what weight_mma.hpp says of blocks and shares, and x by bulk copies where its rows are
// multiples of 16 bytes.
#pragma once

#include "arguments/weight_wgmma.cuh"
#include "launch/tensor_map.hpp"
#include "launch/weight_mma.hpp"

namespace upconv::launch {

struct WeightWgmmaFixed : WeightMmaFixed {
  Int columns = 8, row_positions = 0;  ///< Of a bulk copy of x; 0 where boxes are too narrow for them.
  Int longest_chain = 0;               ///< Positions that tensor cores may add up alone; 0: any.
  int map_element = 7;                 ///< MapElement.

  template <class Visit>
  void visit(Visit&& field) {
    WeightMmaFixed::visit(field);
    field("columns", columns), field("row_positions", row_positions);
    field("longest_chain", longest_chain), field("map_element", map_element);
  }
};

/// x as bulk copies take it: some positions of a line of one sample's channels, swizzled as wide as they are.
inline TensorBoxes x_boxes(const WeightWgmmaFixed& f, const arguments::WeightMma& p, Int batch) {
  const Int bytes = f.element_bytes;
  TensorBoxes b;
  b.base = p.x, b.element = static_cast<MapElement>(f.map_element);
  const Int row = f.row_positions * bytes;
  b.swizzle = row == 128 ? MapSwizzle::bytes_128 : row == 64 ? MapSwizzle::bytes_64 : MapSwizzle::bytes_32;
  return b.dimension(p.in_w, 0, f.row_positions)
      .dimension(p.in_h, p.xs.h * bytes, 1)
      .dimension(p.in_d, p.xs.d * bytes, 1)
      .dimension(f.groups * f.ci, p.xs.c * bytes, f.columns)
      .dimension(batch, p.xs.n * bytes, 1);
}

template <class Start>
bool run(const WeightWgmmaFixed& f, const WeightMmaLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  arguments::WeightWgmma p;
  static_cast<arguments::WeightMma&>(p) = arguments_of(f, l, t, workspace);
  const Int positions = f.box_d * f.box_h * f.box_w, each = (p.boxes + p.splits - 1) / p.splits;
  p.chain = int(f.longest_chain > 0 ? least(most(1, f.longest_chain / positions), each) : each);
  if (f.row_positions > 0 && !f.x_last) {
    const TensorBoxes boxes = x_boxes(f, p, f.folded ? 1 : l.batch);
    p.x_bulk = refusal_of(boxes) == nullptr;
    if (p.x_bulk && !encode_map(start, p.x_map, boxes)) return false;
  }
  void* list[] = {&p};
  return start(0, shape_of(f, l), list) && sum_up(f, p, t, workspace, start);
}

}  // namespace upconv::launch
