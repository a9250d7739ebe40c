// Launch of columns.cuh for any batch and spatial size; the tile is fixed.
#pragma once

#include "arguments/columns.cuh"
#include "launch/divider.hpp"
#include "launch/sizes.hpp"
#include "launch/tensor_map.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct ColumnsFixed {
  bool turned = true, merged_h = false;
  Int element_bytes = 4;
  Int groups = 1, k = 1, n = 1;  ///< Channels of x and y, a group.
  Int stride_d = 1, stride_h = 1, stride_w = 1, padding_d = 0, padding_h = 0, padding_w = 0;
  Int shift_d = 0, shift_h = 0, shift_w = 0;   ///< The largest.
  Int rows = 1, block_rows = 1;                ///< Of a group; of a block.
  Int positions = 8, across = 1, staged = 32;  ///< Of a warpgroup; side by side; of x.
  Int split = 1;                               ///< Blocks of a cluster.
  Int piece = 0;                               ///< Bytes of a copy of weights; 0: they are not copied.
  Int box_channels = 0;                        ///< Of a box of 64 positions of x by a bulk copy; 0: there is none.
  Int threads = 384, shared_bytes = 0;

  template <class Visit>
  void visit(Visit&& field) {
    field("turned", turned), field("merged_h", merged_h), field("element_bytes", element_bytes);
    field("groups", groups), field("k", k), field("n", n);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("shift_d", shift_d), field("shift_h", shift_h), field("shift_w", shift_w);
    field("rows", rows), field("block_rows", block_rows);
    field("positions", positions), field("across", across), field("staged", staged);
    field("split", split), field("piece", piece), field("box_channels", box_channels);
    field("threads", threads), field("shared_bytes", shared_bytes);
  }
};

struct ColumnsLaunch {
  const char* refusal = nullptr;  ///< Why the kernel cannot take these sizes.
  arguments::Columns<void> arguments{};
  unsigned grid = 0;       ///< 0: nothing to do.
  bool may_bulk = false;   ///< x may come by bulk copies: its tiles end with a sample.
  bool may_shift = false;  ///< Rows of x may be brought by the words that they lie in, and shifted into place.
  static constexpr Int workspace_bytes = 0;
};

inline Int greatest_divisor(Int a, Int b) { return b == 0 ? a : greatest_divisor(b, a % b); }
inline Int round_to(Int v, Int to) { return ceil_div(v, to) * to; }

/// Where positions of W lie, and how many of them a warpgroup writes.
struct ColumnsRow {
  Int positions = 0;  ///< From row to row.
  Int first = 0, own = 0, lead = 0;
  Int store_bytes = 0;  ///< That a lane writes at once; 0: no tile of these sizes fits.
};

/// The rows of which `store_bytes` may be written at once; `least_row` positions are needed, a multiple of `unit`.
inline ColumnsRow columns_row_of(const ColumnsFixed& f, Int out_w, Int least_row, Int unit, Int store_bytes) {
  const Int bytes = f.stride_w * f.element_bytes, rotated = f.padding_w % f.stride_w;
  const Int aligned_to = store_bytes / greatest_divisor(store_bytes, bytes);
  ColumnsRow r;
  if (out_w * f.element_bytes % store_bytes != 0) return r;
  r.positions = round_to(least_row, unit * aligned_to / greatest_divisor(unit, aligned_to));
  r.lead = f.shift_w + (f.merged_h ? f.shift_h * r.positions : 0);
  r.first = unit == 1 ? f.padding_w / f.stride_w : 0;
  if ((f.padding_w / f.stride_w - r.first) % aligned_to != 0) return r;
  // As many as there are, as the x of a tile allows, in whole sectors of 32 bytes if that costs little.
  const Int room = (f.staged - r.lead - (rotated > 0 ? 1 : 0)) / f.across;
  const Int most_own = least(room, f.positions - (rotated > 0 ? 1 : 0));
  const Int sector = 32 / greatest_divisor(32, bytes);
  const Int starts[] = {sector, aligned_to};
  for (const Int to : starts) {
    const Int step = to * unit / greatest_divisor(to, unit);
    r.own = most_own > 0 ? most_own / step * step : 0;
    if (10 * r.own >= 9 * most_own) break;
  }
  if (r.own > 0) r.store_bytes = store_bytes;
  return r;
}

/// Positions of a row of W at least: x with zeros for its shifts, and all that some phase writes.
inline Int least_row(const ColumnsFixed& f, const Sizes& s) {
  return most(s.in[2] + f.shift_w, (s.out[2] - 1 + f.padding_w) / f.stride_w + 1);
}

