// From a warpgroup's sums to the result without a detour, where elements are words and W has one phase (DIRECT): a
// store of a warp writes 8 neighbouring positions, a sector of 32 bytes, of four channels. Part of boxes.cuh.
#pragma once

#include "boxes/store.cuh"

namespace upconv {

/// All sums of a place.
__device__ __forceinline__ void store_direct(const Arguments& a, const Operands& operands, const Place& p,
                                             const float (&acc)[BLOCKS * (NB / 2)], const Spot* spots, int thread) {
  static_assert(PHASES_W == 1 || !DIRECT, "phases of W interleave in memory");
  const int warp = thread / 32, lane = thread % 32, channel = p.column0 + lane % 4 * 2;
  const Corner c(p);
  float bias[NB / 4];
#pragma unroll
  for (int i = 0; i < NB / 4; ++i) {
    const int of = channel + i / 2 * 8 + i % 2;
    bias[i] = N % NB == 0 || of < N ? bias_of(a, p, of) : 0.f;
  }
#pragma unroll
  for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Spot spot = spots[(segment * 4 + warp) * 16 + half * 8 + lane / 4];
      Element* corner = corner_of(a, p, c, channel) + spot.at;
#pragma unroll
      for (int set = 0; set < all_sets; ++set) {
        const RowSet s = row_set(set);
        if (!is_inside(a, c, s, spot, 0)) continue;
        Element* row = corner + s.d * a.out_strides.d + s.h * a.out_strides.h;
        const int n = c.n + (spot.dn & 0xffff);
        const auto column_of = [&](int i) { return i / 2 * 8 + i % 2; };  // from the lane's first channel on
        const auto exists = [&](int i) { return N % NB == 0 || channel + column_of(i) < N; };
        constexpr int each = NB % 16 == 0 ? 4 : 2;
#pragma unroll
        for (int first = 0; first < NB / 4; first += each) {
          Element value[each];
          OfElement with[each];
          if constexpr (OPERANDS > 0)
#pragma unroll
            for (int i = 0; i < each; ++i)
              with[i] = of_element(operands, exists(first + i), n, p.group * N + channel + column_of(first + i),
                                   row + column_of(first + i) * a.out_strides.c - a.out);
#pragma unroll
          for (int i = 0; i < each; ++i) {
            const int of = first + i, number = channel + column_of(of);
            const float sum =
                s.staged < 0 ? 0.f
                             : acc[(segment * (row_sets * USED_W) + block_of[(s.staged < 0 ? 0 : s.staged) * USED_W]) *
                                       (NB / 2) +
                                   of / 2 * 4 + half * 2 + of % 2];
            value[i] = from_float<Element>(epilogue(
                sum + bias[of], config::of_channel(operands, p.group * N + (exists(of) ? number : 0)), with[i]));
          }
#pragma unroll
          for (int i = 0; i < each; ++i)
            if (exists(first + i)) row[column_of(first + i) * a.out_strides.c] = value[i];
        }
      }
    }
}

}  // namespace upconv
