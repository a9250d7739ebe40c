// How the source of a stage gets into shared memory, as [n][channel][d][h][w] elements, zero outside of the tensor: by
// one bulk copy where rows are multiples of 16 bytes, else by asynchronous copies of 16 bytes, or element by element
// where the channels lie last. Part of boxes.cuh.
#pragma once

#include "boxes/weights.cuh"

namespace upconv {

/// One box of the work: its sample, its corner in the phase grid (the dimension of a depth loop: in the result), its
/// share of the result channels.
struct Place {
  int n, q[3], group, column0;

  __device__ __forceinline__ Place(const Arguments& a, int box, int share) {
    box = taken_box(a, box);
    column0 = share % shares_of_group * NB;
    group = share / shares_of_group;
    // Neighbours in W run at the same time: they write parts of the same sectors.
    q[2] = a.first[2] + box % a.boxes[0] * a.step[3];
    box /= a.boxes[0];
    q[1] = a.first[1] + box % a.boxes[1] * a.step[2];
    box /= a.boxes[1];
    q[0] = a.first[0] + box % a.boxes[2] * a.step[1];
    n = box / a.boxes[2] * a.step[0];
  }
};

/// Where a place's source begins.
__device__ __forceinline__ int origin_w(const Arguments& a, const Place& p) {
  return OVERLAPPED ? p.q[2] + a.from_w : p.q[2] * STEP_W + OFFSET_W;
}
__device__ __forceinline__ int origin_h(const Place& p) { return p.q[1] * STEP_H + OFFSET_H; }
__device__ __forceinline__ int origin_d(const Place& p) { return p.q[0] * STEP_D + OFFSET_D; }

/// Elements that a copy of 16 bytes brings.
constexpr int unit = 16 / static_cast<int>(sizeof(Element));
static_assert(channels % unit == 0, "chunks of channels begin alike");

/// How far the first element of a stage lies from the stage's beginning: as far as it lies from a multiple of 16 bytes
/// in memory. Pitches of the stage and strides of the tensor differ by multiples of `unit`, so whatever begins 16 bytes
/// in memory begins 16 bytes in the stage.
__device__ __forceinline__ int slack(const Arguments& a, const Place& p, int depth) {
  if constexpr (source_last) return 0;
  const Strides& s = a.src_strides;
  const u32 at = static_cast<u32>(reinterpret_cast<u64>(a.src) / sizeof(Element)) + p.n * static_cast<u32>(s.n) +
                 p.group * K * static_cast<u32>(s.c) + depth * static_cast<u32>(s.d) +
                 origin_h(p) * static_cast<u32>(s.h) + origin_w(a, p);
  return static_cast<int>(at & (unit - 1));
}

/// Source depth of an output depth and a tap of the depth loop; false when the tap does not reach it.
__device__ __forceinline__ bool source_depth(const Arguments& a, int od, int tap, int& depth) {
  if constexpr (backward) {
    depth = od * LOOP_STRIDE - LOOP_PADDING + tap * LOOP_DILATION;
  } else {
    const int at = od + LOOP_PADDING - tap * LOOP_DILATION;
    depth = at / LOOP_STRIDE;
    if (at < 0 || depth * LOOP_STRIDE != at) return false;
  }
  return depth >= 0 && depth < a.src_size[0];
}

/// A walk over the stages of one ring: places, taps of the depth loop that reach them, chunks of channels.
struct Walk {
  int index, step, share, tap = -1, chunk = chunks - 1, depth = 0;
  Place place;

  __device__ __forceinline__ Walk(const Arguments& a, int first, int by, int share_of)
      : index(first), step(by), share(share_of), place(a, first, share_of) {}
  __device__ __forceinline__ bool next(const Arguments& a) {
    if (++chunk < chunks) return true;
    chunk = 0;
    for (;;) {
      if (tap == LOOP_TAPS - 1) {
        tap = -1;
        index += step;
        if (index < a.all_boxes) place = Place(a, index, share);
      }
      if (index >= a.all_boxes) return false;
      ++tap;
      if (!depth_loop) {
        depth = origin_d(place);
        return true;
      }
      if (source_depth(a, place.q[0], tap, depth)) return true;
    }
  }
};

/// By one thread; the barrier `full` has been told of the bytes. (A box whose first column is no multiple of 16 bytes
/// is an illegal instruction.)
__device__ __forceinline__ void bring_bulk(const Arguments& a, const Walk& at, u32 to, u32 full) {
  copy_box(to, &a.map, full, origin_w(a, at.place) - slack(a, at.place, at.depth), origin_h(at.place), at.depth,
           at.chunk * channels, at.place.n * a.groups + at.place.group);
}

constexpr int element_bytes = static_cast<int>(sizeof(Element));

/// Where a box begins in a stage's first channel; it may lie outside of the tensor.
struct Source {
  const char* from;

