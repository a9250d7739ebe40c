// dx[n, ci, i] = sum over co, t of w[ci, co, t] * dy[n, co, s*i + d*t - p] on
// Hopper's warpgroup tensor cores (sm_90a), for layers of many channels. Host
// side: src/cuda/input_wgmma.cpp, which writes `namespace config` and wgmma().
//
// M = positions i, N = ci, K = pairs (co, tap) in w's own order, so that w
// needs no preparing: rows of it come by bulk copies, which round to TF32 and
// swizzle, as the B operand. Lines of dy lie in shared memory as in the tensor:
// a position at a pair is one word, `the position's place + the pair's reach`,
// and lanes read A from there, whatever stride, dilation and rank.
//
// A tile is one box of positions (64 * MT * WGS of them) x NB input channels; blocks take tiles in turn. A stage is KS
// pairs: KS elements of NB rows of w, and the lines of dy (lines.cuh) of the CC output channels that these pairs may
// meet. WGS warpgroups multiply (multiply.cuh), one more brings (bring.cuh). Where KS is no multiple of the taps,
// stages begin at PHASES different taps. Few tiles: the SPLIT blocks of a cluster share the pairs of one tile, leave
// their sums in their own shared memory, and each adds up those of some channels, always in the order of the blocks
// (leave.cuh). Floor: max(bytes of w, dy and dx, 2 * positions * ci * co * taps at the tensor cores' rate).
#include "input_wgmma/bring.cuh"
#include "input_wgmma/leave.cuh"
#include "input_wgmma/multiply.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

__device__ __forceinline__ void multiply_all(const Arguments& p, u32 stages, u32 table, const Barriers& barriers,
                                             int rank, char* buffers) {
  const Share share(rank);
  const Reaches reaches(table);
  u32 place[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) place[mt][half] = position_place(row_of(mt, half));
  u32 f[turns][4];
  int now = 0, parity = 0, held = -1;
#pragma unroll 1
  for (int tile = blockIdx.x / SPLIT; tile < p.tiles; tile += gridDim.x / SPLIT) {
    Sums sums;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < NB / 2; ++i) sums[mt][i] = 0.0f;
    int phase = SPLIT > 1 ? share.first % PHASES : 0;
#pragma unroll 1
    for (int chunk = share.first; chunk < share.end; ++chunk) {
      barrier_wait(barriers.landed + 8 * now, parity);
      multiply(sums, f, place, reaches, phase, stages + now * stage_bytes, barriers.empty, held, now);
      if (++now == STAGES) now = 0, parity ^= 1;
      if (PHASES > 1 && ++phase == PHASES) phase = 0;
    }
    mma_wait<0>();
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) hold(sums[mt]);
    __syncwarp();
    if (threadIdx.x % 32 < arriving) barrier_arrive(barriers.empty + 8 * held);
    held = -1;
    if constexpr (SPLIT > 1)
      leave_shared(sums, p, Place(p, tile), stages, rank, buffers);
    else
      leave_tile<NB / 8>(sums, p, Place(p, tile), 0, buffers);
  }
}

__device__ __forceinline__ void run(const Arguments& p) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[2 * STAGES];
  __shared__ int reaches[PHASES * KS];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  const bool by_lines = LINE_COPIES && p.lines;
  const int rank = SPLIT > 1 ? rank_in_cluster() : 0;
  const Barriers barriers{shared_address(words), shared_address(words + STAGES)};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.landed + 8 * s, by_lines ? warpgroup : 2 * warpgroup);
      barrier_init(barriers.empty + 8 * s, multiplying / 32 * arriving);
    }
    barriers_ready();
  }
  for (int i = threadIdx.x; i < PHASES * KS; i += threads) reaches[i] = reach_of(i / KS, i % KS);
  __syncthreads();
  after_previous();
  if (threadIdx.x / warpgroup == WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    const Share share(rank);
    bool done = false;
    if constexpr (LINE_COPIES)
      if (by_lines) bring_all<0>(p, stages, barriers, share), done = true;
    if (done) {
    } else if (quad > 1 && VECTOR >= quad && p.vector >= quad) {
      bring_all<quad>(p, stages, barriers, share);
    } else if (quad > 4 && VECTOR >= 4 && p.vector >= 4) {
      bring_all<4>(p, stages, barriers, share);
    } else if (VECTOR >= 2 && p.vector >= 2) {
      bring_all<2>(p, stages, barriers, share);
    } else {
      bring_all<1>(p, stages, barriers, share);
    }
    if constexpr (SPLIT > 1) {
      __syncwarp();
      meet_cluster();
      meet_cluster();
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    // Behind the stages, wherever they begin.
    char* buffers =
        shared + (stages - shared_address(shared)) + STAGES * stage_bytes + threadIdx.x / warpgroup * (2 * left_bytes);
    multiply_all(p, stages, shared_address(reaches), barriers, rank, buffers);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void input_wgmma(const Arguments) {}
#else
#if UPCONV_SPLIT > 1
extern "C" __global__ void __cluster_dims__(UPCONV_SPLIT, 1, 1) __launch_bounds__(threads, 1)
    input_wgmma(const __grid_constant__ Arguments p) {
  run(p);
}
#else
extern "C" __global__ void __launch_bounds__(threads, 1) input_wgmma(const __grid_constant__ Arguments p) { run(p); }
#endif
#endif

}  // namespace upconv
