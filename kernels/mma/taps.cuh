// The algebra of one dimension, at compile time: a tap t meets the residue (d*t) mod s and reaches (d*t) div s steps.
// forward: residue = output phase, input = q - reach. dx: residue = plane of dy, dy step = q + reach.
// A merged dimension (kernel a multiple of the stride, dilation 1) has its residues among the columns of the product
// (forward) or among its depth (dx), so that here it looks like stride 1 with kernel/stride taps.
#pragma once

namespace upconv {

struct Dimension {
  int kernel, stride, dilation;
  bool merged;
};

constexpr int taps(Dimension d) { return d.merged ? d.kernel / d.stride : d.kernel; }
constexpr int residue(Dimension d, int t) { return d.merged ? 0 : d.dilation * t % d.stride; }
constexpr int reach(Dimension d, int t) { return d.merged ? t : d.dilation * t / d.stride; }
constexpr int span(Dimension d) { return reach(d, taps(d) - 1); }
constexpr int merged_stride(Dimension d) { return d.merged ? d.stride : 1; }
constexpr int open_stride(Dimension d) { return d.merged ? 1 : d.stride; }

constexpr bool residue_used(Dimension d, int r) {
  for (int t = 0; t < taps(d); ++t)
    if (residue(d, t) == r) return true;
  return false;
}
/// Residues below `r` that some tap meets; with r = open_stride(d), all of them.
constexpr int residues_below(Dimension d, int r) {
  int n = 0;
  for (int i = 0; i < r; ++i) n += residue_used(d, i) ? 1 : 0;
  return n;
}
constexpr int residues(Dimension d) { return residues_below(d, open_stride(d)); }
/// The i-th residue that some tap meets.
constexpr int used_residue(Dimension d, int i) {
  for (int r = 0; r < open_stride(d); ++r)
    if (residue_used(d, r) && i-- == 0) return r;
  return 0;
}

/// An entry is one view of the source: in forward the taps of equal reach (they are consecutive), in dx one tap.
constexpr int entries(Dimension d, bool forward) {
  int n = 1;
  for (int t = 1; t < taps(d); ++t) n += !forward || reach(d, t) != reach(d, t - 1) ? 1 : 0;
  return n;
}
constexpr int entry_first(Dimension d, bool forward, int e) {
  for (int t = 0; t < taps(d); ++t)
    if (t == 0 || !forward || reach(d, t) != reach(d, t - 1))
      if (e-- == 0) return t;
  return taps(d);
}
constexpr int entry_size(Dimension d, bool forward, int e) {
  return entry_first(d, forward, e + 1) - entry_first(d, forward, e);
}

template <int I>
struct Int {
  static constexpr int value = I;
};

/// f(Int<BEGIN>) ... f(Int<END - 1>).
template <int BEGIN, int END, class F>
__device__ __forceinline__ void static_for(F&& f) {
  if constexpr (BEGIN < END) {
    f(Int<BEGIN>{});
    static_for<BEGIN + 1, END>(f);
  }
}

}  // namespace upconv
