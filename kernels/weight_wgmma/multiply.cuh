// The products of one stage of weight_wgmma.cuh: on the tensor cores, or, where pairs (position, tap) have to be left
// out, one pair after the other.
#pragma once

#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"
#include "weight_wgmma/shape.cuh"

namespace upconv {

typedef float Sums[MT][STACKED][NB / 2];
constexpr int raw_words = tf32 || PAIRED ? 4 : 8;
static_assert(!PAIRED || (!tf32 && TW % 2 == 0 && DW == 1 && SW % 2 == 0 && LEAD % 2 == 0), "pairs of taps are words");
static_assert(PAIRED < 2 || (TW == 2 && SW == 2 && LEAD % 4 == 0 && BW > 1), "of two positions side by side");

/// Starts loading a fragment: of both rows the positions of one step that this lane multiplies.
__device__ __forceinline__ void load_fragment(u32 (&raw)[raw_words], const u32 (&row)[2], int k) {
#pragma unroll
  for (int late = 0; late < 2; ++late) {
    if (PAIRED) {
      const u32 at = row[0] + position_place(k * step + late * quad);
      if (PAIRED == 2) {
        uint2 both;
        load(at, both);
        raw[2 * late] = both.x, raw[2 * late + 1] = both.y;
      } else {
        raw[2 * late] = load_word(at);
        raw[2 * late + 1] = load_word(at + position_place(1));
      }
      continue;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u32 at = row[half] + position_place(k * step + late * quad);
      if (tf32) {
        raw[2 * late + half] = load_word(at);
      } else {
        raw[4 * late + 2 * half] = load_half(at);
        raw[4 * late + 2 * half + 1] = load_half(at + position_place(1));
      }
    }
  }
}
__device__ __forceinline__ void convert(u32 (&f)[4], const u32 (&raw)[raw_words]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    f[i] = tf32     ? round_tf32(__uint_as_float(raw[i]))
           : PAIRED ? __byte_perm(raw[i / 2 * 2], raw[i / 2 * 2 + 1], i % 2 == 0 ? 0x5410 : 0x7632)
                    : raw[2 * i % raw_words] | raw[(2 * i + 1) % raw_words] << 16;
}

/// All products of one stage. `f`: fragments whose products may still run when this begins, and when it ends. `place`:
/// of this lane's rows; `begin`: how many bytes behind all places lie. `held`: the stage of those products.
__device__ __forceinline__ void multiply(Sums& sums, u32 (&f)[2][4], const u32 (&place)[MT][2], u32 stage, int begin,
                                         u32 empty, int& held, int now) {
  constexpr int fragments = steps * MT;
  constexpr u64 swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
  const u64 b = swizzle << 62 | descriptor(16, 8 * row_bytes) | units_of(stage);
  u32 row[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) row[mt][half] = stage + x_bytes + place[mt][half] + (Y_PIECES ? begin : 0);
  u32 raw[raw_words];
  load_fragment(raw, row[0], 0);
#pragma unroll
  for (int i = 0; i < fragments; ++i) {
    // Registers are used by turns: the products before these may run on. (Of an odd number the last has used those of
    // the first.) No branch may lie between a fragment and its product, else ptxas serialises them all (C7513).
    if (fragments % 2 == 1 && i == 0)
      mma_wait<0>();
    else
      mma_wait<1>();
    if (i == (fragments % 2 == 1 ? 0 : 1) || fragments == 1) {
      __syncwarp();
      barrier_arrive_if(held >= 0 && threadIdx.x % 32 < arriving, empty + 8 * (held < 0 ? 0 : held));
      held = -1;
    }
    convert(f[i % 2], raw);
    hold(f[i % 2]);
    if (i + 1 < fragments) load_fragment(raw, row[(i + 1) % MT], (i + 1) / MT);
    mma_fence();
#pragma unroll
    for (int tap = 0; tap < STACKED; ++tap)
      wgmma(sums[i % MT][tap], f[i % 2], b + x_place(0, x_position(i / MT * step, tap)) / 16);
    mma_commit();
  }
  held = now;
}

/// The same, one pair (position, tap) after the other, without those whose output is cropped.
__device__ __forceinline__ void multiply_masked(Sums& sums, const Arguments& p, const Part& part, const Box& box,
                                                const char* stage, int begin) {
  const int column = threadIdx.x % 4, first = first_position(p, part, box);
  const auto number = [](const char* at) {
    const float v = to_float(*reinterpret_cast<const Element*>(at));
    return tf32 ? __uint_as_float(round_tf32(v)) : v;
  };
#pragma unroll 1
  for (int at = 0; at < box_positions; ++at) {
    const int d = box.d * BD + at / (BW * BH), h = box.h * BH + at / BW % BH, w = first + at % BW;
    if (d >= p.in_d || h >= p.in_h || w < 0 || w >= p.in_w) continue;
    float y[MT][2];
    bool lands[MT][2];
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Row row(row_of(mt, half));
        lands[mt][half] = static_cast<u32>(SD * d + part.shift.d + DD * row.td) < static_cast<u32>(p.out_d) &&
                          static_cast<u32>(SH * h + part.shift.h + DH * row.th) < static_cast<u32>(p.out_h) &&
                          static_cast<u32>(SW * w + part.shift.w + DW * row.tw) < static_cast<u32>(p.out_w);
        y[mt][half] = number(stage + x_bytes + (Y_PIECES ? begin : 0) + row.place() + position_place(at));
      }
#pragma unroll
    for (int tap = 0; tap < STACKED; ++tap) {
      const int line = h - LATER * tap;  // of x
      if (STACKED > 1 && (line < 0 || line >= p.in_h - LATE)) continue;
#pragma unroll
      for (int j = 0; j < NB / 8; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float v = number(stage + x_place(8 * j + 2 * column + i, x_position(at, tap)));
#pragma unroll
          for (int mt = 0; mt < MT; ++mt)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              float& sum = sums[mt][tap][4 * j + 2 * half + i];
              sum = lands[mt][half] ? fmaf(y[mt][half], v, sum) : sum;
            }
        }
    }
  }
}

}  // namespace upconv
