// Dense gathers on Hopper's warpgroup tensor cores (sm_90a): forward and dx of any kernel, stride and dilation.
//
//   out[n, c, position] = sum over source channels k and taps t of src[n, k, source(position, t)] * B[t][k][c]
//
// A warpgroup computes a box of positions q of the phase grid (extents are run-time numbers, at most 64 * SEGMENTS
// positions), ROWS of them in the dimension MERGE, all phases, NB result channels. Positions are the M operand: lanes read
// them from shared memory wherever they lie, which is why plain NCHW needs no transpose and why every stride, rank and
// tail is a matter of addresses. A fragment (64 positions, a chunk of channels, one offset) feeds every accumulator that
// UPCONV_FRAGMENTS lists for it, neighbouring ones by one product of many columns: docs/measured-hopper.md says what
// that is worth. The sum runs in chunks of 8 (TF32) or 16 channels, times the taps of D where D is a loop (`depth_loop`).
//
// Weights are resident (all chunks, loaded once) or come with each stage. With resident weights each of the two
// warpgroups walks over boxes of its own with stages of its own, so that one stores while the other multiplies; else
// (SHARED) the two boxes lie side by side and share stages.
//
// Shared memory: [resident weights][stages of each ring: weights unless resident, source][places of a box's positions in
// the result][staging of each warpgroup]. Floor: max(bytes of source and result, products at the tensor cores' rate).
// The host (src/cuda/boxes.cpp) writes namespace config, wgmma() and UPCONV_FRAGMENTS.
#include "arguments/boxes.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

typedef arguments::Boxes<Element> Arguments;
using arguments::Strides;

constexpr int channels_k = tf32 ? 8 : 16;  ///< Of a product.
constexpr int channels = channels_k * STEPS_K;  ///< Of a stage: a chunk.
constexpr int chunks = (K + channels - 1) / channels;
constexpr int shares_of_group = (N + NB - 1) / NB;
constexpr int rings = SHARED ? 1 : 2;
constexpr int producers = 128, of_ring = producers / rings;
/// Registers of fragments that take turns. TF32 rounds them where they were loaded: those of the fragment after next may be
/// loaded while two others' products run, so four sets, and a number of them that divides FRAGMENTS goes round from stage
/// to stage; where none does, products end first. Other types have words (two sets) and operands (two sets) apart.
constexpr int ring = !tf32 ? 2 : FRAGMENTS % 4 == 0 ? 4 : FRAGMENTS % 6 == 0 ? 6 : FRAGMENTS % 5 == 0 ? 5 : 4;
constexpr bool goes_round = FRAGMENTS % ring == 0;
constexpr int raw_words = tf32 ? 4 : 8;  ///< A lane's words of a fragment as they lie in shared memory.
/// A 16-bit element as it lies in a word.
template <class Half>
__device__ __forceinline__ u32 bits_of(Half v) {
  return v.bits;
}
__device__ __forceinline__ u32 bits_of(float) { return 0; }
static_assert(RESIDENT || SHARED, "streamed weights belong to one ring");

}  // namespace upconv

#include "boxes/source.cuh"
#include "boxes/store.cuh"
#include "boxes/store_lines.cuh"
#include "boxes/weights.cuh"

namespace upconv {

constexpr int chunk_words = STEPS_K * weight_words;
constexpr int resident_words = RESIDENT ? LOOP_TAPS * chunks * chunk_words : 0;
constexpr int streamed_words = RESIDENT ? 0 : (chunk_words + 31) / 32 * 32;
constexpr int stage_words = streamed_words + SOURCE_WORDS;
constexpr int store_words = staging_words + (LINE ? carried_words : inside_words);  ///< Of one warpgroup.
static_assert(resident_words % 32 == 0 && FRAGMENTS != 3 && stage_words % 32 == 0, "bulk copies write at multiples of 128 bytes");

/// The words of a fragment that one lane reads lie at `lane` (rows, channels) + an offset that all lanes share.
constexpr int lane_halves = WIDE ? 1 : 2, lane_channels = tf32 ? 2 : 4;
struct Lanes {
  u32 at[SEGMENTS][lane_halves][lane_channels];

