// How the gradient of a value arrives at the kernels that take it further back: as it is, from what a reduction left of
// the value, or from the windows of a pooling that hold it. Every value gathers its own, in an order that the sizes
// decide; nothing is added by two threads.
//
// Host preamble (src/cuda/pull_text.cpp), beside that of closing/value.cuh: Arriving (the gradient's type), ARRIVES,
// the window G_K*, G_S*, G_PAD_*, G_COUNT_PAD, G_ARGMAX, SUMS, and
//   S pull(S v, S g, const Pull& p, const Operands& operands, int n, int channel, i64 at, S* sums)
// which computes the items (after a window: the steps after it) from v and takes g, the gradient of what they give,
// back to that of v; it adds the gradients of operands that are sums, and writes those that have a number for each
// value.
#pragma once

#include "arguments/pull.cuh"
#include "closing/value.cuh"
#include "epilogue/slopes.cuh"

namespace upconv {

namespace closing {

typedef arguments::Pull Pull;
using config::Arriving;
constexpr int PLAIN = 0, REDUCED = 1, AVERAGES = 2, MAXIMA = 3;

__device__ __forceinline__ S arriving(const Pull& p, i64 at) {
  return to_float(static_cast<const Arriving*>(p.gradient)[at]);
}

/// The windows along one dimension that hold the place x: first, and one behind the last.
struct Holding {
  Index first, end;
  __device__ __forceinline__ Holding(Index x, int kernel, int stride, int padding, Index windows) {
    const Index reach = x + padding, from = reach - kernel + 1;
    first = from > 0 ? (from + stride - 1) / stride : 0;
    end = reach / stride + 1;
    if (end > windows) end = windows;
  }
};

/// From all windows that hold the value.
__device__ __forceinline__ S from_windows(const Pull& p, int n, int channel, Index inside) {
  using namespace config;
  constexpr bool padded = G_PAD_D > 0 || G_PAD_H > 0 || G_PAD_W > 0;
  const arguments::ClosingShape& at = p.values.at;
  const Index row = quotient(inside, at.w), d = quotient(row, at.h);
  const Index h = row - d * at.values.h, w = inside - row * at.values.w;
  const Index size_d = p.arriving.d, size_h = p.arriving.values.h, size_w = p.arriving.values.w;
  const Holding in_d(d, G_KD, G_SD, G_PAD_D, size_d), in_h(h, G_KH, G_SH, G_PAD_H, size_h),
      in_w(w, G_KW, G_SW, G_PAD_W, size_w);
  const i64 plane = n * p.arriving.values.n + channel * p.arriving.values.c;
  S total = S(0);
  for (Index qd = in_d.first; qd < in_d.end; ++qd)
    for (Index qh = in_h.first; qh < in_h.end; ++qh)
      for (Index qw = in_w.first; qw < in_w.end; ++qw) {
        const i64 q = plane + (i64(qd) * size_h + qh) * size_w + qw;
        const Index from_d = qd * G_SD - G_PAD_D, from_h = qh * G_SH - G_PAD_H, from_w = qw * G_SW - G_PAD_W;
        if constexpr (ARRIVES == MAXIMA) {
          const int place = static_cast<int>(((d - from_d) * G_KH + h - from_h) * G_KW + w - from_w);
          const int largest =
              G_ARGMAX == 1 ? static_cast<const unsigned char*>(p.argmax)[q] : static_cast<const int*>(p.argmax)[q];
          if (place == largest) total += arriving(p, q);
        } else if constexpr (padded) {
          const auto count = [](Index from, int kernel, int padding, Index size) {
            const Index end = from + kernel;
            if (G_COUNT_PAD) return (end < size + padding ? end : size + padding) - from;
            return (end < size ? end : size) - (from > 0 ? from : 0);
          };
          const Index in_window = count(from_d, G_KD, G_PAD_D, at.d) * count(from_h, G_KH, G_PAD_H, at.values.h) *
                                  count(from_w, G_KW, G_PAD_W, at.values.w);
          total += arriving(p, q) / S(in_window);
        } else {
          total += arriving(p, q) / S(G_KD * G_KH * G_KW);
        }
      }
  return total;
}

/// The gradient that arrives at the value `at`, which is number `inside` of the plane of a sample and channel.
__device__ __forceinline__ S arriving_at(const Pull& p, int n, int channel, Index inside, i64 at) {
  if constexpr (config::ARRIVES == PLAIN) return arriving(p, at);
  if constexpr (config::ARRIVES == REDUCED) return arriving(p, reduced_place(p.length, p.inner, at));
  return from_windows(p, n, channel, inside);
}

/// What the items, or the steps after the window, begin with.
__device__ __forceinline__ S beginning(const Pull& p, const config::Operands& operands, int n, int channel,
                                       Index inside, i64 at) {
  if constexpr (config::POOL) {
    const Closing& a = p.values;
    const Index row = quotient(inside, a.at.w), d = quotient(row, a.at.h);
    return window(a, operands, n, channel, d, row - d * a.at.values.h, inside - row * a.at.values.w);
  }
  return stored(p.values, at);
}

/// What they give.
__device__ __forceinline__ S given(S v, const Pull& p, const config::Operands& operands, int n, int channel, i64 at) {
  if constexpr (config::POOL) return config::after(v, p.values, operands, n, channel, at);
  return config::before(v, p.values, operands, n, channel, at);
}

constexpr int SUMS = config::SUMS;
constexpr int HELD_SUMS = SUMS > 0 ? SUMS : 1;

/// Sums of a team of up to 32 lanes, or of the block, in its first thread.
__device__ __forceinline__ void sum_team(S (&sums)[HELD_SUMS], int team) {
  if constexpr (SUMS > 0) {
    for (int lanes = (team < 32 ? team : 32) / 2; lanes > 0; lanes /= 2)
#pragma unroll
      for (int k = 0; k < SUMS; ++k) sums[k] += __shfl_down_sync(0xffffffffu, sums[k], lanes);
    if (team <= 32) return;
    __shared__ S held[HELD_SUMS][THREADS / 32];
    __syncthreads();  // what an earlier call left here has been read
#pragma unroll
    for (int k = 0; k < SUMS; ++k)
      if (threadIdx.x % 32 == 0) held[k][threadIdx.x / 32] = sums[k];
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 1; w < THREADS / 32; ++w)
#pragma unroll
        for (int k = 0; k < SUMS; ++k) sums[k] += held[k][w];
  }
}

}  // namespace closing
}  // namespace upconv
