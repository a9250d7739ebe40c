// What fills the stages of implicit_gemm.cuh: one thread, by bulk copies; where no tensor map describes the source, all
// of a warpgroup, element by element.
#pragma once

#include "implicit_gemm/shape.cuh"

namespace upconv {

/// Element e of 16 bytes.
__device__ __forceinline__ void place(u32 (&words)[4], int e, float v) { words[e] = round_tf32(v); }
template <class Half>
__device__ __forceinline__ void place(u32 (&words)[4], int e, Half v) {
  words[e / 2] |= u32(v.bits) << e % 2 * 16;
}

/// STAGE_K channels of the source at the positions of a tile moved by `tap`, a row of 128 bytes each, to where a bulk
/// copy would put them. A thread a row.
__device__ __forceinline__ void bring_plainly(const Arguments& a, const Tile& t, int tap, int k0, u32 to) {
  int row = threadIdx.x % warpgroup, at[4];
  const int r = row;
#pragma unroll
  for (int d = 3; d >= 0; --d) at[d] = row % a.box[d], row /= a.box[d];
  const int n = t.corner[0] + at[0];
  bool inside = row == 0 && n < a.batch;
  i64 offset = n * a.source_strides.n;
  const i64 strides[3] = {a.source_strides.d, a.source_strides.h, a.source_strides.w};
#pragma unroll
  for (int d = 0; d < 3; ++d) {
    const int i = (t.corner[d + 1] + at[d + 1]) * source_step[d] + tap_offset[tap * 3 + d];
    inside = inside && i >= 0 && i < a.source_size[d];
    offset += i * strides[d];
  }
  const Element* from = reinterpret_cast<const Element*>(a.source) + offset + i64(t.group) * K;
  constexpr int each = 16 / element_bytes;
#pragma unroll 1
  for (int piece = 0; piece < 8; ++piece) {
    u32 words[4] = {};
#pragma unroll
    for (int e = 0; e < each; ++e) {
      const int k = k0 + piece * each + e;
      if (!inside || k >= K) continue;
      place(words, e, from[k]);
    }
    store_quad(to + r * 128 + ((piece ^ r % 8) << 4), words[0], words[1], words[2], words[3]);
  }
}

__device__ __forceinline__ void bring_all(const Arguments& a, u32 stages, const Barriers& barriers) {
  const bool first = threadIdx.x % warpgroup == 0;
  if (!first && !a.plain) return;
  const int rank = CLUSTER > 1 ? rank_in_cluster() : 0;
  int now = 0, parity = 1;
#pragma unroll 1
  for (int index = blockIdx.x / CLUSTER; index < a.tiles; index += gridDim.x / CLUSTER) {
    const Tile t(a, index);
#pragma unroll 1
    for (int tap = phase_first[t.phase]; tap < phase_first[t.phase + 1]; ++tap) {
      int at[3];
#pragma unroll
      for (int d = 0; d < 3; ++d) at[d] = t.corner[d + 1] * source_step[d] + tap_offset[tap * 3 + d];
      const int row = (t.group * TAPS + tap_row[tap]) * N + t.column + rank * shared_rows;
#pragma unroll 1
      for (int step = 0; step < steps_k; ++step) {
        const u32 landed = barriers.landed + 8 * now, a_at = stages + now * stage_bytes;
        const u32 b_at = a_at + a_bytes + rank * shared_rows * 128;
        barrier_wait(barriers.empty + 8 * now, parity);
        if (first) {
          barrier_expect(landed, b_bytes + (a.plain ? 0 : a.box_bytes));
          if (!a.plain)
            copy_box(a_at, &a.source_map, landed, t.group * K + step * STAGE_K, at[2], at[1], at[0], t.corner[0]);
          if constexpr (CLUSTER == 1)
            copy_box(b_at, &a.weight_map, landed, step * STAGE_K, row);
          else
            copy_box_to_all(b_at, &a.weight_map, landed, step * STAGE_K, row, (1 << CLUSTER) - 1);
        }
        if (a.plain) {
          bring_plainly(a, t, tap, step * STAGE_K, a_at);
          fence_shared();
          barrier_arrive(landed);
        }
        if (++now == STAGES) now = 0, parity ^= 1;
      }
    }
  }
}

}  // namespace upconv
