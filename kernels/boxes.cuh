// Dense gathers on Hopper's warpgroup tensor cores (sm_90a): forward and dx of any kernel, stride and dilation.
//
//   out[n, c, position] = sum over source channels k and taps t of src[n, k, source(position, t)] * B[t][k][c]
//
// A warpgroup computes a box of positions q of the phase grid (extents are run-time numbers, at most 64 * SEGMENTS
// positions), ROWS of them in the dimension MERGE, all phases, NB result channels. Positions are the M operand: lanes
// read them from shared memory wherever they lie, which is why plain NCHW needs no transpose and why every stride, rank
// and tail is a matter of addresses. A fragment (64 positions, a chunk of channels, one offset) feeds every accumulator
// that UPCONV_FRAGMENTS lists for it, neighbouring ones by one product of many columns: docs/measured-hopper.md says
// what that is worth. The sum runs in chunks of 8 (TF32) or 16 channels, times the taps of D where D is a loop
// (`depth_loop`). fp32 as bf16x3 takes three products of 16 channels, x_hi w_hi + x_hi w_lo + x_lo w_hi, or, FOLDED,
// two of 8 channels, [x_hi x_lo] [w_hi w_hi]' + [x_hi x_lo] [w_lo w_lo]': cheaper where a group has no more.
//
// OVERLAPPED: the rows of a product are source elements along W instead, all taps of W are columns, and a result's
// products with them are added up as it is stored (overlap-add): a fragment then feeds as many times more columns as W
// has taps. A box has a whole row of the source, or as many source elements more than positions as taps reach.
//
// Weights, prepared by boxes_prepare.cuh, are resident (all chunks, loaded once) or come with each stage. With resident
// weights each of the GROUPS warpgroups may walk over boxes of its own with stages of its own; else (SHARED) their
// boxes lie side by side and share stages. One warpgroup alone does not keep the tensor cores busy, less so while it
// stores.
//
// Shared memory: [resident weights][stages of each ring: weights unless resident, source][places of a box's positions
// in the result][staging of each warpgroup]. Floor: max(bytes of source and result, products at the tensor cores'
// rate). The host (src/cuda/boxes.cpp) writes namespace config, wgmma() and UPCONV_FRAGMENTS.
#include "arguments/boxes.cuh"
#include "epilogue/operands.cuh"
#include "ptx/arriving.cuh"
#include "ptx/dependents.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

typedef arguments::Boxes<Element> Arguments;
using arguments::Strides;

constexpr int rings = SHARED ? 1 : GROUPS;
constexpr int of_ring = 128 / rings / 32 * 32;                                 ///< Producers of a ring.
constexpr int rows_d = MERGE == 0 ? ROWS : 1, rows_h = MERGE == 1 ? ROWS : 1;  ///< Positions of one row of products.
/// Registers of fragments that take turns. TF32 rounds them where they were loaded: those of the fragment after next
/// may be loaded while two others' products run, so four sets, and a number of them that divides FRAGMENTS goes round
/// from stage to stage; where none does, products end first. Other types have words (two sets) and operands (two sets)
/// apart.
constexpr int ring = !tf32 ? 2 : FRAGMENTS % 4 == 0 ? 4 : FRAGMENTS % 6 == 0 ? 6 : FRAGMENTS % 5 == 0 ? 5 : 4;
constexpr bool goes_round = FRAGMENTS % ring == 0;
static_assert(RESIDENT || SHARED, "streamed weights belong to one ring");

}  // namespace upconv

#include "boxes/balance.cuh"
#include "boxes/source.cuh"
#include "boxes/store.cuh"
#include "boxes/store_direct.cuh"
#include "boxes/weights.cuh"

namespace upconv {

constexpr int chunk_words = STEPS_K * weight_words;
constexpr int resident_words = RESIDENT ? LOOP_TAPS * chunks * chunk_words : 0;
constexpr int streamed_words = RESIDENT ? 0 : (chunk_words + 31) / 32 * 32;
constexpr int stage_words = streamed_words + SOURCE_WORDS;
constexpr int store_words = DIRECT ? 0 : staging_words + inside_words;  ///< Of one warpgroup.
static_assert(resident_words % 32 == 0 && FRAGMENTS != 3 && stage_words % 32 == 0,
              "bulk copies write at multiples of 128 bytes");

constexpr int raw_words = channels_k / 2;  ///< A lane's words of a fragment as they lie in shared memory.
constexpr int split = FOLDED ? 1 : PARTS;  ///< Operands that a fragment's words become.

/// The words of a fragment that one lane reads lie at `lane` (rows, channels) + an offset that all lanes share.
constexpr int lane_halves = WIDE ? 1 : 2, lane_channels = channels_k / 4;
struct Lanes {
  u32 at[SEGMENTS][lane_halves][lane_channels];

