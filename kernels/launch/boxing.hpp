// The boxes of boxes.cuh for any batch and spatial size: their extents, how their source is brought, and the cheapest
// of them.
#pragma once

#include "arguments/boxes.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it. Arrays are D, H, W.
struct BoxesFixed {
  bool backward = false, source_last = false, out_last = false;
  bool shared = false;      ///< The two warpgroups' boxes lie side by side.
  bool depth_loop = false;  ///< D is a loop, and a box lies in one depth of the result.
  bool wide = false;        ///< Boxes are multiples of 16 positions wide, or one row of fewer.
  bool direct = false;      ///< Sums go to the result from registers.
  bool line = false;        ///< Boxes are rows of positions, written in whole sectors.
  bool overlapped = false;  ///< Taps of W are columns; a box's rows of products are source elements.
  Int room = 0;             ///< Overlapped: staged source elements of a tap and row set, and places at their ends.
  Int warpgroups = 2;       ///< That multiply.
  Int merge = -1, rows = 1, segments = 1, columns = 8;
  Int element_bytes = 4, channels = 8;           ///< channels: of a stage.
  Int groups = 1, k = 1, n = 1;                  ///< Channels of source and result, a group.
  Int w_k = 0, w_n = 0, w_tap = 0, w_group = 0;  ///< Element strides of the weights.
  Int step_d = 1, step_h = 1, step_w = 1;        ///< Source elements from q to q.
  Int offset_d = 0, offset_h = 0, offset_w = 0;  ///< Of the first tap.
  Int span_d = 0, span_h = 0, span_w = 0;        ///< From the first tap to the last, in source elements.
  Int phases_d = 1, phases_h = 1, phases_w = 1;
  Int padding_d = 0, padding_h = 0, padding_w = 0;
  Int depth_taps = 1;    ///< Of the loop,
  Int depth_stride = 1;  ///< of which every so many reach a depth of the result.
  Int depth_dilation = 1;
  Int source_words = 0;  ///< Room of a stage.
  Int shared_bytes = 0;
  Int streamed_bytes = 0;     ///< Weights of a stage, unless resident.
  Int share_bytes = 0;        ///< Prepared weights of one share of the result channels.
  Int share_units = 0;        ///< What a thread prepares, of one share.
  double clocks = 0.0;        ///< Of one stage's products, for one box.
  double store_clocks = 0.0;  ///< Of a warpgroup that writes one box, while nothing else holds it up.