  /// For the next stage of a walk.
  __device__ __forceinline__ void go(const Arguments& a, const Walk& at) {
    if (at.chunk > 0) {
      from += channels * a.src_strides.c * element_bytes;
      return;
    }
    const Place& p = at.place;
    from = reinterpret_cast<const char*>(a.src + i64(p.n) * a.src_strides.n + i64(p.group) * K * a.src_strides.c +
                                         at.depth * a.src_strides.d + origin_h(p) * a.src_strides.h +
                                         origin_w(a, p) * a.src_strides.w);
  }
};

/// A walk over the rows of a box: where one begins in memory and in shared memory.
struct Row {
  const char* from;
  u32 place;
  int h = 0, d = 0, n = 0;

  __device__ __forceinline__ Row(const Source& source, u32 to)
      : from(source.from), place(to + (source_last ? 0 : static_cast<u32>(reinterpret_cast<u64>(source.from)) % 16)) {}
  __device__ __forceinline__ void advance(const Arguments& a, int rows) {
    h += rows;
    place += rows * a.pitch_h * element_bytes;
    from += rows * a.src_strides.h * element_bytes;
    while (h >= a.box[2]) {
      h -= a.box[2];
      place += a.next_place[0];
      from += a.next_from[0];
      if (++d < a.box[1]) continue;
      d = 0, ++n;
      place += a.next_place[1];
      from += a.next_from[1];
    }
  }
  /// Whether the tensor has it.
  __device__ __forceinline__ bool inside(const Arguments& a, const Walk& at) const {
    return static_cast<u32>(origin_h(at.place) + h) < static_cast<u32>(a.src_size[1]) &&
           static_cast<u32>(at.depth + d) < static_cast<u32>(a.src_size[0]) && at.place.n + n < a.samples;
  }
};

/// Pieces (or places) of a row of a box.
__device__ __forceinline__ int pieces_of(const Arguments& a) {
  return source_last ? a.box[3] : (a.box[3] + 2 * unit - 2) / unit;
}

/// Which pieces of a box a thread brings: the first, and from one to the next.
struct Portion {
  int first, threads, line, piece, more_lines, more_pieces;

