// The fetching warpgroup of columns.cuh: x through registers, four channels (eight of 16 bits) of a position to each 16
// bytes that wgmma reads, rounded or split on the way; weights by copies in the background, as they lie in memory.
#pragma once

#include "columns/shape.cuh"

namespace upconv {

// ---- x ------------------------------------------------------------------------------------------------------------

template <int bytes>
struct BitsOf;
template <>
struct BitsOf<4> {
  typedef u32 type;
};
template <>
struct BitsOf<2> {
  typedef u16 type;
};
typedef BitsOf<element_bytes>::type Bits;

constexpr int positions_each = (STAGED + warpgroup - 1) / warpgroup;
constexpr int octets = CHANNELS / 8 / SHARES;  // of channels, a thread's of a chunk
constexpr int fetches = SEGMENTS * octets;     // of a chunk
// Fetches in flight. The loop over chunks is unrolled so that each finds its registers.
constexpr int unrolled = fetches >= DEPTH ? 1 : (DEPTH + fetches - 1) / fetches;
constexpr int in_flight = fetches >= DEPTH ? DEPTH : unrolled * fetches;
static_assert(fetches * unrolled % in_flight == 0, "every fetch finds its registers");
static_assert(CHANNELS % (8 * SHARES) == 0, "threads of one position share its channels evenly");

constexpr u32 nowhere = ~0u;

struct Octet {
  u32 of[positions_each][8];
};

/// Where a thread's positions of a tile lie in x: elements from the first of the tile's first sample on.
struct Source {
  const Bits* x;
  u32 offset[SEGMENTS][positions_each];
  int share;

  __device__ __forceinline__ Source(const Arguments& a, const Tile& t, int thread) {
    const int first = SHARES > 1 ? thread % STAGED : thread;
    share = SHARES > 1 ? thread / STAGED : 0;
    const int n0 = Position(a, t.position > LEAD ? t.position - LEAD : 0).n;
    x = reinterpret_cast<const Bits*>(a.x) + n0 * a.x_strides.n + i64(t.group) * K * a.x_strides.c;
#pragma unroll
    for (int i = 0; i < positions_each; ++i) {
      const int staged = first + i * warpgroup, at = t.position - LEAD + staged;
      const bool real = staged < STAGED && share < SHARES && at >= 0 && at < a.positions;
      const Position p(a, real ? at : 0);
#pragma unroll
      for (int s = 0; s < SEGMENTS; ++s) {
        const int d = RANK > 2 ? p.d + a.first_d - segment_d[s] : 0, h = RANK > 1 ? p.h + a.first_h - segment_h[s] : 0;
        const bool inside = real && p.w < a.in_w && (RANK < 2 || (h >= 0 && h < a.in_h)) &&
                            (RANK < 3 || (d >= 0 && d < a.in_d));
        i64 offset = (p.n - n0) * a.x_strides.n + p.w * a.x_strides.w;
        if (RANK > 1) offset += h * a.x_strides.h;
        if (RANK > 2) offset += d * a.x_strides.d;
        offset_of(s, i) = inside ? static_cast<u32>(offset) : nowhere;
      }
    }
  }
  __device__ __forceinline__ u32& offset_of(int segment, int i) { return offset[segment][i]; }

  /// Loads eight channels of this thread's positions; zeros where x ends.
  __device__ __forceinline__ void fetch(const Arguments& a, Octet& to, int chunk, int fetch) const {
    const int segment = fetch / octets, k0 = chunk * CHANNELS + (fetch % octets * SHARES + share) * 8;
    const Bits* base = x + k0 * a.x_strides.c;
#pragma unroll
    for (int i = 0; i < positions_each; ++i) {
      const u32 at = offset[segment][i];
      const Bits* from = base + at;
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const bool take = at != nowhere && (K % CHANNELS == 0 || k0 + c < K);
        to.of[i][c] = take ? u32(from[c * a.x_strides.c]) : 0u;
      }
    }
  }

  /// Writes them to a stage.
  __device__ __forceinline__ void put(char* stage, const Octet& from, int fetch, int thread) const {
    const int segment = fetch / octets, octet = fetch % octets * SHARES + share;
    const int first = SHARES > 1 ? thread % STAGED : thread;
#pragma unroll
    for (int i = 0; i < positions_each; ++i) {
      const int staged = first + i * warpgroup;
      if (STAGED * SHARES % warpgroup != 0 && (staged >= STAGED || share >= SHARES)) continue;
      const u32(&v)[8] = from.of[i];
      char* to = stage + weight_bytes + octet * (8 / unit_channels) * unit_bytes + (segment * STAGED + staged) * 16;
      const auto number = [&](int c) { return __uint_as_float(v[c]); };
      if constexpr (element_bytes == 2) {
        *reinterpret_cast<uint4*>(to) =
            make_uint4(v[0] | v[1] << 16, v[2] | v[3] << 16, v[4] | v[5] << 16, v[6] | v[7] << 16);
      } else if constexpr (tf32) {
        *reinterpret_cast<uint4*>(to) =
            make_uint4(round_tf32(number(0)), round_tf32(number(1)), round_tf32(number(2)), round_tf32(number(3)));
        *reinterpret_cast<uint4*>(to + unit_bytes) =
            make_uint4(round_tf32(number(4)), round_tf32(number(5)), round_tf32(number(6)), round_tf32(number(7)));
      } else {
        u32 high[4], low[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          high[c] = pack_bf16(number(2 * c), number(2 * c + 1));
          low[c] = pack_rest(number(2 * c), number(2 * c + 1), high[c]);
        }
        *reinterpret_cast<uint4*>(to) = make_uint4(high[0], high[1], high[2], high[3]);
        *reinterpret_cast<uint4*>(to + part_bytes) = make_uint4(low[0], low[1], low[2], low[3]);
      }
    }
  }
};

