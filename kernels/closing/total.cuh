// Sums over some dimensions of numbers of an array, in double and in a fixed order: the gradient of an operand that is
// broadcast, from sums of shares or from a number for each value. A team of 1, 32 or 256 threads has a result.
// Host preamble: In (the numbers), Out (the results), ADD (to what is there).
#include "arguments/pull.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

/// The offset of element number `i` of dense sizes in an array of other strides.
__device__ __forceinline__ i64 total_offset(i64 i, const long long (&size)[5], const long long (&stride)[5]) {
  i64 offset = 0;
#pragma unroll
  for (int d = 4; d >= 0; --d) {
    if (size[d] == 1) continue;
    i64 q;
    if (((i | size[d]) >> 32) == 0)
      q = static_cast<u32>(i) / static_cast<u32>(size[d]);
    else
      q = i / size[d];
    offset += (i - q * size[d]) * stride[d];
    i = q;
  }
  return offset;
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(256) closing_total(const upconv::arguments::Total t) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  typedef Number<config::Out>::Sum S;
  const int teams = 256 / t.team, team = threadIdx.x / static_cast<u32>(t.team), lane = threadIdx.x % t.team;
  const i64 result = i64(blockIdx.x) * teams + team;
  const bool exists = result < t.outputs;  // lanes of a warp without a result shuffle along
  double sum = 0.0;
  if (exists) {
    const config::In* in = static_cast<const config::In*>(t.in) + total_offset(result, t.kept, t.kept_stride);
    i64 i = lane;
    for (; i + 3 * t.team < t.count; i += 4 * t.team) {
      config::In v[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) v[k] = in[total_offset(i + k * t.team, t.gone, t.gone_stride)];
#pragma unroll
      for (int k = 0; k < 4; ++k) sum += double(v[k]);
    }
    for (; i < t.count; i += t.team) sum += double(in[total_offset(i, t.gone, t.gone_stride)]);
  }
  if (t.team > 1) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lanes);
  }
  if (t.team > 32) {
    __shared__ double held[8];
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 1; w < 8; ++w) sum += held[w];
  }
  if (!exists || lane != 0) return;
  config::Out* out = static_cast<config::Out*>(t.out) + result;
  if constexpr (config::ADD) sum += double(to_float(*out));
  *out = from_float<config::Out>(S(sum));
}
