// Many channels on Hopper's warpgroup tensor cores (sm_90a), weights as rows of the product and positions as columns:
// forward of dense and grouped layers, of any rank.
//
//   sum[row][position] = sum over channels ci and shifts q of w[ci][channel, tap][row] * x[ci][position - q]
//
// A row is a channel of y and a phase of every dimension (phase r of a dimension are the outputs o with (o + padding)
// mod stride = r), tap t = q * stride + r. Sums are finished outputs: nothing overlaps. Positions of all samples are
// one axis, whatever the rank: rows of W + (shifts of W - 1) columns, the last of which are zeros, so that a shift of W
// is another first position of the same columns; where rows are short, a shift of H (MERGED_H) is too. Shifts that are
// not are segments of x of their own.
//
// A block computes BLOCK_ROWS rows x GROUPS_ACROSS * POSITIONS positions. Its sum runs in chunks of CHANNELS channels:
// two warps bring them (bring.cuh), two turn x where wgmma cannot read it as it lies (turn.cuh; else four bring), two
// warpgroups multiply (multiply.cuh) and write (store.cuh), one behind the other. Weights are read from memory as they
// lie there, a contiguous run for every channel of x, and never packed. SPLIT: the blocks of a cluster share the
// channels (share.cuh).
//
// Where phases have different numbers of taps, SEPARATE: rows are channels of y, each phase a row block of its own.
//
// The host (src/cuda/columns.cpp) writes namespace config and the products.
#include "columns/share.cuh"
#include "columns/turn.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

/// What a warpgroup that multiplies does.
template <int kind>
__device__ __forceinline__ void compute(const Arguments& a, const Operands& operands, char* shared, const Barriers& b,
                                        int rank, int group) {
  const int first = first_tile(), by = tiles_apart();
  const Chunks chunks(rank);
  const int thread = threadIdx.x % warpgroup;
  const int down = GROUPS_DOWN == 2 ? group : 0, across = GROUPS_ACROSS == 2 ? group : 0;
  const int row0 = down * GROUP_ROWS, position0 = across * a.own;
  char* own = shared + tables_end + group * group_bytes;
  Reader reader{shared, b.full, b.empty};
  reader.copied = A_SHARED || !SWIZZLED || !a.bulk;
  // Blocks of several tiles: the second warpgroup begins as far behind as the stages allow.
  const bool several = SPLIT == 1 && first + by < a.tiles;
  if (several && group == 0) reader.behind = min(STAGES - 1, chunks.count);
  if (several && group == 1) meet(3, 2 * warpgroup);
  int turn = 0;
#pragma unroll 1
  for (int index = first; index < a.tiles; index += by) {
    const Tile t(a, index);
    char* tables = own + turn * (places_bytes + lists_bytes);
    Place* places = reinterpret_cast<Place*>(tables);
    Line* list = reinterpret_cast<Line*>(tables + places_bytes);
    char* buffers = own + 2 * (places_bytes + lists_bytes);
    turn ^= 1;
    find_places(a, t, row0, position0, places, list, thread);
    float bias[2];
    load_bias(a, t, row0, bias, thread);
    Sums sums;
    multiply_tile<kind>(a, sums, reader, chunks.count, row0, position0);
    OfChannel of_channel[2];
    if constexpr (!finished_late) load_of_channel(operands, t, row0, of_channel, thread);
    meet(1 + group, warpgroup);
    if constexpr (SPLIT == 1) {
      store_tile<kind, POSITIONS>(a, operands, sums, bias, of_channel, buffers, places, list, thread, 1 + group);
    } else {
      // Neither reads stages any more. (Not a named barrier: synccheck wants all to wait at one instruction, and kinds
      // of warpgroups have their own.)
      barrier_arrive(b.read);
      barrier_wait(b.read, 0);
      leave_sums(sums, shared);
      meet_cluster();
      const int first_8 = rank * (share_positions / 8);
      if (first_8 < POSITIONS / 8) {
        float share[ROW_BLOCKS][held_positions / 2];
        add_up(share, shared_address(shared), first_8);
        store_tile<kind, held_positions>(a, operands, share, bias, of_channel, buffers, places + place_at(first_8 * 8),
                                         list, thread, 1 + group);
      }
      meet_cluster();  // other blocks read from this one
    }
  }
}

// More than the block was given would be waited for without end.
constexpr int launch_registers = 65536 / threads / 8 * 8;
static_assert(consumers * COMPUTE_REGISTERS + BRING_REGISTERS <= (consumers + 1) * launch_registers,
              "registers are shared out anew, not made");

__device__ __forceinline__ void run(const Arguments& a, const Operands& operands) {
  let_next_begin();
  extern __shared__ __align__(1024) char shared[];
  __shared__ unsigned long long barriers[2 * STAGES + 2 * RAW_SLOTS + 1];
  Barriers b;
  b.full = shared_address(barriers), b.empty = b.full + 8 * STAGES;
  b.raw_full = b.empty + 8 * STAGES, b.raw_empty = b.raw_full + 8 * RAW_SLOTS;
  b.read = b.raw_empty + 8 * RAW_SLOTS;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(b.full + 8 * s, bringers + (TURNED ? turners / 32 : 0) + (SWIZZLED && a.bulk ? 1 : 0));
      barrier_init(b.empty + 8 * s, consumers * warpgroup / 32);
    }
    for (int s = 0; s < RAW_SLOTS; ++s) {
      barrier_init(b.raw_full + 8 * s, bringers);
      barrier_init(b.raw_empty + 8 * s, turners / 32);
    }
    barrier_init(b.read, consumers * warpgroup);
    barriers_ready();
  }
  __syncthreads();
  after_previous();
  const int rank = SPLIT > 1 ? rank_in_cluster() : 0;
  const int group = threadIdx.x / warpgroup, thread = threadIdx.x % warpgroup;
  if (group == consumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    if (TURNED && thread >= bringers)
      turn_all(a, shared, b, Chunks(rank), thread - bringers);
    else
      bring_all(a, shared, b, Chunks(rank), thread);
    if constexpr (SPLIT > 1) {
      meet_cluster();
      meet_cluster();
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    if (KINDS == 2 && group == 1)
      compute<KINDS - 1>(a, operands, shared, b, rank, group);
    else
      compute<0>(a, operands, shared, b, rank, group);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void columns(const __grid_constant__ Arguments, const config::Operands) {}
#elif UPCONV_SPLIT > 1
extern "C" __global__ void __cluster_dims__(UPCONV_SPLIT, 1, 1) __launch_bounds__(threads, 1)
    columns(const __grid_constant__ Arguments a, const config::Operands operands) {
  run(a, operands);
}
#else
extern "C" __global__ void __launch_bounds__(threads, 1)
    columns(const __grid_constant__ Arguments a, const config::Operands operands) {
  run(a, operands);
}
#endif

}  // namespace upconv
