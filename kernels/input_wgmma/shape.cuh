// What a block of input_wgmma.cuh works on: its stages in shared memory and
// their barriers, its tiles, and its share of the pairs (co, tap).
#pragma once

#include "arguments/input_wgmma.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_element.cuh"

namespace upconv {

typedef arguments::InputWgmma Arguments;

constexpr bool tf32 = element == 0;
constexpr int element_bytes = tf32 ? 4 : 2;
constexpr int warpgroup = 128, multiplying = WGS * warpgroup, threads = multiplying + warpgroup;
/// 16-bit elements whose pairs are neighbours in dy too, at even places: two
/// taps of a row under an even stride.
constexpr bool words = !tf32 && KW % 2 == 0 && DW == 1 && SW % 2 == 0 && LEAD % 2 == 0;
constexpr int quad = 16 / element_bytes, step = 2 * quad, steps = KS / step;
constexpr int row_elements = 128 / element_bytes;  ///< Of w that one copy brings of a row.
constexpr int taps = KD * KH * KW, pairs = CO * taps, chunks = (pairs + KS - 1) / KS;
constexpr int w_bytes = NB * KS * element_bytes;
constexpr int y_bytes = (CC * YC * element_bytes + 1023) / 1024 * 1024;
constexpr int stage_bytes = w_bytes + y_bytes;
constexpr int lines = LD * LH;
/// Sets of A's registers that are used by turns: of small products several run
/// at once.
constexpr int turns = MT * NB <= 128 && steps * MT >= 8 && steps * MT % 4 == 0 ? 4 : 2;
static_assert(chunks >= SPLIT && (SPLIT == 1 || MT * NB * multiplying * 2 <= STAGES * stage_bytes), "sums fit");
static_assert(BD * BH * BW == 64 * MT * WGS && KS % row_elements == 0, "a position a row, whole copies");

/// Bytes from the start of a stage to pair `k` of its row `channel` of w: as
/// bulk copies leave it and products read it.
__device__ constexpr int w_place(int channel, int k) {
  return k / row_elements * (NB * 128) + channel * 128 + ((k % row_elements / quad) ^ (channel & 7)) * 16 +
         k % quad * element_bytes;
}

/// The chunks that this block adds up: all, or its share of a cluster.
struct Share {
  int first, end;
  __device__ __forceinline__ explicit Share(int rank)
      : first(rank * chunks / SPLIT), end((rank + 1) * chunks / SPLIT) {}
};

/// One tile of the work. Boxes run fastest: neighbours share w in the L2.
struct Place {
  Box box;
  int ci0, group;
  __device__ __forceinline__ Place(const Arguments& p, int tile) {
    constexpr int parts = (CI + NB - 1) / NB;
    box.start(tile % p.all_boxes, p);
    const int rest = tile / p.all_boxes;
    ci0 = rest % parts * NB, group = rest / parts;
  }
};

/// Barriers of the stages: everything has landed, products have ended.
struct Barriers {
  u32 landed, empty;
};

}  // namespace upconv
