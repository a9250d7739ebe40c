// Launches of the kernels of closing/ for any sizes: shapes, ranges, shares and grids from what was specialised.
#pragma once

#include "arguments/closing.cuh"
#include "launch/clusters.hpp"
#include "launch/sizes.hpp"

namespace upconv::launch {

constexpr Int closing_threads = 256;
/// Values of a plane, before and after its window, that are counted in 32 bits.
constexpr Int longest_narrow_plane = (Int(1) << 31) - (1 << 20);

/// What a closing kernel was specialised for, as far as a launch depends on it.
struct ClosingFixed {
  Int kind = 0;  ///< 0 map, 1 parts, 2 norm, 3 result, 4 columns, 5 rows, 6 sets.
  bool window = false, reduces = false, wide = false;
  Int k_d = 1, k_h = 1, k_w = 1, s_d = 1, s_h = 1, s_w = 1, p_d = 0, p_h = 0, p_w = 0;  ///< Of the window.
  Int first = 2, last = 4;  ///< The dimensions of a unit (parts), of a column or a row: 1 channel to 4 w.
  Int row_first = 0;        ///< The first dimension of what an item of the value calls a row; 0: there is none.
  Int split = 1, each = 1;  ///< columns: warps that share columns, columns of a thread; rows: values of a thread.
  bool batch = false;       ///< norm: sets are channels of all samples, else `per` planes that follow each other.
  Int per = 1;              ///< norm, sets
  Int cluster = 1;          ///< sets: blocks of a set.
  Int stored_bytes = 4;     ///< sets: of a value of the source.
  Int sum_bytes = 4;

