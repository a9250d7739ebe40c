// Finishes the boxes of weight_wgmma.cuh whose copies have landed: moves lines of x that begin between multiples of 16
// bytes, clears what lies outside of x and beyond lines of dy, rounds x to TF32, and finds out which boxes at an edge
// hold an infinity or a NaN.
#pragma once

#include "ptx/warpgroup.cuh"
#include "weight_wgmma/lines.cuh"

namespace upconv {

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
  constexpr int box_quads = x_positions / quad;
  constexpr bool x_filled = x_positions % row_positions == 0, y_filled = SPAN_READ == SPAN && YC == LD * LH * SPAN;
#pragma unroll 4
  for (int i = thread; i < box_quads * NB; i += warpgroup)
    look(stage + (x_filled ? i * 16 : x_place(i / box_quads, i % box_quads * quad)));
  if constexpr (Y_PIECES) {
#pragma unroll 4
    for (int i = thread; i < y_bytes / 16; i += warpgroup) look(stage + x_bytes + i * 16);
    return found != 0;
  }
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
         (STACKED == 1 || (b.h * BH >= LATE && (b.h + 1) * BH <= p.in_h - LATE)) &&
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

/// Pieces of dy's lines that came whole hold what lies before a line and behind it: zeros there. Its tile begins at
/// element `w` of lines, `begin` bytes behind where it would lie if its corner were a multiple of 16 bytes.
__device__ __forceinline__ void clear_beyond_lines_of_y(u32 stage, int w, int begin, const LineOfY* lines,
                                                        const Arguments& p, int thread) {
  const auto clear = [&](int from, int to) {
#pragma unroll 1
    for (int i = thread; i < y_lines; i += warpgroup) {
      const u32 line = stage + x_bytes + begin + lines[i].place * element_bytes;
#pragma unroll 1
      for (int j = from; j < to; ++j) store_zero<element_bytes>(line + j * element_bytes);
    }
  };
  if (w < 0) clear(0, -w < SPAN_READ ? -w : SPAN_READ);
  if (w + SPAN_READ > p.out_w) clear(w < p.out_w ? p.out_w - w : 0, SPAN_READ);
}

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
                                       int* masked, const volatile int* begins, const LineOfY* lines, int thread) {
    barrier_wait(barriers.landed + 8 * at, parity);
    const int w = first_position(p, part, now);
    if (Y_PIECES && p.y_pieces) {
      const int of_y = SW * w + part.shift.w, beyond = elements_beyond(p, of_y);
      if (beyond > 0 && beyond <= most_cleared)
        clear_beyond_lines_of_y(stages + at * stage_bytes, of_y, begins[at], lines, p, thread);
    }
    finish_stage(stages + at * stage_bytes, now, w, !complete(now, w, part.shift, p), p, masked + at,
                 barriers.full + 8 * at, thread);
    now.advance(apart, p);
    if (++at == STAGES) at = 0, parity ^= 1;
  }
};

}  // namespace upconv
