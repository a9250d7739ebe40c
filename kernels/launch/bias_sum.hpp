// Launch of bias_sum.cuh: long rows of a channel go to warps, anything shorter is summed down columns; what the blocks
// leave, ordered_sum adds up. Kernels: 0 bias_rows, 1 bias_columns, 2 ordered_sum.
#pragma once

#include "launch/ordered_sum.hpp"

namespace upconv::launch {

struct BiasSumFixed {
  bool last = false;  ///< dy has its channels last.
  Int channels = 1, element_bytes = 4, sum_bytes = 4;
  Int workspace_limit = 64 << 20;

  template <class Visit>
  void visit(Visit&& field) {
    field("last", last), field("channels", channels), field("element_bytes", element_bytes);
    field("sum_bytes", sum_bytes), field("workspace_limit", workspace_limit);
  }
};

struct BiasSumLaunch {
  const char* refusal = nullptr;
  bool rows = true;
  Int batch = 0, volume = 1, piece = 1, pieces = 1, units = 1, shares = 1;          ///< rows
  Int inner = 1, total = 0, width = 1, keep = 1, tiles = 1, lines = 1, chunks = 1;  ///< columns
  unsigned grid = 0, threads = 32;
  Int workspace_bytes = 0;
};

constexpr Int bias_most_threads = 256, bias_most_blocks = 1 << 30;
constexpr Int bias_shortest_row = 256;         ///< Bytes of a channel's row from which a warp is worth it.
constexpr Int bias_piece_bytes = 8192;         ///< Of a row, for a warp at a time.
constexpr Int bias_bytes_of_share = 64 << 10;  ///< Least a block reads of a channel that is split.

inline BiasSumLaunch launch_of(const BiasSumFixed& f, const Sizes& z, int processors) {
  BiasSumLaunch l;
  l.batch = z.batch;
  l.volume = volume(z.out);
  l.rows = !(f.last && f.channels > 1) && l.volume * f.element_bytes >= bias_shortest_row;
  if (l.rows) {
    if (f.channels > bias_most_blocks) {
      l.refusal = "more than 2^30 channels fill no grid";
      return l;
    }
    l.piece = bias_piece_bytes / f.element_bytes;
    l.pieces = ceil_div(l.volume, l.piece);
    const Int units = most(z.batch * l.pieces, 1), of_channel = z.batch * l.volume * f.element_bytes;
    const Int widest = least(least(of_channel / bias_bytes_of_share, ceil_div(units, bias_most_threads / 32)),
                             least(f.workspace_limit / (f.channels * f.sum_bytes), bias_most_blocks / f.channels));
    const Int shares = least(most(ceil_div(Int{16} * processors, f.channels), 1), most(widest, 1));
    l.units = ceil_div(units, shares);
    l.shares = ceil_div(units, l.units);
    l.threads = static_cast<unsigned>(32 * least(l.units, bias_most_threads / 32));
    l.grid = static_cast<unsigned>(f.channels * l.shares);
    l.workspace_bytes = l.shares > 1 ? l.shares * f.channels * f.sum_bytes : 0;
    return l;
  }
  l.inner = f.last ? 1 : l.volume;
  l.total = z.batch * f.channels * l.volume;
  const Int lanes = 16 / f.element_bytes, period = f.channels * l.inner;
  Int common = period, rest = lanes;  // gcd
  while (rest != 0) {
    const Int next = common % rest;
    common = rest, rest = next;
  }
  Int vectors = period / common;  // the shortest line of whole vectors
  if (vectors <= bias_most_threads) {
    vectors *= bias_most_threads / vectors;
    l.keep = period;
  } else {
    l.tiles = ceil_div(vectors, bias_most_threads);
    l.keep = vectors * lanes;
  }
  l.width = vectors * lanes;
  l.threads = static_cast<unsigned>(32 * ceil_div(ceil_div(vectors, l.tiles), 32));
  const Int lines = most(ceil_div(l.total, l.width), 1);
  const Int widest = ceil_div(lines, l.tiles == 1 ? 8 : 16);
  const Int chunks = least(most(ceil_div(Int{4} * processors, l.tiles), 1), widest);
  l.lines = ceil_div(lines, chunks);
  l.chunks = ceil_div(lines, l.lines);
  l.grid = static_cast<unsigned>(l.chunks * l.tiles);
  l.workspace_bytes = l.chunks * l.keep * f.sum_bytes;
  if (l.workspace_bytes > f.workspace_limit || l.chunks * l.tiles > bias_most_blocks)
    l.refusal = "the parts of its sums would exceed the workspace";
  return l;
}

template <class Start>
bool run(const BiasSumFixed& f, const BiasSumLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  const void* dy = t.a;
  void* db = t.out;
  Int channels = f.channels;
  if (l.rows) {
    void* parts = l.shares > 1 ? workspace : nullptr;
    Int batch = l.batch, volume = l.volume, piece = l.piece, pieces = l.pieces, units = l.units;
    void* list[] = {&dy, &parts, &db, &batch, &channels, &volume, &piece, &pieces, &units};
    if (!start(0, Shape{l.grid, l.threads, 0}, list)) return false;
    return l.shares == 1 || run_ordered_sum(start, 2, parts, db, channels, l.shares);
  }
  Int total = l.total, width = l.width, period = f.channels * l.inner, keep = l.keep, tiles = l.tiles, lines = l.lines;
  void* list[] = {&dy, &workspace, &total, &width, &period, &keep, &tiles, &lines};
  if (!start(1, Shape{l.grid, l.threads, 0}, list)) return false;
  return run_ordered_sum(start, 2, workspace, db, channels, l.chunks * (l.keep / period), l.inner);
}

}  // namespace upconv::launch
