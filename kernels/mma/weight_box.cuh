// The boxes of positions that the blocks of a dw kernel share, and where its taps put them; of input_wgmma.cuh the
// boxes are its tiles.
#pragma once

#include "arguments/weight_mma.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

typedef arguments::WeightMma WeightParams;

/// A box of positions, counted in boxes. The axis along which neighbours share lines of dy runs fastest.
/// The blocks of a tile take boxes in turn: they share those lines in the L2, and the slower boxes at the edges.
struct Box {
  int n, d, h, w;
  template <class Params>
  __device__ void start(i64 index, const Params& p) {
    const auto take = [&](int size) {
      const int r = static_cast<int>(index % size);
      index /= size;
      return r;
    };
    if (walk_depth) d = take(p.boxes_d);
    h = take(p.boxes_h);
    w = take(p.boxes_w);
    if (!walk_depth) d = take(p.boxes_d);
    n = static_cast<int>(index);
  }
  /// The box `step` further on, where both count in the same mixed radix.
  __device__ void advance(const Box& step, const WeightParams& p) {
    int carry = 0;
    const auto add = [&](int& digit, int by, int size) {
      digit += by + carry;
      carry = digit >= size;
      if (carry) digit -= size;
    };
    if (walk_depth) add(d, step.d, p.boxes_d);
    add(h, step.h, p.boxes_h);
    add(w, step.w, p.boxes_w);
    if (!walk_depth) add(d, step.d, p.boxes_d);
    n += step.n + carry;
  }
};

/// Where tap 0 of this block puts position 0, per dimension: dilation * first tap - padding.
struct Shift {
  int d, h, w;
};

/// Every position of the box exists and every tap of every position lands inside dy.
__device__ __forceinline__ bool interior(const Box& b, const Shift& c, const WeightParams& p) {
  const int d = b.d * BD, h = b.h * BH, w = b.w * BW;
  return d + BD <= p.in_d && h + BH <= p.in_h && w + BW <= p.in_w && SD * d + c.d >= 0 && SH * h + c.h >= 0 &&
         SW * w + c.w >= 0 && SD * (d + BD - 1) + c.d + DD * (TD - 1) < p.out_d &&
         SH * (h + BH - 1) + c.h + DH * (TH - 1) < p.out_h && SW * (w + BW - 1) + c.w + DW * (TW - 1) < p.out_w;
}

}  // namespace upconv