  template <class Visit>
  void visit(Visit&& field) {
    field("backward", backward), field("source_last", source_last), field("out_last", out_last);
    field("shared", shared), field("depth_loop", depth_loop), field("wide", wide), field("line", line),
        field("direct", direct), field("overlapped", overlapped), field("room", room);
    field("warpgroups", warpgroups), field("merge", merge), field("rows", rows), field("segments", segments),
        field("columns", columns);
    field("element_bytes", element_bytes), field("channels", channels);
    field("groups", groups), field("k", k), field("n", n);
    field("w_k", w_k), field("w_n", w_n), field("w_tap", w_tap), field("w_group", w_group);
    field("step_d", step_d), field("step_h", step_h), field("step_w", step_w);
    field("offset_d", offset_d), field("offset_h", offset_h), field("offset_w", offset_w);
    field("span_d", span_d), field("span_h", span_h), field("span_w", span_w);
    field("phases_d", phases_d), field("phases_h", phases_h), field("phases_w", phases_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("depth_taps", depth_taps), field("depth_stride", depth_stride), field("depth_dilation", depth_dilation),
        field("source_words", source_words);
    field("shared_bytes", shared_bytes), field("streamed_bytes", streamed_bytes), field("clocks", clocks);
    field("store_clocks", store_clocks), field("share_bytes", share_bytes), field("share_units", share_units);
  }
};

/// How the source of a stage comes: by bulk copies, by copies of 16 bytes of rows wherever they lie, element by
/// element.
enum class Bring { bulk, rows, elements };

/// Extents of boxes, in the order n, d, h, w, and what they cost.
struct Boxing {
  Int extent[4] = {0, 0, 0, 0}, box[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0}, step[4] = {0, 0, 0, 0};
  Int pitch_h = 0, pitch_d = 0, pitch_c = 0, pitch_n = 0;  ///< Of the source in a stage, in elements.
  Int tiles = 0, lines = 0, line = 0;
  Int columns = 0;  ///< Rows of products along w: extent[3], overlapped source elements.
  Int from_w = 0, put_from = 0, read_from = 0, line_room = 0;  ///< As in the arguments.
  double clocks = -1.0;  ///< Of all boxes on one multiprocessor, for one share of the result channels; < 0: none fits.
};

/// The dimensions of a launch as boxes see them, n first: positions q, and elements of source and result.
struct BoxSpace {
  Int begin[4], count[4], source[4], out[4];
  double part = 1.0;  ///< Of source and result, that these positions read and write.
};

inline BoxSpace box_space(const BoxesFixed& f, const Sizes& s) {
  const Int(&source)[3] = f.backward ? s.out : s.in;
  const Int(&out)[3] = f.backward ? s.in : s.out;
  const Int phases[3] = {f.phases_d, f.phases_h, f.phases_w}, padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  BoxSpace b{{0, 0, 0, 0}, {s.batch, 0, 0, 0}, {s.batch, 0, 0, 0}, {s.batch, 0, 0, 0}};
  for (int d = 0; d < 3; ++d) {
    const bool whole = f.backward || (d == 0 && f.depth_loop);
    b.begin[d + 1] = whole ? 0 : padding[d] / phases[d];
    b.count[d + 1] = whole ? out[d] : most(0, (out[d] - 1 + padding[d]) / phases[d] + 1 - b.begin[d + 1]);
    b.source[d + 1] = source[d];
    b.out[d + 1] = out[d];
  }
  return b;
}

/// The most words of one bank that lanes want at once of a fragment: 8 positions of 4 channels.
inline int bank_conflicts(const BoxesFixed& f, Int pitch_c) {
  Int words[32];
  int count = 0, of_bank[32] = {}, most_of_one = 0;
  for (Int lane = 0; lane < 32; ++lane) {
    const Int word = (lane / 4 * f.step_w + lane % 4 * pitch_c) * f.element_bytes / 4;
    bool known = false;
    for (int i = 0; i < count; ++i) known = known || words[i] == word;
    if (known) continue;
    words[count++] = word;
    if (++of_bank[word % 32] > most_of_one) most_of_one = of_bank[word % 32];
  }
  return most_of_one;
}

/// Pitches for rows that are copied from wherever they lie: they differ from the tensor's strides by multiples of 16
/// bytes, so that these are copied as they lie in memory, and the copies of two rows do not meet.
inline void lay_rows(const BoxesFixed& f, const BoxSpace& space, Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  const auto like = [&](Int least_pitch, Int stride) {
    return least_pitch + ((stride - least_pitch) % unit + unit) % unit;
  };
  const Int of_h = space.source[3] % unit, of_d = of_h * space.source[2] % unit, of_c = of_d * space.source[1] % unit;
  b.pitch_h = like(b.box[3] + unit - 1, of_h);
  b.pitch_d = like(b.box[2] * b.pitch_h, of_d);
  b.pitch_c = like(b.box[1] * b.pitch_d, of_c);
  const auto finish = [&] { b.pitch_n = like(f.channels * b.pitch_c, of_c * (f.k * f.groups % unit)); };
  finish();
  const Int closest = b.pitch_c, banks = 128 / f.element_bytes;
  int fewest = bank_conflicts(f, closest);
  for (Int pitch = closest + unit; pitch < closest + banks; pitch += unit) {
    if ((b.box[0] * f.channels * pitch + (of_h == 0 ? 0 : 2 * unit)) * f.element_bytes > 4 * f.source_words) break;
    const int conflicts = bank_conflicts(f, pitch);
    if (conflicts < fewest) fewest = conflicts, b.pitch_c = pitch;
  }
  finish();
}

/// Room of a stage's source: rows that do not all begin alike lie up to 15 bytes later.
inline Int stage_elements(const BoxesFixed& f, Bring bring, const Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  return b.box[0] * b.pitch_n + (bring == Bring::rows && b.pitch_h % unit != 0 ? unit : 0);
}

/// Boxes of whole pieces, which bulk copies fill, or elements.
inline void lay_box(const BoxesFixed& f, Bring bring, Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  b.box[3] = ceil_div(b.box[3] + (bring == Bring::bulk ? unit - 1 : 0), unit) * unit;
  // Channels lie 8 or 24 words apart from each other's banks (16-bit elements: 4 more ways).
  const auto apart = [&] {
    const Int words = b.box[1] * b.box[2] * b.box[3] * f.element_bytes / 4 % 32;
    return f.element_bytes == 4 ? words % 16 == 8 : words % 8 == 4 || words % 16 == 8;
  };
  const Int rows = b.box[2], width = b.box[3];
  for (int more = 0; more < 8 && !apart(); ++more) {
    b.box[3] = width + more % 4 * unit;
    b.box[2] = rows + more / 4;
  }
  b.pitch_h = b.box[3];
  b.pitch_d = b.pitch_h * b.box[2];
  b.pitch_c = b.pitch_d * b.box[1];
  b.pitch_n = b.pitch_c * f.channels;
}

/// Clocks of a multiprocessor that the copies of a stage's source take (docs/measured-hopper.md,
/// docs/measured-cuda-boxes.md).
inline double copy_clocks(const BoxesFixed& f, const BoxSpace& space, Bring bring, const Boxing& b) {
  const Int lines = b.box[0] * b.box[1] * b.box[2];
  const double bytes = double(lines * b.box[3] * f.channels * f.element_bytes);
  if (bring == Bring::bulk) return bytes / 28.0;
  if (bring == Bring::elements) return bytes / 13.0;
  // A producer takes about five clocks an instruction. The warps of a ring run side by side, as the rings do, and share
  // what copies memory.
  const Int unit = 16 / f.element_bytes, of_ring = 128 / (f.shared ? 1 : f.warpgroups) / 32 * 32;
  const Int pieces = (b.box[3] + 2 * unit - 2) / unit;
  const double turns = double(ceil_div(lines * pieces, of_ring)), ends = double(ceil_div(lines * f.channels, of_ring));
  const double ways = b.pitch_c % unit == 0 ? 1.0 : double(unit);
  const double planes = lines == b.box[2] ? 0.0 : double(of_ring) / double(pieces * b.box[2]);  // from turn to turn
  const double of_row = double(ceil_div(space.count[3], b.step[3])), at_ends = of_row > 2.0 ? 2.0 / of_row : 1.0;
  const double turn = 60.0 + 9.0 * ways + 5.0 * double(f.channels) + 50.0 * planes + 9.0 * ways * at_ends;
  const double issue = 4.6 * (130.0 + turns * turn + 100.0 * ends * at_ends) / (f.shared ? 1.0 : double(f.warpgroups));
  const double copy = turns * double(of_ring / 32 * f.channels) * 5.0;
  const double longest = issue > copy ? issue : copy;
  return longest > bytes / 28.0 ? longest : bytes / 28.0;
}

/// Overlapped, what a box of so many columns has of its rows: whether it has all of the source, where its products lie.
inline bool overlap(const BoxesFixed& f, const BoxSpace& space, Boxing& b) {
  const bool whole = b.extent[3] == space.count[3] && b.columns == space.source[3];
  b.from_w = whole ? -space.begin[3] : f.offset_w;
  // From the source element of the first position's first tap to the first one, and so at the end; nobody writes there.
  const Int before = b.from_w - f.offset_w, after = b.extent[3] + f.span_w - before - b.columns;
  const Int left = most(0, before), right = most(0, after);
  b.line_room = b.columns + most(left, right);
  b.put_from = left;
  b.read_from = left - before;
  const Int lines = b.extent[0] * b.extent[1] * b.extent[2];
  return b.read_from >= 0 && left + lines * b.line_room <= f.room && lines * b.extent[3] <= f.room &&
         lines * b.columns <= 64 * f.segments;
}

/// Whether boxes that share a source may lie side by side along dimension d of a box.
inline bool may_lie_along(const BoxesFixed& f, int d) { return !(d == 1 && f.depth_loop) && !(d == 0 && f.groups > 1); }

/// The dimension along which boxes of so many positions share a source: that of the rows, where halos are shared, else
/// the first one that one box does not fill.
inline int lie_along(const BoxesFixed& f, const BoxSpace& space, const Int (&whole)[4]) {
  const int order[5] = {static_cast<int>(f.merge) + 1, 2, 1, 3, 0};
  for (int i = f.merge < 0 ? 1 : 0; i < 5; ++i)
    if (may_lie_along(f, order[i]) && space.count[order[i]] > whole[order[i]]) return order[i];
  return 3;
}

/// Source elements of a box and its cost, into `b`, whose extents are set. Bulk copies have at most 256 a dimension.
/// Boxes that share a source lie along `along`, < 0: where lie_along() says.
inline void weigh(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring, Boxing& b, int along = -1) {
  const Int step[4] = {1, f.step_d, f.step_h, f.step_w}, span[4] = {0, f.span_d, f.span_h, f.span_w};
  b.clocks = -1.0;
  if (f.line && (b.extent[0] > 1 || b.extent[1] > 1 || b.extent[2] > 1)) return;
  Int whole[4], reach[4];
  for (int d = 0; d < 4; ++d) {
    whole[d] = reach[d] = b.extent[d] * (f.merge + 1 == d ? f.rows : 1);
    b.second[d] = 0;
  }
  if (f.line && space.count[3] > whole[3]) {
    // Wherever a sector begins, the box has the columns of so many whole ones.
    const Int sector = 32 / f.element_bytes;
    while (whole[3] > 0 &&
           (whole[3] * f.phases_w % sector != 0 || whole[3] * f.phases_w + sector - 1 > b.extent[3] * f.phases_w))
      --whole[3];
    if (whole[3] == 0) return;
  }
  if (f.overlapped && !overlap(f, space, b)) return;
  b.line = whole[3] * f.phases_w;
  for (int d = 0; d < 4; ++d) b.step[d] = whole[d];
  if (f.shared) {
    if (along < 0) along = lie_along(f, space, whole);
    b.second[along] = whole[along];
    b.step[along] = f.warpgroups * whole[along];
    reach[along] += (f.warpgroups - 1) * whole[along];
  }
  for (int d = 0; d < 4; ++d) b.box[d] = step[d] * (reach[d] - 1) + span[d] + 1;
  if (f.overlapped) b.box[3] = b.columns + reach[3] - whole[3];
  if (f.depth_loop) b.box[1] = 1;
  if (bring == Bring::rows)
    lay_rows(f, space, b);
  else
    lay_box(f, bring, b);
  for (int d = 0; d < 4; ++d)
    if (bring == Bring::bulk && b.box[d] > 256) return;
  if (stage_elements(f, bring, b) * f.element_bytes > 4 * f.source_words) return;

  b.lines = whole[0] * whole[1] * whole[2] * f.phases_h * (f.depth_loop ? 1 : f.phases_d);
  // Elements of a box are found by 32-bit distances from its corner, in bytes.
  double distance = 0.0, inner = f.out_last ? double(f.n * f.groups) : 1.0;
  const Int phases[4] = {1, f.depth_loop ? 1 : f.phases_d, f.phases_h, f.phases_w};
  for (int d = 3; d >= 0; --d) {
    if (d == 0 && !f.out_last) inner *= double(f.n * f.groups);
    distance += double(b.extent[d] * phases[d] * (f.merge + 1 == d ? f.rows : 1)) * inner;
    inner *= double(space.out[d]);
  }
  if (distance * double(f.element_bytes) >= 4294967296.0 || distance >= 2147483648.0) return;
  b.tiles = 1;
  for (int d = 0; d < 4; ++d) b.tiles *= ceil_div(space.count[d], b.step[d]);
  const Int shares = f.groups * ceil_div(f.n, f.columns), rings = f.shared ? 1 : f.warpgroups;
  const Int blocks = most(1, processors / shares), workers = blocks * rings;
  const double stages =
      double(ceil_div(f.k, f.channels)) * (f.depth_loop ? double(f.depth_taps) / double(f.depth_stride) : 1.0);
  // A set of boxes: one of each warpgroup.
  const double set = double(f.warpgroups), source = f.shared ? 1.0 : set;
  const double line_bytes =
      double(least(least(b.extent[3], space.count[3]) * f.phases_w, space.out[3]) * f.element_bytes);
  const bool on_sectors =
      space.out[3] * f.element_bytes % 32 == 0 && b.extent[3] * f.phases_w * f.element_bytes % 32 == 0;
  const double tensor = set * f.clocks * stages, write = f.store_clocks * (f.direct && !on_sectors ? 3.0 : 1.0);
  // One warpgroup has no more than half the tensor cores' rate, and none while it stores.
  const double chain = 2.0 * f.clocks * stages + write;
  const double load = source * copy_clocks(f, space, bring, b) * stages + double(f.streamed_bytes) * stages / 20.0;
  // Sectors that two boxes write cost time, those of two lines of one box do not (L2/15): boxes as wide as the result
  // have ends once for all lines that follow each other.
  const bool whole_lines = b.extent[3] >= space.count[3] && line_bytes >= 32.0 && !f.out_last;
  const double together = whole_lines ? double(whole[2] * f.phases_h) : 1.0;
  // However short it is, a line takes as long as one of 64 fp32 numbers (of 2: L2/19, L1/57, L1/71; of 32: L2/100), in
  // 16 bits one shorter than a sector.
  const double ends = on_sectors || f.line ? 0.0 : 220.0 / together;
  const double least_line = ends == 220.0 && (f.element_bytes == 4 || line_bytes < 32.0) ? 440.0 : 0.0;
  const double line_clocks = (line_bytes + ends > least_line ? line_bytes + ends : least_line) / 17.0;
  const double store = set * double(b.lines * f.columns) * line_clocks;
  double longest = tensor;
  const double others[] = {chain, load, store};
  for (const double other : others) longest = other > longest ? other : longest;
  // Source and result come from memory once.
  const double rounds = double(ceil_div(b.tiles, workers));
  double memory = double(f.element_bytes * f.groups) / 18.5 / double(processors) / rounds,
         source_elements = double(f.k);
  double result_elements = double(f.n);
  for (int d = 0; d < 4; ++d) source_elements *= double(space.source[d]), result_elements *= double(space.out[d]);
  memory *= (source_elements + result_elements) * space.part;
  const double bound = longest > memory ? longest : memory;
  const double one = bound + 0.05 * (tensor + chain + load + store - longest) + 200.0;
  b.clocks = one * rounds * (double(shares) > double(processors) ? double(shares) / double(processors) : 1.0);
}

/// The cheapest boxes for these sizes.
inline Boxing best_boxing(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  const Int positions = 64 * f.segments, wide = f.wide ? 16 : 1;
  // Overlapped, widths are of source elements: as many more than positions as taps reach, or all.
  const Int more = f.overlapped ? f.span_w : 0;
  Boxing best;
  Int widths[16], count = 0;
  const auto add = [&](Int w) {
    w = least(ceil_div(w, wide) * wide, positions);
    if (w <= more) return;
    for (Int i = 0; i < count; ++i)
      if (widths[i] == w) return;
    if (w > 0 && count < 16) widths[count++] = w;
  };
  const bool whole_rows = f.overlapped && space.source[3] <= positions && space.source[3] % wide == 0;
  if (whole_rows) add(space.source[3]);
  const auto positions_of = [&](Int w) { return whole_rows && w == space.source[3] ? space.count[3] : w - more; };
  for (Int parts = 1; parts <= 6; ++parts) add(ceil_div(space.count[3], parts) + more);
  for (Int w = positions; w >= 16 && count < 12; w /= 2)
    if (w < space.count[3]) add(w);
  const auto consider = [&](Int n, Int d, Int h, Int w) {
    Boxing b;
    b.extent[0] = n, b.extent[1] = d, b.extent[2] = h, b.extent[3] = positions_of(w), b.columns = w;
    weigh(f, space, processors, bring, b);
    if (b.clocks >= 0.0 && (best.clocks < 0.0 || b.clocks < best.clocks)) best = b;
  };
  // As many as divide all evenly, with the fewest boxes. Of merged rows several times so many only where one line does
  // not fill a box: with strides no stage has a source as wide, and narrow results have none.
  const auto even = [](Int all, Int at_most) { return ceil_div(all, ceil_div(all, least(all, at_most))); };
  const bool again = f.step_d * f.step_h * f.step_w > 1 || space.count[3] < 16;
  const Int all_h = ceil_div(space.count[2], f.merge == 1 ? f.rows : 1);
  const Int all_d = f.depth_loop ? 1 : ceil_div(space.count[1], f.merge == 0 ? f.rows : 1);
  for (Int i = 0; i < count; ++i) {
    const Int w = widths[i], lines = positions / w;
    Int last_h = 0;
    for (Int parts = f.merge == 1 && !again ? 1 : least(lines, all_h); parts >= 1; parts -= parts > 8 ? 2 : 1) {
      const Int h = even(all_h, parts);
      if (h == last_h) continue;
      last_h = h;
      const Int planes = lines / h, d = even(all_d, f.merge == 0 && !again ? 1 : planes);
      consider(1, d, h, w);
      const bool whole_sample = f.groups == 1 && positions_of(w) >= space.count[3] && h == all_h && d == all_d;
      if (whole_sample && planes / d > 1) {
        const Int n = least(planes / d, space.count[0]);
        consider(ceil_div(space.count[0], ceil_div(space.count[0], n)), d, h, w);
      }
    }
  }
  return best;
}

/// The cheapest of the widest boxes that fit, where best_boxing() finds none: a stage has room for the boxes of the
/// sizes that its kernel was made for. Boxes that share a source may then lie along a dimension that one of them fills.
inline Boxing fitting_boxing(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  const Int positions = 64 * f.segments, more = f.overlapped ? f.span_w : 0;
  const auto by = [&](Int columns) { return f.wide && columns > 16 ? 16 : 1; };
  Int columns = space.count[3] + more;
  columns = least(ceil_div(columns, by(columns)) * by(columns), positions);
  Boxing best;
  for (; columns > more && best.clocks < 0.0; columns -= by(columns)) {
    const bool one_row = f.merge == 1 || (f.wide && columns % 16 != 0);
    for (Int h = one_row ? 1 : least(positions / columns, space.count[2]); h >= 1; h /= 2)
      for (int along = 0; along < (f.shared ? 4 : 1); ++along) {
        if (f.shared && !may_lie_along(f, along)) continue;
        Boxing b;
        b.extent[0] = b.extent[1] = 1, b.extent[2] = h, b.extent[3] = columns - more, b.columns = columns;
        weigh(f, space, processors, bring, b, along);
        if (b.clocks >= 0.0 && (best.clocks < 0.0 || b.clocks < best.clocks)) best = b;
      }
  }
  return best;
}

/// The boxes of a result. Where boxes of whole segments leave a few of its columns over, boxes of a launch of their own
/// have these: a handful of columns of many rows.
struct Boxings {
  Boxing main, last;
  BoxSpace main_space, last_space;
  bool parted = false;
  double clocks = -1.0;  ///< As those of a boxing.
};

/// The cheapest for these sizes.
inline Boxings best_boxings(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  constexpr double start_clocks = 10000.0;
  // What two launches take longer than predicted, by the dozen that were measured.
  const double surplus = f.element_bytes == 4 ? 1.04 : 1.0;
  constexpr Int most_left = 8;
  Boxings best;
  best.main_space = space;
  best.main = best_boxing(f, space, processors, bring);
  best.clocks = best.main.clocks;
  if (best.clocks < 0.0 || f.overlapped || f.line || f.out_last) return best;
  const Int all = space.count[3];
  Int before = 0;
  const Int boxes[2] = {64, 16};
  for (const Int of_box : boxes) {
    const Int left = all % of_box;
    if (left == 0 || left > most_left || left == before || all < 4 * of_box) continue;
    before = left;
    Boxings b;
    b.parted = true;
    b.main_space = b.last_space = space;
    b.main_space.count[3] = all - left, b.last_space.count[3] = left;
    b.last_space.begin[3] += all - left;
    b.main_space.part = double(all - left) / double(all), b.last_space.part = double(left) / double(all);
    b.main = best_boxing(f, b.main_space, processors, bring);
    if (b.main.clocks < 0.0 || (all - left) % b.main.step[3] != 0) continue;
    // No more room than the others' source takes: what a stage does not need stages results.
    BoxesFixed narrow = f;
    narrow.source_words = ceil_div(stage_elements(f, bring, b.main) * f.element_bytes, 128) * 32;
    b.last = best_boxing(narrow, b.last_space, processors, bring);
    if (b.last.clocks < 0.0) continue;
    b.clocks = surplus * (b.main.clocks + b.last.clocks) + start_clocks;
    if (b.clocks < best.clocks) best = b;
  }
  return best;
}

inline bool too_many(const Boxings& b) { return double(b.main.tiles) + double(b.last.tiles) >= 2147483648.0; }

}  // namespace upconv::launch
