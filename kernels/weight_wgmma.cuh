// dw[ci, co, t] = sum over n, i of x[n, ci, i] * dy[n, co, s*i + d*t - p] on Hopper's warpgroup tensor cores (sm_90a).
// Host side: src/cuda/weight_wgmma.cpp, which writes `namespace config` and wgmma().
//
// M = pairs (co, tap), N = ci, K = positions i. A block owns COB output channels x a set of taps (the rows, in dw's own
// order) and NB input channels, and sums over boxes of positions. Rows of dy lie in shared memory as in the tensor, so
// that row (co, tap) at position i is one word, `the row's place + the position's place`: lanes read A from there, a
// tap is an address and every stride, dilation and rank is the same loop; a fragment of 64 rows feeds NB columns. x
// lies K-major, swizzled, and is read by the tensor cores themselves.
//
// WGS warpgroups multiply, MT fragments of rows each; one more brings the boxes, and it or (APART) another finishes
// them: rounds what was not rounded on its way to TF32. Lines of x that begin between multiples of 16 bytes come from
// the multiple before: either the box begins there too (X_EARLY), and its channels are those whose lines begin alike,
// or who finishes moves them (X_SHIFTED). Bulk copies bring x in lines, or several lines at once where x is as narrow
// as the box, and dy (Y_BULK) in all lines between the first and the last; lanes bring what these cannot. Tensor cores
// truncate as they accumulate: after `chain` boxes the sums are added up in memory. They leave by way of the stages'
// memory where a block has all taps. The CLUSTER blocks that share a tile's boxes add up their sums there, or all do
// through the workspace (weight_sum.cuh). Pairs (position, tap) whose output is cropped meet zeros; a box at an edge
// that holds an infinity or a NaN is multiplied one pair after the other. Floor: max(bytes of x and dy, 2 * positions *
// ci * co * taps at the tensor cores' rate).
#include "arguments/weight_wgmma.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_stage.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv {

typedef arguments::WeightWgmma Arguments;

constexpr bool tf32 = element == 0;
constexpr int warpgroup = 128, multiplying = WGS * warpgroup, threads = multiplying + (APART ? 2 : 1) * warpgroup;
constexpr int quad = 16 / element_bytes;  ///< Positions of 16 bytes.
constexpr int step = 2 * quad;            ///< Positions of a product.
constexpr int box_positions = BD * BH * BW, steps = box_positions / step;
constexpr int row_bytes = ROW_BYTES, row_positions = row_bytes / element_bytes;  ///< Of a channel of x, side by side.
constexpr int x_rows = (box_positions + row_positions - 1) / row_positions * NB;
constexpr bool may_be_bulk = ROWS_BULK;
constexpr bool runs = row_positions > BW;                         ///< Bulk copies of x bring several lines at once.
constexpr int x_lines = BD * BH, behind_at = x_rows * row_bytes;  ///< Where shifted lines' last 16 bytes lie.
constexpr int x_bytes = (behind_at + (X_SHIFTED ? x_lines * NB * 16 : 0) + 1023) / 1024 * 1024;
constexpr int y_bytes = (COB * YC * element_bytes + 1023) / 1024 * 1024;
constexpr int stage_bytes = x_bytes + y_bytes;
constexpr int taps_of_block = TD * TH * TW, rows_of_block = COB * taps_of_block;
static_assert(steps * step == box_positions && (BD & (BD - 1) | BH & (BH - 1) | BW & (BW - 1)) == 0,
              "products of whole steps; the place of a sum of positions is the sum of their places");
static_assert(!may_be_bulk || box_positions % row_positions == 0, "bulk copies bring whole rows");
/// Lines of channels of x that are a multiple of X_PERIOD apart begin alike. Those of a block lie side by side, as bulk
/// copies bring them; with X_EARLY it has no others.
constexpr int x_classes = X_SHIFTED ? X_PERIOD : 1, channel_step = X_EARLY ? X_PERIOD : 1;
constexpr int x_together = NB / x_classes;
static_assert(X_PERIOD == x_classes * channel_step, "what channels have in common is used once");
static_assert(x_classes == 1 || x_together % 8 == 0, "whole products of such channels");
static_assert(!X_EARLY || (BH == 1 && (BD == 1 || FOLDED)), "a box begins once: its lines lie alike");
static_assert(SPAN * element_bytes % 16 == 0 && YC * element_bytes % 16 == 0, "lines begin at multiples of 16 bytes");

