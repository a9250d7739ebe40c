// dw[ci, co, t] = sum over n, i of x[n, ci, i] * dy[n, co, s*i + d*t - p] on Hopper's warpgroup tensor cores (sm_90a).
// Host side: src/cuda/weight_wgmma.cpp, which writes `namespace config` and wgmma().
//
// M = pairs (co, tap), N = ci, K = positions i. A block owns COB output channels x a set of taps (the rows, in dw's own
// order) and NB input channels, and sums over boxes of positions. Rows of dy lie in shared memory as in the tensor, so
// that row (co, tap) at position i is one word, `the row's place + the position's place`: lanes read A from there, a
// tap is an address and every stride, dilation and rank is the same loop; a fragment of 64 rows feeds NB columns. x
// lies K-major, swizzled, and is read by the tensor cores themselves. Taps of H that meet the same lines of dy (at
// stride 1 all) may be columns too (STACKED): a fragment then feeds as many times more, from lines of x one above the
// other.
//
// WGS warpgroups multiply (multiply.cuh), MT fragments of rows each; one more brings the boxes (bring.cuh), and it or
// (APART) another finishes them (finish.cuh): rounds what was not rounded on its way to TF32. Lines of x that begin
// between multiples of 16 bytes come from the multiple before: either the box begins there too (X_EARLY), and its
// channels are those whose lines begin alike, or who finishes moves them (X_SHIFTED). Bulk copies bring x in lines, or
// several lines at once where x is as narrow as the box, and dy (Y_BULK) in all lines between the first and the last;
// lanes bring what these cannot: lines of dy that begin anywhere by 16 bytes (Y_PIECES), else what fits. Tensor cores
// truncate as they accumulate: after `chain` boxes the sums are added up in memory. They leave (leave.cuh) by way of
// the stages' memory where a block has all taps. The CLUSTER blocks that share a tile's boxes add up their sums there,
// or all do through the workspace (weight_sum.cuh). Pairs (position, tap) whose output is cropped meet zeros; a box at
// an edge that holds an infinity or a NaN is multiplied one pair after the other. Floor: max(bytes of x and dy, 2 *
// positions * ci * co * taps at the tensor cores' rate).
#include "ptx/dependents.cuh"
#include "weight_wgmma/bring.cuh"
#include "weight_wgmma/finish.cuh"
#include "weight_wgmma/leave.cuh"
#include "weight_wgmma/multiply.cuh"

