// The products of a tile of columns.cuh. Weights are A: read by lanes from a stage as they lie in memory, into
// registers, those of the next products before a product begins; or, of 16-bit types, by wgmma itself (A_SHARED). x is
// B.
#pragma once

#include "columns/bring.cuh"

namespace upconv {

/// One product of a chunk's first step_channels channels: where its weights begin, in elements (A_SHARED: which part of
/// them), which segment of x and how far its positions lie behind the last that any product takes, which sums.
template <int kind>
__device__ __forceinline__ constexpr Step step_of(int i) {
  return kind == 0 ? steps_0[i] : steps_1[i];
}
template <int kind>
constexpr int steps_each = kind == 0 ? sizeof(steps_0) / sizeof(Step) : sizeof(steps_1) / sizeof(Step);

/// x of a step in a stage, in units of 16 bytes from the x of the stage on.
__device__ __forceinline__ u32 x_units(const Arguments& a, const Step& step, int k) {
  const u32 position = step.back_w + (MERGED_H ? step.back_h * a.row_pitch.divisor : 0);
  if (TURNED) return k * (2 * unit_bytes / 16) + step.segment * segment_positions + position;
  if (SWIZZLED) return k * (step_channels * 128 / 16) + step.segment * (segment_bytes / 16);
  return k * (step_channels * 16 / 16) + step.segment * (segment_bytes / 16) + position / 8 * (block_bytes / 16);
}
constexpr u64 x_form = TURNED     ? descriptor(unit_bytes, 128)
                       : SWIZZLED ? swizzled_descriptor(swizzled_bytes)
                                  : descriptor(128, block_bytes);
constexpr u64 w_form = descriptor(128, block_bytes);

// ---- weights in registers -------------------------------------------------------------------------------------------

/// Rows of a fragment, of 16 that a warp has: of lane group g = lane / 4 and half (0, 1).
constexpr int row_g = PAIRS ? 2 : 1, row_half = PAIRS ? 1 : 8;

/// Where a row's weights begin in a stage's row of one channel of x.
__device__ __forceinline__ constexpr int row_place(int row) {
  if (PARTED || TAPS == row_phases) return row;
  const int channel = row / row_phases, phase = row % row_phases;
  const int tap = SEPARATE ? 0 : (phase / (SH * SW) * KH + phase / SW % SH) * KW + phase % SW;
  return channel * TAPS + tap;
}

/// Products that one load feeds: both shifts of W where their weights are neighbours.
constexpr int together = QUADS ? 2 : 1;
constexpr int raw_words = together * (PARTS == 2 || (halves && !PAIRS) ? 8 : 4);
/// Channels of a lane's loads: one after the other in pairs, or (TF32) two four apart.
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
    if constexpr (QUADS && halves) {
      const uint2 v = *reinterpret_cast<const uint2*>(w + row[0] + channel);
      raw[2 * i] = v.x, raw[2 * i + 1] = v.y;
    } else if constexpr (QUADS) {
      const uint4 v = *reinterpret_cast<const uint4*>(w + row[0] + channel);
      raw[4 * i] = v.x, raw[4 * i + 1] = v.y, raw[4 * i + 2] = v.z, raw[4 * i + 3] = v.w;
    } else if constexpr (PAIRS && halves) {
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

/// The fragment of the `which`-th product as the tensor cores want it.
template <int which>
__device__ __forceinline__ void convert(u32 (&f)[PARTS][4], const u32 (&raw)[raw_words]) {
  if constexpr (!halves) {
    const auto number = [&](int load, int half) {
      return __uint_as_float(raw[load * 2 * together + which * 2 + half]);
    };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (tf32) {
        f[0][i] = round_tf32(number(i / 2, i % 2));
      } else {
        const float first = number(i / 2 * 2, i % 2), second = number(i / 2 * 2 + 1, i % 2);
        f[0][i] = pack_bf16(first, second);
        f[PARTS - 1][i] = pack_rest(first, second, f[0][i]);
      }
    }
  } else if constexpr (PAIRS) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      f[0][i] = __byte_perm(raw[i / 2 * 2 * together + which], raw[(i / 2 * 2 + 1) * together + which],
                            i % 2 ? 0x7632 : 0x5410);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i / 2 * 4 + i % 2;
      f[0][i] = raw[at] | raw[at + 2] << 16;
    }
  }
}

// ---- a tile ---------------------------------------------------------------------------------------------------------

typedef float Sums[ROW_BLOCKS][POSITIONS / 2];

/// A warpgroup's side of the ring of stages; `behind` > 0: the other begins that many chunks later, so that one stores
/// while the other multiplies.
struct Reader {
  const char* stages;
  u32 full, empty;
  Ring<STAGES> ring;
  int held = -1;  // the stage whose products may still run
  int behind = 0;
  bool copied = true;  // not by bulk copies