/// Bytes from the start of a stage to a position of a channel of x: rows of 32, 64 or 128 bytes whose quads are
/// swizzled, as bulk copies leave them and products read them.
__device__ constexpr int x_place(int channel, int position) {
  const int turn = row_bytes == 128 ? channel & 7 : row_bytes == 64 ? channel >> 1 & 3 : channel >> 2 & 1;
  return position / row_positions * (NB * row_bytes) + channel * row_bytes +
         ((position % row_positions / quad) ^ turn) * 16 + position % quad * element_bytes;
}

struct Bringer {
  static constexpr int threads = warpgroup;
  static constexpr bool fours = element_bytes == 2;
  /// Opaque: else the places of all copies, worked out before the first box, take more registers than there are.
  __device__ __forceinline__ static int thread() {
    int t = static_cast<int>(threadIdx.x) - multiplying;
    asm volatile("" : "+r"(t));
    return t;
  }
  template <int bytes>
  __device__ __forceinline__ static void copy(u32 to, const char* from, bool inside) {
    copy_async<bytes>(to, from, inside);
  }
};
struct XTile : Bringer {
  static constexpr int channels = NB, all_channels = CI / channel_step;
  static constexpr int lines_d = BD, lines_h = BH, span = BW, planes = 1;
  static constexpr bool last = x_last != 0;
  static constexpr int most = BW < quad ? BW : quad;
  __device__ static int d(int line) { return line; }
  __device__ static int h(int line) { return line; }
  __device__ static int w(int position, int) { return position; }
  __device__ static bool needed(int, int) { return true; }
  static constexpr int even = 8 * x_classes;
  __device__ static int row(int channel) { return channel % x_classes * x_together + channel / x_classes; }
  __device__ static int channel_bytes(int channel) { return row(channel) * row_bytes; }
  __device__ static int place_bytes(int channel, int line, int, int position) {
    return x_place(row(channel), line * BW + position);
  }
};
struct YTile : Bringer {
  static constexpr int channels = COB, all_channels = CO, lines_d = LD, lines_h = LH, span = SPAN, planes = 1;
  static constexpr bool last = y_last != 0;
  static constexpr int most = quad;
  __device__ static int d(int line) { return LINE_D * line + d_origin(line); }
  __device__ static int h(int line) { return LINE_H * line + h_origin(line); }
  __device__ static int w(int position, int) { return position; }
  __device__ static bool needed(int position, int) { return position < SPAN_READ; }
  __device__ static int channel_bytes(int channel) { return channel * YC * element_bytes; }
  static constexpr int even = 1;
  __device__ static int place_bytes(int channel, int line, int, int position) {
    return channel_bytes(channel) + (line * SPAN + position) * element_bytes;
  }
};

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
  return ((at / (BW * BH) * (STEP_D * LH) + at / BW % BH * STEP_H) * SPAN + at % BW * SW) * element_bytes;
}

// ---- bringing -------------------------------------------------------------------------------------------------------

/// Whether any of four words of elements is an infinity or a NaN, as a bit.
__device__ __forceinline__ u32 not_finite(const u32 (&v)[4]) {
  constexpr u32 exponent = element == 0 ? 0x7f800000u : element == 1 ? 0x7c007c00u : 0x7f807f80u;
  constexpr u32 one = element == 0 ? 0x00800000u : element == 1 ? 0x04000400u : 0x00800080u;
  u32 carried = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) carried |= (v[i] & exponent) + one;
  return carried & (element == 0 ? 0x80000000u : 0x80008000u);
}

/// Whether this thread's share of a stage holds an infinity or a NaN.
__device__ __forceinline__ bool holds_not_finite(u32 stage, int thread) {
  u32 found = 0;
  const auto look = [&](u32 at) {
    u32 v[4];
    load_quad(v, at);
    found |= not_finite(v);
  };
  constexpr int box_quads = box_positions / quad;
  constexpr bool x_filled = box_positions % row_positions == 0, y_filled = SPAN_READ == SPAN && YC == LD * LH * SPAN;
#pragma unroll 4
  for (int i = thread; i < box_quads * NB; i += warpgroup)
    look(stage + (x_filled ? i * 16 : x_place(i / box_quads, i % box_quads * quad)));
  if constexpr (y_filled) {
#pragma unroll 4
    for (int i = thread; i < COB * YC / quad; i += warpgroup) look(stage + x_bytes + i * 16);
    return found != 0;
  }
  constexpr int line_quads = SPAN_READ / quad, lines = COB * LD * LH;
  for (int i = thread; i < lines * line_quads; i += warpgroup) {
    const int line = i / line_quads;
    look(stage + x_bytes + (line / (LD * LH) * YC + line % (LD * LH) * SPAN) * element_bytes + i % line_quads * 16);
  }
  return found != 0;
}