namespace upconv {

/// The warpgroup that brings, and finishes what it brought unless another does.
__device__ __forceinline__ void bring_all(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                          int* masked, int* begins, LineOfY* lines) {
  if constexpr (Y_PIECES) {
    find_lines(p, part, lines);
    meet(3, warpgroup);
  }
  Bringing bringing(p, part);
  if (APART) {
#pragma unroll 1
    while (bringing.more(p)) bringing.next(p, part, stages, barriers, begins, lines);
    return;
  }
  Finishing finishing(p, part);
#pragma unroll 1
  for (int i = 0; i < STAGES - 1 && bringing.more(p); ++i) bringing.next(p, part, stages, barriers, begins, lines);
#pragma unroll 1
  for (i64 b = part.split; b < p.boxes; b += p.splits) {
    finishing.next(p, part, stages, barriers, masked, begins, lines, Bringer::thread());
    // Behind this box: those that multiply it give back the stage that is waited for.
    if (bringing.more(p)) bringing.next(p, part, stages, barriers, begins, lines);
  }
}

/// The warpgroup that finishes what another brings.
__device__ __forceinline__ void finish_all(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                           int* masked, const int* begins, const LineOfY* lines) {
  Finishing finishing(p, part);
#pragma unroll 1
  for (i64 b = part.split; b < p.boxes; b += p.splits)
    finishing.next(p, part, stages, barriers, masked, begins, lines,
                   static_cast<int>(threadIdx.x) - multiplying - warpgroup);
}

__device__ __forceinline__ void multiply_all(const Arguments& p, const Part& part, char* shared, u32 stages, u32 full,
                                             u32 empty, const volatile int* masked, const volatile int* begins) {
  u32 place[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      place[mt][half] =
          Row(row_of(mt, half)).place() + position_place(static_cast<int>(threadIdx.x % 4) * (tf32 ? 1 : 2));
  u32 f[2][4];
  int at = 0, parity = 0, held = -1;
  bool first = true;
  i64 b = part.split;
  do {
    Sums sums;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < STACKED * (NB / 2); ++i) sums[mt][i / (NB / 2)][i % (NB / 2)] = 0.0f;
    int left = p.chain;
    while (left > 0 && b < p.boxes) {
      bool apart = false;  // this stage's box is multiplied one pair after the other
#pragma unroll 1
      for (; left > 0 && b < p.boxes; b += p.splits, --left) {
        barrier_wait(full + 8 * at, parity);
        apart = masked[at] != 0;
        if (apart) break;
        multiply(sums, f, place, stages + at * stage_bytes, Y_PIECES ? begins[at] : 0, empty, held, at);
        if (++at == STAGES) at = 0, parity ^= 1;
      }
      mma_wait<0>();
#pragma unroll
      for (int mt = 0; mt < MT; ++mt)
#pragma unroll
        for (int tap = 0; tap < STACKED; ++tap) hold(sums[mt][tap]);
      __syncwarp();
      if (held >= 0 && threadIdx.x % 32 < arriving) barrier_arrive(empty + 8 * held);
      held = -1;
      if (!apart) continue;
      Box box;
      box.start(b, p);
      multiply_masked(sums, p, part, box, shared + at * stage_bytes, Y_PIECES ? begins[at] : 0);
      __syncwarp();
      if (threadIdx.x % 32 < arriving) barrier_arrive(empty + 8 * at);
      if (++at == STAGES) at = 0, parity ^= 1;
      b += p.splits, --left;
    }
    if constexpr (CLUSTER > 1) {
      if (!p.partial) return leave_in_cluster(sums, p, part, shared);
    }
    leave(sums, p, part, shared, first, b >= p.boxes);
    first = false;
  } while (b < p.boxes);
}

/// Those that do not multiply are counted where a cluster's blocks meet.
__device__ __forceinline__ void meet_others(const Arguments& p) {
  if (CLUSTER == 1 || p.partial) return;
  meet_cluster();
  meet_cluster();
}

__device__ __forceinline__ void run(const Arguments& p) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[3 * STAGES];
  __shared__ int masked[STAGES];
  __shared__ int begins[STAGES];
  __shared__ LineOfY lines[y_lines];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  const Barriers barriers{shared_address(words), shared_address(words + STAGES), shared_address(words + 2 * STAGES)};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.landed + 8 * s, 2 * warpgroup);
      barrier_init(barriers.full + 8 * s, warpgroup);
      barrier_init(barriers.empty + 8 * s, multiplying / 32 * arriving);
    }
    barriers_ready();
  }
  if constexpr (Y_PIECES) {  // what lies between lines is never written, and looked at for infinities
    for (int i = threadIdx.x; i < STAGES * stage_bytes / 16; i += threads) store_zero_quad(stages + i * 16);
    if (static_cast<int>(threadIdx.x) < STAGES) begins[threadIdx.x] = 0;
    fence_shared();
  }
  __syncthreads();
  const Part part;
  after_previous();
  const int group = threadIdx.x / warpgroup;
  if (group == WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    bring_all(p, part, stages, barriers, masked, begins, lines);
    meet_others(p);
  } else if (APART && group > WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(FINISH_REGISTERS));
    finish_all(p, part, stages, barriers, masked, begins, lines);
    meet_others(p);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    multiply_all(p, part, shared + (stages - shared_address(shared)), stages, barriers.full, barriers.empty, masked,
                 begins);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void weight_wgmma(const Arguments) {}
#elif UPCONV_CLUSTER > 1
extern "C" __global__ void __cluster_dims__(UPCONV_CLUSTER, 1, 1) __launch_bounds__(threads, 1)
    weight_wgmma(const __grid_constant__ Arguments p) {
  run(p);
}
#else
extern "C" __global__ void __launch_bounds__(threads, 1) weight_wgmma(const __grid_constant__ Arguments p) { run(p); }
#endif

}  // namespace upconv
