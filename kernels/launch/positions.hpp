// Launch of positions.cuh for any batch and spatial size; a thread's tile is fixed.
#pragma once

#include "arguments/positions.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct PositionsFixed {
  bool dx = false, in_last = false, out_last = false;  ///< "in" is x (forward) or dy (dx), "out" y or dx.
  bool group_lanes = false;                            ///< Lanes along groups, not along lines.
  Int groups = 1, ci = 1, co = 1;                      ///< Summed and produced channels of a group.
  Int phases_d = 1, phases_h = 1, phases_w = 1, shift_d = 0, shift_h = 0, shift_w = 0;
  Int uh = 1, uw = 1, cot = 1, sums = 1;  ///< Positions, channels and accumulators of a thread.
  Int threads = 256, blocks = 1;          ///< Blocks of a multiprocessor.
  Int element_bytes = 4, weight_floats = 0;

  template <class Visit>
  void visit(Visit&& field) {
    field("dx", dx), field("in_last", in_last), field("out_last", out_last), field("group_lanes", group_lanes);
    field("groups", groups), field("ci", ci), field("co", co);
    field("phases_d", phases_d), field("phases_h", phases_h), field("phases_w", phases_w);
    field("shift_d", shift_d), field("shift_h", shift_h), field("shift_w", shift_w);
    field("uh", uh), field("uw", uw), field("cot", cot), field("sums", sums);
    field("threads", threads), field("blocks", blocks);
    field("element_bytes", element_bytes), field("weight_floats", weight_floats);
  }
};

/// Dynamic shared memory of a launch whose summed channels are cut into `slices`.
inline Int positions_shared_bytes(const PositionsFixed& f, Int slices) {
  const Int sums = slices > 1 ? f.sums * f.threads / 2 : 0;
  return 4 * (f.weight_floats + f.threads * f.phases_w + sums);
}

struct PositionsLaunch {
  const char* refusal = nullptr;
  arguments::Positions arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

inline PositionsLaunch launch_of(const PositionsFixed& f, const Sizes& z, int processors) {
  PositionsLaunch l;
  const Int limit = (Int(1) << 31) - 65536;
  const Int(&in)[3] = f.dx ? z.out : z.in;
  const Int(&out)[3] = f.dx ? z.in : z.out;
  if (volume(in) * (f.in_last ? f.ci * f.groups : 1) > limit ||
      volume(out) * (f.out_last ? f.co * f.groups : 1) > limit) {
    l.refusal = "a sample's plane exceeds 2^31 elements";
    return l;
  }
  const Int phases[3] = {f.phases_d, f.phases_h, f.phases_w}, shift[3] = {f.shift_d, f.shift_h, f.shift_w};
  const auto coarse = [&](int d) { return (out[d] + shift[d] + phases[d] - 1) / phases[d]; };
  arguments::Positions& s = l.arguments;
  s.in_d = int(in[0]), s.in_h = int(in[1]), s.in_w = int(in[2]);
  s.out_d = int(out[0]), s.out_h = int(out[1]), s.out_w = int(out[2]);
  const Int rows = (coarse(1) + f.uh - 1) / f.uh;
  const Int columns = f.uw > 1 ? (coarse(2) + 32 * f.uw - 1) / (32 * f.uw) * 32 : coarse(2);
  const Int positions = coarse(0) * rows * columns;
  if (double(positions) * double(z.batch) > double(1 << 30)) {
    l.refusal = "more than 2^30 positions";
    return l;
  }
  s.rows = int(rows), s.columns = int(columns);
  s.positions = int(positions);
  s.total = int(positions * z.batch);
  s.groups = int(f.groups);
  const Int lanes = f.group_lanes ? 32 : 1, tiles = (f.co + f.cot - 1) / f.cot;
  const Int slabs = tiles * ((f.groups + lanes - 1) / lanes);  // each has `total` positions
  const Int resident = Int(processors) * f.blocks;
  s.slices = 1;
  const auto blocks_for = [&](Int slices, Int steps) {
    const Int per = f.threads / slices / lanes * steps;
    return slabs * ((s.total + per - 1) / per);
  };
  while (s.slices < f.threads / 32 && f.ci >= 8 * s.slices && blocks_for(s.slices, 1) < resident) s.slices *= 2;
  s.steps = 1;
  while (s.steps < 16 && blocks_for(s.slices, 2 * s.steps) >= 6 * resident) s.steps *= 2;
  const Int per = f.threads / s.slices / lanes * s.steps;
  s.blocks = int((s.total + per - 1) / per);
  if (slabs * s.blocks > (Int(1) << 31) - 1) {
    l.refusal = "more than 2^31 blocks";
    return l;
  }
  l.grid = s.total == 0 ? 0 : static_cast<unsigned>(slabs * s.blocks);
  return l;
}

template <class Start>
bool run(const PositionsFixed& f, const PositionsLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Positions s = l.arguments;
  s.vectors = f.shift_w == 0 && s.out_w % f.phases_w == 0 && aligned(t.out, f.phases_w * f.element_bytes);
  const void *in = t.a, *w = t.b, *bias = t.bias;
  void* out = t.out;
  void* list[] = {&in, &w, &bias, &out, &s, operands_of(t)};
  return start(
      0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(positions_shared_bytes(f, s.slices))},
      list);
}

}  // namespace upconv::launch
