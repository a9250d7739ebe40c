// From the sums of implicit_gemm.cuh to the result: those of a cluster's blocks added up, bias, epilogue, and rows of
// channels, or, where these come first, element by element.
#pragma once

#include "implicit_gemm/shape.cuh"

namespace upconv {

/// Lane q of four neighbours gets word q of each of the four, in their order; `v` were four words of its own.
__device__ __forceinline__ void turn_in_quad(u32 (&v)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  const u32 a = __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1), b = __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
  if (odd)
    v[0] = a, v[2] = b;
  else
    v[1] = a, v[3] = b;
  const u32 c = __shfl_xor_sync(~0u, high ? v[0] : v[2], 2), d = __shfl_xor_sync(~0u, high ? v[1] : v[3], 2);
  if (high)
    v[0] = c, v[1] = d;
  else
    v[2] = c, v[3] = d;
}

/// A row of the tile: its position in the box, as this thread has it for all tiles.
struct Row {
  int at[4];
  bool real;

  __device__ __forceinline__ Row(const Arguments& a, int row) {
#pragma unroll
    for (int d = 3; d >= 0; --d) at[d] = row % a.box[d], row /= a.box[d];
    real = row == 0;
  }
};

/// Elements from a channel of the result to the next.
__device__ __forceinline__ i64 channel_step(const Arguments& a) { return OUT_FIRST ? a.out_strides.c : 1; }

/// Where a row of a tile lies in the result.
struct Spot {
  bool inside;
  int n;
  i64 offset;  ///< Elements, to the group's first channel.

  Spot() = default;
  __device__ __forceinline__ Spot(const Arguments& a, const Tile& t, const Row& row) {
    n = t.corner[0] + row.at[0];
    inside = row.real && n < a.batch;
    offset = n * a.out_strides.n + i64(t.group) * N * channel_step(a);
    const i64 strides[3] = {a.out_strides.d, a.out_strides.h, a.out_strides.w};
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      const int o = (t.corner[d + 1] + row.at[d + 1]) * out_step[d] + phase_at[t.phase * 3 + d];
      inside = inside && o < a.out_size[d];
      offset += o * strides[d];
    }
  }
  /// Keeps what was found from being found later.
  __device__ __forceinline__ void hold() {
    int real = inside;
    asm volatile("" : "+r"(n), "+r"(real), "+l"(offset));
    inside = real != 0;
  }
};

__device__ __forceinline__ Element finish(const Arguments& a, const Operands& operands, const Tile& t, const Spot& s,
                                          int column, bool real, float v) {
  const int channel = t.group * N + (real ? column : 0);
  if constexpr (has_bias) v += to_float(static_cast<const Element*>(a.bias)[channel]);
  if constexpr (has_epilogue)
    v = epilogue(
        v, of_channel(operands, channel),
        of_element(operands, s.inside && real, s.n, channel, s.offset + (real ? column * channel_step(a) : 0)));
  return from_float<Element>(v);
}

/// Columns 8 j + 2 q and the next, j < 4, of a row that begins at `to`, as many bytes at once as are known to lie
/// together; `left`: how many columns exist. `value(j, odd)` is said for all, as the lanes of a warp exchange them.
template <class Value>
__device__ __forceinline__ void write_together(float* to, bool inside, int left, const Value& value) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int column = 8 * j + threadIdx.x % 4 * 2;
    store_global_if(inside && column < left, to + column, __float_as_uint(value(j, 0)), __float_as_uint(value(j, 1)));
  }
}
template <class Half, class Value>
__device__ __forceinline__ void write_together(Half* to, bool inside, int left, const Value& value) {
  u32 words[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) words[j] = u32(value(j, 0).bits) | u32(value(j, 1).bits) << 16;
  turn_in_quad(words);
  const int column = threadIdx.x % 4 * 8;
  store_global_if(inside && column < left, to + column, words);
}

/// Sums [4 i + 2 half + odd]: column 8 i + 2 (lane % 4) + odd of row lane / 4 + 8 half.
__device__ __forceinline__ void leave(const Arguments& a, const Operands& operands, const Tile& t,
                                      const Spot (&spots)[2], const float (&sums)[BN / 2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Spot& spot = spots[half];
    Element* to = reinterpret_cast<Element*>(a.out) + spot.offset + t.column * channel_step(a);
    const auto value = [&](int i, int odd) {
      const int column = t.column + 8 * i + threadIdx.x % 4 * 2 + odd;
      return finish(a, operands, t, spot, column, column < N, sums[i * 4 + half * 2 + odd]);
    };
    if (!OUT_FIRST && a.wide) {
#pragma unroll
      for (int i = 0; i < BN / 8; i += 4)
        write_together(to + 8 * i, spot.inside, N - t.column - 8 * i,
                       [&](int j, int odd) { return value(i + j, odd); });
    } else {
#pragma unroll
      for (int i = 0; i < BN / 8; ++i)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
          const int column = 8 * i + threadIdx.x % 4 * 2 + odd;
          const Element v = value(i, odd);
          if (spot.inside && t.column + column < N) to[column * channel_step(a)] = v;
        }
    }
  }
}

