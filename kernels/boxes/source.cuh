// How the source of a stage gets into shared memory, as [n][channel][d][h][w] elements, zero outside of the tensor: by
// one bulk copy where rows are multiples of 16 bytes, else by asynchronous copies of 4 to 16 bytes, else element by
// element. Part of boxes.cuh.
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
__device__ __forceinline__ int origin_w(const Place& p) { return p.q[2] * STEP_W + OFFSET_W; }
__device__ __forceinline__ int origin_h(const Place& p) { return p.q[1] * STEP_H + OFFSET_H; }
__device__ __forceinline__ int origin_d(const Place& p) { return p.q[0] * STEP_D + OFFSET_D; }

/// How far the first element of a stage lies before the source's origin: copies begin at multiples of their width.
__device__ __forceinline__ int slack(const Arguments& a, const Place& p) {
  return a.vector > 1 ? origin_w(p) & (a.vector - 1) : 0;
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
  copy_box(to, &a.map, full, origin_w(at.place) - slack(a, at.place), origin_h(at.place), at.depth, at.chunk * channels,
           at.place.n * a.groups + at.place.group);
}

/// `elements` at a time, all channels of a place in a row. Asynchronous copies need 4 bytes; what is narrower goes
/// through registers.
template <int elements>
__device__ __forceinline__ void bring_by(const Arguments& a, const Walk& at, u32 to, int thread, int threads) {
  constexpr int bytes = elements * static_cast<int>(sizeof(Element));
  const int pieces = a.box[3] / elements, count = a.box[0] * a.box[1] * a.box[2] * pieces;
  const int k0 = at.chunk * channels, left = K - k0;
  const int w0 = origin_w(at.place) - slack(a, at.place), h0 = origin_h(at.place);
  const Element* base = a.src + i64(at.place.n) * a.src_strides.n + (i64(at.place.group) * K + k0) * a.src_strides.c;
#pragma unroll 1
  for (int i = thread; i < count; i += threads) {
    const int piece = i % pieces, line = i / pieces;
    const int w = w0 + piece * elements, h_in = line % a.box[2], rest = line / a.box[2];
    const int d_in = rest % a.box[1], n_in = rest / a.box[1], h = h0 + h_in, d = at.depth + d_in;
    const bool inside = w >= 0 && w < a.src_size[2] && h >= 0 && h < a.src_size[1] && d >= 0 && d < a.src_size[0] &&
                        at.place.n + n_in < a.samples;
    const Element* from =
        inside ? base + n_in * a.src_strides.n + d * a.src_strides.d + h * a.src_strides.h + w * a.src_strides.w
               : a.src;
    const i64 step = inside ? a.src_strides.c : 0;
    const u32 place = to + (n_in * a.pitch_n + d_in * a.pitch_d + h_in * a.pitch_h + piece * elements) *
                               static_cast<int>(sizeof(Element));
    if constexpr (bytes >= 4) {
#pragma unroll
      for (int c = 0; c < channels; ++c)
        copy_async<bytes>(place + c * a.pitch_c * static_cast<int>(sizeof(Element)), from + c * step,
                          inside && (K % channels == 0 || c < left));
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

/// Without bulk copies: all threads of a ring's producers; each arrives at `full`.
__device__ __forceinline__ void bring(const Arguments& a, const Walk& at, u32 to, u32 full, int thread, int threads) {
  constexpr int most = 16 / static_cast<int>(sizeof(Element));
  if (a.vector == most)
    bring_by<most>(a, at, to, thread, threads);
  else if (a.vector == most / 2)
    bring_by<most / 2>(a, at, to, thread, threads);
  else if (sizeof(Element) == 2 && a.vector == 2)
    bring_by<2>(a, at, to, thread, threads);
  else {
    bring_by<1>(a, at, to, thread, threads);
    if constexpr (sizeof(Element) == 2) return barrier_arrive(full);  // written by plain stores
  }
  barrier_arrive_after_copies(full);
}

}  // namespace upconv
