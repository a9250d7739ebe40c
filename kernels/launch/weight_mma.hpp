// Launch of weight_mma.cuh and weight_sum.cuh, and what weight_wgmma.hpp shares of it, for any batch and spatial size;
// the tile is fixed, the number of blocks that share the positions is not.
#pragma once

#include "arguments/weight_mma.cuh"
#include "launch/clusters.hpp"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct WeightMmaFixed {
  bool folded = false;  ///< The batch takes D's place (fewer than three dimensions).
  bool x_last = false, y_last = false;
  bool x_early = false;  ///< Boxes begin at the multiple of 16 bytes before their first position of a line.
  Int groups = 1, ci = 1, co = 1, taps = 1;  ///< Channels a group.
  Int box_d = 1, box_h = 1, box_w = 1;       ///< Positions that a block brings in at once.
  Int late = 0;  ///< Positions of H that x does not have: its taps there are columns (weight_wgmma.cuh).
  Int tiles = 1, tile_words = 1;  ///< Blocks for one share of the positions; elements of dw in each.
  Int element_bytes = 4;
  Int x_vector = 1, y_vector = 1;                      ///< Most elements of x and of dy that one copy may take.
  Int occupancy = 1, shared_bytes = 0, threads = 256;  ///< Blocks of a multiprocessor; of a block.
  Int sum_slices = 8, sum_vector = 1;  ///< Threads that share the partial sums of an element; elements of a thread.
  bool turned = false;                 ///< x or dy are turned into the workspace, too, which leaves sums less.
  Int cluster = 1;  ///< Blocks that share a tile's boxes and add up their sums in a cluster; 1: any number may share.
  double box_cycles = 0.0, bytes_per_second = 1.0;  ///< What the number of shares is chosen by.
  double leave_cycles = 14.0 / 256;                 ///< Of an element of dw on its way out.
  double unhidden = 0.0;  ///< What part of the shorter of computing and moving bytes the longer does not hide.

  template <class Visit>
  void visit(Visit&& field) {
    field("folded", folded), field("x_last", x_last), field("y_last", y_last), field("x_early", x_early);
    field("groups", groups), field("ci", ci), field("co", co), field("taps", taps);
    field("box_d", box_d), field("box_h", box_h), field("box_w", box_w), field("late", late);
    field("tiles", tiles), field("tile_words", tile_words);
    field("element_bytes", element_bytes), field("x_vector", x_vector), field("y_vector", y_vector);
    field("occupancy", occupancy);
    field("shared_bytes", shared_bytes), field("threads", threads), field("sum_slices", sum_slices);
    field("sum_vector", sum_vector), field("cluster", cluster), field("turned", turned);
    field("box_cycles", box_cycles);
    field("bytes_per_second", bytes_per_second), field("unhidden", unhidden);
    field("leave_cycles", leave_cycles);
  }
  Int dw_size() const { return groups * ci * co * taps; }
};

/// What all distances between lines of `width` elements and multiples of 16 bytes are a multiple of, in elements.
inline Int line_unit(const WeightMmaFixed& f, Int width) {
  Int unit = 16 / f.element_bytes;
  while (width % unit != 0) unit /= 2;
  return unit;
}
/// Boxes of a line of x.
inline Int boxes_of_line(const WeightMmaFixed& f, Int width) {
  const Int early = f.x_early ? 16 / f.element_bytes - line_unit(f, width) : 0;  // at most
  return ceil_div(width + early, f.box_w);
}

struct WeightMmaLaunch {
  const char* refusal = nullptr;
  arguments::WeightMma arguments{};
  unsigned grid = 0;
  Int workspace_bytes = 0, batch = 1;
};

constexpr double weight_mma_clock_rate = 1.75e9;

struct WeightMmaShares {
  Int splits = 1, boxes_per_split = 1;
  double seconds = 0.0;  ///< Predicted for the whole.
};

/// Bytes of partial sums at most: as many as x and dy have, so that training's peak stays below PyTorch's; 8 MiB or
/// two of dw where that is more, and 64 MiB at any rate. `bytes` are those of x and dy.
constexpr Int weight_workspace_roof = 64 << 20;
inline Int weight_workspace_limit(Int dw_size, double bytes) {
  constexpr Int roof = weight_workspace_roof;
  const Int of_tensors = bytes < double(roof) ? Int(bytes) : roof;
  return least(roof, most(most(of_tensors, 8 << 20), 8 * dw_size));
}

