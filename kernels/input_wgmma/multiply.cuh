// The products of one stage of input_wgmma.cuh: lanes load A from lines of dy,
// w is B.
#pragma once

#include "input_wgmma/shape.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv {

typedef float Sums[MT][NB / 2];
/// Of a step: loads of a fragment, and of which pairs (of `words`, the first of
/// two).
constexpr int raw_words = tf32 || words ? 4 : 8, lane_pairs = tf32 || words ? 2 : 4;

/// Row `half` * 8 + lane / 4 of this warp's fragment `mt`, as a position of the
/// box.
__device__ __forceinline__ int row_of(int mt, int half) {
  const int thread = threadIdx.x % warpgroup, group = threadIdx.x / warpgroup;
  return (group * MT + mt) * 64 + thread / 32 * 16 + half * 8 + thread % 32 / 4;
}
/// Bytes from the start of dy in a stage to what tap 0 of its first channel
/// reads at a position of the box.
__device__ __forceinline__ int position_place(int at) {
  return ((at / (BW * BH) * LH + at / BW % BH) * SPAN + at % BW * SW + LEAD) * element_bytes;
}
/// Bytes further on for pair `k` of a stage of that phase.
__device__ __forceinline__ int reach_of(int phase, int k) {
  const int pair = phase * KS % taps + k, tap = pair % taps;
  return (pair / taps * YC + row_offset(tap / KW) + tap % KW * DW) * element_bytes;
}

/// The reaches of the pairs that this lane multiplies: of all steps where there
/// is one phase, else of one step.
struct Reaches {
  static constexpr bool held = PHASES == 1;
  u32 of[held ? steps : 1][lane_pairs];
  u32 table;

  __device__ __forceinline__ static int pair(int k, int i) {
    const int c = threadIdx.x % 4;
    return k * step + (tf32 ? c + 4 * i : words ? 2 * c + 8 * i : 2 * c + i % 2 + 8 * (i / 2));
  }
  __device__ __forceinline__ explicit Reaches(u32 first) : table(first) {
    if constexpr (held)
#pragma unroll
      for (int k = 0; k < steps; ++k)
#pragma unroll
        for (int i = 0; i < lane_pairs; ++i) of[k][i] = load_word(table + pair(k, i) * 4);
  }
  __device__ __forceinline__ u32 at(int phase, int k, int i) const {
    if constexpr (held) return of[k][i];
    return load_word(table + (phase * KS + pair(k, i)) * 4);
  }
};

/// Starts loading a fragment: of both rows the pairs of one step that this lane
/// multiplies.
__device__ __forceinline__ void load_fragment(u32 (&raw)[raw_words], const u32 (&row)[2], const Reaches& reaches,
                                              int phase, int k) {
#pragma unroll
  for (int i = 0; i < lane_pairs; ++i) {
    const u32 reach = reaches.at(phase, k, i);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (tf32 || words)
        raw[2 * i + half] = load_word(row[half] + reach);
      else
        raw[4 * (i / 2) + 2 * half + i % 2] = load_half(row[half] + reach);
    }
  }
}
__device__ __forceinline__ void convert(u32 (&f)[4], const u32 (&raw)[raw_words]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    f[i] = tf32    ? round_tf32(__uint_as_float(raw[i]))
           : words ? raw[i]
                   : raw[2 * i % raw_words] | raw[(2 * i + 1) % raw_words] << 16;
}

/// All products of one stage. `f`: fragments whose products may still run when
/// this begins, and when it ends. `held`: the stage of those products.
__device__ __forceinline__ void multiply(Sums& sums, u32 (&f)[turns][4], const u32 (&place)[MT][2],
                                         const Reaches& reaches, int phase, u32 stage, u32 empty, int& held, int now) {
  constexpr int fragments = steps * MT;
  const u64 b = u64(1) << 62 | descriptor(16, 8 * 128) | units_of(stage);
  u32 row[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) row[mt][half] = stage + w_bytes + place[mt][half];
  u32 raw[2][raw_words];
#pragma unroll
  for (int i = 0; i < 2; ++i) load_fragment(raw[i], row[i % MT], reaches, phase, i / MT);
#pragma unroll
  for (int i = 0; i < fragments; ++i) {
    // Registers are used by turns: the products before these may run on. No
    // branch may lie between a fragment and its product, else ptxas serialises
    // them all (C7513).
    mma_wait<turns - 1>();
    if (i == turns - 1) {
      __syncwarp();
      barrier_arrive_if(held >= 0 && threadIdx.x % 32 < arriving, empty + 8 * (held < 0 ? 0 : held));
      held = -1;
    }
    convert(f[i % turns], raw[i % 2]);
    hold(f[i % turns]);
    if (i + 2 < fragments) load_fragment(raw[i % 2], row[(i + 2) % MT], reaches, phase, (i + 2) / MT);
    mma_fence();
    wgmma(sums[i % MT], f[i % turns], b + w_place(0, i / MT * step) / 16);
    mma_commit();
  }
  held = now;
}
static_assert(steps * MT % turns == 0, "a stage begins with the registers that the one before began with");

}  // namespace upconv
