// Launch of input_wgmma.cuh for any batch and spatial size.
#pragma once

#include "arguments/input_wgmma.cuh"
#include "launch/sizes.hpp"
#include "launch/tensor_map.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct InputWgmmaFixed {
  bool folded = false;                       ///< The batch takes D's place (fewer than three dimensions).
  Int groups = 1, ci = 1, co = 1, taps = 1;  ///< Channels a group.
  Int box_d = 1, box_h = 1, box_w = 1;       ///< Positions of a tile.
  Int columns = 8, row_elements = 32;        ///< Input channels of a tile; elements of a row of w that a copy takes.
  Int element_bytes = 4, vector = 1;         ///< Most elements of dy that one copy may take.
  Int split = 1;                             ///< Blocks of a cluster.
  Int shared_bytes = 0, threads = 384;
  int map_element = 11;  ///< MapElement of w.

  template <class Visit>
  void visit(Visit&& field) {
    field("folded", folded), field("groups", groups), field("ci", ci), field("co", co), field("taps", taps);
    field("box_d", box_d), field("box_h", box_h), field("box_w", box_w);
    field("columns", columns), field("row_elements", row_elements);
    field("element_bytes", element_bytes), field("vector", vector);
    field("split", split);
    field("shared_bytes", shared_bytes), field("threads", threads), field("map_element", map_element);
  }
};

struct InputWgmmaLaunch {
  const char* refusal = nullptr;
  arguments::InputWgmma arguments{};
  unsigned grid = 0;
  Int workspace_bytes = 0;
};

inline InputWgmmaLaunch launch_of(const InputWgmmaFixed& f, const Sizes& z, int processors) {
  InputWgmmaLaunch l;
  const Int limit = (Int(1) << 31) - 4096;
  for (int d = 0; d < 3; ++d)
    if (z.out[d] >= limit || z.in[d] >= limit || z.batch >= limit) l.refusal = "a size past 32-bit coordinates";
  const Int samples = f.folded ? f.box_d : 1;
  if (samples * most(f.groups * f.ci * volume(z.in), f.groups * f.co * volume(z.out)) >= limit)
    l.refusal = "samples past 32-bit distances";
  if (l.refusal) return l;
  arguments::InputWgmma& p = l.arguments;
  p.xs = dense_strides(false, f.groups * f.ci, z.in);
  p.ys = dense_strides(false, f.groups * f.co, z.out);
  if (f.folded) p.xs.d = p.xs.n, p.ys.d = p.ys.n;
  const Int in[3] = {f.folded ? z.batch : z.in[0], z.in[1], z.in[2]};
  const Int out[3] = {f.folded ? z.batch : z.out[0], z.out[1], z.out[2]};
  p.in_d = int(in[0]), p.in_h = int(in[1]), p.in_w = int(in[2]);
  p.out_d = int(out[0]), p.out_h = int(out[1]), p.out_w = int(out[2]);
  p.boxes_d = int(ceil_div(in[0], f.box_d)), p.boxes_h = int(ceil_div(in[1], f.box_h));
  p.boxes_w = int(ceil_div(in[2], f.box_w));
  const Int boxes = (f.folded ? 1 : z.batch) * Int(p.boxes_d) * p.boxes_h * p.boxes_w;
  const Int tiles = boxes * f.groups * ceil_div(f.ci, f.columns);
  if (tiles * f.split >= limit) l.refusal = "2^31 tiles or more";
  if (l.refusal) return l;
  p.all_boxes = int(boxes), p.tiles = int(tiles);
  // The blocks of a cluster stay for one tile.
  l.grid = static_cast<unsigned>(f.split > 1 ? tiles * f.split : least(tiles, processors));
  return l;
}

/// w as bulk copies take it: rows of an input channel, [output channel][tap] side by side, swizzled.
inline TensorBoxes w_boxes(const InputWgmmaFixed& f, const void* w) {
  const Int row = f.co * f.taps, rows = f.groups * f.ci, bytes = f.element_bytes;
  TensorBoxes b;
  b.base = w, b.element = static_cast<MapElement>(f.map_element), b.swizzle = MapSwizzle::bytes_128;
  return b.dimension(row, 0, f.row_elements)
      .dimension(rows, row * bytes, f.columns)
      .dimension(1, row * bytes, 1)
      .dimension(1, row * bytes, 1)
      .dimension(1, row * bytes, 1);
}

template <class Start>
bool run(const InputWgmmaFixed& f, const InputWgmmaLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::InputWgmma p = l.arguments;
  p.dy = static_cast<const char*>(t.a), p.w = static_cast<const char*>(t.b), p.dx = t.out;
  p.vector = 1;
  const Int tried[] = {f.vector, 4, 2};
  for (const Int v : tried)
    if (p.vector == 1 && v <= f.vector && aligned(t.a, v * f.element_bytes) && p.out_w % v == 0) p.vector = int(v);
  p.store_bytes = 0;
  const Int widths[] = {16, 8, 4};
  for (const Int bytes : widths)
    if (p.store_bytes == 0 && bytes > f.element_bytes && aligned(t.out, bytes) && p.in_w * f.element_bytes % bytes == 0)
      p.store_bytes = int(bytes);
  p.lines = aligned(t.a, 16) && p.out_w * f.element_bytes % 16 == 0;
  const TensorBoxes boxes = w_boxes(f, t.b);
  p.w_bulk = refusal_of(boxes) == nullptr;
  if (p.w_bulk && !encode_map(start, p.w_map, boxes)) return false;
  void* list[] = {&p};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
