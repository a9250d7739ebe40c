// Launch of boxes.cuh for any batch and spatial size.
#pragma once

#include "launch/boxing.hpp"
#include "launch/tensor_map.hpp"

namespace upconv::launch {

/// What a launch with, or without, bulk copies of the source passes.
struct BoxesWay {
  arguments::Boxes<void> main{}, last{};
  unsigned grid = 0, last_grid = 0;  ///< 0: nothing to do.
};

struct BoxesLaunch {
  const char* refusal = nullptr;
  bool refitted = false;  ///< The stage was made for the boxes of other sizes.
  BoxesWay bulk, plain;
  bool may_bulk = false;
  double clocks = 0.0;
  Int workspace_bytes = 0;
};

inline void fill(const BoxesFixed& f, const BoxSpace& space, const Boxing& b, arguments::Boxes<void>& a) {
  const Int source[3] = {space.source[1], space.source[2], space.source[3]};
  const Int out[3] = {space.out[1], space.out[2], space.out[3]};
  a.src_strides = dense_strides(f.source_last, f.k * f.groups, source);
  a.out_strides = dense_strides(f.out_last, f.n * f.groups, out);
  a.groups = static_cast<int>(f.groups), a.samples = static_cast<int>(space.count[0]);
  for (int d = 0; d < 3; ++d) {
    a.src_size[d] = static_cast<int>(source[d]), a.out_size[d] = static_cast<int>(out[d]);
    a.first[d] = static_cast<int>(space.begin[d + 1]);
  }
  for (int d = 0; d < 4; ++d) {
    a.extent[d] = static_cast<int>(b.extent[d]), a.step[d] = static_cast<int>(b.step[d]);
    a.second[d] = static_cast<int>(b.second[d]), a.box[d] = static_cast<int>(b.box[d]);
  }
  a.columns = static_cast<int>(b.columns), a.from_w = static_cast<int>(b.from_w);
  a.put_from = static_cast<int>(b.put_from), a.read_from = static_cast<int>(b.read_from);
  a.line_room = static_cast<int>(b.line_room);
  for (int d = 0; d < 3; ++d) a.boxes[d] = static_cast<int>(ceil_div(space.count[3 - d], b.step[3 - d]));
  a.all_boxes = static_cast<int>(b.tiles), a.line = static_cast<int>(b.line);
  a.pitch_h = static_cast<int>(b.pitch_h), a.pitch_d = static_cast<int>(b.pitch_d);
  a.pitch_c = static_cast<int>(b.pitch_c), a.pitch_n = static_cast<int>(b.pitch_n);
  a.next_place[0] = static_cast<int>((b.pitch_d - b.box[2] * b.pitch_h) * f.element_bytes);
  a.next_place[1] = static_cast<int>((b.pitch_n - b.box[1] * b.pitch_d) * f.element_bytes);
  a.next_from[0] = (a.src_strides.d - b.box[2] * a.src_strides.h) * f.element_bytes;
  a.next_from[1] = (a.src_strides.n - b.box[1] * a.src_strides.d) * f.element_bytes;
  a.alike = a.src_strides.c % (16 / f.element_bytes) == 0;
  a.bulk_bytes = static_cast<int>(b.box[0] * b.box[1] * b.box[2] * b.box[3] * f.channels * f.element_bytes);
}

/// The box that a worker takes as its number `box` (kernels/boxes/balance.cuh).
inline Int taken_box(const arguments::Boxes<void>& a, Int turn, Int box) {
  const Int round = box / a.round, first = round * a.round;
  return first > a.all_boxes - a.round ? box : first + (box - first + round * turn) % a.round;
}

/// Taps of the depth loop that reach depth d of y.
inline Int taps_of_depth(const BoxesFixed& f, const BoxSpace& space, Int d) {
  Int taps = 0;
  for (Int tap = 0; tap < f.depth_taps; ++tap) {
    const Int at = d + f.padding_d - tap * f.depth_dilation;
    taps += at >= 0 && at % f.depth_stride == 0 && at / f.depth_stride < space.source[1];
  }
  return taps;
}

/// Clocks of the longest of some workers, in the first rounds.
inline double longest(const BoxesFixed& f, const BoxSpace& space, const arguments::Boxes<void>& a, Int turn) {
  const Int of_depth = Int{a.boxes[0]} * a.boxes[1], rounds = least(ceil_div(a.all_boxes, a.round), 64);
  double most_clocks = 0.0;
  for (Int worker = 0; worker < a.round; worker += ceil_div(a.round, 16)) {
    double clocks = 0.0;
    for (Int box = worker; box < least(a.all_boxes, rounds * a.round); box += a.round) {
      const Int depth = taken_box(a, turn, box) / of_depth % a.boxes[2];
      clocks += double(taps_of_depth(f, space, depth) * ceil_div(f.k, f.channels)) * f.clocks + f.store_clocks / 2;
    }
    most_clocks = clocks > most_clocks ? clocks : most_clocks;
  }
  return most_clocks;
}

inline BoxesLaunch launch_of(const BoxesFixed& f, const Sizes& s, int processors) {
  BoxesLaunch l;
  const BoxSpace space = box_space(f, s);
  for (int d = 1; d < 4; ++d)
    if (space.source[d] > 1 << 30 || space.out[d] > 1 << 30) l.refusal = "a side longer than 2^30";
  if (s.batch > 1 << 30) l.refusal = "more than 2^30 samples";
  const Int shares = f.groups * ceil_div(f.n, f.columns);
  if (l.refusal) return l;
  if (s.batch == 0) return l;
  l.workspace_bytes = shares * f.share_bytes;
  const auto grid = [&](const BoxSpace& of, const Boxing& b, arguments::Boxes<void>& a) {
    fill(f, of, b, a);
    const Int rings = f.shared ? 1 : f.warpgroups;
    const Int blocks = most(1, least(ceil_div(b.tiles, rings), processors / shares));
    const Int round = blocks * rings, of_depth = Int{a.boxes[0]} * a.boxes[1];
    a.round = static_cast<int>(round);
    if (f.depth_loop && f.depth_stride > 1 && of_depth < round &&
        longest(f, space, a, of_depth) < 0.95 * longest(f, space, a, 0))
      a.turn = static_cast<int>(of_depth);
    return static_cast<unsigned>(shares * blocks);
  };
  const auto launch = [&](const Boxings& b, BoxesWay& way) {
    way.grid = grid(b.main_space, b.main, way.main);
    if (b.parted) way.last_grid = grid(b.last_space, b.last, way.last);
    l.clocks = b.clocks;
  };
  const Bring without_bulk = f.source_last ? Bring::elements : Bring::rows;
  Boxings plain = best_boxings(f, space, processors, without_bulk);
  l.refitted = plain.clocks < 0.0;
  if (l.refitted) {
    plain.main = fitting_boxing(f, space, processors, without_bulk);
    plain.clocks = plain.main.clocks;
  }
  if (plain.clocks < 0.0) l.refusal = "no box of these sizes fits a stage";
  if (l.refusal) return l;
  if (too_many(plain)) l.refusal = "2^31 boxes or more";
  launch(plain, l.plain);
  if (!f.source_last && space.source[3] * f.element_bytes % 16 == 0) {
    const Boxings bulk = best_boxings(f, space, processors, Bring::bulk);
    if (bulk.clocks >= 0.0 && !too_many(bulk)) {
      l.may_bulk = true;
      launch(bulk, l.bulk);
      l.bulk.main.bulk = l.bulk.last.bulk = 1;
    }
  }
  return l;
}

/// The source as bulk copies see it: columns, rows, planes, channels of a group, samples and groups.
inline TensorBoxes source_boxes(const BoxesFixed& f, const arguments::Boxes<void>& a) {
  const Int e = f.element_bytes;
  TensorBoxes b;
  b.base = a.src;
  b.element = e == 4 ? MapElement::f32 : MapElement::u16;
  b.promotion = 3;
  b.dimension(a.src_size[2], 0, a.box[3]);
  b.dimension(a.src_size[1], a.src_strides.h * e, a.box[2]);
  b.dimension(a.src_size[0], a.src_strides.d * e, a.box[1]);
  b.dimension(f.k, a.src_strides.c * e, f.channels);
  b.dimension(Int{a.samples} * f.groups, f.k * a.src_strides.c * e, a.box[0]);
  return b;
}

template <class Start>
bool run(const BoxesFixed& f, const BoxesLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  if (l.plain.grid == 0) return true;
  const bool bulk = l.may_bulk && aligned(t.a, 16);
  BoxesWay way = bulk ? l.bulk : l.plain;
  long long w_k = f.w_k, w_n = f.w_n, w_tap = f.w_tap, w_group = f.w_group;
  long long count = f.groups * ceil_div(f.n, f.columns) * f.share_units;
  const void* w = t.b;
  void* prepare[] = {&w, &workspace, &w_k, &w_n, &w_tap, &w_group, &count};
  if (!start(0, Shape{static_cast<unsigned>(ceil_div(count, 256)), 256, 0}, prepare)) return false;
  const auto boxes = [&](arguments::Boxes<void>& a, unsigned grid) {
    a.src = t.a, a.weights = static_cast<const unsigned*>(workspace), a.bias = t.bias, a.out = t.out;
    if (bulk && !encode_map(start, a.map, source_boxes(f, a))) return false;
    void* list[] = {&a, operands_of(t)};
    return start(1, Shape{grid, static_cast<unsigned>(128 * (f.warpgroups + 1)), static_cast<unsigned>(f.shared_bytes)},
                 list);
  };
  return boxes(way.main, way.grid) && (way.last_grid == 0 || boxes(way.last, way.last_grid));
}

}  // namespace upconv::launch