/// Element e of 16 bytes.
__device__ __forceinline__ void put(u32 (&words)[4], int e, float v) { words[e] = __float_as_uint(v); }
template <class Half>
__device__ __forceinline__ void put(u32 (&words)[4], int e, Half v) {
  words[e / 2] |= u32(v.bits) << e % 2 * 16;
}

/// Of two neighbouring lanes' two rows of eight bytes each, the even lane gets all of the first, the odd all of the
/// second.
__device__ __forceinline__ void swap_with_neighbour(u32 (&v)[4]) {
  const bool odd = threadIdx.x & 1;
  const u32 a = __shfl_xor_sync(~0u, odd ? v[0] : v[2], 1), b = __shfl_xor_sync(~0u, odd ? v[1] : v[3], 1);
  if (odd)
    v[0] = a, v[1] = b;
  else
    v[2] = a, v[3] = b;
}

/// Waits for the last products, adds up what the blocks of the cluster have of this block's rows of a tile, and writes
/// them, 16 bytes of channels a lane, or positions of a channel side by side. `to` is where the stages were.
__device__ __forceinline__ void leave_in_cluster(const Arguments& a, const Operands& operands, const Tile& t,
                                                 float (&sums)[BN / 2], u32 to, int rank) {
  // A lane adds up four columns of as many rows as make 16 bytes, so that all lanes read what lies together.
  constexpr int each = 16 / element_bytes, quads = BN / 4, together = each / 4, own_rows = BM / SPLIT;
  static_assert(own_rows / together * quads % 32 == 0, "warps work as one");
  __shared__ Spot spots[own_rows];
  const int thread = threadIdx.x, row = thread / 32 * 16 + thread % 32 / 4;
  if (thread < own_rows) spots[thread] = Spot(a, t, Row(a, rank * own_rows + thread));
  mma_wait<0>();
  hold(sums);
  meet(1, consumers * warpgroup);  // nobody reads stages any more
#pragma unroll
  for (int i = 0; i < BN / 8; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      store_pair(to + (row + 8 * half) * sums_pitch + (8 * i + thread % 4 * 2) * 4,
                 __float_as_uint(sums[i * 4 + half * 2]), __float_as_uint(sums[i * 4 + half * 2 + 1]));
  meet_cluster();
  if constexpr (OUT_FIRST) {  // lanes write neighbouring positions of a channel
#pragma unroll 1
    for (int i = thread; i < own_rows * quads; i += consumers * warpgroup) {
      const int own = i % own_rows, quad = i / own_rows;
      const Spot spot = spots[own];
      const float4 sum = add_quads_in_cluster<SPLIT>(to + (rank * own_rows + own) * sums_pitch + quad * 16);
      const float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = t.column + quad * 4 + e;
        const Element v = finish(a, operands, t, spot, column, column < N, values[e]);
        if (spot.inside && column < N) reinterpret_cast<Element*>(a.out)[spot.offset + column * channel_step(a)] = v;
      }
    }
    meet_cluster();  // other blocks read from this one
    return;
  }
#pragma unroll 2
  for (int i = thread; i < own_rows / together * quads; i += consumers * warpgroup) {
    const int first = i / quads * together, quad = i % quads;
    u32 words[4] = {};
#pragma unroll
    for (int r = 0; r < together; ++r) {
      const Spot spot = spots[first + r];
      const float4 sum = add_quads_in_cluster<SPLIT>(to + (rank * own_rows + first + r) * sums_pitch + quad * 16);
      const float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = t.column + quad * 4 + e;
        const Element v = finish(a, operands, t, spot, column, column < N, values[e]);
        put(words, r * 4 + e, v);
        if (!a.wide && spot.inside && column < N) reinterpret_cast<Element*>(a.out)[spot.offset + column] = v;
      }
    }
    if constexpr (together == 2) swap_with_neighbour(words);
    const Spot spot = spots[first + thread % together];
    const int column = t.column + quad / together * each;
    if (a.wide)
      store_global_if(spot.inside && column < N, reinterpret_cast<Element*>(a.out) + spot.offset + column, words);
  }
  meet_cluster();  // other blocks read from this one
}

}  // namespace upconv
