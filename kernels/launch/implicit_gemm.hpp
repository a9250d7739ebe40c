// Launch of implicit_gemm_prepare.cuh, of what turns its source, and of implicit_gemm.cuh for any batch and spatial
// size. Kernels: 0 prepares, 1 products, 2 turns.
#pragma once

#include "arguments/implicit_gemm.cuh"
#include "launch/clusters.hpp"
#include "launch/sizes.hpp"
#include "launch/tensor_map.hpp"
#include "launch/turn.hpp"

namespace upconv::launch {

/// What the kernels were specialised for, as far as a launch depends on it.
struct ImplicitGemmFixed {
  bool backward = false;                   ///< dx.
  Int groups = 1, k = 1, n = 1, taps = 1;  ///< Source and result channels of a group.
  Int phases = 1;
  Int source_step[3] = {1, 1, 1}, out_step[3] = {1, 1, 1};
  Int columns = 32, blocks = 1, element_bytes = 2;  ///< Blocks of a multiprocessor.
  Int split = 1;                                    ///< Blocks of a cluster, which share a tile's steps.
  bool source_first = false, out_first = false;     ///< Channels come first there; the source is turned before.
  bool prepares = true;  ///< The weights are turned first; else w is a B operand as it lies, its
  bool b_rows = false;   ///< result channels contiguous, or its source channels.
  Int w_k = 0, w_n = 0, w_tap = 0, w_group = 0;
  Int shared_bytes = 0;
  int map_element = 9;  ///< MapElement of source and weights.

