// Launch of positions_weight.cuh for any batch and spatial size; a thread's tile is fixed.
#pragma once

#include "arguments/positions_weight.cuh"
#include "launch/ordered_sum.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct PositionsWeightFixed {
  bool x_last = false, y_last = false;
  bool group_lanes = false;                      ///< Lanes along groups, not along lines.
  bool writes_dw = true;                         ///< One split is dw itself: fp32.
  Int groups = 1, ci = 1, co = 1, elements = 1;  ///< Channels a group; elements of dw.
  Int items = 1;                                 ///< Blocks for one share of the positions.
  Int uh = 1, threads = 256, blocks = 1;
  Int workspace_limit = 64 << 20;

  template <class Visit>
  void visit(Visit&& field) {
    field("x_last", x_last), field("y_last", y_last), field("group_lanes", group_lanes);
    field("writes_dw", writes_dw), field("groups", groups), field("ci", ci), field("co", co);
    field("elements", elements), field("items", items), field("uh", uh), field("threads", threads);
    field("blocks", blocks), field("workspace_limit", workspace_limit);
  }
};

struct PositionsWeightLaunch {
  const char* refusal = nullptr;
  arguments::PositionsWeight arguments{};
  unsigned grid = 0;
  Int workspace_bytes = 0;
};

inline PositionsWeightLaunch launch_of(const PositionsWeightFixed& f, const Sizes& z, int processors) {
  PositionsWeightLaunch l;
  const Int limit = (Int(1) << 31) - 65536;
  if (volume(z.in) * (f.x_last ? f.ci * f.groups : 1) > limit ||
      volume(z.out) * (f.y_last ? f.co * f.groups : 1) > limit) {
    l.refusal = "a sample's plane exceeds 2^31 elements";
    return l;
  }
  arguments::PositionsWeight& s = l.arguments;
  s.in_d = int(z.in[0]), s.in_h = int(z.in[1]), s.in_w = int(z.in[2]);
  s.out_d = int(z.out[0]), s.out_h = int(z.out[1]), s.out_w = int(z.out[2]);
  s.rows = int((s.in_h + f.uh - 1) / f.uh);
  const Int positions = Int(s.in_d) * s.rows * s.in_w;
  const Int room = f.workspace_limit / (4 * f.elements);
  if (double(positions) * double(z.batch) > double(1 << 30) || room < 1) {
    l.refusal = "more positions than 2^30, or dw larger than the workspace";
    return l;
  }
  s.positions = int(most(positions, 1));
  s.total = int(positions * z.batch);
  s.groups = int(f.groups);
  s.elements = f.elements;
  const Int lanes = f.group_lanes ? 32 : 1;
  const Int wanted = 2 * Int(processors) * f.blocks / f.items;
  const Int useful = (s.total + 2 * (f.threads / lanes) - 1) / (2 * (f.threads / lanes));
  s.splits = int(most(1, least(least(wanted, useful), least(room, 2048))));
  if (f.items * s.splits > limit) {
    l.refusal = "more than 2^31 blocks";
    return l;
  }
  l.grid = static_cast<unsigned>(f.items * s.splits);
  l.workspace_bytes = s.splits == 1 && f.writes_dw ? 0 : s.splits * s.elements * 4;
  return l;
}

template <class Start>
bool run(const PositionsWeightFixed& f, const PositionsWeightLaunch& l, const Tensors& t, void* workspace,
         Start&& start) {
  arguments::PositionsWeight s = l.arguments;
  const bool alone = l.workspace_bytes == 0;
  const void *x = t.a, *dy = t.b;
  void* parts = alone ? t.out : workspace;
  void* list[] = {&x, &dy, &parts, &s};
  if (!start(0, Shape{l.grid, static_cast<unsigned>(f.threads), 0}, list)) return false;
  return alone || run_ordered_sum(start, 1, parts, t.out, s.elements, s.splits);
}

}  // namespace upconv::launch