/// Beside tensors that are turned there before: where these come channels first, all of it together as much and 1 MiB;
/// where they come channels last, 8 MiB or two of dw for the sums (PyTorch's peak there was not measured).
inline Int weight_turned_limit(Int dw_size, double bytes) {
  return least(weight_workspace_roof, weight_workspace_limit(dw_size, bytes) + (1 << 20));
}
inline Int weight_sums_limit(bool turned, Int dw_size, double bytes) {
  return weight_workspace_limit(dw_size, turned ? 0.0 : bytes);
}

/// weight_mma_shares() where the blocks of a cluster share a tile's boxes.
inline WeightMmaShares weight_cluster_shares(const WeightMmaFixed& f, Int boxes, double bytes, int processors) {
  WeightMmaShares shares;
  shares.splits = f.cluster, shares.boxes_per_split = ceil_div(boxes, f.cluster);
  const double rounds = double(ceil_div(f.tiles, most(clusters_at_once(f.cluster, processors), 1)));
  // What comes from other blocks: some 12 bytes a clock.
  const double exchange = double(f.tile_words) * 4.0 * double(f.cluster - 1) / double(f.cluster) / 12.0;
  const double leave = double(f.tile_words) * f.leave_cycles + exchange + 3000.0;
  const double s = rounds * (double(shares.boxes_per_split) * f.box_cycles + leave) / weight_mma_clock_rate;
  const double moved = bytes / f.bytes_per_second;
  shares.seconds = (s > moved ? s + f.unhidden * moved : moved + f.unhidden * s) +
                   double(f.dw_size() * f.element_bytes) / f.bytes_per_second + 4e-6;
  return shares;
}

/// How many blocks share `boxes` boxes of each tile: one to four waves of blocks, by the time they are predicted to
/// take. `bytes` are those of x and dy.
inline WeightMmaShares weight_mma_shares(const WeightMmaFixed& f, Int boxes, double bytes, int processors) {
  if (f.cluster > 1) return weight_cluster_shares(f, boxes, bytes, processors);
  WeightMmaShares best;
  const Int dw_size = f.dw_size(), slots = Int(processors) * f.occupancy;
  const Int most_splits = most(1, least(boxes, weight_sums_limit(f.turned, dw_size, bytes) / most(4 * dw_size, 1)));
  Int previous = 0;
  for (int waves = 1; waves <= 4; ++waves) {
    Int splits = least(most(waves * slots / f.tiles, 1), most_splits);
    const Int each = most(1, (boxes + splits - 1) / splits);
    splits = most(1, (boxes + each - 1) / each);
    if (splits == previous) continue;
    previous = splits;
    const double rounds = double((f.tiles * splits + slots - 1) / slots);
    const double leave = double(f.tile_words) * f.leave_cycles + 3000.0;  // the tile's way out, cycles
    double s = rounds * (double(each) * f.box_cycles * double(f.occupancy) + leave) / weight_mma_clock_rate;
    const double written = double(dw_size) * (splits > 1 ? 4.0 * double(splits) : double(f.element_bytes));
    const double moved = bytes / f.bytes_per_second;
    s = (s > moved ? s + f.unhidden * moved : moved + f.unhidden * s) + written / f.bytes_per_second + 3e-6;
    if (splits > 1) s += written / 5e12 + 4e-6 + double(splits) / 8 * 60e-9;
    if (best.seconds > 0.0 && best.seconds <= s) continue;
    best.splits = splits, best.boxes_per_split = each, best.seconds = s;
  }
  return best;
}

