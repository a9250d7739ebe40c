// Launch of tiles.cuh for any batch and spatial size; the tile is fixed.
#pragma once

#include "arguments/tiles.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct TilesFixed {
  bool backward = false, source_last = false, out_last = false, resident = false;
  bool vectors = false;                          ///< Rows of the source may be copied several words at a time.
  Int groups = 1, k = 1, n = 1;                  ///< Channels of source and result, a group.
  Int w_k = 0, w_n = 0, w_tap = 0, w_group = 0;  ///< Element strides of the weights.
  Int stride_h = 1, stride_w = 1, padding_h = 0, padding_w = 0;
  Int tile_rows = 1, tile_columns = 1, columns = 8;  ///< Positions of a block and its result channels.
  Int threads = 384, shared_bytes = 0;

  template <class Visit>
  void visit(Visit&& field) {
    field("backward", backward), field("source_last", source_last), field("out_last", out_last);
    field("resident", resident), field("vectors", vectors);
    field("groups", groups), field("k", k), field("n", n);
    field("w_k", w_k), field("w_n", w_n), field("w_tap", w_tap), field("w_group", w_group);
    field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_h", padding_h), field("padding_w", padding_w);
    field("tile_rows", tile_rows), field("tile_columns", tile_columns), field("columns", columns);
    field("threads", threads), field("shared_bytes", shared_bytes);
  }
};

struct TilesLaunch {
  const char* refusal = nullptr;
  arguments::Tiles<void> arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

inline TilesLaunch launch_of(const TilesFixed& f, const Sizes& s, int processors) {
  TilesLaunch l;
  const Int(&source)[3] = f.backward ? s.out : s.in;
  const Int(&out)[3] = f.backward ? s.in : s.out;
  for (int d = 0; d < 3; ++d)
    if (source[d] > 1 << 30 || out[d] > 1 << 30) l.refusal = "a side longer than 2^30";
  // Positions q of the phase grid: all of the result (dx), or those of which some phase is inside it.
  const Int row_begin = f.backward ? 0 : f.padding_h / f.stride_h;
  const Int row_end = f.backward ? s.in[1] : (s.out[1] - 1 + f.padding_h) / f.stride_h + 1;
  const Int column_begin = f.backward ? 0 : f.padding_w / f.stride_w;
  const Int column_end = f.backward ? s.in[2] : (s.out[2] - 1 + f.padding_w) / f.stride_w + 1;
  const Int tiles_row = ceil_div(row_end - row_begin, f.tile_rows);
  const Int tiles_column = ceil_div(column_end - column_begin, f.tile_columns);
  const Int shares = f.groups * ceil_div(f.n, f.columns);
  if (double(s.batch) * double(out[0]) * double(tiles_row) * double(tiles_column) * double(shares) >= 2147483648.0)
    l.refusal = "2^31 tiles or more";
  if (f.resident && shares > processors) l.refusal = "more blocks of weights than multiprocessors";
  if (l.refusal) return l;

  arguments::Tiles<void>& a = l.arguments;
  a.src_strides = dense_strides(f.source_last, f.k * f.groups, source);
  a.out_strides = dense_strides(f.out_last, f.n * f.groups, out);
  a.w_k = f.w_k, a.w_n = f.w_n, a.w_tap = f.w_tap, a.w_group = f.w_group;
  a.groups = static_cast<int>(f.groups);
  a.src_d = static_cast<int>(source[0]), a.src_h = static_cast<int>(source[1]), a.src_w = static_cast<int>(source[2]);
  a.out_d = static_cast<int>(out[0]), a.out_h = static_cast<int>(out[1]), a.out_w = static_cast<int>(out[2]);
  a.first_row = static_cast<int>(row_begin);
  a.first_column = static_cast<int>(column_begin);
  a.tiles_row = static_cast<int>(tiles_row);
  a.tiles_column = static_cast<int>(tiles_column);
  const Int tiles = s.batch * out[0] * tiles_row * tiles_column;
  a.tiles = static_cast<int>(f.resident ? tiles : tiles * shares);
  l.grid = static_cast<unsigned>(f.resident ? shares * least(tiles, processors / shares) : least(a.tiles, processors));
  return l;
}

template <class Start>
bool run(const TilesFixed& f, const TilesLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Tiles<void> a = l.arguments;
  a.src = t.a, a.w = t.b, a.bias = t.bias, a.out = t.out;
  const auto may_copy = [&](int words) { return f.vectors && a.src_w % words == 0 && aligned(a.src, 4 * words); };
  a.vector = may_copy(4) ? 4 : may_copy(2) ? 2 : 1;
  a.pairs = a.out_w % 2 == 0 && aligned(a.out, 8);
  void* list[] = {&a, operands_of(t)};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
