// Launch of weight_wgmma.cuh: what weight_mma.hpp says of blocks and shares, and x by bulk copies where its rows are
// multiples of 16 bytes. Kernels: 0 products, 1 sum, 2 turn.
#pragma once

#include "arguments/weight_wgmma.cuh"
#include "launch/tensor_map.hpp"
#include "launch/turn.hpp"
#include "launch/weight_mma.hpp"

namespace upconv::launch {

struct WeightWgmmaFixed : WeightMmaFixed {
  bool x_turned = false, y_turned = false;  ///< Their channels come last; the kernel has them first.
  Int columns = 8, row_positions = 0;       ///< Of a bulk copy of x; 0 where boxes are too narrow for them.
  bool x_shifted = false;                   ///< They begin at the multiple of 16 bytes before a box's first position,
  Int x_period = 1;  ///< as with x_early; channels a multiple of this apart are brought together.
  Int y_channels = 0, y_lines_d = 1, y_lines_h = 1, y_span = 1;  ///< Of a bulk copy of dy; 0 where there is none.
  bool y_pieces = false;  ///< dy comes in pieces of 16 bytes where its strides, modulo these, are as here.
  Int y_class_c = 0, y_class_d = 0, y_class_h = 0;
  Int y_step = 1;         ///< Elements of dy from box to box of a line.
  Int longest_chain = 0;  ///< Positions that tensor cores may add up alone; 0: any.
  int map_element = 7;    ///< MapElement.

