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
        const auto write = [&](Element* to, float v, int k) {
          *to = from_float<Element>(
              epilogue(v, operands, c.n + (spot.dn & 0xffff), p.group * N + channel + k, to - a.out));
        };
        Element* row = corner + s.d * a.out_strides.d + s.h * a.out_strides.h;
#pragma unroll
        for (int i = 0; i < NB / 4; ++i) {
          const int j = i / 2, odd = i % 2;
          const float sum =
              s.staged < 0
                  ? 0.f
                  : acc[(segment * (row_sets * USED_W) + block_of[(s.staged < 0 ? 0 : s.staged) * USED_W]) * (NB / 2) +
                        j * 4 + half * 2 + odd];
          if (N % NB == 0 || channel + j * 8 + odd < N)
            write(row + (j * 8 + odd) * a.out_strides.c, sum + bias[i], j * 8 + odd);
        }
      }
    }
}

}  // namespace upconv
