// How the sums of weight_wgmma.cuh leave for dw or the workspace: lane by lane, by way of the stages' memory where a
// block has all taps, or added up by the blocks of a cluster.
#pragma once

#include "weight_wgmma/multiply.cuh"

namespace upconv {

/// Input channel, from the block's first, of a product's column 8 * j.
__device__ constexpr int channel_of(int j) { return 8 * j % x_together * X_PERIOD + 8 * j / x_together; }
/// Sums of one row to `to`: those of the first chain, then the others' added. `left`: input channels from this lane's
/// first on.
template <class Out>
__device__ __forceinline__ void leave_row(const float (&sums)[NB / 2], int half, Out* to, int left, bool first) {
  constexpr int columns = NB / 8, together = columns < 4 ? columns : 4;
#pragma unroll
  for (int j0 = 0; j0 < columns; j0 += together) {
    float before[together][2];
#pragma unroll
    for (int j = j0; j < j0 + together && j < columns; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        before[j - j0][i] =
            !first && channel_of(j) + i * X_PERIOD < left ? to_float(to[(channel_of(j) + i * X_PERIOD) * W_CI]) : 0.0f;
#pragma unroll
    for (int j = j0; j < j0 + together && j < columns; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (channel_of(j) + i * X_PERIOD < left)
          to[(channel_of(j) + i * X_PERIOD) * W_CI] = from_float<Out>(before[j - j0][i] + sums[4 * j + 2 * half + i]);
  }
}

// The sums of all of a block's taps are neighbours in dw, those of a lane are not: 16 bytes at a time by way of the
// stages' memory.
template <class Out>
struct Leaving {
  static constexpr int size = sizeof(Out);
  static constexpr bool dense = STACKED == 1 && TD == KD && TH == KH && TW == KW && W_W == 1 && W_H == KW &&
                                W_D == KH * KW && W_CO == KD * KH * KW;
  /// Elements of a store: of a block's rows, of the last block's and of a channel's a divisor.
  __device__ static constexpr int vector() {
    int v = 16 / size;
    while (COB * taps_of_block % v != 0 || CO * taps_of_block % v != 0 || W_CI % v != 0) v /= 2;
    return v;
  }
  static constexpr int pitch = WGS * MT * 64 + 16 / size;  // lanes of a store meet in no bank
  static constexpr int room = STAGES * stage_bytes / (pitch * size) / 8 * 8, at_once = room < NB ? room : NB;
  static constexpr bool possible = dense && at_once >= 8;
  struct alignas(vector() * sizeof(Out)) Piece {
    Out v[vector()];
  };
};
template <class Out>
__device__ __forceinline__ void leave_together(const Sums& sums, const Part& part, Out* dw, char* shared) {
  typedef Leaving<Out> L;
  constexpr int v = L::vector(), pieces = rows_of_block / v;
  Out* const turned = reinterpret_cast<Out*>(shared);
  const int limit = (CO - part.co0 < COB ? CO - part.co0 : COB) * taps_of_block, left = CI - part.ci0;
  Out* const to = dw + (static_cast<i64>(part.group) * CI + part.ci0) * W_CI + part.co0 * W_CO;
#pragma unroll
  for (int n0 = 0; n0 < NB; n0 += L::at_once) {
    meet(2, multiplying);
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int j = n0 / 8; j < NB / 8 && j * 8 < n0 + L::at_once; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * j - n0 + 2 * static_cast<int>(threadIdx.x % 4) + i % 2;
          turned[column * L::pitch + row_of(mt, i / 2)] = from_float<Out>(sums[mt][0][4 * j + i]);
        }
    meet(2, multiplying);
    const int columns = NB - n0 < L::at_once ? NB - n0 : L::at_once;
#pragma unroll 4
    for (int i = threadIdx.x; i < columns * pieces; i += multiplying) {
      const int column = n0 + i / pieces, row = i % pieces * v;
      const int channel = column % x_together * X_PERIOD + column / x_together;
      if (channel < left && row < limit)
        *reinterpret_cast<typename L::Piece*>(to + channel * W_CI + row) =
            *reinterpret_cast<const typename L::Piece*>(turned + (column - n0) * L::pitch + row);
    }
  }
}

/// The blocks of a cluster have a tile's sums of some boxes each. They leave them in their own shared memory, turned;
/// each adds up some columns of all, in the order of the blocks, and writes them.
__device__ __forceinline__ void leave_in_cluster(const Sums& sums, const Arguments& p, const Part& part, char* shared) {
  constexpr int pitch = WGS * MT * 64 + 4, columns = (NB + CLUSTER - 1) / CLUSTER, quads = (rows_of_block + 3) / 4;
  static_assert(CLUSTER == 1 || (Leaving<float>::dense && NB * pitch * 4 <= STAGES * stage_bytes),
                "blocks have all taps, and their sums fit where stages were");
  struct alignas(4 * sizeof(Element)) Piece {
    Element v[4];
  };
  float* const turned = reinterpret_cast<float*>(shared);
  meet(2, multiplying);  // nobody reads stages any more
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int j = 0; j < NB / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        turned[(8 * j + 2 * static_cast<int>(threadIdx.x % 4) + i % 2) * pitch + row_of(mt, i / 2)] =
            sums[mt][0][4 * j + i];
  meet_cluster();
  const int first = static_cast<int>(part.split) * columns, count = NB - first < columns ? NB - first : columns;
  const int limit = (CO - part.co0 < COB ? CO - part.co0 : COB) * taps_of_block, left = CI - part.ci0;
  Element* const to =
      static_cast<Element*>(p.out) + (static_cast<i64>(part.group) * CI + part.ci0) * W_CI + part.co0 * W_CO;
  const bool whole = Leaving<Element>::vector() >= 4 && reinterpret_cast<u64>(p.out) % sizeof(Piece) == 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < count * quads; i += multiplying) {
    const int column = first + i / quads, row = i % quads * 4;
    const int channel = column % x_together * X_PERIOD + column / x_together;
    if (channel >= left || row >= limit) continue;
    const u32 at = shared_address(turned + column * pitch + row);
    const float4 sum = add_quads_in_cluster<CLUSTER>(at);
    const Piece piece{{from_float<Element>(sum.x), from_float<Element>(sum.y), from_float<Element>(sum.z),
                       from_float<Element>(sum.w)}};
    if (whole) {
      *reinterpret_cast<Piece*>(to + channel * W_CI + row) = piece;
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (row + e < limit) to[channel * W_CI + row + e] = piece.v[e];
    }
  }
  meet_cluster();  // other blocks read from this one
}

/// Writes the sums to dw, or to this block's share of the workspace; `alone`: one chain was all, and the stages are
/// free.
template <class Out>
__device__ __forceinline__ bool left_together(const Sums& sums, const Part& part, Out* dw, char* shared, bool alone) {
  if constexpr (Leaving<Out>::possible) {
    if (alone && reinterpret_cast<u64>(dw) % sizeof(typename Leaving<Out>::Piece) == 0) {
      leave_together(sums, part, dw, shared);
      return true;
    }
  }
  return false;
}
__device__ __forceinline__ void leave(const Sums& sums, const Arguments& p, const Part& part, char* shared, bool first,
                                      bool last) {
  if (p.partial ? left_together(sums, part, static_cast<float*>(p.out) + part.split * p.dw_size, shared, first && last)
                : left_together(sums, part, static_cast<Element*>(p.out), shared, first && last))
    return;
  const int channel = 2 * static_cast<int>(threadIdx.x % 4) * X_PERIOD, left = CI - part.ci0 - channel;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Row row(row_of(mt, half));
      const int co = part.co0 + row.co, td = part.td0 + row.td, th = part.th0 + row.th, tw = part.tw0 + row.tw;
      if (!row.real || co >= CO || td >= KD || th >= KH || tw >= KW) continue;
      const i64 at =
          (static_cast<i64>(part.group) * CI + part.ci0 + channel) * W_CI + co * W_CO + td * W_D + th * W_H + tw * W_W;
#pragma unroll
      for (int tap = 0; tap < STACKED; ++tap) {
        if (th + tap * KH >= TAPS_H) continue;
        const i64 to = at + tap * KH * W_H;
        if (p.partial)
          leave_row(sums[mt][tap], half, static_cast<float*>(p.out) + part.split * p.dw_size + to, left, first);
        else
          leave_row(sums[mt][tap], half, static_cast<Element*>(p.out) + to, left, first);
      }
    }
}

}  // namespace upconv
