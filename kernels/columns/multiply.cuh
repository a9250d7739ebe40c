// The products of a tile of columns.cuh. Weights are the A operand, read from a stage as they lie in memory, into
// registers; x is B. A lane loads the next step's weights before it begins a step's products.
#pragma once

#include "columns/shape.cuh"

namespace upconv {

/// One product of a chunk's first step_channels channels: where its weights and its positions begin, in elements and
/// positions, and which sums it adds to.
template <int kind>
__device__ __forceinline__ constexpr Step step_of(int i) {
  return kind == 0 ? steps_0[i] : steps_1[i];
}
template <int kind>
constexpr int steps_each = kind == 0 ? sizeof(steps_0) / sizeof(Step) : sizeof(steps_1) / sizeof(Step);

/// Rows of a fragment, of 16 that a warp has: of lane group g = lane / 4 and half (0, 1).
constexpr int row_g = PAIRS ? 2 : 1, row_half = PAIRS ? 1 : 8;

/// Where a row's weights begin in a stage's row of one channel of x.
__device__ __forceinline__ constexpr int row_place(int row) {
  if (PAIRS || PARTED || (!W_LAST && TAPS == row_phases)) return row;
  constexpr int channels = W_LAST ? W_RUN / TAPS : 1;
  const int channel = row / row_phases, phase = row % row_phases;
  const int tap = SEPARATE ? 0 : (phase / (SH * SW) * KH + phase / SW % SH) * KW + phase % SW;
  return W_LAST ? tap * channels + channel : channel * TAPS + tap;
}

constexpr int raw_words = PARTS == 2 || (element_bytes == 2 && !PAIRS) ? 8 : 4;
/// Channels of a lane's four loads: one after the other in pairs, or (TF32) two four apart.
constexpr int lane_channels = tf32 ? 1 : 2;

__device__ __forceinline__ u32 word_of(float v) { return __float_as_uint(v); }
template <class Half>
__device__ __forceinline__ u32 word_of(Half v) {
  return v.bits;
}

/// Loads what a lane needs of a step's weights: `row` are the places of its two rows in its first channel.
__device__ __forceinline__ void load_weights(u32 (&raw)[raw_words], const char* stage, const int (&row)[2], int first,
                                             int k) {
  const Element* w = reinterpret_cast<const Element*>(stage) + first + k * (step_channels * W_PITCH);
  constexpr int count = tf32 ? 2 : 4;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const int channel = (tf32 ? 4 * i : i % 2 + i / 2 * 8) * W_PITCH;
    if constexpr (PAIRS && element_bytes == 2) {
      raw[i] = *reinterpret_cast<const u32*>(w + row[0] + channel);
    } else if constexpr (PAIRS) {
      const uint2 v = *reinterpret_cast<const uint2*>(w + row[0] + channel);
      raw[2 * i] = v.x, raw[2 * i + 1] = v.y;
    } else {
      raw[2 * i] = word_of(w[row[0] + channel]);
      raw[2 * i + 1] = word_of(w[row[1] + channel]);
    }
  }
}

/// As the tensor cores want them.
__device__ __forceinline__ void convert(u32 (&f)[PARTS][4], const u32 (&raw)[raw_words]) {
  if constexpr (tf32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) f[0][i] = round_tf32(__uint_as_float(raw[i]));
  } else if constexpr (element_bytes == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i / 2 * 4 + i % 2;
      const float first = __uint_as_float(raw[at]), second = __uint_as_float(raw[at + 2]);
      f[0][i] = pack_bf16(first, second);
      f[PARTS - 1][i] = pack_rest(first, second, f[0][i]);
    }
  } else if constexpr (PAIRS) {
#pragma unroll
    for (int i = 0; i < 4; ++i) f[0][i] = __byte_perm(raw[i / 2 * 2], raw[i / 2 * 2 + 1], i % 2 ? 0x7632 : 0x5410);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i / 2 * 4 + i % 2;
      f[0][i] = raw[at] | raw[at + 2] << 16;
    }
  }
}

/// All products of a tile's chunks. `stage` and `parity` go on from tile to tile.
template <int kind>
__device__ __forceinline__ void multiply_tile(float (&sums)[ROW_BLOCKS][POSITIONS / 2], const char* stages, u32 full,
                                              u32 empty, int chunks, int row0, int position0, int& stage, int& parity) {
  constexpr int each = steps_each<kind>, steps = CHANNELS / step_channels * each;
  static_assert(steps >= 2, "a chunk has two products or more");
  const int lane = threadIdx.x % 32, warp = threadIdx.x % warpgroup / 32;
  int row[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    row[half] = row_place(row0 + warp * 16 + lane / 4 * row_g + half * row_half) + lane % 4 * (lane_channels * W_PITCH);
  u32 raw[raw_words], fragment[2][PARTS][4];
#pragma unroll
  for (int i = 0; i < ROW_BLOCKS; ++i)
#pragma unroll
    for (int j = 0; j < POSITIONS / 2; ++j) sums[i][j] = 0.f;
  if (chunks == 0) return;
  barrier_wait(full + 8 * stage, parity);
  const char* at = stages + stage * stage_bytes;
  load_weights(raw, at, row, step_of<kind>(0).weight, 0);
  int held = -1;  // the stage before, whose last product may still run
  for (int chunk = 0; chunk < chunks; ++chunk) {
    unsigned long long x = descriptor(shared_address(at + weight_bytes) + position0 * 16, unit_bytes);
    const int now = stage;
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      const Step step = step_of<kind>(s % each);
      // Registers are used by turns: the product before this one may run on. (Of an odd number of steps the last has
      // used those of the first.)
      if (steps % 2 == 1 && s == 0)
        mma_wait<0>();
      else
        mma_wait<1>();
      if (s == (steps % 2 == 1 ? 0 : 1) && held >= 0) {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty + 8 * held);
      }
      u32(&f)[PARTS][4] = fragment[s % 2];
      convert(f, raw);
      if (s + 1 < steps) {
        load_weights(raw, at, row, step_of<kind>((s + 1) % each).weight, (s + 1) / each);
      } else if (chunk + 1 < chunks) {
        if (++stage == STAGES) stage = 0, parity ^= 1;
        barrier_wait(full + 8 * stage, parity);
        at = stages + stage * stage_bytes;
        load_weights(raw, at, row, step_of<kind>(0).weight, 0);
      }
      mma_fence();
      const unsigned long long b = x + ((s / each * 2 * unit_bytes + step.x * 16) >> 4);
      wgmma(sums[step.block], f[0], b);
      if constexpr (PARTS == 2) {
        wgmma(sums[step.block], f[0], b + (part_bytes >> 4));
        wgmma(sums[step.block], f[PARTS - 1], b);
      }
      mma_commit();
    }
    held = now;
  }
  if (++stage == STAGES) stage = 0, parity ^= 1;
  mma_wait<0>();
  __syncwarp();
  if (lane == 0) barrier_arrive(empty + 8 * held);
#pragma unroll
  for (int i = 0; i < ROW_BLOCKS; ++i)
#pragma unroll
    for (int j = 0; j < POSITIONS / 2; ++j) asm volatile("" : "+f"(sums[i][j])::"memory");
}

}  // namespace upconv