  __device__ __forceinline__ Portion(int pieces, int thread, int threads)
      : first(thread),
        threads(threads),
        line(thread / pieces),
        piece(thread % pieces),
        more_lines(threads / pieces),
        more_pieces(threads % pieces) {}
};

/// Calls `bring` with the row and the piece of each piece of a portion.
template <class Bring>
__device__ __forceinline__ void for_pieces(const Arguments& a, const Portion& portion, Row row, Bring&& bring) {
  const int pieces = pieces_of(a), count = a.box[0] * a.box[1] * a.box[2] * pieces;
  if (portion.first >= count) return;
  int piece = portion.piece;
  row.advance(a, portion.line);
#pragma unroll 1
  for (int i = portion.first;;) {
    bring(row, piece);
    if ((i += portion.threads) >= count) return;
    piece += portion.more_pieces;
    const bool next = piece >= pieces;
    if (next) piece -= pieces;
    row.advance(a, portion.more_lines + next);
  }
}

/// Rows wherever they lie, 16 bytes at a time, all channels of a piece in a row: a piece lies at a multiple of 16 bytes
/// in memory and in the stage. Pieces that lie half in their row are left to bring_ends(); an `inner` box has none. Of
/// `ways` channels each begins in its own way.
template <int ways, bool inner>
__device__ __forceinline__ void bring_rows(const Arguments& a, const Walk& at, const Source& source,
                                           const Portion& portion, u32 to) {
  const int left = K - at.chunk * channels, w0 = origin_w(a, at.place), width = a.src_size[2];
  const int box = a.box[3] * element_bytes, pitch = a.pitch_c * element_bytes;
  const i64 stride = a.src_strides.c * element_bytes;
  for_pieces(a, portion, Row(source, to), [&](const Row& row, int piece) {
    const bool inside = row.inside(a, at);
    const int column = piece * 16;
    const char* start = row.from + column;
    u32 begin = row.place + column;
#pragma unroll
    for (int first = 0; first < ways; ++first, start += stride, begin += pitch) {
      const int skip = begin % 16, w = w0 + (column - skip) / element_bytes;
      const bool whole = inner || (w >= 0 && w <= width - unit), none = !inner && (w <= -unit || w >= width);
      const bool wanted = column - skip < box && (whole || none || !inside), read = inside && whole;
      const char* from = start - skip;
      u32 place = begin - skip;
#pragma unroll
      for (int c = first; c < channels; c += ways, from += ways * stride, place += ways * pitch)
        copy_async_if(wanted, place, from, read && (K % channels == 0 || c < left));
    }
  });
}

/// A piece of which some columns, from `column` on, are of the row `from` and others zero.
__device__ __forceinline__ void bring_piece(const Arguments& a, u32 place, const Element* from, int column,
                                            bool wanted) {
  const auto inside = [&](int j) { return wanted && column + j >= 0 && column + j < a.src_size[2]; };
  if constexpr (sizeof(Element) == 4) {
#pragma unroll
    for (int j = 0; j < unit; ++j) copy_async<4>(place + 4 * j, inside(j) ? from + column + j : a.src, inside(j));
  } else {
    u16 v[unit];
#pragma unroll
    for (int j = 0; j < unit; ++j) v[j] = inside(j) ? reinterpret_cast<const u16*>(from)[column + j] : u16(0);
#pragma unroll
    for (int j = 0; j < unit; ++j) asm volatile("st.shared.u16 [%0], %1;" ::"r"(place + 2 * j), "h"(v[j]) : "memory");
  }
}

/// Whether all pieces of a box's rows lie in the tensor's.
__device__ __forceinline__ bool inner_box(const Arguments& a, int w0) {
  return w0 >= unit - 1 && w0 + a.box[3] + unit - 1 <= a.src_size[2];
}

/// What bring_rows() leaves: the piece that holds column 0 of a row, but not first, and the one that holds the row's
/// end, but not last.
__device__ __forceinline__ void bring_ends(const Arguments& a, const Walk& at, const Source& source, u32 to, int thread,
                                           int threads) {
  const int w0 = origin_w(a, at.place), end = w0 + a.box[3], width = a.src_size[2];
  const int count = a.box[0] * a.box[1] * a.box[2] * channels, left = K - at.chunk * channels;
  Row row(source, to);
  int line = 0;
#pragma unroll 1
  for (int i = thread; i < count; i += threads) {
    const int c = i % channels;
    row.advance(a, i / channels - line);
    line = i / channels;
    if (!row.inside(a, at)) continue;
    // Of column 0.
    const u32 zero = row.place + static_cast<u32>(c * a.pitch_c - w0) * element_bytes;
    const Element* from = reinterpret_cast<const Element*>(row.from) + c * a.src_strides.c - w0;
    const int turn = static_cast<int>(zero % 16) / element_bytes, first = w0 - ((turn + w0) & (unit - 1));
    const int head = -turn, tail = width - ((turn + width) & (unit - 1));
    const bool wanted = K % channels == 0 || c < left;
    if (head < 0 && head < end && head >= first)
      bring_piece(a, zero + static_cast<u32>(head) * element_bytes, from, head, wanted);
    if (tail < width && tail >= 0 && tail < end && tail >= first)
      bring_piece(a, zero + static_cast<u32>(tail) * element_bytes, from, tail, wanted);
  }
}

/// Element by element, all channels of a place in a row. Asynchronous copies need 4 bytes; what is narrower goes
/// through registers.
__device__ __forceinline__ void bring_elements(const Arguments& a, const Walk& at, const Source& source,
                                               const Portion& portion, u32 to) {
  const int left = K - at.chunk * channels;
  for_pieces(a, portion, Row(source, to), [&](const Row& row, int column) {
    const bool inside =
        row.inside(a, at) && static_cast<u32>(origin_w(a, at.place) + column) < static_cast<u32>(a.src_size[2]);
    const Element* from = inside ? reinterpret_cast<const Element*>(row.from) + column * a.src_strides.w : a.src;
    const i64 step = inside ? a.src_strides.c : 0;
    const u32 place = row.place + column * element_bytes, pitch = a.pitch_c * element_bytes;
    if constexpr (element_bytes == 4) {
#pragma unroll
      for (int c = 0; c < channels; ++c)
        copy_async<4>(place + c * pitch, from + c * step, inside && (K % channels == 0 || c < left));
    } else {
#pragma unroll 1
      for (int k = 0; k < channels; k += 8) {
        u16 v[8];
#pragma unroll
        for (int c = 0; c < 8; ++c)
          v[c] = inside && (K % channels == 0 || k + c < left) ? reinterpret_cast<const u16*>(from)[(k + c) * step]
                                                               : u16(0);
#pragma unroll
        for (int c = 0; c < 8; ++c)
          asm volatile("st.shared.u16 [%0], %1;" ::"r"(place + (k + c) * pitch), "h"(v[c]) : "memory");
      }
    }
  });
}

/// Whether plain stores bring some of a stage, and copies others: such threads arrive twice.
constexpr bool stores_too = sizeof(Element) == 2, copies_too = sizeof(Element) == 4 || !source_last;
constexpr int arrivals = stores_too + copies_too;

/// Without bulk copies: all threads of a ring's producers; each arrives `arrivals` times at `full`.
__device__ __forceinline__ void bring(const Arguments& a, const Walk& at, const Source& source, const Portion& portion,
                                      u32 to, u32 full, int thread, int threads) {
  if constexpr (source_last) {
    bring_elements(a, at, source, portion, to);
  } else {
    const bool inner = inner_box(a, origin_w(a, at.place));
    if (!inner) bring_ends(a, at, source, to, thread, threads);
    if (a.alike)
      inner ? bring_rows<1, true>(a, at, source, portion, to) : bring_rows<1, false>(a, at, source, portion, to);
    else
      inner ? bring_rows<unit, true>(a, at, source, portion, to) : bring_rows<unit, false>(a, at, source, portion, to);
  }
  if constexpr (stores_too) barrier_arrive(full);
  if constexpr (copies_too) barrier_arrive_after_copies(full);
}

}  // namespace upconv
