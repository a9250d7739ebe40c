// The second pass of a split reduction: result[c] = the sum over `rows` rows and `inner` columns of
// parts[row][c * inner + i], always in the same order. 512 threads: `lanes` (a power of two up to 32)
// across columns, the rest across rows. With inner = 1 a block takes `lanes` results, else one.
// Host preamble: Element.
#pragma once

#include "ptx/dependents.cuh"
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(512)
    ordered_sum(const upconv::Number<config::Element>::Sum* parts, config::Element* __restrict__ result,
                const upconv::i64 count, const upconv::i64 rows, const upconv::i64 inner, const int lanes) {
  using namespace upconv;
  typedef Number<config::Element>::Sum Sum;
  let_next_begin();
  __shared__ Sum sums[512];
  const int lane = threadIdx.x % lanes, row = threadIdx.x / lanes, row_lanes = 512 / lanes;
  const i64 width = count * inner;
  const i64 results = inner == 1 ? lanes : 1;
  after_previous();
  for (i64 first = i64(blockIdx.x) * results; first < count; first += i64(gridDim.x) * results) {
    Sum sum = 0;
    const i64 end = inner == 1 ? (first + lanes < count ? first + lanes : count) : (first + 1) * inner;
    for (i64 c = first * inner + lane; c < end; c += lanes)
#pragma unroll 8
      for (i64 r = row; r < rows; r += row_lanes) sum += parts[r * width + c];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 256; half >= (inner == 1 ? lanes : 1); half /= 2) {
      if (int(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x < results && first + threadIdx.x < count)
      result[first + threadIdx.x] = from_float<config::Element>(sums[threadIdx.x]);
    __syncthreads();
  }
}
