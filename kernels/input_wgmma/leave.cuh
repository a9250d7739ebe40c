// How the sums of a tile of input_wgmma.cuh leave for dx: lane by lane, through
// shared memory where rows of dx allow it, or added up by the blocks of a
// cluster.
#pragma once

#include "input_wgmma/multiply.cuh"
#include "ptx/words.cuh"

namespace upconv {

/// Writes the sums of `count` groups of 8 channels from group `from` of a tile
/// on.
template <int count>
__device__ __forceinline__ void leave(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                      int from) {
  const int first = at.ci0 + 8 * from + threadIdx.x % 4 * 2;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = row_of(mt, half);
      const int d = at.box.d * BD + m / (BW * BH), h = at.box.h * BH + m / BW % BH, w = at.box.w * BW + m % BW;
      if (d >= p.in_d || h >= p.in_h || w >= p.in_w) continue;
      Element* to = static_cast<Element*>(p.dx) + at.box.n * p.xs.n + (at.group * CI + first) * p.xs.c + d * p.xs.d +
                    h * p.xs.h + w;
#pragma unroll
      for (int j = 0; j < count; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if ((CI % NB == 0 || first + 8 * j + i < CI) && (NB / 8 % count == 0 || from + j < NB / 8))
            to[(8 * j + i) * p.xs.c] = from_float<Element>(sums[mt][4 * j + 2 * half + i]);
    }
}

// Where rows of dx allow it, sums leave through shared memory, so that a lane
// writes neighbouring positions: by a warpgroup, 64 positions of some channels
// at a time.
constexpr int left_groups = 4 / element_bytes;            ///< Of 8 channels, at a time.
constexpr int left_pitch = element_bytes == 4 ? 68 : 72;  ///< Elements from channel to channel: few banks twice.
constexpr int left_bytes = left_groups * 8 * left_pitch * element_bytes;  ///< One of two buffers of a warpgroup.
static_assert(left_bytes % 16 == 0 && 4 * left_bytes <= LEFT_BYTES, "the host reserves what is used");

/// The same as leave(), `bytes` a lane at once; `buffers` are the warpgroup's.
template <int bytes, int count>
__device__ __forceinline__ void leave_words(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                            int from, char* buffers) {
  typedef typename WordsOf<bytes>::Type Words;
  constexpr int each = bytes / element_bytes, of_line = 64 / each, lines_at_once = warpgroup / of_line;
  const int thread = threadIdx.x % warpgroup, group = threadIdx.x / warpgroup, lane = thread % 32;
  const int line = thread / of_line, position = thread % of_line * each;
  int turn = 0;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
    const int m = (group * MT + mt) * 64 + position;
    const int d = at.box.d * BD + m / (BW * BH), h = at.box.h * BH + m / BW % BH, w = at.box.w * BW + m % BW;
    const bool inside = d < p.in_d && h < p.in_h && w < p.in_w;
    Element* corner = static_cast<Element*>(p.dx) + at.box.n * p.xs.n + (at.group * CI + at.ci0) * p.xs.c + d * p.xs.d +
                      h * p.xs.h + w;
#pragma unroll
    for (int first = 0; first < count; first += left_groups) {
      Element* buffer = reinterpret_cast<Element*>(buffers + turn * left_bytes);
      turn ^= 1;
#pragma unroll
      for (int j = 0; j < left_groups && first + j < count; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          buffer[(8 * j + lane % 4 * 2 + i % 2) * left_pitch + thread / 32 * 16 + i / 2 * 8 + lane / 4] =
              from_float<Element>(sums[mt][4 * (first + j) + i]);
      meet(2 + group,
           warpgroup);  // what was read from the other buffer is read, too
#pragma unroll
      for (int j = 0; j < left_groups * 8; j += lines_at_once) {
        const int channel = j + line, of_tile = 8 * (from + first) + channel;
        const bool exists = (count % left_groups == 0 || first + channel / 8 < count) &&
                            (CI % NB == 0 || at.ci0 + of_tile < CI) && (NB / 8 % count == 0 || of_tile < NB);
        if (inside && exists && channel < left_groups * 8)
          *reinterpret_cast<Words*>(corner + of_tile * p.xs.c) =
              *reinterpret_cast<const Words*>(buffer + channel * left_pitch + position);
      }
    }
  }
  meet(2 + group,
       warpgroup);  // the first buffer is read before it is written again
}

/// The sums of `count` groups of 8 channels from group `from` of a tile on, as
/// wide as rows of dx allow.
template <int count>
__device__ __forceinline__ void leave_tile(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                           int from, char* buffers) {
  if (p.store_bytes == 16)
    leave_words<16, count>(sums, p, at, from, buffers);
  else if (!tf32 && p.store_bytes == 8)
    leave_words<8, count>(sums, p, at, from, buffers);
  else if (!tf32 && p.store_bytes == 4)
    leave_words<4, count>(sums, p, at, from, buffers);
  else
    leave<count>(sums, p, at, from);
}

/// Adds up what the blocks of the cluster have of this block's share of the
/// channels, and writes it.
__device__ __forceinline__ void leave_shared(const Sums& sums, const Arguments& p, const Place& at, u32 to, int rank,
                                             char* buffers) {
  constexpr int count = (NB / 8 + SPLIT - 1) / SPLIT;
  const auto place = [to](int mt, int j) { return to + ((mt * (NB / 8) + j) * multiplying + threadIdx.x) * 16; };
  meet(1, multiplying);  // nobody reads stages any more
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int j = 0; j < NB / 8; ++j)
      store_quad(place(mt, j), __float_as_uint(sums[mt][4 * j]), __float_as_uint(sums[mt][4 * j + 1]),
                 __float_as_uint(sums[mt][4 * j + 2]), __float_as_uint(sums[mt][4 * j + 3]));
  meet_cluster();
  const int from = rank * count;
  if (from < NB / 8) {
    float share[MT][4 * count];
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const u32 mine = place(mt, min(from + j, NB / 8 - 1));
        const float4 sum = add_quads_in_cluster<SPLIT>(mine);
        share[mt][4 * j] = sum.x, share[mt][4 * j + 1] = sum.y, share[mt][4 * j + 2] = sum.z;
        share[mt][4 * j + 3] = sum.w;
      }
    leave_tile<count>(share, p, at, from, buffers);
  }
  meet_cluster();  // other blocks read from this one
}

}  // namespace upconv
