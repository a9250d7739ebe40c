// Forward and dx of channels-last tensors on Hopper's warpgroup tensor cores (sm_90a), as a matrix product whose rows
// nobody copies together; a source whose channels come first is turned before (turn.cuh), and the result may have them
// first (OUT_FIRST). Host side: src/cuda/implicit_gemm.cpp, which writes `namespace config` and wgmma_shared().
//
//   forward  y[n, s*j + r, co]  = sum over the taps t of phase r, ci of x[n, j + off(t), ci] * w[ci, co, t]
//   dx       dx[n, j, ci]       = sum over all taps t, co of dy[n, s*j + d*t - p, co] * w[ci, co, t]
//
// M = positions j, N = result channels, K = source channels of one tap after another. A row of A is a position's
// channels, contiguous in memory: a tensor map gives a box of positions, with steps of s for dx, moved by the tap, and
// zeros outside of the tensor. B comes from w itself where that is channels last: its source channels are contiguous
// for dx, its result channels for forward (B_ROWS, 16-bit types); else from weights that implicit_gemm_prepare.cuh
// turned. Both lie in shared memory in rows of 128 bytes, swizzled, STAGES stages of them, filled by one thread
// (bring.cuh); two warpgroups multiply 64 positions by BN channels each and write rows of channels (leave.cuh). Blocks
// take tiles in turn (shape.cuh); where BN is small two blocks share a multiprocessor, so that one writes while the
// other multiplies. Few tiles: the SPLIT blocks of a cluster share the steps of one, leave their sums in their own
// shared memory, and each adds up some rows, always in the order of the blocks. Clusters whose blocks bring B together
// were tried: no faster. Floor: max(bytes of x, w and y, 2 * positions * ci * co * taps at the tensor cores' rate).
#include "implicit_gemm/bring.cuh"
#include "implicit_gemm/leave.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

__device__ __forceinline__ void multiply_all(const Arguments& a, const Operands& operands, u32 stages,
                                             const Barriers& barriers, int rank) {
  const int lane = threadIdx.x % 32, group = threadIdx.x / warpgroup;
  const int row = threadIdx.x / 32 * 16 + lane / 4;
  const Row rows[2] = {Row(a, row), Row(a, row + 8)};
  int now = 0, parity = 0;
  Tile t(a, blockIdx.x / SPLIT);
#pragma unroll 1
  for (int index = blockIdx.x / SPLIT; index < a.tiles; index += gridDim.x / SPLIT) {
    float sums[BN / 2];
#pragma unroll
    for (int i = 0; i < BN / 2; ++i) sums[i] = 0.0f;
    const Share share(t, rank);
    int held = -1;
#pragma unroll 1
    for (int step = share.first; step < share.end; ++step) {
      const u32 at = units_of(stages + now * stage_bytes);
      const u64 first = row_descriptor() | (at + group * (64 * 128 / 16));
      const u64 second = (B_ROWS ? swizzled_descriptor(slice_bytes) : row_descriptor()) | (at + a_bytes / 16);
      barrier_wait(barriers.landed + 8 * now, parity);
      mma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) wgmma_shared(sums, first + 2 * k, second + (B_ROWS ? 2048 / 16 : 2) * k);
      mma_commit();
      mma_wait<1>();
      hand_back(barriers.empty + 8 * (held < 0 ? 0 : held), held >= 0);
      held = now;
      if (++now == STAGES) now = 0, parity ^= 1;
    }
    if constexpr (SPLIT > 1) {
      leave_in_cluster(a, operands, t, sums, stages, rank);
    } else {
      // Found while the last products are under way.
      Spot spots[2] = {Spot(a, t, rows[0]), Spot(a, t, rows[1])};
      Tile next(a, min(index + static_cast<int>(gridDim.x), a.tiles - 1));
      spots[0].hold(), spots[1].hold(), next.hold();
      mma_wait<0>();
      hold(sums);
      hand_back(barriers.empty + 8 * (held < 0 ? 0 : held), held >= 0);
      leave(a, operands, t, spots, sums);
      t = next;
    }
  }
}

/// A block may share out anew what it was launched with, no more: it would wait for ever.
constexpr int launch_registers = 65536 / (threads * BLOCKS) / 8 * 8;
static_assert(consumers * COMPUTE_REGISTERS + BRING_REGISTERS <= (consumers + 1) * launch_registers, "registers");

__device__ __forceinline__ void run(const Arguments& a, const Operands& operands) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[2 * STAGES];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  const Barriers barriers{shared_address(words), shared_address(words + STAGES)};
  const int rank = SPLIT > 1 ? rank_in_cluster() : 0;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.landed + 8 * s, a.plain || a.plain_weights ? 1 + warpgroup : 1);
      barrier_init(barriers.empty + 8 * s, consumers * 4 * arriving);
    }
    barriers_ready();
  }
  __syncthreads();
  after_previous();
  if (threadIdx.x / warpgroup == consumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    bring_all(a, stages, barriers, rank);
    if constexpr (SPLIT > 1) meet_cluster(), meet_cluster();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    multiply_all(a, operands, stages, barriers, rank);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void implicit_gemm(const Arguments, const config::Operands) {}
#else
#if UPCONV_SPLIT > 1
extern "C" __global__ void __cluster_dims__(UPCONV_SPLIT, 1, 1) __launch_bounds__(threads, BLOCKS)
    implicit_gemm(const __grid_constant__ Arguments a, const config::Operands operands) {
  run(a, operands);
}
#else
extern "C" __global__ void __launch_bounds__(threads, BLOCKS)
    implicit_gemm(const __grid_constant__ Arguments a, const config::Operands operands) {
  run(a, operands);
}
#endif
#endif

}  // namespace upconv
