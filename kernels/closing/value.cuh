// The values that a closing kernel reads: a stored tensor, element-wise items on each element, a pooling window, steps
// on what it gives. Every kernel of this folder evaluates them where it needs them, so that nothing between two kernels
// is stored but what more than one element is needed for.
//
// Host preamble (src/cuda/closing_text.cpp), namespace config: Stored (the source), Out (the result), Element (operands
// and a norm's vectors), CHANNELS (of the values), WIDE (offsets in a plane need 64 bits), POOL and the window, ARGMAX
// (bytes in which a window's place of its maximum is kept, 0: not at all), and
//   S before(S v, const Closing& a, const Operands& operands, int n, int channel, i64 at)   items on the source
//   S after(...)                                                                            steps after the window
//   S middle(...), S last(...)                                 steps after a softmax or norm, and after a reduction
#pragma once

#include "arguments/closing.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
#include "ptx/dependents.cuh"
#include "quotient.cuh"
#include "types.cuh"

namespace upconv {

/// The number of what a reduction of [units][length][inner] values leaves of the value `at`.
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at) {
  const i64 unit = quotient(at, length * inner);
  if (inner == 1) return unit;
  const i64 rest = at - unit * (length * inner);
  return unit * inner + rest - quotient(rest, inner) * inner;
}
__device__ __forceinline__ int quotient(int n, const arguments::Divisor& by) {
  return static_cast<int>((__umulhi(static_cast<u32>(n), by.magic) + static_cast<u32>(n)) >> by.shift);
}
__device__ __forceinline__ i64 quotient(i64 n, const arguments::Divisor& by) { return quotient(n, by.value); }

namespace closing {

typedef arguments::Closing Closing;
using config::CHANNELS;
using config::Element;
using config::Operands;
using config::Out;
using config::Stored;
typedef Number<Element>::Sum S;

template <bool wide>
struct Indices {
  typedef int Index;
};
template <>
struct Indices<true> {
  typedef i64 Index;
};
typedef Indices<config::WIDE>::Index Index;

constexpr int THREADS = 256;

/// The number of a block in the order of the values. From the last one on where the source has just been written, or
/// read, from the first one on: a cache still holds its end.
__device__ __forceinline__ u32 block_number(const Closing& a) {
  return a.backwards ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
}

/// NaN wins.
template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return b > a || b != b ? b : a;
}
template <class T>
__device__ __forceinline__ T smaller(T a, T b) {
  return b < a || b != b ? b : a;
}
template <class T>
__device__ __forceinline__ T finite_or_zero(T v) {
  return v - v == T(0) ? v : T(0);
}
__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }
__device__ __forceinline__ double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }
__device__ __forceinline__ float natural_log(float v) { return logf(v); }
__device__ __forceinline__ double natural_log(double v) { return log(v); }
__device__ __forceinline__ float root(float v) { return sqrtf(v); }
__device__ __forceinline__ double root(double v) { return sqrt(v); }

__device__ __forceinline__ S stored(const Closing& a, i64 at) {
  return to_float(static_cast<const Stored*>(a.source)[at]);
}