inline WeightMmaLaunch launch_of(const WeightMmaFixed& f, const Sizes& z, int processors) {
  WeightMmaLaunch l;
  const Int limit = (Int(1) << 31) - 4096;
  for (int d = 0; d < 3; ++d)
    if (z.out[d] >= limit || z.batch >= limit) l.refusal = "a size past 32-bit coordinates";
  if (most(f.groups * f.ci * volume(z.in), f.groups * f.co * volume(z.out)) >= Int(1) << 32)
    l.refusal = "a sample past 32-bit strides";
  if (l.refusal) return l;
  arguments::WeightMma& p = l.arguments;
  const Int in[3] = {f.folded ? z.batch : z.in[0], z.in[1] + f.late, z.in[2]};
  const Int out[3] = {f.folded ? z.batch : z.out[0], z.out[1], z.out[2]};
  const Int batch = f.folded ? 1 : z.batch;
  l.batch = z.batch;
  p.xs = dense_strides(f.x_last, f.groups * f.ci, z.in);
  p.ys = dense_strides(f.y_last, f.groups * f.co, z.out);
  if (f.folded) p.xs.d = p.xs.n, p.ys.d = p.ys.n;
  p.dw_size = f.dw_size();
  p.in_d = int(in[0]), p.in_h = int(in[1]), p.in_w = int(in[2]);
  p.out_d = int(out[0]), p.out_h = int(out[1]), p.out_w = int(out[2]);
  const Int box[3] = {f.box_d, f.box_h, f.box_w};
  const auto count = [&](int d) { return (in[d] + box[d] - 1) / box[d]; };
  p.boxes_d = int(count(0)), p.boxes_h = int(count(1)), p.boxes_w = int(boxes_of_line(f, in[2]));
  p.boxes = batch * count(0) * count(1) * p.boxes_w;
  p.quad_steps = int(box[0] * box[1] * box[2] * f.element_bytes / 128);

  const double bytes = double(f.element_bytes) * double(batch) *
                       (double(f.groups * f.ci) * double(in[0] * (in[1] - f.late) * in[2]) +
                        double(f.groups * f.co) * double(out[0] * out[1] * out[2]));
  p.splits = weight_mma_shares(f, p.boxes, bytes, processors).splits;
  if (f.tiles * p.splits > 0x7fffffff) l.refusal = "more than 2^31 blocks";
  p.partial = p.splits > 1;
  l.grid = static_cast<unsigned>(f.tiles * p.splits);
  l.workspace_bytes = p.partial ? p.splits * p.dw_size * 4 : 0;
  return l;
}

/// How many elements of a tensor's rows one copy may take: `widest`, four where `fours` says so, 2 or 1, as address and
/// strides allow.
inline int copy_vector(const WeightMmaFixed& f, const void* tensor, const arguments::Strides& s, Int width, Int widest,
                       bool fours = false) {
  const Int tried[] = {widest, fours ? Int(4) : Int(2), 2};
  for (const Int v : tried) {
    if (v > widest || s.w != 1) continue;
    if (aligned(tensor, v * f.element_bytes) && s.n % v == 0 && s.c % v == 0 && s.d % v == 0 && s.h % v == 0 &&
        width % v == 0)
      return int(v);
  }
  return 1;
}

/// The launch's arguments with its tensors.
inline arguments::WeightMma arguments_of(const WeightMmaFixed& f, const WeightMmaLaunch& l, const Tensors& t,
                                         void* workspace) {
  arguments::WeightMma p = l.arguments;
  p.x = static_cast<const char*>(t.a);
  p.dy = static_cast<const char*>(t.b);
  p.out = p.partial ? workspace : t.out;
  p.x_vector = copy_vector(f, p.x, p.xs, p.in_w, f.x_vector);
  p.y_vector = copy_vector(f, p.dy, p.ys, p.out_w, f.y_vector);
  return p;
}
inline Shape shape_of(const WeightMmaFixed& f, const WeightMmaLaunch& l) {
  return {l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)};
}

/// Adds up the shares that blocks left in the workspace.
template <class Start>
bool sum_up(const WeightMmaFixed& f, const arguments::WeightMma& p, const Tensors& t, void* workspace, Start&& start) {
  if (!p.partial) return true;
  Int size = p.dw_size;
  int splits = int(p.splits);
  void* dw = t.out;
  void* list[] = {&workspace, &dw, &size, &splits};
  return start(1, Shape{static_cast<unsigned>(ceil_div(size, 256 / f.sum_slices * f.sum_vector)), 256, 0}, list);
}

template <class Start>
bool run(const WeightMmaFixed& f, const WeightMmaLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  arguments::WeightMma p = arguments_of(f, l, t, workspace);
  void* list[] = {&p};
  return start(0, shape_of(f, l), list) && sum_up(f, p, t, workspace, start);
}

}  // namespace upconv::launch
