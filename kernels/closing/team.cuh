// A number of all threads that work together on a row: 2 to 32 lanes, or the block. For closing/rows.cuh and
// closing/pull_rows.cuh.
#pragma once

#include "closing/value.cuh"

namespace upconv::closing {

/// `combine` over all lanes of a team; every lane gets the result. A block's teams are all of one kind.
template <class F>
__device__ __forceinline__ S over_team(S v, int team, F&& combine) {
  const int lanes = team < 32 ? team : 32;
  for (int step = lanes / 2; step > 0; step /= 2) v = combine(v, __shfl_xor_sync(0xffffffffu, v, step));
  if (team <= 32) return v;
  __shared__ S held[THREADS / 32];
  __syncthreads();  // what an earlier call left here has been read
  if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = v;
  __syncthreads();
  S all = held[0];
  for (int w = 1; w < THREADS / 32; ++w) all = combine(all, held[w]);
  return all;
}

}  // namespace upconv::closing