  __device__ __forceinline__ Lanes(const Arguments& a, int group, int warp, int lane) {
    const int apart = a.second[0] * a.pitch_n + a.second[1] * STEP_D * a.pitch_d + a.second[2] * STEP_H * a.pitch_h +
                      a.second[3] * STEP_W;
    const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.columns;
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < lane_halves; ++half) {
        int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
        if (position >= count) position = 0;
        const int w = position % a.columns, line = position / a.columns, h = line % a.extent[2];
        const int plane = line / a.extent[2], d = plane % a.extent[1], n = plane / a.extent[1];
        const int element = n * a.pitch_n + d * (rows_d * STEP_D) * a.pitch_d + h * (rows_h * STEP_H) * a.pitch_h +
                            w * STEP_W + (SHARED ? group * apart : 0);
#pragma unroll
        for (int c = 0; c < lane_channels; ++c)
          at[segment][half][c] = (element + (lane % 4 + 4 * c) * a.pitch_c) * static_cast<int>(sizeof(Element));
      }
  }
};

/// Starts loading a fragment: rows lane / 4 and 8 more, channels lane % 4 and 4, 8, 12 more.
__device__ __forceinline__ void load_raw(u32 (&raw)[raw_words], const u32 (&lane)[lane_halves][lane_channels],
                                         u32 shared) {
#pragma unroll
  for (int c = 0; c < lane_channels; ++c)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u32 at = shared + lane[WIDE ? 0 : half][c] + (WIDE ? half * 8 * STEP_W * sizeof(Element) : 0);
      raw[2 * c + half] = sizeof(Element) == 4 ? load_word(at) : load_half(at);
    }
}

/// A lane's words of fragments, and what the products take of them.
struct Fragments {
  u32 raw[ring][raw_words], operand[tf32 ? 1 : 2][split][4];

  /// Makes the operand of fragment `index` of its words: row and row + 8 of the first channels, then of the last.
  template <int index>
  __device__ __forceinline__ void prepare() {
    u32(&from)[raw_words] = raw[index % ring];
    if constexpr (FOLDED) {
      u32(&to)[4] = operand[index % 2][0];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float first = __uint_as_float(from[half]), second = __uint_as_float(from[2 + half]);
        to[half] = pack_bf16(first, second);
        to[2 + half] = pack_rest(first, second, to[half]);
      }
    } else {
#pragma unroll
      for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if constexpr (tf32) {
            from[2 * k + half] = round_tf32(__uint_as_float(from[2 * k + half]));
          } else if constexpr (PARTS == 2) {
            const float first = __uint_as_float(from[4 * k + half]), second = __uint_as_float(from[4 * k + 2 + half]);
            operand[index % 2][0][2 * k + half] = pack_bf16(first, second);
            operand[index % 2][1][2 * k + half] = pack_rest(first, second, operand[index % 2][0][2 * k + half]);
          } else {
            operand[index % 2][0][2 * k + half] = from[4 * k + half] | from[4 * k + 2 + half] << 16;
          }
        }
    }
  }
  template <int index, int part>
  __device__ __forceinline__ const u32 (&of())[4] {
    if constexpr (tf32)
      return reinterpret_cast<const u32(&)[4]>(raw[index % ring]);
    else
      return operand[index % 2][part];
  }
};

/// Fragment `index` times `columns` columns into the sums from register `first` on; `units` is B's address in units of
/// 16 bytes.
template <int index, int first, int columns>
__device__ __forceinline__ void product(float (&acc)[BLOCKS * (NB / 2)], Fragments& f, u32 units) {
  float(&sum)[columns / 2] = reinterpret_cast<float(&)[columns / 2]>(acc[first]);
  wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units));
  if constexpr (PARTS == 2) wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units + part_bytes / 16));
  if constexpr (split == 2) wgmma(sum, f.of<index, split - 1>(), b_descriptor<half_bytes>(units));
}