  __device__ __forceinline__ Lanes(const Arguments& a, int group, int warp, int lane) {
    const int apart = a.second[0] * a.pitch_n + a.second[1] * STEP_D * a.pitch_d + a.second[2] * STEP_H * a.pitch_h +
                      a.second[3] * STEP_W;
    const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3];
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < lane_halves; ++half) {
        int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
        if (position >= count) position = 0;
        const int w = position % a.extent[3], line = position / a.extent[3], h = line % a.extent[2];
        const int plane = line / a.extent[2], d = plane % a.extent[1], n = plane / a.extent[1];
        const int element = n * a.pitch_n + d * STEP_D * a.pitch_d + h * STEP_H * a.pitch_h + w * STEP_W +
                            (SHARED && group == 1 ? apart : 0);
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
  u32 raw[ring][raw_words], operand[tf32 ? 1 : 2][PARTS][4];

  /// Makes the operand of fragment `index` of its words: row and row + 8 of the first channels, then of the last.
  template <int index>
  __device__ __forceinline__ void prepare() {
    u32(&from)[raw_words] = raw[index % ring];
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
  template <int index, int part>
  __device__ __forceinline__ const u32 (&of())[4] {
    if constexpr (tf32)
      return reinterpret_cast<const u32(&)[4]>(raw[index % ring]);
    else
      return operand[index % 2][part];
  }
};

/// Fragment `index` times `columns` columns into the sums from register `first` on; `units` is B's address in units of 16
/// bytes.
template <int index, int first, int columns>
__device__ __forceinline__ void product(float (&acc)[BLOCKS * (NB / 2)], Fragments& f, u32 units) {
  float(&sum)[columns / 2] = reinterpret_cast<float(&)[columns / 2]>(acc[first]);
  wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units));
  if constexpr (PARTS == 2) {
    wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units + part_bytes / 16));
    wgmma(sum, f.of<index, PARTS - 1>(), b_descriptor<half_bytes>(units));
  }
}

