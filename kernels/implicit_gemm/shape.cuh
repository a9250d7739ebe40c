// Tiles of implicit_gemm.cuh: their order, and what lies where in shared memory.
#pragma once

#include "arguments/implicit_gemm.cuh"
#include "epilogue/operands.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;
typedef arguments::ImplicitGemm Arguments;

constexpr int warpgroup = 128, consumers = 2, threads = (consumers + 1) * warpgroup;
constexpr int BM = 64 * consumers, element_bytes = sizeof(Element);
static_assert(STAGE_K * element_bytes == 128, "a row of a stage is as long as the swizzle");
constexpr int steps_k = K_PADDED / STAGE_K;
constexpr int a_bytes = BM * 128, b_bytes = BN * 128, stage_bytes = a_bytes + b_bytes;
constexpr int shared_rows = BN / CLUSTER;  ///< Of B that a block brings, for all of its cluster.
static_assert(shared_rows % 8 == 0, "a part of B begins where the swizzle does");
constexpr int column_tiles = (N + BN - 1) / BN, all_columns = GROUPS * column_tiles;

/// What a block computes at once: BM positions of a phase by BN channels of a group. Blocks of a cluster have
/// neighbouring positions and the same channels, so that they share B.
struct Tile {
  int phase, group, column, corner[4];

  /// `index` counts through rounds of as many position tiles as there are clusters: in a round all phases and channels
  /// of these positions follow each other, so that what they read stays in L2, and every cluster gets as much as any.
  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    const int rank = CLUSTER > 1 ? rank_in_cluster() : 0, clusters = gridDim.x / CLUSTER;
    const int round = clusters * PHASES * all_columns, first = index / round * clusters;
    const int width = min(clusters, a.shares - first);
    int rest = index % round;
    const int share = first + rest % width;
    rest /= width;
    const int of_column = rest % all_columns;
    phase = rest / all_columns;
    group = of_column / column_tiles, column = of_column % column_tiles * BN;
    int position = share * CLUSTER + rank;
#pragma unroll
    for (int d = 3; d > 0; --d) corner[d] = position % a.boxes[d] * a.box[d], position /= a.boxes[d];
    corner[0] = position * a.box[0];  // beyond the batch where a cluster has a block too many
  }
  /// Keeps what was found from being found later.
  __device__ __forceinline__ void hold() {
    asm volatile(""
                 : "+r"(phase), "+r"(group), "+r"(column), "+r"(corner[0]), "+r"(corner[1]), "+r"(corner[2]),
                   "+r"(corner[3]));
  }
};

struct Barriers {
  u32 landed, empty;
};

/// Hands a stage back to whoever fills it: every block of the cluster, as parts of B come from all.
__device__ __forceinline__ void hand_back(u32 empty, bool real) {
  const bool mine = real && static_cast<int>(threadIdx.x % 32) < arriving;
  if constexpr (CLUSTER == 1) {
    barrier_arrive_if(mine, empty);
  } else {
#pragma unroll
    for (int rank = 0; rank < CLUSTER; ++rank) barrier_arrive_at_if(mine, address_in(rank, empty));
  }
}

}  // namespace upconv