/// Whether along one dimension no product of the box has to be left out: positions of x land in dy with all taps, and
/// positions before and beyond x, which are zero, with none, where dy is zero too.
__device__ __forceinline__ bool complete(int begin, int box, int in, int stride, int shift, int reach, int out) {
  const int end = begin + box;
  return stride * (begin < 0 ? 0 : begin) + shift >= 0 && (begin >= 0 || shift + reach < stride) &&
         stride * ((end < in ? end : in) - 1) + shift + reach < out && (end <= in || stride * in + shift >= out);
}
/// `w`: at which position of a line the box begins.
__device__ __forceinline__ bool complete(const Box& b, int w, const Shift& c, const Arguments& p) {
  return complete(b.d * BD, BD, p.in_d, SD, c.d, DD * (TD - 1), p.out_d) &&
         complete(b.h * BH, BH, p.in_h, SH, c.h, DH * (TH - 1), p.out_h) &&
         complete(w, BW, p.in_w, SW, c.w, DW * (TW - 1), p.out_w);
}

/// Whether the box ends within x.
__device__ __forceinline__ bool ends_inside(const Box& b, const Arguments& p) {
  return (b.d + 1) * BD <= p.in_d && (b.h + 1) * BH <= p.in_h && (b.w + 1) * BW <= p.in_w;
}
/// Runs of x hold what lies behind a line where a box reaches beyond it: zeros there.
__device__ __forceinline__ void clear_outside(u32 stage, const Box& b, const Arguments& p, int thread) {
#pragma unroll 1
  for (int at = 0; at < box_positions; at += quad) {
    u32 kept[4] = {};
#pragma unroll
    for (int i = 0; i < quad; ++i) {
      const int position = at + i;
      const bool inside = b.d * BD + position / (BW * BH) < p.in_d && b.h * BH + position / BW % BH < p.in_h &&
                          b.w * BW + position % BW < p.in_w;
      if (inside) kept[i * element_bytes / 4] |= element_bytes == 4 ? ~0u : 0xffffu << i % 2 * 16;
    }
    if ((kept[0] & kept[1] & kept[2] & kept[3]) == ~0u) continue;
    for (int row = thread; row < NB; row += warpgroup) {
      const u32 place = stage + x_place(row, at);
      u32 v[4];
      load_quad(v, place);
      store_quad(place, v[0] & kept[0], v[1] & kept[1], v[2] & kept[2], v[3] & kept[3]);
    }
  }
}

