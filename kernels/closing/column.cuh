// Columns of values that lie apart, and how threads share them: for closing/columns.cuh and closing/pull_columns.cuh.
// Host preamble: LENGTH (0: known at run time), SPLIT, EACH, CHANNEL_RANGE (columns run over the channels alone).
#pragma once

#include "closing/collect.cuh"

namespace upconv::closing {

using config::EACH;
using config::LENGTH;
using config::SPLIT;
constexpr int GROUPS = THREADS / 32 / SPLIT;                         ///< of warps that share columns
constexpr int HELD = LENGTH > 0 ? (LENGTH + SPLIT - 1) / SPLIT : 1;  ///< values of a column in a thread
constexpr int SHARED_COLUMNS = GROUPS * 32 * EACH;

/// Merges the SPLIT parts of every column; all of its threads have the whole afterwards.
template <int collect>
__device__ __forceinline__ void merge_split(Collected<collect, S> (&c)[EACH]) {
  if constexpr (SPLIT > 1) {
    struct Parts {
      S first[SPLIT][SHARED_COLUMNS], second[SPLIT][SHARED_COLUMNS];
    };
    __shared__ Parts parts;
    const int warp = threadIdx.x / 32, part = warp % SPLIT, at = warp / SPLIT * (32 * EACH) + threadIdx.x % 32;
    __syncthreads();  // what an earlier merge left here has been read
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      parts.first[part][at + 32 * e] = c[e].first;
      if constexpr (collect == EXPONENTIALS) parts.second[part][at + 32 * e] = c[e].second;
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      c[e] = {S(0), parts.first[0][at + 32 * e], S(0)};
      if constexpr (collect == EXPONENTIALS) c[e].second = parts.second[0][at + 32 * e];
#pragma unroll
      for (int p = 1; p < SPLIT; ++p)
        c[e].merge({S(0), parts.first[p][at + 32 * e], collect == EXPONENTIALS ? parts.second[p][at + 32 * e] : S(0)});
    }
  }
}

/// Where a thread's columns lie.
struct Columns {
  i64 base[EACH];  ///< number of the first value among all
  i64 column[EACH];
  int unit[EACH];
  Index inside[EACH];
  bool exists[EACH];

  __device__ __forceinline__ explicit Columns(const Closing& a) {
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      const i64 at = i64(block_number(a)) * SHARED_COLUMNS + warp / SPLIT * (32 * EACH) + threadIdx.x % 32 + 32 * e;
      exists[e] = at < a.units * a.inner;
      column[e] = exists[e] ? at : 0;
      const i64 number = quotient(column[e], a.inner);
      unit[e] = static_cast<int>(number);
      inside[e] = static_cast<Index>(column[e] - number * a.inner);
      base[e] = number * a.length * a.inner + inside[e];
    }
  }
};

/// The value `l` of column e, and where it is.
__device__ __forceinline__ Spot place(const Closing& a, const Columns& c, int e, i64 l) {
  if constexpr (config::CHANNEL_RANGE) return {c.unit[e], static_cast<int>(l), c.inside[e]};
  return spot(a, c.base[e] + l * a.inner);
}

}  // namespace upconv::closing
