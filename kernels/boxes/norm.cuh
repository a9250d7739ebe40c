// A norm over sets of channels of a sample (GroupNorm, InstanceNorm) in the layer's own kernel. Each warpgroup takes the
// moments of what it stores of a box; the one that stores a sample's last box puts them together, in an order that the
// sizes alone decide; and the warps that bring the source, or would have nothing to do, apply the norm to samples that
// are complete, in place, while later boxes are multiplied. Part of boxes.cuh.
//
// Nobody waits for a block that may not have begun: a block's last warps take what is complete and, after a while, go;
// whoever completes a sample is in a block whose warps look at it afterwards.
//
// Host preamble: NORM, PER (channels of a set), CENTER (no scale), NORM_WEIGHT, NORM_BIAS, EPS.
#pragma once

#include "boxes/source.cuh"
#include "neighbours.cuh"
#include "ptx/shared_work.cuh"

namespace upconv {

constexpr int piece_elements = arguments::piece_bytes / static_cast<int>(sizeof(Element));
constexpr int sets_here = NORM ? NB / PER : 1;           ///< Sets of a share of the result channels.
constexpr int norm_words = NORM ? 4 * sets_here * 4 : 0;  ///< Of a warpgroup: moments of each warp and set.
static_assert(!NORM || (NB % PER == 0 && N % PER == 0 && sets_here <= 32), "a lane has a set");

__device__ __forceinline__ float4* quads(float* p) { return reinterpret_cast<float4*>(p); }

template <class T>
__device__ __forceinline__ T sum_of_warp(T v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
  return v;
}

/// What a warp takes of a box: sums of distances from a lane's first value of each set. Lane s keeps the moments of set
/// s: count, mean, sum of squared distances from it.
struct BoxMoments {
  int set = -1;
  bool begins = false;
  float count = 0.f, shift = 0.f, sum = 0.f, squares = 0.f;
  float4 kept = {0.f, 0.f, 0.f, 0.f};

  /// The next values are of channel `number` of the share.
  __device__ __forceinline__ void channel(int number, int lane) {
    if (number / PER == set) return;
    keep(lane);
    set = number / PER, begins = true;
    count = sum = squares = 0.f;
  }
  /// Values of that channel. `exists`: of row set and element.
  template <int row_sets, int each, class Exists>
  __device__ __forceinline__ void take_all(const Element (&v)[row_sets][each], Exists&& exists) {
    if (begins) {
      begins = false;
      const float first = to_float(v[0][0]);  // near the others, whether it exists or not
      shift = fabsf(first) <= 3.4e38f ? first : 0.f;
    }
#pragma unroll
    for (int k = 0; k < row_sets; ++k)
#pragma unroll
      for (int e = 0; e < each; ++e) {
        const bool counts = exists(k, e);
        const float distance = counts ? to_float(v[k][e]) - shift : 0.f;
        sum += distance;
        squares += distance * distance;
        count += counts ? 1.f : 0.f;
      }
  }
  __device__ __forceinline__ void keep(int lane) {
    if (set < 0) return;
    const float of_lane = count > 0.f ? sum / count : 0.f, rest = squares - sum * of_lane;
    const float all = sum_of_warp(count), own = count > 0.f ? shift + of_lane : 0.f;
    const float mean = all > 0.f ? sum_of_warp(own * (count / all)) : 0.f, distance = own - mean;
    const float second = sum_of_warp((rest < 0.f ? 0.f : rest) + (count > 0.f ? count * distance * distance : 0.f));
    if (lane == set) kept = {all, mean, second, 0.f};
  }
};

/// All parts of a sample have been stored: its means and scales, by one warp.
__device__ __forceinline__ void norm_sample(const Arguments& a, int n, int lane) {
  const int sets = a.groups * (N / PER), channels_all = a.groups * N;
#pragma unroll 1
  for (int set = 0; set < sets; ++set) {
    const float4* parts = quads(a.parts) + (i64(n) * sets + set) * a.parts_of_set;
    const double pivot = double(load_far(parts).y);
    double count = 0.0, first = 0.0, second = 0.0;
#pragma unroll 4
    for (int i = lane; i < a.parts_of_set; i += 32) {
      const float4 part = load_far(parts + i);
      const double distance = double(part.y) - pivot;
      count += double(part.x);
      first += double(part.x) * distance;
      second += double(part.z) + double(part.x) * distance * distance;
    }
    count = sum_of_warp(count), first = sum_of_warp(first), second = sum_of_warp(second);
    const double mean = first / count, variance = (second - first * mean) / count;
    const float scale = CENTER ? 1.f : float(1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + EPS));
    for (int c = lane; c < PER; c += 32) {
      const int channel = set * PER + c;
      float4 row = {float(pivot + mean), scale, 0.f, 0.f};
      if constexpr (NORM_WEIGHT) row.y *= to_float(a.norm_weight[channel]);
      if constexpr (NORM_BIAS) row.z = to_float(a.norm_bias[channel]);
      quads(a.table)[i64(n) * channels_all + channel] = row;
    }
  }
  __syncwarp();
  if (lane == 0) {
    __threadfence();
    store_release(a.ready + n, 1);
  }
}