/// All products of one stage. Products of the stage before may still run when this begins: `finished` is called when
/// they have ended, `read` when no more words of the source are wanted. This stage's products run on when it returns.
template <class Finished, class Read>
__device__ __forceinline__ void multiply(const Arguments& a, float (&acc)[BLOCKS * (NB / 2)], Fragments& f,
                                         const Lanes& lanes, u32 shared, u32 weights, Finished&& finished,
                                         Read&& read) {
  const u32 units = weights >> 4;
  if constexpr (tf32 && !goes_round) mma_wait<0>();
    // Words are loaded before the products of the fragment before them: loads that follow products wait for them.
    // A fragment's registers are free when all but the last group of products have ended.
#define LOAD(index, segment, k, d, h, w)                                                 \
  load_raw(f.raw[(index) % ring], lanes.at[segment],                                     \
           shared + ((k)*channels_k * a.pitch_c + (d)*a.pitch_d + (h)*a.pitch_h + (w)) * \
                        static_cast<int>(sizeof(Element)));
#define USE(index)                                         \
  mma_wait<((index) > 0 || tf32 || goes_round) ? 1 : 0>(); \
  if ((index) == (FRAGMENTS > 1 ? 1 : 0)) finished();      \
  f.prepare<index>();                                      \
  if ((index) == FRAGMENTS - 1) read();                    \
  mma_fence();
#define PRODUCT(index, first, columns, k, slot) \
  product<index, (first) * (NB / 2), (columns)*NB>(acc, f, units + (k) * (weight_words / 4) + (slot)*NB);
#define DONE mma_commit();
  UPCONV_FRAGMENTS
#undef LOAD
#undef USE
#undef PRODUCT
#undef DONE
}

/// The box of a warpgroup, where several share a source: the first's is `p`.
__device__ __forceinline__ Place own_place(const Arguments& a, Place p, int group) {
  if constexpr (SHARED) {
    p.n += group * a.second[0];
    p.q[0] += group * a.second[1], p.q[1] += group * a.second[2], p.q[2] += group * a.second[3];
  }
  return p;
}

