// Few positions: the blocks of a cluster share the channels of x of one tile. Each leaves its sums in its own shared
// memory; then each adds up those of some positions, always in the order of the blocks, and stores them.
#pragma once

#include "columns/store.cuh"

namespace upconv {

/// By both warpgroups, when neither reads stages any more.
__device__ __forceinline__ void leave_sums(const Sums& sums, char* to) {
  float4* mine = reinterpret_cast<float4*>(to) + threadIdx.x;
#pragma unroll
  for (int b = 0; b < ROW_BLOCKS; ++b)
#pragma unroll
    for (int j = 0; j < POSITIONS / 8; ++j)
      mine[(b * (POSITIONS / 8) + j) * (consumers * warpgroup)] =
          make_float4(sums[b][4 * j], sums[b][4 * j + 1], sums[b][4 * j + 2], sums[b][4 * j + 3]);
}

/// The sums of this block's share of the positions, from position 8 * first on.
__device__ __forceinline__ void add_up(float (&sums)[ROW_BLOCKS][held_positions / 2], u32 address, int first) {
#pragma unroll
  for (int b = 0; b < ROW_BLOCKS; ++b)
#pragma unroll
    for (int j = 0; j < held_positions / 8; ++j) {
      const bool real = first + j < POSITIONS / 8;
      const u32 at =
          address + ((b * (POSITIONS / 8) + (real ? first + j : 0)) * (consumers * warpgroup) + threadIdx.x) * 16;
      const float4 sum = add_quads_in_cluster<SPLIT>(at);
      sums[b][4 * j] = sum.x, sums[b][4 * j + 1] = sum.y, sums[b][4 * j + 2] = sum.z, sums[b][4 * j + 3] = sum.w;
    }
}

}  // namespace upconv
