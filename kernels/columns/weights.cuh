// Weights of columns.cuh: where each lies in a stage, and how they come there by copies in the background. What
// no copy takes is moved element by element.
#pragma once

#include "columns/shape.cuh"

namespace upconv {

/// The i-th weight that a tile takes of one channel of x, counted as they lie in memory, by channel of y, then tap: its
/// shift (0 unless PARTED) and its row.
struct Spot {
  int shift, row;
};
__device__ __forceinline__ constexpr Spot spot_of(int i) {
  if (!PARTED) return {0, i};
  const int channel = i / TAPS, tap = i % TAPS;
  const int d = tap / (KH * KW), h = tap / KW % KH, w = tap % KW;
  return {(d / SD * (KH / SH) + h / SH) * (KW / SW) + w / SW, channel * phases + (d % SD * SH + h % SH) * SW + w % SW};
}
/// Where it lies in a stage, in bytes.
__device__ __forceinline__ constexpr int place_of(int i) {
  const Spot s = spot_of(i);
  if (A_SHARED) return s.shift * part_rows_bytes + s.row / 8 * block_bytes + s.row % 8 * 2;
  return (s.shift * SPAN + s.row) * element_bytes;
}
constexpr int w_channel_bytes = A_SHARED ? 16 : W_PITCH * element_bytes;

/// How far the tile's first weight lies behind that of its group.
__device__ __forceinline__ int first_weight(const Tile& t) { return t.row * (TAPS / row_phases); }
/// Whether the tile's i-th weight exists: the last tile of a group may have rows too many.
__device__ __forceinline__ bool weight_exists(const Tile& t, int i) {
  if constexpr (CO * row_phases % BLOCK_ROWS == 0) return true;
  return first_weight(t) + i < weights_of_channel;
}

/// This thread's copies of one chunk: pieces of PIECE bytes in columns, all rows of them or every so many.
struct Weights {
  static constexpr int elements = PIECE > 0 ? PIECE / element_bytes : 1, pieces = W_RUN / elements;
  static constexpr int rows = pieces >= bringers ? 1 : bringers / pieces;  // at once
  static constexpr int columns = pieces >= bringers ? (pieces + bringers - 1) / bringers : 1;
  const Element* from[columns];  // null: no piece
  u32 to[columns];
  int row;

  __device__ __forceinline__ Weights(const Arguments& a, const Tile& t, int thread) {
    row = rows == 1 ? 0 : thread / pieces;
    const Element* group = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll
    for (int i = 0; i < columns; ++i) {
      const int piece = rows == 1 ? thread + i * bringers : thread % pieces, first = piece * elements;
      const bool exists = (rows == 1 ? piece < pieces : row < rows) && weight_exists(t, first);
      from[i] = exists ? group + first + row * weights_of_channel : nullptr;
      to[i] = row * w_channel_bytes + place_of(first);
    }
  }

  __device__ __forceinline__ void copy(u32 stage, int chunk) const {
    const i64 k0 = i64(chunk) * CHANNELS;
#pragma unroll
    for (int i = 0; i < columns; ++i) {
      if (!from[i]) continue;
      const Element* base = from[i] + k0 * weights_of_channel;
#pragma unroll
      for (int k = 0; k < CHANNELS; k += rows) {
        if (CHANNELS % rows != 0 && k + row >= CHANNELS) continue;
        const bool real = K % CHANNELS == 0 || k0 + k + row < K;
        const Element* source = real ? base + k * weights_of_channel : from[i];
        if constexpr (PIECE == 16 && (A_SHARED || PARTED))  // neighbours go to places apart
          copy_async_cached(stage + to[i] + k * w_channel_bytes, source, real);
        else
          copy_async<PIECE == 0 ? 4 : PIECE>(stage + to[i] + k * w_channel_bytes, source, real && PIECE > 0);
      }
    }
  }
};

/// The same, one weight after the other.
__device__ __forceinline__ void bring_weights(const Arguments& a, const Tile& t, char* stage, int chunk, int thread) {
  const Element* base = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll 4
  for (int at = thread; at < CHANNELS * W_RUN; at += bringers) {
    const int k = at / W_RUN, i = at % W_RUN;
    const i64 channel = i64(chunk) * CHANNELS + k;
    Element v = from_float<Element>(0.f);
    if ((K % CHANNELS == 0 || channel < K) && weight_exists(t, i)) v = base[channel * weights_of_channel + i];
    *reinterpret_cast<Element*>(stage + k * w_channel_bytes + place_of(i)) = v;
  }
}

}  // namespace upconv
