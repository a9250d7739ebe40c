// db[c] = the sum of dy over everything but channels, at memory speed: 16-byte loads from the first aligned address on,
// parts in `parts` that ordered_sum adds up, always in the same order. Floor: dy read once.
//   bias_rows     dy as rows (n, c) of `volume` neighbours: a warp takes pieces of a channel's rows
//   bias_columns  dy as lines of `width` elements, a multiple of the period after which channels repeat: a thread keeps
//                 one vector of columns and walks down the lines (channels_last, and channels_first with short rows)
// Host preamble: Element.
#pragma once

#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

using config::Element;
typedef Number<Element>::Sum Sum;
constexpr int lanes = 16 / sizeof(Element);  ///< Elements of a vector.

struct Vector {
  u32 word[4];
};
__device__ __forceinline__ Vector load(const Element* p) {
  Vector v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(p));
  return v;
}
__device__ __forceinline__ float element(const Vector& v, int j, float*) { return __uint_as_float(v.word[j]); }
__device__ __forceinline__ double element(const Vector& v, int j, double*) {
  return __hiloint2double(int(v.word[2 * j + 1]), int(v.word[2 * j]));
}
template <class T>
__device__ __forceinline__ T element(const Vector& v, int j, T*) {
  return {static_cast<u16>(v.word[j / 2] >> (j % 2 * 16))};
}
__device__ __forceinline__ void add(Sum (&sum)[lanes], const Vector& v) {
#pragma unroll
  for (int j = 0; j < lanes; ++j) sum[j] += to_float(element(v, j, static_cast<Element*>(nullptr)));
}
/// Elements before the first 16-byte boundary.
__device__ __forceinline__ i64 unaligned(const Element* p) {
  return static_cast<i64>(-reinterpret_cast<u64>(p) & 15) / static_cast<i64>(sizeof(Element));
}
__device__ __forceinline__ i64 smaller(i64 a, i64 b) { return a < b ? a : b; }

/// Adds vectors first, first + step, ... below `end`: `batch` loads in flight, their sums added apart.
__device__ __forceinline__ void add_vectors(Sum (&sum)[lanes], const Element* p, i64 first, i64 end, i64 step) {
  constexpr int batch = 4;
  for (i64 i = first; i < end; i += batch * step) {
    Vector v[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      v[k] = {};
      if (i + k * step < end) v[k] = load(p + (i + k * step) * lanes);
    }
    Sum part[lanes] = {};
#pragma unroll
    for (int k = 0; k < batch; ++k) add(part, v[k]);
#pragma unroll
    for (int j = 0; j < lanes; ++j) sum[j] += part[j];
  }
}

}  // namespace upconv

/// Grid: channels * shares blocks of whole warps. `pieces` pieces of `piece` elements cover a row; a share is `units`
/// of a channel's batch * pieces. parts[share][channel], or null: one share, and db is written.
extern "C" __global__ void __launch_bounds__(256, 3)
    bias_rows(const config::Element* dy, upconv::Sum* __restrict__ parts, config::Element* __restrict__ db,
              const upconv::i64 batch, const upconv::i64 channels, const upconv::i64 volume, const upconv::i64 piece,
              const upconv::i64 pieces, const upconv::i64 units) {
  using namespace upconv;
  let_next_begin();
  __shared__ Sum warp_sums[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const i64 channel = i64(blockIdx.x) % channels, share = i64(blockIdx.x) / channels;
  const i64 end = smaller(share * units + units, batch * pieces);
  Sum total = 0;
  after_previous();
  for (i64 u = share * units + warp; u < end; u += warps) {
    const i64 n = pieces == 1 ? u : u / pieces, k = u - n * pieces;  // a 64-bit division costs more than a short row
    const Element* row = dy + (n * channels + channel) * volume;
    const i64 head = smaller(unaligned(row), volume);
    const i64 from = smaller(head + k * piece, volume), to = smaller(head + k * piece + piece, volume);
    const i64 vectors = (to - from) / lanes, tail = from + vectors * lanes;
    Sum sum[lanes] = {};
    if (k == 0 && lane < head) sum[0] += to_float(row[lane]);
    if (tail + lane < to) sum[1] += to_float(row[tail + lane]);
    add_vectors(sum, row + from, lane, vectors, 32);
#pragma unroll
    for (int distance = lanes / 2; distance > 0; distance /= 2)
#pragma unroll
      for (int j = 0; j < distance; ++j) sum[j] += sum[j + distance];
    total += sum[0];
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) total += __shfl_down_sync(0xffffffffu, total, distance);
  if (lane == 0) warp_sums[warp] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  total = 0;
  for (int i = 0; i < warps; ++i) total += warp_sums[i];
  if (parts)
    parts[share * channels + channel] = total;
  else
    db[channel] = from_float<Element>(total);
}

/// Grid: chunks * tiles blocks; block (chunk, tile) sums `lines` lines of the columns of its tile. `width` is a
/// multiple of the vector and of `period`. parts[chunk][keep]: keep = period where one tile holds the line, else width.
extern "C" __global__ void __launch_bounds__(256, 3)
    bias_columns(const config::Element* dy, upconv::Sum* __restrict__ parts, const upconv::i64 total,
                 const upconv::i64 width, const upconv::i64 period, const upconv::i64 keep, const upconv::i64 tiles,
                 const upconv::i64 lines) {
  using namespace upconv;
  let_next_begin();
  __shared__ Sum folded[256 * lanes];
  const i64 chunk = i64(blockIdx.x) / tiles, tile = i64(blockIdx.x) % tiles;
  const i64 head = smaller(unaligned(dy), total), rest = total - head;
  const i64 column = (tile * blockDim.x + threadIdx.x) * lanes;
  const i64 begin = chunk * lines, vectors = width / lanes;
  Sum sum[lanes] = {};
  after_previous();
  if (column < width) {
    const Element* p = dy + head;
    // The column's whole vectors: those of line r end at r * width + column + lanes.
    const i64 whole = rest < column + lanes ? 0 : (rest - column - lanes) / width + 1;
    const i64 end = smaller(begin + lines, whole);
    add_vectors(sum, p + column, begin * vectors, end * vectors, vectors);
    if (whole >= begin && whole < begin + lines) {  // what the end of dy cuts
#pragma unroll
      for (int j = 0; j < lanes; ++j)
        if (whole * width + column + j < rest) sum[j] += to_float(p[whole * width + column + j]);
    }
  }
  Sum* part = parts + chunk * keep;
  if (keep == width) {
    if (column >= width) return;
#pragma unroll
    for (int j = 0; j < lanes; ++j) {
      const i64 at = (head + column + j) % width;
      if (chunk == 0 && at < head) sum[j] += to_float(dy[at]);
      part[at] = sum[j];
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < lanes; ++j) folded[threadIdx.x * lanes + j] = sum[j];
  __syncthreads();
  const int step = int(period);
  for (int copies = int(width / period); copies > 1;) {  // one period left in the end, in a fixed order
    const int half = (copies + 1) / 2;
    for (int c = threadIdx.x; c < (copies - half) * step; c += blockDim.x) folded[c] += folded[c + half * step];
    __syncthreads();
    copies = half;
  }
  for (int c = threadIdx.x; c < step; c += blockDim.x) {
    const int at = (int(head) + c) % step;
    Sum value = folded[c];
    if (chunk == 0)
      for (int f = at; f < int(head); f += step) value += to_float(dy[f]);
    part[at] = value;
  }
}
