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
/// A tile's sums where the stages were, for the blocks of a cluster: four rows of 8 words meet no bank twice.
constexpr int sums_pitch = (BN + 8) * 4;
static_assert(SPLIT == 1 || (BLOCKS == 1 && BM * sums_pitch <= STAGES * stage_bytes), "sums lie where stages were");

/// What a block computes at once: BM positions of a phase by BN channels of a group.
struct Tile {
  int phase, group, column, corner[4];

  /// `index` counts through rounds of as many position tiles as there are blocks: in a round all phases and channels of
  /// these positions follow each other, so that what they read stays in L2, and every block gets as much as any.
  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    const int blocks = gridDim.x / SPLIT, round = blocks * PHASES * all_columns, first = index / round * blocks;
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

/// The steps of a tile that block `rank` of its cluster takes, counted through taps and source channels. There may be
/// none.
struct Share {
  int first, end;

  __device__ __forceinline__ Share(const Tile& t, int rank) {
    const int steps = (phase_first[t.phase + 1] - phase_first[t.phase]) * steps_k;
    first = rank * steps / SPLIT, end = (rank + 1) * steps / SPLIT;
  }
};

struct Barriers {
  u32 landed, empty;
};

/// Hands a stage back to whoever fills it.
__device__ __forceinline__ void hand_back(u32 empty, bool real) {
  barrier_arrive_if(real && static_cast<int>(threadIdx.x % 32) < arriving, empty);
}

}  // namespace upconv