  template <class Visit>
  void visit(Visit&& field) {
    WeightMmaFixed::visit(field);
    field("x_turned", x_turned), field("y_turned", y_turned);
    field("columns", columns), field("row_positions", row_positions);
    field("x_shifted", x_shifted), field("x_period", x_period);
    field("y_channels", y_channels), field("y_lines_d", y_lines_d), field("y_lines_h", y_lines_h);
    field("y_span", y_span), field("y_step", y_step), field("y_pieces", y_pieces);
    field("y_class_c", y_class_c), field("y_class_d", y_class_d), field("y_class_h", y_class_h);
    field("longest_chain", longest_chain), field("map_element", map_element);
  }
};

/// Boxes whose products the tensor cores add up alone.
inline Int chain_of(const WeightWgmmaFixed& f, const arguments::WeightMma& p) {
  const Int positions = f.box_d * f.box_h * f.box_w, each = ceil_div(p.boxes, p.splits);
  return f.longest_chain > 0 ? least(most(1, f.longest_chain / positions), each) : each;
}

struct WeightWgmmaLaunch : WeightMmaLaunch {
  TurnLaunch turn;
  Int turned_at = 0;  ///< In the workspace.
};

inline WeightWgmmaLaunch launch_of(const WeightWgmmaFixed& f, const Sizes& z, int processors) {
  WeightWgmmaLaunch l;
  static_cast<WeightMmaLaunch&>(l) = launch_of(static_cast<const WeightMmaFixed&>(f), z, processors);
  if (l.refusal) return l;
  // A cluster adds up sums of one chain each; those of more go through the workspace.
  if (f.cluster > 1 && chain_of(f, l.arguments) * l.arguments.splits >= l.arguments.boxes)
    l.arguments.partial = 0, l.workspace_bytes = 0;
  l.turn = turn_launch({f.x_turned, true, f.groups * f.ci, volume(z.in), z.batch},
                       {f.y_turned, true, f.groups * f.co, volume(z.out), z.batch}, f.element_bytes);
  l.refusal = l.turn.refusal;
  if (!l.turn.needed()) return l;
  l.turned_at = ceil_div(l.workspace_bytes, 256) * 256;
  l.workspace_bytes = l.turned_at + l.turn.bytes();
  return l;
}

/// x as bulk copies take it: some positions of a line of one sample's channels, swizzled as wide as they are.
inline TensorBoxes x_boxes(const WeightWgmmaFixed& f, const arguments::WeightMma& p, Int batch) {
  const Int bytes = f.element_bytes;
  TensorBoxes b;
  b.base = p.x, b.element = static_cast<MapElement>(f.map_element);
  const Int row = f.row_positions * bytes;
  b.swizzle = row == 128 ? MapSwizzle::bytes_128 : row == 64 ? MapSwizzle::bytes_64 : MapSwizzle::bytes_32;
  return b.dimension(p.in_w, 0, f.row_positions)
      .dimension(p.in_h - f.late, p.xs.h * bytes, 1)
      .dimension(p.in_d, p.xs.d * bytes, 1)
      .dimension(f.groups * f.ci, p.xs.c * bytes, f.columns)
      .dimension(batch, p.xs.n * bytes, 1);
}

/// The same as runs of `count` elements: `x_period` channels of a sample are one row, in which lines may have any
/// length. Where a box reaches beyond a line it meets what lies behind, not zeros.
inline TensorBoxes x_runs(const WeightWgmmaFixed& f, const arguments::WeightMma& p, Int batch, Int count) {
  const Int bytes = f.element_bytes, row = f.x_period * p.xs.c;
  TensorBoxes b = x_boxes(f, p, batch);
  b.rank = 0;
  return b.dimension(row, 0, count)
      .dimension(batch * f.groups * f.ci / f.x_period, row * bytes, f.x_early ? f.columns : f.columns / f.x_period);
}
/// Whether a copy's positions are neighbours in memory, begin where bulk copies can (at multiples of 16 bytes), and
/// have coordinates that fit.
inline bool runs_fit(const WeightWgmmaFixed& f, const arguments::WeightMma& p, Int batch) {
  if ((f.folded ? Int(p.in_d) : batch) * f.groups * f.ci >= (Int(1) << 31) - 4096) return false;
  if (f.x_shifted || f.x_early)
    return f.row_positions <= f.box_w && f.ci % f.x_period == 0 && f.x_period * p.xs.c < (Int(1) << 31) - 4096;
  return f.box_w == p.in_w && f.row_positions <= f.box_w * f.box_h &&
         (f.folded || p.xs.d * f.element_bytes % 16 == 0) && p.xs.c < (Int(1) << 31) - 4096;
}

/// dy as bulk copies take it: all that a box of positions reads of a block's channels.
inline TensorBoxes y_boxes(const WeightWgmmaFixed& f, const arguments::WeightMma& p, Int batch) {
  const Int bytes = f.element_bytes;
  TensorBoxes b;
  b.base = p.dy, b.element = static_cast<MapElement>(f.map_element);
  return b.dimension(p.out_w, 0, f.y_span)
      .dimension(p.out_h, p.ys.h * bytes, f.y_lines_h)
      .dimension(p.out_d, p.ys.d * bytes, f.y_lines_d)
      .dimension(f.groups * f.co, p.ys.c * bytes, f.y_channels)
      .dimension(batch, p.ys.n * bytes, 1);
}

template <class Start>
bool run(const WeightWgmmaFixed& f, const WeightWgmmaLaunch& l, Tensors t, void* workspace, Start&& start) {
  const void* tensors[2] = {t.a, t.b};
  if (!run(l.turn, tensors, static_cast<char*>(workspace) + l.turned_at, 2, start)) return false;
  t.a = tensors[0], t.b = tensors[1];
  arguments::WeightWgmma p;
  static_cast<arguments::WeightMma&>(p) = arguments_of(f, l, t, workspace);
  p.chain = int(chain_of(f, p));
  p.dy_size = l.batch * p.ys.n;
  if (f.row_positions > 0 && !f.x_last) {
    TensorBoxes boxes = x_boxes(f, p, f.folded ? 1 : l.batch);
    const bool lines = !f.x_shifted && !f.x_early && f.row_positions <= f.box_w;
    if (!lines) boxes = x_runs(f, p, l.batch, f.row_positions);
    p.x_bulk = (lines || runs_fit(f, p, l.batch)) && !refusal_of(boxes);
    if (p.x_bulk && !encode_map(start, p.x_map, boxes)) return false;
    if (p.x_bulk && f.x_shifted) {
      boxes = x_runs(f, p, l.batch, 16 / f.element_bytes), boxes.swizzle = MapSwizzle::none;
      if (!encode_map(start, p.x_behind, boxes)) return false;
    }
  }
  // By how much boxes of dy begin apart, at least.
  const Int step = p.x_bulk && f.x_early ? f.y_step / f.box_w * line_unit(f, p.in_w)
                   : p.boxes_w > 1       ? f.y_step
                                         : 16 / f.element_bytes;
  if (f.element_bytes == 2) {
    p.x_vector = copy_vector(f, p.x, p.xs, p.in_w, f.x_vector, true);
    p.y_vector = copy_vector(f, p.dy, p.ys, p.out_w, f.y_vector, true);
  }
  while (step % p.y_vector != 0) p.y_vector /= 2;
  if (f.y_channels > 0 && !f.y_last) {
    const TensorBoxes boxes = y_boxes(f, p, f.folded ? 1 : l.batch);
    p.y_bulk = step * f.element_bytes % 16 == 0 && !refusal_of(boxes);
    if (p.y_bulk && !encode_map(start, p.y_map, boxes)) return false;
  }
  const Int each = 16 / f.element_bytes;
  p.y_pieces = f.y_pieces && p.ys.w == 1 && p.ys.c % each == f.y_class_c && p.ys.d % each == f.y_class_d &&
               p.ys.h % each == f.y_class_h && aligned(p.dy, f.element_bytes) &&
               (!f.folded || (f.box_d + 1) * p.ys.d < Int(1) << 32);  // distances within a box are 32 bits
  void* list[] = {&p};
  return start(0, shape_of(f, l), list) && sum_up(f, p, t, workspace, start);
}

}  // namespace upconv::launch