/// The positions of a problem, and the tiles that cover them.
struct ColumnsGrid {
  const char* refusal = nullptr;  ///< Why the kernel cannot take these sizes.
  bool linear = false;            ///< Without shifts all rows of a sample are one.
  bool may_shift = false;         ///< Rows of x may be brought by the words that they lie in, and shifted into place.
  bool may_bulk = false;          ///< x may come by bulk copies: its tiles end with a sample.
  Int first_d = 0, first_h = 0, d = 1, h = 1;
  ColumnsRow row;
  Int sample = 0, row_pitch = 0;  ///< Positions of a sample, of what counts as a row.
  Int step = 1, ahead = 0, position_tiles = 1, row_tiles = 1;
};

inline ColumnsGrid grid_of(const ColumnsFixed& f, const Sizes& s) {
  ColumnsGrid g;
  // In D and H the positions of which some phase lies in y; rows of W whole, with zeros behind x.
  g.first_d = f.padding_d / f.stride_d, g.first_h = f.merged_h ? 0 : f.padding_h / f.stride_h;
  g.d = (s.out[0] - 1 + f.padding_d) / f.stride_d + 1 - g.first_d;
  g.h = (s.out[1] - 1 + f.padding_h) / f.stride_h + 1 - g.first_h;
  if (f.merged_h) g.h = most(g.h, s.in[1] + f.shift_h);
  Int least_w = least_row(f, s);
  g.linear = f.shift_d == 0 && f.shift_h == 0 && f.shift_w == 0 && g.first_d == 0 && g.first_h == 0 && g.d == s.in[0] &&
             g.h == s.in[1] && least_w == s.in[2];
  const Int unit = f.turned || g.linear ? 1 : 8;
  // Rows of an odd number of 16-bit elements: the words that they lie in end inside the row's positions.
  g.may_shift = f.turned && f.element_bytes == 2 && !g.linear && s.in[2] % 2 == 1;
  if (g.may_shift) least_w = most(least_w, s.in[2] + 1);
  const Int widths[] = {16, 8, 2 * f.element_bytes, f.element_bytes};
  for (const Int bytes : widths) {
    const ColumnsRow r = columns_row_of(f, s.out[2], least_w, unit, bytes);
    if (r.store_bytes == 0 || (g.linear && r.positions != least_w)) continue;
    if (bytes > f.element_bytes && 100 * r.positions > 108 * round_to(least_w, unit)) continue;
    g.row = r;
    break;
  }
  if (g.row.store_bytes == 0) {
    g.refusal = "rows of x longer than this tile takes";
    return g;
  }
  if (!f.turned) g.row.own = g.row.own / 8 * 8;
  if (!f.turned && (g.row.own == 0 || g.row.first % 8 != 0)) {
    g.refusal = "a tile of fewer than 8 positions";
    return g;
  }
  g.sample = g.d * g.h * g.row.positions;
  if (!f.turned) g.sample = round_to(g.sample, 8);
  g.step = g.row.own * f.across;
  // Tiles that begin anew with each sample, where that costs little. Channels beyond a group's are zeros, or nobody's.
  g.may_bulk = f.box_channels > 0 && g.linear && volume(s.in) * f.element_bytes % 16 == 0 &&
               (f.groups == 1 || f.k % f.box_channels == 0) && 100 * round_to(g.sample, g.step) <= 105 * g.sample;
  if (g.may_bulk) g.sample = round_to(g.sample, g.step);
  g.row_pitch = g.linear ? g.sample : g.row.positions, g.ahead = g.row.lead / g.row_pitch + 1;
  if (double(s.batch) * double(g.sample) + double(g.ahead + 2) * double(g.row_pitch) >= 2147483648.0 - 65536.0) {
    g.refusal = "2^31 positions or more";
    return g;
  }
  g.position_tiles = most(1, ceil_div(s.batch * g.sample - g.row.first, g.step));
  g.row_tiles = f.groups * ceil_div(f.rows, f.block_rows);
  return g;
}

