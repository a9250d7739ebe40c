// The warpgroup of input_wgmma.cuh that brings w and dy into its stages.
#pragma once

#include "input_wgmma/lines.cuh"

namespace upconv {

/// Rows of w element by element: where they do not begin at multiples of 16
/// bytes.
__device__ __forceinline__ void bring_plain(const Arguments& p, const Place& at, u32 to, int first, int thread) {
#pragma unroll 1
  for (int i = thread; i < NB * KS; i += warpgroup) {
    const int channel = i / KS, k = i % KS;
    const bool ok = at.ci0 + channel < CI && first + k < pairs;
    const char* source =
        p.w + ((static_cast<i64>(at.group) * CI + at.ci0 + channel) * pairs + first + k) * element_bytes;
    const u32 slot = to + w_place(channel, k);
    if constexpr (tf32)
      store_word(slot, ok ? round_tf32(*reinterpret_cast<const float*>(source)) : 0u);
    else
      store_bits16(slot, ok ? load_bits16(source) : u16(0));
  }
}

/// V: elements of dy that a copy takes, 0 for whole lines.
template <int V>
__device__ __forceinline__ void bring_all(const Arguments& p, u32 stages, const Barriers& barriers,
                                          const Share& share) {
  int thread = static_cast<int>(threadIdx.x) - multiplying;
  asm volatile(""
               : "+r"(thread));  // else the places of all copies are worked out
                                 // before the first tile
  int to = 0, parity = 1;
#pragma unroll 1
  for (int tile = blockIdx.x / SPLIT; tile < p.tiles; tile += gridDim.x / SPLIT) {
    const Place at(p, tile);
    typename CopierOf<V>::Type lines_of_dy;
    lines_of_dy.begin(p, at, thread);
#pragma unroll 1
    for (int first = share.first * KS; first < share.end * KS; first += KS) {
      const u32 stage = stages + to * stage_bytes, landed = barriers.landed + 8 * to;
      barrier_wait(barriers.empty + 8 * to, parity);
      if (!p.w_bulk) {
        bring_plain(p, at, stage, first, thread);
        fence_shared();
      } else if (thread == 0) {
        barrier_expect_only(landed, w_bytes);
#pragma unroll 1
        for (int k = 0; k < KS; k += row_elements)
          copy_box(stage + w_place(0, k), &p.w_map, landed, first + k, at.group * CI + at.ci0, 0, 0, 0);
      }
      if constexpr (V == 0) {
        lines_of_dy.bring(p, stage + w_bytes, first / taps, landed, first < (share.first + STAGES) * KS, thread);
      } else {
        lines_of_dy.bring(p, stage + w_bytes, first / taps, thread);
        barrier_arrive_after_copies(landed);
      }
      barrier_arrive(landed);  // what was stored, not copied
      if (++to == STAGES) to = 0, parity ^= 1;
    }
  }
}

}  // namespace upconv