/// The window at (d, h, w) of a plane.
__device__ __forceinline__ S window(const Closing& a, const Operands& operands, int n, int channel, Index d, Index h,
                                    Index w) {
  using namespace config;
  constexpr bool padded = PAD_D > 0 || PAD_H > 0 || PAD_W > 0;
  // What is written out is asked for together.
  constexpr bool unrolled = KD * KH * KW <= 64, plane_unrolled = KH * KW <= 64;
  const Index d0 = d * SD - PAD_D, h0 = h * SH - PAD_H, w0 = w * SW - PAD_W;
  const Index in_d = a.in.d, in_h = a.in.values.h, in_w = a.in.values.w;
  const i64 corner = n * a.in.values.n + channel * a.in.values.c + (i64(d0) * in_h + h0) * in_w + w0;
  S v = AVERAGE ? S(0) : S(-infinity());
  int largest = 0;
#pragma unroll(unrolled ? KD : 1)
  for (int kd = 0; kd < KD; ++kd)
#pragma unroll(plane_unrolled ? KH : 1)
    for (int kh = 0; kh < KH; ++kh)
#pragma unroll(KW <= 16 ? KW : 4)
      for (int kw = 0; kw < KW; ++kw) {
        if (padded &&
            (d0 + kd < 0 || d0 + kd >= in_d || h0 + kh < 0 || h0 + kh >= in_h || w0 + kw < 0 || w0 + kw >= in_w))
          continue;
        const i64 at = corner + (i64(kd) * in_h + kh) * in_w + kw;
        const S u = before(stored(a, at), a, operands, n, channel, at);
        if (ARGMAX > 0 && (u > v || u != u)) largest = (kd * KH + kh) * KW + kw;
        v = AVERAGE ? v + u : larger(v, u);
      }
  if constexpr (ARGMAX > 0) {
    const i64 place = n * a.at.values.n + channel * a.at.values.c + (i64(d) * a.at.values.h + h) * a.at.values.w + w;
    if constexpr (ARGMAX == 1)
      static_cast<unsigned char*>(a.argmax)[place] = static_cast<unsigned char>(largest);
    else
      static_cast<int*>(a.argmax)[place] = largest;
  }
  if constexpr (AVERAGE && !padded) v = v / S(KD * KH * KW);
  if constexpr (AVERAGE && padded) {
    const auto count = [](Index from, int kernel, int padding, Index size) {
      const Index end = from + kernel;
      if (COUNT_PAD) return (end < size + padding ? end : size + padding) - from;
      return (end < size ? end : size) - (from > 0 ? from : 0);
    };
    v = v / S(count(d0, KD, PAD_D, in_d) * count(h0, KH, PAD_H, in_h) * count(w0, KW, PAD_W, in_w));
  }
  return v;
}

/// Value number `inside` of the plane of a sample and channel.
__device__ __forceinline__ S value(const Closing& a, const Operands& operands, int n, int channel, Index inside) {
  const i64 at = n * a.at.values.n + channel * a.at.values.c + inside;
  S v;
  if constexpr (config::POOL) {
    const Index row = quotient(inside, a.at.w), d = quotient(row, a.at.h);
    v = window(a, operands, n, channel, d, row - d * a.at.values.h, inside - row * a.at.values.w);
  } else {
    v = config::before(stored(a, at), a, operands, n, channel, at);
  }
  return config::after(v, a, operands, n, channel, at);
}

/// A place in the values by its number among all of them: the plane and what is left inside.
struct Spot {
  int n, channel;
  Index inside;
};
__device__ __forceinline__ Spot in_plane(i64 plane, Index inside) {
  const u32 p = static_cast<u32>(plane), n = p / CHANNELS;  // planes have 31 bits
  return {static_cast<int>(n), static_cast<int>(p - n * CHANNELS), inside};
}
__device__ __forceinline__ Spot spot(const Closing& a, i64 at) {
  const i64 plane = quotient(at, a.at.values.c);
  return in_plane(plane, static_cast<Index>(at - plane * a.at.values.c));
}

/// The value at `s`, or 0 where it is not `inside`: then `s` is any other place, whose value is worked out too. So
/// nothing branches, and all values of a lane are on their way together.
__device__ __forceinline__ S value_if(bool inside, const Closing& a, const Operands& operands, const Spot& s) {
  if constexpr (config::ARGMAX > 0) {  // which writes
    return inside ? value(a, operands, s.n, s.channel, s.inside) : S(0);
  } else {
    const S v = value(a, operands, s.n, s.channel, s.inside);
    return inside ? v : S(0);
  }
}

/// Runs of values begin at number `first`, in the plane that is looked up once, and end at most `length` later.
struct Run {
  i64 plane;
  Index first;
  bool one_plane;

  __device__ __forceinline__ Run(const Closing& a, i64 begin, i64 length) {
    plane = quotient(begin, a.at.values.c);
    first = static_cast<Index>(begin - plane * a.at.values.c);
    one_plane = first + length <= a.at.values.c;
  }
  /// The value `i` behind the first.
  __device__ __forceinline__ Spot at(const Closing& a, Index i) const {
    const Index inside = first + i, over = quotient(inside, a.at.volume);
    return in_plane(plane + over, inside - over * static_cast<Index>(a.at.values.c));
  }
};

}  // namespace closing
}  // namespace upconv