inline ColumnsLaunch launch_of(const ColumnsFixed& f, const Sizes& s, int processors) {
  ColumnsLaunch l;
  for (int d = 0; d < 3; ++d)
    if (s.in[d] > 1 << 30 || s.out[d] > 1 << 30) l.refusal = "a side longer than 2^30";
  if (l.refusal || s.batch == 0 || volume(s.out) == 0) return l;
  const ColumnsGrid g = grid_of(f, s);
  l.refusal = g.refusal, l.may_shift = g.may_shift, l.may_bulk = g.may_bulk;
  if (l.refusal) return l;
  arguments::Columns<void>& a = l.arguments;
  a.x_strides = dense_strides(false, f.k * f.groups, s.in);
  a.y_strides = dense_strides(false, f.n * f.groups, s.out);
  a.in_d = g.linear ? 1 : static_cast<int>(s.in[0]);
  a.in_h = g.linear ? 1 : static_cast<int>(s.in[1]);
  a.in_w = static_cast<int>(g.linear ? volume(s.in) : s.in[2]);
  a.row_pitch = divider(g.row_pitch);
  a.rows = divider(g.linear ? 1 : g.d * g.h);
  a.rows_h = divider(g.linear ? 1 : g.h);
  a.first_d = static_cast<int>(g.first_d), a.first_h = static_cast<int>(g.first_h);
  a.lead = static_cast<int>(g.row.lead), a.ahead = static_cast<int>(g.ahead);
  a.used = static_cast<int>(g.row.lead + g.step + (f.padding_w % f.stride_w > 0 ? 1 : 0));
  a.sample = divider(g.sample), a.grid_w = divider(g.row.positions), a.grid_h = divider(g.h);
  a.out_d = static_cast<int>(s.out[0]), a.out_h = static_cast<int>(s.out[1]), a.out_w = static_cast<int>(s.out[2]);
  a.batch = static_cast<int>(s.batch);
  const Int positions = s.batch * g.sample;
  a.positions = static_cast<int>(positions);
  a.first = static_cast<int>(g.row.first), a.own = static_cast<int>(g.row.own), a.step = static_cast<int>(g.step);
  a.store_bytes = static_cast<int>(g.row.store_bytes);
  // Offsets inside a tile have 32 bits, of elements.
  const double samples = double(f.staged) / double(g.sample) + 2.0;
  if (samples * double(a.x_strides.n) >= 4294967295.0) {
    l.refusal = "x of one tile spans 2^32 elements or more";
    return l;
  }
  if (double(g.position_tiles) * double(g.row_tiles) * double(f.split) >= 2147483648.0) {
    l.refusal = "2^31 tiles or more";
    return l;
  }
  a.position_tiles = static_cast<int>(g.position_tiles), a.row_tiles = static_cast<int>(g.row_tiles);
  // Blocks that run at the same time share rows and positions; so many of each that they read the least.
  const double row_bytes = double(f.block_rows) * double(f.k), position_bytes = double(g.step) * double(f.k);
  Int band = 1;
  double fewest = 1e300;
  for (Int rows = 1; rows <= least(g.row_tiles, processors); ++rows) {
    const double across = double(ceil_div(processors, rows));
    const double bytes = double(rows) * row_bytes +
                         (across < double(g.position_tiles) ? across : double(g.position_tiles)) * position_bytes;
    if (bytes < fewest) fewest = bytes, band = rows;
  }
  a.band = static_cast<int>(band);
  a.in_band = divider(band * g.position_tiles), a.of_band = divider(band);
  a.of_last = divider((g.row_tiles - 1) % band + 1);
  a.tiles = static_cast<int>(g.position_tiles * g.row_tiles);
  l.grid = static_cast<unsigned>(f.split > 1 ? a.tiles * f.split : least(a.tiles, processors));
  return l;
}

/// x as bulk copies take it: all positions of a sample side by side, swizzled.
inline TensorBoxes x_boxes(const ColumnsFixed& f, const arguments::Columns<void>& a) {
  const Int channel = a.x_strides.c * f.element_bytes;
  TensorBoxes b;
  b.base = a.x, b.element = MapElement::u16, b.swizzle = MapSwizzle::bytes_128;
  return b.dimension(a.in_w, 0, 64)
      .dimension(1, channel, 1)
      .dimension(1, channel, 1)
      .dimension(f.k * f.groups, channel, f.box_channels)
      .dimension(a.batch, a.x_strides.n * f.element_bytes, 1);
}

template <class Start>
bool run(const ColumnsFixed& f, const ColumnsLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Columns<void> a = l.arguments;
  a.x = t.a, a.w = t.b, a.bias = t.bias, a.y = t.out;
  a.copy_weights = f.piece > 0 && aligned(a.w, f.piece);
  // The widest copies that all rows of x allow; then the widest stores that y does.
  while (f.element_bytes << a.vector_bits < 16 && a.in_w % (2 << a.vector_bits) == 0 &&
         aligned(a.x, f.element_bytes * (2 << a.vector_bits)))
    ++a.vector_bits;
  a.shifted = l.may_shift && aligned(a.x, 4);
  if (a.shifted) a.vector_bits = 1;
  if (a.shifted)
    a.row_pieces = divider(ceil_div(a.in_w, 2));
  else
    a.row_pieces = divider((f.turned ? Int(a.in_w) : Int(a.row_pitch.divisor)) >> a.vector_bits);
  if (!aligned(a.y, a.store_bytes)) a.store_bytes = static_cast<int>(f.element_bytes);
  if (l.may_bulk) {
    const TensorBoxes boxes = x_boxes(f, a);
    a.bulk = refusal_of(boxes) == nullptr;
    if (a.bulk && !encode_map(start, a.map, boxes)) return false;
  }
  void* list[] = {&a, operands_of(t)};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
