// Launch of columns.cuh for any batch and spatial size; the tile is fixed.
#pragma once

#include "arguments/columns.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct ColumnsFixed {
  bool x_last = false;
  Int groups = 1, k = 1, n = 1;  ///< Channels of x and y, a group.
  Int stride_d = 1, stride_h = 1, stride_w = 1, padding_d = 0, padding_h = 0, padding_w = 0;
  Int shift_w = 0;                      ///< The largest shift of W.
  Int rows = 1, block_rows = 1;         ///< Of a group; of a block.
  Int tile_positions = 8, staged = 32;  ///< That a block computes; that it holds of one segment.
  Int piece = 0;                        ///< Bytes of a copy of weights; 0: they are not copied.
  Int threads = 384, shared_bytes = 0;

  template <class Visit>
  void visit(Visit&& field) {
    field("x_last", x_last);
    field("groups", groups), field("k", k), field("n", n);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("shift_w", shift_w);
    field("rows", rows), field("block_rows", block_rows);
    field("tile_positions", tile_positions), field("staged", staged);
    field("piece", piece);
    field("threads", threads), field("shared_bytes", shared_bytes);
  }
};

struct ColumnsLaunch {
  const char* refusal = nullptr;  ///< Why the kernel cannot take these sizes.
  arguments::Columns<void> arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

inline ColumnsLaunch launch_of(const ColumnsFixed& f, const Sizes& s, int processors) {
  ColumnsLaunch l;
  for (int d = 0; d < 3; ++d)
    if (s.in[d] > 1 << 30 || s.out[d] > 1 << 30) l.refusal = "a side longer than 2^30";
  if (l.refusal || s.batch == 0 || volume(s.out) == 0) return l;
  // The grid: in D and H the positions of which some phase lies in y; rows of W whole, with zeros behind x.
  const Int first_d = f.padding_d / f.stride_d, first_h = f.padding_h / f.stride_h;
  const Int grid_d = (s.out[0] - 1 + f.padding_d) / f.stride_d + 1 - first_d;
  const Int grid_h = (s.out[1] - 1 + f.padding_h) / f.stride_h + 1 - first_h;
  const Int grid_w = most(s.in[2] + f.shift_w, (s.out[2] - 1 + f.padding_w) / f.stride_w + 1);
  if (double(s.batch) * double(grid_d) * double(grid_h) * double(grid_w) >= 2147483648.0 - 65536.0) {
    l.refusal = "2^31 positions or more";
    return l;
  }
  arguments::Columns<void>& a = l.arguments;
  a.x_strides = dense_strides(f.x_last, f.k * f.groups, s.in);
  a.y_strides = dense_strides(false, f.n * f.groups, s.out);
  a.batch = static_cast<int>(s.batch);
  a.in_d = static_cast<int>(s.in[0]), a.in_h = static_cast<int>(s.in[1]), a.in_w = static_cast<int>(s.in[2]);
  a.out_d = static_cast<int>(s.out[0]), a.out_h = static_cast<int>(s.out[1]), a.out_w = static_cast<int>(s.out[2]);
  a.first_d = static_cast<int>(first_d), a.first_h = static_cast<int>(first_h);
  a.grid_d = static_cast<int>(grid_d), a.grid_h = static_cast<int>(grid_h), a.grid_w = static_cast<int>(grid_w);
  const Int positions = s.batch * grid_d * grid_h * grid_w;
  a.positions = static_cast<int>(positions);
  const Int position_tiles = ceil_div(positions, f.tile_positions);
  const Int row_tiles = f.groups * ceil_div(f.rows, f.block_rows);
  // Offsets inside a tile have 32 bits, of elements.
  const double samples = double(f.staged) / (double(grid_d) * double(grid_h) * double(grid_w)) + 2.0;
  if (samples * double(a.x_strides.n) >= 4294967295.0) {
    l.refusal = "x of one tile spans 2^32 elements or more";
    return l;
  }
  if (double(position_tiles) * double(row_tiles) >= 2147483648.0) {
    l.refusal = "2^31 tiles or more";
    return l;
  }
  a.position_tiles = static_cast<int>(position_tiles), a.row_tiles = static_cast<int>(row_tiles);
  // Blocks that run at the same time share rows and positions; so many of each that they read the least.
  const double row_bytes = double(f.block_rows) * double(f.k), position_bytes = double(f.tile_positions) * double(f.k);
  Int band = 1;
  double fewest = 1e300;
  for (Int rows = 1; rows <= least(row_tiles, processors); ++rows) {
    const double across = double(ceil_div(processors, rows));
    const double bytes = double(rows) * row_bytes + (across < double(position_tiles) ? across : double(position_tiles)) *
                                                       position_bytes;
    if (bytes < fewest) fewest = bytes, band = rows;
  }
  a.band = static_cast<int>(band);
  a.tiles = static_cast<int>(position_tiles * row_tiles);
  l.grid = static_cast<unsigned>(least(a.tiles, processors));
  return l;
}

template <class Start>
bool run(const ColumnsFixed& f, const ColumnsLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Columns<void> a = l.arguments;
  a.x = t.a, a.w = t.b, a.bias = t.bias, a.y = t.out;
  a.copy_weights = f.piece > 0 && aligned(a.w, f.piece);
  void* list[] = {&a};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