/// A box is stored, as part `part` of its sample. `of_warps`: room of the warpgroup for a moment of each warp and set.
__device__ __forceinline__ void norm_box(const Arguments& a, const Place& p, int part, BoxMoments& moments,
                                         float4* of_warps, int group, int warp, int lane) {
  moments.keep(lane);
  if (lane < sets_here) of_warps[warp * sets_here + lane] = moments.kept;
  meet(1 + group, 128);
  if (warp > 0) return;
  if (lane < sets_here && p.column0 + lane * PER < N) {
    float4 all = of_warps[lane];
#pragma unroll
    for (int w = 1; w < 4; ++w) {
      const float4 other = of_warps[w * sets_here + lane];
      const float total = all.x + other.x, distance = other.y - all.y, share = total > 0.f ? other.x / total : 0.f;
      all.y += distance * share;
      all.z += other.z + distance * distance * all.x * share;
      all.x = total;
    }
    const int set = (p.group * N + p.column0) / PER + lane;
    quads(a.parts)[(i64(p.n) * (a.groups * (N / PER)) + set) * a.parts_of_set + part] = all;
  }
  __syncwarp();
  int complete = 0;
  if (lane == 0) {
    __threadfence();
    complete = atomicAdd(a.stored + p.n, 1) + 1 == a.parts_of_sample;
    __threadfence();
  }
  if (__shfl_sync(0xffffffffu, complete, 0)) norm_sample(a, p.n, lane);
}

/// A piece of a plane, by one warp.
__device__ __forceinline__ void norm_piece(const Arguments& a, int n, int piece, int lane) {
  constexpr int vector = 16 / static_cast<int>(sizeof(Element)), each = 8;
  typedef Neighbours<Element, vector> Vector;
  const int channel = piece / a.pieces_of_plane;
  const float4 t = load_far(quads(a.table) + i64(n) * (a.groups * N) + channel);
  const int from = (piece - channel * a.pieces_of_plane) * piece_elements;
  const int left = a.volume - from, count = left < piece_elements ? left : piece_elements;
  Element* at = a.out + i64(n) * a.out_strides.n + i64(channel) * a.out_strides.c + from;
  const auto result = [&](Element v) { return from_float<Element>(config::after_norm((to_float(v) - t.x) * t.y + t.z)); };
  const int apart = static_cast<int>(-(reinterpret_cast<u64>(at) / sizeof(Element)) & (vector - 1));
  const int lead = apart < count ? apart : count, vectors = (count - lead) / vector, rest = lead + vectors * vector;
  if (lane < lead) at[lane] = result(load_far(at + lane));
  Vector* first = reinterpret_cast<Vector*>(at + lead) + lane;
#pragma unroll 1
  for (int i = lane; i < vectors; i += 32 * each, first += 32 * each) {
    Vector v[each];
#pragma unroll
    for (int k = 0; k < each; ++k)
      if (i + k * 32 < vectors) v[k] = load_far(first + k * 32);
#pragma unroll
    for (int k = 0; k < each; ++k)
      if (i + k * 32 < vectors) {
#pragma unroll
        for (int j = 0; j < vector; ++j) v[k].v[j] = result(v[k].v[j]);
        store_last(first + k * 32, v[k]);
      }
  }
  if (rest + lane < count) at[rest + lane] = result(load_far(at + rest + lane));
}

/// Applies the norm to what is complete, piece by piece, until all is done or, the block's own boxes being stored,
/// nothing more came for a while. `ended`: how many of the block's warpgroups are done, in shared memory.
__device__ __forceinline__ void norm_samples(const Arguments& a, const int* ended, int lane) {
  constexpr int most_waits = 2000;
  const int pieces = a.groups * N * a.pieces_of_plane;
  int waits = 0;
#pragma unroll 1
  for (int n = 0; n < a.samples;) {
    int piece = 0;
    if (lane == 0) {
      const bool last = *static_cast<const volatile int*>(ended) == GROUPS;
      piece = load_acquire(a.ready + n) ? atomicAdd(a.taken + n, 1) : last ? -2 : -1;
    }
    piece = __shfl_sync(0xffffffffu, piece, 0);
    if (piece < 0) {
      if (piece == -2 && ++waits > most_waits) return;
      __nanosleep(200);
    } else if (piece < pieces) {
      norm_piece(a, n, piece, lane);
    } else {
      ++n, waits = 0;
    }
  }
}

}  // namespace upconv