// ---- weights ------------------------------------------------------------------------------------------------------

/// Where the i-th weight that a tile takes of one channel of x lies in a row of the stage. They are counted as they lie
/// in memory: by channel of y, then tap (W_LAST: by tap, then channel).
__device__ __forceinline__ constexpr int place_of(int i) {
  if (!PARTED) return i;
  const int channel = i / TAPS, tap = i % TAPS;
  const int d = tap / (KH * KW), h = tap / KW % KH, w = tap % KW;
  const int shift = (d / SD * (KH / SH) + h / SH) * (KW / SW) + w / SW;
  return shift * SPAN + channel * phases + (d % SD * SH + h % SH) * SW + w % SW;
}
/// Where it lies in memory, from the tile's first weight on.
__device__ __forceinline__ constexpr int weight_of(int i) {
  constexpr int channels = W_LAST ? W_RUN / TAPS : 1;
  return W_LAST ? i / channels * CO + i % channels : i;
}
/// How far the tile's first weight lies behind that of its group.
__device__ __forceinline__ int first_weight(const Tile& t) {
  return W_LAST ? t.row / row_phases : t.row * (TAPS / row_phases);
}
/// Whether the tile's i-th weight exists: the last tile of a group may have rows too many.
__device__ __forceinline__ bool weight_exists(const Tile& t, int i) {
  constexpr int channels = W_LAST ? W_RUN / TAPS : 1;
  if constexpr (CO * row_phases % BLOCK_ROWS == 0) return true;
  return W_LAST ? t.row / row_phases + i % channels < CO : first_weight(t) + i < weights_of_channel;
}

/// This thread's copies of one chunk: pieces of PIECE bytes in columns, all rows of them or every so many.
struct Weights {
  static constexpr int elements = PIECE > 0 ? PIECE / element_bytes : 1, pieces = W_RUN / elements;
  static constexpr int rows = pieces >= warpgroup ? 1 : warpgroup / pieces;  // at once
  static constexpr int columns = pieces >= warpgroup ? (pieces + warpgroup - 1) / warpgroup : 1;
  const Element* from[columns];  // null: no piece
  u32 to[columns];
  int row;

  __device__ __forceinline__ Weights(const Arguments& a, const Tile& t, int thread) {
    row = rows == 1 ? 0 : thread / pieces;
    const Element* group = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll
    for (int i = 0; i < columns; ++i) {
      const int piece = rows == 1 ? thread + i * warpgroup : thread % pieces, first = piece * elements;
      const bool exists = (rows == 1 ? piece < pieces : row < rows) && weight_exists(t, first);
      from[i] = exists ? group + weight_of(first) + row * weights_of_channel : nullptr;
      to[i] = (row * W_PITCH + place_of(first)) * element_bytes;
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
        copy_async<PIECE == 0 ? 4 : PIECE>(stage + to[i] + k * (W_PITCH * element_bytes),
                                           real ? base + k * weights_of_channel : from[i], real ? PIECE : 0);
      }
    }
  }
};

/// The same, one weight after the other: for sizes and addresses that no copy takes.
__device__ __forceinline__ void bring_weights(const Arguments& a, const Tile& t, char* stage, int chunk, int thread) {
  const Element* base = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll 4
  for (int at = thread; at < CHANNELS * W_RUN; at += warpgroup) {
    const int k = at / W_RUN, i = at % W_RUN;
    const i64 channel = i64(chunk) * CHANNELS + k;
    Element v = from_float<Element>(0.f);
    if ((K % CHANNELS == 0 || channel < K) && weight_exists(t, i)) v = base[channel * weights_of_channel + weight_of(i)];
    reinterpret_cast<Element*>(stage)[k * W_PITCH + place_of(i)] = v;
  }
}

// ---- both ---------------------------------------------------------------------------------------------------------

/// Brings every chunk of a tile. `stage` and `parity` go on from tile to tile.
__device__ __forceinline__ void fetch_tile(const Arguments& a, const Tile& t, char* stages, u32 full, u32 empty,
                                           int first_chunk, int end_chunk, int& stage, int& parity, int thread) {
  const Source source(a, t, thread);
  const Weights weights(a, t, thread);
  Octet octet[in_flight];
#pragma unroll
  for (int f = 0; f < in_flight; ++f)
    if (first_chunk + f / fetches < end_chunk) source.fetch(a, octet[f], first_chunk + f / fetches, f % fetches);
  for (int first = first_chunk; first < end_chunk; first += unrolled) {
#pragma unroll
    for (int u = 0; u < unrolled; ++u) {
      const int chunk = first + u;
      if (unrolled > 1 && chunk >= end_chunk) break;
      char* to = stages + stage * stage_bytes;
      barrier_wait(empty + 8 * stage, parity ^ 1);
      if (PIECE > 0 && a.copy_weights)
        weights.copy(shared_address(to), chunk);
      else
        bring_weights(a, t, to, chunk, thread);
      barrier_arrive_after_copies(full + 8 * stage);
#pragma unroll
      for (int f = 0; f < fetches; ++f) {
        Octet& o = octet[(u * fetches + f) % in_flight];
        source.put(to, o, f, thread);
        const int next = f + in_flight, later = chunk + next / fetches;
        if (later < end_chunk) source.fetch(a, o, later, next % fetches);
      }
      fence_for_products();
      __syncwarp();
      if (thread % 32 == 0) barrier_arrive(full + 8 * stage);
      if (++stage == STAGES) stage = 0, parity ^= 1;
    }
  }
}

}  // namespace upconv
