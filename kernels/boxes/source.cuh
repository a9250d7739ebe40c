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
__device__ __forceinline__ int origin_w(const Place& p) { return p.q[2] * STEP_W + OFFSET_W; }
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
                 origin_h(p) * static_cast<u32>(s.h) + origin_w(p);
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
  copy_box(to, &a.map, full, origin_w(at.place) - slack(a, at.place, at.depth), origin_h(at.place), at.depth,
           at.chunk * channels, at.place.n * a.groups + at.place.group);
}

/// A row of a stage: its distance from the first one, in the stage and in memory, and whether the tensor has it.
struct Row {
  int place;
  i64 distance;
  bool inside;

  __device__ __forceinline__ Row(const Arguments& a, const Walk& at, int line) {
    const int h_in = line % a.box[2], rest = line / a.box[2], d_in = rest % a.box[1], n_in = rest / a.box[1];
    const int h = origin_h(at.place) + h_in, d = at.depth + d_in;
    place = n_in * a.pitch_n + d_in * a.pitch_d + h_in * a.pitch_h;
    distance = n_in * a.src_strides.n + d * a.src_strides.d + h * a.src_strides.h;
    inside = h >= 0 && h < a.src_size[1] && d >= 0 && d < a.src_size[0] && at.place.n + n_in < a.samples;
  }
};

/// The first channel of a stage, at its sample's beginning.
__device__ __forceinline__ const Element* source_of(const Arguments& a, const Walk& at) {
  return a.src + i64(at.place.n) * a.src_strides.n +
         (i64(at.place.group) * K + at.chunk * channels) * a.src_strides.c;
}

/// Rows wherever they lie, 16 bytes at a time, all channels of a piece in a row: a piece lies at a multiple of 16 bytes
/// in memory and in the stage, and ends in zeros where it reaches beyond its row. Pieces that begin before their row
/// and end in it are left to bring_heads().
__device__ __forceinline__ void bring_rows(const Arguments& a, const Walk& at, u32 to, int thread, int threads) {
  constexpr int bytes = static_cast<int>(sizeof(Element));
  const int pieces = (a.box[3] + 2 * unit - 2) / unit, count = a.box[0] * a.box[1] * a.box[2] * pieces;
  const int left = K - at.chunk * channels, w0 = origin_w(at.place), before = slack(a, at.place, at.depth);
  const Element* base = source_of(a, at);
#pragma unroll 1
  for (int i = thread; i < count; i += threads) {
    const int line = i / pieces, column = (i - line * pieces) * unit;
    const Row row(a, at, line);
#pragma unroll
    for (int first = 0; first < unit; ++first) {  // of the channels whose rows begin alike
      const int begin = before + row.place + first * a.pitch_c, skip = begin & (unit - 1);
      const int w = w0 - skip + column;
      if (column >= skip + a.box[3] || (row.inside && w < 0 && w > -unit)) continue;
      const int most = a.src_size[2] - w;
      const int wanted = row.inside && w >= 0 && most > 0 ? (most < unit ? most : unit) * bytes : 0;
      const u32 place = to + (begin - skip + column) * bytes;
      const Element* from = base + row.distance + w;
#pragma unroll
      for (int c = first; c < channels; c += unit)
        copy_async_part(place + (c - first) * a.pitch_c * bytes, from + c * a.src_strides.c,
                        K % channels == 0 || c < left ? wanted : 0);
    }
  }
}

/// What bring_rows() leaves: the pieces that hold column 0 of a row, but not first.
__device__ __forceinline__ void bring_heads(const Arguments& a, const Walk& at, u32 to, int thread, int threads) {
  const int w0 = origin_w(at.place);
  if (w0 >= unit - 1 || w0 + a.box[3] <= 1 - unit) return;
  const int count = a.box[0] * a.box[1] * a.box[2] * channels, left = K - at.chunk * channels;
  const int before = slack(a, at.place, at.depth);
  const Element* base = source_of(a, at);
#pragma unroll 1
  for (int i = thread; i < count; i += threads) {
    const int c = i % channels;
    const Row row(a, at, i / channels);
    const int begin = before + row.place + c * a.pitch_c, head = (begin - w0) & (unit - 1);
    if (!row.inside || head == 0 || -head >= w0 + a.box[3] || -head < w0 - (begin & (unit - 1))) continue;
    const u32 place = to + (begin - w0 - head) * static_cast<int>(sizeof(Element));
    const Element* from = base + row.distance + c * a.src_strides.c;
    const bool wanted = K % channels == 0 || c < left;
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int j = 0; j < unit; ++j) {
        const bool inside = wanted && j >= head && j - head < a.src_size[2];
        copy_async<4>(place + 4 * j, inside ? from + (j - head) : a.src, inside);
      }
    } else {
      u16 v[unit];
#pragma unroll
      for (int j = 0; j < unit; ++j)
        v[j] = wanted && j >= head && j - head < a.src_size[2] ? reinterpret_cast<const u16*>(from)[j - head] : u16(0);
#pragma unroll
      for (int j = 0; j < unit; ++j)
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(place + 2 * j), "h"(v[j]) : "memory");
    }
  }
}

/// Element by element, all channels of a place in a row. Asynchronous copies need 4 bytes; what is narrower goes through
/// registers.
__device__ __forceinline__ void bring_elements(const Arguments& a, const Walk& at, u32 to, int thread, int threads) {
  constexpr int bytes = static_cast<int>(sizeof(Element));
  const int count = a.box[0] * a.box[1] * a.box[2] * a.box[3], left = K - at.chunk * channels;
  const Element* base = source_of(a, at);
#pragma unroll 1
  for (int i = thread; i < count; i += threads) {
    const int w_in = i % a.box[3], w = origin_w(at.place) + w_in;
    const Row row(a, at, i / a.box[3]);
    const bool inside = row.inside && w >= 0 && w < a.src_size[2];
    const Element* from = inside ? base + row.distance + w * a.src_strides.w : a.src;
    const i64 step = inside ? a.src_strides.c : 0;
    const u32 place = to + (row.place + w_in) * bytes;
    if constexpr (bytes == 4) {
#pragma unroll
      for (int c = 0; c < channels; ++c)
        copy_async<bytes>(place + c * a.pitch_c * bytes, from + c * step, inside && (K % channels == 0 || c < left));
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
          asm volatile("st.shared.u16 [%0], %1;" ::"r"(place + (k + c) * a.pitch_c * 2), "h"(v[c]) : "memory");
      }
    }
  }
}

/// Whether plain stores bring some of a stage, and copies others: such threads arrive twice.
constexpr bool stores_too = sizeof(Element) == 2, copies_too = sizeof(Element) == 4 || !source_last;
constexpr int arrivals = stores_too + copies_too;

/// Without bulk copies: all threads of a ring's producers; each arrives `arrivals` times at `full`.
__device__ __forceinline__ void bring(const Arguments& a, const Walk& at, u32 to, u32 full, int thread, int threads) {
  if constexpr (source_last) {
    bring_elements(a, at, to, thread, threads);
  } else {
    bring_heads(a, at, to, thread, threads);
    bring_rows(a, at, to, thread, threads);
  }
  if constexpr (stores_too) barrier_arrive(full);
  if constexpr (copies_too) barrier_arrive_after_copies(full);
}

}  // namespace upconv