/// Rounds x of a stage to TF32.
__device__ __forceinline__ void round_x(u32 stage, int thread) {
#pragma unroll 8
  for (int i = thread; i < x_bytes / 16; i += warpgroup) {
    u32 v[4];
    load_quad(v, stage + i * 16);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = round_tf32(__uint_as_float(v[j]));
    store_quad(stage + i * 16, v[0], v[1], v[2], v[3]);
  }
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
/// A box that begins early, at position `w` of its lines, holds what lies before and behind these: zeros there.
__device__ __forceinline__ void clear_beyond_lines(u32 stage, int w, const Arguments& p, int thread) {
  const int begin = -w, end = p.in_w - w;  // positions of the box between these are x's
  const auto inside = [&](int position) { return position >= begin && position < end; };
  const auto clear = [&](int first) {
    u32 kept[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      kept[j] = element_bytes == 4
                    ? (inside(first + j) ? ~0u : 0u)
                    : (inside(first + 2 * j) ? 0xffffu : 0u) | (inside(first + 2 * j + 1) ? 0xffff0000u : 0u);
#pragma unroll 1
    for (int i = thread; i < NB * x_lines; i += warpgroup) {
      const u32 place = stage + x_place(i % NB, i / NB * BW + first);
      u32 v[4];
      load_quad(v, place);
      store_quad(place, v[0] & kept[0], v[1] & kept[1], v[2] & kept[2], v[3] & kept[3]);
    }
  };
  if (begin > 0) clear(0);
#pragma unroll 1
  for (int first = end < 0 ? 0 : end / quad * quad; first < BW; first += quad) clear(first);
}
/// Moves lines of x that were brought so to where products look for them. A line is one thread's.
__device__ __forceinline__ void shift_x(u32 stage, const Box& b, const Arguments& p, int thread) {
  constexpr int quads = BW / quad;
#pragma unroll 1
  for (int i = thread; i < NB * x_lines; i += warpgroup) {
    const int row = i % NB, line = i / NB;
    const int by = run_begin(p, b, line, row / x_together) % quad;
    if (by == 0) continue;
    const u32 behind = stage + behind_at + i * 16;
    const auto place = [&](int k) { return k < quads ? stage + x_place(row, line * BW + k * quad) : behind; };
    u32 v[3][4];
    load_quad(v[0], place(0));
    load_quad(v[1], place(1));
#pragma unroll
    for (int k = 0; k < quads; ++k) {
      if (k + 2 <= quads) load_quad(v[(k + 2) % 3], place(k + 2));
      u32 w[8];
#pragma unroll
      for (int j = 0; j < 4; ++j) w[j] = v[k % 3][j], w[4 + j] = v[(k + 1) % 3][j];
      const int words = by * element_bytes / 4;
#pragma unroll
      for (int j = 0; j < 6; ++j) w[j] = words & 2 ? w[j + 2] : w[j];
#pragma unroll
      for (int j = 0; j < 5; ++j) w[j] = words & 1 ? w[j + 1] : w[j];
      if (element_bytes == 2 && by % 2)
#pragma unroll
        for (int j = 0; j < 4; ++j) w[j] = __byte_perm(w[j], w[j + 1], 0x5432);
      store_quad(place(k), w[0], w[1], w[2], w[3]);
    }
  }
}

/// Barriers of the stages: copies have landed, products may begin, products have ended.
struct Barriers {
  u32 landed, full, empty;
};

/// Starts the copies of this block's boxes, one after the other.
struct Bringing {
  Box ahead, apart;
  i64 brought;
  int to = 0, parity = 1;
  i64 x_channels, y_channels;

  __device__ __forceinline__ Bringing(const Arguments& p, const Part& part)
      : brought(part.split),
        x_channels((static_cast<i64>(part.group) * CI + part.ci0) * p.xs.c),
        y_channels((static_cast<i64>(part.group) * CO + part.co0) * p.ys.c) {
    ahead.start(part.split, p);
    apart.start(p.splits, p);
  }
  __device__ __forceinline__ bool more(const Arguments& p) const { return brought < p.boxes; }
  __device__ __forceinline__ void bring_bulk(const Arguments& p, const Part& part, u32 to, u32 landed) const {
    barrier_expect_only(landed, box_positions * NB * element_bytes);
    const int channel = part.group * CI + part.ci0;
    if constexpr (runs) {
#pragma unroll 1
      for (int at = 0; at < box_positions; at += row_positions) {
        const int h = ahead.h * BH + at / BW % BH, d = ahead.d * BD + at / (BW * BH);
        copy_box(to + x_place(0, at), &p.x_map, landed, static_cast<int>((FOLDED ? 0 : d * p.xs.d) + h * p.xs.h),
                 (FOLDED ? d : ahead.n) * (GROUPS * CI) + channel);
      }
    } else {
#pragma unroll 1
      for (int line = 0; line < BD * BH; ++line)
#pragma unroll
        for (int w = 0; w < BW; w += row_positions)
          copy_box(to + x_place(0, line * BW + w), &p.x_map, landed, ahead.w * BW + w, ahead.h * BH + line % BH,
                   ahead.d * BD + line / BH, channel, ahead.n);
    }
  }
  __device__ __forceinline__ void bring_x_early(const Arguments& p, const Part& part, u32 to, u32 landed) const {
    barrier_expect_only(landed, box_positions * NB * element_bytes);
    const int from = run_begin(p, ahead, 0, part.ci0 % X_PERIOD) / quad * quad;
#pragma unroll 1
    for (int line = 0; line < x_lines; ++line) {
      const int sample = FOLDED ? ahead.d * BD + line : ahead.n;
#pragma unroll
      for (int w = 0; w < BW; w += row_positions)
        copy_box(to + x_place(0, line * BW + w), &p.x_map, landed, from + w,
                 (sample * (GROUPS * CI) + part.group * CI + part.ci0) / X_PERIOD);
    }
  }
  /// By one warp: a lane copies channels that are a multiple of X_PERIOD apart.
  __device__ __forceinline__ void bring_x_shifted(const Arguments& p, const Part& part, u32 to, u32 landed) const {
    const int lane = Bringer::thread();
    if (lane == 0) barrier_expect_only(landed, (box_positions * element_bytes + x_lines * 16) * NB);
    __syncwarp();
    if (lane >= X_PERIOD) return;
#pragma unroll 1
    for (int line = 0; line < x_lines; ++line) {
      const int sample = FOLDED ? ahead.d * BD + line / BH : ahead.n;
      const int row = (sample * (GROUPS * CI) + part.group * CI + part.ci0) / X_PERIOD;
      const int from = run_begin(p, ahead, line, lane) / quad * quad;
#pragma unroll 1
      for (int w = 0; w < BW; w += row_positions)
        copy_box(to + x_place(lane * x_together, line * BW + w), &p.x_map, landed, from + w, row);
      copy_box(to + behind_at + (line * NB + lane * x_together) * 16, &p.x_behind, landed, from + BW, row);
    }
  }
  __device__ __forceinline__ void bring_y_bulk(const Arguments& p, const Part& part, int w, u32 to, u32 landed) const {
    barrier_expect_only(landed, COB * YC * element_bytes);
    copy_box(to, &p.y_map, landed, SW * w + part.shift.w - LEAD, SH * ahead.h * BH + part.shift.h,
             SD * ahead.d * BD + part.shift.d, part.group * CO + part.co0, ahead.n);
  }
  __device__ __forceinline__ void next(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers) {
    barrier_wait(barriers.empty + 8 * to, parity);
    const u32 at = stages + to * stage_bytes, landed = barriers.landed + 8 * to;
    const int w = first_position(p, part, ahead);
    if (may_be_bulk && p.x_bulk) {
      if (X_SHIFTED) {
        if (Bringer::thread() < 32) bring_x_shifted(p, part, at, landed);
      } else if (Bringer::thread() == 0) {
        if (X_EARLY)
          bring_x_early(p, part, at, landed);
        else
          bring_bulk(p, part, at, landed);
      }
    } else {
      WeightStrides strides = p.xs;
      strides.c *= channel_step;
      stage<XTile>(p.x_vector, at, p.x, x_channels + ahead.n * p.xs.n, part.ci0 / channel_step, strides, ahead.d * BD,
                   ahead.h * BH, w, p.in_d, p.in_h, p.in_w);
    }
    if (Y_BULK && p.y_bulk) {
      if (Bringer::thread() == 0) bring_y_bulk(p, part, w, at + x_bytes, landed);
    } else {
      stage<YTile>(p.y_vector, at + x_bytes, p.dy, y_channels + ahead.n * p.ys.n, part.co0, p.ys,
                   SD * ahead.d * BD + part.shift.d, SH * ahead.h * BH + part.shift.h, SW * w + part.shift.w - LEAD,
                   p.out_d, p.out_h, p.out_w);
    }
    barrier_arrive_after_copies(landed);
    barrier_arrive(landed);  // what is narrower than a copy was stored
    ahead.advance(apart, p);
    brought += p.splits;
    if (++to == STAGES) to = 0, parity ^= 1;
  }
};

/// Makes a stage ready whose copies have landed.
__device__ __forceinline__ void finish_stage(u32 stage, const Box& b, int w, bool edge, const Arguments& p, int* masked,
                                             u32 full, int thread) {
  const bool rounded = may_be_bulk && p.x_bulk;
  if (thread == 0) *masked = 0;
  if (X_EARLY && p.x_bulk && (w < 0 || w + BW > p.in_w)) clear_beyond_lines(stage, w, p, thread);
  if (X_SHIFTED && p.x_bulk) shift_x(stage, b, p, thread);
  if (may_be_bulk && (runs || X_SHIFTED) && p.x_bulk && !ends_inside(b, p)) {
    if (x_lines > 1 && NB % warpgroup != 0) meet(1, warpgroup);
    clear_outside(stage, b, p, thread);
  }
  // Where every operand is finite, the zeros outside the tensors make their products zero by themselves.
  if (edge) {
    meet(1, warpgroup);
    if (holds_not_finite(stage, thread)) *masked = 1;
    if (tf32) meet(1, warpgroup);
  }
  if (tf32 && !rounded) round_x(stage, thread);
  fence_shared();
  barrier_arrive(full);
}

/// Walks over this block's stages once their copies have landed, and finishes them.
struct Finishing {
  Box now, apart;
  int at = 0, parity = 0;

  __device__ __forceinline__ Finishing(const Arguments& p, const Part& part) {
    now.start(part.split, p);
    apart.start(p.splits, p);
  }
  __device__ __forceinline__ void next(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                       int* masked, int thread) {
    barrier_wait(barriers.landed + 8 * at, parity);
    const int w = first_position(p, part, now);
    finish_stage(stages + at * stage_bytes, now, w, !complete(now, w, part.shift, p), p, masked + at,
                 barriers.full + 8 * at, thread);
    now.advance(apart, p);
    if (++at == STAGES) at = 0, parity ^= 1;
  }
};

/// The warpgroup that brings, and finishes what it brought unless another does.
__device__ __forceinline__ void bring_all(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                          int* masked) {
  Bringing bringing(p, part);
  if (APART) {
#pragma unroll 1
    while (bringing.more(p)) bringing.next(p, part, stages, barriers);
    return;
  }
  Finishing finishing(p, part);
#pragma unroll 1
  for (int i = 0; i < STAGES - 1 && bringing.more(p); ++i) bringing.next(p, part, stages, barriers);
#pragma unroll 1
  for (i64 b = part.split; b < p.boxes; b += p.splits) {
    finishing.next(p, part, stages, barriers, masked, Bringer::thread());
    // Behind this box: those that multiply it give back the stage that is waited for.
    if (bringing.more(p)) bringing.next(p, part, stages, barriers);
  }
}

/// The warpgroup that finishes what another brings.
__device__ __forceinline__ void finish_all(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                           int* masked) {
  Finishing finishing(p, part);
#pragma unroll 1
  for (i64 b = part.split; b < p.boxes; b += p.splits)
    finishing.next(p, part, stages, barriers, masked, static_cast<int>(threadIdx.x) - multiplying - warpgroup);
}

// ---- multiplying ----------------------------------------------------------------------------------------------------

typedef float Sums[MT][NB / 2];
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
/// of this lane's rows. `held`: the stage of those products.
__device__ __forceinline__ void multiply(Sums& sums, u32 (&f)[2][4], const u32 (&place)[MT][2], u32 stage, u32 empty,
                                         int& held, int now) {
  constexpr int fragments = steps * MT;
  constexpr u64 swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
  const u64 b = swizzle << 62 | descriptor(16, 8 * row_bytes) | units_of(stage);
  u32 row[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) row[mt][half] = stage + x_bytes + place[mt][half];
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
    wgmma(sums[i % MT], f[i % 2], b + x_place(0, i / MT * step) / 16);
    mma_commit();
  }
  held = now;
}

/// The same, one pair (position, tap) after the other, without those whose output is cropped.
__device__ __forceinline__ void multiply_masked(Sums& sums, const Arguments& p, const Part& part, const Box& box,
                                                const char* stage) {
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
        y[mt][half] = number(stage + x_bytes + row.place() + position_place(at));
      }
#pragma unroll
    for (int j = 0; j < NB / 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float v = number(stage + x_place(8 * j + 2 * column + i, at));
#pragma unroll
        for (int mt = 0; mt < MT; ++mt)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& sum = sums[mt][4 * j + 2 * half + i];
            sum = lands[mt][half] ? fmaf(y[mt][half], v, sum) : sum;
          }
      }
  }
}