  template <class Visit>
  void visit(Visit&& field) {
    field("backward", backward), field("groups", groups), field("k", k), field("n", n), field("taps", taps);
    field("phases", phases);
    field("source_step[0]", source_step[0]), field("source_step[1]", source_step[1]);
    field("source_step[2]", source_step[2]);
    field("out_step[0]", out_step[0]), field("out_step[1]", out_step[1]), field("out_step[2]", out_step[2]);
    field("columns", columns), field("blocks", blocks), field("element_bytes", element_bytes);
    field("split", split), field("source_first", source_first), field("out_first", out_first);
    field("prepares", prepares), field("b_rows", b_rows);
    field("w_k", w_k), field("w_n", w_n), field("w_tap", w_tap), field("w_group", w_group);
    field("shared_bytes", shared_bytes), field("map_element", map_element);
  }
  Int stage_k() const { return 128 / element_bytes; }
  Int k_padded() const { return ceil_div(k, stage_k()) * stage_k(); }
};

struct ImplicitGemmLaunch {
  const char* refusal = nullptr;
  arguments::ImplicitGemm arguments{};
  unsigned grid = 0, prepare_grid = 0;
  TurnLaunch turn;
  Int turned_at = 0;  ///< In the workspace, behind the weights.
  Int workspace_bytes = 0;
  Int rounds = 0;  ///< Tiles that the busiest block computes, or as many clusters one after another.
};

constexpr Int implicit_gemm_rows = 128;

/// Whether bulk copies can bring the source: a position's channels at multiples of 16 bytes, and none of the next group
/// in a stage, which would meet zeros and might be infinite.
inline bool may_bulk(const ImplicitGemmFixed& f) {
  return f.groups * f.k * f.element_bytes % 16 == 0 && (f.groups == 1 || f.k % f.stage_k() == 0);
}

/// Else whether they lie so that 8 bytes may be read at once.
inline bool by_eights(const ImplicitGemmFixed& f) { return !may_bulk(f) && f.k * f.element_bytes % 8 == 0; }

/// The box of positions that leaves the fewest tiles; of equal ones the longest along W, then along H.
inline void choose_box(const ImplicitGemmFixed& f, const Int (&positions)[4], int (&box)[4]) {
  Int best = -1;
  const auto longest = [&](int d) {
    const Int step = d == 0 ? 1 : f.source_step[d - 1];
    return least(least(positions[d], implicit_gemm_rows), 255 / step + 1);
  };
  for (Int w = longest(3); w >= 1; --w)
    for (Int h = least(longest(2), implicit_gemm_rows / w); h >= 1; --h)
      for (Int d = least(longest(1), implicit_gemm_rows / (w * h)); d >= 1; --d) {
        const Int n = least(longest(0), implicit_gemm_rows / (w * h * d));
        const Int tiles = ceil_div(positions[0], n) * ceil_div(positions[1], d) * ceil_div(positions[2], h) *
                          ceil_div(positions[3], w);
        if (best >= 0 && tiles >= best) continue;
        best = tiles;
        box[0] = int(n), box[1] = int(d), box[2] = int(h), box[3] = int(w);
      }
}

inline ImplicitGemmLaunch launch_of(const ImplicitGemmFixed& f, const Sizes& z, int processors) {
  ImplicitGemmLaunch l;
  const Int limit = 1 << 30;
  if (z.batch > limit) l.refusal = "more than 2^30 samples";
  for (int d = 0; d < 3; ++d)
    if (z.in[d] > limit || z.out[d] > limit) l.refusal = "a side longer than 2^30";
  if (l.refusal || z.batch == 0) return l;
  arguments::ImplicitGemm& a = l.arguments;
  const Int(&source)[3] = f.backward ? z.out : z.in;
  const Int(&out)[3] = f.backward ? z.in : z.out;
  a.source_strides = dense_strides(true, f.groups * f.k, source);
  a.out_strides = dense_strides(!f.out_first, f.groups * f.n, out);
  l.turn = turn_launch({f.source_first, false, f.groups * f.k, volume(source), z.batch}, {}, f.element_bytes);
  l.refusal = l.turn.refusal;
  if (l.refusal) return l;
  a.batch = int(z.batch);
  Int positions[4] = {z.batch};
  for (int d = 0; d < 3; ++d) {
    a.source_size[d] = int(source[d]), a.out_size[d] = int(out[d]);
    positions[d + 1] = ceil_div(out[d], f.out_step[d]);
  }
  choose_box(f, positions, a.box);
  double tiles = 1.0;
  a.box_bytes = 128;
  for (int d = 0; d < 4; ++d) {
    a.boxes[d] = int(ceil_div(positions[d], a.box[d]));
    tiles *= a.boxes[d];
    a.box_bytes *= a.box[d];
  }
  const Int columns = f.groups * ceil_div(f.n, f.columns);
  if (tiles * f.phases * columns * f.split > 1 << 30) l.refusal = "more than 2^30 tiles";
  if (l.refusal) return l;
  a.positions = int(tiles);
  a.tiles = int(a.positions * f.phases * columns);
  // The blocks of a cluster stay for one tile.
  l.grid = static_cast<unsigned>(f.split > 1 ? a.tiles * f.split : least(a.tiles, f.blocks * processors));
  l.rounds = ceil_div(a.tiles, f.split > 1 ? most(1, clusters_at_once(f.split, processors)) : Int(l.grid));
  if (f.prepares) {
    l.prepare_grid = static_cast<unsigned>(f.groups * (f.k_padded() / f.stage_k()) * ceil_div(f.n * f.taps, 64));
    l.workspace_bytes = f.groups * f.taps * f.n * f.k_padded() * f.element_bytes;
  }
  if (!l.turn.needed()) return l;
  l.turned_at = ceil_div(l.workspace_bytes, 256) * 256;
  l.workspace_bytes = l.turned_at + l.turn.bytes();
  return l;
}

inline TensorBoxes source_boxes(const ImplicitGemmFixed& f, const arguments::ImplicitGemm& a, const void* source) {
  const Int e = f.element_bytes;
  TensorBoxes b;
  b.base = source, b.element = static_cast<MapElement>(f.map_element), b.swizzle = MapSwizzle::bytes_128;
  b.promotion = 3;
  b.dimension(f.groups * f.k, 0, f.stage_k());
  b.dimension(a.source_size[2], a.source_strides.w * e, a.box[3], f.source_step[2]);
  b.dimension(a.source_size[1], a.source_strides.h * e, a.box[2], f.source_step[1]);
  b.dimension(a.source_size[0], a.source_strides.d * e, a.box[1], f.source_step[0]);
  return b.dimension(a.batch, a.source_strides.n * e, a.box[0]);
}

/// B: [tap][result channel][source channel], or w: [source channel][tap][result channel] where f.b_rows, else
/// [result channel][tap][source channel].
inline TensorBoxes weight_boxes(const ImplicitGemmFixed& f, const void* weights) {
  const Int e = f.element_bytes;
  TensorBoxes b;
  b.base = weights, b.element = static_cast<MapElement>(f.map_element), b.swizzle = MapSwizzle::bytes_128;
  b.promotion = 3;
  if (f.prepares)
    return b.dimension(f.k_padded(), 0, f.stage_k())
        .dimension(f.taps, f.groups * f.n * f.k_padded() * e, 1)
        .dimension(f.groups * f.n, f.k_padded() * e, f.columns);
  if (f.b_rows)
    return b.dimension(f.n, 0, 64).dimension(f.taps, f.n * e, 1).dimension(f.groups * f.k, f.taps * f.n * e, 64);
  return b.dimension(f.k, 0, f.stage_k())
      .dimension(f.taps, f.k * e, 1)
      .dimension(f.groups * f.n, f.taps * f.k * e, f.columns);
}

template <class Start>
bool run(const ImplicitGemmFixed& f, const ImplicitGemmLaunch& l, Tensors t, void* workspace, Start&& start) {
  if (l.grid == 0) return true;
  const void* tensors[2] = {t.a, nullptr};
  if (!run(l.turn, tensors, static_cast<char*>(workspace) + l.turned_at, 2, start)) return false;
  t.a = tensors[0];
  arguments::ImplicitGemm a = l.arguments;
  a.source = static_cast<const char*>(t.a), a.bias = t.bias, a.out = static_cast<char*>(t.out);
  a.weights = t.b, a.w_k = f.w_k, a.w_n = f.w_n, a.w_tap = f.w_tap, a.w_group = f.w_group;
  a.wide = !f.out_first && aligned(t.out, 16) && f.n % (16 / f.element_bytes) == 0;
  const TensorBoxes source = source_boxes(f, a, t.a), weights = weight_boxes(f, f.prepares ? workspace : t.b);
  a.plain = by_eights(f) && aligned(t.a, 8) ? 2 : !may_bulk(f) || refusal_of(source) != nullptr;
  a.plain_weights = refusal_of(weights) != nullptr;
  if (!a.plain && !encode_map(start, a.source_map, source)) return false;
  if (!a.plain_weights && !encode_map(start, a.weight_map, weights)) return false;
  if (f.prepares) {
    void* prepare[] = {&a.weights, &workspace, &a.w_k, &a.w_n, &a.w_tap, &a.w_group};
    if (!start(0, Shape{l.prepare_grid, 256, 0}, prepare)) return false;
  }
  void* list[] = {&a, operands_of(t)};
  return start(1, Shape{l.grid, 384, static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
