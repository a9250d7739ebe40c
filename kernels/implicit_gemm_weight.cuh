// dw[ci, co, t] = sum over n, i of x[n, i, ci] * dy[n, s*i + d*t - p, co] of channels-last tensors (others are turned
// before, turn.cuh) in 16 bits on Hopper's warpgroup tensor cores (sm_90a). Host side:
// src/cuda/implicit_gemm_weight.cpp, which writes `namespace config` and wgmma_shared().
//
// M = ci (64 a warpgroup, WGM of them), N = co (BN, shared by WGN warpgroups), K = positions i. Both operands have
// their rows, channels, contiguous as the tensors do. A block has one tap and sums over boxes of positions that reach
// dy by this tap: the maps of a tap end where its positions do, so that boxes are zero beyond in x and dy, and an
// infinity meets no zero. A stage is a box of at most 64 positions: for every 64 channels 64 rows of 128 bytes,
// swizzled, of x and then of dy (with steps of s). One thread brings them (bring.cuh); rows that no box fills are
// zeroed once. Splits of the boxes leave their sums in memory; implicit_gemm_weight_sum.cuh adds them up in order.
// Floor: max(bytes of x and dy, 2 * positions * ci * co * taps at the tensor cores' rate).
#include "implicit_gemm_weight/bring.cuh"
#include "ptx/arriving.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

__device__ __forceinline__ void multiply_all(const Arguments& p, const Part& part, u32 stages,
                                             const Barriers& barriers) {
  constexpr int n = BN / WGN;
  const int lane = threadIdx.x % 32, group = threadIdx.x / warpgroup, down = group % WGM, across = group / WGM;
  float sums[n / 2];
#pragma unroll
  for (int i = 0; i < n / 2; ++i) sums[i] = 0.0f;
  int now = 0, parity = 0, held = -1;
#pragma unroll 1
  for (i64 box = part.begin; box < part.end; ++box) {
    const u32 at = units_of(stages + now * stage_bytes);
    const u64 a = swizzled_descriptor(slice_bytes) | (at + down * (slice_bytes / 16)),
              b = swizzled_descriptor(slice_bytes) | (at + (WGM + across * (n / 64)) * (slice_bytes / 16));
    barrier_wait(barriers.full + 8 * now, parity);
    mma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) wgmma_shared(sums, a + k * (16 * row_bytes / 16), b + k * (16 * row_bytes / 16));
    mma_commit();
    mma_wait<1>();
    barrier_arrive_if(held >= 0 && threadIdx.x % 32 < arriving, barriers.empty + 8 * (held < 0 ? 0 : held));
    held = now;
    if (++now == STAGES) now = 0, parity ^= 1;
  }
  mma_wait<0>();
  hold(sums);
  const int ci0 = part.ci0 + down * 64 + threadIdx.x % warpgroup / 32 * 16 + lane / 4,
            co0 = part.co0 + across * n + lane % 4 * 2;
  float* const to =
      p.sums + ((part.split * TAPS + part.tap) * (GROUPS * CI) + part.group * CI + ci0) * static_cast<i64>(CO) + co0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (ci0 + half * 8 >= CI) continue;
#pragma unroll
    for (int j = 0; j < n / 8; ++j)
      if (co0 + j * 8 < CO)
        *reinterpret_cast<float2*>(to + half * 8 * CO + j * 8) =
            make_float2(sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]);
  }
}

__device__ __forceinline__ void run(const Arguments& p) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[2 * STAGES];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  char* const memory = shared + (stages - shared_address(shared));
  const Barriers barriers{shared_address(words), shared_address(words + STAGES)};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.full + 8 * s, p.plain ? warpgroup : 1);
      barrier_init(barriers.empty + 8 * s, multiplying / 32 * arriving);
    }
    barriers_ready();
  }
  zero_rows(memory, rows_of(p));
  fence_shared();
  __syncthreads();
  const Part part(p);
  after_previous();
  if (threadIdx.x / warpgroup == WGM * WGN) {
    if constexpr (COMPUTE_REGISTERS > 0) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    if (p.plain)
      bring_plainly(p, part, memory, barriers);
    else if (threadIdx.x == multiplying)
      bring(p, part, stages, barriers);
  } else {
    if constexpr (COMPUTE_REGISTERS > 0) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    multiply_all(p, part, stages, barriers);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void implicit_gemm_weight(const Arguments) {}
#else
extern "C" __global__ void __launch_bounds__(threads, OCCUPANCY)
    implicit_gemm_weight(const __grid_constant__ Arguments p) {
  run(p);
}
#endif

}  // namespace upconv
