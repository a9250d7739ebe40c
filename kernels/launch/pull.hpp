// Launches of the gradient kernels of closing/ for any sizes, on top of launch/closing.hpp.
#pragma once

#include "arguments/pull.cuh"
#include "launch/closing.hpp"

namespace upconv::launch {

/// What a gradient kernel was specialised for, as far as a launch depends on it.
struct PullFixed {
  Int kind = 0;                 ///< 0 pull, 1 columns, 2 rows, 3 norm.
  ClosingFixed closing;         ///< Of the values that are read; `first` and `last` of the units, columns or rows.
  Int arrives = 0;              ///< closing/gradient.cuh
  Int r_first = 1, r_last = 1;  ///< Of the reduction.
  Int g_kd = 1, g_kh = 1, g_kw = 1, g_sd = 1, g_sh = 1, g_sw = 1, g_pd = 0, g_ph = 0, g_pw = 0;  ///< The window.
  Int sums = 0;              ///< Of a unit and share, or row.
  bool vector_sums = false;  ///< rows

  template <class Visit>
  void visit(Visit&& field) {
    field("kind", kind);
    closing.visit([&](const char* name, auto& value) {
      char path[40] = "closing.";
      for (int i = 8; i < 39 && (path[i] = *name) != 0; ++i) ++name;
      field(static_cast<const char*>(path), value);
    });
    field("arrives", arrives), field("r_first", r_first), field("r_last", r_last);
    field("g_kd", g_kd), field("g_kh", g_kh), field("g_kw", g_kw);
    field("g_sd", g_sd), field("g_sh", g_sh), field("g_sw", g_sw);
    field("g_pd", g_pd), field("g_ph", g_ph), field("g_pw", g_pw);
    field("sums", sums), field("vector_sums", vector_sums);
  }
};

struct PullLaunch {
  const char* refusal = nullptr;
  arguments::Pull arguments{};
  Int blocks = 0;
  Int sum_units = 0, sum_shares = 1;  ///< `sums` numbers of each unit and share.
  Int sum_bytes = 0, vector_bytes = 0;
  Int at[5] = {1, 1, 1, 1, 1};  ///< Shape of the values whose gradient arrives, after the window.
};

inline PullLaunch launch_of(const PullFixed& f, const Int (&source)[5], int processors) {
  PullLaunch l;
  ClosingFixed c = f.closing;
  c.kind = f.kind == 0 ? 1 : f.kind == 1 ? 4 : f.kind == 2 ? 5 : 2;
  c.reduces = false;
  const ClosingLaunch values = launch_of(c, source, processors);
  l.refusal = values.refusal;
  if (l.refusal) return l;
  arguments::Pull& p = l.arguments;
  p.values = values.arguments;
  for (int d = 0; d < 5; ++d) l.at[d] = values.at[d];
  l.blocks = values.blocks;
  if (f.arrives == 1) {
    p.length = closing_product(l.at, f.r_first, f.r_last);
    p.inner = closing_product(l.at, f.r_last + 1, 4);
  } else if (f.arrives > 1) {
    Int left[5] = {l.at[0], l.at[1], l.at[2], l.at[3], l.at[4]};
    const Int k[3] = {f.g_kd, f.g_kh, f.g_kw}, s[3] = {f.g_sd, f.g_sh, f.g_sw}, pad[3] = {f.g_pd, f.g_ph, f.g_pw};
    for (int d = 0; d < 3; ++d) left[d + 2] = (l.at[d + 2] + 2 * pad[d] - k[d]) / s[d] + 1;
    p.arriving = closing_shape(left);
  }
  if (f.kind == 0) {
    l.sum_units = p.values.units, l.sum_shares = p.values.shares;
  } else if (f.kind == 2) {
    // Every block takes several turns, so that a vector's sums are few; blocks enough for the chip stay.
    const Int teams = closing_threads / p.values.team, turns = ceil_div(p.values.units, teams);
    p.values.share = most(ceil_div(turns, 16 * Int(processors)), 1);
    l.blocks = p.values.units == 0 ? 0 : ceil_div(turns, p.values.share);
    l.sum_units = p.values.units;
    l.vector_bytes = l.blocks * 2 * p.values.length * f.closing.sum_bytes;
  }
  l.sum_bytes = l.sum_units * l.sum_shares * f.sums * f.closing.sum_bytes;
  return l;
}

inline void dense_total(const Int (&size)[5], Int (&stride)[5]) {
  Int all = 1;
  for (int d = 4; d >= 0; --d) stride[d] = all, all *= size[d];
}

/// How the sums number `slot` of a launch lie, as an array whose first dimensions are those of its units and whose last
/// are its shares; or a norm's vectors, an array of blocks and a row. Returns the first one's offset.
inline Int sums_of(const PullFixed& f, const PullLaunch& l, Int slot, bool vectors, Int (&size)[5], Int (&stride)[5]) {
  for (int d = 0; d < 5; ++d) size[d] = 1;
  if (vectors) {
    const Int length = l.arguments.values.length;
    size[0] = l.blocks, size[4] = length;
    for (int d = 0; d < 5; ++d) stride[d] = 2 * length;
    stride[4] = 1;
    return slot * length;
  }
  for (int d = 0; d < f.closing.first; ++d) size[d] = l.at[d];
  size[4] = l.sum_shares;
  dense_total(size, stride);
  for (int d = 0; d < 5; ++d) stride[d] *= f.sums;
  return slot;
}

struct TotalLaunch {
  arguments::Total arguments{};
  Int blocks = 0;
};

/// Neighbouring dimensions that lie one behind the other become one: fewer divisions.
inline void closing_collapse(Int (&size)[5], Int (&stride)[5]) {
  for (int d = 4; d > 0; --d)
    for (int outer = d - 1; outer >= 0; --outer) {
      if (size[outer] == 1) continue;
      if (size[d] != 1 && stride[outer] != stride[d] * size[d]) break;
      if (size[d] == 1) stride[d] = stride[outer];
      size[d] *= size[outer], size[outer] = 1;
    }
}

/// Sums over the dimensions of `size` that `gone` names, in elements `stride` apart.
inline TotalLaunch total_of(const Int (&size)[5], const Int (&stride)[5], unsigned gone) {
  TotalLaunch l;
  arguments::Total& t = l.arguments;
  t.outputs = t.count = 1;
  for (int d = 0; d < 5; ++d) {
    const bool sum = gone >> d & 1;
    t.kept[d] = sum ? 1 : size[d], t.kept_stride[d] = stride[d];
    t.gone[d] = sum ? size[d] : 1, t.gone_stride[d] = stride[d];
    t.outputs *= t.kept[d], t.count *= t.gone[d];
  }
  closing_collapse(t.kept, t.kept_stride);
  closing_collapse(t.gone, t.gone_stride);
  t.team = t.count <= 8 || (t.outputs >= 16384 && t.kept[4] > 1 && t.kept_stride[4] == 1) ? 1
           : t.count <= 2048 || t.outputs > 4096                                          ? 32
                                                                                          : 256;
  l.blocks = ceil_div(t.outputs, closing_threads / t.team);
  return l;
}

}  // namespace upconv::launch