/// Input channel, from the block's first, of a product's column 8 * j.
__device__ constexpr int channel_of(int j) { return 8 * j % x_together * X_PERIOD + 8 * j / x_together; }
/// Sums of one row to `to`: those of the first chain, then the others' added. `left`: input channels from this lane's
/// first on.
template <class Out>
__device__ __forceinline__ void leave_row(const float (&sums)[NB / 2], int half, Out* to, int left, bool first) {
  constexpr int columns = NB / 8, together = columns < 4 ? columns : 4;
#pragma unroll
  for (int j0 = 0; j0 < columns; j0 += together) {
    float before[together][2];
#pragma unroll
    for (int j = j0; j < j0 + together && j < columns; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        before[j - j0][i] =
            !first && channel_of(j) + i * X_PERIOD < left ? to_float(to[(channel_of(j) + i * X_PERIOD) * W_CI]) : 0.0f;
#pragma unroll
    for (int j = j0; j < j0 + together && j < columns; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (channel_of(j) + i * X_PERIOD < left)
          to[(channel_of(j) + i * X_PERIOD) * W_CI] = from_float<Out>(before[j - j0][i] + sums[4 * j + 2 * half + i]);
  }
}

// The sums of all of a block's taps are neighbours in dw, those of a lane are not: 16 bytes at a time by way of the
// stages' memory.
template <class Out>
struct Leaving {
  static constexpr int size = sizeof(Out);
  static constexpr bool dense =
      TD == KD && TH == KH && TW == KW && W_W == 1 && W_H == KW && W_D == KH * KW && W_CO == KD * KH * KW;
  /// Elements of a store: of a block's rows, of the last block's and of a channel's a divisor.
  __device__ static constexpr int vector() {
    int v = 16 / size;
    while (COB * taps_of_block % v != 0 || CO * taps_of_block % v != 0 || W_CI % v != 0) v /= 2;
    return v;
  }
  static constexpr int pitch = WGS * MT * 64 + 16 / size;  // lanes of a store meet in no bank
  static constexpr int room = STAGES * stage_bytes / (pitch * size) / 8 * 8, at_once = room < NB ? room : NB;
  static constexpr bool possible = dense && at_once >= 8;
  struct alignas(vector() * sizeof(Out)) Piece {
    Out v[vector()];
  };
};
template <class Out>
__device__ __forceinline__ void leave_together(const Sums& sums, const Part& part, Out* dw, char* shared) {
  typedef Leaving<Out> L;
  constexpr int v = L::vector(), pieces = rows_of_block / v;
  Out* const turned = reinterpret_cast<Out*>(shared);
  const int limit = (CO - part.co0 < COB ? CO - part.co0 : COB) * taps_of_block, left = CI - part.ci0;
  Out* const to = dw + (static_cast<i64>(part.group) * CI + part.ci0) * W_CI + part.co0 * W_CO;
#pragma unroll
  for (int n0 = 0; n0 < NB; n0 += L::at_once) {
    meet(2, multiplying);
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int j = n0 / 8; j < NB / 8 && j * 8 < n0 + L::at_once; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * j - n0 + 2 * static_cast<int>(threadIdx.x % 4) + i % 2;
          turned[column * L::pitch + row_of(mt, i / 2)] = from_float<Out>(sums[mt][4 * j + i]);
        }
    meet(2, multiplying);
    const int columns = NB - n0 < L::at_once ? NB - n0 : L::at_once;
#pragma unroll 4
    for (int i = threadIdx.x; i < columns * pieces; i += multiplying) {
      const int column = n0 + i / pieces, row = i % pieces * v;
      const int channel = column % x_together * X_PERIOD + column / x_together;
      if (channel < left && row < limit)
        *reinterpret_cast<typename L::Piece*>(to + channel * W_CI + row) =
            *reinterpret_cast<const typename L::Piece*>(turned + (column - n0) * L::pitch + row);
    }
  }
}

/// The blocks of a cluster have a tile's sums of some boxes each. They leave them in their own shared memory, turned;
/// each adds up some columns of all, in the order of the blocks, and writes them.
__device__ __forceinline__ void leave_in_cluster(const Sums& sums, const Arguments& p, const Part& part, char* shared) {
  constexpr int pitch = WGS * MT * 64 + 4, columns = (NB + CLUSTER - 1) / CLUSTER, quads = (rows_of_block + 3) / 4;
  static_assert(CLUSTER == 1 || (Leaving<float>::dense && NB * pitch * 4 <= STAGES * stage_bytes),
                "blocks have all taps, and their sums fit where stages were");
  struct alignas(4 * sizeof(Element)) Piece {
    Element v[4];
  };
  float* const turned = reinterpret_cast<float*>(shared);
  meet(2, multiplying);  // nobody reads stages any more
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int j = 0; j < NB / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        turned[(8 * j + 2 * static_cast<int>(threadIdx.x % 4) + i % 2) * pitch + row_of(mt, i / 2)] =
            sums[mt][4 * j + i];
  meet_cluster();
  const int first = static_cast<int>(part.split) * columns, count = NB - first < columns ? NB - first : columns;
  const int limit = (CO - part.co0 < COB ? CO - part.co0 : COB) * taps_of_block, left = CI - part.ci0;
  Element* const to =
      static_cast<Element*>(p.out) + (static_cast<i64>(part.group) * CI + part.ci0) * W_CI + part.co0 * W_CO;
  const bool whole = Leaving<Element>::vector() >= 4 && reinterpret_cast<u64>(p.out) % sizeof(Piece) == 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < count * quads; i += multiplying) {
    const int column = first + i / quads, row = i % quads * 4;
    const int channel = column % x_together * X_PERIOD + column / x_together;
    if (channel >= left || row >= limit) continue;
    const u32 at = shared_address(turned + column * pitch + row);
    const float4 sum = add_quads_in_cluster<CLUSTER>(at);
    const Piece piece{{from_float<Element>(sum.x), from_float<Element>(sum.y), from_float<Element>(sum.z),
                       from_float<Element>(sum.w)}};
    if (whole) {
      *reinterpret_cast<Piece*>(to + channel * W_CI + row) = piece;
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (row + e < limit) to[channel * W_CI + row + e] = piece.v[e];
    }
  }
  meet_cluster();  // other blocks read from this one
}

