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
constexpr int slice_bytes = STAGE_K * 128;  ///< Of 64 channels of B, where those are contiguous.
static_assert(!B_ROWS || (element_bytes == 2 && BN % 64 == 0), "B comes by slices of 64 channels of 16 bits");
constexpr int column_tiles = (N + BN - 1) / BN, all_columns = GROUPS * column_tiles;

/// STAGED: a tile leaves by way of shared memory, so that the next one's products need not wait for its stores. Rows of
/// 64 positions of a warpgroup, so far apart that eight of them meet every bank once.
constexpr int row_pitch = BN * element_bytes + 16, staging_bytes = STAGED ? 64 * row_pitch : 0;
static_assert(!STAGED || element_bytes == 2, "sums leave as matrices of 16-bit elements");

/// What a block computes at once: BM positions of a phase by BN channels of a group.
struct Tile {
  int phase, group, column, corner[4];

  /// `index` counts through rounds of as many position tiles as there are blocks: in a round all phases and channels of
  /// these positions follow each other, so that what they read stays in L2, and every block gets as much as any.
  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    const int blocks = gridDim.x, round = blocks * PHASES * all_columns, first = index / round * blocks;
    const int width = min(blocks, a.positions - first);
    int rest = index % round, position = first + rest % width;
    rest /= width;
    const int of_column = rest % all_columns;
    phase = rest / all_columns;
    group = of_column / column_tiles, column = of_column % column_tiles * BN;
#pragma unroll
    for (int d = 3; d > 0; --d) corner[d] = position % a.boxes[d] * a.box[d], position /= a.boxes[d];
    corner[0] = position * a.box[0];
  }
  /// Keeps what was found from being found later.
  __device__ __forceinline__ void hold() {
    asm volatile(""
                 : "+r"(phase), "+r"(group), "+r"(column), "+r"(corner[0]), "+r"(corner[1]), "+r"(corner[2]),
                   "+r"(corner[3]));
  }
};

struct Barriers {
  u32 landed, empty;  ///< Of the stages.
  u32 staged, left;   ///< Of the tiles that leave, by warpgroup.
};
/// Whether this launch's tiles leave by way of shared memory: warps that have nothing else to do store them.
__device__ __forceinline__ bool is_staged(const Arguments& a) {
  return STAGED && a.wide && !a.plain && !a.plain_weights;
}

/// Hands a stage back to whoever fills it.
__device__ __forceinline__ void hand_back(u32 empty, bool real) {
  barrier_arrive_if(real && static_cast<int>(threadIdx.x % 32) < arriving, empty);
}

}  // namespace upconv
