// Many channels on Hopper's warpgroup tensor cores (sm_90a), weights as rows of the product and positions as columns:
// forward of dense and grouped layers, of any rank.
//
//   sum[row][position] = sum over channels ci and shifts q of w[ci][channel, tap][row] * x[ci][position - q]
//
// A row is a channel of y and a phase of every dimension (phase r of a dimension are the outputs o with (o + padding)
// mod stride = r), tap t = q * stride + r. Sums are finished outputs: nothing overlaps. Positions of all samples are one
// axis, whatever the rank: rows of W + (shifts of W - 1) columns, the last of which are zeros, so that a shift of W is
// another first position of the same columns. Shifts of D and H are segments of their own in shared memory.
//
// A block computes BLOCK_ROWS rows x tile_positions positions. Its sum runs in chunks of CHANNELS channels: a fetching
// warpgroup brings them into stages (fetch.cuh), two others multiply (multiply.cuh) and write (store.cuh). Weights are
// read from memory as they lie there, a contiguous run for every channel of x, and never packed.
//
// Where phases have different numbers of taps, SEPARATE: rows are channels of y, each phase a row block of its own.
//
// The host (src/cuda/columns.cpp) writes namespace config and wgmma().
#include "columns/fetch.cuh"
#include "columns/store.cuh"

namespace upconv {

template <int kind>
__device__ __forceinline__ void compute(const Arguments& a, char* stages, char* own, u32 full, u32 empty, int group) {
  const int thread = threadIdx.x % warpgroup;
  const int down = GROUPS_DOWN == 2 ? group : 0, across = GROUPS_ACROSS == 2 ? group : 0;
  const int row0 = down * GROUP_ROWS;
  int stage = 0, parity = 0, turn = 0;
  for (int index = blockIdx.x; index < a.tiles; index += gridDim.x) {
    const Tile t(a, index);
    Place* places = reinterpret_cast<Place*>(own + turn * place_bytes);
    turn ^= 1;
    find_places(a, t.position + across * POSITIONS, places, thread);
    float sums[ROW_BLOCKS][POSITIONS / 2];
    multiply_tile<kind>(sums, stages, full, empty, chunks_k, row0, across * POSITIONS, stage, parity);
    store_tile<kind>(a, t, sums, row0, own + 2 * place_bytes, places, thread, 1 + group);
  }
}

extern "C" __global__ void __launch_bounds__((consumers + 1) * warpgroup, 1) columns(const Arguments a) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)  // elsewhere an empty kernel, which nobody launches
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long barriers[2 * STAGES];
  const u32 full = shared_address(barriers), empty = full + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(full + 8 * s, warpgroup + warpgroup / 32);  // every thread's copies, every warp's x
      barrier_init(empty + 8 * s, consumers * warpgroup / 32);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const int group = threadIdx.x / warpgroup;
  if (group == consumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(FETCH_REGISTERS));
    int stage = 0, parity = 0;
    for (int index = blockIdx.x; index < a.tiles; index += gridDim.x)
      fetch_tile(a, Tile(a, index), shared, full, empty, 0, chunks_k, stage, parity, threadIdx.x % warpgroup);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    char* own = shared + STAGES * stage_bytes + group * group_bytes;
    if (KINDS == 2 && group == 1)
      compute<KINDS - 1>(a, shared, own, full, empty, group);
    else
      compute<0>(a, shared, own, full, empty, group);
  }
#endif
}

}  // namespace upconv