/// All products of one stage. Products of the stage before may still run when this begins: `finished` is called when they
/// have ended, `read` when no more words of the source are wanted. This stage's products run on when it returns.
template <class Finished, class Read>
__device__ __forceinline__ void multiply(const Arguments& a, float (&acc)[BLOCKS * (NB / 2)], Fragments& f,
                                         const Lanes& lanes, u32 shared, u32 weights, Finished&& finished,
                                         Read&& read) {
  const u32 units = weights >> 4;
  if constexpr (tf32 && !goes_round) mma_wait<0>();
  // Words are loaded before the products of the fragment before them: loads that follow products wait for them.
  // A fragment's registers are free when all but the last group of products have ended.
#define LOAD(index, segment, k, d, h, w)                                                      \
  load_raw(f.raw[(index) % ring], lanes.at[segment],                                          \
           shared + ((k)*channels_k * a.pitch_c + (d)*a.pitch_d + (h)*a.pitch_h + (w)) *      \
                        static_cast<int>(sizeof(Element)));
#define USE(index)                                                \
  mma_wait<((index) > 0 || tf32 || goes_round) ? 1 : 0>();        \
  if ((index) == (FRAGMENTS > 1 ? 1 : 0)) finished();             \
  f.prepare<index>();                                             \
  if ((index) == FRAGMENTS - 1) read();                           \
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

/// What the producers of one ring do. `thread` counts from 0 in the ring.
__device__ __forceinline__ void produce(const Arguments& a, int first, int step, int share, u32 stages, u32 full,
                                        u32 empty, int thread) {
  if (RESIDENT && a.bulk && thread != 0) return;
  int stage = 0, parity = 1;
  for (Walk at(a, first, step, share); at.next(a);) {
    barrier_wait(empty + 8 * stage, parity);
    const u32 to = stages + stage * (stage_words * 4), source = to + streamed_words * 4;
    if constexpr (RESIDENT) {
      if (a.bulk) {
        barrier_expect(full + 8 * stage, a.bulk_bytes);
        bring_bulk(a, at, source, full + 8 * stage);
      } else {
        bring(a, at, source, full + 8 * stage, thread, of_ring);
      }
    } else {
      if (a.bulk) {
        if (thread == 0) {
          barrier_expect_only(full + 8 * stage, a.bulk_bytes);
          bring_bulk(a, at, source, full + 8 * stage);
        }
      } else {
        bring(a, at, source, full + 8 * stage, thread, of_ring);
      }
#pragma unroll 1
      for (int k = 0; k < STEPS_K; ++k)
        bring_weights(a, at.place.group, at.place.column0, at.tap, at.chunk * STEPS_K + k, to + k * (weight_words * 4),
                      thread, of_ring);
      fence_shared();
      barrier_arrive(full + 8 * stage);
    }
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
}

extern "C" __global__ void __launch_bounds__(2 * 128 + producers, 1) boxes(const __grid_constant__ Arguments a) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)  // elsewhere an empty kernel, which nobody launches
  extern __shared__ __align__(1024) u32 shared[];
  __shared__ unsigned long long barriers[2 * rings * STAGES];
  const u32 full0 = shared_address(barriers), empty0 = full0 + 8 * rings * STAGES;
  const int shares = a.groups * shares_of_group, share = blockIdx.x % shares;
  // Of the boxes of this share: those of this block, then of its ring.
  const int block = blockIdx.x / shares, blocks = gridDim.x / shares;
  if (threadIdx.x == 0) {
    const int arrivals = RESIDENT ? (a.bulk ? 1 : of_ring) : (a.bulk ? producers : 2 * producers);
    for (int s = 0; s < rings * STAGES; ++s) {
      barrier_init(full0 + 8 * s, arrivals);
      barrier_init(empty0 + 8 * s, SHARED ? 8 : 4);
    }
    barriers_ready();
  }
  const u32 weights0 = shared_address(shared);
  if constexpr (RESIDENT) {
    const Place p(a, 0, share);
#pragma unroll 1
    for (int i = 0; i < LOOP_TAPS * chunks * STEPS_K; ++i)
      bring_weights(a, p.group, p.column0, i / (chunks * STEPS_K), i % (chunks * STEPS_K),
                    weights0 + i * (weight_words * 4), threadIdx.x, blockDim.x);
    fence_shared();
  }
  Spot* spots = reinterpret_cast<Spot*>(shared + resident_words + rings * STAGES * stage_words);
  __shared__ RowSet sets[all_sets];
  if constexpr (!LINE) find_spots(a, spots, threadIdx.x, blockDim.x);
  find_sets(sets, threadIdx.x);
  __syncthreads();

  const u32 stages0 = weights0 + resident_words * 4;
  if (threadIdx.x >= 256) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
    const int thread = threadIdx.x - 256, ring = thread / of_ring;
    produce(a, block * rings + ring, blocks * rings, share, stages0 + ring * (STAGES * stage_words * 4),
            full0 + 8 * ring * STAGES, empty0 + 8 * ring * STAGES, thread % of_ring);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
    const int ring = SHARED ? 0 : group;
    const u32 stages = stages0 + ring * (STAGES * stage_words * 4);
    const u32 full = full0 + 8 * ring * STAGES, empty = empty0 + 8 * ring * STAGES;
    float* staging = reinterpret_cast<float*>(spots + (LINE ? 0 : positions)) + group * store_words;
    u32* inside = reinterpret_cast<u32*>(staging + staging_words);
    float* carried = staging + staging_words;
    const Lanes lanes(a, group, warp, lane);
    // The second warpgroup begins later, so that it multiplies while the first stores: with stages of its own after the
    // first's first box, else as far behind as the stages they share allow.
    int until_second = group == 0 ? (SHARED ? STAGES - 1 : LOOP_TAPS * chunks) : 0;
    const auto let_second_begin = [&] {
      if (until_second > 0) asm volatile("bar.arrive 3, 256;" ::: "memory");
      until_second = 0;
    };
    if (group == 1) meet(3, 256);
    int stage = 0, parity = 0, turn = 0, inside_turn = 0;
    int unit = block * rings + ring;
    Place at_place(a, unit, share);
#pragma unroll 1
    while (unit < a.units) {
      Place p = at_place;
      float acc[BLOCKS * (NB / 2)];
      Fragments fragments;
#pragma unroll
      for (int i = 0; i < BLOCKS * (NB / 2); ++i) acc[i] = 0.f;
      const u32 before = slack(a, p) * static_cast<int>(sizeof(Element));
      int held = -1;  // streamed weights: the stage whose products may still run
#pragma unroll 1
      for (int tap = 0; tap < LOOP_TAPS; ++tap) {
        int depth;
        if (depth_loop && !source_depth(a, p.q[0], tap, depth)) continue;
#pragma unroll 1
        for (int chunk = 0; chunk < chunks; ++chunk) {
          barrier_wait(full + 8 * stage, parity);
          const u32 at = stages + stage * (stage_words * 4);
          const u32 w = RESIDENT ? weights0 + (tap * chunks + chunk) * (chunk_words * 4) : at;
          const auto release = [&](int which) {
            __syncwarp();
            if (lane == 0) barrier_arrive(empty + 8 * which);
          };
          multiply(
              a, acc, fragments, lanes, at + streamed_words * 4 + before, w,
              [&] {
                if (!RESIDENT && held >= 0) release(held);
              },
              [&] {
                if (RESIDENT) release(stage);
              });
          held = stage;
          if (++stage == STAGES) stage = 0, parity ^= 1;
          if (until_second == 1)
            let_second_begin();
          else
            --until_second;
        }
      }
      let_second_begin();
      mma_wait<0>();
      hold(acc);
      if (!RESIDENT && held >= 0) {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty + 8 * held);
      }
      if (SHARED && group == 1) {
        p.n += a.second[0];
        p.q[0] += a.second[1], p.q[1] += a.second[2], p.q[2] += a.second[3];
      }
      if constexpr (LINE)
        store_lines(a, p, acc, staging, sets, carried, group, thread, turn);
      else
        store_box(a, p, acc, staging, spots, sets, inside, group, thread, turn, inside_turn);
      if (!at_place.next(a)) {
        unit += blocks * rings;
        at_place = Place(a, unit, share);
      }
    }
    let_second_begin();
  }
#endif
}

}  // namespace upconv