/// Writes the sums to dw, or to this block's share of the workspace; `alone`: one chain was all, and the stages are
/// free.
template <class Out>
__device__ __forceinline__ bool left_together(const Sums& sums, const Part& part, Out* dw, char* shared, bool alone) {
  if constexpr (Leaving<Out>::possible) {
    if (alone && reinterpret_cast<u64>(dw) % sizeof(typename Leaving<Out>::Piece) == 0) {
      leave_together(sums, part, dw, shared);
      return true;
    }
  }
  return false;
}
__device__ __forceinline__ void leave(const Sums& sums, const Arguments& p, const Part& part, char* shared, bool first,
                                      bool last) {
  if (p.partial ? left_together(sums, part, static_cast<float*>(p.out) + part.split * p.dw_size, shared, first && last)
                : left_together(sums, part, static_cast<Element*>(p.out), shared, first && last))
    return;
  const int channel = 2 * static_cast<int>(threadIdx.x % 4) * X_PERIOD, left = CI - part.ci0 - channel;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Row row(row_of(mt, half));
      const int co = part.co0 + row.co, td = part.td0 + row.td, th = part.th0 + row.th, tw = part.tw0 + row.tw;
      if (!row.real || co >= CO || td >= KD || th >= KH || tw >= KW) continue;
      const i64 at =
          (static_cast<i64>(part.group) * CI + part.ci0 + channel) * W_CI + co * W_CO + td * W_D + th * W_H + tw * W_W;
      if (p.partial)
        leave_row(sums[mt], half, static_cast<float*>(p.out) + part.split * p.dw_size + at, left, first);
      else
        leave_row(sums[mt], half, static_cast<Element*>(p.out) + at, left, first);
    }
}

