// A norm over sets of channels of a sample (GroupNorm, InstanceNorm) in the layer's own kernel. Each warpgroup takes
// the moments of what it stores of a box. The warps that bring the source, or would have nothing to do, put them
// together where a sample is complete, in an order that the sizes alone decide, and apply the norm, in place, while
// later boxes are multiplied. Part of boxes.cuh.
//
// Nobody waits for a block that may not have begun: when a block's own boxes are stored, its warps take what is
// complete and, after a while, go. Whoever completes a sample is in a block whose warps look at it afterwards.
//
// Host preamble: NORM, PER (channels of a set), CENTER (no scale), NORM_WEIGHT, NORM_BIAS, EPS.
#pragma once

#include "boxes/source.cuh"
#include "epilogue/activations.cuh"
#include "neighbours.cuh"
#include "ptx/shared_work.cuh"

namespace upconv {

constexpr int piece_elements = arguments::piece_bytes / static_cast<int>(sizeof(Element));
constexpr int sets_here = NORM ? NB / PER : 1;            ///< Sets of a share of the result channels.
constexpr int norm_words = NORM ? 4 * sets_here * 4 : 0;  ///< Of a warpgroup: moments of each warp and set.
static_assert(!NORM || (NB % PER == 0 && N % PER == 0 && sets_here <= 32), "a lane has a set");

__device__ __forceinline__ float4* quads(float* p) { return reinterpret_cast<float4*>(p); }

template <class T>
__device__ __forceinline__ T sum_of_warp(T v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
  return v;
}

// No division and no root of the language: they may call functions, and where a kernel does, the assembler makes its
// products wait for one another (C7510).

/// 1 / v and 1 / sqrt(v) of positive numbers that floats have, to the last digits.
__device__ __forceinline__ double inverse(double v) {
  double r = double(reciprocal(float(v)));
  r = r * (2.0 - v * r);
  return r * (2.0 - v * r);
}
__device__ __forceinline__ double inverse_root(double v) {
  double r = double(rsqrtf(float(v)));
  r = r * (1.5 - 0.5 * v * r * r);
  return r * (1.5 - 0.5 * v * r * r);
}

/// What a warp takes of a box: sums of distances from a number near all of a set's values. The sets' moments (count,
/// mean, sum of squared distances from it) are kept at `kept`, in shared memory.
struct BoxMoments {
  float4* kept;
  int set = -1, count = 0;
  bool begins = false;
  float shift = 0.f, sum = 0.f, squares = 0.f;

