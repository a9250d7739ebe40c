// Brings boxes of x and dy into the stages of weight_wgmma.cuh, in the background: by bulk copies, or by lanes' copies
// where lines do not allow these.
#pragma once

#include "ptx/warpgroup.cuh"
#include "weight_wgmma/lines.cuh"

namespace upconv {

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
  static constexpr int lines_d = BD, lines_h = x_lines_h, span = BW, planes = 1;
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
/// Elements from a channel of dy's tile to one of its lines.
__device__ __forceinline__ int line_at(int d, int h) { return d * PITCH_D + d_extra(d) + h * PITCH_H + h_extra(h); }
struct YTile : Bringer {
  static constexpr int channels = COB, all_channels = CO, lines_d = LD, lines_h = LH, span = SPAN, planes = 1;
  static constexpr bool last = y_last != 0;
  static constexpr int most = Y_PIECES ? 1 : quad;  // in pieces, this brings what has other strides: element by element
  __device__ static int d(int line) { return LINE_D * line + d_origin(line); }
  __device__ static int h(int line) { return LINE_H * line + h_origin(line); }
  __device__ static int w(int position, int) { return position; }
  __device__ static bool needed(int position, int) { return position < SPAN_READ; }
  __device__ static int channel_bytes(int channel) { return channel * YC * element_bytes; }
  static constexpr int even = 1;
  __device__ static int place_bytes(int channel, int line, int, int position) {
    return channel_bytes(channel) + (line_at(line / LH, line % LH) + position) * element_bytes;
  }
};

/// By the warpgroup that brings, before the first box. A line of a channel that is not there lies outside of dy.
__device__ __forceinline__ void find_lines(const Arguments& p, const Part& part, LineOfY* lines) {
  for (int i = Bringer::thread(); i < y_lines; i += warpgroup) {
    const int channel = i / (LD * LH), ld = i % (LD * LH) / LH, lh = i % LH, d = YTile::d(ld), h = YTile::h(lh);
    const bool real = part.co0 + channel < CO;
    const i64 distance = times(channel, p.ys.c) + times(d, p.ys.d) + times(h, p.ys.h);
    lines[i] = {static_cast<u32>(distance), channel * YC + line_at(ld, lh), real ? d : -0x7fffffff, h};
  }
}

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
    barrier_expect_only(landed, x_positions * NB * element_bytes);
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
      for (int line = 0; line < BD * x_lines_h; ++line)
#pragma unroll
        for (int w = 0; w < BW; w += row_positions)
          copy_box(to + x_place(0, line * BW + w), &p.x_map, landed, ahead.w * BW + w,
                   ahead.h * BH - LATE + line % x_lines_h, ahead.d * BD + line / x_lines_h, channel, ahead.n);
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
  /// Lines of dy that begin anywhere, 16 bytes at a time: pitches in shared memory differ from the tensor's strides by
  /// multiples of 16 bytes, so that every line lies as far behind such a multiple as in the tensor, and all of them, by
  /// `begin` bytes, behind where they would lie if the tile's corner were one. Four lanes a line.
  __device__ __forceinline__ void bring_y_pieces(const Arguments& p, const Part& part, int w, u32 to, int* begin,
                                                 const LineOfY* lines) const {
    const int d0 = SD * ahead.d * BD + part.shift.d, h0 = SH * ahead.h * BH + part.shift.h, w0 = SW * w + part.shift.w;
    const int lane = Bringer::thread() % 4;
    const i64 first = y_channels + ahead.n * p.ys.n + d0 * p.ys.d + h0 * p.ys.h + w0;
    const u64 corner = reinterpret_cast<u64>(p.dy) + first * element_bytes;
    const int behind = static_cast<int>(corner / element_bytes) & (quad - 1);
    if (Bringer::thread() == 0) *begin = behind * element_bytes;
    // Whatever multiple of 16 bytes a line lies behind, its pieces are inside of it; or at least of dy, and what they
    // have of other lines is cleared.
    const bool whole = (w0 >= quad - 1 && w0 + y_pieces * quad <= p.out_w) ||
                       (elements_beyond(p, w0) <= most_cleared && pieces_in_dy(p, part, first));
    const auto bring = [&](int i, const auto& copy_line) {
      const LineOfY line = lines[i];
      const int place = behind + line.place;
      const u64 from = corner + lane * 16 + static_cast<u64>(line.distance) * element_bytes;
      const u32 at = to + lane * 16 + place * element_bytes;
      const bool inside = (static_cast<u32>(d0) + static_cast<u32>(line.d) < static_cast<u32>(p.out_d)) &
                          (static_cast<u32>(h0 + line.h) < static_cast<u32>(p.out_h));
      copy_line(at & ~15u, reinterpret_cast<const char*>(from & ~15ull), place, inside);
    };
    if (whole) {
#pragma unroll 2
      for (int i = Bringer::thread() / 4; i < y_lines; i += warpgroup / 4)
        bring(i, [&](u32 at, const char* from, int, bool inside) {
#pragma unroll
          for (int k = 0; k < y_pieces; k += 4)
            if (k + 4 <= y_pieces || k + lane < y_pieces) copy_async<16>(at + k * 16, from + k * 16, inside);
        });
    } else {
#pragma unroll 1
      for (int i = Bringer::thread() / 4; i < y_lines; i += warpgroup / 4)
        bring(i, [&](u32 at, const char* from, int place, bool inside) {
          bring_ends(p, at, from, w0 - (place & (quad - 1)) + lane * quad, inside);
        });
    }
  }
  /// Whether nothing beyond dy is read where pieces of all lines of a box come whole. `first`: its corner in dy.
  __device__ __forceinline__ bool pieces_in_dy(const Arguments& p, const Part& part, i64 first) const {
    const int left = CO - part.co0, channels = left < COB ? left : COB;
    const i64 farthest = times(channels - 1, p.ys.c) + times(SD * (BD - 1) + DD * (TD - 1), p.ys.d) +
                         times(SH * (BH - 1) + DH * (TH - 1), p.ys.h);
    return first >= quad - 1 && first + farthest + y_pieces * quad <= p.dy_size;
  }
  /// Every fourth piece of a line, the first of which is element `first` of it, where pieces may not come whole. Zeros
  /// before the line and behind it; a piece that it begins or ends in comes element by element.
  __device__ __forceinline__ void bring_ends(const Arguments& p, u32 at, const char* from, int first,
                                             bool inside) const {
    const int lane = Bringer::thread() % 4;
#pragma unroll
    for (int k = 0; k < y_pieces; k += 4) {
      const int w = first + k * quad;
      const bool real = k + 4 <= y_pieces || k + lane < y_pieces;
      const bool whole = inside && w >= 0 && w + quad <= p.out_w, none = !inside || w + quad <= 0 || w >= p.out_w;
      copy_async_if(real && (whole || none), at + k * 16, from + k * 16, whole);
    }
    if (!inside) return;
    const auto by_element = [&](int k) {
      if (k % 4 != 0 || lane + k >= y_pieces) return;  // another lane's, or nobody's
      const int w = first + k * quad;
#pragma unroll
      for (int e = 0; e < quad; ++e) {
        const bool real = w + e >= 0 && w + e < p.out_w;
        const char* const element = real ? from + (k * quad + e) * element_bytes : p.dy;
        if constexpr (element_bytes == 4)
          copy_async<4>(at + k * 16 + e * 4, element, real);
        else
          store_bits16(at + k * 16 + e * 2, real ? load_bits16(element) : u16(0));
      }
    };
    const int left = p.out_w - first;
    const int begin = first < 0 && -first % quad != 0 ? -first / quad : -1;
    const int end = left > 0 && left % quad != 0 ? left / quad : -1;
    if (begin >= 0) by_element(begin);
    if (end >= 0 && end != begin) by_element(end);
  }
  __device__ __forceinline__ void next(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers,
                                       int* begins, const LineOfY* lines) {
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
                   ahead.h * BH - LATE, w, p.in_d, p.in_h - LATE, p.in_w);
    }
    if (Y_BULK && p.y_bulk) {
      if (Bringer::thread() == 0) bring_y_bulk(p, part, w, at + x_bytes, landed);
    } else if (Y_PIECES && p.y_pieces) {
      bring_y_pieces(p, part, w, at + x_bytes, begins + to, lines);
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

}  // namespace upconv
