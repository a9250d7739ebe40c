// Launch of gather_mma.cuh for any batch and spatial size; the tile is fixed.
#pragma once

#include "arguments/gather_mma.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct GatherMmaFixed {
  bool forward = true, source_last = false, out_last = false;
  Int groups = 1, source_channels = 1, out_channels = 1;  ///< Channels of all groups.
  Int weight_group = 0;                                   ///< Elements from one group's weights to the next.
  Int stride_d = 1, stride_h = 1, stride_w = 1, padding_d = 0, padding_h = 0, padding_w = 0;
  Int columns = 1, block_columns = 8;                  ///< Of one group; of a block.
  Int tile_n = 1, tile_d = 1, tile_h = 1, tile_w = 1;  ///< Positions of a block.
  Int reach_d = 1;                                     ///< Source planes that a tile of one plane reads.
  Int threads = 256, shared_bytes = 0, blocks = 1;     ///< Blocks of a multiprocessor.

  template <class Visit>
  void visit(Visit&& field) {
    field("forward", forward), field("source_last", source_last), field("out_last", out_last);
    field("groups", groups), field("source_channels", source_channels), field("out_channels", out_channels);
    field("weight_group", weight_group);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("columns", columns), field("block_columns", block_columns);
    field("tile_n", tile_n), field("tile_d", tile_d), field("tile_h", tile_h), field("tile_w", tile_w);
    field("reach_d", reach_d), field("threads", threads), field("shared_bytes", shared_bytes);
    field("blocks", blocks);
  }
};

struct GatherMmaLaunch {
  const char* refusal = nullptr;  ///< Why the kernel cannot take these sizes.
  arguments::GatherMma arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

/// Whether offsets inside a tile have 31 bits.
inline bool gather_mma_offsets_fit(Int tile_n, Int tile_d, Int reach_d, Int step_d, double sample, double plane) {
  return (tile_n - 1) * sample + double(step_d) * (tile_d + reach_d - 1) * plane < 2147483648.0;
}

inline GatherMmaLaunch launch_of(const GatherMmaFixed& f, const Sizes& s, int processors) {
  GatherMmaLaunch l;
  const Int stride[3] = {f.stride_d, f.stride_h, f.stride_w}, padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  const Int(&source)[3] = f.forward ? s.in : s.out;
  const Int(&out)[3] = f.forward ? s.out : s.in;
  for (int d = 0; d < 3; ++d)
    if (source[d] >= 1 << 30 || out[d] >= 1 << 30) l.refusal = "a dimension of 2^30 or more";
  if (s.batch >= 1 << 30) l.refusal = "a batch of 2^30 or more";
  const double plane = double(source[1]) * double(source[2]) * double(f.source_last ? f.source_channels : 1);
  const double sample = double(f.source_channels) * double(source[0]) * double(source[1]) * double(source[2]);
  if (!gather_mma_offsets_fit(f.tile_n, f.tile_d, f.reach_d, f.forward ? 1 : f.stride_d, sample, plane))
    l.refusal = "the source of one tile spans 2^31 elements or more";
  if (l.refusal) return l;

  arguments::GatherMma& a = l.arguments;
  const arguments::Strides from = dense_strides(f.source_last, f.source_channels, source);
  const arguments::Strides to = dense_strides(f.out_last, f.out_channels, out);
  a.source_n = from.n, a.source_c = from.c, a.source_d = from.d, a.source_h = from.h, a.source_w = from.w;
  a.out_n = to.n, a.out_c = to.c, a.out_d = to.d, a.out_h = to.h, a.out_w = to.w;
  a.weight_group = f.weight_group;
  a.batch = static_cast<int>(s.batch);
  Int grid[3];
  for (int d = 0; d < 3; ++d) {
    const Int first = f.forward ? floor_div(padding[d], stride[d]) : 0;
    grid[d] = f.forward ? ceil_div(out[d] + padding[d], stride[d]) - first : out[d];
    a.source_size[d] = static_cast<int>(source[d]);
    a.out_size[d] = static_cast<int>(out[d]);
    a.first[d] = static_cast<int>(first);
    a.padding[d] = static_cast<int>(padding[d]);
  }
  a.tiles_n = static_cast<int>(ceil_div(s.batch, f.tile_n));
  a.tiles_d = static_cast<int>(ceil_div(grid[0], f.tile_d));
  a.tiles_h = static_cast<int>(ceil_div(grid[1], f.tile_h));
  a.tiles_w = static_cast<int>(ceil_div(grid[2], f.tile_w));
  a.column_blocks = static_cast<int>(ceil_div(f.columns, f.block_columns));
  a.groups = static_cast<int>(f.groups);
  const Int tiles = Int(a.tiles_n) * a.tiles_d * a.tiles_h * a.tiles_w, across = Int(a.column_blocks) * a.groups;
  if (tiles == 0) return l;
  // Persistent: blocks keep their columns and walk over tiles, each as many as any other within one.
  const Int rounds = most(1, ceil_div(tiles * across, Int(processors) * f.blocks));
  l.grid = static_cast<unsigned>(across * least(tiles, most(1, ceil_div(tiles, rounds))));
  return l;
}

template <class Start>
bool run(const GatherMmaFixed& f, const GatherMmaLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::GatherMma a = l.arguments;
  a.source = t.a, a.weight = t.b, a.bias = t.bias, a.out = t.out;
  void* list[] = {&a, operands_of(t)};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