__device__ __forceinline__ void multiply_all(const Arguments& p, const Part& part, char* shared, u32 stages, u32 full,
                                             u32 empty, const volatile int* masked) {
  u32 place[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      place[mt][half] =
          Row(row_of(mt, half)).place() + position_place(static_cast<int>(threadIdx.x % 4) * (tf32 ? 1 : 2));
  u32 f[2][4];
  int at = 0, parity = 0, held = -1;
  bool first = true;
  i64 b = part.split;
  do {
    Sums sums;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < NB / 2; ++i) sums[mt][i] = 0.0f;
    int left = p.chain;
    while (left > 0 && b < p.boxes) {
      bool apart = false;  // this stage's box is multiplied one pair after the other
#pragma unroll 1
      for (; left > 0 && b < p.boxes; b += p.splits, --left) {
        barrier_wait(full + 8 * at, parity);
        apart = masked[at] != 0;
        if (apart) break;
        multiply(sums, f, place, stages + at * stage_bytes, empty, held, at);
        if (++at == STAGES) at = 0, parity ^= 1;
      }
      mma_wait<0>();
#pragma unroll
      for (int mt = 0; mt < MT; ++mt) hold(sums[mt]);
      __syncwarp();
      if (held >= 0 && threadIdx.x % 32 < arriving) barrier_arrive(empty + 8 * held);
      held = -1;
      if (!apart) continue;
      Box box;
      box.start(b, p);
      multiply_masked(sums, p, part, box, shared + at * stage_bytes);
      __syncwarp();
      if (threadIdx.x % 32 < arriving) barrier_arrive(empty + 8 * at);
      if (++at == STAGES) at = 0, parity ^= 1;
      b += p.splits, --left;
    }
    if constexpr (CLUSTER > 1) {
      if (!p.partial) return leave_in_cluster(sums, p, part, shared);
    }
    leave(sums, p, part, shared, first, b >= p.boxes);
    first = false;
  } while (b < p.boxes);
}