  template <class Visit>
  void visit(Visit&& field) {
    field("kind", kind), field("window", window), field("reduces", reduces), field("wide", wide);
    field("k_d", k_d), field("k_h", k_h), field("k_w", k_w);
    field("s_d", s_d), field("s_h", s_h), field("s_w", s_w);
    field("p_d", p_d), field("p_h", p_h), field("p_w", p_w);
    field("first", first), field("last", last), field("row_first", row_first);
    field("split", split), field("each", each), field("batch", batch), field("per", per);
    field("cluster", cluster), field("stored_bytes", stored_bytes);
    field("sum_bytes", sum_bytes);
  }
};

struct ClosingLaunch {
  const char* refusal = nullptr;
  arguments::Closing arguments{};
  Int result[5] = {1, 1, 1, 1, 1};  ///< Shape of what the kernel writes, where it writes values.
  Int at[5] = {1, 1, 1, 1, 1};      ///< After the window.
  Int blocks = 0;
  Int threads = closing_threads, shared_bytes = 0;  ///< Of a block; dynamic.
  Int parts_bytes = 0;                              ///< Of the statistics that `parts` writes and norm and result read.
};

inline arguments::Divisor divisor_of(Int value) {
  arguments::Divisor d{value, 1, 0};
  if (value > 1 && value <= Int(1) << 31) {
    while ((Int(1) << d.shift) < value) ++d.shift;
    d.magic = static_cast<unsigned>((static_cast<unsigned long long>((Int(1) << d.shift) - value) << 32) /
                                        static_cast<unsigned long long>(value) +
                                    1);
  }
  return d;
}

inline Int closing_product(const Int (&size)[5], Int first, Int last) {
  Int n = 1;
  for (Int d = first; d <= last; ++d) n *= size[d];
  return n;
}

inline arguments::ClosingShape closing_shape(const Int (&size)[5]) {
  arguments::ClosingShape s;
  const Int volume = closing_product(size, 2, 4);
  s.values = {volume * size[1], volume, 1, static_cast<int>(size[3]), static_cast<int>(size[4])};
  s.count = volume * size[1] * size[0];
  s.d = static_cast<int>(size[2]);
  s.volume = divisor_of(volume), s.h = divisor_of(size[3]), s.w = divisor_of(size[4]);
  return s;
}

/// Shares of units and the values of each: whole units to warps where they are small, else enough blocks for the chip.
inline void closing_shares(arguments::Closing& a, int processors) {
  a.shares = 1;
  if (a.length > 2048) {
    const Int enough = ceil_div(32 * Int(processors), most(a.units, 1));
    a.shares = most(least(enough, ceil_div(a.length, 2048)), 1);
  }
  a.share = most(ceil_div(a.length, a.shares), 1);
  a.shares = most(ceil_div(a.length, a.share), 1);
}

/// Pieces of closing/sets.cuh that a block's shared memory holds, and those of a block's share of a set of `bytes`.
inline Int set_slots(Int shared_bytes) {
  return least(most((shared_bytes - 2048) / arguments::set_piece, 0), Int(arguments::most_slots));
}
inline Int set_pieces(Int bytes, Int cluster) {
  return ceil_div(ceil_div(ceil_div(bytes + 15, 16), cluster), arguments::set_piece / 16);
}

/// The most blocks that share a set. A cluster lies in one GPC, of which no GPU has more than 8: where they have more
/// than 8 * 15 multiprocessors together, one of them has 16.
inline Int widest_cluster(Int shared_bytes, int processors) {
  return processors > 8 * 15 && shared_bytes >= Int(200) << 10 ? 16 : 8;
}

/// Why these sets are not for closing/sets.cuh, or null. Each costs some 0.6 us beside the bytes of a block's share, so
/// small ones only where every cluster has about one; the sizes that it counts with have 31 bits.
inline const char* not_for_sets(const ClosingFixed& f, Int units, Int volume, Int shared_bytes, int processors) {
  const Int bytes = f.per * volume * f.stored_bytes;
  if (volume < 16 || f.per * volume >= Int(1) << 30) return "planes too small or sets too large for one kernel";
  if (f.cluster > widest_cluster(shared_bytes, processors)) return "clusters wider than this GPU is known to run";
  if (set_pieces(bytes, f.cluster) > set_slots(shared_bytes)) return "a set is larger than the memory of its blocks";
  if (bytes / f.cluster < 32768 && units * f.cluster > 2 * processors) return "many small sets";
  return nullptr;
}

/// The blocks of a set: as few as leave a third of the shared memory for the next set's values, more where there are
/// fewer sets than multiprocessors.
inline Int cluster_for_sets(const ClosingFixed& f, Int units, Int volume, Int shared_bytes, int processors) {
  const Int widest = widest_cluster(shared_bytes, processors);
  const Int bytes = f.per * volume * f.stored_bytes, slots = set_slots(shared_bytes);
  Int cluster = 1;
  while (cluster < widest && (3 * set_pieces(bytes, cluster) > 2 * slots ||
                              (units * cluster < processors && set_pieces(bytes, cluster) > 1)))
    cluster *= 2;
  return cluster;
}

/// `source` is the shape of what the kernel reads: for norm and result, that of the statistics' value after its window.
/// `shared_bytes`: what a block may have for closing/sets.cuh, 0 where there are no clusters.
inline ClosingLaunch launch_of(const ClosingFixed& f, const Int (&source)[5], int processors, Int shared_bytes = 0) {
  ClosingLaunch l;
  arguments::Closing& a = l.arguments;
  Int at[5] = {source[0], source[1], source[2], source[3], source[4]};
  if (f.window) {
    const Int k[3] = {f.k_d, f.k_h, f.k_w}, s[3] = {f.s_d, f.s_h, f.s_w}, p[3] = {f.p_d, f.p_h, f.p_w};
    for (int d = 0; d < 3; ++d) {
      if (at[d + 2] + 2 * p[d] < k[d]) l.refusal = "a pooling window that is larger than what it is moved over";
      at[d + 2] = (at[d + 2] + 2 * p[d] - k[d]) / s[d] + 1;
    }
  }
  for (int d = 0; d < 5; ++d) {
    l.at[d] = at[d];
    l.result[d] = f.reduces && d >= f.first && d <= f.last ? 1 : at[d];
    if (source[d] > Int(1) << 30) l.refusal = "a dimension above 2^30";
  }
  if (source[0] * source[1] >= Int(1) << 31) l.refusal = "2^31 planes or more";
  if (!f.wide && most(closing_product(source, 2, 4), closing_product(at, 2, 4)) > longest_narrow_plane)
    l.refusal = "a plane of 2^31 values or more";
  if (l.refusal) return l;
  a.in = closing_shape(source), a.at = closing_shape(at), a.result = closing_shape(l.result);
  a.row = f.row_first > 0 ? closing_product(source, f.row_first, 4) : 1;
  a.units = closing_product(at, 0, f.first - 1);
  a.length = closing_product(at, f.first, f.last);
  a.inner = closing_product(at, f.last + 1, 4);
  a.inner_by = divisor_of(a.inner);
  a.planes = source[0];
  a.team = 32;
  if (f.kind >= 1 && f.kind <= 3) {
    closing_shares(a, processors);
    l.parts_bytes = a.units * a.shares * 2 * f.sum_bytes;
  }
  if (f.kind == 6) l.refusal = not_for_sets(f, a.units / f.per, a.length, shared_bytes, processors);
  if (a.at.count == 0) return l;
  switch (f.kind) {
    case 0:
      l.blocks = ceil_div(a.at.count, closing_threads * (f.window ? 2 : 8));
      break;
    case 1:
      a.team = a.length > 2048 ? 256 : 32;
      l.blocks = ceil_div(a.units * a.shares, closing_threads / a.team);
      break;
    case 2: {
      const Int units = a.units;
      a.units = f.batch ? source[1] : units / f.per;
      a.team = (f.batch ? a.planes : f.per) * a.shares > 64 ? 256 : 32;
      l.blocks = ceil_div(a.units, closing_threads / a.team);
      break;
    }
    case 3:
      l.blocks = ceil_div(a.units, closing_threads / 32);
      break;
    case 4:
      l.blocks = ceil_div(a.units * a.inner, closing_threads / f.split * f.each);
      break;
    case 6:
      a.units /= f.per, a.length *= f.per;
      a.shares = set_slots(shared_bytes);
      l.threads = arguments::set_threads, l.shared_bytes = a.shares * arguments::set_piece;
      l.blocks = least(a.units, most(clusters_at_once(f.cluster, processors), 1)) * f.cluster;
      break;
    default:
      a.team = 2;
      while (a.team < 32 && f.each * a.team < a.length) a.team *= 2;
      if (a.length > 32 * f.each) a.team = 256;
      l.blocks = ceil_div(a.units, closing_threads / a.team);
  }
  if (l.blocks > (Int(1) << 31) - 1) l.refusal = "more blocks than 2^31";
  return l;
}

}  // namespace upconv::launch