  __device__ __forceinline__ explicit BoxMoments(float4* of_warp) : kept(of_warp) {}
  __device__ __forceinline__ void clear(int lane) {
    if (lane > 0) return;
    for (int s = 0; s < sets_here; ++s) kept[s] = {0.f, 0.f, 0.f, 0.f};
  }
  /// The next values are of channel `number` of the share.
  __device__ __forceinline__ void channel(int number, int lane) {
    const int of = static_cast<int>(static_cast<u32>(number) / PER);
    if (of == set) return;
    keep(lane);
    set = of, begins = true;
    count = 0, sum = squares = 0.f;
  }
  /// Values of that channel; `held` of a lane exist. `exists`: of row set and element.
  template <int row_sets, int each, class Exists>
  __device__ __forceinline__ void take_all(const Element (&v)[row_sets][each], int held, Exists&& exists) {
    if (begins) {
      // The mean of what the lanes have first, whether it exists or not: one value far from all others matters little.
      shift = sum_of_warp(to_float(v[0][0])) * 0.03125f;
      if (!(fabsf(shift) <= 3.4e38f)) shift = 0.f;
      begins = false;
    }
    count += held;
#pragma unroll
    for (int k = 0; k < row_sets; ++k)
#pragma unroll
      for (int e = 0; e < each; ++e) {
        const float distance = exists(k, e) ? to_float(v[k][e]) - shift : 0.f;
        sum += distance;
        squares += distance * distance;
      }
  }
  __device__ __forceinline__ void keep(int lane) {
    if (set < 0) return;
    const float n = sum_of_warp(float(count)), all = sum_of_warp(sum), second = sum_of_warp(squares);
    const float mean = n > 0.f ? all * reciprocal(n) : 0.f, rest = second - all * mean;
    if (lane == 0) kept[set] = {n, shift + mean, rest < 0.f ? 0.f : rest, 0.f};  // NaN stays
  }
};

/// The number of a warpgroup's box among those of its sample.
__device__ __forceinline__ int part_of(const Arguments& a, int box, int group) {
  const int inside = taken_box(a, box) % (a.boxes[0] * a.boxes[1] * a.boxes[2]);
  return a.first_part + (SHARED ? inside * GROUPS + group : inside);
}

/// Box number `box` is stored, and the moments of each warp's sets are at `of_warps`. What a complete sample wants done
/// is left to others: a warpgroup that did it would be late, and complete the next sample, and all after it.
__device__ __forceinline__ void norm_box(const Arguments& a, const Place& p, int box, const float4* of_warps, int group,
                                         int warp, int lane) {
  meet(1 + group, 128);
  if (warp > 0) return;
  if (lane < sets_here && p.column0 + lane * PER < N) {
    float4 all = of_warps[lane];
#pragma unroll
    for (int w = 1; w < 4; ++w) {
      const float4 other = of_warps[w * sets_here + lane];
      const float total = all.x + other.x, distance = other.y - all.y;
      const float share = total > 0.f ? other.x * reciprocal(total) : 0.f;
      all.y += distance * share;
      all.z += other.z + distance * distance * all.x * share;
      all.x = total;
    }
    const int set = (p.group * N + p.column0) / PER + lane;
    quads(a.parts)[(i64(p.n) * (a.groups * (N / PER)) + set) * a.parts_of_set + part_of(a, box, group)] = all;
  }
  __syncwarp();
  if (lane == 0) {
    __threadfence();
    atomicAdd(a.stored + p.n, 1);
  }
}

/// Mean and scale of a set of a sample that is complete, by one warp.
__device__ __forceinline__ void norm_set(const Arguments& a, int n, int set, int lane) {
  const float4* parts = quads(a.parts) + (i64(n) * (a.groups * (N / PER)) + set) * a.parts_of_set;
  const double pivot = double(load_far(parts).y);
  double count = 0.0, first = 0.0, second = 0.0;
#pragma unroll 2
  for (int i = lane; i < a.parts_of_set; i += 32) {
    const float4 part = load_far(parts + i);
    const double distance = double(part.y) - pivot;
    count += double(part.x);
    first += double(part.x) * distance;
    second += double(part.z) + double(part.x) * distance * distance;
  }
  count = sum_of_warp(count), first = sum_of_warp(first), second = sum_of_warp(second);
  const double of_one = inverse(count), mean = first * of_one, variance = (second - first * mean) * of_one;
  const float scale = CENTER ? 1.f : float(inverse_root((variance < 0.0 ? 0.0 : variance) + EPS));
  for (int c = lane; c < PER; c += 32) {
    const int channel = set * PER + c;
    float4 row = {float(pivot + mean), scale, 0.f, 0.f};
    if constexpr (NORM_WEIGHT) row.y *= to_float(a.norm_weight[channel]);
    if constexpr (NORM_BIAS) row.z = to_float(a.norm_bias[channel]);
    quads(a.table)[i64(n) * (a.groups * N) + channel] = row;
  }
  __syncwarp();
  if (lane == 0) {
    __threadfence();
    atomicAdd(a.ready + n, 1);
  }
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
  const auto result = [&](Element v) {
    return from_float<Element>(config::after_norm((to_float(v) - t.x) * t.y + t.z));
  };
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

/// Waits until `*count` is `all`; false where, the block's own boxes being stored, nothing came for a while. `ended`:
/// how many of the block's warpgroups are done, in shared memory.
__device__ __forceinline__ bool wait_for_all(const int* count, int all, int* ended, int lane) {
  constexpr int most_waits = 300;
  for (int waits = 0;;) {
    int state = 0;
    if (lane == 0) {
      const bool last = atomicAdd(ended, 0) == GROUPS;
      state = load_relaxed(count) == all ? 1 : last ? -1 : 0;
    }
    state = __shfl_sync(0xffffffffu, state, 0);
    if (state > 0) {
      __threadfence();
      return true;
    }
    if (state < 0 && ++waits > most_waits) return false;
    __nanosleep(500);
  }
}

/// Takes one after the other of `all` jobs that warps share by a counter, and asks for the next before it does one.
template <class Job>
__device__ __forceinline__ void for_each_taken(int* counter, int all, int lane, Job&& job) {
  const auto take = [&] { return lane == 0 ? atomicAdd(counter, 1) : 0; };
  int next = take();
#pragma unroll 1
  for (;;) {
    const int taken = __shfl_sync(0xffffffffu, next, 0);
    if (taken >= all) return;
    next = take();
    job(taken);
  }
}

/// What is left to do of samples that are complete, until all is done: means and scales, then the values.
__device__ __forceinline__ void norm_samples(const Arguments& a, int* ended, int lane) {
  const int sets = a.groups * (N / PER), pieces = a.groups * N * a.pieces_of_plane;
#pragma unroll 1
  for (int n = 0; n < a.samples; ++n) {
    if (!wait_for_all(a.stored + n, a.parts_of_sample, ended, lane)) return;
    for_each_taken(a.taken_sets + n, sets, lane, [&](int set) { norm_set(a, n, set, lane); });
    if (!wait_for_all(a.ready + n, sets, ended, lane)) return;
    for_each_taken(a.taken + n, pieces, lane, [&](int piece) { norm_piece(a, n, piece, lane); });
  }
}

}  // namespace upconv
