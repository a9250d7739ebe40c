// From the sums of implicit_gemm.cuh to the result: bias, epilogue, and rows of channels.
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

/// Where a row of a tile lies in the result.
struct Spot {
  bool inside;
  int n;
  i64 offset;  ///< Elements, to the group's first channel.

  __device__ __forceinline__ Spot(const Arguments& a, const Tile& t, const Row& row) {
    n = t.corner[0] + row.at[0];
    inside = row.real && n < a.batch;
    offset = n * a.out_strides.n + i64(t.group) * N;
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
    v = epilogue(v, of_channel(operands, channel),
                 of_element(operands, s.inside && real, s.n, channel, s.offset + (real ? column : 0)));
  return from_float<Element>(v);
}

__device__ __forceinline__ u32 as_words(float, float) { return 0; }  // fp32 is not staged
__device__ __forceinline__ void load_element(u32, float&) {}
template <class Half>
__device__ __forceinline__ void load_element(u32 address, Half& v) {
  load(address, v.bits);
}
template <class Half>
__device__ __forceinline__ u32 as_words(Half first, Half second) {
  return u32(first.bits) | u32(second.bits) << 16;
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
  for (int j = 0; j < 4; ++j) words[j] = as_words(value(j, 0), value(j, 1));
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
    Element* to = reinterpret_cast<Element*>(a.out) + spot.offset + t.column;
    const auto value = [&](int i, int odd) {
      const int column = t.column + 8 * i + threadIdx.x % 4 * 2 + odd;
      return finish(a, operands, t, spot, column, column < N, sums[i * 4 + half * 2 + odd]);
    };
    if (a.wide) {
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
          if (spot.inside && t.column + column < N) to[column] = v;
        }
    }
  }
}

/// A warp's 16 staged rows, element by element.
__device__ __forceinline__ void store_plainly(const Arguments& a, const Tile& t, const Spot (&spots)[2], u32 staging) {
  const int lane = threadIdx.x % 32, first = threadIdx.x % warpgroup / 32 * 16;
#pragma unroll 1
  for (int row = 0; row < 16; ++row) {
    const bool low = row < 8, own = low ? spots[0].inside : spots[1].inside;
    const i64 offset = __shfl_sync(~0u, low ? spots[0].offset : spots[1].offset, row % 8 * 4);
    const bool inside = __shfl_sync(~0u, static_cast<int>(own), row % 8 * 4) != 0;
    Element* to = reinterpret_cast<Element*>(a.out) + offset + t.column;
#pragma unroll 1
    for (int column = lane; inside && column < min(BN, N - t.column); column += 32)
      load_element(staging + (first + row) * row_pitch + column * element_bytes, to[column]);
  }
}

/// The same to rows of shared memory, from where store_staged() takes them. `turn` counts the tiles.
__device__ __forceinline__ void stage(const Arguments& a, const Operands& operands, const Tile& t,
                                      const Spot (&spots)[2], const float (&sums)[BN / 2], u32 staging,
                                      const Barriers& barriers, int turn) {
  const int lane = threadIdx.x % 32, group = threadIdx.x / warpgroup;
  // A lane's row and column of what four matrices make: two blocks of eight rows by two of eight columns.
  const int row = threadIdx.x % warpgroup / 32 * 16 + lane % 16;
  const u32 to = staging + row * row_pitch + lane / 16 * 16;
  const bool is_taken = is_staged(a);
  if (is_taken) barrier_wait(barriers.left + 8 * group, ~turn & 1);
#pragma unroll
  for (int i = 0; i < BN / 8; i += 2) {
    u32 words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int block = i + j / 2, half = j % 2, column = t.column + 8 * block + lane % 4 * 2;
      const auto value = [&](int odd) {
        return finish(a, operands, t, spots[half], column + odd, column + odd < N, sums[block * 4 + half * 2 + odd]);
      };
      words[j] = as_words(value(0), value(1));
    }
    store_matrices(to + i * 16, words);
  }
  if (is_taken) fence_shared();
  __syncwarp();
  if (is_taken) return barrier_arrive_if(lane < arriving, barriers.staged + 8 * group);
  store_plainly(a, t, spots, staging);
  __syncwarp();
}

/// A warp stores what a warpgroup staged, a row at a time.
__device__ __forceinline__ void store_staged(const Arguments& a, u32 staging, const Barriers& barriers, int group) {
  const int lane = threadIdx.x % 32;
  const Row rows[2] = {Row(a, group * 64 + lane), Row(a, group * 64 + 32 + lane)};
  int turn = 0;
#pragma unroll 1
  for (int index = blockIdx.x; index < a.tiles; index += gridDim.x, ++turn) {
    const Tile t(a, index);
    const Spot spots[2] = {Spot(a, t, rows[0]), Spot(a, t, rows[1])};
    barrier_wait(barriers.staged + 8 * group, turn & 1);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (spots[i].inside)
        store_bytes(reinterpret_cast<Element*>(a.out) + spots[i].offset + t.column,
                    staging + (i * 32 + lane) * row_pitch, min(BN, N - t.column) * element_bytes);
    wait_for_reads();
    __syncwarp();
    barrier_arrive_if(lane < arriving, barriers.left + 8 * group);
  }
}

}  // namespace upconv