/// Those that do not multiply are counted where a cluster's blocks meet.
__device__ __forceinline__ void meet_others(const Arguments& p) {
  if (CLUSTER == 1 || p.partial) return;
  meet_cluster();
  meet_cluster();
}

__device__ __forceinline__ void run(const Arguments& p) {
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[3 * STAGES];
  __shared__ int masked[STAGES];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  const Barriers barriers{shared_address(words), shared_address(words + STAGES), shared_address(words + 2 * STAGES)};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.landed + 8 * s, 2 * warpgroup);
      barrier_init(barriers.full + 8 * s, warpgroup);
      barrier_init(barriers.empty + 8 * s, multiplying / 32 * arriving);
    }
    barriers_ready();
  }
  __syncthreads();
  const Part part;
  const int group = threadIdx.x / warpgroup;
  if (group == WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    bring_all(p, part, stages, barriers, masked);
    meet_others(p);
  } else if (APART && group > WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(FINISH_REGISTERS));
    finish_all(p, part, stages, barriers, masked);
    meet_others(p);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    multiply_all(p, part, shared + (stages - shared_address(shared)), stages, barriers.full, barriers.empty, masked);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void weight_wgmma(const Arguments) {}
#elif UPCONV_CLUSTER > 1
extern "C" __global__ void __cluster_dims__(UPCONV_CLUSTER, 1, 1) __launch_bounds__(threads, 1)
    weight_wgmma(const __grid_constant__ Arguments p) {
  run(p);
}
#else
extern "C" __global__ void __launch_bounds__(threads, 1) weight_wgmma(const __grid_constant__ Arguments p) { run(p); }
#endif

}  // namespace upconv