  __device__ __forceinline__ const char* wait() {
    barrier_wait(full + 8 * ring.at, ring.parity);
    if constexpr (A_SHARED || !TURNED)
      if (copied) fence_shared();  // what copies have written, wgmma reads
    return stages + ring.at * stage_bytes;
  }
  /// Behind a wait for products, at which the lanes of a warp have met.
  __device__ __forceinline__ void release() {
    if (held >= 0 && threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * held);
    held = -1;
  }
  __device__ __forceinline__ void chunk_done() {
    if (--behind == 0) arrive_only(3, 2 * warpgroup);
  }
};

/// All products of a tile's chunks. `row0`, `position0`: this warpgroup's part of the tile.
template <int kind>
__device__ __forceinline__ void multiply_tile(const Arguments& a, Sums& sums, Reader& reader, int chunks, int row0,
                                              int position0) {
  constexpr int each = steps_each<kind>;
#pragma unroll
  for (int i = 0; i < ROW_BLOCKS; ++i)
#pragma unroll
    for (int j = 0; j < POSITIONS / 2; ++j) sums[i][j] = 0.f;
  if (chunks == 0) return;
  const u32 x_first = TURNED ? position0 : position0 / 8 * (block_bytes / 16);
  if constexpr (A_SHARED) {
    const u32 w_first = row0 / 8 * (block_bytes / 16);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const char* at = reader.wait();
      const int now = reader.ring.at;
      const u32 w = units_of(shared_address(at)) + w_first, x = units_of(shared_address(at + weight_bytes)) + x_first;
      mma_fence();
#pragma unroll
      for (int k = 0; k < steps_k; ++k)
#pragma unroll
        for (int s = 0; s < each; ++s) {
          const Step step = step_of<kind>(s);
          wgmma_shared(sums[step.block], w_form | (w + step.weight * (part_rows_bytes / 16) + k * step_channels),
                       x_form | (x + x_units(a, step, k)));
        }
      mma_commit();
      mma_wait<1>();
      reader.release();
      reader.held = now;
      reader.ring.next();
      reader.chunk_done();
    }
  } else {
    constexpr int loads = steps_k * each / together;
    static_assert(loads >= 2, "a chunk has two loads or more");
    const int lane = threadIdx.x % 32, warp = threadIdx.x % warpgroup / 32;
    int row[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      row[half] =
          row_place(row0 + warp * 16 + lane / 4 * row_g + half * row_half) + lane % 4 * (lane_channels * W_PITCH);
    u32 raw[raw_words], fragment[2][together][PARTS][4];
    const char* at = reader.wait();
    load_weights(raw, at, row, step_of<kind>(0).weight, 0);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const u32 x = units_of(shared_address(at + weight_bytes)) + x_first;
      const int now = reader.ring.at;
#pragma unroll
      for (int l = 0; l < loads; ++l) {
        const int k = l * together / each, s = l * together % each;
        // Registers are used by turns: the products before these may run on. (Of an odd number of loads the last has
        // used those of the first.) No branch may lie between a fragment and its product, else ptxas serialises them
        // all (C7513).
        if (loads % 2 == 1 && l == 0)
          mma_wait<0>();
        else
          mma_wait<1>();
        if (l == (loads % 2 == 1 ? 0 : 1)) reader.release();
        u32(&f)[together][PARTS][4] = fragment[l % 2];
        convert<0>(f[0], raw);
        if constexpr (QUADS) convert<together - 1>(f[together - 1], raw);
#pragma unroll
        for (int i = 0; i < together * PARTS; ++i) hold(f[i / PARTS][i % PARTS]);
        if (l + 1 < loads) {
          const int next = (l + 1) * together;
          load_weights(raw, at, row, step_of<kind>(next % each).weight, next / each);
        }
        mma_fence();
#pragma unroll
        for (int i = 0; i < together; ++i) {
          const Step step = step_of<kind>(s + i);
          const u64 b = x_form | (x + x_units(a, step, k));
          wgmma(sums[step.block], f[i][0], b);
          if constexpr (PARTS == 2) {
            wgmma(sums[step.block], f[i][0], b + part_bytes / 16);
            wgmma(sums[step.block], f[i][PARTS - 1], b);
          }
        }
        mma_commit();
      }
      reader.held = now;
      reader.ring.next();
      reader.chunk_done();
      if (chunk + 1 < chunks) {
        at = reader.wait();
        load_weights(raw, at, row, step_of<kind>(0).weight, 0);
      }
    }
  }
  mma_wait<0>();
  reader.release();
#pragma unroll
  for (int i = 0; i < ROW_BLOCKS; ++i) hold(sums[i]);
}

}  // namespace upconv