/// What the producers of one ring do. `thread` counts from 0 in the ring.
__device__ __forceinline__ void produce(const Arguments& a, int first, int step, int share, u32 stages, u32 full,
                                        u32 empty, int thread) {
  if (a.bulk && thread != 0) return;
  const Portion own(pieces_of(a), thread, of_ring);
  Source from;
  int stage = 0, parity = 1;
  for (Walk at(a, first, step, share); at.next(a);) {
    barrier_wait(empty + 8 * stage, parity);
    const u32 to = stages + stage * (stage_words * 4), source = to + streamed_words * 4, ready = full + 8 * stage;
    constexpr int weight_bytes = RESIDENT ? 0 : chunk_words * 4;
    if (a.bulk) {
      barrier_expect(ready, a.bulk_bytes + weight_bytes);
      bring_bulk(a, at, source, ready);
    } else {
      if (!RESIDENT && thread == 0) barrier_expect_only(ready, weight_bytes);
      from.go(a, at);
      bring(a, at, from, own, source, ready, thread, of_ring);
    }
    if (!RESIDENT && thread == 0)
      bring_weights(a.weights, share, at.tap * steps + at.chunk * STEPS_K, STEPS_K, to, ready);
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
}

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
    boxes(const __grid_constant__ Arguments a, const Operands operands) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)  // elsewhere an empty kernel, which nobody launches
  let_next_begin();
  extern __shared__ __align__(1024) u32 shared[];
  __shared__ unsigned long long barriers[2 * rings * STAGES + 1];
  const u32 full0 = shared_address(barriers), empty0 = full0 + 8 * rings * STAGES;
  const u32 resident = empty0 + 8 * rings * STAGES, weights0 = shared_address(shared);
  const int shares = a.groups * shares_of_group, share = blockIdx.x % shares;
  // Of the boxes of this share: those of this block, then of its ring.
  const int block = blockIdx.x / shares, blocks = gridDim.x / shares;
  if (threadIdx.x == 0) {
    for (int s = 0; s < rings * STAGES; ++s) {
      barrier_init(full0 + 8 * s, a.bulk ? 1 : of_ring * arrivals);
      barrier_init(empty0 + 8 * s, (SHARED ? 4 * GROUPS : 4) * arriving);
    }
    barrier_init(resident, 1);
    barriers_ready();
    if constexpr (RESIDENT) {
      after_previous();
      barrier_expect(resident, resident_words * 4);
#pragma unroll 1
      for (int tap = 0; tap < LOOP_TAPS; ++tap)
        bring_weights(a.weights, share, tap * steps, steps, weights0 + tap * (steps * weight_words * 4), resident);
    }
  }
  Spot* spots = reinterpret_cast<Spot*>(shared + resident_words + rings * STAGES * stage_words);
  __shared__ RowSet sets[all_sets];
  if constexpr (!LINE) find_spots(a, spots, threadIdx.x, blockDim.x);
  find_sets(sets, threadIdx.x);
  __syncthreads();
  after_previous();

  const u32 stages0 = weights0 + resident_words * 4;
  if (threadIdx.x >= GROUPS * 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
    const int thread = threadIdx.x - GROUPS * 128, ring = thread / of_ring;
    if (ring >= rings) return;
    produce(a, block * rings + ring, blocks * rings, share, stages0 + ring * (STAGES * stage_words * 4),
            full0 + 8 * ring * STAGES, empty0 + 8 * ring * STAGES, thread % of_ring);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
    const int ring = SHARED ? 0 : group;
    const u32 stages = stages0 + ring * (STAGES * stage_words * 4);
    const u32 full = full0 + 8 * ring * STAGES, empty = empty0 + 8 * ring * STAGES;
    float* staging = reinterpret_cast<float*>(spots + (LINE ? 0 : all_spots)) + group * store_words;
    u32* inside = reinterpret_cast<u32*>(staging + staging_words);
    if constexpr (!result_last && !LINE && !DIRECT)
      find_bits([&](int, int position, int) { return spots[position].at >= 0; }, inside, warp, lane);
    if constexpr (OVERLAPPED) {
      for (int i = thread; i < staging_words; i += 128) staging[i] = 0.f;  // of what no source element leads to
      meet(1 + group, 128);
    }
    const Lanes lanes(a, group, warp, lane);
    // Each warpgroup begins later than the one before, so that one multiplies while another stores; those that share
    // stages cannot be further apart than these.
    constexpr int apart = GROUPS == 1 ? 1 : SHARED ? (STAGES - 1) / (GROUPS - 1) : LOOP_TAPS * chunks / (GROUPS - 1);
    int until_next = group + 1 < GROUPS ? (apart > 1 ? apart : 1) : 0;
    const auto let_next_group_begin = [&] {
      if (until_next > 0) asm volatile("bar.arrive %0, 256;" ::"r"(1 + GROUPS + group) : "memory");
      until_next = 0;
    };
    if (RESIDENT) barrier_wait(resident, 0);
    if (group > 0) meet(GROUPS + group, 256);
    int stage = 0, parity = 0, turn = 0, inside_turn = 0;
#pragma unroll 1
    for (int box = block * rings + ring; box < a.all_boxes; box += blocks * rings) {
      Place p(a, box, share);
      // What the stores make of the thread's number is worth no register while products run.
      int writer = thread;
      asm volatile("" : "+r"(writer));
      if constexpr (config::asks && !result_last && !LINE && !DIRECT)
        ask_for_operands(a, operands, own_place(a, p, group), spots, sets, thread);
      float acc[BLOCKS * (NB / 2)];
      Fragments fragments;
#pragma unroll
      for (int i = 0; i < BLOCKS * (NB / 2); ++i) acc[i] = 0.f;
      // Without a loop around the products the assembler would put zeros in between, and products in series (C7520).
      if constexpr (LOOP_TAPS * chunks == 1) hold(acc);
      int held = -1;  // streamed weights: the stage whose products may still run
#pragma unroll 1
      for (int tap = 0; tap < LOOP_TAPS; ++tap) {
        int depth = origin_d(p);
        if (depth_loop && !source_depth(a, p.q[0], tap, depth)) continue;
        const u32 before = slack(a, p, depth) * static_cast<int>(sizeof(Element));
#pragma unroll 1
        for (int chunk = 0; chunk < chunks; ++chunk) {
          barrier_wait(full + 8 * stage, parity);
          const u32 at = stages + stage * (stage_words * 4);
          const u32 w = RESIDENT ? weights0 + (tap * chunks + chunk) * (chunk_words * 4) : at;
          const auto release = [&](int which) {
            __syncwarp();
            barrier_arrive_if(lane < arriving && which >= 0, empty + 8 * which);
          };
          multiply(
              a, acc, fragments, lanes, at + streamed_words * 4 + before, w,
              [&] {
                if (!RESIDENT) release(held);
              },
              [&] {
                if (RESIDENT) release(stage);
              });
          held = stage;
          if (++stage == STAGES) stage = 0, parity ^= 1;
          if (until_next == 1)
            let_next_group_begin();
          else
            --until_next;
        }
      }
      let_next_group_begin();
      mma_wait<0>();
      hold(acc);
      if (!RESIDENT && held >= 0) {
        __syncwarp();
        if (lane < arriving) barrier_arrive(empty + 8 * held);
      }
      p = own_place(a, p, group);
      if constexpr (DIRECT)
        store_direct(a, operands, p, acc, spots, writer);
      else
        store_box(a, operands, p, acc, staging, spots, sets, inside, group, writer, turn, inside_turn);
    }
    let_next_group_begin();
  }
#endif
}

}  // namespace upconv
