// What fills the stages of implicit_gemm.cuh: one thread, by bulk copies; where no tensor map describes the source, all
// of a warpgroup, by 8 bytes or element by element.
#pragma once

#include "implicit_gemm/shape.cuh"

namespace upconv {

/// Element e of 16 bytes.
__device__ __forceinline__ void place(u32 (&words)[4], int e, float v) { words[e] = round_tf32(v); }
template <class Half>
__device__ __forceinline__ void place(u32 (&words)[4], int e, Half v) {
  words[e / 2] |= u32(v.bits) << e % 2 * 16;
}

/// Where the source's channels begin at this thread's row of a tile moved by `tap`; null outside of the tensor.
__device__ __forceinline__ const Element* source_row(const Arguments& a, const Tile& t, int tap) {
  int row = threadIdx.x % warpgroup, at[4];
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
  return inside ? reinterpret_cast<const Element*>(a.source) + offset + i64(t.group) * K : nullptr;
}

/// STAGE_K channels from k0 on of a tile's rows, a row of 128 bytes each, to where a bulk copy would put them. A thread
/// a row, which begins at `from`.
__device__ __forceinline__ void bring_plainly(const Element* from, int k0, u32 to) {
  constexpr int each = 16 / element_bytes;
  const int r = threadIdx.x % warpgroup;
#pragma unroll 1
  for (int piece = 0; piece < 8; ++piece) {
    u32 words[4] = {};
#pragma unroll
    for (int e = 0; e < each; ++e) {
      const int k = k0 + piece * each + e;
      if (!from || k >= K) continue;
      place(words, e, from[k]);
    }
    store_quad(to + r * 128 + ((piece ^ r % 8) << 4), words[0], words[1], words[2], words[3]);
  }
}

/// The same of rows at multiples of 8 bytes: sixteen lanes a row of their warp's, whose beginnings they have from each
/// other.
__device__ __forceinline__ void bring_by_eights(const Element* mine, int k0, u32 to) {
  constexpr int at_once = BLOCKS > 1 ? 4 : 8;  // asked for before any is waited for
  const int lane = threadIdx.x % 32, k = k0 + lane % 16 * (8 / element_bytes);
  const auto word = [](u32 w) { return element_bytes == 4 ? round_tf32(__uint_as_float(w)) : w; };
#pragma unroll 1
  for (int j = lane / 16; j < 32; j += 2 * at_once) {
    uint2 v[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const auto from = reinterpret_cast<const Element*>(__shfl_sync(~0u, reinterpret_cast<u64>(mine), j + 2 * i));
      v[i] = uint2{0, 0};
      if (from && k < K) v[i] = *reinterpret_cast<const uint2*>(from + k);
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const int r = threadIdx.x % warpgroup / 32 * 32 + j + 2 * i;
      store_pair(to + r * 128 + ((lane % 16 / 2 ^ r % 8) << 4) + lane % 2 * 8, word(v[i].x), word(v[i].y));
    }
  }
}

/// B of a stage from w, as bulk copies would leave it: 16 bytes of 8 (4) source channels of a result channel, or, where
/// B_ROWS, of 8 result channels of a source channel.
__device__ __forceinline__ void bring_weights_plainly(const Arguments& a, const Tile& t, int tap, int k0, u32 to) {
  constexpr int each = 16 / element_bytes;
  const Element* from = static_cast<const Element*>(a.weights) + t.group * a.w_group + tap_row[tap] * a.w_tap;
#pragma unroll 1
  for (int i = threadIdx.x % warpgroup; i < BN * 8; i += warpgroup) {
    const int piece = i % 8, row = i / 8;  // of BN rows, or of STAGE_K in each slice
    const int n = t.column + (B_ROWS ? row / STAGE_K * 64 + piece * each : row);
    const int k = k0 + (B_ROWS ? row % STAGE_K : piece * each);
    u32 words[4] = {};
#pragma unroll
    for (int e = 0; e < each; ++e) {
      const int of_n = B_ROWS ? n + e : n, of_k = B_ROWS ? k : k + e;
      if (of_n < N && of_k < K) place(words, e, from[of_n * a.w_n + of_k * a.w_k]);
    }
    store_quad(to + row * 128 + ((piece ^ row % 8) << 4), words[0], words[1], words[2], words[3]);
  }
}

__device__ __forceinline__ void bring_all(const Arguments& a, u32 stages, const Barriers& barriers, int rank) {
  const bool first = threadIdx.x % warpgroup == 0, plainly = a.plain || a.plain_weights;
  if (!first && !plainly) return;
  const int bulk_bytes = (a.plain ? 0 : a.box_bytes) + (a.plain_weights ? 0 : b_bytes);
  int now = 0, parity = 1;
#pragma unroll 1
  for (int index = blockIdx.x / SPLIT; index < a.tiles; index += gridDim.x / SPLIT) {
    const Tile t(a, index);
    const Share share(t, rank);
    int step = share.first % steps_k, left = share.end - share.first;
#pragma unroll 1
    for (int tap = phase_first[t.phase] + share.first / steps_k; left > 0; ++tap) {
      int at[3];
#pragma unroll
      for (int d = 0; d < 3; ++d) at[d] = t.corner[d + 1] * source_step[d] + tap_offset[tap * 3 + d];
      const int tap_of_w = tap_row[tap];
      const Element* mine = a.plain ? source_row(a, t, tap) : nullptr;
#pragma unroll 1
      for (; step < steps_k && left > 0; ++step, --left) {
        const u32 landed = barriers.landed + 8 * now, a_at = stages + now * stage_bytes, b_at = a_at + a_bytes;
        const int k0 = step * STAGE_K;
        barrier_wait(barriers.empty + 8 * now, parity);
        if (first) {
          barrier_expect(landed, bulk_bytes);
          if (!a.plain) copy_box(a_at, &a.source_map, landed, t.group * K + k0, at[2], at[1], at[0], t.corner[0]);
          if (!a.plain_weights) {
            if constexpr (B_ROWS) {
#pragma unroll
              for (int i = 0; i < BN / 64; ++i)
                copy_box(b_at + i * slice_bytes, &a.weight_map, landed, t.column + 64 * i, tap_of_w, t.group * K + k0);
            } else {
              copy_box(b_at, &a.weight_map, landed, k0, tap_of_w, t.group * N + t.column);
            }
          }
        }
        if (plainly) {
          if (EIGHTS && a.plain > 1)
            bring_by_eights(mine, k0, a_at);
          else if (a.plain)
            bring_plainly(mine, k0, a_at);
          if (a.plain_weights) bring_weights_plainly(a, t, tap, k0, b_at);
          fence_shared();
          barrier_arrive(landed);
        }
        if (++now == STAGES) now = 0, parity ^= 1;
      }
      step = 0;
    }
  }
}

}  // namespace upconv
