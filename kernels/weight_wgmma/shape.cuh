// What a block of weight_wgmma.cuh works on: its stages in shared memory and their barriers, its part of dw, and where
// positions of x and rows of dy lie in a stage.
#pragma once

#include "arguments/weight_wgmma.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_stage.cuh"

namespace upconv {

typedef arguments::WeightWgmma Arguments;

constexpr bool tf32 = element == 0;
constexpr int warpgroup = 128, multiplying = WGS * warpgroup, threads = multiplying + (APART ? 2 : 1) * warpgroup;
constexpr int quad = 16 / element_bytes;  ///< Positions of 16 bytes.
constexpr int step = 2 * quad;            ///< Positions of a product.
constexpr int box_positions = BD * BH * BW, steps = box_positions / step;
constexpr int row_bytes = ROW_BYTES, row_positions = row_bytes / element_bytes;  ///< Of a channel of x, side by side.
/// STACKED taps of H, KH apart, are columns of the products, each with lines of x of its own, LATER above those of the
/// tap before: positions along H are those of lines of dy of one residue, and a box has LATE lines of x more.
constexpr int x_lines_h = BH + LATE, x_positions = BD * x_lines_h * BW;
constexpr int x_rows = (x_positions + row_positions - 1) / row_positions * NB;
constexpr bool may_be_bulk = ROWS_BULK;
constexpr bool runs = row_positions > BW;                         ///< Bulk copies of x bring several lines at once.
constexpr int x_lines = BD * BH, behind_at = x_rows * row_bytes;  ///< Where shifted lines' last 16 bytes lie.
constexpr int x_bytes = (behind_at + (X_SHIFTED ? x_lines * NB * 16 : 0) + 1023) / 1024 * 1024;
constexpr int y_bytes = ((COB * YC + (Y_PIECES ? quad : 0)) * element_bytes + 1023) / 1024 * 1024;
constexpr int stage_bytes = x_bytes + y_bytes;
constexpr int taps_of_block = TD * TH * TW, rows_of_block = COB * taps_of_block;
static_assert(steps * step == box_positions && (BD & (BD - 1) | BH & (BH - 1) | BW & (BW - 1)) == 0,
              "products of whole steps; the place of a sum of positions is the sum of their places");
static_assert(!may_be_bulk || box_positions % row_positions == 0, "bulk copies bring whole rows");
static_assert(STACKED == 1 || row_positions <= BW, "lines of x are whole rows of shared memory");
/// Lines of channels of x that are a multiple of X_PERIOD apart begin alike. Those of a block lie side by side, as bulk
/// copies bring them; with X_EARLY it has no others.
constexpr int x_classes = X_SHIFTED ? X_PERIOD : 1, channel_step = X_EARLY ? X_PERIOD : 1;
constexpr int x_together = NB / x_classes;
static_assert(X_PERIOD == x_classes * channel_step, "what channels have in common is used once");
static_assert(x_classes == 1 || x_together % 8 == 0, "whole products of such channels");
static_assert(!X_EARLY || (BH == 1 && (BD == 1 || FOLDED)), "a box begins once: its lines lie alike");
static_assert(Y_PIECES || (PITCH_H * element_bytes % 16 == 0 && YC * element_bytes % 16 == 0),
              "lines begin at multiples of 16 bytes");

/// Bytes from the start of a stage to a position of a channel of x: rows of 32, 64 or 128 bytes whose quads are
/// swizzled, as bulk copies leave them and products read them.
__device__ constexpr int x_place(int channel, int position) {
  const int turn = row_bytes == 128 ? channel & 7 : row_bytes == 64 ? channel >> 1 & 3 : channel >> 2 & 1;
  return position / row_positions * (NB * row_bytes) + channel * row_bytes +
         ((position % row_positions / quad) ^ turn) * 16 + position % quad * element_bytes;
}

/// The position of x's tile that a position of the box meets with stacked tap `tap`.
__device__ constexpr int x_position(int at, int tap) {
  return (at / (BW * BH) * x_lines_h + at / BW % BH + LATE - LATER * tap) * BW + at % BW;
}

/// This block's part of dw, and where its taps put position 0.
struct Part {
  int ci0, co0, td0, th0, tw0, group;
  i64 split;
  Shift shift;

  __device__ __forceinline__ Part() {
    u32 id = blockIdx.x;
    const auto take = [&](u32 size) {
      const u32 r = id % size;
      id /= size;
      return static_cast<int>(r);
    };
    if (CLUSTER > 1) split = take(CLUSTER);
    const int first = take(channel_step * ((CI / channel_step + NB - 1) / NB));
    ci0 = first % channel_step + first / channel_step * (NB * channel_step), co0 = take((CO + COB - 1) / COB) * COB;
    tw0 = take(GW) * TW, th0 = take(GH) * TH, td0 = take(GD) * TD, group = take(GROUPS);
    if (CLUSTER == 1) split = id;
    shift = {DD * td0 - PD, DH * th0 - PH, DW * tw0 - PW};
  }
};

/// Row `m` of the block: an output channel and a tap, both counted from the block's first. Rows beyond the last repeat
/// the first.
struct Row {
  int co, td, th, tw;
  bool real;
  __device__ __forceinline__ explicit Row(int m) : real(m < rows_of_block) {
    if (!real) m = 0;
    const int t = m % taps_of_block;
    co = m / taps_of_block, tw = t % TW, th = t / TW % TH, td = t / (TW * TH);
  }
  /// Bytes from the start of dy in a stage to what position 0 reads.
  __device__ __forceinline__ int place() const {
    return (co * YC + row_offset(td * TH + th) + LEAD + tw * DW) * element_bytes;
  }
};
/// Row of the block that row `half` * 8 + lane / 4 of this warp's fragment `mt` is. PAIRED: a lane's two rows are taps
/// that read neighbours in dy, which one word holds; 2: the next word is the next position's.
__device__ __forceinline__ int row_of(int mt, int half) {
  const int thread = threadIdx.x % warpgroup, group = threadIdx.x / warpgroup;
  return (group * MT + mt) * 64 + thread / 32 * 16 + (PAIRED ? thread % 32 / 4 * 2 + half : half * 8 + thread % 32 / 4);
}
/// Bytes from a row's place to that of a position of the box.
__device__ constexpr int position_place(int at) {
  return (at / (BW * BH) * (STEP_D * PITCH_D) + at / BW % BH * (STEP_H * PITCH_H) + at % BW * SW) * element_bytes;
}

/// The element of its sample, or of its group of X_PERIOD channels, at which a line of x begins that was brought from
/// the multiple of 16 bytes before: of channels `i` modulo X_PERIOD.
__device__ __forceinline__ int run_begin(const Arguments& p, const Box& b, int line, int i) {
  const int h = b.h * BH + line % BH, d = b.d * BD + line / BH;
  return static_cast<int>(i * p.xs.c + (FOLDED ? 0 : d * p.xs.d) + h * p.xs.h) + b.w * BW;
}
/// The position of its lines at which a box begins.
__device__ __forceinline__ int first_position(const Arguments& p, const Part& part, const Box& b) {
  if (!X_EARLY || !p.x_bulk) return b.w * BW;
  return b.w * BW - run_begin(p, b, 0, part.ci0 % X_PERIOD) % quad;
}

/// Barriers of the stages: copies have landed, products may begin, products have ended.
struct Barriers {
  u32 landed, full, empty;
};

}  // namespace upconv
