// What closing kernels collect from many values, in an order that the sizes alone decide: moments, sums, extremes, and
// what a softmax needs. Collected numbers of threads are merged by shuffles, those of warps through shared memory.
// Host preamble: COLLECT, one of the constants below.
#pragma once

#include "closing/value.cuh"

namespace upconv::closing {

constexpr int MOMENTS = 0, SUM = 1, LARGEST = 2, SMALLEST = 3, EXPONENTIALS = 4;

/// moments: count, mean, sum of squared distances from it. A sum or extreme: `first`. Exponentials: the largest value
/// and the sum of exp(v - largest), taken from 0 where the largest is not finite.
template <int collect, class T>
struct Collected {
  T count, first, second;

  static __device__ __forceinline__ Collected none() {
    return {T(0),
            collect == LARGEST || collect == EXPONENTIALS ? T(-infinity())
            : collect == SMALLEST                         ? T(infinity())
                                                          : T(0),
            T(0)};
  }
  __device__ __forceinline__ void merge(const Collected& o) {
    if constexpr (collect == MOMENTS) {
      const T total = count + o.count;
      if (total == T(0)) return;
      const T distance = o.first - first, part = o.count / total;
      first += distance * part;
      second += o.second + distance * distance * count * part;
      count = total;
    } else if constexpr (collect == SUM) {
      first += o.first;
    } else if constexpr (collect == LARGEST) {
      first = larger(first, o.first);
    } else if constexpr (collect == SMALLEST) {
      first = smaller(first, o.first);
    } else {
      const T most = larger(first, o.first), zero = finite_or_zero(most);
      const T mine = second == T(0) ? T(0) : second * exponential(finite_or_zero(first) - zero);
      const T others = o.second == T(0) ? T(0) : o.second * exponential(finite_or_zero(o.first) - zero);
      first = most;
      second = mine + others;
    }
  }
  /// `held` of the values v exist, the first ones.
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held) {
    if (held == 0) return;
    Collected few = none();
    if constexpr (collect == MOMENTS) {
      T sum = T(0);
#pragma unroll
      for (int k = 0; k < most; ++k) sum += k < held ? v[k] : T(0);
      few = {T(held), sum / T(held), T(0)};
#pragma unroll
      for (int k = 0; k < most; ++k)
        if (k < held) few.second += (v[k] - few.first) * (v[k] - few.first);
    } else {
#pragma unroll
      for (int k = 0; k < most; ++k) {
        if (k >= held) continue;
        if constexpr (collect == SUM) few.first += v[k];
        if constexpr (collect == LARGEST || collect == EXPONENTIALS) few.first = larger(few.first, v[k]);
        if constexpr (collect == SMALLEST) few.first = smaller(few.first, v[k]);
      }
      if constexpr (collect == EXPONENTIALS) {
        const T zero = finite_or_zero(few.first);
#pragma unroll
        for (int k = 0; k < most; ++k)
          if (k < held) few.second += exponential(v[k] - zero);
      }
    }
    merge(few);
  }

  /// A sum over a team's threads, in all of them; `held`: a place for each warp.
  static __device__ __forceinline__ T sum_over(T v, int team, T* held) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    if (team == 32) return v;
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = v;
    __syncthreads();
    T all = held[0];
#pragma unroll
    for (int w = 1; w < THREADS / 32; ++w) all += held[w];
    return all;
  }

  __device__ __forceinline__ Collected shifted_down(int lanes) const {
    return {collect == MOMENTS ? __shfl_down_sync(0xffffffffu, count, lanes) : T(0),
            __shfl_down_sync(0xffffffffu, first, lanes),
            collect == MOMENTS || collect == EXPONENTIALS ? __shfl_down_sync(0xffffffffu, second, lanes) : T(0)};
  }
  /// Of a team of 32 threads, a warp, or 256, the block, in its first thread; moments in all.
  __device__ __forceinline__ void merge_team(int team) {
    if constexpr (collect == MOMENTS) {
      // One mean for all, then the distances from it: sums, which wait for no division after the other.
      __shared__ T held_sums[3][THREADS / 32];
      const T total = sum_over(count, team, held_sums[0]);
      first = count == T(0) ? T(0) : first;
      const T mean = sum_over(total == T(0) ? T(0) : first * (count / total), team, held_sums[1]);
      const T distance = count == T(0) ? T(0) : first - mean;
      second = sum_over(second + count * distance * distance, team, held_sums[2]);
      first = mean;
      count = total;
      return;
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) merge(shifted_down(lanes));
    if (team == 32) return;
    __shared__ Collected held[THREADS / 32];
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = *this;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 1; w < THREADS / 32; ++w) merge(held[w]);
  }
};

/// What a thread takes in batches, before its team's is merged: merged batch by batch, but moments, which are sums of
/// distances from its first value. That is one of them, so the sums are no larger than what they are for.
template <int collect, class T>
struct Taken {
  Collected<collect, T> all = Collected<collect, T>::none();
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held, bool) {
    all.take(v, held);
  }
  __device__ __forceinline__ Collected<collect, T> collected() const { return all; }
};
template <class T>
struct Taken<MOMENTS, T> {
  int count = 0;
  T shift = T(0), sum = T(0), squares = T(0);
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held, bool first) {
    if (first) shift = finite_or_zero(v[0]);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      const T distance = k < held ? v[k] - shift : T(0);
      sum += distance;
      squares += distance * distance;
    }
    count += held;
  }
  __device__ __forceinline__ Collected<MOMENTS, T> collected() const {
    if (count == 0) return Collected<MOMENTS, T>::none();
    const T n = T(count), mean = sum / n, rest = squares - sum * mean;
    return {n, shift + mean, rest < T(0) ? T(0) : rest};  // NaN stays
  }
};

/// The number that a reduction makes of what was collected from `count` values.
constexpr int AS_SUM = 0, AS_MEAN = 1, AS_MAXIMUM = 2, AS_MINIMUM = 3, AS_LOGSUMEXP = 4, AS_TABLE = 5;
template <int collect, class T>
__device__ __forceinline__ S reduced(const Collected<collect, T>& c, int as, i64 count) {
  if constexpr (collect == EXPONENTIALS) return S(natural_log(c.second) + finite_or_zero(c.first));
  if (as == AS_MEAN && collect == SUM) return S(c.first / T(count));
  return S(c.first);
}

}  // namespace upconv::closing
