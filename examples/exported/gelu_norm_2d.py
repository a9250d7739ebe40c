"""ModelNew: the Model of gelu_norm_2d.py, computed by CUDA kernels in this file.

Written by `upconv export`, upconv 0.1.0. It needs PyTorch 2.0 or later with CUDA 11.8 or later, nvcc for the
first call (which compiles), and an NVIDIA GPU of compute capability 8.0 or later; nothing else.

What it computes: transposed convolutions,
    y[n, co, o] = b[co] + the sum over input channels ci of the group and taps t of x[n, ci, i] * w[ci, co, t],
    where o + padding = stride * i + dilation * t in every spatial dimension,
with their gradients for x, w and b.
What follows a layer runs with it, forward and backward:
    conv: convolution, gelu, GroupNorm

Made for, and checked at run time:
    conv: ConvTranspose2d 64 -> 64, kernel 3x3, 8 groups, bias
in float32. Batch and spatial sizes are free; the kernels were chosen for inputs of (128, 64, 256, 256).

Precision follows torch's switch for TF32 in convolutions at the time of the call: permitted, products are of operands
rounded to TF32 (of pairs of bfloat16 in the forward of a grouped layer); not permitted, they are as exact as fp32.

Kernels (sm_90: for compute capability 9.x, where the toolkit is CUDA 12 or later; other: from 8.0 on):
    conv, forward, tf32          other: cuda_gather_mma
    conv, forward, ieee          other: cuda_positions
    conv, forward, tf32          sm_90: cuda_boxes
    conv, forward, ieee          sm_90: cuda_positions
    conv, input gradient, tf32   other: cuda_gather_mma
    conv, input gradient, ieee   other: cuda_gather_mma
    conv, input gradient, tf32   sm_90: cuda_boxes
    conv, input gradient, ieee   sm_90: cuda_positions
    conv, weight gradient, tf32  other: cuda_weight_mma
    conv, weight gradient, ieee  other: cuda_weight_mma
    conv, weight gradient, tf32  sm_90: cuda_weight_mma
    conv, weight gradient, ieee  sm_90: cuda_weight_mma
    conv, bias gradient          other: cuda_bias_sum
    conv, bias gradient          sm_90: cuda_bias_sum
Sizes that one of them refuses at a call (rows wider than its tiles take, numbers past its 32-bit indices) are computed
by cuda_direct, which takes any: a thread for each element, as exact as fp32 in either setting, and slow.
"""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline


NAME = "upconv_302b54f0805d"

# Device code and launch arithmetic: files of upconv's kernels/, by the names they include one another by.
SOURCES = {
    "types.cuh": r"""// Element types without a CUDA header: fp16 and bf16 as bits, converted by instructions of our own.
#pragma once

namespace upconv {

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ double to_float(double v) { return v; }
__device__ __forceinline__ float to_float(f16 v) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
  return r;
}
__device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float(static_cast<u32>(v.bits) << 16); }

/// The accumulator of an element type, and the way back, rounding to nearest even.
template <class T>
struct Number {
  typedef float Sum;
};
template <>
struct Number<double> {
  typedef double Sum;
};

template <class T>
__device__ __forceinline__ T from_float(typename Number<T>::Sum v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ double from_float<double>(double v) {
  return v;
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float v) {
  f16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
  return r;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float v) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
  return r;
}

}  // namespace upconv
""",
    "epilogue/activations.cuh": r"""// The epilogue's functions on one accumulator, float or double; src/epilogue/scalar.hpp defines them, and the host
// writes their chain (src/epilogue/cuda_text.hpp). NaN stays NaN. Forms that subtract near-equal numbers are rewritten
// (gelu by the tail of the normal distribution, gelu_tanh and mish by one exponential), so small results keep their
// relative accuracy. Nothing branches: values that are worked out together wait for each other's instructions only.
// docs/measured-cuda-fusion.md has what was measured of their accuracy and cost.
#pragma once

namespace upconv {

__device__ __forceinline__ float exponential(float v) { return expf(v); }
__device__ __forceinline__ double exponential(double v) { return exp(v); }
__device__ __forceinline__ float exponential_minus_one(float v) { return expm1f(v); }
__device__ __forceinline__ double exponential_minus_one(double v) { return expm1(v); }
__device__ __forceinline__ float logarithm_of_one_plus(float v) { return log1pf(v); }
__device__ __forceinline__ double logarithm_of_one_plus(double v) { return log1p(v); }
__device__ __forceinline__ float sine_of(float v) { return sinf(v); }
__device__ __forceinline__ double sine_of(double v) { return sin(v); }
__device__ __forceinline__ float hyperbolic_tangent(float v) { return tanhf(v); }
__device__ __forceinline__ double hyperbolic_tangent(double v) { return tanh(v); }

/// Within 1 and 2 ulp; results and arguments under 2^-126 are zero.
__device__ __forceinline__ float reciprocal(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ float power_of_two(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

/// n / d within 2 ulp, without the branch of an exact division; d is not subnormal, and over 2^126 taken for infinite.
__device__ __forceinline__ float ratio(float n, float d) { return n * reciprocal(d); }
__device__ __forceinline__ double ratio(double n, double d) { return n / d; }

/// v / u, exactly, of a u that is known when the kernel is compiled: without a branch where neither it nor the quotient
/// is near the ends of the range.
__device__ __forceinline__ float divided(float v, float u) {
  const float size = fabsf(u);
  if (!(size > 1e-30f && size < 1e30f)) return v / u;
  const float r = 1.f / u, q = v * r, exact = fmaf(fmaf(-q, u, v), r, q);
  return fabsf(q) < 1e37f ? exact : q;
}
__device__ __forceinline__ double divided(double v, double u) { return v / u; }

/// The standard normal distribution's share below v. Its tail is exp(-v^2 / 2) times a function that changes slowly: a
/// polynomial in t = 1 / (1 + 0.33 |v|) times t, fitted to 6e-8 up to |v| = 14.5, where the exponential ends.
__device__ __forceinline__ float normal_below(float v) {
  const float t = reciprocal(fmaf(fabsf(v), 0.33f, 1.f));
  float tail = fmaf(-0.020442497f, t, 0.121348783f);
  tail = fmaf(tail, t, -0.263710707f);
  tail = fmaf(tail, t, 0.2207845f);
  tail = fmaf(tail, t, -0.0539695285f);
  tail = fmaf(tail, t, 0.120776832f);
  tail = fmaf(tail, t, 0.111319385f);
  tail = fmaf(tail, t, 0.132269248f);
  tail = fmaf(tail, t, 0.131623998f);
  tail *= t * power_of_two(v * v * -0.72134752f);
  return v < 0.f ? tail : 1.f - tail;
}
__device__ __forceinline__ double normal_below(double v) { return 0.5 * erfc(v * -0.70710678118654752440); }

template <class S>
__device__ __forceinline__ S clamp(S v, S low, S high) {
  return v < low ? low : v > high ? high : v;
}

/// Forms of fewer instructions.
namespace brief {

/// NaN stays NaN.
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  if constexpr (sizeof(S) == 4) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(high));
    return v;
  } else {
    return clamp(v, low, high);
  }
}

}  // namespace brief

namespace activation {

template <class S>
__device__ __forceinline__ S relu(S v) {
  return v <= S(0) ? S(0) : v;
}
template <class S>
__device__ __forceinline__ S leaky_relu(S v, S negative_slope) {
  return v > S(0) ? v : v * negative_slope;
}
template <class S>
__device__ __forceinline__ S elu(S v, S alpha) {
  return v > S(0) ? v : alpha * exponential_minus_one(v);
}
template <class S>
__device__ __forceinline__ S gelu(S v) {
  return v * normal_below(v);
}
/// v/2 * (1 + tanh(u)) = v / (1 + exp(-2u)).
template <class S>
__device__ __forceinline__ S gelu_tanh(S v) {
  const S minus_two_u = S(-1.5957691216057307) * (v + S(0.044715) * v * v * v);
  return ratio(v, S(1) + upconv::exponential(minus_two_u));
}
template <class S>
__device__ __forceinline__ S silu(S v) {
  return ratio(v, S(1) + upconv::exponential(-v));
}
/// tanh(log(1 + e)) = e(e + 2) / (e(e + 2) + 2); beyond 20 it is 1 in either precision.
template <class S>
__device__ __forceinline__ S mish(S v) {
  const S e = upconv::exponential(v > S(20) ? S(20) : v), n = e * (e + S(2));
  return v > S(20) ? v : v * ratio(n, n + S(2));
}
template <class S>
__device__ __forceinline__ S tanh(S v) {
  return hyperbolic_tangent(v);
}
template <class S>
__device__ __forceinline__ S sigmoid(S v) {
  return ratio(S(1), S(1) + upconv::exponential(-v));
}
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  return clamp(v, low, high);
}
template <class S>
__device__ __forceinline__ S hardsigmoid(S v) {
  return clamp(v + S(3), S(0), S(6)) * S(1.0 / 6.0);
}
template <class S>
__device__ __forceinline__ S hardswish(S v) {
  return v * hardsigmoid(v);
}
/// log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)), which no z overflows.
template <class S>
__device__ __forceinline__ S softplus(S v, S beta, S threshold) {
  const S z = v * beta, size = z < S(0) ? -z : z;
  const S smooth = (z > S(0) ? z : S(0)) + logarithm_of_one_plus(upconv::exponential(-size));
  return z > threshold ? v : divided(smooth, beta);
}

template <class S>
__device__ __forceinline__ S sine(S v) {
  return sine_of(v);
}
template <class S>
__device__ __forceinline__ S square(S v) {
  return v * v;
}
template <class S>
__device__ __forceinline__ S exponential(S v) {
  return upconv::exponential(v);
}
/// NaN in either wins.
template <class S>
__device__ __forceinline__ S minimum(S v, S u) {
  return v < u || v != v ? v : u;
}
template <class S>
__device__ __forceinline__ S maximum(S v, S u) {
  return v > u || v != v ? v : u;
}

}  // namespace activation
}  // namespace upconv
""",
    "arguments/operands.cuh": r"""// Operand tensors of element-wise steps, as launches pass them by value. src/cuda/operands.hpp fills it.
#pragma once

namespace upconv::arguments {

/// Element strides of an operand over (n, channel, d, h, w) of the values that read it; 0 where it is broadcast.
struct Operand {
  const void* data;
  long long n, c, d, h, w;
};

/// How the values themselves lie: strides of sample, channel and neighbours in w, and the sizes that turn an offset
/// into a place.
struct Values {
  long long n, c, column;
  int h, w;
};

/// The trailing parameter of every forward kernel; nothing where no step reads an operand.
template <int count>
struct Operands {
  Values values;
  Operand at[count];
};
template <>
struct Operands<0> {};

}  // namespace upconv::arguments
""",
    "epilogue/operands.cuh": r"""// THE INTERFACE of an epilogue that reads operand tensors, for every kernel that writes y.
//
// The preamble (src/epilogue/cuda_text.hpp) defines in namespace config
//   Operands                            what the kernel takes as its LAST parameter, `const config::Operands operands`,
//                                       an empty struct where no step reads an operand
//   OPERANDS                            how many there are, a constexpr int
//   OfChannel of_channel(operands, channel)
//   OfElement of_element(operands, exists, n, channel, at)
//                                       what the steps read for every element of channel `channel` (of all groups), and
//                                       for that of sample n which is number `at` of y's memory. Structs without
//                                       members where there is nothing to read. An element that does not `exists` (a
//                                       tile that reaches over y's edge) has values too, of no meaning, and reading
//                                       them branches nowhere
//   short_epilogue                      whether the steps are few instructions on numbers of a channel
//   asks, ask_for_elements(operands, at)
//                                       whether there are whole operands, and a line of each, from number `at` on, on
//                                       its way into the L2 cache, so that of_element() need not wait for memory later
//   S epilogue(S v, of_channel, of_element)
//                                       the steps on the value v
//   S epilogue(S v, const Operands& operands, int n, int channel, i64 at)
//                                       all of it, of an element that exists
//   S epilogue(S v)                     where there are no operands
// A lane waits for memory and for its functions' results once for all values that it reads, computes and stores in
// that order; value by value, a branch around each, it waits every time. An operand may be y itself, where every
// element is written by the thread that has read it.
//
// A launch passes the address that PassTensors or launch::Tensors calls `operands` as its last argument.
#pragma once

#include "arguments/operands.cuh"
#include "types.cuh"

namespace upconv {

template <class Element>
__device__ __forceinline__ typename Number<Element>::Sum operand_value(const arguments::Operand& o, i64 index) {
  return to_float(static_cast<const Element*>(o.data)[index]);
}

// Not volatile: asked for twice it is read once. Not ld.global.nc either (ptx/dependents.cuh): results are far behind
// the wait, products or loops lie between.
__device__ __forceinline__ float constant(const float* p) {
  float v;
  asm("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(p));
  return v;
}
__device__ __forceinline__ double constant(const double* p) {
  double v;
  asm("ld.global.f64 %0, [%1];" : "=d"(v) : "l"(p));
  return v;
}
template <class Half>
__device__ __forceinline__ Half constant(const Half* p) {
  u16 v;
  asm("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(p));
  return {v};
}

/// One that nothing writes while the kernel runs: read once for all elements that have it in common.
template <class Element>
__device__ __forceinline__ typename Number<Element>::Sum constant_value(const arguments::Operand& o, i64 index) {
  return to_float(constant(static_cast<const Element*>(o.data) + index));
}

template <class Element>
__device__ __forceinline__ void ask_for(const arguments::Operand& o, i64 index) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const Element*>(o.data) + index));
}

/// The element of an operand that lies in any way, for the value at `at`.
__device__ __forceinline__ i64 operand_place(const arguments::Operand& o, const arguments::Values& values, int n,
                                             int channel, i64 at) {
  i64 inside = at - n * values.n - channel * values.c;
  if (values.column != 1) inside /= values.column;
  i64 row, w, d, h;
  if (inside >> 32 == 0) {
    const u32 r = static_cast<u32>(inside) / static_cast<u32>(values.w), q = r / static_cast<u32>(values.h);
    row = r, w = static_cast<u32>(inside) - r * static_cast<u32>(values.w);
    d = q, h = r - q * static_cast<u32>(values.h);
  } else {
    row = inside / values.w, w = inside - row * values.w;
    d = row / values.h, h = row - d * values.h;
  }
  return n * o.n + channel * o.c + d * o.d + h * o.h + w * o.w;
}

}  // namespace upconv
""",
    "arguments/direct.cuh": r"""// What a launch of direct.cuh passes by value: the whole problem. launch/direct.hpp fills it.
#pragma once

namespace upconv::arguments {

/// Element strides of (n, channel, d, h, w).
struct DirectTensor {
  long long n, c, at[3];
};

/// Counts of channels are per group. A dimension of one input has stride 1 and a kernel of one tap dilation 1:
/// equivalent, and free of numbers near the end of 64 bits.
struct Direct {
  long long batch, groups, ci, co;
  long long in[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  long long tap_step[3];        ///< stride / gcd(stride, dilation): from a tap that reaches an output to the next.
  long long source_step[3];     ///< dilation / gcd: how far back the input moves meanwhile.
  long long back[3], shift[3];  ///< dilation / stride and dilation % stride.
  DirectTensor x, y;
  long long w_ci, w_co, w_tap[3];
  long long channels_fast;  ///< Neighbouring threads take neighbouring channels, not positions.
};

}  // namespace upconv::arguments
""",
    "ptx/dependents.cuh": r"""// A kernel beside the end of the one before it on the stream (programmatic dependent launch, compute capability 9.0
// on): its blocks begin where there is room as soon as every block of that one has begun, and wait here for its end.
//
// Every kernel calls both, in all threads: let_next_begin() first, after_previous() before a thread first reads or
// writes global memory and before it may return. A kernel thus ends after all that were launched before it, and what
// holds of two holds of a row of them. Where the launch does not ask for it (src/jit/kernel.cpp), both do nothing.
//
// What lies in memory is not constant while a kernel waits: the assembler moves ld.global.nc in front of the wait, and
// a cache may hold what it read for an earlier kernel. So no kernel uses it, nor __ldg(), nor what the compiler makes
// it of, parameters that are `const` and `__restrict__`. Asm that loads is volatile, or by pointers that went through
// the wait. tests/kernels/compile.cpp looks for all this in the machine code.
#pragma once

namespace upconv {

/// What loads by `p` behind this is behind it for the compiler too. (What it knew of the address is lost: for asm.)
template <class Pointer>
__device__ __forceinline__ void behind(Pointer& p) {
  asm volatile("" : "+l"(p));
}

/// Returns when the kernels before this one have ended and what they wrote can be read: by `pointers` also with asm
/// that is not volatile.
template <class... Pointers>
__device__ __forceinline__ void after_previous(Pointers&... pointers) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  (..., behind(pointers));
#endif
}

/// The next kernel's blocks may begin once all blocks of this one have called it or returned.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace upconv
""",
    "direct.cuh": r"""// Every pass by its definition: any rank, stride, dilation, groups, layout and dtype; src/cuda/direct.cpp launches it.
// The problem is a parameter, so one compilation serves every problem of a dtype. fp32 products are FFMA.
//   direct_gather  y or dx: a thread computes config::block channels of one position, summing over the taps that reach
//   it direct_weight  dw: a block sums a tile of channel pairs of one tap over positions, thread by thread, then as a
//   tree direct_bias    db: a block sums a channel over positions likewise
// Host preamble: Element, Index (int where every number below fits, else long long), forward, block, tile_i, tile_o (of
// a thread), across_i, across_o (tiles side by side in a warp, so that its lanes share lines of channels_last tensors).
#pragma once

#include "arguments/direct.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

using config::Element;
using config::Index;
typedef Number<Element>::Sum Sum;

typedef arguments::DirectTensor Tensor;
typedef arguments::Direct Shape;

/// Quotients of non-negative numbers. Most divisors are the same for all threads, and many of them are 1.
__device__ __forceinline__ int divide(int a, int b) {
  if (b == 1) return a;
  return static_cast<int>(static_cast<u32>(a) / static_cast<u32>(b));
}
/// 64-bit division is many times a 32-bit one, and the numbers rarely need it.
__device__ __forceinline__ i64 divide(i64 a, i64 b) {
  if (((a | b) >> 32) == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}
__device__ __forceinline__ i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
/// Takes the last digit, in base `size`, off `rest`.
template <class I>
__device__ __forceinline__ I digit(I& rest, I size) {
  const I q = divide(rest, size), r = rest - q * size;
  rest = q;
  return r;
}

/// The taps of one dimension that one position takes part in: tap + m * tap_step meets source + m * source_step.
struct Run {
  Index tap, source, count;
};

/// Inputs i and taps t with stride * i + dilation * t = o + padding.
__device__ __forceinline__ Run inputs_of(const Shape& s, int k, Index o) {
  const Index stride = s.stride[k], step = s.tap_step[k], taps = s.kernel[k], shift = s.shift[k];
  const Index v = o + Index(s.padding[k]), q = divide(v, stride), residue = v - q * stride;
  Index t = 0, i = q;                     // stride * i + dilation * t = v - residue + r
  for (Index r = 0; r != residue; ++t) {  // the first tap of this phase, among the `step` taps before residues repeat
    if (t + 1 >= step || t + 1 >= taps) return {0, 0, 0};
    const bool carry = r >= stride - shift;
    r = carry ? r - (stride - shift) : r + shift;
    i -= Index(s.back[k]) + Index(carry);
    if (i < 0) return {0, 0, 0};
  }
  const Index back = s.source_step[k];
  const Index by_input = divide(i, back), by_tap = divide(taps - 1 - t, step);
  const Index last = by_input < by_tap ? by_input : by_tap;
  const Index first = i < Index(s.in[k]) ? 0 : divide(i - Index(s.in[k]), back) + 1;
  return {t + first * step, i - first * back, first > last ? 0 : last - first + 1};
}

/// Outputs o and taps t with o = stride * i + dilation * t - padding.
__device__ __forceinline__ Run outputs_of(const Shape& s, int k, Index i) {
  const Index dilation = s.dilation[k], base = Index(s.stride[k]) * i - Index(s.padding[k]);
  const Index room = Index(s.out[k]) - 1 - base;
  const Index first = base >= 0 ? 0 : divide(-base - 1, dilation) + 1;
  if (room < 0 || first >= Index(s.kernel[k])) return {0, 0, 0};
  const Index by_output = divide(room, dilation), by_tap = Index(s.kernel[k]) - 1;
  const Index last = by_output < by_tap ? by_output : by_tap;
  return {first, base + dilation * first, first > last ? 0 : last - first + 1};
}

/// Inputs i for which tap t lands inside the output.
__device__ __forceinline__ void inputs_of_tap(const Shape& s, int k, Index t, Index& begin, Index& count) {
  const Index shift = Index(s.dilation[k]) * t - Index(s.padding[k]), room = Index(s.out[k]) - 1 - shift;
  begin = shift >= 0 ? 0 : divide(-shift - 1, Index(s.stride[k])) + 1;
  Index end = room < 0 ? 0 : divide(room, Index(s.stride[k])) + 1;
  if (end > Index(s.in[k])) end = s.in[k];
  count = end > begin ? end - begin : 0;
}

/// Sums `count` values over those threads of a block of 256 that are equal modulo `across`: in thread
/// k * count + j, k < across, the sum of value[j] over threads k, k + across, ...
template <int across, int count>
__device__ __forceinline__ Sum block_sum(Sum (&value)[count]) {
  __shared__ Sum warps[8][across][count];
#pragma unroll
  for (int j = 0; j < count; ++j)
#pragma unroll
    for (int distance = 16; distance >= across; distance /= 2)
      value[j] += __shfl_down_sync(0xffffffffu, value[j], distance);
  __syncthreads();  // the values of the sum before have been read
  if (threadIdx.x % 32 < across)
#pragma unroll
    for (int j = 0; j < count; ++j) warps[threadIdx.x / 32][threadIdx.x % 32][j] = value[j];
  __syncthreads();
  Sum total = 0;
  if (threadIdx.x < across * count)
    for (int i = 0; i < 8; ++i) total += warps[i][threadIdx.x / count][threadIdx.x % count];
  return total;
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(256, 2)
    direct_gather(const upconv::Shape s, const config::Element* source, const config::Element* w,
                  const config::Element* bias, config::Element* __restrict__ result, const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  constexpr bool forward = config::forward;
  constexpr int block = config::block;
  const Tensor& from = forward ? s.x : s.y;
  const Tensor& to = forward ? s.y : s.x;
  const i64* size = forward ? s.out : s.in;
  const Index results = forward ? s.co : s.ci, sources = forward ? s.ci : s.co;
  const Index w_source = forward ? s.w_ci : s.w_co, w_result = forward ? s.w_co : s.w_ci;
  const Index source_c = from.c;
  const Index blocks = divide(results + Index(block - 1), Index(block));
  const Index items = Index(s.batch) * Index(s.groups) * blocks * Index(size[0]) * Index(size[1]) * Index(size[2]);
  const Index stride = Index(gridDim.x) * 256;

  for (Index item = Index(blockIdx.x) * 256 + Index(threadIdx.x); item < items; item += stride) {
    Index rest = item, first = 0, group = 0, at[3];
    if (s.channels_fast) {
      first = digit(rest, blocks) * Index(block);
      group = digit(rest, Index(s.groups));
    }
#pragma unroll
    for (int k = 2; k >= 0; --k) at[k] = digit(rest, Index(size[k]));
    if (!s.channels_fast) {
      first = digit(rest, blocks) * Index(block);
      group = digit(rest, Index(s.groups));
    }
    Run run[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) run[k] = forward ? inputs_of(s, k, at[k]) : outputs_of(s, k, at[k]);

    Index offset[block];  // channels past the last repeat it, and are not stored
#pragma unroll
    for (int j = 0; j < block; ++j) offset[j] = (first + j < results ? Index(j) : results - 1 - first) * w_result;
    const Element* sources_at = source + (rest * Index(from.n) + group * sources * source_c);
    const Element* weights_at = w + (group * Index(s.ci) * Index(s.w_ci) + first * w_result);
    Sum sum[block] = {};
    for (Index a = 0; a < run[0].count; ++a)
      for (Index b = 0; b < run[1].count; ++b)
        for (Index c = 0; c < run[2].count; ++c) {
          const Index m[3] = {a, b, c};
          Index source_offset = 0, w_offset = 0;
#pragma unroll
          for (int k = 0; k < 3; ++k) {
            const Index back = forward ? -Index(s.source_step[k]) : Index(s.dilation[k]);
            const Index on = forward ? Index(s.tap_step[k]) : Index(1);
            source_offset += (run[k].source + m[k] * back) * Index(from.at[k]);
            w_offset += (run[k].tap + m[k] * on) * Index(s.w_tap[k]);
          }
          const Element* v = sources_at + source_offset;
          const Element* u = weights_at + w_offset;
          Sum tap[block] = {};  // sums of one tap apart: shorter chains, smaller error
#pragma unroll 4
          for (Index c2 = 0; c2 < sources; ++c2) {
            const Sum value = to_float(v[c2 * source_c]);
#pragma unroll
            for (int j = 0; j < block; ++j) tap[j] += value * to_float(u[c2 * w_source + offset[j]]);
          }
#pragma unroll
          for (int j = 0; j < block; ++j) sum[j] += tap[j];
        }

    const Index channel = group * results + first;
    Element* out = result + (rest * Index(to.n) + channel * Index(to.c) + at[0] * Index(to.at[0]) +
                             at[1] * Index(to.at[1]) + at[2] * Index(to.at[2]));
#pragma unroll
    for (int j = 0; j < block; ++j) {
      if (first + j >= results) break;
      Sum value = sum[j];
      if (forward) {
        if (bias) value += to_float(bias[channel + j]);
        value = config::epilogue(value, operands, int(rest), int(channel) + j, out - result + j * i64(to.c));
      }
      out[j * Index(to.c)] = from_float<Element>(value);
    }
  }
}

/// `parts` holds `splits` copies of dw's elements in its own order, to be added up by ordered_sum; null: write dw.
extern "C" __global__ void __launch_bounds__(256, sizeof(config::Index) == 4 && config::across_i == 1 ? 2 : 1)
    direct_weight(const upconv::Shape s, const config::Element* x, const config::Element* dy,
                  upconv::Sum* __restrict__ parts, config::Element* __restrict__ dw, const upconv::i64 splits) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  constexpr int tile_i = config::tile_i, tile_o = config::tile_o, chain = 64;
  constexpr int across_i = config::across_i, across_o = config::across_o, across = across_i * across_o;
  constexpr int block_i = tile_i * across_i, block_o = tile_o * across_o, lanes = 256 / across;
  const int lane = int(threadIdx.x) / across;  // of those that share out the positions
  const int own_i = int(threadIdx.x) % across / across_o * tile_i, own_o = int(threadIdx.x) % across_o * tile_o;
  const i64 tiles_i = (s.ci + block_i - 1) / block_i, tiles_o = (s.co + block_o - 1) / block_o;
  const i64 taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  const i64 elements = s.groups * s.ci * s.co * taps, items = splits * s.groups * tiles_i * tiles_o * taps;

  for (i64 item = blockIdx.x; item < items; item += gridDim.x) {
    i64 rest = item, tap[3];
#pragma unroll
    for (int k = 2; k >= 0; --k) tap[k] = digit(rest, s.kernel[k]);
    const i64 first_o = digit(rest, tiles_o) * block_o, first_i = digit(rest, tiles_i) * block_i;
    const i64 group = digit(rest, s.groups), split = rest;

    Index begin[3], count[3], base = 0;  // base: dy's offset where every input coordinate is 0
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      inputs_of_tap(s, k, Index(tap[k]), begin[k], count[k]);
      base += (Index(s.dilation[k]) * Index(tap[k]) - Index(s.padding[k])) * Index(s.y.at[k]);
    }
    const Index positions = Index(s.batch) * count[0] * count[1] * count[2];
    const Index share = divide(positions + Index(splits - 1), Index(splits));
    const Index from = share * Index(split) < positions ? share * Index(split) : positions;
    const Index to = from + share < positions ? from + share : positions;

    Index x_channel[tile_i], y_channel[tile_o];  // channels past the last repeat it, and are not stored
#pragma unroll
    for (int j = 0; j < tile_i; ++j)
      x_channel[j] = Index(group * s.ci + smaller(first_i + own_i + j, s.ci - 1)) * Index(s.x.c);
#pragma unroll
    for (int j = 0; j < tile_o; ++j)
      y_channel[j] = Index(group * s.co + smaller(first_o + own_o + j, s.co - 1)) * Index(s.y.c);

    Sum sum[tile_i * tile_o] = {};
    if (from < to) {
      Index at[4], step[4], start = from + Index(lane), jump = lanes;  // (n, d, h, w) and as many positions on
#pragma unroll
      for (int k = 3; k > 0; --k) {
        at[k] = digit(start, count[k - 1]);
        step[k] = digit(jump, count[k - 1]);
      }
      at[0] = start;
      step[0] = jump;
      Index left = to - from > Index(lane) ? divide(to - from - Index(lane) + Index(lanes - 1), Index(lanes)) : 0;
      while (left > 0) {
        Sum part[tile_i * tile_o] = {};
        const int links = left < chain ? int(left) : chain;
        for (int link = 0; link < links; ++link) {
          Index x_at = at[0] * Index(s.x.n), y_at = base + at[0] * Index(s.y.n);
#pragma unroll
          for (int k = 0; k < 3; ++k) {
            const Index i = begin[k] + at[k + 1];
            x_at += i * Index(s.x.at[k]);
            y_at += i * Index(s.stride[k]) * Index(s.y.at[k]);
          }
          Sum u[tile_i], v[tile_o];
#pragma unroll
          for (int j = 0; j < tile_i; ++j) u[j] = to_float(x[x_at + x_channel[j]]);
#pragma unroll
          for (int j = 0; j < tile_o; ++j) v[j] = to_float(dy[y_at + y_channel[j]]);
#pragma unroll
          for (int i = 0; i < tile_i; ++i)
#pragma unroll
            for (int o = 0; o < tile_o; ++o) part[i * tile_o + o] += u[i] * v[o];
#pragma unroll
          for (int k = 3; k > 0; --k) {
            at[k] += step[k];
            if (at[k] >= count[k - 1]) {
              at[k] -= count[k - 1];
              ++at[k - 1];
            }
          }
          at[0] += step[0];
        }
        left -= links;
#pragma unroll
        for (int j = 0; j < tile_i * tile_o; ++j) sum[j] += part[j];
      }
    }

    const Sum total = block_sum<across>(sum);
    const int k = int(threadIdx.x) / (tile_i * tile_o), j = int(threadIdx.x) % (tile_i * tile_o);
    const i64 i = first_i + k / across_o * tile_i + j / tile_o, o = first_o + k % across_o * tile_o + j % tile_o;
    if (k < across && i < s.ci && o < s.co) {
      const i64 e =
          (group * s.ci + i) * s.w_ci + o * s.w_co + tap[0] * s.w_tap[0] + tap[1] * s.w_tap[1] + tap[2] * s.w_tap[2];
      if (parts)
        parts[split * elements + e] = total;
      else
        dw[e] = from_float<Element>(total);
    }
  }
}

/// `parts` as above, `splits` copies of db's elements.
extern "C" __global__ void __launch_bounds__(256)
    direct_bias(const upconv::Shape s, const config::Element* dy, upconv::Sum* __restrict__ parts,
                config::Element* __restrict__ db, const upconv::i64 splits) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  const i64 channels = s.groups * s.co, volume = s.out[0] * s.out[1] * s.out[2], positions = s.batch * volume;
  const i64 share = (positions + splits - 1) / splits;
  for (i64 item = blockIdx.x; item < channels * splits; item += gridDim.x) {
    const i64 channel = item % channels, split = item / channels;
    const i64 from = share * split < positions ? share * split : positions;
    const i64 to = from + share < positions ? from + share : positions;
    Sum sum[1] = {};
    for (i64 p = from + threadIdx.x; p < to;) {
      Sum part = 0;
      for (int link = 0; link < 64 && p < to; ++link, p += 256) {
        const i64 n = divide(p, volume);
        part += to_float(dy[n * s.y.n + channel * s.y.c + (p - n * volume) * s.y.at[2]]);
      }
      sum[0] += part;
    }
    const Sum total = block_sum<1>(sum);
    if (threadIdx.x == 0) {
      if (parts)
        parts[split * channels + channel] = total;
      else
        db[channel] = from_float<Element>(total);
    }
  }
}
""",
    "ordered_sum.cuh": r"""// The second pass of a split reduction: result[c] = the sum over `rows` rows and `inner` columns of
// parts[row][c * inner + i], always in the same order. 512 threads: `lanes` (a power of two up to 32)
// across columns, the rest across rows. With inner = 1 a block takes `lanes` results, else one.
// Host preamble: Element.
#pragma once

#include "ptx/dependents.cuh"
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(512)
    ordered_sum(const upconv::Number<config::Element>::Sum* parts, config::Element* __restrict__ result,
                const upconv::i64 count, const upconv::i64 rows, const upconv::i64 inner, const int lanes) {
  using namespace upconv;
  typedef Number<config::Element>::Sum Sum;
  let_next_begin();
  __shared__ Sum sums[512];
  const int lane = threadIdx.x % lanes, row = threadIdx.x / lanes, row_lanes = 512 / lanes;
  const i64 width = count * inner;
  const i64 results = inner == 1 ? lanes : 1;
  after_previous();
  for (i64 first = i64(blockIdx.x) * results; first < count; first += i64(gridDim.x) * results) {
    Sum sum = 0;
    const i64 end = inner == 1 ? (first + lanes < count ? first + lanes : count) : (first + 1) * inner;
    for (i64 c = first * inner + lane; c < end; c += lanes)
#pragma unroll 8
      for (i64 r = row; r < rows; r += row_lanes) sum += parts[r * width + c];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 256; half >= (inner == 1 ? lanes : 1); half /= 2) {
      if (int(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x < results && first + threadIdx.x < count)
      result[first + threadIdx.x] = from_float<config::Element>(sums[threadIdx.x]);
    __syncthreads();
  }
}
""",
    "ptx/mma.cuh": r"""// Warp-level matrix products of sm_80 and up, shared-memory words and predicated global loads, as PTX.
// All are volatile, so that the order written is the order the assembler starts from.
#pragma once

#include "types.cuh"

namespace upconv {

enum class Products { tf32, f16, bf16 };

/// d += a * b: 16 rows, 8 columns, 8 words of depth (8 TF32 numbers, or 16 of 16 bits in pairs).
template <Products P>
__device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if constexpr (P == Products::tf32)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else if constexpr (P == Products::f16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ u32 load_shared(u32 address) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ void load_shared2(u32 address, u32& a, u32& b) {
  asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(address));
}
__device__ __forceinline__ void load_shared4(u32 address, u32& a, u32& b, u32& c, u32& d) {
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(address));
}
__device__ __forceinline__ void store_shared(u32 address, u32 v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v));
}

/// The bits at `p`, or 0 where `ok` is false (nothing is read then).
template <int BYTES>
__device__ __forceinline__ u32 load_or_zero(const void* p, bool ok) {
  u32 v;
  if constexpr (BYTES == 4) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.b32 %0, [%1];}"
                 : "=r"(v)
                 : "l"(p), "r"(static_cast<int>(ok)));
  } else {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=r"(v)
                 : "l"(p), "r"(static_cast<int>(ok)));
  }
  return v;
}

/// Four bytes from global to shared memory, in the background; zero where `ok` is false.
__device__ __forceinline__ void copy_or_zero(u32 address, const void* p, bool ok) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(p), "r"(ok ? 4 : 0));
}
/// Waits for all copies that this thread began.
__device__ __forceinline__ void wait_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// threadIdx.x, read anew each time: what is computed from it is not kept in registers across a loop.
__device__ __forceinline__ int fresh_thread() {
  u32 t;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
  return static_cast<int>(t);
}

/// All threads of the block: what each wrote to shared memory before is seen by all after.
__device__ __forceinline__ void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

}  // namespace upconv
""",
    "mma/operand.cuh": r"""// How numbers become the 32-bit words that tensor cores multiply, by mode:
//   tf32    one number a word, rounded to nearest even             1 product
//   half    a pair of fp16 or bf16 numbers of consecutive channels 1 product
//   bf16x3  a pair of fp32 numbers as hi and lo bf16 pairs         3 products
//   tf32x3  one fp32 number as hi and lo TF32 numbers              3 products, summed in fp32 a few at a time
#pragma once

#include "ptx/mma.cuh"

namespace upconv {

enum class Mode { tf32, f16, bf16, bf16x3, tf32x3 };

constexpr int numbers_a_word(Mode m) { return m == Mode::tf32 || m == Mode::tf32x3 ? 1 : 2; }
constexpr int parts_of(Mode m) { return m == Mode::bf16x3 || m == Mode::tf32x3 ? 2 : 1; }
constexpr int bytes_a_number(Mode m) { return m == Mode::f16 || m == Mode::bf16 ? 2 : 4; }
constexpr Products products_of(Mode m) {
  return m == Mode::tf32 || m == Mode::tf32x3 ? Products::tf32 : m == Mode::f16 ? Products::f16 : Products::bf16;
}

__device__ __forceinline__ u32 round_tf32(u32 bits) {
#if __CUDA_ARCH__ >= 900
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
  return r;
#else
  const u32 rounded = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : rounded;
#endif
}

/// Two floats as bf16, the first in the low half.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

/// The words of `raw` (numbers_a_word bit patterns).
template <Mode M>
__device__ __forceinline__ void to_words(const u32* raw, u32 (&word)[parts_of(M)]) {
  if constexpr (M == Mode::tf32) {
    word[0] = round_tf32(raw[0]);
  } else if constexpr (M == Mode::f16 || M == Mode::bf16) {
    word[0] = raw[0] | raw[1] << 16;
  } else if constexpr (M == Mode::bf16x3) {
    const float a = __uint_as_float(raw[0]), b = __uint_as_float(raw[1]);
    const u32 hi = pack_bf16(a, b);
    word[0] = hi;
    word[1] = pack_bf16(a - __uint_as_float(hi << 16), b - __uint_as_float(hi & 0xffff0000u));
  } else {
    const u32 hi = round_tf32(raw[0]);
    word[0] = hi;
    word[1] = round_tf32(__float_as_uint(__uint_as_float(raw[0]) - __uint_as_float(hi)));
  }
}

}  // namespace upconv
""",
    "mma/taps.cuh": r"""// The algebra of one dimension, at compile time: a tap t meets the residue (d*t) mod s and reaches (d*t) div s steps.
// forward: residue = output phase, input = q - reach. dx: residue = plane of dy, dy step = q + reach.
// A merged dimension (kernel a multiple of the stride, dilation 1) has its residues among the columns of the product
// (forward) or among its depth (dx), so that here it looks like stride 1 with kernel/stride taps.
#pragma once

namespace upconv {

struct Dimension {
  int kernel, stride, dilation;
  bool merged;
};

constexpr int taps(Dimension d) { return d.merged ? d.kernel / d.stride : d.kernel; }
constexpr int residue(Dimension d, int t) { return d.merged ? 0 : d.dilation * t % d.stride; }
constexpr int reach(Dimension d, int t) { return d.merged ? t : d.dilation * t / d.stride; }
constexpr int span(Dimension d) { return reach(d, taps(d) - 1); }
constexpr int merged_stride(Dimension d) { return d.merged ? d.stride : 1; }
constexpr int open_stride(Dimension d) { return d.merged ? 1 : d.stride; }

constexpr bool residue_used(Dimension d, int r) {
  for (int t = 0; t < taps(d); ++t)
    if (residue(d, t) == r) return true;
  return false;
}
/// Residues below `r` that some tap meets; with r = open_stride(d), all of them.
constexpr int residues_below(Dimension d, int r) {
  int n = 0;
  for (int i = 0; i < r; ++i) n += residue_used(d, i) ? 1 : 0;
  return n;
}
constexpr int residues(Dimension d) { return residues_below(d, open_stride(d)); }
/// The i-th residue that some tap meets.
constexpr int used_residue(Dimension d, int i) {
  for (int r = 0; r < open_stride(d); ++r)
    if (residue_used(d, r) && i-- == 0) return r;
  return 0;
}

/// An entry is one view of the source: in forward the taps of equal reach (they are consecutive), in dx one tap.
constexpr int entries(Dimension d, bool forward) {
  int n = 1;
  for (int t = 1; t < taps(d); ++t) n += !forward || reach(d, t) != reach(d, t - 1) ? 1 : 0;
  return n;
}
constexpr int entry_first(Dimension d, bool forward, int e) {
  for (int t = 0; t < taps(d); ++t)
    if (t == 0 || !forward || reach(d, t) != reach(d, t - 1))
      if (e-- == 0) return t;
  return taps(d);
}
constexpr int entry_size(Dimension d, bool forward, int e) {
  return entry_first(d, forward, e + 1) - entry_first(d, forward, e);
}

template <int I>
struct Int {
  static constexpr int value = I;
};

/// f(Int<BEGIN>) ... f(Int<END - 1>).
template <int BEGIN, int END, class F>
__device__ __forceinline__ void static_for(F&& f) {
  if constexpr (BEGIN < END) {
    f(Int<BEGIN>{});
    static_for<BEGIN + 1, END>(f);
  }
}

}  // namespace upconv
""",
    "arguments/gather_mma.cuh": r"""// What a launch of gather_mma.cuh passes by value. launch/gather_mma.hpp fills it.
#pragma once

namespace upconv::arguments {

/// "source" is x (forward) or dy (dx), "out" is y or dx. Strides in elements.
struct GatherMma {
  const void* source;
  const void* weight;
  const void* bias;
  void* out;
  long long source_n, source_c, source_d, source_h, source_w;
  long long out_n, out_c, out_d, out_h, out_w;
  long long weight_group;
  int batch;
  int source_size[3], out_size[3];
  int first[3];    ///< Smallest position of the grid.
  int padding[3];  ///< Of the transposed convolution.
  int tiles_n, tiles_d, tiles_h, tiles_w;
  int column_blocks;  ///< Of one group.
  int groups;
};

}  // namespace upconv::arguments
""",
    "mma/gather_shape.cuh": r"""// What the gather kernel derives from its configuration: the tile, its place in shared memory and its parameters.
// A tile is TN x TD x TH x TW positions (the M of the product) by NB columns (its N); depth comes in chunks of KC.
//   forward: positions are the phase grid q, columns output channels (times merged phases), depth input channels
//   dx:      positions are the inputs,       columns input channels, depth output channels (times merged residues)
#pragma once

#include "arguments/gather_mma.cuh"
#include "mma/operand.cuh"
#include "mma/taps.cuh"

namespace upconv {

typedef arguments::GatherMma Arguments;

namespace gather {
using namespace config;

constexpr int WARPS = WARPS_M * WARPS_N * WARPS_K;
constexpr int THREADS = 32 * WARPS;
constexpr int MB = 16 * MT * WARPS_M, NB = 8 * NT * WARPS_N;
static_assert(MB == TN * TD * TH * TW, "the warps cover the tile's positions");
static_assert((MT & (MT - 1)) == 0 && (TW & (TW - 1)) == 0 && (TH & (TH - 1)) == 0 && (TD & (TD - 1)) == 0,
              "position bits are separable");
static_assert(J == 1 || (J == 2 && TW >= 16) || (J == 4 && MT % 2 == 0 && TW >= 32), "runs of J stay in a line");

constexpr int PACK = numbers_a_word(MODE), PARTS = parts_of(MODE), BYTES = bytes_a_number(MODE);
constexpr int KW = KC / PACK, KS = KW / 8, KSW = KS / WARPS_K;  // words, k-steps, k-steps of a warp, in a chunk
static_assert(KSW * WARPS_K * 8 * PACK == KC, "the chunk is whole k-steps for every warp");
constexpr int CHUNKS = (DEPTH + KC - 1) / KC;

constexpr int merged_volume = merged_stride(DIM_D) * merged_stride(DIM_H) * merged_stride(DIM_W);
constexpr int taps_d = taps(DIM_D), taps_h = taps(DIM_H), taps_w = taps(DIM_W), TAPS = taps_d * taps_h * taps_w;

constexpr int phases_d = FORWARD ? residues(DIM_D) : 1, phases_h = FORWARD ? residues(DIM_H) : 1,
              phases_w = FORWARD ? residues(DIM_W) : 1, PHASES = phases_d * phases_h * phases_w;
constexpr int planes_d = FORWARD ? 1 : residues(DIM_D), planes_h = FORWARD ? 1 : residues(DIM_H),
              planes_w = FORWARD ? 1 : residues(DIM_W), PLANES = planes_d * planes_h * planes_w;

// Source words of a chunk: [part][word][sample][plane][d][h][w]; rows are LW apart, LD x LH x LW_USED are filled.
constexpr int LD = TD + span(DIM_D), LH = TH + span(DIM_H), LW_USED = TW + span(DIM_W);
static_assert(LW >= LW_USED, "room for the line");
constexpr int pitch_h = LW, pitch_d = LH * LW, pitch_plane = LD * pitch_d, pitch_n = PLANES * pitch_plane + NPAD;
static_assert(KPITCH >= TN * pitch_n, "room for the chunk");
__host__ __device__ constexpr int word_row(int k) { return k * KPITCH + SKEW * ((k >> 1) & 1); }
constexpr int XPART = (KW * KPITCH + 4) / 4 * 4, XBUFFER = PARTS * XPART;

// Weight words of a chunk, in fragment order: [part][tap][k-step][n-tile][lane][2]. The pitches spread what a warp
// stores at once (many columns and taps of one word of depth) over the banks.
constexpr int NTILE_PITCH = 66, TAP_WORDS = KS * NB / 8 * NTILE_PITCH;
constexpr int TAP_PITCH = TAP_WORDS + (36 - TAP_WORDS % 32) % 32, BPART = TAPS * TAP_PITCH, BBUFFER = PARTS * BPART;
__host__ __device__ constexpr int fragment_word(int kw, int n) {
  return (kw / 8 * (NB / 8) + n / 8) * NTILE_PITCH + (n % 8 * 4 + kw % 4) * 2 + kw / 4 % 2;
}

constexpr int B_WORDS = (RESIDENT ? CHUNKS : 2) * BBUFFER;
constexpr int REDUCE_WORDS = (WARPS_K - 1) * WARPS_M * WARPS_N * 32 * PHASES * MT * NT * 4;

/// Position -> word of the source tile, for tap reach 0. Additive over disjoint bits of the position.
constexpr int position_word(int p) {
  return p % TW + p / TW % TH * pitch_h + p / (TW * TH) % TD * pitch_d + p / (TW * TH * TD) * pitch_n;
}
/// Row r of half h of m-tile mt -> position within the warp's MT * 16. A lane's J positions are consecutive.
constexpr int row_position(int mt, int half, int r) {
  return J == 4 ? mt / 2 * 32 + r * 4 + mt % 2 * 2 + half : J == 2 ? mt * 16 + r * 2 + half : mt * 16 + half * 8 + r;
}

/// First sample and grid position of a tile.
struct Place {
  int n, d, h, w;
};
__device__ __forceinline__ Place place_of(const Arguments& a, int tile) {
  Place p;
  p.w = a.first[2] + tile % a.tiles_w * TW;
  tile /= a.tiles_w;
  p.h = a.first[1] + tile % a.tiles_h * TH;
  tile /= a.tiles_h;
  p.d = a.first[0] + tile % a.tiles_d * TD;
  p.n = tile / a.tiles_d * TN;
  return p;
}

}  // namespace gather
}  // namespace upconv
""",
    "mma/gather_stage.cuh": r"""// Bringing a chunk into shared memory, cut into PIECES (of its words) that alternate with products. Two ways:
//   ASYNC (fp32, channels first)  copied in the background during the first half of the products, then made into words
//                                 in place by the thread that copied them during the second half
//   else                          global -> registers, some products, registers -> words
// A thread keeps its places in source and weights ("slots"); only the channel moves.
#pragma once

#include "mma/gather_shape.cuh"

namespace upconv::gather {

constexpr int least(int a, int b) { return a < b ? a : b; }
constexpr int most(int a, int b) { return a > b ? a : b; }
constexpr int up(int a, int b) { return (a + b - 1) / b; }

constexpr int X_POSITIONS = TN * PLANES * LD * LH * LW_USED;
constexpr int X_SLOTS = SOURCE_LAST ? 1 : up(X_POSITIONS, THREADS);       // positions of a thread, all channels
constexpr int X_ITEMS = SOURCE_LAST ? up(X_POSITIONS * KW, THREADS) : 0;  // words of a thread, channels fastest
constexpr int W_SLOTS = up(NB * TAPS, THREADS);                           // (column, tap) pairs of a thread

constexpr int fetch_words = ((SOURCE_LAST ? X_ITEMS : X_SLOTS * KW) + (RESIDENT ? 0 : W_SLOTS * KW)) * PACK;
/// Pieces of a chunk, at most `slots` of them: a power of two that divides the words of a chunk.
constexpr int piece_count(int slots) {
  int n = 1;
  while (n * FETCH_REGISTERS < fetch_words && 2 * n <= slots && KW % (2 * n) == 0) n *= 2;
  return n;
}

/// One thread's registers of a piece.
template <int PIECES>
struct Piece {
  static constexpr int words = KW / PIECES, items = up(X_ITEMS, PIECES);
  u32 x[(SOURCE_LAST ? items : X_SLOTS * words) * PACK];
  u32 w[RESIDENT ? 1 : W_SLOTS * words * PACK];
};

constexpr bool ASYNC = BYTES == 4 && !SOURCE_LAST;
/// Pieces of a chunk that comes in the background while `slots` products are computed: two slots a piece.
constexpr int async_pieces(int slots) {
  int n = 1;
  while (n < 8 && 4 * n <= slots && KW % (2 * n) == 0) n *= 2;
  return n;
}

// TF32 words may also stay as they come and be rounded as fragments are loaded: cheaper where few fragments share them.
#if __CUDA_ARCH__ >= 900
constexpr bool X_RAW = ASYNC && MODE == Mode::tf32 && RAW_SOURCE,
               W_RAW = ASYNC && MODE == Mode::tf32 && !RESIDENT && RAW_WEIGHT;
#else
constexpr bool X_RAW = false, W_RAW = false;
#endif

constexpr bool deferred_d = !FORWARD && DIM_D.merged, deferred_h = !FORWARD && DIM_H.merged,
               deferred_w = !FORWARD && DIM_W.merged;  // bounds depend on the channel's residue

/// The chunk being brought in, and where this thread's slots lie in its tile. Where channels are not merged with
/// residues the pointers run along the channels, piece by piece.
struct Fetch {
  bool active;
  int chunk;
  Place place;
  const char* base;   ///< The tile's first source element: tile coordinate 0, channel 0 of the group, residue 0.
  u32 word[X_SLOTS];  ///< Bytes into a chunk's words, row 0; ~0u: no position.
  const char* pointer[X_SLOTS];
  bool inside[X_SLOTS];
  int d[X_SLOTS], h[X_SLOTS], w[X_SLOTS];
};
constexpr bool running = FORWARD || merged_volume == 1;

/// A source position by its number in the tile.
struct Spot {
  int n, plane, d, h, w;
};
__device__ __forceinline__ Spot spot_of(int i) {
  Spot s;
  s.w = i % LW_USED;
  i /= LW_USED;
  s.h = i % LH;
  i /= LH;
  s.d = i % LD;
  i /= LD;
  s.plane = i % PLANES;
  s.n = i / PLANES;
  return s;
}
__device__ __forceinline__ int spot_word(const Spot& s) {
  return s.n * pitch_n + s.plane * pitch_plane + s.d * pitch_d + s.h * pitch_h + s.w;
}

/// Source coordinate of tile coordinate 0 (residue 0), and how far tile coordinate c lies from it.
template <int DIM>
__device__ __forceinline__ int origin(const Arguments& a, Dimension dim, int place) {
  return FORWARD ? place - span(dim) : dim.stride * place - a.padding[DIM];
}
__device__ __forceinline__ int distance(Dimension dim, int c, int plane) {
  return FORWARD ? c : dim.stride * c + (dim.merged ? 0 : used_residue(dim, plane));
}

/// Where the slots lie in shared memory, in any tile.
__device__ __forceinline__ void find_slots(Fetch& f) {
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      const int i = fresh_thread() + s * THREADS;
      f.word[s] = i < X_POSITIONS ? 4 * spot_word(spot_of(i)) : ~0u;
    }
  }
}

/// Places the slots of `tile`.
__device__ __forceinline__ void aim(const Arguments& a, Fetch& f, int group, int tile) {
  f.place = place_of(a, tile);
  const int d0 = origin<0>(a, DIM_D, f.place.d), h0 = origin<1>(a, DIM_H, f.place.h),
            w0 = origin<2>(a, DIM_W, f.place.w);
  f.base = static_cast<const char*>(a.source) +
           (f.place.n * a.source_n + i64(group) * (DEPTH / (FORWARD ? 1 : merged_volume)) * a.source_c +
            d0 * a.source_d + h0 * a.source_h + w0 * a.source_w) *
               BYTES;
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      const int i = fresh_thread() + s * THREADS;
      const Spot at = spot_of(i);
      const int d = distance(DIM_D, at.d, at.plane / (planes_h * planes_w)),
                h = distance(DIM_H, at.h, at.plane / planes_w % planes_h),
                w = distance(DIM_W, at.w, at.plane % planes_w);
      const bool ok = i < X_POSITIONS && f.place.n + at.n < a.batch &&
                      (deferred_d || unsigned(d0 + d) < unsigned(a.source_size[0])) &&
                      (deferred_h || unsigned(h0 + h) < unsigned(a.source_size[1])) &&
                      (deferred_w || unsigned(w0 + w) < unsigned(a.source_size[2]));
      const int offset = at.n * int(a.source_n) + d * int(a.source_d) + h * int(a.source_h) + w;
      f.pointer[s] = f.base + i64(offset) * BYTES;
      f.inside[s] = ok;
      f.d[s] = d0 + d;
      f.h[s] = h0 + h;
      f.w[s] = w0 + w;
    }
  }
}

/// The merged residues of a channel of depth (dx): which channel, and its step from residue 0.
struct Channel {
  int channel, d, h, w;
};
__device__ __forceinline__ Channel channel_of(int k) {
  if (FORWARD) return {k, 0, 0, 0};
  constexpr int sh = merged_stride(DIM_H), sw = merged_stride(DIM_W);
  const int r = k % merged_volume;
  return {k / merged_volume, r / (sh * sw), r / sw % sh, r % sw};
}

/// Bytes from channel 0, residue 0 to the channel of depth `k`.
__device__ __forceinline__ i64 source_step(const Arguments& a, int k) {
  if (FORWARD || merged_volume == 1) return k * a.source_c * BYTES;
  const Channel c = channel_of(k);
  return (c.channel * a.source_c + c.d * a.source_d + c.h * a.source_h + c.w * a.source_w) * BYTES;
}

// Weights: a thread's (column, tap) pairs.
struct WeightSlots {
  const char* pointer[W_SLOTS];  ///< At depth 0; it runs along the depth where nothing is merged with it.
  bool inside[W_SLOTS];          ///< There is such a column.
  u32 word[W_SLOTS];             ///< Bytes into a chunk's weights, word 0; ~0u: no slot.
};
__device__ __forceinline__ WeightSlots weight_slots(const Arguments& a, int group, int column0) {
  WeightSlots slots;
  const char* base = static_cast<const char*>(a.weight) + group * a.weight_group * BYTES;
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s) {
    const int i = fresh_thread() + s * THREADS;
    const int n = WEIGHT_LAST && FORWARD ? i % NB : i / TAPS, t = WEIGHT_LAST && FORWARD ? i / NB : i % TAPS;
    const int column = column0 + n;
    constexpr int sh = merged_stride(DIM_H), sw = merged_stride(DIM_W);
    const int r = FORWARD ? column % merged_volume : 0, wide = FORWARD ? column / merged_volume : column;
    int td = t / (taps_h * taps_w), th = t / taps_w % taps_h, tw = t % taps_w;
    if (DIM_D.merged) td = td * DIM_D.stride + r / (sh * sw);
    if (DIM_H.merged) th = th * DIM_H.stride + r / sw % sh;
    if (DIM_W.merged) tw = tw * DIM_W.stride + r % sw;
    slots.pointer[s] = base + (i64(wide) * W_WIDE + td * W_D + th * W_H + tw * W_W) * BYTES;
    slots.inside[s] = COLUMNS % NB == 0 || column < COLUMNS;
    slots.word[s] = i < NB * TAPS ? 4 * (t * TAP_PITCH + fragment_word(0, n)) : ~0u;
  }
  return slots;
}
/// Bytes from depth 0 of the weights to depth `k`.
__device__ __forceinline__ i64 weight_step(int k) {
  if (FORWARD || merged_volume == 1) return i64(k) * (W_DEEP * BYTES);
  const Channel c = channel_of(k);
  return (i64(c.channel) * W_DEEP + c.d * W_D + c.h * W_H + c.w * W_W) * BYTES;
}
/// The part of slot `s` that every thread has.
constexpr bool every_thread(int s, int slots) { return (s + 1) * THREADS <= slots; }

/// copy(j, s, address, inside, mine) for the numbers j of words [first, first + WORDS) of `chunk`, and every slot s.
template <int WORDS, class Copy>
__device__ __forceinline__ void walk_weights(WeightSlots& slots, int chunk, int first, Copy&& copy) {
#pragma unroll
  for (int j = 0; j < WORDS * PACK; ++j) {
    const int k = chunk * KC + first * PACK + j;
    const bool deep = DEPTH % KC == 0 || k < DEPTH;
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s)
      copy(j, s, slots.pointer[s] + (running ? i64(j) * (W_DEEP * BYTES) : weight_step(k)), deep && slots.inside[s],
           every_thread(s, NB * TAPS) || slots.word[s] != ~0u);
  }
  if (running)
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s) slots.pointer[s] += i64(WORDS * PACK) * (W_DEEP * BYTES);
}
/// Back to depth 0 after all chunks.
__device__ __forceinline__ void rewind(WeightSlots& slots) {
  if (running)
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s) slots.pointer[s] -= i64(CHUNKS * KC) * (W_DEEP * BYTES);
}
template <int WORDS>
__device__ __forceinline__ void store_weights(const WeightSlots& slots, int first, u32 b, const u32* raw) {
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s)
    if (every_thread(s, NB * TAPS) || slots.word[s] != ~0u)
#pragma unroll
      for (int j = 0; j < WORDS; ++j) {
        u32 word[PARTS];
        to_words<MODE>(raw + (s * WORDS + j) * PACK, word);
#pragma unroll
        for (int p = 0; p < PARTS; ++p)
          store_shared(b + slots.word[s] + 4 * (p * BPART + fragment_word(first + j, 0)), word[p]);
      }
}

/// Whether a slot's channel, with its residue, lies inside the source.
__device__ __forceinline__ bool slot_inside(const Arguments& a, const Fetch& f, int s, const Channel& c) {
  bool ok = f.inside[s];
  if (deferred_d) ok = ok && unsigned(f.d[s] + c.d) < unsigned(a.source_size[0]);
  if (deferred_h) ok = ok && unsigned(f.h[s] + c.h) < unsigned(a.source_size[1]);
  if (deferred_w) ok = ok && unsigned(f.w[s] + c.w) < unsigned(a.source_size[2]);
  return ok;
}

/// copy(j, s, address, inside, mine) for the numbers j of words [first, first + WORDS) of the chunk, and every slot s.
template <int WORDS, class Copy>
__device__ __forceinline__ void walk_source(const Arguments& a, Fetch& f, int first, Copy&& copy) {
  const i64 channel_bytes = a.source_c * BYTES;
#pragma unroll
  for (int j = 0; j < WORDS * PACK; ++j) {
    const int k = f.chunk * KC + first * PACK + j;
    const bool deep = DEPTH % KC == 0 || k < DEPTH;
    const Channel c = channel_of(k);
    const i64 step = running ? 0 : source_step(a, k);
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      copy(j, s, f.pointer[s] + step, deep && slot_inside(a, f, s, c),
           every_thread(s, X_POSITIONS) || f.word[s] != ~0u);
      if (running) f.pointer[s] += channel_bytes;
    }
  }
}

template <int PIECES>
__device__ __forceinline__ void load_piece(const Arguments& a, Fetch& f, WeightSlots& weights, int piece,
                                           Piece<PIECES>& regs) {
  typedef Piece<PIECES> P;
  if (!f.active) return;
  if constexpr (!SOURCE_LAST) {
    walk_source<P::words>(a, f, piece * P::words, [&](int j, int s, const char* p, bool inside, bool mine) {
      regs.x[(s * P::words + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
    });
  } else {
    const int tid = fresh_thread();
#pragma unroll
    for (int i = 0; i < P::items; ++i) {
      const int item = (piece * P::items + i) * THREADS + tid;
      const Spot at = spot_of(item / KW);
      const int d = distance(DIM_D, at.d, at.plane / (planes_h * planes_w)),
                h = distance(DIM_H, at.h, at.plane / planes_w % planes_h),
                w = distance(DIM_W, at.w, at.plane % planes_w);
#pragma unroll
      for (int j = 0; j < PACK; ++j) {
        const int k = f.chunk * KC + item % KW * PACK + j;
        const Channel c = channel_of(k);
        const bool ok = f.active && item < X_POSITIONS * KW && k < DEPTH && f.place.n + at.n < a.batch &&
                        unsigned(origin<0>(a, DIM_D, f.place.d) + d + c.d) < unsigned(a.source_size[0]) &&
                        unsigned(origin<1>(a, DIM_H, f.place.h) + h + c.h) < unsigned(a.source_size[1]) &&
                        unsigned(origin<2>(a, DIM_W, f.place.w) + w + c.w) < unsigned(a.source_size[2]);
        const i64 offset = at.n * a.source_n + d * a.source_d + h * a.source_h + w * a.source_w;
        regs.x[i * PACK + j] = load_or_zero<BYTES>(f.base + source_step(a, k) + offset * BYTES, ok);
      }
    }
  }
  if constexpr (!RESIDENT)
    walk_weights<P::words>(
        weights, f.chunk, piece * P::words, [&](int j, int s, const char* p, bool inside, bool mine) {
          regs.w[(s * P::words + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
        });
}

/// `x` and `b` are the shared addresses of the buffers being filled.
template <int PIECES>
__device__ __forceinline__ void store_piece(const Fetch& f, const WeightSlots& weights, int piece, u32 x, u32 b,
                                            const Piece<PIECES>& regs) {
  typedef Piece<PIECES> P;
  if (!f.active) return;
  const int tid = fresh_thread();
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      if (every_thread(s, X_POSITIONS) || f.word[s] != ~0u) {
        const u32 spot = x + f.word[s];
#pragma unroll
        for (int j = 0; j < P::words; ++j) {
          u32 word[PARTS];
          to_words<MODE>(regs.x + (s * P::words + j) * PACK, word);
#pragma unroll
          for (int p = 0; p < PARTS; ++p)
            store_shared(spot + 4 * (word_row(piece * P::words + j) + p * XPART), word[p]);
        }
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < P::items; ++i) {
      const int item = (piece * P::items + i) * THREADS + tid;
      if (item < X_POSITIONS * KW) {
        const u32 at = x + 4 * (spot_word(spot_of(item / KW)) + word_row(item % KW));
        u32 word[PARTS];
        to_words<MODE>(regs.x + i * PACK, word);
#pragma unroll
        for (int p = 0; p < PARTS; ++p) store_shared(at + 4 * p * XPART, word[p]);
      }
    }
  }
  if constexpr (!RESIDENT) store_weights<P::words>(weights, piece * P::words, b, regs.w);
}

/// Begins the copies of words [first, first + WORDS) of a chunk's weights to `b`. The second number of a pair waits in
/// the second part.
template <int WORDS>
__device__ __forceinline__ void begin_weights(WeightSlots& slots, int chunk, int first, u32 b) {
  walk_weights<WORDS>(slots, chunk, first, [&](int j, int s, const char* p, bool inside, bool mine) {
    if (mine) copy_or_zero(b + slots.word[s] + 4 * (fragment_word(first + j / PACK, 0) + j % PACK * BPART), p, inside);
  });
}

/// Begins the copies of a piece into the buffers at `x` and `b`.
template <int PIECES>
__device__ __forceinline__ void begin_piece(const Arguments& a, Fetch& f, WeightSlots& weights, int piece, u32 x,
                                            u32 b) {
  constexpr int WORDS = KW / PIECES;
  if (!f.active) return;
  walk_source<WORDS>(a, f, piece * WORDS, [&](int j, int s, const char* p, bool inside, bool mine) {
    if (mine) copy_or_zero(x + f.word[s] + 4 * (word_row(piece * WORDS + j / PACK) + j % PACK * XPART), p, inside);
  });
  if constexpr (!RESIDENT) begin_weights<WORDS>(weights, f.chunk, piece * WORDS, b);
}

__device__ __forceinline__ void convert_in_place(u32 at, int part_words) {
  u32 raw[PACK], word[PARTS];
#pragma unroll
  for (int i = 0; i < PACK; ++i) raw[i] = load_shared(at + 4 * i * part_words);
  to_words<MODE>(raw, word);
#pragma unroll
  for (int i = 0; i < PARTS; ++i) store_shared(at + 4 * i * part_words, word[i]);
}

/// Makes words of what arrived.
template <int WORDS>
__device__ __forceinline__ void finish_weights(const WeightSlots& slots, int first, u32 b) {
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s)
    if (every_thread(s, NB * TAPS) || slots.word[s] != ~0u)
#pragma unroll
      for (int j = 0; j < WORDS; ++j) convert_in_place(b + slots.word[s] + 4 * fragment_word(first + j, 0), BPART);
}

template <int PIECES>
__device__ __forceinline__ void finish_piece(const Fetch& f, const WeightSlots& weights, int piece, u32 x, u32 b) {
  constexpr int WORDS = KW / PIECES;
  if (!f.active) return;
  if constexpr (!X_RAW)
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s)
      if (every_thread(s, X_POSITIONS) || f.word[s] != ~0u)
#pragma unroll
        for (int j = 0; j < WORDS; ++j) convert_in_place(x + f.word[s] + 4 * word_row(piece * WORDS + j), XPART);
  if constexpr (!RESIDENT && !W_RAW) finish_weights<WORDS>(weights, piece * WORDS, b);
}

}  // namespace upconv::gather
""",
    "mma/gather_store.cuh": r"""// From accumulators to the output: bias, epilogue, and one of two ways out. Empty phases receive the bias.
// STAGED: a warp interleaves the phases of its positions in shared memory and stores whole lines, 32 elements at once.
// else: runs of consecutive elements straight from the fragments, in as wide pieces as their address allows.
#pragma once

#include "epilogue/operands.cuh"
#include "mma/gather_shape.cuh"

namespace upconv::gather {

typedef Element Out;

template <class T>
__device__ __forceinline__ u32 pair_bits(float a, float b) {
  return u32(from_float<T>(a).bits) | u32(from_float<T>(b).bits) << 16;
}

/// Stores v[0..L) at elements [at, at + L) of `line`, those inside [0, size).
template <int L, class T>
__device__ __forceinline__ void store_run(T* line, int at, int size, const float (&v)[L]) {
  T* p = line + at;
  if (L > 1 && at >= 0 && at + L <= size) {
    const u32 address = static_cast<u32>(reinterpret_cast<unsigned long long>(p));
    if constexpr (sizeof(T) == 4) {
      if constexpr (L % 4 == 0) {
        if (address % 16 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 4)
            asm volatile("st.global.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(p + i), "f"(v[i]), "f"(v[i + 1]), "f"(v[i + 2]),
                         "f"(v[i + 3])
                         : "memory");
          return;
        }
      }
      if constexpr (L % 2 == 0) {
        if (address % 8 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 2)
            asm volatile("st.global.v2.f32 [%0], {%1,%2};" ::"l"(p + i), "f"(v[i]), "f"(v[i + 1]) : "memory");
          return;
        }
      }
    } else {
      if constexpr (L % 4 == 0) {
        if (address % 8 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 4)
            asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(p + i), "r"(pair_bits<T>(v[i], v[i + 1])),
                         "r"(pair_bits<T>(v[i + 2], v[i + 3]))
                         : "memory");
          return;
        }
      }
      if constexpr (L % 2 == 0) {
        if (address % 4 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 2)
            asm volatile("st.global.b32 [%0], %1;" ::"l"(p + i), "r"(pair_bits<T>(v[i], v[i + 1])) : "memory");
          return;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < L; ++i)
    if (unsigned(at + i) < unsigned(size)) p[i] = from_float<T>(v[i]);
}

typedef float Accumulators[PHASES][MT][NT][4];

__device__ __forceinline__ float with_bias(float v, float bias) { return HAS_BIAS ? v + bias : v; }

/// The epilogue of column `column` of the result's group, whose element `to` exists.
__device__ __forceinline__ float finish(const Arguments& a, const config::Operands& operands, float v, int n, int group,
                                        int column, const Out* to) {
  constexpr int merged = FORWARD ? merged_volume : 1;
  return config::epilogue(v, operands, n, group * (COLUMNS / merged) + column / merged,
                          to - static_cast<const Out*>(a.out));
}

__device__ __forceinline__ float bias_of(const Arguments& a, int group, int column) {
  if (!HAS_BIAS || column >= COLUMNS) return 0.0f;
  return to_float(static_cast<const Out*>(a.bias)[group * (COLUMNS / merged_volume) + column / merged_volume]);
}

/// `tile` is the place of the block's tile, `position0` the warp's first position in it, `column0` its first column.
__device__ __forceinline__ void store_tile(const Arguments& a, const config::Operands& operands, const Place& tile,
                                           int group, int position0, int column0, const Accumulators& acc) {
  constexpr int open_d = FORWARD ? open_stride(DIM_D) : 1, open_h = FORWARD ? open_stride(DIM_H) : 1,
                open_w = FORWARD ? open_stride(DIM_W) : 1;
  constexpr int RUNS = 2 * MT / J;  // runs of J positions a lane holds
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int run = 0; run < RUNS; ++run) {
    const int mt0 = J == 4 ? run * 2 : J == 2 ? run : run / 2, half0 = J == 1 ? run % 2 : 0;
    const int p = position0 + row_position(mt0, half0, lane / 4);
    const int qw = tile.w + p % TW, qh = tile.h + p / TW % TH, qd = tile.d + p / (TW * TH) % TD;
    const int n = tile.n + p / (TW * TH * TD);
    if (n >= a.batch) continue;
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      const int column = column0 + nt * 8 + lane % 4 * 2;
      const float bias[2] = {bias_of(a, group, column), bias_of(a, group, column + 1)};
#pragma unroll
      for (int pd = 0; pd < open_d; ++pd) {
#pragma unroll
        for (int ph = 0; ph < open_h; ++ph) {
          const bool line_filled =
              !FORWARD || (residue_used(DIM_D, DIM_D.merged ? 0 : pd) && residue_used(DIM_H, DIM_H.merged ? 0 : ph));
          const int row_phase = FORWARD ? (residues_below(DIM_D, pd) * phases_h + residues_below(DIM_H, ph)) : 0;
          // The value for element o of `line`; where operands are read it is not computed outside of the line.
          const auto value = [&](int pw, int j, int e, const Out* line, int o) {
            const bool filled = line_filled && (!FORWARD || residue_used(DIM_W, DIM_W.merged ? 0 : pw));
            const int phase = FORWARD ? row_phase * phases_w + residues_below(DIM_W, pw) : 0;
            const int mt = J == 4 ? mt0 + j / 2 : mt0, half = J == 1 ? half0 : j % 2;
            const float v = with_bias(filled ? acc[phase][mt][nt][half * 2 + e] : 0.0f, bias[e]);
            if (config::OPERANDS > 0 && unsigned(o) >= unsigned(a.out_size[2])) return v;
            return finish(a, operands, v, n, group, column + e, line + o * a.out_w);
          };
          const auto line_of = [&](int col, bool& ok) {
            const int r = col % merged_volume;
            const int channel =
                group * (COLUMNS / (FORWARD ? merged_volume : 1)) + (FORWARD ? col / merged_volume : col);
            int od = qd, oh = qh;
            if (FORWARD) {
              od = DIM_D.stride * qd - a.padding[0] +
                   (DIM_D.merged ? r / (merged_stride(DIM_H) * merged_stride(DIM_W)) : pd);
              oh = DIM_H.stride * qh - a.padding[1] +
                   (DIM_H.merged ? r / merged_stride(DIM_W) % merged_stride(DIM_H) : ph);
            }
            ok = col < COLUMNS && unsigned(od) < unsigned(a.out_size[0]) && unsigned(oh) < unsigned(a.out_size[1]);
            return static_cast<Out*>(a.out) + n * a.out_n + channel * a.out_c + od * a.out_d + oh * a.out_h;
          };
          const int ow = FORWARD ? DIM_W.stride * qw - a.padding[2] : qw;
          constexpr int merged_w = FORWARD ? merged_stride(DIM_W) : 1;
          if constexpr (OUT_LAST) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
              const int rw = (column + e) % merged_w;
#pragma unroll
              for (int j = 0; j < J; ++j)
#pragma unroll
                for (int pw = 0; pw < open_w; ++pw) {
                  const int o = ow + j * (FORWARD ? DIM_W.stride : 1) + rw + pw;
                  if (ok && unsigned(o) < unsigned(a.out_size[2]))
                    line[o * a.out_w] = from_float<Out>(value(pw, j, e, line, o));
                }
            }
          } else if constexpr (merged_w % 2 == 0) {  // the two columns are neighbours in w
            bool ok;
            Out* line = line_of(column, ok);
            if (!ok) continue;
            if constexpr (merged_w == 2) {
              float v[2 * J];
#pragma unroll
              for (int j = 0; j < J; ++j)
                v[2 * j] = value(0, j, 0, line, ow + 2 * j), v[2 * j + 1] = value(0, j, 1, line, ow + 2 * j + 1);
              store_run<2 * J>(line, ow, a.out_size[2], v);
            } else {
#pragma unroll
              for (int j = 0; j < J; ++j) {
                const int o = ow + j * merged_w + column % merged_w;
                float v[2] = {value(0, j, 0, line, o), value(0, j, 1, line, o + 1)};
                store_run<2>(line, o, a.out_size[2], v);
              }
            }
          } else if constexpr (merged_w > 1) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
#pragma unroll
              for (int j = 0; j < J; ++j) {
                const int o = ow + j * merged_w + (column + e) % merged_w;
                if (ok && unsigned(o) < unsigned(a.out_size[2])) line[o] = from_float<Out>(value(0, j, e, line, o));
              }
            }
          } else {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
              if (!ok) continue;
              float v[J * open_w];
#pragma unroll
              for (int j = 0; j < J; ++j)
#pragma unroll
                for (int pw = 0; pw < open_w; ++pw) v[j * open_w + pw] = value(pw, j, e, line, ow + j * open_w + pw);
              store_run<J * open_w>(line, ow, a.out_size[2], v);
            }
          }
        }
      }
    }
  }
}

// Staging: 8 columns (an n-tile) of BATCH positions, as LINES lines (columns, or columns / merged stride) of their
// rows.
constexpr int spread_w = FORWARD ? DIM_W.stride : 1, merged_w = FORWARD ? merged_stride(DIM_W) : 1,
              open_d = FORWARD ? open_stride(DIM_D) : 1, open_h = FORWARD ? open_stride(DIM_H) : 1,
              open_w = FORWARD ? open_stride(DIM_W) : 1;
constexpr int BATCH_TILES = J == 4 ? 2 : spread_w == 1 ? (MT < 4 ? MT : 4) : spread_w == 2 ? (MT < 2 ? MT : 2) : 1;
constexpr int BATCH = 16 * BATCH_TILES, LINES = 8 / merged_w;
static_assert(!STAGED || 8 % merged_w == 0, "an n-tile holds whole lines");
constexpr int LINE_PITCH = BATCH * spread_w + (merged_w == 1 && spread_w == 1 ? 4 : 1);
constexpr int STAGE_WORDS = STAGED ? (LINES * LINE_PITCH + 3) / 4 * 4 : 0;  // of a warp
constexpr int ROW_POSITIONS = TW < BATCH ? TW : BATCH;                      // neighbours in w
constexpr int ROW_WORDS = ROW_POSITIONS * spread_w, ROWS = BATCH / ROW_POSITIONS;
constexpr int ROWS_AT_ONCE = ROW_WORDS < 32 ? 32 / ROW_WORDS : 1;  // by a warp; rows under 32 words fill it together
constexpr int ROW_STEPS = (ROW_WORDS + 31) / 32;
constexpr int used_lanes = ROW_WORDS < 32 ? ROWS_AT_ONCE * ROW_WORDS : 32;

/// Stores the LINES lines of `batch`'s positions at columns [column, column + 8), row phase (pd, ph): from `stage`, or
/// where that is 0, what an empty phase holds. An epilogue that reads operands is applied here, where neighbouring
/// lanes have neighbouring elements; any other when the stage is filled.
__device__ __forceinline__ void store_lines(const Arguments& a, const config::Operands& operands, const Place& tile,
                                            int group, int first_position, int column, int pd, int ph, u32 stage) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int row0 = 0; row0 < ROWS; row0 += ROWS_AT_ONCE) {
    const int row = row0 + (ROWS_AT_ONCE > 1 ? lane / ROW_WORDS : 0);
    const int p = first_position + row * ROW_POSITIONS;
    const int n = tile.n + p / (TW * TH * TD);
    const int od = (FORWARD ? DIM_D.stride : 1) * (tile.d + p / (TW * TH) % TD) - (FORWARD ? a.padding[0] - pd : 0);
    const int oh = (FORWARD ? DIM_H.stride : 1) * (tile.h + p / TW % TH) - (FORWARD ? a.padding[1] - ph : 0);
    const int ow = spread_w * (tile.w + p % TW) - (FORWARD ? a.padding[2] : 0);
    const bool row_ok = row < ROWS && lane < used_lanes && n < a.batch;
    Out* base = static_cast<Out*>(a.out) + n * a.out_n + od * a.out_d + oh * a.out_h + ow;
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
      const int c = column + line * merged_w, r = c % merged_volume;
      const int rd = FORWARD && DIM_D.merged ? r / (merged_stride(DIM_H) * merged_stride(DIM_W)) : 0,
                rh = FORWARD && DIM_H.merged ? r / merged_stride(DIM_W) % merged_stride(DIM_H) : 0;
      const int channel = group * (COLUMNS / (FORWARD ? merged_volume : 1)) + (FORWARD ? c / merged_volume : c);
      const bool ok = row_ok && c < COLUMNS && unsigned(od + rd) < unsigned(a.out_size[0]) &&
                      unsigned(oh + rh) < unsigned(a.out_size[1]);
      Out* out = base + channel * a.out_c + rd * a.out_d + rh * a.out_h;
      float empty = stage ? 0.0f : with_bias(0.0f, bias_of(a, group, c));
      if (config::OPERANDS == 0 && !stage) empty = finish(a, operands, empty, n, group, c, out);
#pragma unroll
      for (int step = 0; step < ROW_STEPS; ++step) {
        const int word = (ROWS_AT_ONCE > 1 ? lane % ROW_WORDS : lane) + step * 32;
        const bool inside =
            (ROW_WORDS % 32 == 0 || word < ROW_WORDS) && ((ROWS % ROWS_AT_ONCE == 0 && used_lanes == 32) || row < ROWS);
        const u32 spot = line * LINE_PITCH + (inside ? row * ROW_WORDS + word : 0);
        float v = stage ? __uint_as_float(load_shared(stage + 4 * spot)) : empty;
        if (ok && inside && unsigned(ow + word) < unsigned(a.out_size[2])) {
          if constexpr (config::OPERANDS > 0) v = finish(a, operands, v, n, group, c, out + word);
          out[word] = from_float<Out>(v);
        }
      }
    }
  }
}

/// As store_tile; `stage` is the warp's shared address of STAGE_WORDS.
__device__ __forceinline__ void store_tile_staged(const Arguments& a, const config::Operands& operands,
                                                  const Place& tile, int group, int position0, int column0, u32 stage,
                                                  const Accumulators& acc) {
  const int lane = threadIdx.x % 32;
  constexpr int rows_d = FORWARD ? residues(DIM_D) : 1, rows_h = FORWARD ? residues(DIM_H) : 1;
#pragma unroll
  for (int batch = 0; batch < MT / BATCH_TILES; ++batch) {
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      const int column = column0 + nt * 8;
      const float bias[2] = {bias_of(a, group, column + lane % 4 * 2), bias_of(a, group, column + lane % 4 * 2 + 1)};
      static_for<0, rows_d * rows_h>([&](auto row_index) {
        constexpr int row = decltype(row_index)::value;
        __syncwarp();
        static_for<0, open_w>([&](auto residue_index) {
          constexpr int pw = decltype(residue_index)::value;
          constexpr int phase = FORWARD ? row * phases_w + residues_below(DIM_W, pw) : 0;
          constexpr bool here = !FORWARD || DIM_W.merged || residue_used(DIM_W, pw);
#pragma unroll
          for (int m = 0; m < BATCH_TILES; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              float sum = 0.0f;
              if constexpr (here) sum = acc[phase][batch * BATCH_TILES + m][nt][i];
              const int p = row_position(m, i / 2, lane / 4), c = lane % 4 * 2 + i % 2;
              float v = with_bias(sum, bias[i % 2]);
              if constexpr (config::OPERANDS == 0) v = finish(a, operands, v, 0, 0, 0, nullptr);
              store_shared(stage + 4 * (c / merged_w * LINE_PITCH + p * spread_w + (DIM_W.merged ? c % merged_w : pw)),
                           __float_as_uint(v));
            }
        });
        __syncwarp();
        store_lines(a, operands, tile, group, position0 + batch * BATCH, column,
                    FORWARD && !DIM_D.merged ? used_residue(DIM_D, row / rows_h) : 0,
                    FORWARD && !DIM_H.merged ? used_residue(DIM_H, row % rows_h) : 0, stage);
      });
    }
  }
  if constexpr (rows_d * rows_h < open_d * open_h) {
#pragma unroll 1
    for (int row = 0; row < open_d * open_h; ++row) {
      const int pd = row / open_h, ph = row % open_h;
      if (residue_used(DIM_D, pd) && residue_used(DIM_H, ph)) continue;
#pragma unroll 1
      for (int i = 0; i < MT / BATCH_TILES * NT; ++i)
        store_lines(a, operands, tile, group, position0 + i / NT * BATCH, column0 + i % NT * 8, pd, ph, 0);
    }
  }
}

}  // namespace upconv::gather
""",
    "gather_mma.cuh": r"""// forward and dx of dense and grouped problems on tensor cores: a gather of shifted source positions times weights.
//   out[n, column, position] = sum over entries (plane, reach) and depth k of source[n, k, position shifted] * w
// One block computes a tile of positions x NB columns for all its phases. Shared memory holds weights (all of the
// depth, or two chunks), two chunks of source words, and what split depth needs to be added up. See
// mma/gather_shape.cuh for the tile, mma/operand.cuh for the arithmetic. Floor: bytes of source and output once, or the
// products.
#pragma once

#include "mma/gather_shape.cuh"
#include "mma/gather_stage.cuh"
#include "mma/gather_store.cuh"
#include "ptx/dependents.cuh"

namespace upconv::gather {

// Dimensions whose taps are looped at run time (bit 0: D, 1: H, 2: W); all others are written out.
constexpr bool looped(int index) { return LOOP >> index & 1; }
constexpr int inner_entries(Dimension d, int index) { return looped(index) ? 1 : entries(d, FORWARD); }
constexpr int entries_d = inner_entries(DIM_D, 0), entries_h = inner_entries(DIM_H, 1),
              entries_w = inner_entries(DIM_W, 2);
constexpr int loops_d = looped(0) ? taps_d : 1, loops_h = looped(1) ? taps_h : 1, loops_w = looped(2) ? taps_w : 1;
constexpr int loop_words(Dimension d, int pitch) { return taps(d) > 1 ? reach(d, 1) * pitch * (FORWARD ? -1 : 1) : 0; }

constexpr int UNITS = entries_d * entries_h * entries_w * KSW;  // unrolled (entry, k-step) pairs
constexpr int LOOPS = loops_d * loops_h * loops_w;
constexpr int PIECES = ASYNC ? async_pieces(UNITS * LOOPS) : piece_count(UNITS * LOOPS);
constexpr int SHARES = (PIECES + LOOPS - 1) / LOOPS;  // pieces brought in during one run of the written-out units

constexpr int SLOTS = LOOPS == 1                                          ? least(UNITS, 2 * PIECES)
                      : UNITS * LOOPS >= 2 * PIECES && LOOPS < 2 * PIECES ? UNITS
                                                                          : 1;

/// Words from a position to what the i-th entry of a dimension reads of it.
constexpr int entry_shift(Dimension d, int index, int e) {
  const int r = looped(index) ? 0 : reach(d, entry_first(d, FORWARD, e));
  return FORWARD ? span(d) - r : r;
}
constexpr int entry_plane(Dimension d, int e) { return FORWARD ? 0 : residues_below(d, residue(d, e)); }

/// One entry, one k-step: the fragments of A once, for every (phase, tap) pair that reads them.
/// `x` is this lane's shared address in the source chunk, `b` in the weights.
template <int U>
__device__ __forceinline__ void multiply(u32 x, u32 b, Accumulators& acc) {
  constexpr int ks = U % KSW, e = U / KSW, ew = e % entries_w, eh = e / entries_w % entries_h,
                ed = e / (entries_w * entries_h);
  constexpr int shift =
      entry_shift(DIM_D, 0, ed) * pitch_d + entry_shift(DIM_H, 1, eh) * pitch_h + entry_shift(DIM_W, 2, ew) +
      ((looped(0) ? 0 : entry_plane(DIM_D, ed)) * planes_h * planes_w +
       (looped(1) ? 0 : entry_plane(DIM_H, eh)) * planes_w + (looped(2) ? 0 : entry_plane(DIM_W, ew))) *
          pitch_plane +
      ks * 8 * KPITCH;
  u32 a[PARTS][MT][4];
#pragma unroll
  for (int p = 0; p < PARTS; ++p)
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a[p][mt][i] =
            load_shared(x + 4 * (shift + p * XPART + i / 2 * 4 * KPITCH + position_word(row_position(mt, i % 2, 0))));
  if constexpr (X_RAW)
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[0][mt][i] = round_tf32(a[0][mt][i]);

  constexpr int list_d = looped(0) ? 1 : entry_size(DIM_D, FORWARD, ed),
                list_h = looped(1) ? 1 : entry_size(DIM_H, FORWARD, eh),
                list_w = looped(2) ? 1 : entry_size(DIM_W, FORWARD, ew);
  static_for<0, list_d * list_h * list_w>([&](auto index) {
    constexpr int l = decltype(index)::value;
    constexpr int td = (looped(0) ? 0 : entry_first(DIM_D, FORWARD, ed)) + l / (list_h * list_w),
                  th = (looped(1) ? 0 : entry_first(DIM_H, FORWARD, eh)) + l / list_w % list_h,
                  tw = (looped(2) ? 0 : entry_first(DIM_W, FORWARD, ew)) + l % list_w;
    constexpr int phase =
        !FORWARD ? 0
                 : (residues_below(DIM_D, residue(DIM_D, td)) * phases_h + residues_below(DIM_H, residue(DIM_H, th))) *
                           phases_w +
                       residues_below(DIM_W, residue(DIM_W, tw));
    const u32 tap = b + 4 * (((td * taps_h + th) * taps_w + tw) * TAP_PITCH + ks * (NB / 8) * NTILE_PITCH);
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      if constexpr (MODE == Mode::tf32x3) __syncwarp();  // else the assembler runs ahead with loads until it spills
      u32 w[PARTS][2];
#pragma unroll
      for (int p = 0; p < PARTS; ++p) load_shared2(tap + 4 * (p * BPART + nt * NTILE_PITCH), w[p][0], w[p][1]);
      if constexpr (W_RAW) {
        w[0][0] = round_tf32(w[0][0]);
        w[0][1] = round_tf32(w[0][1]);
      }
      constexpr Products P = products_of(MODE);
      if constexpr (MODE == Mode::tf32x3) {  // few truncated sums in a row, then a rounded one
#pragma unroll
        for (int mt = 0; mt < MT; ++mt) {
          float sum[4] = {0, 0, 0, 0};
          mma<P>(sum, a[PARTS - 1][mt], w[0][0], w[0][1]);
          mma<P>(sum, a[0][mt], w[PARTS - 1][0], w[PARTS - 1][1]);
          mma<P>(sum, a[0][mt], w[0][0], w[0][1]);
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[phase][mt][nt][i] += sum[i];
        }
      } else {
        if constexpr (MODE == Mode::bf16x3) {
#pragma unroll
          for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[PARTS - 1][mt], w[0][0], w[0][1]);
#pragma unroll
          for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[0][mt], w[PARTS - 1][0], w[PARTS - 1][1]);
        }
#pragma unroll
        for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[0][mt], w[0][0], w[0][1]);
      }
    }
  });
}

/// All products of a chunk, while the next one is brought in.
__device__ __forceinline__ void work(const Arguments& a, Fetch& next, WeightSlots& weights, u32 x, u32 b, u32 next_x,
                                     u32 next_b, Accumulators& acc) {
  Piece<PIECES> regs;
  int first = 0;  // the slot: run of the written-out units, times SHARES
#pragma unroll 1
  for (int d = 0; d < loops_d; ++d)
#pragma unroll 1
    for (int h = 0; h < loops_h; ++h)
#pragma unroll 1
      for (int w = 0; w < loops_w; ++w, first += SHARES) {
        const u32 xs =
            x + 4 * (d * loop_words(DIM_D, pitch_d) + h * loop_words(DIM_H, pitch_h) + w * loop_words(DIM_W, 1));
        const u32 bs = b + 4 * ((d * taps_h + h) * taps_w + w) * TAP_PITCH;
        if constexpr (ASYNC) {
          // Copies begin in the first slots and are finished in the last.
          static_for<0, SLOTS>([&](auto index) {
            constexpr int slot = decltype(index)::value;
            const int now = first / SHARES * SLOTS + slot, finish = LOOPS * SLOTS - PIECES;
            if (now < PIECES) begin_piece<PIECES>(a, next, weights, now, next_x, next_b);
            static_for<slot * UNITS / SLOTS, (slot + 1) * UNITS / SLOTS>(
                [&](auto unit) { multiply<decltype(unit)::value>(xs, bs, acc); });
            if constexpr (X_RAW && (RESIDENT || W_RAW)) {
              if (now == LOOPS * SLOTS - 1) wait_copies();
            } else if (now >= finish) {
              if (now == finish) wait_copies();
              finish_piece<PIECES>(next, weights, now - finish, next_x, next_b);
            }
          });
          continue;
        }
        static_for<0, SHARES>([&](auto index) {
          constexpr int share = decltype(index)::value;
          if (LOOPS == 1 || first + share < PIECES) load_piece<PIECES>(a, next, weights, first + share, regs);
          static_for<share * UNITS / SHARES, (share + 1) * UNITS / SHARES>(
              [&](auto unit) { multiply<decltype(unit)::value>(xs, bs, acc); });
          if (LOOPS == 1 || first + share < PIECES)
            store_piece<PIECES>(next, weights, first + share, next_x, next_b, regs);
        });
      }
}

}  // namespace upconv::gather

extern "C" __global__ void __launch_bounds__(upconv::gather::THREADS, config::BLOCKS)
    gather_mma(const upconv::Arguments a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::gather;
  let_next_begin();
  extern __shared__ __align__(16) u32 memory[];
  const u32 weights = shared_address(memory), sources = weights + 4 * B_WORDS;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M, warp_k = warp / (WARPS_N * WARPS_M);

  const int all_columns = a.groups * a.column_blocks;
  const int group = blockIdx.x % all_columns / a.column_blocks, column0 = blockIdx.x % a.column_blocks * NB;
  const int tiles = a.tiles_n * a.tiles_d * a.tiles_h * a.tiles_w, step = gridDim.x / all_columns;
  int tile = blockIdx.x / all_columns;

  // This lane's place in a source chunk and in the weights.
  const int position0 = warp_m * MT * 16, kq = lane % 4;
  const int lane_position = J == 4 ? lane / 4 * 4 : J == 2 ? lane / 4 * 2 : lane / 4;
  const u32 lane_x = 4 * (kq * KPITCH + SKEW * (kq >> 1) + position_word(lane_position) + position_word(position0) +
                          warp_k * KSW * 8 * KPITCH);
  const u32 lane_b = 4 * ((warp_k * KSW * (NB / 8) + warp_n * NT) * NTILE_PITCH + lane * 2);

  Fetch fetch;
  fetch.active = true;
  fetch.chunk = 0;
  find_slots(fetch);
  aim(a, fetch, group, tile);
  WeightSlots slots = weight_slots(a, group, column0);
  after_previous();
  if (tile >= tiles) return;
  if constexpr (RESIDENT && BYTES == 4) {
#pragma unroll 1
    for (int word = 0; word < CHUNKS * KW; ++word)
      begin_weights<1>(slots, word / KW, word % KW, weights + 4 * (word / KW) * BBUFFER);
    wait_copies();
#pragma unroll 1
    for (int word = 0; word < CHUNKS * KW; ++word)
      finish_weights<1>(slots, word % KW, weights + 4 * (word / KW) * BBUFFER);
  } else if constexpr (RESIDENT) {
    constexpr int WORDS = W_SLOTS * PACK > 8 ? 1 : W_SLOTS * PACK > 4 ? 2 : 4;
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; ++chunk)
#pragma unroll 1
      for (int word = 0; word < KW; word += WORDS) {
        u32 raw[W_SLOTS * WORDS * PACK];
#pragma unroll
        for (int i = 0; i < W_SLOTS * WORDS * PACK; ++i) raw[i] = 0;
        walk_weights<WORDS>(slots, chunk, word, [&](int j, int s, const char* p, bool inside, bool mine) {
          raw[(s * WORDS + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
        });
        store_weights<WORDS>(slots, word, weights + 4 * chunk * BBUFFER, raw);
      }
  }
  if constexpr (ASYNC) {
#pragma unroll 1
    for (int word = 0; word < KW; ++word) begin_piece<KW>(a, fetch, slots, word, sources, weights);
    wait_copies();
#pragma unroll 1
    for (int word = 0; word < KW; ++word) finish_piece<KW>(fetch, slots, word, sources, weights);
  } else
#pragma unroll 1
    for (int piece = 0; piece < PIECES; ++piece) {
      Piece<PIECES> regs;
      load_piece<PIECES>(a, fetch, slots, piece, regs);
      store_piece<PIECES>(fetch, slots, piece, sources, weights, regs);
    }
  block_barrier();

  int buffer = 0;
#pragma unroll 1
  for (; tile < tiles; tile += step) {
    const Place place = fetch.place;
    Accumulators acc;
#pragma unroll
    for (int p = 0; p < PHASES; ++p)
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[p][m][n][i] = 0.0f;
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      fetch.chunk = chunk + 1;
      if (fetch.chunk == CHUNKS) {
        fetch.chunk = 0;
        if (!RESIDENT) rewind(slots);
        fetch.active = tile + step < tiles;
        if (fetch.active) aim(a, fetch, group, tile + step);
      }
      work(a, fetch, slots, sources + 4 * buffer * XBUFFER + lane_x,
           weights + 4 * (RESIDENT ? chunk : buffer) * BBUFFER + lane_b, sources + 4 * (buffer ^ 1) * XBUFFER,
           weights + 4 * (buffer ^ 1) * BBUFFER, acc);
      block_barrier();
      buffer ^= 1;
    }
    if constexpr (WARPS_K > 1) {  // add up the warps' shares of the depth, in order
      const u32 sums = sources + 4 * 2 * XBUFFER;
      constexpr int SHARE = PHASES * MT * NT * 4;
      const u32 mine = sums + 4 * (((warp_m * WARPS_N + warp_n) * SHARE) * 32 + lane);
      constexpr int STRIDE = 4 * WARPS_M * WARPS_N * SHARE * 32;
      float* v = &acc[0][0][0][0];
      if (warp_k > 0)
#pragma unroll
        for (int i = 0; i < SHARE; ++i) store_shared(mine + (warp_k - 1) * STRIDE + 4 * 32 * i, __float_as_uint(v[i]));
      block_barrier();
      if (warp_k == 0) {
#pragma unroll
        for (int i = 0; i < SHARE; ++i)
#pragma unroll
          for (int k = 0; k < WARPS_K - 1; ++k) v[i] += __uint_as_float(load_shared(mine + k * STRIDE + 4 * 32 * i));
      }
    }
    if (warp_k == 0) {
      if constexpr (STAGED)
        store_tile_staged(a, operands, place, group, position0, column0 + warp_n * NT * 8,
                          sources + 4 * (2 * XBUFFER + REDUCE_WORDS + warp * STAGE_WORDS), acc);
      else
        store_tile(a, operands, place, group, position0, column0 + warp_n * NT * 8, acc);
    }
    if constexpr (WARPS_K > 1) block_barrier();
  }
}
""",
    "arguments/positions.cuh": r"""// What a launch of positions.cuh or scatter.cuh passes by value. launch/positions.hpp and src/cuda/scatter.cpp fill it.
#pragma once

namespace upconv::arguments {

struct Positions {
  int in_d, in_h, in_w;
  int out_d, out_h, out_w;
  int rows, columns;  ///< positions: blocks of UH rows per plane, and positions of a line (in threads)
  int positions;      ///< threads' worth of work of one (sample, group, channel tile); scatter: planes of positions
  int total;          ///< positions times batch
  int blocks;         ///< blocks a (group, channel tile)
  int steps;          ///< rounds of a block over its positions
  int slices;         ///< parts of a block that share the summed channels
  int vectors;        ///< output lines may be stored PHASES elements at a time
  int groups;
};

}  // namespace upconv::arguments
""",
    "positions/phases.cuh": r"""// The phase algebra of one dimension as constants, branchless loads, and the store of a thread's output phases: what
// cuda_positions and cuda_scatter share. A thread has the sums of U positions, all phases of each, COT channels.
#pragma once

#include "arguments/positions.cuh"
#include "epilogue/operands.cuh"
#include "types.cuh"

namespace upconv {

template <int dtype>
struct ElementOf {
  typedef float T;
};
template <>
struct ElementOf<1> {
  typedef f16 T;
};
template <>
struct ElementOf<2> {
  typedef bf16 T;
};
typedef ElementOf<config::DTYPE>::T Element;

/// Loads without a branch, so that many are in flight: zero where `ok` is zero.
__device__ __forceinline__ float load(const float* at, u32 ok) {
  float r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.f32 %0, 0f00000000;\n@p ld.global.f32 %0, [%1];\n}"
      : "=f"(r)
      : "l"(at), "r"(ok));
  return r;
}
__device__ __forceinline__ u16 load_bits(const void* at, u32 ok) {
  u16 r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.b16 %0, 0;\n@p ld.global.b16 %0, [%1];\n}"
      : "=h"(r)
      : "l"(at), "r"(ok));
  return r;
}
__device__ __forceinline__ float load(const f16* at, u32 ok) {
  f16 r;
  r.bits = load_bits(at, ok);
  return to_float(r);
}
__device__ __forceinline__ float load(const bf16* at, u32 ok) {
  return __uint_as_float(static_cast<u32>(load_bits(at, ok)) << 16);
}

typedef arguments::Positions PositionsShape;

/// The algebra of one dimension, entirely constant.
template <int kernel, int stride, int padding, int dilation, int shift, bool dx>
struct Axis {
  static constexpr int taps = kernel;
  static constexpr int phases = dx ? 1 : stride;
  static constexpr int step = dx ? stride : 1;
  /// The phase that tap t reaches (forward), and the input position it reads for position u, less step*u.
  static constexpr __device__ int phase(int t) {
    return dx ? 0 : ((shift - padding + dilation * t) % stride + stride) % stride;
  }
  static constexpr __device__ int offset(int t) {
    return dx ? dilation * t - padding : (phase(t) - shift + padding - dilation * t) / stride;
  }
  static constexpr __device__ int lowest() {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = offset(t) < r ? offset(t) : r;
    return r;
  }
  static constexpr __device__ int highest() {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = offset(t) > r ? offset(t) : r;
    return r;
  }
  static constexpr int low = lowest();
  static constexpr int reach = highest() - lowest() + 1;  ///< inputs one position spans
  static constexpr __device__ int window(int positions) { return step * (positions - 1) + reach; }
};

typedef Axis<config::KD, config::SD, config::PD, config::DD, config::SHIFT_D, config::DX> AxisD;
typedef Axis<config::KH, config::SH, config::PH, config::DH, config::SHIFT_H, config::DX> AxisH;
typedef Axis<config::KW, config::SW, config::PW, config::DW, config::SHIFT_W, config::DX> AxisW;

using config::CI;
using config::COT;
using config::THREADS;
using config::UH;
using config::UW;
constexpr int U = UH * UW;
constexpr int TAPS = config::KD * config::KH * config::KW;
constexpr int PHASES = AxisD::phases * AxisH::phases * AxisW::phases;
constexpr int WD = AxisD::reach, WH = AxisH::window(UH), WW = AxisW::reach;
constexpr bool GROUP_LANES = config::GROUP_LANES;
constexpr int LANES = GROUP_LANES ? 32 : 1;  ///< weights apart by lane
static_assert(UH == 1 || UW == 1, "positions of a thread lie along one dimension");
static_assert(WW <= 32, "a row of the window has one bit a column in a mask");

constexpr int LINE_BYTES = AxisW::phases * int(sizeof(Element));
constexpr bool CAN_PACK =
    !config::OUT_CL && (LINE_BYTES == 4 || LINE_BYTES == 8 || LINE_BYTES == 16) && AxisW::phases > 1;
/// A thread's outputs of one line, stored as one vector.
struct __align__(CAN_PACK ? LINE_BYTES : 4) Pack {
  Element v[AxisW::phases];
};
constexpr bool STAGED = !config::OUT_CL && AxisW::phases > 1;

/// Where a thread's rows lie, and which of them exist.
struct Place {
  int n, ud, uh, uw;
  bool active;
};

struct Sums {
  float v[U][PHASES][COT];
};

/// Stores without a branch: nothing where `ok` is zero.
__device__ __forceinline__ void put(float* at, float v, u32 ok) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}" ::"l"(at), "f"(v), "r"(ok));
}
template <class T>
__device__ __forceinline__ void put(T* at, T v, u32 ok) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.b16 [%0], %1;\n}" ::"l"(at), "h"(v.bits),
               "r"(ok));
}

/// Where the epilogue of a thread's own sums reads operands: `channel` is the tile's first, of all groups, and `at` its
/// element of the first sample in y.
struct OwnPlace {
  const config::Operands& operands;
  int channel;
  i64 at;
};

/// Stores the sums of one thread. `out` is the first sample's first channel of the tile. A row here is a position and
/// its outer phases; of each row the thread stores PIECES elements: its own phases (at once when they are `packed`)
/// or, staged, elements lane + 32*k of the warp's run, which belong to lane (lane + 32*k) / phases.
__device__ __forceinline__ void store(const Sums& sums, Element* out, const Element* bias, int channels, const Place& p,
                                      const PositionsShape& s, float* line, const OwnPlace& own) {
  constexpr int PIECES = AxisW::phases, ROWS = U * AxisD::phases * AxisH::phases;
  static_assert(ROWS <= 32, "one bit a row in a mask");
  const int lane = threadIdx.x & 31;
  const i64 volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 sample_pitch = volume * s.groups * config::CO, channel_pitch = config::OUT_CL ? 1 : volume;
  const bool packed = CAN_PACK && s.vectors;
  const int row_pitch = s.out_w * config::OUT_COLUMN, plane_pitch = s.out_h * row_pitch;
  Element* to[PIECES];
  u32 exists[PIECES];  ///< bit r: this piece of row r lies inside the output
#pragma unroll
  for (int k = 0; k < PIECES; ++k) {
    int n = p.n, ud = p.ud, uh = p.uh, uw = p.uw, e = k;
    bool active = p.active;
    if (STAGED && !packed) {
      const int owner = (lane + 32 * k) / PIECES;
      e = (lane + 32 * k) % PIECES;
      active = __shfl_sync(0xffffffffu, int(p.active), owner);
      n = __shfl_sync(0xffffffffu, n, owner);
      ud = __shfl_sync(0xffffffffu, ud, owner);
      uh = __shfl_sync(0xffffffffu, uh, owner);
      uw = __shfl_sync(0xffffffffu, uw, owner);
    }
    const int d0 = AxisD::phases * ud - config::SHIFT_D, h0 = AxisH::phases * UH * uh - config::SHIFT_H;
    const int w0 = AxisW::phases * uw + e - config::SHIFT_W;
    to[k] = out + n * sample_pitch + (static_cast<i64>(d0 * s.out_h + h0) * s.out_w + w0) * config::OUT_COLUMN;
    exists[k] = 0;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int eh = r % AxisH::phases, ed = r / AxisH::phases % AxisD::phases, u = r / AxisH::phases / AxisD::phases;
      const int dh = (UH > 1 ? AxisH::phases * u : 0) + eh, dw = UW > 1 ? AxisW::phases * 32 * u : 0;
      if (active && static_cast<u32>(d0 + ed) < static_cast<u32>(s.out_d) &&
          static_cast<u32>(h0 + dh) < static_cast<u32>(s.out_h) &&
          static_cast<u32>(w0 + dw) < static_cast<u32>(s.out_w))
        exists[k] |= 1u << r;
    }
  }
#pragma unroll
  for (int c = 0; c < COT; ++c) {
    if (c >= channels) continue;
    float b = 0.0f;
    if constexpr (config::BIAS) b = load(bias + c, p.active);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int eh = r % AxisH::phases, ed = r / AxisH::phases % AxisD::phases, u = r / AxisH::phases / AxisD::phases;
      const int dh = (UH > 1 ? AxisH::phases * u : 0) + eh, dw = UW > 1 ? AxisW::phases * 32 * u : 0;
      const int offset = ed * plane_pitch + dh * row_pitch + dw * config::OUT_COLUMN;
      Pack pack;
#pragma unroll
      for (int ew = 0; ew < AxisW::phases; ++ew) {
        float v = sums.v[u][(ed * AxisH::phases + eh) * AxisW::phases + ew][c];
        if constexpr (config::BIAS) v += b;
        if constexpr (config::OPERANDS > 0) {
          const int od = AxisD::phases * p.ud - config::SHIFT_D + ed;
          const int oh = AxisH::phases * UH * p.uh - config::SHIFT_H + dh;
          const int ow = AxisW::phases * p.uw - config::SHIFT_W + dw + ew;
          const bool inside = p.active && static_cast<u32>(od) < static_cast<u32>(s.out_d) &&
                              static_cast<u32>(oh) < static_cast<u32>(s.out_h) &&
                              static_cast<u32>(ow) < static_cast<u32>(s.out_w);
          const i64 place = (static_cast<i64>(od * s.out_h + oh) * s.out_w + ow) * config::OUT_COLUMN;
          if (inside)
            v = config::epilogue(v, own.operands, p.n, own.channel + c,
                                 own.at + p.n * sample_pitch + c * channel_pitch + place);
        } else {
          v = config::epilogue(v, own.operands, 0, 0, 0);
        }
        pack.v[ew] = from_float<Element>(v);
      }
      if constexpr (!STAGED) {
#pragma unroll
        for (int k = 0; k < PIECES; ++k) put(to[k] + offset, pack.v[k], exists[k] & (1u << r));
      } else if (packed) {
        if (exists[0] & (1u << r)) *reinterpret_cast<Pack*>(to[0] + offset) = pack;
      } else {
        Element* run = reinterpret_cast<Element*>(line);
        if constexpr (CAN_PACK) {
          *reinterpret_cast<Pack*>(run + lane * PIECES) = pack;
        } else {
#pragma unroll
          for (int ew = 0; ew < PIECES; ++ew) run[lane * PIECES + ew] = pack.v[ew];
        }
        __syncwarp();
#pragma unroll
        for (int k = 0; k < PIECES; ++k) put(to[k] + offset, run[lane + 32 * k], exists[k] & (1u << r));
        __syncwarp();
      }
    }
#pragma unroll
    for (int k = 0; k < PIECES; ++k) to[k] += channel_pitch;
  }
}

}  // namespace upconv
""",
    "positions.cuh": r"""// cuda_positions: forward and dx of problems with few channels a group, by fp32 multiply-adds at memory speed.
//
// A thread computes U positions of the coarse grid, for all of their output phases, for COT produced channels:
//   out[n, c, PHASES*u + e - SHIFT] = sum over summed channels and taps t that reach phase e of
//                                     in[n, ci, STEP*u + offset(e, t)] * w[ci, c, t].
// Forward: PHASES = stride, STEP = 1, in = x, out = y. dx: PHASES = 1, STEP = stride, in = dy, out = dx.
// Phases, taps and offsets are compile-time constants; a phase without taps costs its store. The block's weights lie
// in shared memory as fp32, read by all lanes at once; each tap's weight is read once for the thread's U positions.
//
// Two mappings: lanes along the line (channels first, or dense channels last), or lanes along the groups (channels
// last with one or few channels a group). With little work `slices` parts of a block share the summed channels of the
// same positions and add up in order through shared memory.
//
// Shared memory, in floats: weights [CI][taps][COT] ([..][32] with lanes along groups); at STAGE_AT a staging line a
// warp, through which phases are interleaved when a thread's outputs cannot be stored as one vector; at SLICES_AT the
// slices' sums. Floor: each tensor once through memory, or the products over the FFMA rate.
#include "positions/phases.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

/// The weights of one summed channel, [tap][COT], as a thread walks through them: four to a read, the same for all
/// lanes (or one a lane). Every index is a constant once the loops over taps are unrolled.
struct Weights {
  const float* at;
  float v[4];

  __device__ __forceinline__ float next(int index) {
    if constexpr (LANES > 1) {
      return at[index * LANES];
    } else {
      if (index % 4 == 0) {
        const float4 q = *reinterpret_cast<const float4*>(at + index);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
      }
      return v[index % 4];
    }
  }
};
constexpr int CHANNEL_WEIGHTS = (TAPS * COT + 3) / 4 * 4 * LANES;

struct Inputs {
  const Element* at;        ///< the window's first element of the first summed channel; may lie outside the tensor
  u32 columns[UW][WD][WH];  ///< bit c: column c of that row may be read
  int row_pitch, plane_pitch;
};

__device__ __forceinline__ Inputs locate(const Element* in, const Place& p, const PositionsShape& s) {
  Inputs r;
  const int d0 = AxisD::step * p.ud + AxisD::low, h0 = AxisH::step * (p.uh * UH) + AxisH::low;
  const int w0 = AxisW::step * p.uw + AxisW::low;
  r.at = in + (static_cast<i64>(d0 * s.in_h + h0) * s.in_w + w0) * config::IN_COLUMN;
  r.row_pitch = s.in_w * config::IN_COLUMN;
  r.plane_pitch = s.in_h * r.row_pitch;
#pragma unroll
  for (int j = 0; j < UW; ++j) {
    u32 columns = 0;
#pragma unroll
    for (int c = 0; c < WW; ++c)
      if (static_cast<u32>(w0 + AxisW::step * 32 * j + c) < static_cast<u32>(s.in_w)) columns |= 1u << c;
#pragma unroll
    for (int d = 0; d < WD; ++d)
#pragma unroll
      for (int h = 0; h < WH; ++h) {
        const bool ok = p.active && static_cast<u32>(d0 + d) < static_cast<u32>(s.in_d) &&
                        static_cast<u32>(h0 + h) < static_cast<u32>(s.in_h);
        r.columns[j][d][h] = ok ? columns : 0u;
      }
  }
  return r;
}

struct Window {
  float v[UW][WD][WH][WW];
};

__device__ __forceinline__ float read(const Inputs& in, const Element* at, int j, int d, int h, int w) {
  return load(at + d * in.plane_pitch + h * in.row_pitch + (AxisW::step * 32 * j + w) * config::IN_COLUMN,
              in.columns[j][d][h] & (1u << w));
}

__device__ __forceinline__ void read_window(Window& x, const Inputs& in, const Element* at) {
#pragma unroll
  for (int d = 0; d < WD; ++d)
#pragma unroll
    for (int h = 0; h < WH; ++h)
#pragma unroll
      for (int j = 0; j < UW; ++j)
#pragma unroll
        for (int w = 0; w < WW; ++w) x.v[j][d][h][w] = read(in, at, j, d, h, w);
}

constexpr __device__ int phase_of(int td, int th, int tw) {
  return (AxisD::phase(td) * AxisH::phases + AxisH::phase(th)) * AxisW::phases + AxisW::phase(tw);
}

/// One summed channel: every tap with the window value it pairs with.
__device__ __forceinline__ void add_channel(Sums& sums, const Window& x, const float* shared, int ci) {
  Weights weights{shared + ci * CHANNEL_WEIGHTS};
#pragma unroll
  for (int td = 0; td < config::KD; ++td)
#pragma unroll
    for (int th = 0; th < config::KH; ++th)
#pragma unroll
      for (int tw = 0; tw < config::KW; ++tw) {
        float w[COT];
#pragma unroll
        for (int c = 0; c < COT; ++c) w[c] = weights.next(((td * config::KH + th) * config::KW + tw) * COT + c);
#pragma unroll
        for (int u = 0; u < U; ++u) {
          const float v =
              x.v[UW > 1 ? u : 0][AxisD::offset(td) - AxisD::low]
                 [AxisH::offset(th) - AxisH::low + (UH > 1 ? AxisH::step * u : 0)][AxisW::offset(tw) - AxisW::low];
#pragma unroll
          for (int c = 0; c < COT; ++c) sums.v[u][phase_of(td, th, tw)][c] += v * w[c];
        }
      }
}

/// The same with rows read as the taps need them, for windows too large for registers (UH = 1).
__device__ __forceinline__ void add_channel_by_rows(Sums& sums, const Inputs& in, const Element* at,
                                                    const float* shared, int ci) {
  Weights weights{shared + ci * CHANNEL_WEIGHTS};
#pragma unroll
  for (int td = 0; td < config::KD; ++td)
#pragma unroll
    for (int th = 0; th < config::KH; ++th) {
      float x[UW][WW];
#pragma unroll
      for (int j = 0; j < UW; ++j)
#pragma unroll
        for (int w = 0; w < WW; ++w)
          x[j][w] = read(in, at, j, AxisD::offset(td) - AxisD::low, AxisH::offset(th) - AxisH::low, w);
#pragma unroll
      for (int tw = 0; tw < config::KW; ++tw) {
        float w[COT];
#pragma unroll
        for (int c = 0; c < COT; ++c) w[c] = weights.next(((td * config::KH + th) * config::KW + tw) * COT + c);
#pragma unroll
        for (int j = 0; j < UW; ++j)
#pragma unroll
          for (int c = 0; c < COT; ++c)
            sums.v[j][phase_of(td, th, tw)][c] += x[j][AxisW::offset(tw) - AxisW::low] * w[c];
      }
    }
}

/// Adds the slices' sums into slice 0's, in the order of a fixed tree.
__device__ __forceinline__ void add_slices(Sums& sums, float* shared, int slice, int slices, int thread, int per) {
  constexpr int count = U * PHASES * COT;
  float* mine = &sums.v[0][0][0];
  for (int half = slices / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (slice >= half && slice < 2 * half) {
      float* to = shared + ((slice - half) * count) * per + thread;
#pragma unroll
      for (int a = 0; a < count; ++a) to[a * per] = mine[a];
    }
    __syncthreads();
    if (slice < half) {
      const float* from = shared + (slice * count) * per + thread;
#pragma unroll
      for (int a = 0; a < count; ++a) mine[a] += from[a * per];
    }
  }
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(config::THREADS, config::BLOCKS)
    upconv_positions(const upconv::Element* in, const upconv::Element* w, const upconv::Element* bias,
                     upconv::Element* __restrict__ out, const upconv::PositionsShape s,
                     const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  extern __shared__ __align__(16) float shared[];
  constexpr int TILES = (config::CO + COT - 1) / COT;
  const int lane = threadIdx.x & 31;
  int block = blockIdx.x;
  const int tile = block % TILES;
  block /= TILES;
  const int part = block % s.blocks;
  block /= s.blocks;
  const int first_group = block * LANES;
  const int group = first_group + (GROUP_LANES ? lane : 0);
  const int c0 = tile * COT;
  after_previous(in, bias);

  // Weights to shared memory: [CI][CHANNEL_WEIGHTS / LANES][LANES].
  for (int i = threadIdx.x; i < CI * CHANNEL_WEIGHTS; i += THREADS) {
    const int l = i % LANES, flat = i / LANES % (CHANNEL_WEIGHTS / LANES), ci = i / CHANNEL_WEIGHTS;
    const int c = flat % COT, tap = flat / COT;
    const int tw = tap % config::KW, th = tap / config::KW % config::KH, td = tap / config::KW / config::KH;
    float v = 0.0f;
    if (tap < TAPS && c0 + c < config::CO && first_group + l < s.groups)
      v = to_float(w[static_cast<i64>(first_group + l) * config::W_GROUP + ci * config::W_IN +
                     (c0 + c) * config::W_OUT + td * config::W_TD + th * config::W_TH + tw * config::W_TW]);
    shared[i] = v;
  }
  __syncthreads();

  const int per_slice = THREADS / s.slices;  // a multiple of 32
  const int slice = threadIdx.x / per_slice, thread = threadIdx.x % per_slice;
  const int per = GROUP_LANES ? per_slice / 32 : per_slice;
  const int local = GROUP_LANES ? thread / 32 : thread;
  const int chunk = (CI + s.slices - 1) / s.slices;
  const int ci_begin = slice * chunk, ci_end = ci_begin + chunk < CI ? ci_begin + chunk : CI;

  const i64 in_volume = static_cast<i64>(s.in_d) * s.in_h * s.in_w;
  const i64 out_volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 in_channel = static_cast<i64>(group) * CI, out_channel = static_cast<i64>(group) * config::CO + c0;
  const Element* from = in + (config::IN_CL ? in_channel : in_channel * in_volume);
  Element* to = out + (config::OUT_CL ? out_channel : out_channel * out_volume);
  const i64 in_sample = in_volume * (static_cast<i64>(s.groups) * CI);
  const i64 ci_pitch = config::IN_CL ? 1 : in_volume;
  float* line = shared + config::STAGE_AT + (threadIdx.x / 32) * (32 * AxisW::phases);

  for (int step = 0; step < s.steps; ++step) {
    const int index = (part * s.steps + step) * per + local;
    Place p;
    p.active = index < s.total && group < s.groups;
    p.n = static_cast<u32>(index) / static_cast<u32>(s.positions);
    const u32 rest = index - p.n * s.positions;
    const u32 row = rest / static_cast<u32>(s.columns), column = rest - row * s.columns;
    p.uw = UW > 1 ? column / 32 * (32 * UW) + column % 32 : column;
    p.ud = config::FLAT ? 0 : row / static_cast<u32>(s.rows);
    p.uh = row - p.ud * s.rows;
    const Inputs inputs = locate(from + p.n * in_sample, p, s);
    Sums sums;
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int e = 0; e < PHASES; ++e)
#pragma unroll
        for (int c = 0; c < COT; ++c) sums.v[u][e][c] = 0.0f;
    if constexpr (!config::WHOLE) {
#pragma unroll 1
      for (int ci = ci_begin; ci < ci_end; ++ci)
        add_channel_by_rows(sums, inputs, inputs.at + ci * ci_pitch, shared + (GROUP_LANES ? lane : 0), ci);
    } else if constexpr (CI == 1) {
      Window x;
      read_window(x, inputs, inputs.at);
      add_channel(sums, x, shared + (GROUP_LANES ? lane : 0), 0);
    } else if (ci_begin < ci_end) {
      Window x;
      const Element* at = inputs.at + ci_begin * ci_pitch;
      read_window(x, inputs, at);
#pragma unroll 1
      for (int ci = ci_begin; ci < ci_end; ++ci) {
        Window next;
        at += ci_pitch;
        if (ci + 1 < ci_end) read_window(next, inputs, at);
        add_channel(sums, x, shared + (GROUP_LANES ? lane : 0), ci);
        x = next;
      }
    }
    if (s.slices > 1) add_slices(sums, shared + config::SLICES_AT, slice, s.slices, thread, per_slice);
    if (slice == 0)
      store(sums, to, bias + out_channel, config::CO - c0, p, s, line, {operands, int(out_channel), to - out});
  }
}
""",
    "arguments/tensor_map.cuh": r"""// What a bulk copy of a tensor is told of it: the driver's 128 bytes. A kernel takes one by value, alone or in a
// struct, as a `const __grid_constant__` parameter, and gives its address to the instruction. launch/tensor_map.hpp
// describes what they are made from.
#pragma once

namespace upconv::arguments {

struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

}  // namespace upconv::arguments
""",
    "ptx/warpgroup.cuh": r"""// Hopper's own instructions (sm_90a): barriers in shared memory that count arrivals and bytes, bulk tensor copies, and
// what surrounds a warpgroup's products. The products themselves are written by the host (src/cuda/wgmma_text.hpp).
#pragma once

#include "arguments/tensor_map.cuh"
#include "types.cuh"

namespace upconv {

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(u32 b, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(b), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(u32 b) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(b) : "memory");
}
/// Without a branch: the assembler makes products wait for one another where one lies between them.
__device__ __forceinline__ void barrier_arrive_if(bool arrives, u32 b) {
  asm volatile(
      "{.reg .pred arrives; setp.ne.b32 arrives, %1, 0;\n@arrives mbarrier.arrive.shared.b64 _, [%0];}" ::"r"(b),
      "r"(static_cast<int>(arrives))
      : "memory");
}
/// Arrives, and has the barrier wait for `bytes` of bulk copies too.
__device__ __forceinline__ void barrier_expect(u32 b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
/// Has the barrier wait for `bytes` of bulk copies, without arriving.
__device__ __forceinline__ void barrier_expect_only(u32 b, int bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
/// 4, 8 or 16 bytes to shared memory in the background, zeros where `inside` is false (nothing is read then).
template <int bytes>
__device__ __forceinline__ void copy_async(u32 to, const void* from, bool inside) {
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(inside ? bytes : 0),
                 "n"(bytes)
                 : "memory");
}
/// 16 bytes through the L1: where the two halves of a sector of 32 bytes go to places apart, it is asked for once.
__device__ __forceinline__ void copy_async_cached(u32 to, const void* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
/// The first `count` of 4 bytes, then zeros; with count 0 nothing is read.
__device__ __forceinline__ void copy_word_async(u32 to, const void* from, int count) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(count) : "memory");
}
/// Where `wanted`: 16 bytes from memory, or zeros.
__device__ __forceinline__ void copy_async_if(bool wanted, u32 to, const void* from, bool inside) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %3, 0;\n@wanted cp.async.cg.shared.global [%0], [%1], 16, %2;}" ::"r"(
          to),
      "l"(from), "r"(inside ? 16 : 0), "r"(static_cast<int>(wanted))
      : "memory");
}
/// Arrives when the cp.async copies of this thread so far have ended.
__device__ __forceinline__ void barrier_arrive_after_copies(u32 b) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(b) : "memory");
}
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
__device__ __forceinline__ void barrier_wait(u32 b, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:}" ::"r"(b),
      "r"(parity)
      : "memory");
}
/// The named barrier `id` of `threads` threads.
__device__ __forceinline__ void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Counts as this thread's arrival at a named barrier, without waiting.
__device__ __forceinline__ void arrive_only(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Orders plain writes to shared memory before reads by products and bulk copies.
__device__ __forceinline__ void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// A box of a tensor of five dimensions, zeros where it lies outside. `to` is a multiple of 128.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int w, int h, int d,
                                         int c, int n) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(w), "r"(h), "r"(d), "r"(c), "r"(n)
      : "memory");
}

/// The same of a tensor of two dimensions.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

/// The same of a tensor of three dimensions.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int column, int row,
                                         int plane) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(plane)
      : "memory");
}

/// `bytes` that lie together, a multiple of 16 as both addresses are.
__device__ __forceinline__ void copy_bytes(u32 to, const void* from, int bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
/// Keeps reads of a product's sums behind the wait for it.
template <int count>
__device__ __forceinline__ void hold(float (&sums)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

/// Keeps what a product reads from being worked out between it and the products before.
template <int count>
__device__ __forceinline__ void hold(u32 (&words)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(words[i])::"memory");
}

/// An operand of a product without swizzle. With its depth contiguous: core matrices of 8 rows x 16 bytes, `depth`
/// bytes between neighbours in depth, `rows` between neighbours in rows. With its rows contiguous (16-bit types): core
/// matrices of 8 depths x 16 bytes, the same distances. It may start at any multiple of 16 bytes.
__device__ __forceinline__ constexpr u64 descriptor(u32 depth, u32 rows) {
  return u64(rows >> 4) << 32 | (depth >> 4) << 16;
}
/// The same with its rows contiguous, 64 of them in 128 bytes, whose pieces of 16 change places as bulk copies leave
/// them: eight depths are 1024 bytes, `rows` bytes between neighbours of 64 rows. It starts at a multiple of 1024.
__device__ __forceinline__ constexpr u64 swizzled_descriptor(u32 rows) {
  return u64(1) << 62 | u64(1024 >> 4) << 32 | (rows >> 4) << 16;
}
/// An operand with its depth contiguous, rows of 128 bytes, swizzled alike: eight rows are 1024 bytes. It starts at a
/// multiple of 1024, or 32, 64 or 96 bytes behind one.
__device__ __forceinline__ constexpr u64 row_descriptor() { return swizzled_descriptor(16); }
/// An address of this block as descriptors count it. (In a cluster it may have bits that say whose it is.)
__device__ __forceinline__ u32 units_of(u32 address) { return (address & 0x3ffff) >> 4; }

/// B of a product: core matrices of 8 x 16 bytes without swizzle, `step_k` bytes between neighbours in k, 128 between
/// neighbours in n. `units` is its address in units of 16 bytes.
template <u32 step_k>
__device__ __forceinline__ u64 b_descriptor(u32 units) {
  return u64(128 >> 4) << 32 | (step_k >> 4) << 16 | units;
}

__device__ __forceinline__ u32 round_tf32(float v) {
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ u32 pack_bf16(float first, float second) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}
/// What pack_bf16's two numbers left over, packed.
__device__ __forceinline__ u32 pack_rest(float first, float second, u32 high) {
  return pack_bf16(first - __uint_as_float(high << 16), second - __uint_as_float(high & 0xffff0000u));
}

/// Four matrices of 8 x 8 16-bit numbers, turned: lane i has the address of row i % 8 of matrix i / 8; of each matrix a
/// lane gets rows 2 * (i % 4) and the next, column i / 4.
__device__ __forceinline__ void load_turned(u32 address, u32 (&v)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}
/// The same numbers as rows: lane i has the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void store_matrices(u32 address, const u32 (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v[0]), "r"(v[1]),
               "r"(v[2]), "r"(v[3])
               : "memory");
}

/// Of this block among those of its cluster, and the address of what lies at `address` of block `rank`.
__device__ __forceinline__ int rank_in_cluster() {
  u32 r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return static_cast<int>(r);
}
__device__ __forceinline__ u32 address_in(int rank, u32 address) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}
__device__ __forceinline__ float4 load_quad_in_cluster(u32 address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
/// Four numbers to a block of the cluster in the background, whose barrier counts their 16 bytes; both addresses are of
/// that block.
__device__ __forceinline__ void send_quad(u32 to, const float4& v, u32 barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
      : "memory");
}
/// The sum of what lies at `address` of each of the cluster's `blocks` blocks, always added in their order.
template <int blocks>
__device__ __forceinline__ float4 add_quads_in_cluster(u32 address) {
  float4 sum = load_quad_in_cluster(address_in(0, address));
#pragma unroll
  for (int rank = 1; rank < blocks; ++rank) {
    const float4 v = load_quad_in_cluster(address_in(rank, address));
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  return sum;
}
/// All threads of all blocks of the cluster meet; what they wrote to shared memory is seen, and what they wanted of it
/// is read: the arrival must be a release. Past a relaxed one ptxas leaves loads from other blocks on their way, and
/// those may be gone by then.
__device__ __forceinline__ void meet_cluster() {
  __syncwarp();  // both instructions want whole warps
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ u32 load_word(u32 address) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ u32 load_half(u32 address) {
  u16 v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ void load(u32 address, u16& v) {
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, u32& v) {
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, uint2& v) {
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, uint4& v) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
}
/// 16 or 8 bytes to global memory, without a branch.
__device__ __forceinline__ void store_global_if(bool wanted, void* to, const u32 (&v)[4]) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %5, 0;\n@wanted st.global.v4.b32 [%0], {%1, %2, %3, %4};}" ::"l"(to),
      "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(static_cast<int>(wanted))
      : "memory");
}
__device__ __forceinline__ void store_global_if(bool wanted, void* to, u32 x, u32 y) {
  asm volatile("{.reg .pred wanted; setp.ne.b32 wanted, %3, 0;\n@wanted st.global.v2.b32 [%0], {%1, %2};}" ::"l"(to),
               "r"(x), "r"(y), "r"(static_cast<int>(wanted))
               : "memory");
}
__device__ __forceinline__ void store_word(u32 address, u32 v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
__device__ __forceinline__ void store_pair(u32 address, u32 x, u32 y) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void store_quad(u32 address, u32 x, u32 y, u32 z, u32 w) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

}  // namespace upconv
""",
    "boxes/weights.cuh": r"""// The weights of boxes.cuh, as boxes_prepare.cuh prepares them: rounded or split, as the B operand of products, which
// is units of 16 bytes [half of k][slot][column]. A slot is a tap; taps whose products are done in one instruction have
// neighbouring slots. FOLDED: the source's high and low parts are the halves of k, so that both halves of B are the
// same 8 channels, and one of them is there. Part of both.
#pragma once

namespace upconv {

/// A 16-bit element as it lies in a word.
template <class Half>
__device__ __forceinline__ u32 bits_of(Half v) {
  return v.bits;
}
__device__ __forceinline__ u32 bits_of(float) { return 0; }

constexpr int halves = FOLDED ? 1 : 2;
constexpr int units = halves * SLOTS * NB;       ///< Of 16 bytes, of one part.
constexpr int weight_words = PARTS * units * 4;  ///< Of one product's channels and tap of the depth loop.
constexpr u32 part_bytes = units * 16, half_bytes = FOLDED ? 0 : SLOTS * NB * 16;

constexpr int channels_k = tf32 || FOLDED ? 8 : 16;  ///< Of a product.
constexpr int channels = channels_k * STEPS_K;       ///< Of a stage: a chunk.
constexpr int chunks = (K + channels - 1) / channels;
constexpr int steps = chunks * STEPS_K;  ///< Products over all channels.
/// The channel that word `word` of half `half` begins with; where a word is a pair, the second is 4 further.
__device__ constexpr int channel_of(int half, int word) { return (tf32 ? 4 : 8) * half + word; }

constexpr int shares_of_group = (N + NB - 1) / NB;

/// Of this block's share of the result channels, from `first` in the order [tap of the depth loop][product's channels],
/// `count` of them. By one thread; the barrier has been told of the bytes.
__device__ __forceinline__ void bring_weights(const u32* prepared, int share, int first, int count, u32 to,
                                              u32 barrier) {
  copy_bytes(to, prepared + (i64(share) * (LOOP_TAPS * steps) + first) * weight_words, count * (weight_words * 4),
             barrier);
}

}  // namespace upconv
""",
    "boxes_prepare.cuh": r"""// Prepares the weights for boxes.cuh: [group][share of the result channels][tap of the depth loop][product's channels]
// of what boxes/weights.cuh describes, so that each block's come by bulk copies. Floor: a launch; the bytes are few.
// Host side: src/cuda/boxes.cpp, which writes namespace config.
#include "ptx/dependents.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

}  // namespace upconv

#include "boxes/weights.cuh"

namespace upconv {

/// A thread a unit. Strides of w are in elements: source channel, result channel, tap, group. Lanes run along 8
/// columns, then along taps: neighbouring lanes write neighbouring units and read from few lines.
extern "C" __global__ void __launch_bounds__(256)
    boxes_prepare(const Element* w, u32* prepared, i64 w_k, i64 w_n, i64 w_tap, i64 w_group, i64 count) {
  let_next_begin();
  const i64 index = i64(blockIdx.x) * 256 + threadIdx.x;
  after_previous();
  if (index >= count) return;
  const int i = static_cast<int>(index % units), low = i % 8, t = i / 8 % SLOTS, block = i / 8 / SLOTS;
  const int n = block % (NB / 8) * 8 + low, half = block / (NB / 8);
  const i64 of = index / units;  // share, tap, step
  const int step = static_cast<int>(of % steps), tap = static_cast<int>(of / steps % LOOP_TAPS);
  const int share = static_cast<int>(of / steps / LOOP_TAPS), column = share % shares_of_group * NB + n;
  const Element* from = w + i64(share / shares_of_group) * w_group + i64(step) * channels_k * w_k + i64(column) * w_n +
                        i64(tap * SLOTS + t) * w_tap;
  u32* unit = prepared + of * weight_words + (half * (SLOTS * NB) + slot_of_tap[t] * NB + n) * 4;
  const auto value = [&](int c) { return column < N && step * channels_k + c < K ? from[c * w_k] : Element{}; };
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const int c = channel_of(half, word);
    if constexpr (tf32) {
      unit[word] = round_tf32(to_float(value(c)));
    } else if constexpr (PARTS == 2) {
      const float first = to_float(value(c)), second = to_float(value(c + 4));
      unit[word] = pack_bf16(first, second);
      unit[part_bytes / 4 + word] = pack_rest(first, second, unit[word]);
    } else {
      unit[word] = bits_of(value(c)) | bits_of(value(c + 4)) << 16;
    }
  }
}

}  // namespace upconv
""",
    "arguments/strides.cuh": r"""// Element strides of a tensor (N, C, D, H, W), as launches pass them by value.
#pragma once

namespace upconv::arguments {

struct Strides {
  long long n, c;
  long long d, h, w;
};

}  // namespace upconv::arguments
""",
    "arguments/boxes.cuh": r"""// What a launch of boxes.cuh passes by value. launch/boxes.hpp fills it, with void for Element.
#pragma once

#include "arguments/strides.cuh"
#include "arguments/tensor_map.cuh"

namespace upconv::arguments {

template <class Element>
struct Boxes {
  TensorMap map;  ///< Of src as (w, h, d, channel of a group, sample and group); only where `bulk`.
  const Element* src;
  const unsigned* weights;  ///< As boxes_prepare.cuh prepared them.
  const Element* bias;
  Element* out;
  Strides src_strides, out_strides;
  int groups, samples;
  int src_size[3], out_size[3];
  int first[3];   ///< The first q of each dimension.
  int extent[4];  ///< Positions of a warpgroup's box: n, d, h, w (of MERGE's dimension, ROWS together).
  int columns;    ///< Rows of its products along w: extent[3], but where OVERLAPPED source elements,
  int from_w;     ///< whose first lies so far from the first of a box's positions.
  int put_from;   ///< OVERLAPPED, a tap's products of a row set as they are staged: where those of the first source
  int read_from;  ///< element lie, where the first position reads those of the first tap,
  int line_room;  ///< and both from line to line.
  int step[4];    ///< From box to box: n, d, h, w.
  int second[4];  ///< Where the next warpgroup's box lies from one's, where they share a source.
  int boxes[3];   ///< Boxes in w, h, d.
  int all_boxes;  ///< For one share of the result channels.
  int round;      ///< Boxes that are worked on at once,
  int turn;       ///< and those of one depth, by which rounds are turned (boxes/balance.cuh); 0: they are not.
  int line;       ///< LINE: columns of the result that a box writes of a row, at most.
  int box[4];     ///< Source elements of a stage: n, d, h, w.
  int pitch_h, pitch_d, pitch_c, pitch_n;  ///< Of the source in a stage, in elements.
  int next_place[2];       ///< Bytes from where the row after a plane's (a sample's) last would lie to the next one's
  long long next_from[2];  ///< first, in a stage and in memory.
  int bulk;                ///< 1: the source comes by bulk copies of `bulk_bytes`.
  int bulk_bytes;
  int alike;  ///< 1: rows of all channels begin equally far from multiples of 16 bytes.
};

}  // namespace upconv::arguments
""",
    "ptx/arriving.cuh": r"""// Which lanes hand a stage back, in kernels whose preamble has EVERY_LANE (src/cuda/wgmma_text.hpp).
#pragma once

namespace upconv {

/// Lanes of a warp that say at a barrier that it has read a stage, behind __syncwarp(): one, for all that met there,
/// or, for tools which do not see that these have met, every one.
constexpr int arriving = config::EVERY_LANE ? 32 : 1;

}  // namespace upconv
""",
    "boxes/balance.cuh": r"""// Which box a worker (a block, or a ring of one) takes in each round. Where D is a loop, boxes of one depth take as
// long as taps reach it, which repeats every few depths; a worker whose boxes are always as many depths apart may have
// none but long ones. Then each round is turned by one depth more than the round before. Part of boxes.cuh.
#pragma once

namespace upconv {

/// A permutation of the boxes of each whole round, as launch/boxes.hpp (taken_box) has it too.
__device__ __forceinline__ int taken_box(const Arguments& a, int box) {
  if (!depth_loop || a.turn == 0) return box;
  const int round = box / a.round, first = round * a.round;
  return first > a.all_boxes - a.round ? box : first + (box - first + round * a.turn) % a.round;
}

}  // namespace upconv
""",
    "boxes/source.cuh": r"""// How the source of a stage gets into shared memory, as [n][channel][d][h][w] elements, zero outside of the tensor: by
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
""",
    "boxes/store.cuh": r"""// From a warpgroup's sums to the result: some channels at a time go through shared memory, where the phases of W
// interleave, and leave as lines that are contiguous in memory, through bias and epilogue. What an element's place is
// relative to its box is the same for all boxes and channels: it is worked out once, and what of it lies inside once a
// box. Where boxes are rows of positions (LINE), they overlap by less than a sector of 32 bytes, and of each row and
// channel those columns are written that make whole sectors. OVERLAPPED: what goes through shared memory are the
// products with each tap of W, which are added up where a lane reads them. Part of boxes.cuh.
#pragma once

#include "boxes/source.cuh"
#include "boxes/weights.cuh"

namespace upconv {

constexpr int positions = 64 * SEGMENTS;              ///< Of a warpgroup.
constexpr int row_sets = ROWS * USED_D * USED_H;      ///< Rows of the result that positions of one row lead to,
constexpr int all_sets = ROWS * PHASES_D * PHASES_H;  ///< and those without taps too.
constexpr int rows_in_d = rows_d * PHASES_D, rows_in_h = rows_h * PHASES_H;  ///< Of the result, of one position.
constexpr int at_once = sizeof(Element) == 2 ? 2 : 1;                        ///< Elements that a lane writes together.
/// Of a warp over the elements of one row set.
constexpr int rounds = ((OVERLAPPED ? ROOM : positions) * PHASES_W + 32 * at_once - 1) / (32 * at_once);
constexpr int set_elements = rounds * 32 * at_once;
constexpr int all_spots = set_elements / PHASES_W;  ///< Places of a row set's first phases.
/// Of a row set as it is staged: elements, or every tap's products, of ROOM source elements.
constexpr int set_words = OVERLAPPED ? TAPS_W * ROOM : positions * PHASES_W;
static_assert(!OVERLAPPED || PHASES_W == 1, "results of a tap lie as close as the source's elements");
/// Channels that are put together: of 8 neighbours every other one, a warp each, or all where they lie side by side in
/// the result. TOGETHER times as many are staged between two meetings.
constexpr int staged = result_last ? 8 : 4;
constexpr int channel_room = 8;  ///< Words at the end of a channel that nobody writes, at least.
/// What the lanes of a warp write at once lies in different banks: 8 (16) words apart.
constexpr int channel_pitch =
    result_last ? (row_sets * set_words + 7) / 8 * 8 + 4 : (row_sets * set_words + 15) / 16 * 16 + channel_room;
constexpr int place_words = TOGETHER * staged * channel_pitch,
              staging_words = 2 * place_words;  ///< Two places, written and read by turns.
constexpr int store_steps = NB / staged / TOGETHER;
static_assert(LINE || rounds * at_once <= 32, "a word of bits says which elements of a row set are inside");
constexpr int sets_of_word = LINE ? 1 : 32 / (rounds * at_once);  ///< Row sets whose bits are in one word.
constexpr int words_of_box = LINE ? 0 : (all_sets + sets_of_word - 1) / sets_of_word * 32;
constexpr int inside_words = 3 * words_of_box;  ///< Of a box that ends nowhere, and by turns of those that do.
static_assert(NB % (staged * TOGETHER) == 0, "steps of equal size");

/// Where the first phases of a position lie in the result, from those of the box's first position. `at` < 0: nowhere.
struct Spot {
  int at, w, h, dn;  ///< dn: 65536 * d + n.
};

__device__ __forceinline__ void find_spots(const Arguments& a, Spot* spots, int thread, int threads) {
  const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3];
  for (int i = thread; i < all_spots; i += threads) {
    const int w = i % a.extent[3] * PHASES_W, line = i / a.extent[3], h = line % a.extent[2] * rows_in_h;
    const int plane = line / a.extent[2], d = plane % a.extent[1] * rows_in_d, n = plane / a.extent[1];
    const i64 at = n * a.out_strides.n + d * a.out_strides.d + h * a.out_strides.h + w * a.out_strides.w;
    spots[i] = {i < count ? static_cast<int>(at) : -1, w, h, d << 16 | n};
  }
}

/// A row set: rows and phases of D and H.
struct RowSet {
  int d, h;    ///< Of the result, from a box's first row.
  int staged;  ///< Its number in the staging, -1: no tap reaches it.
};
__device__ __forceinline__ constexpr RowSet row_set(int set) {
  // Rows that follow each other in memory have neighbouring numbers.
  const int row = MERGE == 1 ? set / PHASES_H % ROWS : set / (PHASES_D * PHASES_H), ph = set % PHASES_H;
  const int pd = MERGE == 1 ? set / (PHASES_H * ROWS) : set / PHASES_H % PHASES_D;
  return {(MERGE == 0 ? row * PHASES_D : 0) + pd, (MERGE == 1 ? row * PHASES_H : 0) + ph,
          used_d[pd] < 0 || used_h[ph] < 0 ? -1 : (row * USED_D + used_d[pd]) * USED_H + used_h[ph]};
}

/// Few of them are written out in the code of each step; many are looked up.

__device__ __forceinline__ void find_sets(RowSet* sets, int thread) {
  if (thread < all_sets) sets[thread] = row_set(thread);
}

/// The result's coordinates of a box's first position and first phases.
struct Corner {
  int n, d, h, w;

  __device__ __forceinline__ explicit Corner(const Place& p)
      : n(p.n),
        d(backward || depth_loop ? p.q[0] : p.q[0] * PHASES_D - PADDING_D),
        h(backward ? p.q[1] : p.q[1] * PHASES_H - PADDING_H),
        w(backward ? p.q[2] : p.q[2] * PHASES_W - PADDING_W) {}
};

__device__ __forceinline__ bool is_inside(const Arguments& a, const Corner& c, const RowSet& set, const Spot& spot,
                                          int pw) {
  const int w = c.w + spot.w + pw, h = c.h + set.h + spot.h, d = c.d + set.d + (spot.dn >> 16);
  return spot.at >= 0 && w >= 0 && w < a.out_size[2] && h >= 0 && h < a.out_size[1] && d >= 0 && d < a.out_size[0] &&
         c.n + (spot.dn & 0xffff) < a.samples;
}

/// A bit for each element of a box that a lane writes, in words of some row sets; each warp finds a byte of every word.
/// `inside`: of (row set, position, phase of W).
template <class Inside>
__device__ __forceinline__ void find_bits(Inside&& inside, u32* words, int warp, int lane) {
  constexpr int of_set = rounds * at_once;
#pragma unroll 1
  for (int word = 0; word < words_of_box / 32; ++word) {
    u32 bits = 0;
#pragma unroll 4
    for (int i = 0; i < 8; ++i) {
      const int bit = warp * 8 + i, set = word * sets_of_word + bit / of_set, r = bit % of_set;
      if (bit >= sets_of_word * of_set || set >= all_sets) break;
      const int element = (r / at_once * 32 + lane) * at_once + r % at_once;
      bits |= static_cast<u32>(inside(set, element / PHASES_W, element % PHASES_W)) << i;
    }
    reinterpret_cast<unsigned char*>(words + word * 32 + lane)[warp] = static_cast<unsigned char>(bits);
  }
}

/// Whether all of a box is inside the result.
__device__ __forceinline__ bool ends_nowhere(const Arguments& a, const Corner& c) {
  return c.w >= 0 && c.w + a.extent[3] * PHASES_W <= a.out_size[2] && c.h >= 0 &&
         c.h + a.extent[2] * rows_in_h <= a.out_size[1] && c.d >= 0 && c.d + a.extent[1] * rows_in_d <= a.out_size[0] &&
         c.n + a.extent[0] <= a.samples;
}

/// Where a lane's products are staged, OVERLAPPED: rows lane / 4 and 8 more of each segment; -1: rows of no element.
struct Puts {
  int at[SEGMENTS][2];

  __device__ __forceinline__ Puts(const Arguments& a, int warp, int lane) {
    if constexpr (OVERLAPPED) {
      const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.columns;
#pragma unroll
      for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
          at[segment][half] = row < count ? a.put_from + row / a.columns * a.line_room + row % a.columns : -1;
        }
    }
  }
};

/// Where the products are staged that make up a lane's elements of a row set, OVERLAPPED.
struct Overlaps {
  int at[rounds][at_once];

  __device__ __forceinline__ Overlaps(const Arguments& a, int lane) {
    if constexpr (OVERLAPPED) {
#pragma unroll
      for (int e = 0; e < at_once; ++e) {
#pragma unroll
        for (int r = 0; r < rounds; ++r) {
          int place = (r * 32 + lane) * at_once + e;
          if (place >= a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3]) place = 0;
          at[r][e] = a.read_from + place / a.extent[3] * a.line_room + place % a.extent[3];
        }
      }
    }
  }
  /// Of the element whose number is `e` in round `r`, of the row set at `from`. No load waits for a branch.
  __device__ __forceinline__ float sum(const float* from, int r, int e) const {
    float all = from[at[r][e] + overlap_at[0]];
#pragma unroll
    for (int t = 1; t < TAPS_W; ++t) all += from[at[r][e] + overlap_at[t]];
    return all;
  }
};

/// Puts the channels of a step into the staging, [channel][row set][position][phase of W], or, OVERLAPPED,
/// [channel][row set][tap][source element].
template <int step>
__device__ __forceinline__ void put(const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Puts& puts, int warp,
                                    int lane) {
  constexpr int j = result_last ? step : step / 2;  // columns 8 j to 8 j + 7 of the sums
#pragma unroll
  for (int set = 0; set < row_sets; ++set)
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int both = 0; both < staged / 4; ++both) {
          const int odd = result_last ? both : step % 2;
          const int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
          float* to = staging + (result_last ? lane % 4 * 2 + odd : lane % 4) * channel_pitch + set * set_words +
                      (OVERLAPPED ? puts.at[segment][half] : position * PHASES_W);
          if constexpr (OVERLAPPED) {
#pragma unroll
            for (int tap = 0; tap < TAPS_W; ++tap)
              if (puts.at[segment][half] >= 0)
                to[tap * ROOM] = acc[(segment * (row_sets * USED_W) + block_of[set * USED_W + tap]) * (NB / 2) + j * 4 +
                                     half * 2 + odd];
            continue;
          }
          const auto sum = [&](int pw) {
            const int used = used_w[pw];
            return used < 0 ? 0.f
                            : acc[(segment * (row_sets * USED_W) + block_of[set * USED_W + used]) * (NB / 2) + j * 4 +
                                  half * 2 + odd];
          };
          if constexpr (PHASES_W % 4 == 0) {
#pragma unroll
            for (int pw = 0; pw < PHASES_W; pw += 4)
              *reinterpret_cast<float4*>(to + pw) = make_float4(sum(pw), sum(pw + 1), sum(pw + 2), sum(pw + 3));
          } else if constexpr (PHASES_W == 2) {
            *reinterpret_cast<float2*>(to) = make_float2(sum(0), sum(1));
          } else {
#pragma unroll
            for (int pw = 0; pw < PHASES_W; ++pw) to[pw] = sum(pw);
          }
        }
}

__device__ __forceinline__ float bias_of(const Arguments& a, const Place& p, int channel) {
  return has_bias ? to_float(a.bias[i64(p.group) * N + channel]) : 0.f;
}

__device__ __forceinline__ Element* corner_of(const Arguments& a, const Place& p, const Corner& c, int channel) {
  return a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c + c.d * a.out_strides.d +
         c.h * a.out_strides.h + c.w * a.out_strides.w;
}

/// What the sums of one channel become.
struct Finish {
  const Arguments& a;
  const Operands& operands;
  float bias;
  int channel;  ///< Of all groups.
  OfChannel of_channel;

  __device__ __forceinline__ Finish(const Arguments& of, const Operands& by, const Place& p, int number)
      : a(of),
        operands(by),
        bias(bias_of(of, p, number)),
        channel(p.group * N + number),
        of_channel(config::of_channel(by, channel)) {}
  /// What the element at `to` of sample n is made with, whether it exists or not.
  __device__ __forceinline__ OfElement read(bool exists, int n, const Element* to) const {
    return of_element(operands, exists, n, channel, to - a.out);
  }
  __device__ __forceinline__ Element operator()(float sum, const OfElement& with) const {
    return from_float<Element>(epilogue(has_bias ? sum + bias : sum, of_channel, with));
  }
};

__device__ __forceinline__ constexpr int largest_divisor(int of, int most) {
  while (of % most != 0) --most;
  return most;
}
/// An epilogue that is worth a loop.
constexpr bool long_epilogue = has_epilogue && !config::short_epilogue;
/// Elements that a lane finishes together, of one row set and of how many: with a long epilogue, one that finished one
/// after the other would wait for each, and so with sums of several loads.
constexpr int row_elements = rounds * at_once;
constexpr int finished_at_once = long_epilogue || OVERLAPPED ? at_once * largest_divisor(rounds, 8 / at_once) : at_once;
constexpr int sets_at_once = long_epilogue ? largest_divisor(all_sets, 8 / finished_at_once) : 1;
/// Written out, row sets and steps cost fewer instructions. A long epilogue is there once: what follows it, and more
/// than this of row sets, would no longer fit where instructions are kept.
constexpr bool sets_written_out =
    !long_epilogue &&
    all_sets * rounds * (NB / staged) * (has_epilogue ? 2 : 1) * (OVERLAPPED ? 1 + TAPS_W / 4 : 1) <= 192;
constexpr bool steps_written_out = !long_epilogue;

/// One channel by one warp, all row sets. `at`: bytes from the box's corner to the elements of a lane.
__device__ __forceinline__ void write_rows(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* staging, const Spot* spots, const RowSet* sets,
                                           const u32* inside, const u32 (&at)[rounds][at_once],
                                           const Overlaps& overlaps, int channel, int lane) {
  if (channel >= N) return;
  Element* corner = corner_of(a, p, c, channel);
  const u32 bytes_d = static_cast<u32>(a.out_strides.d) * sizeof(Element),
            bytes_h = static_cast<u32>(a.out_strides.h) * sizeof(Element);
  const Finish finish(a, operands, p, channel);
  constexpr int each = finished_at_once;
#pragma unroll(sets_written_out ? all_sets : 1)
  for (int i = 0; i < all_sets; i += sets_at_once) {
    Element* row[sets_at_once];
    const float* from[sets_at_once];
    u32 bits[sets_at_once];
#pragma unroll
    for (int k = 0; k < sets_at_once; ++k) {
      const RowSet set = sets_written_out ? row_set(i + k) : sets[i + k];
      row[k] = reinterpret_cast<Element*>(reinterpret_cast<char*>(corner) + (set.d * bytes_d + set.h * bytes_h));
      bits[k] = inside[(i + k) / sets_of_word * 32 + lane] >> (i + k) % sets_of_word * (rounds * at_once);
      from[k] = set.staged < 0 ? nullptr : staging + set.staged * set_words + (OVERLAPPED ? 0 : lane * at_once);
    }
#pragma unroll
    for (int first = 0; first < row_elements; first += each) {
      Element value[sets_at_once][each];
      float sum[sets_at_once][each];
      OfElement with[sets_at_once][each];
      const auto in = [&](int k, int e) { return (bits[k] >> (first + e) & 1) != 0; };
      const auto to = [&](int k, int e) {
        return reinterpret_cast<Element*>(reinterpret_cast<char*>(row[k]) +
                                          at[(first + e) / at_once][(first + e) % at_once]);
      };
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) {
          const int r = (first + e) / at_once, element = (r * 32 + lane) * at_once + (first + e) % at_once;
          if constexpr (OVERLAPPED)
            sum[k][e] = from[k] == nullptr ? 0.f : overlaps.sum(from[k], r, (first + e) % at_once);
          else
            sum[k][e] = from[k] == nullptr ? 0.f : from[k][r * 32 * at_once + (first + e) % at_once];
          if constexpr (OPERANDS > 0)
            with[k][e] = finish.read(in(k, e), c.n + (spots[element / PHASES_W].dn & 0xffff), to(k, e));
        }
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) value[k][e] = finish(sum[k][e], with[k][e]);
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; e += at_once) {
          Element* first_to = to(k, e);
          if constexpr (at_once == 2) {
            if (in(k, e) && in(k, e + 1) && to(k, e + 1) == first_to + 1 &&
                (reinterpret_cast<u64>(first_to) & 3) == 0) {
              *reinterpret_cast<u32*>(first_to) = bits_of(value[k][e]) | bits_of(value[k][e + 1]) << 16;
            } else {
              if (in(k, e)) *first_to = value[k][e];
              if (in(k, e + 1)) *to(k, e + 1) = value[k][e + 1];
            }
          } else {
            if (in(k, e)) *first_to = value[k][e];
          }
        }
    }
  }
}

/// Lines of whole operands of a place on their way into the cache, a warp's elements at a time: before its products, so
/// that the epilogue after them finds them there.
__device__ __forceinline__ void ask_for_operands(const Arguments& a, const Operands& operands, const Place& p,
                                                 const Spot* spots, const RowSet* sets, int thread) {
  const Corner c(p);
#pragma unroll 1
  for (int i = thread; i < NB * all_sets * rounds; i += 128) {
    const int r = i % rounds, set = i / rounds % all_sets, channel = p.column0 + i / (rounds * all_sets);
    const int element = r * 32 * at_once;
    const Spot spot = spots[element / PHASES_W];
    const RowSet rows = sets[set];
    if (channel >= N || !is_inside(a, c, rows, spot, element % PHASES_W)) continue;
    const Element* at = corner_of(a, p, c, channel) + rows.d * a.out_strides.d + rows.h * a.out_strides.h + spot.at +
                        element % PHASES_W * a.out_strides.w;
    ask_for_elements(operands, at - a.out);
  }
}

/// The columns of `row` that a LINE writes whose first result is at column `w`.
struct Columns {
  int begin, end;
};
__device__ __forceinline__ Columns columns_of(const Arguments& a, const Element* row, int w) {
  constexpr int sector = 32 / static_cast<int>(sizeof(Element));
  const int from_sector = static_cast<int>(reinterpret_cast<u64>(row + w) / sizeof(Element)) & (sector - 1);
  const int whole = w + (-from_sector & (sector - 1));
  return {w > 0 ? whole : 0, whole + a.line < a.out_size[2] ? whole + a.line : a.out_size[2]};
}

/// The same of a row of positions: whole sectors, but at the row's ends.
__device__ __forceinline__ void write_line(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* staging, const RowSet* sets, int channel,
                                           int lane) {
  if (channel >= N) return;
  constexpr int each = finished_at_once;
  // A row's first element lies less than a sector, or a position, from where its set begins.
  constexpr bool reads_all = 32 / sizeof(Element) - 1 <= channel_room && PHASES_W - 1 <= channel_room;
  Element* plane = a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c;
  const Finish finish(a, operands, p, channel);
#pragma unroll(sets_written_out ? all_sets : 1)
  for (int i = 0; i < all_sets; i += sets_at_once) {
    // A lane's first element, and how many elements of the row are left from there on.
    Element* row[sets_at_once];
    const float* from[sets_at_once];
    int left[sets_at_once];
#pragma unroll
    for (int k = 0; k < sets_at_once; ++k) {
      const RowSet set = sets_written_out ? row_set(i + k) : sets[i + k];
      const int h = c.h + set.h, d = c.d + set.d;
      const bool inside = c.n < a.samples && h >= 0 && h < a.out_size[1] && d >= 0 && d < a.out_size[0];
      Element* whole = plane + d * a.out_strides.d + h * a.out_strides.h;
      const Columns of = columns_of(a, whole, c.w);
      const int first = of.begin + lane * at_once;
      row[k] = whole + first;
      left[k] = inside ? of.end - first : 0;
      from[k] = set.staged < 0 ? nullptr : staging + set.staged * set_words - c.w + first;
    }
#pragma unroll
    for (int first = 0; first < row_elements; first += each) {
      Element value[sets_at_once][each];
      float sum[sets_at_once][each];
      OfElement with[sets_at_once][each];
      const auto from_first = [&](int e) { return (first + e) / at_once * 32 * at_once + (first + e) % at_once; };
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) {
          // What is not written may be read, as far as nobody else writes there.
          sum[k][e] = from[k] != nullptr && (reads_all || from_first(e) < left[k]) ? from[k][from_first(e)] : 0.f;
          if constexpr (OPERANDS > 0) with[k][e] = finish.read(from_first(e) < left[k], c.n, row[k] + from_first(e));
        }
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) value[k][e] = finish(sum[k][e], with[k][e]);
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; e += at_once) {
          Element* to = row[k] + from_first(e);
          if constexpr (at_once == 2) {
            if (from_first(e) + 1 < left[k] && (reinterpret_cast<u64>(to) & 3) == 0) {
              *reinterpret_cast<u32*>(to) = bits_of(value[k][e]) | bits_of(value[k][e + 1]) << 16;
            } else {
              if (from_first(e) < left[k]) to[0] = value[k][e];
              if (from_first(e) + 1 < left[k]) to[1] = value[k][e + 1];
            }
          } else {
            if (from_first(e) < left[k]) *to = value[k][e];
          }
        }
    }
  }
}

/// The same where channels are neighbours in memory: 8 of them at each element.
__device__ __forceinline__ void write_channels(const Arguments& a, const Operands& operands, const Place& p,
                                               const Corner& c, const float* staging, const Spot* spots,
                                               const RowSet* sets, int channel0, int warp, int lane) {
  const int channel = channel0 + lane % 8;
  if (channel >= N) return;
  Element* corner = corner_of(a, p, c, channel);
  const Finish finish(a, operands, p, channel);
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    Element* row = corner + set.d * a.out_strides.d + set.h * a.out_strides.h;
    const float* from = staging + lane % 8 * channel_pitch + (set.staged < 0 ? 0 : set.staged * set_words);
#pragma unroll 2
    for (int element = warp * 4 + lane / 8; element < set_elements; element += 16) {
      const Spot spot = spots[element / PHASES_W];
      if (!is_inside(a, c, set, spot, element % PHASES_W)) continue;
      Element* to = row + spot.at + element % PHASES_W * a.out_strides.w;
      *to = finish(set.staged < 0 ? 0.f : from[element], finish.read(true, c.n + (spot.dn & 0xffff), to));
    }
  }
}

/// A step's channels into the staging.
template <int step, int part = 0>
__device__ __forceinline__ void put_together(const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Puts& puts,
                                             int warp, int lane) {
  put<step * TOGETHER + part>(acc, staging + part * (staged * channel_pitch), puts, warp, lane);
  if constexpr (part + 1 < TOGETHER) put_together<step, part + 1>(acc, staging, puts, warp, lane);
}

/// The same of step `wanted`.
template <int step = 0>
__device__ __forceinline__ void put_wanted(int wanted, const float (&acc)[BLOCKS * (NB / 2)], float* staging,
                                           const Puts& puts, int warp, int lane) {
  if (wanted == step)
    put_together<step>(acc, staging, puts, warp, lane);
  else if constexpr (step + 1 < store_steps)
    put_wanted<step + 1>(wanted, acc, staging, puts, warp, lane);
}

/// What was staged for the channels of a step at `from` on.
__device__ __forceinline__ void write_step(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* from, const Spot* spots, const RowSet* sets,
                                           const u32* inside, const u32 (&at)[rounds][at_once],
                                           const Overlaps& overlaps, int step, int warp, int lane) {
#pragma unroll(steps_written_out ? TOGETHER : 1)
  for (int part = 0; part < TOGETHER; ++part, from += staged * channel_pitch) {
    const int number = step * TOGETHER + part;
    if constexpr (result_last) {
      write_channels(a, operands, p, c, from, spots, sets, p.column0 + number * 8, warp, lane);
    } else {
      const int channel = p.column0 + number / 2 * 8 + warp * 2 + number % 2;
      if constexpr (LINE)
        write_line(a, operands, p, c, from + warp * channel_pitch, sets, channel, lane);
      else
        write_rows(a, operands, p, c, from + warp * channel_pitch, spots, sets, inside, at, overlaps, channel, lane);
    }
  }
}

/// All sums of a place. `turn` and `inside_turn` are kept from place to place: what a slow warp may still read is not
/// written again.
__device__ __forceinline__ void store_box(const Arguments& a, const Operands& operands, const Place& p,
                                          const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Spot* spots,
                                          const RowSet* sets, u32* inside, int group, int thread, int& turn,
                                          int& inside_turn) {
  const int lane = thread % 32;
  const Corner c(p);
  const u32* mine = inside;
  u32 at[rounds][at_once];
  if constexpr (!result_last && !LINE) {
    if (!ends_nowhere(a, c)) {
      u32* words = inside + (1 + inside_turn) * words_of_box;
      find_bits([&](int set, int position, int pw) { return is_inside(a, c, sets[set], spots[position], pw); }, words,
                thread / 32, lane);
      mine = words;
    }
#pragma unroll
    for (int r = 0; r < rounds; ++r)
#pragma unroll
      for (int e = 0; e < at_once; ++e) {
        const int element = (r * 32 + lane) * at_once + e;
        at[r][e] = static_cast<u32>(spots[element / PHASES_W].at + element % PHASES_W) * sizeof(Element);
      }
  }
  // What was staged for a step is written while the next is staged.
  const int warp = thread / 32;
  const auto place = [&](int step) { return staging + ((turn + step) & 1) * place_words; };
  const Puts puts(a, warp, lane);
  const Overlaps overlaps(a, lane);
  put_together<0>(acc, place(0), puts, warp, lane);
#pragma unroll(steps_written_out ? store_steps : 1)
  for (int step = 0; step < store_steps; ++step) {
    meet(1 + group, 128);
    if (step + 1 < store_steps) put_wanted(step + 1, acc, place(step + 1), puts, warp, lane);
    write_step(a, operands, p, c, place(step), spots, sets, mine, at, overlaps, step, warp, lane);
  }
  turn += store_steps;
  inside_turn ^= 1;
}

}  // namespace upconv
""",
    "boxes/store_direct.cuh": r"""// From a warpgroup's sums to the result without a detour, where elements are words and W has one phase (DIRECT): a
// store of a warp writes 8 neighbouring positions, a sector of 32 bytes, of four channels. Part of boxes.cuh.
#pragma once

#include "boxes/store.cuh"

namespace upconv {

/// All sums of a place.
__device__ __forceinline__ void store_direct(const Arguments& a, const Operands& operands, const Place& p,
                                             const float (&acc)[BLOCKS * (NB / 2)], const Spot* spots, int thread) {
  static_assert(PHASES_W == 1 || !DIRECT, "phases of W interleave in memory");
  const int warp = thread / 32, lane = thread % 32, channel = p.column0 + lane % 4 * 2;
  const Corner c(p);
  float bias[NB / 4];
#pragma unroll
  for (int i = 0; i < NB / 4; ++i) {
    const int of = channel + i / 2 * 8 + i % 2;
    bias[i] = N % NB == 0 || of < N ? bias_of(a, p, of) : 0.f;
  }
#pragma unroll
  for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Spot spot = spots[(segment * 4 + warp) * 16 + half * 8 + lane / 4];
      Element* corner = corner_of(a, p, c, channel) + spot.at;
#pragma unroll
      for (int set = 0; set < all_sets; ++set) {
        const RowSet s = row_set(set);
        if (!is_inside(a, c, s, spot, 0)) continue;
        Element* row = corner + s.d * a.out_strides.d + s.h * a.out_strides.h;
        const int n = c.n + (spot.dn & 0xffff);
        const auto column_of = [&](int i) { return i / 2 * 8 + i % 2; };  // from the lane's first channel on
        const auto exists = [&](int i) { return N % NB == 0 || channel + column_of(i) < N; };
        constexpr int each = NB % 16 == 0 ? 4 : 2;
#pragma unroll
        for (int first = 0; first < NB / 4; first += each) {
          Element value[each];
          OfElement with[each];
          if constexpr (OPERANDS > 0)
#pragma unroll
            for (int i = 0; i < each; ++i)
              with[i] = of_element(operands, exists(first + i), n, p.group * N + channel + column_of(first + i),
                                   row + column_of(first + i) * a.out_strides.c - a.out);
#pragma unroll
          for (int i = 0; i < each; ++i) {
            const int of = first + i, number = channel + column_of(of);
            const float sum =
                s.staged < 0 ? 0.f
                             : acc[(segment * (row_sets * USED_W) + block_of[(s.staged < 0 ? 0 : s.staged) * USED_W]) *
                                       (NB / 2) +
                                   of / 2 * 4 + half * 2 + of % 2];
            value[i] = from_float<Element>(epilogue(
                sum + bias[of], config::of_channel(operands, p.group * N + (exists(of) ? number : 0)), with[i]));
          }
#pragma unroll
          for (int i = 0; i < each; ++i)
            if (exists(first + i)) row[column_of(first + i) * a.out_strides.c] = value[i];
        }
      }
    }
}

}  // namespace upconv
""",
    "boxes.cuh": r"""// Dense gathers on Hopper's warpgroup tensor cores (sm_90a): forward and dx of any kernel, stride and dilation.
//
//   out[n, c, position] = sum over source channels k and taps t of src[n, k, source(position, t)] * B[t][k][c]
//
// A warpgroup computes a box of positions q of the phase grid (extents are run-time numbers, at most 64 * SEGMENTS
// positions), ROWS of them in the dimension MERGE, all phases, NB result channels. Positions are the M operand: lanes
// read them from shared memory wherever they lie, which is why plain NCHW needs no transpose and why every stride, rank
// and tail is a matter of addresses. A fragment (64 positions, a chunk of channels, one offset) feeds every accumulator
// that UPCONV_FRAGMENTS lists for it, neighbouring ones by one product of many columns: docs/measured-hopper.md says
// what that is worth. The sum runs in chunks of 8 (TF32) or 16 channels, times the taps of D where D is a loop
// (`depth_loop`). fp32 as bf16x3 takes three products of 16 channels, x_hi w_hi + x_hi w_lo + x_lo w_hi, or, FOLDED,
// two of 8 channels, [x_hi x_lo] [w_hi w_hi]' + [x_hi x_lo] [w_lo w_lo]': cheaper where a group has no more.
//
// OVERLAPPED: the rows of a product are source elements along W instead, all taps of W are columns, and a result's
// products with them are added up as it is stored (overlap-add): a fragment then feeds as many times more columns as W
// has taps. A box has a whole row of the source, or as many source elements more than positions as taps reach.
//
// Weights, prepared by boxes_prepare.cuh, are resident (all chunks, loaded once) or come with each stage. With resident
// weights each of the GROUPS warpgroups may walk over boxes of its own with stages of its own; else (SHARED) their
// boxes lie side by side and share stages. One warpgroup alone does not keep the tensor cores busy, less so while it
// stores.
//
// Shared memory: [resident weights][stages of each ring: weights unless resident, source][places of a box's positions
// in the result][staging of each warpgroup]. Floor: max(bytes of source and result, products at the tensor cores'
// rate). The host (src/cuda/boxes.cpp) writes namespace config, wgmma() and UPCONV_FRAGMENTS.
#include "arguments/boxes.cuh"
#include "epilogue/operands.cuh"
#include "ptx/arriving.cuh"
#include "ptx/dependents.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

typedef arguments::Boxes<Element> Arguments;
using arguments::Strides;

constexpr int rings = SHARED ? 1 : GROUPS;
constexpr int of_ring = 128 / rings / 32 * 32;                                 ///< Producers of a ring.
constexpr int rows_d = MERGE == 0 ? ROWS : 1, rows_h = MERGE == 1 ? ROWS : 1;  ///< Positions of one row of products.
/// Registers of fragments that take turns. TF32 rounds them where they were loaded: those of the fragment after next
/// may be loaded while two others' products run, so four sets, and a number of them that divides FRAGMENTS goes round
/// from stage to stage; where none does, products end first. Other types have words (two sets) and operands (two sets)
/// apart.
constexpr int ring = !tf32 ? 2 : FRAGMENTS % 4 == 0 ? 4 : FRAGMENTS % 6 == 0 ? 6 : FRAGMENTS % 5 == 0 ? 5 : 4;
constexpr bool goes_round = FRAGMENTS % ring == 0;
static_assert(RESIDENT || SHARED, "streamed weights belong to one ring");

}  // namespace upconv

#include "boxes/balance.cuh"
#include "boxes/source.cuh"
#include "boxes/store.cuh"
#include "boxes/store_direct.cuh"
#include "boxes/weights.cuh"

namespace upconv {

constexpr int chunk_words = STEPS_K * weight_words;
constexpr int resident_words = RESIDENT ? LOOP_TAPS * chunks * chunk_words : 0;
constexpr int streamed_words = RESIDENT ? 0 : (chunk_words + 31) / 32 * 32;
constexpr int stage_words = streamed_words + SOURCE_WORDS;
constexpr int store_words = DIRECT ? 0 : staging_words + inside_words;  ///< Of one warpgroup.
static_assert(resident_words % 32 == 0 && FRAGMENTS != 3 && stage_words % 32 == 0,
              "bulk copies write at multiples of 128 bytes");

constexpr int raw_words = channels_k / 2;  ///< A lane's words of a fragment as they lie in shared memory.
constexpr int split = FOLDED ? 1 : PARTS;  ///< Operands that a fragment's words become.

/// The words of a fragment that one lane reads lie at `lane` (rows, channels) + an offset that all lanes share.
constexpr int lane_halves = WIDE ? 1 : 2, lane_channels = channels_k / 4;
struct Lanes {
  u32 at[SEGMENTS][lane_halves][lane_channels];

  __device__ __forceinline__ Lanes(const Arguments& a, int group, int warp, int lane) {
    const int apart = a.second[0] * a.pitch_n + a.second[1] * STEP_D * a.pitch_d + a.second[2] * STEP_H * a.pitch_h +
                      a.second[3] * STEP_W;
    const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.columns;
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < lane_halves; ++half) {
        int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
        if (position >= count) position = 0;
        const int w = position % a.columns, line = position / a.columns, h = line % a.extent[2];
        const int plane = line / a.extent[2], d = plane % a.extent[1], n = plane / a.extent[1];
        const int element = n * a.pitch_n + d * (rows_d * STEP_D) * a.pitch_d + h * (rows_h * STEP_H) * a.pitch_h +
                            w * STEP_W + (SHARED ? group * apart : 0);
#pragma unroll
        for (int c = 0; c < lane_channels; ++c)
          at[segment][half][c] = (element + (lane % 4 + 4 * c) * a.pitch_c) * static_cast<int>(sizeof(Element));
      }
  }
};

/// Starts loading a fragment: rows lane / 4 and 8 more, channels lane % 4 and 4, 8, 12 more.
__device__ __forceinline__ void load_raw(u32 (&raw)[raw_words], const u32 (&lane)[lane_halves][lane_channels],
                                         u32 shared) {
#pragma unroll
  for (int c = 0; c < lane_channels; ++c)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u32 at = shared + lane[WIDE ? 0 : half][c] + (WIDE ? half * 8 * STEP_W * sizeof(Element) : 0);
      raw[2 * c + half] = sizeof(Element) == 4 ? load_word(at) : load_half(at);
    }
}

/// A lane's words of fragments, and what the products take of them.
struct Fragments {
  u32 raw[ring][raw_words], operand[tf32 ? 1 : 2][split][4];

  /// Makes the operand of fragment `index` of its words: row and row + 8 of the first channels, then of the last.
  template <int index>
  __device__ __forceinline__ void prepare() {
    u32(&from)[raw_words] = raw[index % ring];
    if constexpr (FOLDED) {
      u32(&to)[4] = operand[index % 2][0];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float first = __uint_as_float(from[half]), second = __uint_as_float(from[2 + half]);
        to[half] = pack_bf16(first, second);
        to[2 + half] = pack_rest(first, second, to[half]);
      }
    } else {
#pragma unroll
      for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if constexpr (tf32) {
            from[2 * k + half] = round_tf32(__uint_as_float(from[2 * k + half]));
          } else if constexpr (PARTS == 2) {
            const float first = __uint_as_float(from[4 * k + half]), second = __uint_as_float(from[4 * k + 2 + half]);
            operand[index % 2][0][2 * k + half] = pack_bf16(first, second);
            operand[index % 2][1][2 * k + half] = pack_rest(first, second, operand[index % 2][0][2 * k + half]);
          } else {
            operand[index % 2][0][2 * k + half] = from[4 * k + half] | from[4 * k + 2 + half] << 16;
          }
        }
    }
  }
  template <int index, int part>
  __device__ __forceinline__ const u32 (&of())[4] {
    if constexpr (tf32)
      return reinterpret_cast<const u32(&)[4]>(raw[index % ring]);
    else
      return operand[index % 2][part];
  }
};

/// Fragment `index` times `columns` columns into the sums from register `first` on; `units` is B's address in units of
/// 16 bytes.
template <int index, int first, int columns>
__device__ __forceinline__ void product(float (&acc)[BLOCKS * (NB / 2)], Fragments& f, u32 units) {
  float(&sum)[columns / 2] = reinterpret_cast<float(&)[columns / 2]>(acc[first]);
  wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units));
  if constexpr (PARTS == 2) wgmma(sum, f.of<index, 0>(), b_descriptor<half_bytes>(units + part_bytes / 16));
  if constexpr (split == 2) wgmma(sum, f.of<index, split - 1>(), b_descriptor<half_bytes>(units));
}

/// All products of one stage. Products of the stage before may still run when this begins: `finished` is called when
/// they have ended, `read` when no more words of the source are wanted. This stage's products run on when it returns.
template <class Finished, class Read>
__device__ __forceinline__ void multiply(const Arguments& a, float (&acc)[BLOCKS * (NB / 2)], Fragments& f,
                                         const Lanes& lanes, u32 shared, u32 weights, Finished&& finished,
                                         Read&& read) {
  const u32 units = weights >> 4;
  if constexpr (tf32 && !goes_round) mma_wait<0>();
    // Words are loaded before the products of the fragment before them: loads that follow products wait for them.
    // A fragment's registers are free when all but the last group of products have ended.
#define LOAD(index, segment, k, d, h, w)                                                 \
  load_raw(f.raw[(index) % ring], lanes.at[segment],                                     \
           shared + ((k)*channels_k * a.pitch_c + (d)*a.pitch_d + (h)*a.pitch_h + (w)) * \
                        static_cast<int>(sizeof(Element)));
#define USE(index)                                         \
  mma_wait<((index) > 0 || tf32 || goes_round) ? 1 : 0>(); \
  if ((index) == (FRAGMENTS > 1 ? 1 : 0)) finished();      \
  f.prepare<index>();                                      \
  if ((index) == FRAGMENTS - 1) read();                    \
  mma_fence();
#define PRODUCT(index, first, columns, k, slot) \
  product<index, (first) * (NB / 2), (columns)*NB>(acc, f, units + (k) * (weight_words / 4) + (slot)*NB);
#define DONE mma_commit();
  UPCONV_FRAGMENTS
#undef LOAD
#undef USE
#undef PRODUCT
#undef DONE
}

/// The box of a warpgroup, where several share a source: the first's is `p`.
__device__ __forceinline__ Place own_place(const Arguments& a, Place p, int group) {
  if constexpr (SHARED) {
    p.n += group * a.second[0];
    p.q[0] += group * a.second[1], p.q[1] += group * a.second[2], p.q[2] += group * a.second[3];
  }
  return p;
}

/// What the producers of one ring do. `thread` counts from 0 in the ring.
__device__ __forceinline__ void produce(const Arguments& a, int first, int step, int share, u32 stages, u32 full,
                                        u32 empty, int thread) {
  if (a.bulk && thread != 0) return;
  const Portion own(pieces_of(a), thread, of_ring);
  Source from;
  int stage = 0, parity = 1;
  for (Walk at(a, first, step, share); at.next(a);) {
    barrier_wait(empty + 8 * stage, parity);
    const u32 to = stages + stage * (stage_words * 4), source = to + streamed_words * 4, ready = full + 8 * stage;
    constexpr int weight_bytes = RESIDENT ? 0 : chunk_words * 4;
    if (a.bulk) {
      barrier_expect(ready, a.bulk_bytes + weight_bytes);
      bring_bulk(a, at, source, ready);
    } else {
      if (!RESIDENT && thread == 0) barrier_expect_only(ready, weight_bytes);
      from.go(a, at);
      bring(a, at, from, own, source, ready, thread, of_ring);
    }
    if (!RESIDENT && thread == 0)
      bring_weights(a.weights, share, at.tap * steps + at.chunk * STEPS_K, STEPS_K, to, ready);
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
}

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
    boxes(const __grid_constant__ Arguments a, const Operands operands) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)  // elsewhere an empty kernel, which nobody launches
  let_next_begin();
  extern __shared__ __align__(1024) u32 shared[];
  __shared__ unsigned long long barriers[2 * rings * STAGES + 1];
  const u32 full0 = shared_address(barriers), empty0 = full0 + 8 * rings * STAGES;
  const u32 resident = empty0 + 8 * rings * STAGES, weights0 = shared_address(shared);
  const int shares = a.groups * shares_of_group, share = blockIdx.x % shares;
  // Of the boxes of this share: those of this block, then of its ring.
  const int block = blockIdx.x / shares, blocks = gridDim.x / shares;
  if (threadIdx.x == 0) {
    for (int s = 0; s < rings * STAGES; ++s) {
      barrier_init(full0 + 8 * s, a.bulk ? 1 : of_ring * arrivals);
      barrier_init(empty0 + 8 * s, (SHARED ? 4 * GROUPS : 4) * arriving);
    }
    barrier_init(resident, 1);
    barriers_ready();
    if constexpr (RESIDENT) {
      after_previous();
      barrier_expect(resident, resident_words * 4);
#pragma unroll 1
      for (int tap = 0; tap < LOOP_TAPS; ++tap)
        bring_weights(a.weights, share, tap * steps, steps, weights0 + tap * (steps * weight_words * 4), resident);
    }
  }
  Spot* spots = reinterpret_cast<Spot*>(shared + resident_words + rings * STAGES * stage_words);
  __shared__ RowSet sets[all_sets];
  if constexpr (!LINE) find_spots(a, spots, threadIdx.x, blockDim.x);
  find_sets(sets, threadIdx.x);
  __syncthreads();
  after_previous();

  const u32 stages0 = weights0 + resident_words * 4;
  if (threadIdx.x >= GROUPS * 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
    const int thread = threadIdx.x - GROUPS * 128, ring = thread / of_ring;
    if (ring >= rings) return;
    produce(a, block * rings + ring, blocks * rings, share, stages0 + ring * (STAGES * stage_words * 4),
            full0 + 8 * ring * STAGES, empty0 + 8 * ring * STAGES, thread % of_ring);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
    const int group = threadIdx.x / 128, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
    const int ring = SHARED ? 0 : group;
    const u32 stages = stages0 + ring * (STAGES * stage_words * 4);
    const u32 full = full0 + 8 * ring * STAGES, empty = empty0 + 8 * ring * STAGES;
    float* staging = reinterpret_cast<float*>(spots + (LINE ? 0 : all_spots)) + group * store_words;
    u32* inside = reinterpret_cast<u32*>(staging + staging_words);
    if constexpr (!result_last && !LINE && !DIRECT)
      find_bits([&](int, int position, int) { return spots[position].at >= 0; }, inside, warp, lane);
    if constexpr (OVERLAPPED) {
      for (int i = thread; i < staging_words; i += 128) staging[i] = 0.f;  // of what no source element leads to
      meet(1 + group, 128);
    }
    const Lanes lanes(a, group, warp, lane);
    // Each warpgroup begins later than the one before, so that one multiplies while another stores; those that share
    // stages cannot be further apart than these.
    constexpr int apart = GROUPS == 1 ? 1 : SHARED ? (STAGES - 1) / (GROUPS - 1) : LOOP_TAPS * chunks / (GROUPS - 1);
    int until_next = group + 1 < GROUPS ? (apart > 1 ? apart : 1) : 0;
    const auto let_next_group_begin = [&] {
      if (until_next > 0) asm volatile("bar.arrive %0, 256;" ::"r"(1 + GROUPS + group) : "memory");
      until_next = 0;
    };
    if (RESIDENT) barrier_wait(resident, 0);
    if (group > 0) meet(GROUPS + group, 256);
    int stage = 0, parity = 0, turn = 0, inside_turn = 0;
#pragma unroll 1
    for (int box = block * rings + ring; box < a.all_boxes; box += blocks * rings) {
      Place p(a, box, share);
      // What the stores make of the thread's number is worth no register while products run.
      int writer = thread;
      asm volatile("" : "+r"(writer));
      if constexpr (config::asks && !result_last && !LINE && !DIRECT)
        ask_for_operands(a, operands, own_place(a, p, group), spots, sets, thread);
      float acc[BLOCKS * (NB / 2)];
      Fragments fragments;
#pragma unroll
      for (int i = 0; i < BLOCKS * (NB / 2); ++i) acc[i] = 0.f;
      // Without a loop around the products the assembler would put zeros in between, and products in series (C7520).
      if constexpr (LOOP_TAPS * chunks == 1) hold(acc);
      int held = -1;  // streamed weights: the stage whose products may still run
#pragma unroll 1
      for (int tap = 0; tap < LOOP_TAPS; ++tap) {
        int depth = origin_d(p);
        if (depth_loop && !source_depth(a, p.q[0], tap, depth)) continue;
        const u32 before = slack(a, p, depth) * static_cast<int>(sizeof(Element));
#pragma unroll 1
        for (int chunk = 0; chunk < chunks; ++chunk) {
          barrier_wait(full + 8 * stage, parity);
          const u32 at = stages + stage * (stage_words * 4);
          const u32 w = RESIDENT ? weights0 + (tap * chunks + chunk) * (chunk_words * 4) : at;
          const auto release = [&](int which) {
            __syncwarp();
            barrier_arrive_if(lane < arriving && which >= 0, empty + 8 * which);
          };
          multiply(
              a, acc, fragments, lanes, at + streamed_words * 4 + before, w,
              [&] {
                if (!RESIDENT) release(held);
              },
              [&] {
                if (RESIDENT) release(stage);
              });
          held = stage;
          if (++stage == STAGES) stage = 0, parity ^= 1;
          if (until_next == 1)
            let_next_group_begin();
          else
            --until_next;
        }
      }
      let_next_group_begin();
      mma_wait<0>();
      hold(acc);
      if (!RESIDENT && held >= 0) {
        __syncwarp();
        if (lane < arriving) barrier_arrive(empty + 8 * held);
      }
      p = own_place(a, p, group);
      if constexpr (DIRECT)
        store_direct(a, operands, p, acc, spots, writer);
      else
        store_box(a, operands, p, acc, staging, spots, sets, inside, group, writer, turn, inside_turn);
    }
    let_next_group_begin();
  }
#endif
}

}  // namespace upconv
""",
    "mma/weight_atoms.cuh": r"""// The warp's matrix product for dw, 16 input channels x 8 output channels, and what each precision makes of a word.
// Fragments hold 32-bit words: one fp32 position, or two neighbouring 16-bit ones. Lane = 4 * row + column:
// `first` starts a chain of products at zero. a[0..3] = (row, column), (row + 8, column), (row, column + 4), (row + 8,
// column + 4), b[0..1] = k column, column + 4.
#pragma once

#include "types.cuh"

namespace upconv {

/// Two words in neighbouring registers, as the matrix instructions want their operands.
typedef unsigned long long Pair;
__device__ __forceinline__ Pair pair_of(u32 first, u32 second) {
  Pair r;
  asm("mov.b64 %0, {%1, %2};" : "=l"(r) : "r"(first), "r"(second));
  return r;
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const u32 (&a)[4], Pair b, bool first) {
  const float c0 = first ? 0.0f : c[0], c1 = first ? 0.0f : c[1], c2 = first ? 0.0f : c[2], c3 = first ? 0.0f : c[3];
  asm("{.reg .b32 b0, b1;\n"
      "mov.b64 {b0, b1}, %8;\n"
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {b0,b1}, {%9,%10,%11,%12};}"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "f"(c0), "f"(c1), "f"(c2), "f"(c3));
}
__device__ __forceinline__ void mma_bf16(float (&c)[4], const u32 (&a)[4], Pair b, bool first) {
  const float c0 = first ? 0.0f : c[0], c1 = first ? 0.0f : c[1], c2 = first ? 0.0f : c[2], c3 = first ? 0.0f : c[3];
  asm("{.reg .b32 b0, b1;\n"
      "mov.b64 {b0, b1}, %8;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {b0,b1}, {%9,%10,%11,%12};}"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "f"(c0), "f"(c1), "f"(c2), "f"(c3));
}
__device__ __forceinline__ void mma_f16(float (&c)[4], const u32 (&a)[4], Pair b, bool first) {
  const float c0 = first ? 0.0f : c[0], c1 = first ? 0.0f : c[1], c2 = first ? 0.0f : c[2], c3 = first ? 0.0f : c[3];
  asm("{.reg .b32 b0, b1;\n"
      "mov.b64 {b0, b1}, %8;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {b0,b1}, {%9,%10,%11,%12};}"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "f"(c0), "f"(c1), "f"(c2), "f"(c3));
}

/// Nearest TF32, ties to even; NaN stays NaN.
__device__ __forceinline__ u32 round_tf32(u32 v) {
#if __CUDA_ARCH__ >= 900
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(v)));
  return r;
#else
  return (v & 0x7fffffffu) > 0x7f800000u ? v : (v + 0xfffu + ((v >> 13) & 1u)) & ~0x1fffu;
#endif
}

/// Two floats as a pair of bf16, the first in the low half.
__device__ __forceinline__ u32 pack_bf16(float first, float second) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}
/// What pack_bf16 lost of the same two floats, again as a pair.
__device__ __forceinline__ u32 pack_rest(float first, float second, u32 high) {
  return pack_bf16(first - __uint_as_float(high << 16), second - __uint_as_float(high & 0xffff0000u));
}

/// The sum of two TF32 that is nearest to `v`.
__device__ __forceinline__ void split_tf32(u32 v, u32& high, u32& rest) {
  high = round_tf32(v);
  rest = round_tf32(__float_as_uint(__uint_as_float(v) - __uint_as_float(high)));
}

}  // namespace upconv
""",
    "arguments/weight_mma.cuh": r"""// What a launch of weight_mma.cuh passes by value, and most of what one of weight_wgmma.cuh does. launch/weight_mma.hpp
// fills it.
#pragma once

#include "arguments/strides.cuh"

namespace upconv::arguments {

struct WeightMma {
  const char* x;
  const char* dy;
  void* out;  ///< dw, or `splits` partial sums of it in fp32.
  Strides xs, ys;
  long long boxes, splits;
  long long dw_size;
  int in_d, in_h, in_w, out_d, out_h, out_w;  ///< in_h: LATE more than x has, where weight_wgmma.cuh stacks taps.
  int boxes_d, boxes_h, boxes_w;
  int x_vector, y_vector;  ///< Elements that may be copied at once.
  int quad_steps;          ///< Known here, but ptxas unrolls a loop whose length it knows, and runs out of registers.
  int partial;             ///< 1: `out` is the workspace.
};

}  // namespace upconv::arguments
""",
    "mma/weight_box.cuh": r"""// The boxes of positions that the blocks of a dw kernel share, and where its taps put them; of input_wgmma.cuh the
// boxes are its tiles.
#pragma once

#include "arguments/weight_mma.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

typedef arguments::WeightMma WeightParams;

/// A box of positions, counted in boxes. The axis along which neighbours share lines of dy runs fastest.
/// The blocks of a tile take boxes in turn: they share those lines in the L2, and the slower boxes at the edges.
struct Box {
  int n, d, h, w;
  template <class Params>
  __device__ void start(i64 index, const Params& p) {
    const auto take = [&](int size) {
      const int r = static_cast<int>(index % size);
      index /= size;
      return r;
    };
    if (walk_depth) d = take(p.boxes_d);
    h = take(p.boxes_h);
    w = take(p.boxes_w);
    if (!walk_depth) d = take(p.boxes_d);
    n = static_cast<int>(index);
  }
  /// The box `step` further on, where both count in the same mixed radix.
  __device__ void advance(const Box& step, const WeightParams& p) {
    int carry = 0;
    const auto add = [&](int& digit, int by, int size) {
      digit += by + carry;
      carry = digit >= size;
      if (carry) digit -= size;
    };
    if (walk_depth) add(d, step.d, p.boxes_d);
    add(h, step.h, p.boxes_h);
    add(w, step.w, p.boxes_w);
    if (!walk_depth) add(d, step.d, p.boxes_d);
    n += step.n + carry;
  }
};

/// Where tap 0 of this block puts position 0, per dimension: dilation * first tap - padding.
struct Shift {
  int d, h, w;
};

/// Every position of the box exists and every tap of every position lands inside dy.
__device__ __forceinline__ bool interior(const Box& b, const Shift& c, const WeightParams& p) {
  const int d = b.d * BD, h = b.h * BH, w = b.w * BW;
  return d + BD <= p.in_d && h + BH <= p.in_h && w + BW <= p.in_w && SD * d + c.d >= 0 && SH * h + c.h >= 0 &&
         SW * w + c.w >= 0 && SD * (d + BD - 1) + c.d + DD * (TD - 1) < p.out_d &&
         SH * (h + BH - 1) + c.h + DH * (TH - 1) < p.out_h && SW * (w + BW - 1) + c.w + DW * (TW - 1) < p.out_w;
}

}  // namespace upconv
""",
    "mma/weight_element.cuh": r"""// The element type of x, dy and dw, from `config::element`: 0 fp32, 1 fp16, 2 bf16.
#pragma once

#include "types.cuh"

namespace upconv {

template <int Element>
struct ElementType {
  typedef float type;
};
template <>
struct ElementType<1> {
  typedef f16 type;
};
template <>
struct ElementType<2> {
  typedef bf16 type;
};
typedef ElementType<config::element>::type Element;

}  // namespace upconv
""",
    "ptx/weight_words.cuh": r"""// Waiting for copies to shared memory, and words of it. (What starts a copy is in weight_copy.cuh and, for kernels of
// sm_90a, in warpgroup.cuh.)
#pragma once

#include "types.cuh"

namespace upconv {

__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `Pending` groups of this thread are under way.
template <int Pending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

__device__ __forceinline__ u16 load_bits16(const char* from) {
  u16 v;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(from));
  return v;
}
__device__ __forceinline__ void store_bits16(u32 to, u16 v) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
}
__device__ __forceinline__ void load_quad(u32 (&v)[4], u32 from) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(from));
}
/// Of 2 bytes or 4.
template <int bytes>
__device__ __forceinline__ void store_zero(u32 to) {
  if constexpr (bytes == 2)
    store_bits16(to, 0);
  else
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(0) : "memory");
}
__device__ __forceinline__ void store_zero_quad(u32 to) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
}

}  // namespace upconv
""",
    "mma/weight_stage.cuh": r"""// How the blocks of weight_mma.cuh and weight_wgmma.cuh bring an operand of a box to shared memory. A `Tile` says what:
//   channels, all_channels    of the block, of the group
//   lines_d, lines_h, span    lines of the tile, elements that a line of a plane needs; `planes` of them interleave in
//   W d(), h(), w()             where a line, and a place of a plane, lie from the tile's corner in the tensor
//   place_bytes(), channel_bytes()   and in shared memory: of a channel's place, and between channels that are a
//                                    multiple of `even` apart
//   needed()                  whether a place is read at all
//   last, most, fours         channels last; most elements that one copy may take; whether four may go at once too
//   threads, thread(), copy() who copies, and how: a kernel's own asynchronous copy
#pragma once

#include "arguments/strides.cuh"
#include "mma/weight_element.cuh"
#include "ptx/weight_words.cuh"

namespace upconv {

constexpr int element_bytes = config::element == 0 ? 4 : 2;
typedef arguments::Strides WeightStrides;

/// Channels copied side by side so that few threads idle: `group * spots` is little under a multiple of `threads`.
__device__ constexpr int best_group(int threads, int channels, int spots, int multiple) {
  int best = channels;
  long long best_cost = -1;
  for (int g = multiple; g <= channels; g += multiple) {
    if (channels % g != 0) continue;
    const long long slots = (g * spots + threads - 1) / threads;
    const long long cost = slots * (channels / g) * 4 + slots * 40;
    if (best_cost < 0 || cost < best_cost) best = g, best_cost = cost;
  }
  return best;
}

/// The host declines strides of 2^32 elements and more.
__device__ __forceinline__ i64 times(int a, i64 stride) {
  return static_cast<i64>(static_cast<unsigned long long>(static_cast<u32>(a)) * static_cast<u32>(stride));
}

/// Copies one operand of one box, `V` elements at a time. (d, h, w) is the tensor coordinate of the tile's corner.
template <class Tile, int V>
__device__ __forceinline__ void stage_by(u32 to, const char* tensor, i64 channel_base, int first_channel,
                                         const WeightStrides& s, int d0, int h0, int w0, int size_d, int size_h,
                                         int size_w) {
  constexpr int columns = Tile::planes * Tile::span / V;
  constexpr int spots = Tile::lines_d * Tile::lines_h * columns;
  constexpr int group = best_group(Tile::threads, Tile::channels, spots, Tile::last ? 8 : Tile::even);
  constexpr int slots = (group * spots + Tile::threads - 1) / Tile::threads, rounds = Tile::channels / group;
  constexpr int together = slots < 4 ? slots : 4;  // independent slots hide one another's latency
  const i64 round_bytes = s.c * (group * element_bytes);
  const char* const corner = tensor + (channel_base + d0 * s.d + h0 * s.h + w0 * s.w) * element_bytes;
#pragma unroll together
  for (int k = 0; k < slots; ++k) {
    const int e = Tile::thread() + k * Tile::threads;
    if (group * spots % Tile::threads != 0 && e >= group * spots) continue;
    const int channel = Tile::last ? e % 8 + e / 8 / spots * 8 : e / spots;
    const int spot = Tile::last ? e / 8 % spots : e % spots;
    const int column = spot % columns, line = spot / columns;
    const int line_h = line % Tile::lines_h, line_d = line / Tile::lines_h;
    const int plane = column % Tile::planes, position = column / Tile::planes * V;
    if (!Tile::needed(position, plane)) continue;
    const int d = Tile::d(line_d), h = Tile::h(line_h), w = Tile::w(position, plane);  // from the corner, none negative
    const bool inside = static_cast<u32>(d0 + d) < static_cast<u32>(size_d) &&
                        static_cast<u32>(h0 + h) < static_cast<u32>(size_h) &&
                        static_cast<u32>(w0 + w) < static_cast<u32>(size_w);
    const i64 distance = times(channel, s.c) + times(d, s.d) + times(h, s.h) + times(w, s.w);
    const char* from = inside ? corner + distance * element_bytes : tensor;
    const i64 step = inside ? round_bytes : 0;
    const u32 slot = to + Tile::place_bytes(channel, line, plane, position);
    const auto valid = [&](int r) {
      return inside &&
             (Tile::all_channels % Tile::channels == 0 || first_channel + channel + r * group < Tile::all_channels);
    };
    if constexpr (V * element_bytes >= 4) {
#pragma unroll
      for (int r = 0; r < rounds; ++r) {
        const bool whole = Tile::all_channels % Tile::channels == 0, ok = valid(r);
        Tile::template copy<V * element_bytes>(slot + Tile::channel_bytes(r * group), whole || ok ? from : tensor, ok);
        from += step;
        asm volatile("" : "+l"(from));  // two additions; left alone it becomes a product for each copy
      }
    } else {
      // Loads that are under way together: what registers allow, and no batch much smaller than another.
      constexpr int batches = (rounds + 11) / 12, batch = (rounds + batches - 1) / batches;
#pragma unroll 1
      for (int r0 = 0; r0 < rounds; r0 += batch) {
        u16 bits[batch];
#pragma unroll
        for (int r = 0; r < batch; ++r) {
          bits[r] = r0 + r < rounds && valid(r0 + r) ? load_bits16(from) : u16(0);
          from += step;
        }
#pragma unroll
        for (int r = 0; r < batch; ++r)
          if (r0 + r < rounds) store_bits16(slot + Tile::channel_bytes((r0 + r) * group), bits[r]);
      }
    }
  }
}

template <class Tile, class... Arguments>
__device__ __forceinline__ void stage(int vector, Arguments... arguments) {
  if constexpr (!Tile::last && Tile::most > 1) {
    if (vector >= Tile::most) return stage_by<Tile, Tile::most>(arguments...);
    if constexpr (Tile::fours && Tile::most > 4)
      if (vector >= 4) return stage_by<Tile, 4>(arguments...);
    if (vector >= 2) return stage_by<Tile, 2>(arguments...);
  }
  stage_by<Tile, 1>(arguments...);
}

}  // namespace upconv
""",
    "ptx/weight_copy.cuh": r"""// Copies from global to shared memory that run while the block computes, with zeros in place of what is outside a
// tensor.
#pragma once

#include "ptx/weight_words.cuh"

namespace upconv {

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

/// `Bytes` is 4, 8 or 16, and both addresses are multiples of it. Writes zeros where `inside` is false.
template <int Bytes>
__device__ __forceinline__ void copy_async(u32 to, const char* from, bool inside) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  const int bytes = inside ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(bytes), "n"(Bytes)
                 : "memory");
}

}  // namespace upconv
""",
    "weight_mma.cuh": r"""// dw[ci, co, t] = sum over n, i of x[n, ci, i] * dy[n, co, s*i + d*t - p] on tensor cores (mma.sync, sm_80 and up).
// Host side: src/cuda/weight_mma.cpp, which writes `namespace config`.
//
// A block owns MB input channels x NB output channels x a set of taps and sums over boxes of positions i. Of each box
// it copies x as [ci][position] and dy as [co][D line][H line][W residue][W place] to shared memory. In D, H and, where
// IW == 1, in W the outputs of one residue mod the stride lie side by side: tap t at position i is dy's element at i +
// a constant. Where IW is the stride of W, rows of dy are whole and it is the element at IW*i + a constant. The copies
// of the next boxes run during the products. M = ci, N = co, K = positions: both operands are read along K, which is
// how NCHW lies. Lane 4*row + column takes, of each run of 16 words, the 4 of its column: one 16-byte load of x and a
// window of dy serve 4 K steps for every tap of a row, and a shift along W is another register of the window. Tensor
// cores truncate as they accumulate, so a chain of products ends after those 4 steps and is added up in fp32 registers.
// Pairs (position, tap) whose output is cropped meet zeros; a box that holds an infinity or a NaN masks them. Floor:
// max(bytes of x and dy, 2 * positions * ci * co * taps at the mma.sync rate).
#include "mma/weight_atoms.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_stage.cuh"
#include "ptx/dependents.cuh"
#include "ptx/weight_copy.cuh"

namespace upconv {

constexpr int threads = 256;
constexpr int per_word = 4 / element_bytes;
constexpr int quad = 4 * per_word;  ///< Positions of one 16-byte load.
constexpr int box_positions = BD * BH * BW;
constexpr int quad_steps = box_positions / (8 * quad);
/// x lies in rows of positions, 16 (mod 32) words between channels so that the 16-byte loads of eight lanes meet no
/// bank twice.
constexpr int x_pitch = (box_positions / per_word + 15) / 32 * 32 + 16;
constexpr int x_words = MB * x_pitch;
constexpr int stage_words = x_words + NB * YP;
constexpr int taps_of_block = TD * TH * TW;
constexpr int rows_of_taps = TD * TH;
static_assert(quad_steps % WK == 0 && quad_steps * 8 * quad == box_positions, "whole K steps for every warp");
static_assert(WM * WN * WK == threads / 32 && MB == WM * MT * 16 && NB == WN * NT * 8, "the warps tile the block");

struct Copier {
  static constexpr int threads = upconv::threads, even = 1;
  static constexpr bool fours = false;
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  template <int bytes>
  __device__ __forceinline__ static void copy(u32 to, const char* from, bool inside) {
    copy_async<bytes>(to, from, inside);
  }
};
struct XTile : Copier {
  static constexpr int channels = MB, all_channels = CI, lines_d = BD, lines_h = BH, span = BW, planes = 1;
  static constexpr bool last = x_last != 0;
  static constexpr int most = 16 / element_bytes;
  __device__ static int d(int line) { return line; }
  __device__ static int h(int line) { return line; }
  __device__ static int w(int position, int) { return position; }
  __device__ static bool needed(int, int) { return true; }
  __device__ static int channel_bytes(int channel) { return channel * x_pitch * 4; }
  __device__ static int place_bytes(int channel, int line, int, int position) {
    return channel_bytes(channel) + (line * BW + position) * element_bytes;
  }
};
struct YTile : Copier {
  static constexpr int channels = NB, all_channels = CO, lines_d = LD, lines_h = LH, span = SPAN, planes = PLANES;
  static constexpr bool last = y_last != 0;
  static constexpr int most = SW == IW ? 16 / element_bytes : 1;
  __device__ static int d(int line) { return SD * line + d_origin(line); }
  __device__ static int h(int line) { return SH * line + h_origin(line); }
  __device__ static int w(int position, int plane) { return SW / IW * position + plane_residue(plane); }
  __device__ static int channel_bytes(int channel) { return channel * YP * 4; }
  __device__ static int place_bytes(int channel, int line, int plane, int position) {
    return channel_bytes(channel) + (line * (PLANES * SPAN) + plane * SPAN + position) * element_bytes;
  }
  __device__ static bool needed(int position, int plane) { return PLANES == 1 || position < plane_needed(plane); }
};

typedef float Sums[taps_of_block][NT][MT][4];

constexpr int k_steps = mode == 1 ? 2 : 4;  ///< MMA steps of a quad.

/// The 32-bit word of a window that holds element `at` (and, where a word is a pair, element `at` + IW).
template <int Words>
__device__ __forceinline__ u32 window_word(const u32 (&v)[Words], int at) {
  if (element == 0) return v[at];
  if (IW == 1) return at % 2 == 0 ? v[at / 2] : __funnelshift_r(v[at / 2], v[at / 2 + 1], 16);
  const int next = at + IW;
  return __byte_perm(v[at / 2], v[next / 2], (at % 2 ? 0x32 : 0x10) | (next % 2 ? 0x7600 : 0x5400));
}

/// Whether this thread's share of a stage holds an infinity or a NaN: words whose exponent is all ones.
__device__ __forceinline__ bool not_finite(u32 stage) {
  constexpr u32 exponent = element == 0 ? 0x7f800000u : element == 1 ? 0x7c007c00u : 0x7f807f80u;
  constexpr u32 one = element == 0 ? 0x00800000u : element == 1 ? 0x04000400u : 0x00800080u;
  u32 carried = 0;
#pragma unroll 4
  for (int i = threadIdx.x * 4; i < stage_words; i += threads * 4) {
    u32 v[4];
    load_quad(v, stage + i * 4);
#pragma unroll
    for (int j = 0; j < 4; ++j) carried |= (v[j] & exponent) + one;
  }
  return (carried & (element == 0 ? 0x80000000u : 0x80008000u)) != 0;
}

/// Every bit a copy of bit `bit`.
__device__ __forceinline__ u32 all_or_none(u32 bits, int bit) {
  return static_cast<u32>(static_cast<int>(bits << (31 - bit)) >> 31);
}

/// All products of one box into `sums`.
template <bool Masked>
__device__ __forceinline__ void multiply(Sums& sums, u32 xs, u32 ys, const Box& box, const Shift& c,
                                         const WeightParams& p) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  const int wm = warp % WM, wn = warp / WM % WN, wk = warp / (WM * WN);
  const u32 xa = xs + ((wm * MT * 16 + row) * x_pitch + column * 4) * 4;
  const u32 ya = ys + (wn * NT * 8 + row) * YP * 4;
  constexpr int line_quads = BW / quad, rows_and_planes = rows_of_taps * PLANES;
  // Fragments are loaded one use ahead: x for the next run of words, dy for the next row of taps.
  u32 next_a[MT][4][4];  // [tile][fragment register][word]
  u32 next_b[NT][2][WQ * 4], yq[2];
  const auto load_a = [&](int q) {
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        load_quad(next_a[m][r], xa + (m * 16 + r % 2 * 8) * x_pitch * 4 + q * 128 + r / 2 * 64);
  };
  const auto place_b = [&](int q) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int index = q * 8 + half * 4 + column;
      const int qw = index % line_quads, line = index / line_quads, lh = line % BH, ld = line / BH;
      yq[half] = ya + ((ld * LH + lh) * (PLANES * SPAN) + qw * quad * IW) * element_bytes;
    }
  };
  const auto load_b = [&](int row_and_plane) {
    const int offset = (row_offset(row_and_plane / PLANES) + row_and_plane % PLANES * SPAN) * element_bytes;
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int i = 0; i < WQ; ++i) {
          u32 v[4];
          load_quad(v, yq[half] + (n * 8 * YP + i * 4) * 4 + offset);
#pragma unroll
          for (int j = 0; j < 4; ++j) next_b[n][half][i * 4 + j] = v[j];
        }
  };
  load_a(wk);
  place_b(wk);
  load_b(0);
#pragma unroll 1
  for (int q = wk; q < p.quad_steps; q += WK) {
    const int next_q = q + WK < quad_steps ? q + WK : wk;
    u32 rows_valid[2], columns_valid[2][(TW * quad + 31) / 32];  // bits: (position, tap) that meet an output
    if (Masked)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int index = q * 8 + half * 4 + column;
        const int qw = index % line_quads, line = index / line_quads, lh = line % BH, ld = line / BH;
        const int d = box.d * BD + ld, h = box.h * BH + lh, w = box.w * BW + qw * quad;
        rows_valid[half] = 0;
        if (d < p.in_d && h < p.in_h)
#pragma unroll
          for (int r = 0; r < rows_of_taps; ++r)
            if (static_cast<u32>(SD * d + c.d + DD * (r / TH)) < static_cast<u32>(p.out_d) &&
                static_cast<u32>(SH * h + c.h + DH * (r % TH)) < static_cast<u32>(p.out_h))
              rows_valid[half] |= 1u << r;
#pragma unroll
        for (int i = 0; i < (TW * quad + 31) / 32; ++i) columns_valid[half][i] = 0;
#pragma unroll
        for (int i = 0; i < TW * quad; ++i)
          if (w + i % quad < p.in_w &&
              static_cast<u32>(SW * (w + i % quad) + c.w + DW * (i / quad)) < static_cast<u32>(p.out_w))
            columns_valid[half][i / 32] |= 1u << (i % 32);
      }
    u32 a[MT][4][4];  // [tile][word][fragment register]
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const u32(&v)[4] = next_a[m][r];
        if (mode == 1) {  // words 0, 1: the high halves of both steps; 2, 3: the rests
          const float v0 = __uint_as_float(v[0]), v1 = __uint_as_float(v[1]);
          const float v2 = __uint_as_float(v[2]), v3 = __uint_as_float(v[3]);
          a[m][0][r] = pack_bf16(v0, v1), a[m][1][r] = pack_bf16(v2, v3);
          a[m][2][r] = pack_rest(v0, v1, a[m][0][r]), a[m][3][r] = pack_rest(v2, v3, a[m][1][r]);
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[m][i][r] = mode == 0 ? round_tf32(v[i]) : v[i];
        }
      }
#pragma unroll
    for (int t_row = 0; t_row < rows_of_taps; ++t_row) {
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane) {
        float chain[PLANE_TAPS][NT][MT][4];
        u32 b[NT][2][WQ * 4];
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int i = 0; i < WQ * 4; ++i)
              b[n][half][i] = mode == 0 ? round_tf32(next_b[n][half][i]) : next_b[n][half][i];
        const int use = t_row * PLANES + plane;
        if (use + 1 == rows_and_planes) place_b(next_q);
        load_b(use + 1 == rows_and_planes ? 0 : use + 1);
        if (use == 0) load_a(next_q);
#pragma unroll
        for (int step = 0; step < k_steps; ++step) {
#pragma unroll
          for (int k = 0; k < PLANE_TAPS; ++k) {
            if (k >= plane_taps(plane)) continue;
            const int tw = plane_tap(plane, k);
            u32 keep[2] = {~0u, ~0u};
            if (Masked)
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                constexpr int positions = mode == 0 || mode == 2 ? 1 : 2;
                const int bit = tw * quad + step * positions;
                keep[half] = all_or_none(columns_valid[half][bit / 32], bit % 32);
                if (positions == 2)
                  keep[half] = (keep[half] & 0xffffu) |
                               (all_or_none(columns_valid[half][(bit + 1) / 32], (bit + 1) % 32) & 0xffff0000u);
                keep[half] &= all_or_none(rows_valid[half], t_row);
              }
            const Pair keep_b = pair_of(keep[0], keep[1]);
            const auto fragment = [&](u32(&to)[4], int m, int word) {
#pragma unroll
              for (int r = 0; r < 4; ++r) to[r] = Masked ? a[m][word][r] & keep[r / 2] : a[m][word][r];
            };
            const int at = plane_shift(plane, k);
#pragma unroll
            for (int n = 0; n < NT; ++n) {
              Pair high, rest;
              if (mode == 0 || mode == 3) {
                const int first = at + IW * (mode == 0 ? step : 2 * step);
                high = pair_of(window_word(b[n][0], first), window_word(b[n][1], first));
              } else if (mode == 1) {
                u32 h[2], r[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                  const float v0 = __uint_as_float(b[n][half][at + IW * 2 * step]);
                  const float v1 = __uint_as_float(b[n][half][at + IW * (2 * step + 1)]);
                  h[half] = pack_bf16(v0, v1);
                  r[half] = pack_rest(v0, v1, h[half]);
                }
                high = pair_of(h[0], h[1]), rest = pair_of(r[0], r[1]);
              } else {
                u32 h[2], r[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) split_tf32(b[n][half][at + IW * step], h[half], r[half]);
                high = pair_of(h[0], h[1]), rest = pair_of(r[0], r[1]);
              }
              if (Masked) {
                high &= keep_b;
                if (mode == 1 || mode == 2) rest &= keep_b;
              }
#pragma unroll
              for (int m = 0; m < MT; ++m) {
                u32 af[4];
                fragment(af, m, step);
                if (mode == 0) mma_tf32(chain[k][n][m], af, high, step == 0);
                if (mode == 3 && element == 1) mma_f16(chain[k][n][m], af, high, step == 0);
                if (mode == 3 && element == 2) mma_bf16(chain[k][n][m], af, high, step == 0);
                if (mode == 1) {
                  u32 ar[4];
                  fragment(ar, m, step + 2);
                  mma_bf16(chain[k][n][m], ar, high, step == 0);
                  mma_bf16(chain[k][n][m], af, rest, false);
                  mma_bf16(chain[k][n][m], af, high, false);
                }
                if (mode == 2) {
                  u32 ah[4], ar[4];
#pragma unroll
                  for (int r = 0; r < 4; ++r) split_tf32(af[r], ah[r], ar[r]);
                  mma_tf32(chain[k][n][m], ar, high, step == 0);
                  mma_tf32(chain[k][n][m], ah, rest, false);
                  mma_tf32(chain[k][n][m], ah, high, false);
                }
              }
            }
          }
        }
#pragma unroll
        for (int k = 0; k < PLANE_TAPS; ++k) {
          if (k >= plane_taps(plane)) continue;
          const int t = t_row * TW + plane_tap(plane, k);
#pragma unroll
          for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int m = 0; m < MT; ++m)
#pragma unroll
              for (int i = 0; i < 4; ++i) sums[t][n][m][i] += chain[k][n][m][i];
        }
      }
    }
  }
}

/// Index in the shared tile of sums, in dw's own order.
__device__ __forceinline__ int tile_index(int m, int n, int t) {
  return w_last ? (m * taps_of_block + t) * NB + n : (m * NB + n) * taps_of_block + t;
}

extern "C" __global__ void __launch_bounds__(threads, OCCUPANCY) weight_mma(const WeightParams p) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  const u32 stages = shared_address(shared);
  constexpr int tiles_m = (CI + MB - 1) / MB, tiles_n = (CO + NB - 1) / NB;
  u32 id = blockIdx.x;
  const auto take = [&](u32 size) {
    const u32 r = id % size;
    id /= size;
    return static_cast<int>(r);
  };
  const int ci0 = take(tiles_m) * MB, co0 = take(tiles_n) * NB;
  const int tw0 = take(GW) * TW, th0 = take(GH) * TH, td0 = take(GD) * TD, group = take(GROUPS);
  const i64 split = id;
  const Shift c = {DD * td0 - PD, DH * th0 - PH, DW * tw0 - PW};
  const i64 x_channels = (static_cast<i64>(group) * CI + ci0) * p.xs.c;
  const i64 y_channels = (static_cast<i64>(group) * CO + co0) * p.ys.c;

  const auto load = [&](const Box& b, int stage_index) {
    const u32 to = stages + stage_index * (stage_words * 4);
    stage<XTile>(p.x_vector, to, p.x, x_channels + b.n * p.xs.n, ci0, p.xs, b.d * BD, b.h * BH, b.w * BW, p.in_d,
                 p.in_h, p.in_w);
    stage<YTile>(p.y_vector, to + x_words * 4, p.dy, y_channels + b.n * p.ys.n, co0, p.ys, SD * b.d * BD + c.d,
                 SH * b.h * BH + c.h, SW * b.w * BW + c.w - LEAD, p.out_d, p.out_h, p.out_w);
  };

  Sums sums;
#pragma unroll
  for (int t = 0; t < taps_of_block; ++t)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[t][n][m][i] = 0.0f;

          // What no copy writes is read by not_finite() alone.
#pragma unroll 4
  for (int i = threadIdx.x * 4; i < STAGES * stage_words; i += threads * 4) store_zero_quad(stages + i * 4);
  __syncthreads();
  after_previous();

  Box ahead, now, step;
  ahead.start(split, p);
  step.start(p.splits, p);
  now = ahead;
  i64 loaded = split;
  int load_stage = 0, use_stage = 0;
  const auto load_next = [&] {
    if (loaded < p.boxes) {
      load(ahead, load_stage);
      ahead.advance(step, p);
      loaded += p.splits;
    }
    copies_commit();
    load_stage = load_stage + 1 == STAGES ? 0 : load_stage + 1;
  };
#pragma unroll 1
  for (int i = 0; i < STAGES - 1; ++i) load_next();
  // With a stage to spare, half of the warps copies before its products and half after: on every scheduler one warp
  // keeps the tensor core busy while the other computes addresses.
  const int copy_turn = STAGES > 2 && threadIdx.x >= threads / 2 ? 1 : 0;
#pragma unroll 1
  for (i64 b = split; b < p.boxes; b += p.splits) {
    copies_wait<STAGES - 2>();
    __syncthreads();
#pragma unroll 1
    for (int turn = 0; turn < 2; ++turn) {
      if (turn == copy_turn) {
        load_next();
      } else {
        const u32 xs = stages + use_stage * (stage_words * 4), ys = xs + x_words * 4;
        // Where every operand is finite, the zeros outside the tensors make their products zero by themselves.
        if (interior(now, c, p) || !__syncthreads_or(not_finite(xs)))
          multiply<false>(sums, xs, ys, now, c, p);
        else
          multiply<true>(sums, xs, ys, now, c, p);
      }
    }
    now.advance(step, p);
    use_stage = use_stage + 1 == STAGES ? 0 : use_stage + 1;
  }
  copies_wait<0>();
  __syncthreads();

  // The warps that shared the positions add up in turn, then the tile leaves in dw's order.
  float* const tile = reinterpret_cast<float*>(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int m0 = warp % WM * MT * 16 + lane / 4, n0 = warp / WM % WN * NT * 8 + lane % 4 * 2, wk = warp / (WM * WN);
#pragma unroll 1
  for (int turn = 0; turn < WK; ++turn) {
    if (turn == wk)
#pragma unroll
      for (int t = 0; t < taps_of_block; ++t)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              float& to = tile[tile_index(m0 + m * 16 + i / 2 * 8, n0 + n * 8 + i % 2, t)];
              to = turn == 0 ? sums[t][n][m][i] : to + sums[t][n][m][i];
            }
    __syncthreads();
  }
  if constexpr (!w_last && taps_of_block == KD * KH * KW) {  // whole runs of (co, tap): a warp a channel
    constexpr int run = NB * taps_of_block;
    const int length = (CO - co0 < NB ? CO - co0 : NB) * taps_of_block;
#pragma unroll 1
    for (int m = warp; m < MB && ci0 + m < CI; m += threads / 32) {
      const i64 at = (static_cast<i64>(group) * CI + ci0 + m) * W_CI + co0 * W_CO;
#pragma unroll 4
      for (int e = lane; e < length; e += 32) {
        if (p.partial)
          static_cast<float*>(p.out)[split * p.dw_size + at + e] = tile[m * run + e];
        else
          static_cast<Element*>(p.out)[at + e] = from_float<Element>(tile[m * run + e]);
      }
    }
  } else {
#pragma unroll 4
    for (int e = threadIdx.x; e < MB * NB * taps_of_block; e += threads) {
      int m, n, t;
      if (w_last)
        n = e % NB, t = e / NB % taps_of_block, m = e / (NB * taps_of_block);
      else
        t = e % taps_of_block, n = e / taps_of_block % NB, m = e / (NB * taps_of_block);
      const int tw = tw0 + t % TW, th = th0 + t / TW % TH, td = td0 + t / (TW * TH);
      if (ci0 + m >= CI || co0 + n >= CO || tw >= KW || th >= KH || td >= KD) continue;
      const i64 at =
          (static_cast<i64>(group) * CI + ci0 + m) * W_CI + (co0 + n) * W_CO + td * W_D + th * W_H + tw * W_W;
      if (p.partial)
        static_cast<float*>(p.out)[split * p.dw_size + at] = tile[e];
      else
        static_cast<Element*>(p.out)[at] = from_float<Element>(tile[e]);
    }
  }
}

}  // namespace upconv
""",
    "weight_sum.cuh": r"""// Adds the partial sums that the blocks of weight_mma.cuh left in the workspace, in order, and writes dw.
// Host side: src/cuda/weight_mma.cpp. Floor: the bytes of the partial sums.
#include "mma/weight_element.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

using namespace config;

constexpr int lanes = 256 / SLICES;  ///< Of a block; SLICES threads share the partial sums of VECTOR elements.

struct alignas(VECTOR * sizeof(float)) Partial {
  float v[VECTOR];
};
struct alignas(VECTOR * sizeof(Element)) Total {
  Element v[VECTOR];
};

extern "C" __global__ void __launch_bounds__(256) weight_sum(const float* partial, void* dw, i64 size, int splits) {
  let_next_begin();
  __shared__ float part[SLICES][lanes * VECTOR + 1];
  const int lane = threadIdx.x % lanes, slice = threadIdx.x / lanes;
  const i64 at = (static_cast<i64>(blockIdx.x) * lanes + lane) * VECTOR;
  const int each = (splits + SLICES - 1) / SLICES, begin = slice * each;
  const int end = begin + each < splits ? begin + each : splits;
  float sum[VECTOR] = {};
  after_previous();
  if (at < size)
#pragma unroll 8
    for (int s = begin; s < end; ++s) {
      const Partial share = *reinterpret_cast<const Partial*>(partial + s * size + at);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) sum[i] += share.v[i];
    }
  if constexpr (SLICES > 1) {
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) part[slice][lane * VECTOR + i] = sum[i];
    __syncthreads();
    if (slice != 0) return;
#pragma unroll
    for (int s = 1; s < SLICES; ++s)
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) sum[i] += part[s][lane * VECTOR + i];
  }
  if (at >= size) return;
  Element* const to = static_cast<Element*>(dw) + at;
  Total total;
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) total.v[i] = from_float<Element>(sum[i]);
  if (reinterpret_cast<u64>(dw) % sizeof(Total) == 0) {
    *reinterpret_cast<Total*>(to) = total;
  } else {
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) to[i] = total.v[i];
  }
}

}  // namespace upconv
""",
    "bias_sum.cuh": r"""// db[c] = the sum of dy over everything but channels, at memory speed: 16-byte loads from the first aligned address on,
// parts in `parts` that ordered_sum adds up, always in the same order. Floor: dy read once.
//   bias_rows     dy as rows (n, c) of `volume` neighbours: a warp takes pieces of a channel's rows
//   bias_columns  dy as lines of `width` elements, a multiple of the period after which channels repeat: a thread keeps
//                 one vector of columns and walks down the lines (channels_last, and channels_first with short rows)
// Host preamble: Element.
#pragma once

#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

using config::Element;
typedef Number<Element>::Sum Sum;
constexpr int lanes = 16 / sizeof(Element);  ///< Elements of a vector.

struct Vector {
  u32 word[4];
};
__device__ __forceinline__ Vector load(const Element* p) {
  Vector v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(p));
  return v;
}
__device__ __forceinline__ float element(const Vector& v, int j, float*) { return __uint_as_float(v.word[j]); }
__device__ __forceinline__ double element(const Vector& v, int j, double*) {
  return __hiloint2double(int(v.word[2 * j + 1]), int(v.word[2 * j]));
}
template <class T>
__device__ __forceinline__ T element(const Vector& v, int j, T*) {
  return {static_cast<u16>(v.word[j / 2] >> (j % 2 * 16))};
}
__device__ __forceinline__ void add(Sum (&sum)[lanes], const Vector& v) {
#pragma unroll
  for (int j = 0; j < lanes; ++j) sum[j] += to_float(element(v, j, static_cast<Element*>(nullptr)));
}
/// Elements before the first 16-byte boundary.
__device__ __forceinline__ i64 unaligned(const Element* p) {
  return static_cast<i64>(-reinterpret_cast<u64>(p) & 15) / static_cast<i64>(sizeof(Element));
}
__device__ __forceinline__ i64 smaller(i64 a, i64 b) { return a < b ? a : b; }

/// Adds vectors first, first + step, ... below `end`: `batch` loads in flight, their sums added apart.
__device__ __forceinline__ void add_vectors(Sum (&sum)[lanes], const Element* p, i64 first, i64 end, i64 step) {
  constexpr int batch = 4;
  for (i64 i = first; i < end; i += batch * step) {
    Vector v[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      v[k] = {};
      if (i + k * step < end) v[k] = load(p + (i + k * step) * lanes);
    }
    Sum part[lanes] = {};
#pragma unroll
    for (int k = 0; k < batch; ++k) add(part, v[k]);
#pragma unroll
    for (int j = 0; j < lanes; ++j) sum[j] += part[j];
  }
}

}  // namespace upconv

/// Grid: channels * shares blocks of whole warps. `pieces` pieces of `piece` elements cover a row; a share is `units`
/// of a channel's batch * pieces. parts[share][channel], or null: one share, and db is written.
extern "C" __global__ void __launch_bounds__(256, 3)
    bias_rows(const config::Element* dy, upconv::Sum* __restrict__ parts, config::Element* __restrict__ db,
              const upconv::i64 batch, const upconv::i64 channels, const upconv::i64 volume, const upconv::i64 piece,
              const upconv::i64 pieces, const upconv::i64 units) {
  using namespace upconv;
  let_next_begin();
  __shared__ Sum warp_sums[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const i64 channel = i64(blockIdx.x) % channels, share = i64(blockIdx.x) / channels;
  const i64 end = smaller(share * units + units, batch * pieces);
  Sum total = 0;
  after_previous();
  for (i64 u = share * units + warp; u < end; u += warps) {
    const i64 n = pieces == 1 ? u : u / pieces, k = u - n * pieces;  // a 64-bit division costs more than a short row
    const Element* row = dy + (n * channels + channel) * volume;
    const i64 head = smaller(unaligned(row), volume);
    const i64 from = smaller(head + k * piece, volume), to = smaller(head + k * piece + piece, volume);
    const i64 vectors = (to - from) / lanes, tail = from + vectors * lanes;
    Sum sum[lanes] = {};
    if (k == 0 && lane < head) sum[0] += to_float(row[lane]);
    if (tail + lane < to) sum[1] += to_float(row[tail + lane]);
    add_vectors(sum, row + from, lane, vectors, 32);
#pragma unroll
    for (int distance = lanes / 2; distance > 0; distance /= 2)
#pragma unroll
      for (int j = 0; j < distance; ++j) sum[j] += sum[j + distance];
    total += sum[0];
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) total += __shfl_down_sync(0xffffffffu, total, distance);
  if (lane == 0) warp_sums[warp] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  total = 0;
  for (int i = 0; i < warps; ++i) total += warp_sums[i];
  if (parts)
    parts[share * channels + channel] = total;
  else
    db[channel] = from_float<Element>(total);
}

/// Grid: chunks * tiles blocks; block (chunk, tile) sums `lines` lines of the columns of its tile. `width` is a
/// multiple of the vector and of `period`. parts[chunk][keep]: keep = period where one tile holds the line, else width.
extern "C" __global__ void __launch_bounds__(256, 3)
    bias_columns(const config::Element* dy, upconv::Sum* __restrict__ parts, const upconv::i64 total,
                 const upconv::i64 width, const upconv::i64 period, const upconv::i64 keep, const upconv::i64 tiles,
                 const upconv::i64 lines) {
  using namespace upconv;
  let_next_begin();
  __shared__ Sum folded[256 * lanes];
  const i64 chunk = i64(blockIdx.x) / tiles, tile = i64(blockIdx.x) % tiles;
  const i64 head = smaller(unaligned(dy), total), rest = total - head;
  const i64 column = (tile * blockDim.x + threadIdx.x) * lanes;
  const i64 begin = chunk * lines, vectors = width / lanes;
  Sum sum[lanes] = {};
  after_previous();
  if (column < width) {
    const Element* p = dy + head;
    // The column's whole vectors: those of line r end at r * width + column + lanes.
    const i64 whole = rest < column + lanes ? 0 : (rest - column - lanes) / width + 1;
    const i64 end = smaller(begin + lines, whole);
    add_vectors(sum, p + column, begin * vectors, end * vectors, vectors);
    if (whole >= begin && whole < begin + lines) {  // what the end of dy cuts
#pragma unroll
      for (int j = 0; j < lanes; ++j)
        if (whole * width + column + j < rest) sum[j] += to_float(p[whole * width + column + j]);
    }
  }
  Sum* part = parts + chunk * keep;
  if (keep == width) {
    if (column >= width) return;
#pragma unroll
    for (int j = 0; j < lanes; ++j) {
      const i64 at = (head + column + j) % width;
      if (chunk == 0 && at < head) sum[j] += to_float(dy[at]);
      part[at] = sum[j];
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < lanes; ++j) folded[threadIdx.x * lanes + j] = sum[j];
  __syncthreads();
  const int step = int(period);
  for (int copies = int(width / period); copies > 1;) {  // one period left in the end, in a fixed order
    const int half = (copies + 1) / 2;
    for (int c = threadIdx.x; c < (copies - half) * step; c += blockDim.x) folded[c] += folded[c + half * step];
    __syncthreads();
    copies = half;
  }
  for (int c = threadIdx.x; c < step; c += blockDim.x) {
    const int at = (int(head) + c) % step;
    Sum value = folded[c];
    if (chunk == 0)
      for (int f = at; f < int(head); f += step) value += to_float(dy[f]);
    part[at] = value;
  }
}
""",
    "arguments/closing.cuh": r"""// What a launch of the kernels of closing/ passes by value. launch/closing.hpp fills it.
#pragma once

#include "arguments/operands.cuh"

namespace upconv::arguments {

/// Quotients n / value of 0 <= n < 2^31: (high half of n * magic, plus n) >> shift.
struct Divisor {
  long long value;
  unsigned magic, shift;
};

/// Values (n, channel, d, h, w) of one shape, dense, channels first.
struct ClosingShape {
  Values values;    ///< values.c is the volume of space.
  long long count;  ///< Of all values.
  int d;
  Divisor volume, h, w;
};

/// Of closing/sets.cuh: warps that work on a set, and vectors of 16 bytes of a lane in a piece; threads of a block,
/// bytes of a piece, and the most pieces in shared memory.
constexpr int set_warps = 24, set_each = 2, set_threads = 32 * set_warps + 32;
constexpr int set_piece = 512 * set_warps * set_each, most_slots = 9;

struct Closing {
  const void* source;
  void* out;
  void* parts;            ///< Statistics in pieces: two numbers a unit and share.
  const void* tables[4];  ///< What items of the value read: numbers of a plane, row or set.
  void* table_out;
  void* argmax;        ///< Where in its window the largest value lies, kept for the gradient.
  void* saved;         ///< norm: mean and scale of every set, kept for the gradient.
  double* statistics;  ///< Of a batch norm: means, then biased variances.
  const void *weight, *bias;
  ClosingShape in;                 ///< As the source lies.
  ClosingShape at;                 ///< After the window.
  ClosingShape result;             ///< After a reduction.
  long long row;                   ///< Values of a row that an item of the value divides by.
  long long units, length, inner;  ///< Ranges: [units][length][inner] values, or units of `length` of them.
  Divisor inner_by;
  long long shares, share;  ///< Of a unit, and values of each. sets: pieces that fit.
  long long planes;         ///< norm: planes of a set.
  int team;                 ///< Threads that work together.
  int backwards;            ///< 1: blocks begin with the last values.
};

}  // namespace upconv::arguments
""",
    "quotient.cuh": r"""// Division of places by sizes.
#pragma once

#include "types.cuh"

namespace upconv {

/// Of non-negative numbers; most fit 32 bits, whose division is many times cheaper.
__device__ __forceinline__ i64 quotient(i64 a, i64 b) {
  if (((a | b) >> 32) == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}

}  // namespace upconv
""",
    "closing/value.cuh": r"""// The values that a closing kernel reads: a stored tensor, element-wise items on each element, a pooling window, steps
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
""",
    "closing/collect.cuh": r"""// What closing kernels collect from many values, in an order that the sizes alone decide: moments, sums, extremes, and
// what a softmax needs. Collected numbers of threads are merged by shuffles, those of warps through shared memory.
// Host preamble: COLLECT, one of the constants below.
#pragma once

#include "closing/value.cuh"

namespace upconv::closing {

constexpr int MOMENTS = 0, SUM = 1, LARGEST = 2, SMALLEST = 3, EXPONENTIALS = 4;

/// moments: count, mean, sum of squared distances from it. A sum or extreme: `first`. Exponentials: the largest value
/// and the sum of exp(v - largest), taken from 0 where the largest is not finite.
template <int collect, class T>
struct Collected {
  T count, first, second;

  static __device__ __forceinline__ Collected none() {
    return {T(0),
            collect == LARGEST || collect == EXPONENTIALS ? T(-infinity())
            : collect == SMALLEST                         ? T(infinity())
                                                          : T(0),
            T(0)};
  }
  __device__ __forceinline__ void merge(const Collected& o) {
    if constexpr (collect == MOMENTS) {
      const T total = count + o.count;
      if (total == T(0)) return;
      const T distance = o.first - first, part = o.count / total;
      first += distance * part;
      second += o.second + distance * distance * count * part;
      count = total;
    } else if constexpr (collect == SUM) {
      first += o.first;
    } else if constexpr (collect == LARGEST) {
      first = larger(first, o.first);
    } else if constexpr (collect == SMALLEST) {
      first = smaller(first, o.first);
    } else {
      const T most = larger(first, o.first), zero = finite_or_zero(most);
      const T mine = second == T(0) ? T(0) : second * exponential(finite_or_zero(first) - zero);
      const T others = o.second == T(0) ? T(0) : o.second * exponential(finite_or_zero(o.first) - zero);
      first = most;
      second = mine + others;
    }
  }
  /// `held` of the values v exist, the first ones.
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held) {
    if (held == 0) return;
    Collected few = none();
    if constexpr (collect == MOMENTS) {
      T sum = T(0);
#pragma unroll
      for (int k = 0; k < most; ++k) sum += k < held ? v[k] : T(0);
      few = {T(held), sum / T(held), T(0)};
#pragma unroll
      for (int k = 0; k < most; ++k)
        if (k < held) few.second += (v[k] - few.first) * (v[k] - few.first);
    } else {
#pragma unroll
      for (int k = 0; k < most; ++k) {
        if (k >= held) continue;
        if constexpr (collect == SUM) few.first += v[k];
        if constexpr (collect == LARGEST || collect == EXPONENTIALS) few.first = larger(few.first, v[k]);
        if constexpr (collect == SMALLEST) few.first = smaller(few.first, v[k]);
      }
      if constexpr (collect == EXPONENTIALS) {
        const T zero = finite_or_zero(few.first);
#pragma unroll
        for (int k = 0; k < most; ++k)
          if (k < held) few.second += exponential(v[k] - zero);
      }
    }
    merge(few);
  }

  /// A sum over a team's threads, in all of them; `held`: a place for each warp.
  static __device__ __forceinline__ T sum_over(T v, int team, T* held) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    if (team == 32) return v;
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = v;
    __syncthreads();
    T all = held[0];
#pragma unroll
    for (int w = 1; w < THREADS / 32; ++w) all += held[w];
    return all;
  }

  __device__ __forceinline__ Collected shifted_down(int lanes) const {
    return {collect == MOMENTS ? __shfl_down_sync(0xffffffffu, count, lanes) : T(0),
            __shfl_down_sync(0xffffffffu, first, lanes),
            collect == MOMENTS || collect == EXPONENTIALS ? __shfl_down_sync(0xffffffffu, second, lanes) : T(0)};
  }
  /// Of a team of 32 threads, a warp, or 256, the block, in its first thread; moments in all.
  __device__ __forceinline__ void merge_team(int team) {
    if constexpr (collect == MOMENTS) {
      // One mean for all, then the distances from it: sums, which wait for no division after the other.
      __shared__ T held_sums[3][THREADS / 32];
      const T total = sum_over(count, team, held_sums[0]);
      first = count == T(0) ? T(0) : first;
      const T mean = sum_over(total == T(0) ? T(0) : first * (count / total), team, held_sums[1]);
      const T distance = count == T(0) ? T(0) : first - mean;
      second = sum_over(second + count * distance * distance, team, held_sums[2]);
      first = mean;
      count = total;
      return;
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) merge(shifted_down(lanes));
    if (team == 32) return;
    __shared__ Collected held[THREADS / 32];
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = *this;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 1; w < THREADS / 32; ++w) merge(held[w]);
  }
};

/// What a thread takes in batches, before its team's is merged: merged batch by batch, but moments, which are sums of
/// distances from its first value. That is one of them, so the sums are no larger than what they are for.
template <int collect, class T>
struct Taken {
  Collected<collect, T> all = Collected<collect, T>::none();
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held, bool) {
    all.take(v, held);
  }
  __device__ __forceinline__ Collected<collect, T> collected() const { return all; }
};
template <class T>
struct Taken<MOMENTS, T> {
  int count = 0;
  T shift = T(0), sum = T(0), squares = T(0);
  template <int most>
  __device__ __forceinline__ void take(const T (&v)[most], int held, bool first) {
    if (first) shift = finite_or_zero(v[0]);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      const T distance = k < held ? v[k] - shift : T(0);
      sum += distance;
      squares += distance * distance;
    }
    count += held;
  }
  __device__ __forceinline__ Collected<MOMENTS, T> collected() const {
    if (count == 0) return Collected<MOMENTS, T>::none();
    const T n = T(count), mean = sum / n, rest = squares - sum * mean;
    return {n, shift + mean, rest < T(0) ? T(0) : rest};  // NaN stays
  }
};

/// The number that a reduction makes of what was collected from `count` values.
constexpr int AS_SUM = 0, AS_MEAN = 1, AS_MAXIMUM = 2, AS_MINIMUM = 3, AS_LOGSUMEXP = 4, AS_TABLE = 5;
template <int collect, class T>
__device__ __forceinline__ S reduced(const Collected<collect, T>& c, int as, i64 count) {
  if constexpr (collect == EXPONENTIALS) return S(natural_log(c.second) + finite_or_zero(c.first));
  if (as == AS_MEAN && collect == SUM) return S(c.first / T(count));
  return S(c.first);
}

}  // namespace upconv::closing
""",
    "neighbours.cuh": r"""// Neighbouring elements that a lane loads and stores together.
#pragma once

#include "types.cuh"

namespace upconv {

/// `count` neighbours, moved by one instruction where that is known of their place (16 bytes at most by one).
template <class T, int count>
struct alignas(sizeof(T) * count < 16 ? sizeof(T) * count : 16) Neighbours {
  T v[count];
};
template <class T, int count>
__device__ __forceinline__ bool in_place_for(const void* at) {
  return reinterpret_cast<unsigned long long>(at) % alignof(Neighbours<T, count>) == 0;
}

}  // namespace upconv
""",
    "closing/sets.cuh": r"""// A norm over sets of planes that follow each other (a group of channels of a sample) in one pass: a cluster of blocks
// has a set, each a share of it in shared memory, so that memory sees every value once and every result once. What
// parts.cuh, norm.cuh and map.cuh do in three reads where a set is too large for that.
//
// A share comes in pieces of 24 KiB by bulk copies into a ring of SLOTS. One warp brings them, as early as slots are
// free: the next set's while this one's results leave. The others take the moments of what came (the items in front of
// the norm are evaluated here, and kept where the ring holds their type), each block sends its own to all, and the
// second look at the ring writes the results, which may take the source's place. Sets begin at any element: pieces are
// counted from the last multiple of 16 bytes before.
//
// Host preamble: CLUSTER (blocks of a set), PER (planes of a set), WEIGHT, BIAS, CENTER (no scale), EPS, EVERY_LANE.
// Compute capability 9.0 and later. Floor: the source once, the result once.
#include "closing/collect.cuh"
#include "neighbours.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv::closing {

using config::CLUSTER;
constexpr int SLOTS = arguments::most_slots, WARPS = arguments::set_warps;
constexpr int MULTIPLE = 16, VECTOR = MULTIPLE / int(sizeof(Stored));               ///< Bytes of a vector, its values.
constexpr int EACH = arguments::set_each, PIECE = arguments::set_piece / MULTIPLE;  ///< Vectors of a lane, of all.
/// Whether the ring holds what the items in front of the norm gave, instead of what they were given.
constexpr bool KEEPS = sizeof(Stored) == sizeof(S);

/// This block's share of a set.
struct Share {
  const char* begin;  ///< A multiple of 16 bytes.
  i64 set, first;     ///< The set's number, and its first value's among all.
  int vectors;        ///< 16 bytes each.
  int offset;         ///< Of the share's first vector from the set's first value: the least of its elements.
  int n, channel;     ///< Of the set's first plane.

  __device__ __forceinline__ Share(const Closing& a, i64 number) : set(number), first(number * a.length) {
    const u32 plane = static_cast<u32>(number) * config::PER;  // planes have 31 bits
    n = static_cast<int>(plane / CHANNELS), channel = static_cast<int>(plane % CHANNELS);
    const char* from = static_cast<const char*>(a.source) + first * i64(sizeof(Stored));
    const int lead = static_cast<int>(reinterpret_cast<u64>(from) % MULTIPLE);
    const i64 all = (lead + a.length * i64(sizeof(Stored)) + MULTIPLE - 1) / MULTIPLE;
    const int share = static_cast<int>((all + CLUSTER - 1) / CLUSTER), before = share * rank_in_cluster();
    vectors = static_cast<int>(all) - before < share ? static_cast<int>(all) - before : share;
    if (vectors < 0) vectors = 0;
    begin = from - lead + i64(before) * MULTIPLE;
    offset = before * VECTOR - lead / int(sizeof(Stored));
  }
  __device__ __forceinline__ int pieces() const { return (vectors + PIECE - 1) / PIECE; }
};

/// Where the ring is: pieces count on from set to set.
struct Place {
  int slot = 0, round = 0;
  __device__ __forceinline__ void next(int slots) {
    if (++slot == slots) slot = 0, round ^= 1;
  }
};

struct Ring {
  u32 slots, full, empty;  ///< Addresses in shared memory.
  int count;

  /// Where the ring is, is asked for once.
  __device__ __forceinline__ void hold() { asm volatile("" : "+r"(slots), "+r"(full), "+r"(empty)); }
  __device__ __forceinline__ u32 slot(const Place& p) const { return slots + p.slot * (PIECE * MULTIPLE); }
  __device__ __forceinline__ u32 full_at(const Place& p) const { return full + p.slot * 8; }
  __device__ __forceinline__ u32 empty_at(const Place& p) const { return empty + p.slot * 8; }
};

/// The warp that brings a share. A piece with bytes before the first value of all, or behind the last, comes element by
/// element.
__device__ __forceinline__ void bring(const Closing& a, const Ring& ring, char* slots, const Share& s, Place& place) {
  const char *least = static_cast<const char*>(a.source), *most = least + a.at.count * i64(sizeof(Stored));
  const int lane = threadIdx.x % 32;
  for (int piece = 0; piece < s.pieces(); ++piece, place.next(ring.count)) {
    const int left = s.vectors - piece * PIECE, bytes = (left < PIECE ? left : PIECE) * MULTIPLE;
    const char* from = s.begin + i64(piece) * (PIECE * MULTIPLE);
    if (lane < arriving) barrier_wait(ring.empty_at(place), place.round ^ 1);  // others might miss two rounds of a slot
    __syncwarp();
    if (from >= least && from + bytes <= most) {
      if (lane == 0) {
        barrier_expect(ring.full_at(place), bytes);
        copy_bytes(ring.slot(place), from, bytes, ring.full_at(place));
      } else {
        barrier_arrive_if(lane < arriving, ring.full_at(place));
      }
      continue;
    }
    Stored* to = reinterpret_cast<Stored*>(slots + place.slot * (PIECE * MULTIPLE));
    for (int i = lane; i < bytes / int(sizeof(Stored)); i += 32) {
      const Stored* at = reinterpret_cast<const Stored*>(from) + i;
      if (reinterpret_cast<const char*>(at) >= least && reinterpret_cast<const char*>(at) < most) to[i] = *at;
    }
    fence_shared();
    __syncwarp();
    barrier_arrive_if(lane < arriving, ring.full_at(place));
  }
}

/// Values of a set, and of a plane: sets have less than 2^30.
__device__ __forceinline__ int length_of(const Closing& a) { return static_cast<int>(a.length); }
__device__ __forceinline__ int volume_of(const Closing& a) { return static_cast<int>(a.at.values.c); }

/// A run of a share, in the set: where it begins and in which plane.
struct Spots {
  int first;     ///< Number of its first value in the set; below 0 where that lies in the set before.
  int channel;   ///< Of that, or of the set's first.
  int in_plane;  ///< The first value's number, counted from that plane's first.

  __device__ __forceinline__ Spots(const Closing& a, int first, int channel) : first(first) {
    const int plane = quotient(first < 0 ? 0 : first, a.at.volume);
    this->channel = channel + plane;
    in_plane = first - plane * volume_of(a);
  }
  /// Whether `count` values from here on lie in one plane of the set.
  __device__ __forceinline__ bool in_one_plane(const Closing& a, int count) const {
    return first >= 0 && first < length_of(a) && in_plane + count <= volume_of(a);
  }
  __device__ __forceinline__ bool inside(const Closing& a, int j) const {
    return first + j >= 0 && first + j < length_of(a);
  }
  /// A plane has at least as many values as a vector.
  __device__ __forceinline__ int channel_of(const Closing& a, int j) const {
    return channel + (in_plane + j >= volume_of(a) ? 1 : 0);
  }
};

typedef Neighbours<Stored, VECTOR> Vector;

/// Moments as blocks and warps hand them on, in four words.
typedef Collected<MOMENTS, S> Moments;
__device__ __forceinline__ float4 quad_of(const Moments& m) { return {m.count, m.first, m.second, 0.0f}; }
/// Of the moments in `parts`, one a lane, in every lane.
__device__ __forceinline__ Moments merged(const float4* parts, int count) {
  const int lane = threadIdx.x % 32;
  const float4 part = parts[lane < count ? lane : 0];
  Moments m = lane < count ? Moments{part.x, part.y, part.z} : Moments::none();
  m.merge_team(32);
  return m;
}

/// What the warps do that do not bring. A warp has EACH vectors a lane of a piece, which are neighbours across the
/// lanes: but at the ends of planes it has values of one channel, and nothing is asked for each of them.
struct Work {
  const Closing& a;
  const Operands& operands;
  const Ring& ring;
  char* slots;
  const Share& share;
  int warp, lane;

  __device__ __forceinline__ Vector* vectors(const Place& place) const {
    return reinterpret_cast<Vector*>(slots + place.slot * (PIECE * MULTIPLE)) + warp * (EACH * 32) + lane;
  }
  __device__ __forceinline__ Spots run(int piece) const {
    return {a, share.offset + (piece * PIECE + warp * (EACH * 32)) * VECTOR, share.channel};
  }
  /// Whether all of a piece is this warp's in one plane.
  __device__ __forceinline__ bool whole(int piece, const Spots& run) const {
    return (piece * WARPS + warp + 1) * (EACH * 32) <= share.vectors && run.in_one_plane(a, EACH * 32 * VECTOR);
  }
  /// Vector k of a lane, where it exists, at its place.
  template <class Handle>
  __device__ __forceinline__ void each_alone(int piece, Handle&& handle) const {
#pragma unroll 1
    for (int k = 0; k < EACH; ++k) {
      const int index = piece * PIECE + warp * (EACH * 32) + k * 32 + lane;
      if (index < share.vectors) handle(k, Spots(a, share.offset + index * VECTOR, share.channel));
    }
  }
  __device__ __forceinline__ S before(Stored v, int c, int at) const {
    return config::before(to_float(v), a, operands, share.n, c, share.first + at);
  }
  /// The number in the set of value i of a lane in a piece that is whole.
  __device__ __forceinline__ int number(const Spots& run, int i) const {
    return run.first + (i / VECTOR * 32 + lane) * VECTOR + i % VECTOR;
  }
  __device__ __forceinline__ void read(const Vector* here, Vector (&v)[EACH]) const {
#pragma unroll
    for (int k = 0; k < EACH; ++k) v[k] = here[k * 32];
  }
  /// A piece that is not whole: its values, and what the ring keeps.
  __device__ __forceinline__ void look_alone(int piece, Vector* here, Taken<MOMENTS, S>& taken) const {
    each_alone(piece, [&](int k, const Spots& at) {
      Vector read = here[k * 32];
#pragma unroll
      for (int j = 0; j < VECTOR; ++j) {
        if (!at.inside(a, j)) continue;
        const S v[1] = {before(read.v[j], at.channel_of(a, j), at.first + j)};
        taken.take(v, 1, taken.count == 0);
        if constexpr (KEEPS) read.v[j] = from_float<Stored>(v[0]);
      }
      if constexpr (KEEPS) here[k * 32] = read;
    });
  }

  /// First look: this warp's moments, in every lane. The ring keeps the values where it can.
  __device__ __forceinline__ Moments look(Place at) const {
    Taken<MOMENTS, S> taken;
    const int pieces = share.pieces();
    for (int piece = 0; piece < pieces; ++piece, at.next(ring.count)) {
      barrier_wait(ring.full_at(at), at.round);
      const Spots run = this->run(piece);
      Vector* here = vectors(at);
      if (!whole(piece, run)) {
        look_alone(piece, here, taken);
        continue;
      }
      Vector u[EACH];
      S v[EACH * VECTOR];
      read(here, u);
#pragma unroll
      for (int i = 0; i < EACH * VECTOR; ++i) v[i] = before(u[i / VECTOR].v[i % VECTOR], run.channel, number(run, i));
      if constexpr (KEEPS) {
#pragma unroll
        for (int i = 0; i < EACH * VECTOR; ++i) u[i / VECTOR].v[i % VECTOR] = from_float<Stored>(v[i]);
#pragma unroll
        for (int k = 0; k < EACH; ++k) here[k * 32] = u[k];
      }
      taken.take(v, EACH * VECTOR, taken.count == 0);
    }
    if constexpr (KEEPS) fence_shared();  // what was kept, before the copies that take its place
    Moments own = taken.collected();
    __syncwarp();
    own.merge_team(32);
    return own;
  }

  /// Second look: results.
  __device__ __forceinline__ void leave(S mean, S scale, Place& place) const {
    Out* const out = static_cast<Out*>(a.out) + share.first;
    const bool together = in_place_for<Out, VECTOR>(out + share.offset);
    const int pieces = share.pieces();
    int known = -1;  // the channel of `factor` and `shift`
    S factor = S(0), shift = S(0);
    const auto know = [&](int c) {
      if (known == c) return;
      known = c, factor = scale;
      if constexpr (config::WEIGHT) factor *= to_float(static_cast<const Element*>(a.weight)[c]);
      if constexpr (config::BIAS) shift = to_float(static_cast<const Element*>(a.bias)[c]);
    };
    const auto value = [&](Stored v, int c, int at) {
      if constexpr (KEEPS) return S(to_float(v));
      return before(v, c, at);
    };
    const auto result = [&](S v, int c, int at) {
      return from_float<Out>(config::middle((v - mean) * factor + shift, a, operands, share.n, c, share.first + at));
    };
    for (int piece = 0; piece < pieces; ++piece, place.next(ring.count)) {
      const Spots run = this->run(piece);
      const Vector* here = vectors(place);
      if (together && whole(piece, run)) {
        Vector u[EACH];
        read(here, u);
        know(run.channel);
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
          const int first = number(run, k * VECTOR);
          Neighbours<Out, VECTOR> to;
#pragma unroll
          for (int j = 0; j < VECTOR; ++j)
            to.v[j] = result(value(u[k].v[j], run.channel, first + j), run.channel, first + j);
          *reinterpret_cast<Neighbours<Out, VECTOR>*>(out + first) = to;
        }
      } else {
        each_alone(piece, [&](int k, const Spots& at) {
          const Vector u = here[k * 32];
#pragma unroll
          for (int j = 0; j < VECTOR; ++j) {
            if (!at.inside(a, j)) continue;
            const int c = at.channel_of(a, j);
            know(c);
            out[at.first + j] = result(value(u.v[j], c, at.first + j), c, at.first + j);
          }
        });
      }
      __syncwarp();
      barrier_arrive_if(lane < arriving, ring.empty_at(place));
    }
  }
};

}  // namespace upconv::closing

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
extern "C" __global__ void closing_sets(const upconv::arguments::Closing, const config::Operands) {}
#else
extern "C" __global__ void __cluster_dims__(config::CLUSTER, 1, 1) __launch_bounds__(upconv::arguments::set_threads, 1)
    closing_sets(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  extern __shared__ __align__(128) char slots[];
  __shared__ u64 barriers[2 * SLOTS + 2];
  __shared__ float4 of_warps[WARPS];
  __shared__ float4 of_blocks[2][CLUSTER];  // of this set and the next
  Ring ring{shared_address(slots), shared_address(barriers), shared_address(barriers + SLOTS), int(a.shares)};
  ring.hold();
  const u32 heard = shared_address(barriers + 2 * SLOTS);  // what all blocks send of a set has come
  if (threadIdx.x == 0) {
    for (int i = 0; i < ring.count; ++i) {
      barrier_init(ring.full + i * 8, arriving);
      barrier_init(ring.empty + i * 8, WARPS * arriving);
    }
    barrier_init(heard, arriving), barrier_init(heard + 8, arriving);
    barriers_ready();
  }
  after_previous();
  meet_cluster();
  const int warp = static_cast<int>(threadIdx.x / 32), lane = threadIdx.x % 32;
  // The sets of a cluster are its own number's and every `clusters`-th from there on.
  const i64 clusters = gridDim.x / CLUSTER;
  i64 index = blockIdx.x / CLUSTER;
  const auto share_of = [&](i64 i) { return Share(a, a.backwards ? a.units - 1 - i : i); };
  Place place;
  if (warp == WARPS) {
    for (; index < a.units; index += clusters) bring(a, ring, slots, share_of(index), place);
    return;
  }
  for (int turn = 0, round = 0; index < a.units; index += clusters, turn ^= 1, round ^= turn == 0) {
    const Share share = share_of(index);
    const Work work{a, operands, ring, slots, share, warp, lane};
    const Moments own = work.look(place);
    if (lane == 0) of_warps[warp] = quad_of(own);
    __syncwarp();
    const u32 heard_now = heard + turn * 8;
    if (warp == 0) {
      meet(1, WARPS * 32);
      const float4 of_all = quad_of(merged(of_warps, WARPS));
      if constexpr (CLUSTER == 1) {
        if (lane == 0) of_blocks[turn][0] = of_all;
        barrier_arrive_if(lane < arriving, heard_now);
      } else {
        if (lane == 0)
          barrier_expect(heard_now, CLUSTER * 16);
        else
          barrier_arrive_if(lane < arriving, heard_now);
        // A block that sends of the next set but one has heard of the next from this block, whose warps have read this
        // one's by then.
        if (lane < CLUSTER)
          send_quad(address_in(lane, shared_address(&of_blocks[turn][rank_in_cluster()])), of_all,
                    address_in(lane, heard_now));
      }
    } else {
      arrive_only(1, WARPS * 32);
    }
    barrier_wait(heard_now, round);
    const Moments all = merged(of_blocks[turn], CLUSTER);
    const S scale = config::CENTER ? S(1) : S(1) / root(all.second / all.count + S(config::EPS));
    if (a.saved && rank_in_cluster() == 0 && threadIdx.x == 0)
      static_cast<S*>(a.saved)[2 * share.set] = all.first, static_cast<S*>(a.saved)[2 * share.set + 1] = scale;
    work.leave(all.first, scale, place);
  }
}
#endif
""",
    "closing/parts.cuh": r"""// Statistics of units, runs of `length` neighbouring values each: planes, rows, or what a pooling leaves of a plane.
// A unit is cut into shares; a team (a warp where units are small, else a block) collects one share and writes two
// numbers, which closing/norm.cuh or closing/result.cuh put together. Where a unit is one share and a plain reduction
// is wanted (FINISH), the team writes the result itself. Floor: the values once through memory.
// Host preamble: COLLECT, FINISH, AS (how a collected number becomes the result).
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256, sizeof(upconv::closing::S) == 4 ? 6 : 2)
    closing_parts(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  typedef Collected<config::COLLECT, S> Collection;
  constexpr int most = config::POOL ? 4 : 8;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 index = i64(block_number(a)) * teams + team;  // of all shares; a warp beyond the last does nothing
  if (index >= a.units * a.shares) return;
  const i64 unit = quotient(index, a.shares), share = index - unit * a.shares;
  const Index from = static_cast<Index>(share * a.share);
  const Index count = static_cast<Index>(a.length - from < a.share ? a.length - from : a.share);
  const Run run(a, unit * a.length + from, count);
  Taken<config::COLLECT, S> taken;
  Index i = lane;
  const int apart = a.team;
  const auto inside = [&](int k) { return i + k * apart < count; };
  const auto take = [&](auto&& value_of) {
    S v[most];
    int held = 0;
#pragma unroll
    for (int k = 0; k < most; ++k) v[k] = value_of(k), held += inside(k);
    taken.take(v, held, i == lane);
  };
  const auto in_one_plane = [&](int k) {
    Spot s = in_plane(run.plane, run.first);
    s.inside = run.first + (inside(k) ? i + k * apart : i);
    return value_if(inside(k), a, operands, s);
  };
  const auto anywhere = [&](int k) {
    return value_if(inside(k), a, operands, run.at(a, inside(k) ? i + k * apart : 0));
  };
  if constexpr (config::POOL) {  // windows are long: as few copies of their code as can be
    for (; i < count; i += most * apart) run.one_plane ? take(in_one_plane) : take(anywhere);
  } else if (run.one_plane) {
    const Spot s = in_plane(run.plane, run.first);
    for (; inside(most - 1); i += most * apart) {
      S v[most];
#pragma unroll
      for (int k = 0; k < most; ++k) v[k] = value(a, operands, s.n, s.channel, s.inside + i + k * apart);
      taken.take(v, most, i == lane);
    }
    if (i < count) take(in_one_plane);
  } else {
    for (; i < count; i += most * apart) take(anywhere);
  }
  Collection all = taken.collected();
  all.merge_team(a.team);
  if (lane != 0) return;
  if constexpr (config::FINISH) {
    if (a.shares == 1) {
      const i64 plane = quotient(unit, a.result.values.c);
      const u32 n = static_cast<u32>(plane) / config::RESULT_CHANNELS;
      const int channel = static_cast<int>(static_cast<u32>(plane) - n * config::RESULT_CHANNELS);
      static_cast<Out*>(a.out)[unit] = from_float<Out>(
          config::last(reduced(all, config::AS, a.length), a, operands, static_cast<int>(n), channel, unit));
      return;
    }
  }
  S* part = static_cast<S*>(a.parts) + 2 * index;
  part[0] = all.first;
  part[1] = all.second;
}
""",
    "closing/norm.cuh": r"""// From the moments of planes to the table that applies a norm: for every plane three numbers, v -> (v - r) * s + t.
// A set is what shares mean and variance: a group of channels of one sample, or (BATCH) a channel of all samples; a
// team, a warp or a block, works on one. A table that is there already is applied to the moments first, so that norms
// without anything between them need the values once. Sums of moments in double.
// Where each plane is moved to a mean of 0 next (CENTERED), that is part of it: a plane's own mean takes the place of
// the set's.
// Host preamble: BATCH, PER (planes of a group), CHANNELS, TABLE (there is one already), WEIGHT, BIAS, CENTER (no
// scale), CENTERED, EPS.
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) closing_norm(const upconv::arguments::Closing a) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  typedef Collected<MOMENTS, double> Moments;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 set = i64(blockIdx.x) * teams + team;
  if (set >= a.units) return;
  const i64 planes = config::BATCH ? a.planes : config::PER, parts = planes * a.shares;
  const auto plane_of = [&](i64 k) { return config::BATCH ? k * CHANNELS + set : set * config::PER + k; };
  const S* table = static_cast<const S*>(a.tables[0]);
  // The moments of a share of a plane.
  const auto moments = [&](i64 plane, i64 share) {
    const S* part = static_cast<const S*>(a.parts) + 2 * (plane * a.shares + share);
    const i64 left = a.length - share * a.share;
    Moments one = {double(left < a.share ? left : a.share), double(part[0]), double(part[1])};
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      one.first = (one.first - double(t[0])) * double(t[1]) + double(t[2]);
      one.second *= double(t[1]) * double(t[1]);
    }
    return one;
  };
  Moments m = Moments::none();
  for (i64 i = lane; i < parts; i += a.team) {
    const i64 k = quotient(i, a.shares);
    m.merge(moments(plane_of(k), i - k * a.shares));
  }
  m.merge_team(a.team);
  const double mean = m.first, variance = m.second / m.count;
  const double inverse = config::CENTER ? 1.0 : 1.0 / sqrt(variance + config::EPS);
  if (a.saved && lane == 0)
    static_cast<S*>(a.saved)[2 * set] = S(mean), static_cast<S*>(a.saved)[2 * set + 1] = S(inverse);
  if (a.statistics && lane == 0) a.statistics[set] = mean, a.statistics[a.units + set] = variance;
  for (i64 k = lane; k < planes; k += a.team) {
    const i64 plane = plane_of(k), channel = plane % CHANNELS;
    double scale = inverse, shift = 0.0;
    if constexpr (config::WEIGHT) scale *= double(to_float(static_cast<const Element*>(a.weight)[channel]));
    if constexpr (config::BIAS) shift = double(to_float(static_cast<const Element*>(a.bias)[channel]));
    double middle = mean;
    if constexpr (config::CENTERED) {
      Moments own = Moments::none();
      for (i64 share = 0; share < a.shares; ++share) own.merge(moments(plane, share));
      middle = own.first, shift = 0.0;
    }
    S* to = static_cast<S*>(a.table_out) + 3 * plane;
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      const S r = t[0];
      const double s = double(t[1]), was = double(t[2]);
      to[0] = r, to[1] = S(s * scale), to[2] = S((was - middle) * scale + shift);
    } else {
      const S r = S(middle);
      to[0] = r, to[1] = S(scale), to[2] = S((double(r) - middle) * scale + shift);
    }
  }
}
""",
    "closing/map.cuh": r"""// A closing kernel that writes every value: a norm or softmax applied by its table, pooling, the steps around them.
// A thread has several values, a block's apart: neighbouring lanes read neighbours, whatever a plane's size is a
// multiple of. All are read before the first is written, so the result may take the source's place where there is no
// window. Blocks of 256. Floor: the source once, the result once.
#include "closing/value.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_map(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  constexpr int each = config::POOL ? 2 : 8;
  const i64 begin = i64(block_number(a)) * (THREADS * each);
  const Run run(a, begin, THREADS * each);
  const int thread = threadIdx.x;
  S v[each];
  if (run.one_plane) {
    const Spot s = in_plane(run.plane, run.first);
#pragma unroll
    for (int u = 0; u < each; ++u) v[u] = value(a, operands, s.n, s.channel, run.first + thread + u * THREADS);
  } else {
#pragma unroll
    for (int u = 0; u < each; ++u) {
      v[u] = S(0);
      if (begin + thread + u * THREADS >= a.at.count) continue;
      const Spot s = run.at(a, thread + u * THREADS);
      v[u] = value(a, operands, s.n, s.channel, s.inside);
    }
  }
  Out* out = static_cast<Out*>(a.out) + begin + thread;
#pragma unroll
  for (int u = 0; u < each; ++u)
    if (run.one_plane || begin + thread + u * THREADS < a.at.count) out[u * THREADS] = from_float<Out>(v[u]);
}
""",
    "arguments/pull.cuh": r"""// What a launch of the gradient kernels of closing/ passes by value. launch/pull.hpp fills it.
#pragma once

#include "arguments/closing.cuh"

namespace upconv::arguments {

/// Most operands whose gradients one kernel writes for every value.
constexpr int most_wholes = 16;

struct Pull {
  Closing values;           ///< The values that the forward pass computed from; `out` is what the gradient becomes.
  const void* gradient;     ///< As it arrives: of the values themselves, of what a reduction or a window left of them.
  ClosingShape arriving;    ///< Of a window's results.
  const void* argmax;       ///< Where in each window its largest value lies.
  const void* reduced;      ///< What a reduction gave.
  const void* ties;         ///< How many values are that.
  long long length, inner;  ///< The values of a reduction, as those of Closing.
  const void* coefficients[4];  ///< Of a norm or softmax among the items: three numbers a plane or row.
  void* sums;                   ///< Of every unit and share, SUMS numbers.
  void* vector_sums;            ///< rows: of every block, the gradients of a norm's weight and bias.
  void* whole[most_wholes];     ///< Gradients of operands, one number a value.
};

/// Sums over some dimensions of numbers that lie in any way.
struct Total {
  const void* in;
  void* out;
  long long outputs, count;           ///< Results, and numbers of each.
  long long kept[5], kept_stride[5];  ///< Sizes and strides of what is kept, outermost first; 1 where there is none.
  long long gone[5], gone_stride[5];  ///< Of what is summed over.
  int team;                           ///< Threads of a result: 1, 32 or 256.
};

}  // namespace upconv::arguments
""",
    "epilogue/slopes.cuh": r"""// The derivatives of the activations of epilogue/activations.cuh, for the kernels of closing/pull*.cuh: d f(v) / dv at
// v, as torch's backward takes it where the function has a corner.
#pragma once

#include "epilogue/activations.cuh"

namespace upconv::slope {

__device__ __forceinline__ float cosine_of(float v) { return cosf(v); }
__device__ __forceinline__ double cosine_of(double v) { return cos(v); }

template <class S>
__device__ __forceinline__ S relu(S v) {
  return v <= S(0) ? S(0) : S(1);
}
template <class S>
__device__ __forceinline__ S leaky_relu(S v, S negative_slope) {
  return v > S(0) ? S(1) : negative_slope;
}
template <class S>
__device__ __forceinline__ S elu(S v, S alpha) {
  return v > S(0) ? S(1) : alpha * upconv::exponential(v);
}
template <class S>
__device__ __forceinline__ S gelu(S v) {
  const S density = S(0.39894228040143267794) * upconv::exponential(S(-0.5) * v * v);
  return normal_below(v) + v * density;
}
/// Of v * s with s = 1 / (1 + exp(-2u)).
template <class S>
__device__ __forceinline__ S gelu_tanh(S v) {
  const S s = activation::sigmoid(S(1.5957691216057307) * (v + S(0.044715) * v * v * v));
  return s + v * s * (S(1) - s) * S(1.5957691216057307) * (S(1) + S(0.134145) * v * v);
}
template <class S>
__device__ __forceinline__ S silu(S v) {
  const S s = activation::sigmoid(v);
  return s * (S(1) + v * (S(1) - s));
}
/// With t = tanh(log(1 + e)): t + v * (1 - t * t) * sigmoid(v).
template <class S>
__device__ __forceinline__ S mish(S v) {
  const S e = upconv::exponential(v > S(20) ? S(20) : v), n = e * (e + S(2)), t = n / (n + S(2));
  return v > S(20) ? S(1) : t + v * (S(4) * (n + S(1)) / ((n + S(2)) * (n + S(2)))) * activation::sigmoid(v);
}
template <class S>
__device__ __forceinline__ S tanh(S v) {
  const S t = hyperbolic_tangent(v);
  return S(1) - t * t;
}
template <class S>
__device__ __forceinline__ S sigmoid(S v) {
  const S s = activation::sigmoid(v);
  return s * (S(1) - s);
}
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  return v <= low || v >= high ? S(0) : S(1);
}
template <class S>
__device__ __forceinline__ S hardsigmoid(S v) {
  return v > S(-3) && v < S(3) ? S(1.0 / 6.0) : S(0);
}
template <class S>
__device__ __forceinline__ S hardswish(S v) {
  return v <= S(-3) ? S(0) : v < S(3) ? v * S(1.0 / 3.0) + S(0.5) : S(1);
}
template <class S>
__device__ __forceinline__ S softplus(S v, S beta, S threshold) {
  return v * beta > threshold ? S(1) : activation::sigmoid(v * beta);
}

template <class S>
__device__ __forceinline__ S sine(S v) {
  return cosine_of(v);
}
template <class S>
__device__ __forceinline__ S square(S v) {
  return S(2) * v;
}
template <class S>
__device__ __forceinline__ S exponential(S v) {
  return upconv::exponential(v);
}

}  // namespace upconv::slope
""",
    "closing/gradient.cuh": r"""// How the gradient of a value arrives at the kernels that take it further back: as it is, from what a reduction left of
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
""",
    "closing/pull.cuh": r"""// Takes a gradient back through element-wise items, norms among them, and through what lies behind them: a reduction, a
// pooling. A team (a warp where units are small, else a block) has a share of a unit, as in closing/parts.cuh; it
// writes the gradient of every value and sums over the share: of the gradient itself (a bias's), of operands, of what a
// norm or softmax needs before its own gradient is known. Floor: source and gradient once, the result once. Host
// preamble: STORE, SUMS, that of closing/gradient.cuh.
#include "closing/gradient.cuh"

extern "C" __global__ void __launch_bounds__(256, 3)
    closing_pull(const upconv::arguments::Pull p, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  constexpr int most = config::POOL ? 2 : 4;
  const Closing& a = p.values;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 index = i64(blockIdx.x) * teams + team;  // of all shares; a warp beyond the last does nothing
  if (index >= a.units * a.shares) return;
  const i64 unit = quotient(index, a.shares), share = index - unit * a.shares;
  const Index from = static_cast<Index>(share * a.share);
  const Index count = static_cast<Index>(a.length - from < a.share ? a.length - from : a.share);
  const Run run(a, unit * a.length + from, count);
  const Spot plane = in_plane(run.plane, run.first);
  S sums[HELD_SUMS] = {};
  for (Index i = lane; i < count; i += most * a.team) {
    S v[most], g[most];
    Spot s[most];
#pragma unroll
    for (int k = 0; k < most; ++k) {
      const bool inside = i + k * a.team < count;
      const Index there = inside ? i + k * a.team : 0;
      s[k] = run.one_plane ? Spot{plane.n, plane.channel, run.first + there} : run.at(a, there);
      const i64 at = s[k].n * a.at.values.n + s[k].channel * a.at.values.c + s[k].inside;
      v[k] = inside ? beginning(p, operands, s[k].n, s[k].channel, s[k].inside, at) : S(0);
      g[k] = inside ? arriving_at(p, s[k].n, s[k].channel, s[k].inside, at) : S(0);
    }
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (i + k * a.team >= count) continue;
      const i64 at = s[k].n * a.at.values.n + s[k].channel * a.at.values.c + s[k].inside;
      const S back = config::pull(v[k], g[k], p, operands, s[k].n, s[k].channel, at, sums);
      if constexpr (config::STORE) static_cast<Out*>(a.out)[at] = from_float<Out>(back);
    }
  }
  if constexpr (SUMS > 0) {
    sum_team(sums, a.team);
    if (lane != 0) return;
    S* to = static_cast<S*>(p.sums) + index * SUMS;
#pragma unroll
    for (int k = 0; k < SUMS; ++k) to[k] = sums[k];
  }
}
""",
    "closing/pull_norm.cuh": r"""// From the sums of a norm's gradient to what takes it back. With h the gradient of the norm's result, w its weight, q
// the normalised value, r the scale: that of the value is r * (w h - mean(w h) - q mean(w h q)), means over the set
// that shares mean and variance. SUMS of every plane or row and share: h, and h q. For every plane or row three
// numbers: r w, r mean(w h), r mean(w h q). Sets and teams as in closing/norm.cuh; sums in double. Host preamble:
// BATCH, PER, CHANNELS, CENTER (no scale), WEIGHT (a number for each channel).
#include "closing/value.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) closing_pull_norm(const upconv::arguments::Closing a) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 set = i64(blockIdx.x) * teams + team;
  if (set >= a.units) return;
  const i64 planes = config::BATCH ? a.planes : config::PER, parts = planes * a.shares;
  const auto plane_of = [&](i64 k) { return config::BATCH ? k * CHANNELS + set : set * config::PER + k; };
  const auto weight_of = [&](i64 plane) {
    return config::WEIGHT ? double(to_float(static_cast<const Element*>(a.weight)[plane % CHANNELS])) : 1.0;
  };
  double of_h = 0.0, of_product = 0.0;
  for (i64 i = lane; i < parts; i += a.team) {
    const i64 k = quotient(i, a.shares), share = i - k * a.shares, plane = plane_of(k);
    const S* part = static_cast<const S*>(a.parts) + 2 * (plane * a.shares + share);
    const double w = weight_of(plane);
    of_h += w * double(part[0]);
    of_product += w * double(part[1]);
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    of_h += __shfl_xor_sync(0xffffffffu, of_h, lanes);
    of_product += __shfl_xor_sync(0xffffffffu, of_product, lanes);
  }
  if (a.team > 32) {
    __shared__ double held[2][THREADS / 32];
    if (threadIdx.x % 32 == 0) held[0][threadIdx.x / 32] = of_h, held[1][threadIdx.x / 32] = of_product;
    __syncthreads();
    of_h = of_product = 0.0;
    for (int w = 0; w < THREADS / 32; ++w) of_h += held[0][w], of_product += held[1][w];
  }
  const double count = double(planes) * double(a.length);
  const double scale = double(static_cast<const S*>(a.tables[0])[config::TABLE_WIDTH * set + 1]);
  const S mean = S(scale * of_h / count), slope = config::CENTER ? S(0) : S(scale * of_product / count);
  for (i64 k = lane; k < planes; k += a.team) {
    const i64 plane = plane_of(k);
    S* to = static_cast<S*>(a.table_out) + 3 * plane;
    to[0] = S(scale * weight_of(plane)), to[1] = mean, to[2] = slope;
  }
}
""",
    "closing/total.cuh": r"""// Sums over some dimensions of numbers of an array, in double and in a fixed order: the gradient of an operand that is
// broadcast, from sums of shares or from a number for each value. A team of 1, 32 or 256 threads has a result.
// Host preamble: In (the numbers), Out (the results), ADD (to what is there).
#include "arguments/pull.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

/// The offset of element number `i` of dense sizes in an array of other strides.
__device__ __forceinline__ i64 total_offset(i64 i, const long long (&size)[5], const long long (&stride)[5]) {
  i64 offset = 0;
#pragma unroll
  for (int d = 4; d >= 0; --d) {
    if (size[d] == 1) continue;
    i64 q;
    if (((i | size[d]) >> 32) == 0)
      q = static_cast<u32>(i) / static_cast<u32>(size[d]);
    else
      q = i / size[d];
    offset += (i - q * size[d]) * stride[d];
    i = q;
  }
  return offset;
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(256) closing_total(const upconv::arguments::Total t) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  typedef Number<config::Out>::Sum S;
  const int teams = 256 / t.team, team = threadIdx.x / static_cast<u32>(t.team), lane = threadIdx.x % t.team;
  const i64 result = i64(blockIdx.x) * teams + team;
  const bool exists = result < t.outputs;  // lanes of a warp without a result shuffle along
  double sum = 0.0;
  if (exists) {
    const config::In* in = static_cast<const config::In*>(t.in) + total_offset(result, t.kept, t.kept_stride);
    i64 i = lane;
    for (; i + 3 * t.team < t.count; i += 4 * t.team) {
      config::In v[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) v[k] = in[total_offset(i + k * t.team, t.gone, t.gone_stride)];
#pragma unroll
      for (int k = 0; k < 4; ++k) sum += double(v[k]);
    }
    for (; i < t.count; i += t.team) sum += double(in[total_offset(i, t.gone, t.gone_stride)]);
  }
  if (t.team > 1) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lanes);
  }
  if (t.team > 32) {
    __shared__ double held[8];
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 1; w < 8; ++w) sum += held[w];
  }
  if (!exists || lane != 0) return;
  config::Out* out = static_cast<config::Out*>(t.out) + result;
  if constexpr (config::ADD) sum += double(to_float(*out));
  *out = from_float<config::Out>(S(sum));
}
""",
    "launch/sizes.hpp": r"""// What a launch is computed from: batch and spatial sizes, tensors, and the integer arithmetic for it. The headers of
// this folder turn them into arguments and a grid for a kernel whose specialisation is fixed. They are plain C++17
// without a library: src/cuda includes them, and exported files hold them as text (docs/exporting.md).
#pragma once

#include "arguments/strides.cuh"

namespace upconv::launch {

typedef long long Int;

/// Of one transposed convolution, in D, H, W; missing outer dimensions are 1.
struct Sizes {
  Int batch;
  Int in[3], out[3];
};

/// forward: x, w, bias, y. dx: dy, w, -, dx. dw: x, dy, -, dw. db: dy, -, -, db.
struct Tensors {
  const void* a;
  const void* b;
  const void* bias;
  void* out;
  const void* operands = nullptr;  ///< The kernel's last argument where an epilogue reads operands.
};

/// Grid, block and dynamic shared memory of one kernel.
struct Shape {
  unsigned grid, block, shared_bytes;
};

inline Int least(Int a, Int b) { return a < b ? a : b; }
inline Int most(Int a, Int b) { return a > b ? a : b; }
inline Int floor_div(Int a, Int b) { return a / b - (a % b < 0 ? 1 : 0); }
inline Int ceil_div(Int a, Int b) { return -floor_div(-a, b); }
inline Int volume(const Int (&size)[3]) { return size[0] * size[1] * size[2]; }
/// The last argument of a kernel that has an epilogue (epilogue/operands.cuh).
inline void* operands_of(const Tensors& t) {
  static char nothing;
  return t.operands ? const_cast<void*>(t.operands) : &nothing;
}
inline bool aligned(const void* p, Int bytes) { return reinterpret_cast<unsigned long long>(p) % bytes == 0; }

/// Element strides of a dense tensor, channels first or last.
inline arguments::Strides dense_strides(bool last, Int channels, const Int (&size)[3]) {
  const Int all = volume(size);
  if (last) return {all * channels, 1, size[1] * size[2] * channels, size[2] * channels, channels};
  return {all * channels, all, size[1] * size[2], size[2], 1};
}

}  // namespace upconv::launch
""",
    "launch/ordered_sum.hpp": r"""// Launch of ordered_sum.cuh: result[c] = the sum over row < rows and i < inner of parts[row * count * inner + c * inner
// + i], c < count.
#pragma once

#include "launch/sizes.hpp"

namespace upconv::launch {

/// `start(kernel, shape, arguments)` puts a kernel on the stream and says whether it could.
template <class Start>
bool run_ordered_sum(Start&& start, int kernel, const void* parts, void* result, Int count, Int rows, Int inner = 1) {
  if (count == 0) return true;
  const Int columns = inner == 1 ? count : inner;
  int lanes = 1;
  // Eight neighbours fill a sector of memory; more would leave a small `count` to few blocks.
  const int widest = inner == 1 && count < 1024 ? 8 : 32;
  while (lanes < widest && lanes < columns) lanes *= 2;
  const Int results = inner == 1 ? lanes : 1, blocks = (count + results - 1) / results;
  void* list[] = {&parts, &result, &count, &rows, &inner, &lanes};
  return start(kernel, Shape{static_cast<unsigned>(least(blocks, 1 << 20)), 512, 0}, list);
}

}  // namespace upconv::launch
""",
    "launch/direct.hpp": r"""// Launch of direct.cuh for any batch and spatial size. Its kernels take the whole problem by value. Kernels: 0
// direct_gather, direct_weight or direct_bias, 1 ordered_sum.
#pragma once

#include "arguments/direct.cuh"
#include "launch/ordered_sum.hpp"

namespace upconv::launch {

constexpr Int direct_threads = 256, direct_most_blocks = 1 << 20;
/// Products that one thread of a weight or bias block adds up: 64 chains of 64.
constexpr Int direct_longest_chain = 4096;

struct DirectFixed {
  Int which = 0;        ///< 0 forward, 1 dx, 2 dw, 3 db
  bool narrow = false;  ///< Indices of 32 bits.
  bool x_last = false, y_last = false, channels_fast = false;
  Int groups = 1, ci = 1, co = 1;  ///< Channels a group.
  Int kernel_d = 1, kernel_h = 1, kernel_w = 1, stride_d = 1, stride_h = 1, stride_w = 1;
  Int padding_d = 0, padding_h = 0, padding_w = 0, dilation_d = 1, dilation_h = 1, dilation_w = 1;
  Int w_ci = 0, w_co = 0, w_tap_d = 0, w_tap_h = 0, w_tap_w = 0;          ///< Element strides of the weights.
  Int block = 1;                                                          ///< forward, dx: channels of a thread.
  Int tile_i = 1, tile_o = 1, across_i = 1, across_o = 1, sum_bytes = 4;  ///< dw: channels of a thread, threads across.
  Int workspace_limit = 64 << 20;

  template <class Visit>
  void visit(Visit&& field) {
    field("which", which), field("narrow", narrow), field("x_last", x_last), field("y_last", y_last);
    field("channels_fast", channels_fast), field("groups", groups), field("ci", ci), field("co", co);
    field("kernel_d", kernel_d), field("kernel_h", kernel_h), field("kernel_w", kernel_w);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("dilation_d", dilation_d), field("dilation_h", dilation_h), field("dilation_w", dilation_w);
    field("w_ci", w_ci), field("w_co", w_co);
    field("w_tap_d", w_tap_d), field("w_tap_h", w_tap_h), field("w_tap_w", w_tap_w);
    field("block", block), field("tile_i", tile_i), field("tile_o", tile_o);
    field("across_i", across_i), field("across_o", across_o), field("sum_bytes", sum_bytes);
    field("workspace_limit", workspace_limit);
  }
};

struct DirectLaunch {
  const char* refusal = nullptr;
  arguments::Direct arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  Int elements = 0, splits = 1;
  Int workspace_bytes = 0;
};

inline arguments::Direct direct_arguments(const DirectFixed& f, const Sizes& z) {
  const Int kernel[3] = {f.kernel_d, f.kernel_h, f.kernel_w}, stride[3] = {f.stride_d, f.stride_h, f.stride_w};
  const Int padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  const Int dilation[3] = {f.dilation_d, f.dilation_h, f.dilation_w};
  const Int w_tap[3] = {f.w_tap_d, f.w_tap_h, f.w_tap_w};
  arguments::Direct s{};
  s.batch = z.batch, s.groups = f.groups, s.ci = f.ci, s.co = f.co;
  s.w_ci = f.w_ci, s.w_co = f.w_co;
  for (int k = 0; k < 3; ++k) {
    s.in[k] = z.in[k], s.out[k] = z.out[k], s.kernel[k] = kernel[k], s.padding[k] = padding[k];
    s.stride[k] = z.in[k] == 1 ? 1 : stride[k];
    s.dilation[k] = kernel[k] == 1 ? 1 : dilation[k];
    Int common = s.stride[k], rest = s.dilation[k];  // gcd
    while (rest != 0) {
      const Int next = common % rest;
      common = rest, rest = next;
    }
    s.tap_step[k] = s.stride[k] / common;
    s.source_step[k] = s.dilation[k] / common;
    s.back[k] = s.dilation[k] / s.stride[k];
    s.shift[k] = s.dilation[k] % s.stride[k];
    s.w_tap[k] = w_tap[k];
  }
  const arguments::Strides x = dense_strides(f.x_last, f.groups * f.ci, z.in);
  const arguments::Strides y = dense_strides(f.y_last, f.groups * f.co, z.out);
  s.x = {x.n, x.c, {x.d, x.h, x.w}};
  s.y = {y.n, y.c, {y.d, y.h, y.w}};
  s.channels_fast = f.channels_fast;
  return s;
}

/// Whether every index and every sum of two of them stays inside 32 bits.
inline bool direct_fits_32_bits(const DirectFixed& f, const Sizes& z, const arguments::Direct& s) {
  const double limit = 1 << 30;
  double reach = 0.0;  // in elements of dy, padding included
  for (int k = 0; k < 3; ++k) {
    const double span = double(s.stride[k]) * double(z.in[k]) + double(s.dilation[k]) * double(s.kernel[k]) +
                        2.0 * double(s.padding[k]) + double(z.out[k]);
    if (span >= limit) return false;
    reach += span * double(s.y.at[k]);
  }
  const double batch = double(most(z.batch, 1)), in_channels = double(f.groups * f.ci);
  return reach < limit && batch * in_channels * double(volume(z.in)) < limit &&
         batch * double(f.groups * f.co) * double(volume(z.out)) < limit &&
         in_channels * double(f.co) * double(s.kernel[0] * s.kernel[1] * s.kernel[2]) < limit;
}

inline DirectLaunch launch_of(const DirectFixed& f, const Sizes& z, int processors) {
  DirectLaunch l;
  l.arguments = direct_arguments(f, z);
  const arguments::Direct& s = l.arguments;
  if (f.narrow && f.which < 3 && !direct_fits_32_bits(f, z, s)) {
    l.refusal = "numbers past the 32-bit indices it was compiled with";
    return l;
  }
  const auto grid = [](Int blocks) { return static_cast<unsigned>(least(most(blocks, 1), direct_most_blocks)); };
  if (f.which < 2) {
    const Int items = z.batch * f.groups * ceil_div(f.which == 0 ? f.co : f.ci, f.block) *
                      (f.which == 0 ? volume(z.out) : volume(z.in));
    l.grid = items == 0 ? 0 : grid(ceil_div(items, direct_threads));
    return l;
  }
  const bool weight = f.which == 2;
  const Int taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  l.elements = weight ? f.groups * f.ci * f.co * taps : f.groups * f.co;
  const Int tiles =
      weight ? f.groups * ceil_div(f.ci, f.tile_i * f.across_i) * ceil_div(f.co, f.tile_o * f.across_o) * taps
             : l.elements;
  const Int positions = z.batch * (weight ? volume(z.in) : volume(z.out)), part = l.elements * f.sum_bytes;
  const Int lanes = direct_threads / (f.across_i * f.across_o);
  const Int for_chip = least(ceil_div(Int{8} * processors, tiles), ceil_div(positions, 4 * lanes));
  const Int for_accuracy = ceil_div(positions, lanes * direct_longest_chain);
  l.splits = least(most(most(for_chip, for_accuracy), 1), most(f.workspace_limit / part, 1));
  l.workspace_bytes = l.splits > 1 ? l.splits * part : 0;
  l.grid = grid(tiles * l.splits);
  return l;
}

template <class Start>
bool run(const DirectFixed& f, const DirectLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Direct shape = l.arguments;
  const void *a = t.a, *b = t.b, *bias = t.bias;
  void *result = t.out, *parts = l.splits > 1 ? workspace : nullptr;
  Int splits = l.splits;
  const Shape launch{l.grid, static_cast<unsigned>(direct_threads), 0};
  if (f.which < 2) {
    void* list[] = {&shape, &a, &b, &bias, &result, operands_of(t)};
    return start(0, launch, list);
  }
  void* of_weight[] = {&shape, &a, &b, &parts, &result, &splits};
  void* of_bias[] = {&shape, &a, &parts, &result, &splits};
  if (!start(0, launch, f.which == 2 ? of_weight : of_bias)) return false;
  return l.splits == 1 || run_ordered_sum(start, 1, parts, result, l.elements, l.splits);
}

}  // namespace upconv::launch
""",
    "launch/gather_mma.hpp": r"""// Launch of gather_mma.cuh for any batch and spatial size; the tile is fixed.
#pragma once

#include "arguments/gather_mma.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct GatherMmaFixed {
  bool forward = true, source_last = false, out_last = false;
  Int groups = 1, source_channels = 1, out_channels = 1;  ///< Channels of all groups.
  Int weight_group = 0;                                   ///< Elements from one group's weights to the next.
  Int stride_d = 1, stride_h = 1, stride_w = 1, padding_d = 0, padding_h = 0, padding_w = 0;
  Int columns = 1, block_columns = 8;                  ///< Of one group; of a block.
  Int tile_n = 1, tile_d = 1, tile_h = 1, tile_w = 1;  ///< Positions of a block.
  Int reach_d = 1;                                     ///< Source planes that a tile of one plane reads.
  Int threads = 256, shared_bytes = 0, blocks = 1;     ///< Blocks of a multiprocessor.

  template <class Visit>
  void visit(Visit&& field) {
    field("forward", forward), field("source_last", source_last), field("out_last", out_last);
    field("groups", groups), field("source_channels", source_channels), field("out_channels", out_channels);
    field("weight_group", weight_group);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("columns", columns), field("block_columns", block_columns);
    field("tile_n", tile_n), field("tile_d", tile_d), field("tile_h", tile_h), field("tile_w", tile_w);
    field("reach_d", reach_d), field("threads", threads), field("shared_bytes", shared_bytes);
    field("blocks", blocks);
  }
};

struct GatherMmaLaunch {
  const char* refusal = nullptr;  ///< Why the kernel cannot take these sizes.
  arguments::GatherMma arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

/// Whether offsets inside a tile have 31 bits.
inline bool gather_mma_offsets_fit(Int tile_n, Int tile_d, Int reach_d, Int step_d, double sample, double plane) {
  return (tile_n - 1) * sample + double(step_d) * (tile_d + reach_d - 1) * plane < 2147483648.0;
}

inline GatherMmaLaunch launch_of(const GatherMmaFixed& f, const Sizes& s, int processors) {
  GatherMmaLaunch l;
  const Int stride[3] = {f.stride_d, f.stride_h, f.stride_w}, padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  const Int(&source)[3] = f.forward ? s.in : s.out;
  const Int(&out)[3] = f.forward ? s.out : s.in;
  for (int d = 0; d < 3; ++d)
    if (source[d] >= 1 << 30 || out[d] >= 1 << 30) l.refusal = "a dimension of 2^30 or more";
  if (s.batch >= 1 << 30) l.refusal = "a batch of 2^30 or more";
  const double plane = double(source[1]) * double(source[2]) * double(f.source_last ? f.source_channels : 1);
  const double sample = double(f.source_channels) * double(source[0]) * double(source[1]) * double(source[2]);
  if (!gather_mma_offsets_fit(f.tile_n, f.tile_d, f.reach_d, f.forward ? 1 : f.stride_d, sample, plane))
    l.refusal = "the source of one tile spans 2^31 elements or more";
  if (l.refusal) return l;

  arguments::GatherMma& a = l.arguments;
  const arguments::Strides from = dense_strides(f.source_last, f.source_channels, source);
  const arguments::Strides to = dense_strides(f.out_last, f.out_channels, out);
  a.source_n = from.n, a.source_c = from.c, a.source_d = from.d, a.source_h = from.h, a.source_w = from.w;
  a.out_n = to.n, a.out_c = to.c, a.out_d = to.d, a.out_h = to.h, a.out_w = to.w;
  a.weight_group = f.weight_group;
  a.batch = static_cast<int>(s.batch);
  Int grid[3];
  for (int d = 0; d < 3; ++d) {
    const Int first = f.forward ? floor_div(padding[d], stride[d]) : 0;
    grid[d] = f.forward ? ceil_div(out[d] + padding[d], stride[d]) - first : out[d];
    a.source_size[d] = static_cast<int>(source[d]);
    a.out_size[d] = static_cast<int>(out[d]);
    a.first[d] = static_cast<int>(first);
    a.padding[d] = static_cast<int>(padding[d]);
  }
  a.tiles_n = static_cast<int>(ceil_div(s.batch, f.tile_n));
  a.tiles_d = static_cast<int>(ceil_div(grid[0], f.tile_d));
  a.tiles_h = static_cast<int>(ceil_div(grid[1], f.tile_h));
  a.tiles_w = static_cast<int>(ceil_div(grid[2], f.tile_w));
  a.column_blocks = static_cast<int>(ceil_div(f.columns, f.block_columns));
  a.groups = static_cast<int>(f.groups);
  const Int tiles = Int(a.tiles_n) * a.tiles_d * a.tiles_h * a.tiles_w, across = Int(a.column_blocks) * a.groups;
  if (tiles == 0) return l;
  // Persistent: blocks keep their columns and walk over tiles, each as many as any other within one.
  const Int rounds = most(1, ceil_div(tiles * across, Int(processors) * f.blocks));
  l.grid = static_cast<unsigned>(across * least(tiles, most(1, ceil_div(tiles, rounds))));
  return l;
}

template <class Start>
bool run(const GatherMmaFixed& f, const GatherMmaLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::GatherMma a = l.arguments;
  a.source = t.a, a.weight = t.b, a.bias = t.bias, a.out = t.out;
  void* list[] = {&a, operands_of(t)};
  return start(0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)}, list);
}

}  // namespace upconv::launch
""",
    "launch/positions.hpp": r"""// Launch of positions.cuh for any batch and spatial size; a thread's tile is fixed.
#pragma once

#include "arguments/positions.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct PositionsFixed {
  bool dx = false, in_last = false, out_last = false;  ///< "in" is x (forward) or dy (dx), "out" y or dx.
  bool group_lanes = false;                            ///< Lanes along groups, not along lines.
  Int groups = 1, ci = 1, co = 1;                      ///< Summed and produced channels of a group.
  Int phases_d = 1, phases_h = 1, phases_w = 1, shift_d = 0, shift_h = 0, shift_w = 0;
  Int uh = 1, uw = 1, cot = 1, sums = 1;  ///< Positions, channels and accumulators of a thread.
  Int threads = 256, blocks = 1;          ///< Blocks of a multiprocessor.
  Int element_bytes = 4, weight_floats = 0;

  template <class Visit>
  void visit(Visit&& field) {
    field("dx", dx), field("in_last", in_last), field("out_last", out_last), field("group_lanes", group_lanes);
    field("groups", groups), field("ci", ci), field("co", co);
    field("phases_d", phases_d), field("phases_h", phases_h), field("phases_w", phases_w);
    field("shift_d", shift_d), field("shift_h", shift_h), field("shift_w", shift_w);
    field("uh", uh), field("uw", uw), field("cot", cot), field("sums", sums);
    field("threads", threads), field("blocks", blocks);
    field("element_bytes", element_bytes), field("weight_floats", weight_floats);
  }
};

/// Dynamic shared memory of a launch whose summed channels are cut into `slices`.
inline Int positions_shared_bytes(const PositionsFixed& f, Int slices) {
  const Int sums = slices > 1 ? f.sums * f.threads / 2 : 0;
  return 4 * (f.weight_floats + f.threads * f.phases_w + sums);
}

struct PositionsLaunch {
  const char* refusal = nullptr;
  arguments::Positions arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  static constexpr Int workspace_bytes = 0;
};

inline PositionsLaunch launch_of(const PositionsFixed& f, const Sizes& z, int processors) {
  PositionsLaunch l;
  const Int limit = (Int(1) << 31) - 65536;
  const Int(&in)[3] = f.dx ? z.out : z.in;
  const Int(&out)[3] = f.dx ? z.in : z.out;
  if (volume(in) * (f.in_last ? f.ci * f.groups : 1) > limit ||
      volume(out) * (f.out_last ? f.co * f.groups : 1) > limit) {
    l.refusal = "a sample's plane exceeds 2^31 elements";
    return l;
  }
  const Int phases[3] = {f.phases_d, f.phases_h, f.phases_w}, shift[3] = {f.shift_d, f.shift_h, f.shift_w};
  const auto coarse = [&](int d) { return (out[d] + shift[d] + phases[d] - 1) / phases[d]; };
  arguments::Positions& s = l.arguments;
  s.in_d = int(in[0]), s.in_h = int(in[1]), s.in_w = int(in[2]);
  s.out_d = int(out[0]), s.out_h = int(out[1]), s.out_w = int(out[2]);
  const Int rows = (coarse(1) + f.uh - 1) / f.uh;
  const Int columns = f.uw > 1 ? (coarse(2) + 32 * f.uw - 1) / (32 * f.uw) * 32 : coarse(2);
  const Int positions = coarse(0) * rows * columns;
  if (double(positions) * double(z.batch) > double(1 << 30)) {
    l.refusal = "more than 2^30 positions";
    return l;
  }
  s.rows = int(rows), s.columns = int(columns);
  s.positions = int(positions);
  s.total = int(positions * z.batch);
  s.groups = int(f.groups);
  const Int lanes = f.group_lanes ? 32 : 1, tiles = (f.co + f.cot - 1) / f.cot;
  const Int slabs = tiles * ((f.groups + lanes - 1) / lanes);  // each has `total` positions
  const Int resident = Int(processors) * f.blocks;
  s.slices = 1;
  const auto blocks_for = [&](Int slices, Int steps) {
    const Int per = f.threads / slices / lanes * steps;
    return slabs * ((s.total + per - 1) / per);
  };
  while (s.slices < f.threads / 32 && f.ci >= 8 * s.slices && blocks_for(s.slices, 1) < resident) s.slices *= 2;
  s.steps = 1;
  while (s.steps < 16 && blocks_for(s.slices, 2 * s.steps) >= 6 * resident) s.steps *= 2;
  const Int per = f.threads / s.slices / lanes * s.steps;
  s.blocks = int((s.total + per - 1) / per);
  if (slabs * s.blocks > (Int(1) << 31) - 1) {
    l.refusal = "more than 2^31 blocks";
    return l;
  }
  l.grid = s.total == 0 ? 0 : static_cast<unsigned>(slabs * s.blocks);
  return l;
}

template <class Start>
bool run(const PositionsFixed& f, const PositionsLaunch& l, const Tensors& t, void*, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Positions s = l.arguments;
  s.vectors = f.shift_w == 0 && s.out_w % f.phases_w == 0 && aligned(t.out, f.phases_w * f.element_bytes);
  const void *in = t.a, *w = t.b, *bias = t.bias;
  void* out = t.out;
  void* list[] = {&in, &w, &bias, &out, &s, operands_of(t)};
  return start(
      0, Shape{l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(positions_shared_bytes(f, s.slices))},
      list);
}

}  // namespace upconv::launch
""",
    "launch/boxing.hpp": r"""// The boxes of boxes.cuh for any batch and spatial size: their extents, how their source is brought, and the cheapest
// of them.
#pragma once

#include "arguments/boxes.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it. Arrays are D, H, W.
struct BoxesFixed {
  bool backward = false, source_last = false, out_last = false;
  bool shared = false;      ///< The two warpgroups' boxes lie side by side.
  bool depth_loop = false;  ///< D is a loop, and a box lies in one depth of the result.
  bool wide = false;        ///< Boxes are multiples of 16 positions wide, or one row of fewer.
  bool direct = false;      ///< Sums go to the result from registers.
  bool line = false;        ///< Boxes are rows of positions, written in whole sectors.
  bool overlapped = false;  ///< Taps of W are columns; a box's rows of products are source elements.
  Int room = 0;             ///< Overlapped: staged source elements of a tap and row set, and places at their ends.
  Int warpgroups = 2;       ///< That multiply.
  Int merge = -1, rows = 1, segments = 1, columns = 8;
  Int element_bytes = 4, channels = 8;           ///< channels: of a stage.
  Int groups = 1, k = 1, n = 1;                  ///< Channels of source and result, a group.
  Int w_k = 0, w_n = 0, w_tap = 0, w_group = 0;  ///< Element strides of the weights.
  Int step_d = 1, step_h = 1, step_w = 1;        ///< Source elements from q to q.
  Int offset_d = 0, offset_h = 0, offset_w = 0;  ///< Of the first tap.
  Int span_d = 0, span_h = 0, span_w = 0;        ///< From the first tap to the last, in source elements.
  Int phases_d = 1, phases_h = 1, phases_w = 1;
  Int padding_d = 0, padding_h = 0, padding_w = 0;
  Int depth_taps = 1;    ///< Of the loop,
  Int depth_stride = 1;  ///< of which every so many reach a depth of the result.
  Int depth_dilation = 1;
  Int source_words = 0;  ///< Room of a stage.
  Int shared_bytes = 0;
  Int streamed_bytes = 0;     ///< Weights of a stage, unless resident.
  Int share_bytes = 0;        ///< Prepared weights of one share of the result channels.
  Int share_units = 0;        ///< What a thread prepares, of one share.
  double clocks = 0.0;        ///< Of one stage's products, for one box.
  double store_clocks = 0.0;  ///< Of a warpgroup that writes one box, while nothing else holds it up.

  template <class Visit>
  void visit(Visit&& field) {
    field("backward", backward), field("source_last", source_last), field("out_last", out_last);
    field("shared", shared), field("depth_loop", depth_loop), field("wide", wide), field("line", line),
        field("direct", direct), field("overlapped", overlapped), field("room", room);
    field("warpgroups", warpgroups), field("merge", merge), field("rows", rows), field("segments", segments),
        field("columns", columns);
    field("element_bytes", element_bytes), field("channels", channels);
    field("groups", groups), field("k", k), field("n", n);
    field("w_k", w_k), field("w_n", w_n), field("w_tap", w_tap), field("w_group", w_group);
    field("step_d", step_d), field("step_h", step_h), field("step_w", step_w);
    field("offset_d", offset_d), field("offset_h", offset_h), field("offset_w", offset_w);
    field("span_d", span_d), field("span_h", span_h), field("span_w", span_w);
    field("phases_d", phases_d), field("phases_h", phases_h), field("phases_w", phases_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("depth_taps", depth_taps), field("depth_stride", depth_stride), field("depth_dilation", depth_dilation),
        field("source_words", source_words);
    field("shared_bytes", shared_bytes), field("streamed_bytes", streamed_bytes), field("clocks", clocks);
    field("store_clocks", store_clocks), field("share_bytes", share_bytes), field("share_units", share_units);
  }
};

/// How the source of a stage comes: by bulk copies, by copies of 16 bytes of rows wherever they lie, element by
/// element.
enum class Bring { bulk, rows, elements };

/// Extents of boxes, in the order n, d, h, w, and what they cost.
struct Boxing {
  Int extent[4] = {0, 0, 0, 0}, box[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0}, step[4] = {0, 0, 0, 0};
  Int pitch_h = 0, pitch_d = 0, pitch_c = 0, pitch_n = 0;  ///< Of the source in a stage, in elements.
  Int tiles = 0, lines = 0, line = 0;
  Int columns = 0;  ///< Rows of products along w: extent[3], overlapped source elements.
  Int from_w = 0, put_from = 0, read_from = 0, line_room = 0;  ///< As in the arguments.
  double clocks = -1.0;  ///< Of all boxes on one multiprocessor, for one share of the result channels; < 0: none fits.
};

/// The dimensions of a launch as boxes see them, n first: positions q, and elements of source and result.
struct BoxSpace {
  Int begin[4], count[4], source[4], out[4];
  double part = 1.0;  ///< Of source and result, that these positions read and write.
};

inline BoxSpace box_space(const BoxesFixed& f, const Sizes& s) {
  const Int(&source)[3] = f.backward ? s.out : s.in;
  const Int(&out)[3] = f.backward ? s.in : s.out;
  const Int phases[3] = {f.phases_d, f.phases_h, f.phases_w}, padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  BoxSpace b{{0, 0, 0, 0}, {s.batch, 0, 0, 0}, {s.batch, 0, 0, 0}, {s.batch, 0, 0, 0}};
  for (int d = 0; d < 3; ++d) {
    const bool whole = f.backward || (d == 0 && f.depth_loop);
    b.begin[d + 1] = whole ? 0 : padding[d] / phases[d];
    b.count[d + 1] = whole ? out[d] : most(0, (out[d] - 1 + padding[d]) / phases[d] + 1 - b.begin[d + 1]);
    b.source[d + 1] = source[d];
    b.out[d + 1] = out[d];
  }
  return b;
}

/// The most words of one bank that lanes want at once of a fragment: 8 positions of 4 channels.
inline int bank_conflicts(const BoxesFixed& f, Int pitch_c) {
  Int words[32];
  int count = 0, of_bank[32] = {}, most_of_one = 0;
  for (Int lane = 0; lane < 32; ++lane) {
    const Int word = (lane / 4 * f.step_w + lane % 4 * pitch_c) * f.element_bytes / 4;
    bool known = false;
    for (int i = 0; i < count; ++i) known = known || words[i] == word;
    if (known) continue;
    words[count++] = word;
    if (++of_bank[word % 32] > most_of_one) most_of_one = of_bank[word % 32];
  }
  return most_of_one;
}

/// Pitches for rows that are copied from wherever they lie: they differ from the tensor's strides by multiples of 16
/// bytes, so that these are copied as they lie in memory, and the copies of two rows do not meet.
inline void lay_rows(const BoxesFixed& f, const BoxSpace& space, Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  const auto like = [&](Int least_pitch, Int stride) {
    return least_pitch + ((stride - least_pitch) % unit + unit) % unit;
  };
  const Int of_h = space.source[3] % unit, of_d = of_h * space.source[2] % unit, of_c = of_d * space.source[1] % unit;
  b.pitch_h = like(b.box[3] + unit - 1, of_h);
  b.pitch_d = like(b.box[2] * b.pitch_h, of_d);
  b.pitch_c = like(b.box[1] * b.pitch_d, of_c);
  const auto finish = [&] { b.pitch_n = like(f.channels * b.pitch_c, of_c * (f.k * f.groups % unit)); };
  finish();
  const Int closest = b.pitch_c, banks = 128 / f.element_bytes;
  int fewest = bank_conflicts(f, closest);
  for (Int pitch = closest + unit; pitch < closest + banks; pitch += unit) {
    if ((b.box[0] * f.channels * pitch + (of_h == 0 ? 0 : 2 * unit)) * f.element_bytes > 4 * f.source_words) break;
    const int conflicts = bank_conflicts(f, pitch);
    if (conflicts < fewest) fewest = conflicts, b.pitch_c = pitch;
  }
  finish();
}

/// Room of a stage's source: rows that do not all begin alike lie up to 15 bytes later.
inline Int stage_elements(const BoxesFixed& f, Bring bring, const Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  return b.box[0] * b.pitch_n + (bring == Bring::rows && b.pitch_h % unit != 0 ? unit : 0);
}

/// Boxes of whole pieces, which bulk copies fill, or elements.
inline void lay_box(const BoxesFixed& f, Bring bring, Boxing& b) {
  const Int unit = 16 / f.element_bytes;
  b.box[3] = ceil_div(b.box[3] + (bring == Bring::bulk ? unit - 1 : 0), unit) * unit;
  // Channels lie 8 or 24 words apart from each other's banks (16-bit elements: 4 more ways).
  const auto apart = [&] {
    const Int words = b.box[1] * b.box[2] * b.box[3] * f.element_bytes / 4 % 32;
    return f.element_bytes == 4 ? words % 16 == 8 : words % 8 == 4 || words % 16 == 8;
  };
  const Int rows = b.box[2], width = b.box[3];
  for (int more = 0; more < 8 && !apart(); ++more) {
    b.box[3] = width + more % 4 * unit;
    b.box[2] = rows + more / 4;
  }
  b.pitch_h = b.box[3];
  b.pitch_d = b.pitch_h * b.box[2];
  b.pitch_c = b.pitch_d * b.box[1];
  b.pitch_n = b.pitch_c * f.channels;
}

/// Clocks of a multiprocessor that the copies of a stage's source take (docs/measured-hopper.md,
/// docs/measured-cuda-boxes.md).
inline double copy_clocks(const BoxesFixed& f, const BoxSpace& space, Bring bring, const Boxing& b) {
  const Int lines = b.box[0] * b.box[1] * b.box[2];
  const double bytes = double(lines * b.box[3] * f.channels * f.element_bytes);
  if (bring == Bring::bulk) return bytes / 28.0;
  if (bring == Bring::elements) return bytes / 13.0;
  // A producer takes about five clocks an instruction. The warps of a ring run side by side, as the rings do, and share
  // what copies memory.
  const Int unit = 16 / f.element_bytes, of_ring = 128 / (f.shared ? 1 : f.warpgroups) / 32 * 32;
  const Int pieces = (b.box[3] + 2 * unit - 2) / unit;
  const double turns = double(ceil_div(lines * pieces, of_ring)), ends = double(ceil_div(lines * f.channels, of_ring));
  const double ways = b.pitch_c % unit == 0 ? 1.0 : double(unit);
  const double planes = lines == b.box[2] ? 0.0 : double(of_ring) / double(pieces * b.box[2]);  // from turn to turn
  const double of_row = double(ceil_div(space.count[3], b.step[3])), at_ends = of_row > 2.0 ? 2.0 / of_row : 1.0;
  const double turn = 60.0 + 9.0 * ways + 5.0 * double(f.channels) + 50.0 * planes + 9.0 * ways * at_ends;
  const double issue = 4.6 * (130.0 + turns * turn + 100.0 * ends * at_ends) / (f.shared ? 1.0 : double(f.warpgroups));
  const double copy = turns * double(of_ring / 32 * f.channels) * 5.0;
  const double longest = issue > copy ? issue : copy;
  return longest > bytes / 28.0 ? longest : bytes / 28.0;
}

/// Overlapped, what a box of so many columns has of its rows: whether it has all of the source, where its products lie.
inline bool overlap(const BoxesFixed& f, const BoxSpace& space, Boxing& b) {
  const bool whole = b.extent[3] == space.count[3] && b.columns == space.source[3];
  b.from_w = whole ? -space.begin[3] : f.offset_w;
  // From the source element of the first position's first tap to the first one, and so at the end; nobody writes there.
  const Int before = b.from_w - f.offset_w, after = b.extent[3] + f.span_w - before - b.columns;
  const Int left = most(0, before), right = most(0, after);
  b.line_room = b.columns + most(left, right);
  b.put_from = left;
  b.read_from = left - before;
  const Int lines = b.extent[0] * b.extent[1] * b.extent[2];
  return b.read_from >= 0 && left + lines * b.line_room <= f.room && lines * b.extent[3] <= f.room &&
         lines * b.columns <= 64 * f.segments;
}

/// Whether boxes that share a source may lie side by side along dimension d of a box.
inline bool may_lie_along(const BoxesFixed& f, int d) { return !(d == 1 && f.depth_loop) && !(d == 0 && f.groups > 1); }

/// The dimension along which boxes of so many positions share a source: that of the rows, where halos are shared, else
/// the first one that one box does not fill.
inline int lie_along(const BoxesFixed& f, const BoxSpace& space, const Int (&whole)[4]) {
  const int order[5] = {static_cast<int>(f.merge) + 1, 2, 1, 3, 0};
  for (int i = f.merge < 0 ? 1 : 0; i < 5; ++i)
    if (may_lie_along(f, order[i]) && space.count[order[i]] > whole[order[i]]) return order[i];
  return 3;
}

/// Source elements of a box and its cost, into `b`, whose extents are set. Bulk copies have at most 256 a dimension.
/// Boxes that share a source lie along `along`, < 0: where lie_along() says.
inline void weigh(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring, Boxing& b, int along = -1) {
  const Int step[4] = {1, f.step_d, f.step_h, f.step_w}, span[4] = {0, f.span_d, f.span_h, f.span_w};
  b.clocks = -1.0;
  if (f.line && (b.extent[0] > 1 || b.extent[1] > 1 || b.extent[2] > 1)) return;
  Int whole[4], reach[4];
  for (int d = 0; d < 4; ++d) {
    whole[d] = reach[d] = b.extent[d] * (f.merge + 1 == d ? f.rows : 1);
    b.second[d] = 0;
  }
  if (f.line && space.count[3] > whole[3]) {
    // Wherever a sector begins, the box has the columns of so many whole ones.
    const Int sector = 32 / f.element_bytes;
    while (whole[3] > 0 &&
           (whole[3] * f.phases_w % sector != 0 || whole[3] * f.phases_w + sector - 1 > b.extent[3] * f.phases_w))
      --whole[3];
    if (whole[3] == 0) return;
  }
  if (f.overlapped && !overlap(f, space, b)) return;
  b.line = whole[3] * f.phases_w;
  for (int d = 0; d < 4; ++d) b.step[d] = whole[d];
  if (f.shared) {
    if (along < 0) along = lie_along(f, space, whole);
    b.second[along] = whole[along];
    b.step[along] = f.warpgroups * whole[along];
    reach[along] += (f.warpgroups - 1) * whole[along];
  }
  for (int d = 0; d < 4; ++d) b.box[d] = step[d] * (reach[d] - 1) + span[d] + 1;
  if (f.overlapped) b.box[3] = b.columns + reach[3] - whole[3];
  if (f.depth_loop) b.box[1] = 1;
  if (bring == Bring::rows)
    lay_rows(f, space, b);
  else
    lay_box(f, bring, b);
  for (int d = 0; d < 4; ++d)
    if (bring == Bring::bulk && b.box[d] > 256) return;
  if (stage_elements(f, bring, b) * f.element_bytes > 4 * f.source_words) return;

  b.lines = whole[0] * whole[1] * whole[2] * f.phases_h * (f.depth_loop ? 1 : f.phases_d);
  // Elements of a box are found by 32-bit distances from its corner, in bytes.
  double distance = 0.0, inner = f.out_last ? double(f.n * f.groups) : 1.0;
  const Int phases[4] = {1, f.depth_loop ? 1 : f.phases_d, f.phases_h, f.phases_w};
  for (int d = 3; d >= 0; --d) {
    if (d == 0 && !f.out_last) inner *= double(f.n * f.groups);
    distance += double(b.extent[d] * phases[d] * (f.merge + 1 == d ? f.rows : 1)) * inner;
    inner *= double(space.out[d]);
  }
  if (distance * double(f.element_bytes) >= 4294967296.0 || distance >= 2147483648.0) return;
  b.tiles = 1;
  for (int d = 0; d < 4; ++d) b.tiles *= ceil_div(space.count[d], b.step[d]);
  const Int shares = f.groups * ceil_div(f.n, f.columns), rings = f.shared ? 1 : f.warpgroups;
  const Int blocks = most(1, processors / shares), workers = blocks * rings;
  const double stages =
      double(ceil_div(f.k, f.channels)) * (f.depth_loop ? double(f.depth_taps) / double(f.depth_stride) : 1.0);
  // A set of boxes: one of each warpgroup.
  const double set = double(f.warpgroups), source = f.shared ? 1.0 : set;
  const double line_bytes =
      double(least(least(b.extent[3], space.count[3]) * f.phases_w, space.out[3]) * f.element_bytes);
  const bool on_sectors =
      space.out[3] * f.element_bytes % 32 == 0 && b.extent[3] * f.phases_w * f.element_bytes % 32 == 0;
  const double tensor = set * f.clocks * stages, write = f.store_clocks * (f.direct && !on_sectors ? 3.0 : 1.0);
  // One warpgroup has no more than half the tensor cores' rate, and none while it stores.
  const double chain = 2.0 * f.clocks * stages + write;
  const double load = source * copy_clocks(f, space, bring, b) * stages + double(f.streamed_bytes) * stages / 20.0;
  // Sectors that two boxes write cost time, those of two lines of one box do not (L2/15): boxes as wide as the result
  // have ends once for all lines that follow each other.
  const bool whole_lines = b.extent[3] >= space.count[3] && line_bytes >= 32.0 && !f.out_last;
  const double together = whole_lines ? double(whole[2] * f.phases_h) : 1.0;
  // However short it is, a line takes as long as one of 64 fp32 numbers (of 2: L2/19, L1/57, L1/71; of 32: L2/100), in
  // 16 bits one shorter than a sector.
  const double ends = on_sectors || f.line ? 0.0 : 220.0 / together;
  const double least_line = ends == 220.0 && (f.element_bytes == 4 || line_bytes < 32.0) ? 440.0 : 0.0;
  const double line_clocks = (line_bytes + ends > least_line ? line_bytes + ends : least_line) / 17.0;
  const double store = set * double(b.lines * f.columns) * line_clocks;
  double longest = tensor;
  const double others[] = {chain, load, store};
  for (const double other : others) longest = other > longest ? other : longest;
  // Source and result come from memory once.
  const double rounds = double(ceil_div(b.tiles, workers));
  double memory = double(f.element_bytes * f.groups) / 18.5 / double(processors) / rounds,
         source_elements = double(f.k);
  double result_elements = double(f.n);
  for (int d = 0; d < 4; ++d) source_elements *= double(space.source[d]), result_elements *= double(space.out[d]);
  memory *= (source_elements + result_elements) * space.part;
  const double bound = longest > memory ? longest : memory;
  const double one = bound + 0.05 * (tensor + chain + load + store - longest) + 200.0;
  b.clocks = one * rounds * (double(shares) > double(processors) ? double(shares) / double(processors) : 1.0);
}

/// The cheapest boxes for these sizes.
inline Boxing best_boxing(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  const Int positions = 64 * f.segments, wide = f.wide ? 16 : 1;
  // Overlapped, widths are of source elements: as many more than positions as taps reach, or all.
  const Int more = f.overlapped ? f.span_w : 0;
  Boxing best;
  Int widths[16], count = 0;
  const auto add = [&](Int w) {
    w = least(ceil_div(w, wide) * wide, positions);
    if (w <= more) return;
    for (Int i = 0; i < count; ++i)
      if (widths[i] == w) return;
    if (w > 0 && count < 16) widths[count++] = w;
  };
  const bool whole_rows = f.overlapped && space.source[3] <= positions && space.source[3] % wide == 0;
  if (whole_rows) add(space.source[3]);
  const auto positions_of = [&](Int w) { return whole_rows && w == space.source[3] ? space.count[3] : w - more; };
  for (Int parts = 1; parts <= 6; ++parts) add(ceil_div(space.count[3], parts) + more);
  for (Int w = positions; w >= 16 && count < 12; w /= 2)
    if (w < space.count[3]) add(w);
  const auto consider = [&](Int n, Int d, Int h, Int w) {
    Boxing b;
    b.extent[0] = n, b.extent[1] = d, b.extent[2] = h, b.extent[3] = positions_of(w), b.columns = w;
    weigh(f, space, processors, bring, b);
    if (b.clocks >= 0.0 && (best.clocks < 0.0 || b.clocks < best.clocks)) best = b;
  };
  // As many as divide all evenly, with the fewest boxes. Of merged rows several times so many only where one line does
  // not fill a box: with strides no stage has a source as wide, and narrow results have none.
  const auto even = [](Int all, Int at_most) { return ceil_div(all, ceil_div(all, least(all, at_most))); };
  const bool again = f.step_d * f.step_h * f.step_w > 1 || space.count[3] < 16;
  const Int all_h = ceil_div(space.count[2], f.merge == 1 ? f.rows : 1);
  const Int all_d = f.depth_loop ? 1 : ceil_div(space.count[1], f.merge == 0 ? f.rows : 1);
  for (Int i = 0; i < count; ++i) {
    const Int w = widths[i], lines = positions / w;
    Int last_h = 0;
    for (Int parts = f.merge == 1 && !again ? 1 : least(lines, all_h); parts >= 1; parts -= parts > 8 ? 2 : 1) {
      const Int h = even(all_h, parts);
      if (h == last_h) continue;
      last_h = h;
      const Int planes = lines / h, d = even(all_d, f.merge == 0 && !again ? 1 : planes);
      consider(1, d, h, w);
      const bool whole_sample = f.groups == 1 && positions_of(w) >= space.count[3] && h == all_h && d == all_d;
      if (whole_sample && planes / d > 1) {
        const Int n = least(planes / d, space.count[0]);
        consider(ceil_div(space.count[0], ceil_div(space.count[0], n)), d, h, w);
      }
    }
  }
  return best;
}

/// The cheapest of the widest boxes that fit, where best_boxing() finds none: a stage has room for the boxes of the
/// sizes that its kernel was made for. Boxes that share a source may then lie along a dimension that one of them fills.
inline Boxing fitting_boxing(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  const Int positions = 64 * f.segments, more = f.overlapped ? f.span_w : 0;
  const auto by = [&](Int columns) { return f.wide && columns > 16 ? 16 : 1; };
  Int columns = space.count[3] + more;
  columns = least(ceil_div(columns, by(columns)) * by(columns), positions);
  Boxing best;
  for (; columns > more && best.clocks < 0.0; columns -= by(columns)) {
    const bool one_row = f.merge == 1 || (f.wide && columns % 16 != 0);
    for (Int h = one_row ? 1 : least(positions / columns, space.count[2]); h >= 1; h /= 2)
      for (int along = 0; along < (f.shared ? 4 : 1); ++along) {
        if (f.shared && !may_lie_along(f, along)) continue;
        Boxing b;
        b.extent[0] = b.extent[1] = 1, b.extent[2] = h, b.extent[3] = columns - more, b.columns = columns;
        weigh(f, space, processors, bring, b, along);
        if (b.clocks >= 0.0 && (best.clocks < 0.0 || b.clocks < best.clocks)) best = b;
      }
  }
  return best;
}

/// The boxes of a result. Where boxes of whole segments leave a few of its columns over, boxes of a launch of their own
/// have these: a handful of columns of many rows.
struct Boxings {
  Boxing main, last;
  BoxSpace main_space, last_space;
  bool parted = false;
  double clocks = -1.0;  ///< As those of a boxing.
};

/// The cheapest for these sizes.
inline Boxings best_boxings(const BoxesFixed& f, const BoxSpace& space, int processors, Bring bring) {
  constexpr double start_clocks = 10000.0;
  // What two launches take longer than predicted, by the dozen that were measured.
  const double surplus = f.element_bytes == 4 ? 1.04 : 1.0;
  constexpr Int most_left = 8;
  Boxings best;
  best.main_space = space;
  best.main = best_boxing(f, space, processors, bring);
  best.clocks = best.main.clocks;
  if (best.clocks < 0.0 || f.overlapped || f.line || f.out_last) return best;
  const Int all = space.count[3];
  Int before = 0;
  const Int boxes[2] = {64, 16};
  for (const Int of_box : boxes) {
    const Int left = all % of_box;
    if (left == 0 || left > most_left || left == before || all < 4 * of_box) continue;
    before = left;
    Boxings b;
    b.parted = true;
    b.main_space = b.last_space = space;
    b.main_space.count[3] = all - left, b.last_space.count[3] = left;
    b.last_space.begin[3] += all - left;
    b.main_space.part = double(all - left) / double(all), b.last_space.part = double(left) / double(all);
    b.main = best_boxing(f, b.main_space, processors, bring);
    if (b.main.clocks < 0.0 || (all - left) % b.main.step[3] != 0) continue;
    // No more room than the others' source takes: what a stage does not need stages results.
    BoxesFixed narrow = f;
    narrow.source_words = ceil_div(stage_elements(f, bring, b.main) * f.element_bytes, 128) * 32;
    b.last = best_boxing(narrow, b.last_space, processors, bring);
    if (b.last.clocks < 0.0) continue;
    b.clocks = surplus * (b.main.clocks + b.last.clocks) + start_clocks;
    if (b.clocks < best.clocks) best = b;
  }
  return best;
}

inline bool too_many(const Boxings& b) { return double(b.main.tiles) + double(b.last.tiles) >= 2147483648.0; }

}  // namespace upconv::launch
""",
    "launch/tensor_map.hpp": r"""// What a tensor map is made from: a tensor in global memory and the box of it that one bulk copy moves. A launch fills
// a TensorBoxes for its tensors and gives it to `encode_map(start, map, boxes)`, which whoever starts kernels defines
// beside its Start (src/cuda/launching.hpp; exported files, export/text/tensor_map.cu).
#pragma once

#include "arguments/tensor_map.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// Of CUtensorMapDataType. tf32 rounds fp32 to the nearest, ties to even (measured on an H200).
enum class MapElement : int { u8 = 0, u16 = 1, f16 = 6, f32 = 7, f64 = 8, bf16 = 9, tf32 = 11 };
inline Int bytes_of(MapElement e) {
  return e == MapElement::u8 ? 1 : e == MapElement::f64 ? 8 : e == MapElement::f32 || e == MapElement::tf32 ? 4 : 2;
}

/// Of CUtensorMapSwizzle: which 16 bytes of a box change places, within so many bytes.
enum class MapSwizzle : int { none = 0, bytes_32 = 1, bytes_64 = 2, bytes_128 = 3 };

/// Dimensions from the innermost on; what a box reaches outside of the tensor is zero.
struct TensorBoxes {
  const void* base = nullptr;
  MapElement element = MapElement::f32;
  MapSwizzle swizzle = MapSwizzle::none;
  int promotion = 2;  ///< What L2 fetches at once, of CUtensorMapL2promotion: 128 bytes.
  int rank = 0;
  unsigned long long sizes[5] = {}, strides[4] = {};  ///< Elements; bytes, of all dimensions but the innermost.
  unsigned box[5] = {}, steps[5] = {};
  Int bytes = 0;  ///< Of the box in shared memory.

  /// One more dimension: `count` elements of it in a box, every `step`-th. The innermost has no stride and no step.
  TensorBoxes& dimension(Int size, Int stride_bytes, Int count, Int step = 1) {
    if (rank == 5) {
      rank = 6;  // refused
      return *this;
    }
    sizes[rank] = static_cast<unsigned long long>(size);
    if (rank > 0) strides[rank - 1] = static_cast<unsigned long long>(stride_bytes);
    box[rank] = static_cast<unsigned>((count - 1) * step + 1);
    steps[rank] = static_cast<unsigned>(step);
    bytes = (rank == 0 ? bytes_of(element) : bytes) * count;
    ++rank;
    return *this;
  }
};

/// Why there is no such map, or null. The rules are those of cuTensorMapEncodeTiled (and one of the kernels: no more
/// in a box than shared memory holds).
inline const char* refusal_of(const TensorBoxes& b) {
  if (b.rank < 1 || b.rank > 5) return "a tensor map has one to five dimensions";
  if (!b.base || !aligned(b.base, 16)) return "a tensor that does not begin at a multiple of 16 bytes";
  for (int i = 0; i < b.rank; ++i) {
    if (b.sizes[i] < 1 || b.sizes[i] > 1ull << 32) return "a dimension of a tensor map that is empty or beyond 2^32";
    if (b.box[i] < 1 || b.box[i] > 256) return "a box of more than 256 elements in one dimension";
    if (b.steps[i] < 1 || b.steps[i] > 8) return "a box with steps beyond 8";
    if (i > 0 && (b.strides[i - 1] % 16 != 0 || b.strides[i - 1] >= 1ull << 40))
      return "a stride that is no multiple of 16 bytes below 2^40";
  }
  const Int inner = Int(b.box[0]) * bytes_of(b.element);
  if (b.steps[0] != 1) return "steps in the innermost dimension, which a bulk copy does not know";
  if (inner % 16 != 0) return "rows of a box that are no multiple of 16 bytes";
  if (b.swizzle != MapSwizzle::none && inner > Int(16) << int(b.swizzle)) return "rows of a box wider than the swizzle";
  if (b.bytes > 232448) return "a box beyond shared memory";
  return nullptr;
}

}  // namespace upconv::launch
""",
    "launch/boxes.hpp": r"""// Launch of boxes.cuh for any batch and spatial size.
#pragma once

#include "launch/boxing.hpp"
#include "launch/tensor_map.hpp"

namespace upconv::launch {

/// What a launch with, or without, bulk copies of the source passes.
struct BoxesWay {
  arguments::Boxes<void> main{}, last{};
  unsigned grid = 0, last_grid = 0;  ///< 0: nothing to do.
};

struct BoxesLaunch {
  const char* refusal = nullptr;
  bool refitted = false;  ///< The stage was made for the boxes of other sizes.
  BoxesWay bulk, plain;
  bool may_bulk = false;
  double clocks = 0.0;
  Int workspace_bytes = 0;
};

inline void fill(const BoxesFixed& f, const BoxSpace& space, const Boxing& b, arguments::Boxes<void>& a) {
  const Int source[3] = {space.source[1], space.source[2], space.source[3]};
  const Int out[3] = {space.out[1], space.out[2], space.out[3]};
  a.src_strides = dense_strides(f.source_last, f.k * f.groups, source);
  a.out_strides = dense_strides(f.out_last, f.n * f.groups, out);
  a.groups = static_cast<int>(f.groups), a.samples = static_cast<int>(space.count[0]);
  for (int d = 0; d < 3; ++d) {
    a.src_size[d] = static_cast<int>(source[d]), a.out_size[d] = static_cast<int>(out[d]);
    a.first[d] = static_cast<int>(space.begin[d + 1]);
  }
  for (int d = 0; d < 4; ++d) {
    a.extent[d] = static_cast<int>(b.extent[d]), a.step[d] = static_cast<int>(b.step[d]);
    a.second[d] = static_cast<int>(b.second[d]), a.box[d] = static_cast<int>(b.box[d]);
  }
  a.columns = static_cast<int>(b.columns), a.from_w = static_cast<int>(b.from_w);
  a.put_from = static_cast<int>(b.put_from), a.read_from = static_cast<int>(b.read_from);
  a.line_room = static_cast<int>(b.line_room);
  for (int d = 0; d < 3; ++d) a.boxes[d] = static_cast<int>(ceil_div(space.count[3 - d], b.step[3 - d]));
  a.all_boxes = static_cast<int>(b.tiles), a.line = static_cast<int>(b.line);
  a.pitch_h = static_cast<int>(b.pitch_h), a.pitch_d = static_cast<int>(b.pitch_d);
  a.pitch_c = static_cast<int>(b.pitch_c), a.pitch_n = static_cast<int>(b.pitch_n);
  a.next_place[0] = static_cast<int>((b.pitch_d - b.box[2] * b.pitch_h) * f.element_bytes);
  a.next_place[1] = static_cast<int>((b.pitch_n - b.box[1] * b.pitch_d) * f.element_bytes);
  a.next_from[0] = (a.src_strides.d - b.box[2] * a.src_strides.h) * f.element_bytes;
  a.next_from[1] = (a.src_strides.n - b.box[1] * a.src_strides.d) * f.element_bytes;
  a.alike = a.src_strides.c % (16 / f.element_bytes) == 0;
  a.bulk_bytes = static_cast<int>(b.box[0] * b.box[1] * b.box[2] * b.box[3] * f.channels * f.element_bytes);
}

/// The box that a worker takes as its number `box` (kernels/boxes/balance.cuh).
inline Int taken_box(const arguments::Boxes<void>& a, Int turn, Int box) {
  const Int round = box / a.round, first = round * a.round;
  return first > a.all_boxes - a.round ? box : first + (box - first + round * turn) % a.round;
}

/// Taps of the depth loop that reach depth d of y.
inline Int taps_of_depth(const BoxesFixed& f, const BoxSpace& space, Int d) {
  Int taps = 0;
  for (Int tap = 0; tap < f.depth_taps; ++tap) {
    const Int at = d + f.padding_d - tap * f.depth_dilation;
    taps += at >= 0 && at % f.depth_stride == 0 && at / f.depth_stride < space.source[1];
  }
  return taps;
}

/// Clocks of the longest of some workers, in the first rounds.
inline double longest(const BoxesFixed& f, const BoxSpace& space, const arguments::Boxes<void>& a, Int turn) {
  const Int of_depth = Int{a.boxes[0]} * a.boxes[1], rounds = least(ceil_div(a.all_boxes, a.round), 64);
  double most_clocks = 0.0;
  for (Int worker = 0; worker < a.round; worker += ceil_div(a.round, 16)) {
    double clocks = 0.0;
    for (Int box = worker; box < least(a.all_boxes, rounds * a.round); box += a.round) {
      const Int depth = taken_box(a, turn, box) / of_depth % a.boxes[2];
      clocks += double(taps_of_depth(f, space, depth) * ceil_div(f.k, f.channels)) * f.clocks + f.store_clocks / 2;
    }
    most_clocks = clocks > most_clocks ? clocks : most_clocks;
  }
  return most_clocks;
}

inline BoxesLaunch launch_of(const BoxesFixed& f, const Sizes& s, int processors) {
  BoxesLaunch l;
  const BoxSpace space = box_space(f, s);
  for (int d = 1; d < 4; ++d)
    if (space.source[d] > 1 << 30 || space.out[d] > 1 << 30) l.refusal = "a side longer than 2^30";
  if (s.batch > 1 << 30) l.refusal = "more than 2^30 samples";
  const Int shares = f.groups * ceil_div(f.n, f.columns);
  if (l.refusal) return l;
  if (s.batch == 0) return l;
  l.workspace_bytes = shares * f.share_bytes;
  const auto grid = [&](const BoxSpace& of, const Boxing& b, arguments::Boxes<void>& a) {
    fill(f, of, b, a);
    const Int rings = f.shared ? 1 : f.warpgroups;
    const Int blocks = most(1, least(ceil_div(b.tiles, rings), processors / shares));
    const Int round = blocks * rings, of_depth = Int{a.boxes[0]} * a.boxes[1];
    a.round = static_cast<int>(round);
    if (f.depth_loop && f.depth_stride > 1 && of_depth < round &&
        longest(f, space, a, of_depth) < 0.95 * longest(f, space, a, 0))
      a.turn = static_cast<int>(of_depth);
    return static_cast<unsigned>(shares * blocks);
  };
  const auto launch = [&](const Boxings& b, BoxesWay& way) {
    way.grid = grid(b.main_space, b.main, way.main);
    if (b.parted) way.last_grid = grid(b.last_space, b.last, way.last);
    l.clocks = b.clocks;
  };
  const Bring without_bulk = f.source_last ? Bring::elements : Bring::rows;
  Boxings plain = best_boxings(f, space, processors, without_bulk);
  l.refitted = plain.clocks < 0.0;
  if (l.refitted) {
    plain.main = fitting_boxing(f, space, processors, without_bulk);
    plain.clocks = plain.main.clocks;
  }
  if (plain.clocks < 0.0) l.refusal = "no box of these sizes fits a stage";
  if (l.refusal) return l;
  if (too_many(plain)) l.refusal = "2^31 boxes or more";
  launch(plain, l.plain);
  if (!f.source_last && space.source[3] * f.element_bytes % 16 == 0) {
    const Boxings bulk = best_boxings(f, space, processors, Bring::bulk);
    if (bulk.clocks >= 0.0 && !too_many(bulk)) {
      l.may_bulk = true;
      launch(bulk, l.bulk);
      l.bulk.main.bulk = l.bulk.last.bulk = 1;
    }
  }
  return l;
}

/// The source as bulk copies see it: columns, rows, planes, channels of a group, samples and groups.
inline TensorBoxes source_boxes(const BoxesFixed& f, const arguments::Boxes<void>& a) {
  const Int e = f.element_bytes;
  TensorBoxes b;
  b.base = a.src;
  b.element = e == 4 ? MapElement::f32 : MapElement::u16;
  b.promotion = 3;
  b.dimension(a.src_size[2], 0, a.box[3]);
  b.dimension(a.src_size[1], a.src_strides.h * e, a.box[2]);
  b.dimension(a.src_size[0], a.src_strides.d * e, a.box[1]);
  b.dimension(f.k, a.src_strides.c * e, f.channels);
  b.dimension(Int{a.samples} * f.groups, f.k * a.src_strides.c * e, a.box[0]);
  return b;
}

template <class Start>
bool run(const BoxesFixed& f, const BoxesLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  if (l.plain.grid == 0) return true;
  const bool bulk = l.may_bulk && aligned(t.a, 16);
  BoxesWay way = bulk ? l.bulk : l.plain;
  long long w_k = f.w_k, w_n = f.w_n, w_tap = f.w_tap, w_group = f.w_group;
  long long count = f.groups * ceil_div(f.n, f.columns) * f.share_units;
  const void* w = t.b;
  void* prepare[] = {&w, &workspace, &w_k, &w_n, &w_tap, &w_group, &count};
  if (!start(0, Shape{static_cast<unsigned>(ceil_div(count, 256)), 256, 0}, prepare)) return false;
  const auto boxes = [&](arguments::Boxes<void>& a, unsigned grid) {
    a.src = t.a, a.weights = static_cast<const unsigned*>(workspace), a.bias = t.bias, a.out = t.out;
    if (bulk && !encode_map(start, a.map, source_boxes(f, a))) return false;
    void* list[] = {&a, operands_of(t)};
    return start(1, Shape{grid, static_cast<unsigned>(128 * (f.warpgroups + 1)), static_cast<unsigned>(f.shared_bytes)},
                 list);
  };
  return boxes(way.main, way.grid) && (way.last_grid == 0 || boxes(way.last, way.last_grid));
}

}  // namespace upconv::launch
""",
    "launch/clusters.hpp": r"""// How many clusters of thread blocks a GPU runs at once. Plans choose tiles by it (src/plan/target.cpp), launches the
// number of blocks that share one (launch/weight_mma.hpp).
#pragma once

#include "launch/sizes.hpp"

namespace upconv::launch {

/// Clusters of `blocks` blocks that run at once where a block takes a multiprocessor. They lie within a GPC each, of 16
/// multiprocessors or 18 but for one that has fewer. Measured on an H200: 30 of 4 blocks and 15 of 8; 5, 6 and 7 leave
/// more of a GPC over.
inline Int clusters_at_once(Int blocks, int processors) {
  return blocks <= 2 ? processors / blocks : processors * 10 / 11 * (16 / blocks) / 16;
}

}  // namespace upconv::launch
""",
    "launch/weight_mma.hpp": r"""// Launch of weight_mma.cuh and weight_sum.cuh, and what weight_wgmma.hpp shares of it, for any batch and spatial size;
// the tile is fixed, the number of blocks that share the positions is not.
#pragma once

#include "arguments/weight_mma.cuh"
#include "launch/clusters.hpp"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it.
struct WeightMmaFixed {
  bool folded = false;  ///< The batch takes D's place (fewer than three dimensions).
  bool x_last = false, y_last = false;
  bool x_early = false;  ///< Boxes begin at the multiple of 16 bytes before their first position of a line.
  Int groups = 1, ci = 1, co = 1, taps = 1;  ///< Channels a group.
  Int box_d = 1, box_h = 1, box_w = 1;       ///< Positions that a block brings in at once.
  Int late = 0;  ///< Positions of H that x does not have: its taps there are columns (weight_wgmma.cuh).
  Int tiles = 1, tile_words = 1;  ///< Blocks for one share of the positions; elements of dw in each.
  Int element_bytes = 4;
  Int x_vector = 1, y_vector = 1;                      ///< Most elements of x and of dy that one copy may take.
  Int occupancy = 1, shared_bytes = 0, threads = 256;  ///< Blocks of a multiprocessor; of a block.
  Int sum_slices = 8, sum_vector = 1;  ///< Threads that share the partial sums of an element; elements of a thread.
  bool turned = false;                 ///< x or dy are turned into the workspace, too, which leaves sums less.
  Int cluster = 1;  ///< Blocks that share a tile's boxes and add up their sums in a cluster; 1: any number may share.
  double box_cycles = 0.0, bytes_per_second = 1.0;  ///< What the number of shares is chosen by.
  double leave_cycles = 14.0 / 256;                 ///< Of an element of dw on its way out.
  double unhidden = 0.0;  ///< What part of the shorter of computing and moving bytes the longer does not hide.

  template <class Visit>
  void visit(Visit&& field) {
    field("folded", folded), field("x_last", x_last), field("y_last", y_last), field("x_early", x_early);
    field("groups", groups), field("ci", ci), field("co", co), field("taps", taps);
    field("box_d", box_d), field("box_h", box_h), field("box_w", box_w), field("late", late);
    field("tiles", tiles), field("tile_words", tile_words);
    field("element_bytes", element_bytes), field("x_vector", x_vector), field("y_vector", y_vector);
    field("occupancy", occupancy);
    field("shared_bytes", shared_bytes), field("threads", threads), field("sum_slices", sum_slices);
    field("sum_vector", sum_vector), field("cluster", cluster), field("turned", turned);
    field("box_cycles", box_cycles);
    field("bytes_per_second", bytes_per_second), field("unhidden", unhidden);
    field("leave_cycles", leave_cycles);
  }
  Int dw_size() const { return groups * ci * co * taps; }
};

/// What all distances between lines of `width` elements and multiples of 16 bytes are a multiple of, in elements.
inline Int line_unit(const WeightMmaFixed& f, Int width) {
  Int unit = 16 / f.element_bytes;
  while (width % unit != 0) unit /= 2;
  return unit;
}
/// Boxes of a line of x.
inline Int boxes_of_line(const WeightMmaFixed& f, Int width) {
  const Int early = f.x_early ? 16 / f.element_bytes - line_unit(f, width) : 0;  // at most
  return ceil_div(width + early, f.box_w);
}

struct WeightMmaLaunch {
  const char* refusal = nullptr;
  arguments::WeightMma arguments{};
  unsigned grid = 0;
  Int workspace_bytes = 0, batch = 1;
};

constexpr double weight_mma_clock_rate = 1.75e9;

struct WeightMmaShares {
  Int splits = 1, boxes_per_split = 1;
  double seconds = 0.0;  ///< Predicted for the whole.
};

/// Bytes of partial sums at most: as many as x and dy have, so that training's peak stays below PyTorch's; 8 MiB or
/// two of dw where that is more, and 64 MiB at any rate. `bytes` are those of x and dy.
constexpr Int weight_workspace_roof = 64 << 20;
inline Int weight_workspace_limit(Int dw_size, double bytes) {
  constexpr Int roof = weight_workspace_roof;
  const Int of_tensors = bytes < double(roof) ? Int(bytes) : roof;
  return least(roof, most(most(of_tensors, 8 << 20), 8 * dw_size));
}

/// Beside tensors that are turned there before: where these come channels first, all of it together as much and 1 MiB;
/// where they come channels last, 8 MiB or two of dw for the sums (PyTorch's peak there was not measured).
inline Int weight_turned_limit(Int dw_size, double bytes) {
  return least(weight_workspace_roof, weight_workspace_limit(dw_size, bytes) + (1 << 20));
}
inline Int weight_sums_limit(bool turned, Int dw_size, double bytes) {
  return weight_workspace_limit(dw_size, turned ? 0.0 : bytes);
}

/// weight_mma_shares() where the blocks of a cluster share a tile's boxes.
inline WeightMmaShares weight_cluster_shares(const WeightMmaFixed& f, Int boxes, double bytes, int processors) {
  WeightMmaShares shares;
  shares.splits = f.cluster, shares.boxes_per_split = ceil_div(boxes, f.cluster);
  const double rounds = double(ceil_div(f.tiles, most(clusters_at_once(f.cluster, processors), 1)));
  // What comes from other blocks: some 12 bytes a clock.
  const double exchange = double(f.tile_words) * 4.0 * double(f.cluster - 1) / double(f.cluster) / 12.0;
  const double leave = double(f.tile_words) * f.leave_cycles + exchange + 3000.0;
  const double s = rounds * (double(shares.boxes_per_split) * f.box_cycles + leave) / weight_mma_clock_rate;
  const double moved = bytes / f.bytes_per_second;
  shares.seconds = (s > moved ? s + f.unhidden * moved : moved + f.unhidden * s) +
                   double(f.dw_size() * f.element_bytes) / f.bytes_per_second + 4e-6;
  return shares;
}

/// How many blocks share `boxes` boxes of each tile: one to four waves of blocks, by the time they are predicted to
/// take. `bytes` are those of x and dy.
inline WeightMmaShares weight_mma_shares(const WeightMmaFixed& f, Int boxes, double bytes, int processors) {
  if (f.cluster > 1) return weight_cluster_shares(f, boxes, bytes, processors);
  WeightMmaShares best;
  const Int dw_size = f.dw_size(), slots = Int(processors) * f.occupancy;
  const Int most_splits = most(1, least(boxes, weight_sums_limit(f.turned, dw_size, bytes) / most(4 * dw_size, 1)));
  Int previous = 0;
  for (int waves = 1; waves <= 4; ++waves) {
    Int splits = least(most(waves * slots / f.tiles, 1), most_splits);
    const Int each = most(1, (boxes + splits - 1) / splits);
    splits = most(1, (boxes + each - 1) / each);
    if (splits == previous) continue;
    previous = splits;
    const double rounds = double((f.tiles * splits + slots - 1) / slots);
    const double leave = double(f.tile_words) * f.leave_cycles + 3000.0;  // the tile's way out, cycles
    double s = rounds * (double(each) * f.box_cycles * double(f.occupancy) + leave) / weight_mma_clock_rate;
    const double written = double(dw_size) * (splits > 1 ? 4.0 * double(splits) : double(f.element_bytes));
    const double moved = bytes / f.bytes_per_second;
    s = (s > moved ? s + f.unhidden * moved : moved + f.unhidden * s) + written / f.bytes_per_second + 3e-6;
    if (splits > 1) s += written / 5e12 + 4e-6 + double(splits) / 8 * 60e-9;
    if (best.seconds > 0.0 && best.seconds <= s) continue;
    best.splits = splits, best.boxes_per_split = each, best.seconds = s;
  }
  return best;
}

inline WeightMmaLaunch launch_of(const WeightMmaFixed& f, const Sizes& z, int processors) {
  WeightMmaLaunch l;
  const Int limit = (Int(1) << 31) - 4096;
  for (int d = 0; d < 3; ++d)
    if (z.out[d] >= limit || z.batch >= limit) l.refusal = "a size past 32-bit coordinates";
  if (most(f.groups * f.ci * volume(z.in), f.groups * f.co * volume(z.out)) >= Int(1) << 32)
    l.refusal = "a sample past 32-bit strides";
  if (l.refusal) return l;
  arguments::WeightMma& p = l.arguments;
  const Int in[3] = {f.folded ? z.batch : z.in[0], z.in[1] + f.late, z.in[2]};
  const Int out[3] = {f.folded ? z.batch : z.out[0], z.out[1], z.out[2]};
  const Int batch = f.folded ? 1 : z.batch;
  l.batch = z.batch;
  p.xs = dense_strides(f.x_last, f.groups * f.ci, z.in);
  p.ys = dense_strides(f.y_last, f.groups * f.co, z.out);
  if (f.folded) p.xs.d = p.xs.n, p.ys.d = p.ys.n;
  p.dw_size = f.dw_size();
  p.in_d = int(in[0]), p.in_h = int(in[1]), p.in_w = int(in[2]);
  p.out_d = int(out[0]), p.out_h = int(out[1]), p.out_w = int(out[2]);
  const Int box[3] = {f.box_d, f.box_h, f.box_w};
  const auto count = [&](int d) { return (in[d] + box[d] - 1) / box[d]; };
  p.boxes_d = int(count(0)), p.boxes_h = int(count(1)), p.boxes_w = int(boxes_of_line(f, in[2]));
  p.boxes = batch * count(0) * count(1) * p.boxes_w;
  p.quad_steps = int(box[0] * box[1] * box[2] * f.element_bytes / 128);

  const double bytes = double(f.element_bytes) * double(batch) *
                       (double(f.groups * f.ci) * double(in[0] * (in[1] - f.late) * in[2]) +
                        double(f.groups * f.co) * double(out[0] * out[1] * out[2]));
  p.splits = weight_mma_shares(f, p.boxes, bytes, processors).splits;
  if (f.tiles * p.splits > 0x7fffffff) l.refusal = "more than 2^31 blocks";
  p.partial = p.splits > 1;
  l.grid = static_cast<unsigned>(f.tiles * p.splits);
  l.workspace_bytes = p.partial ? p.splits * p.dw_size * 4 : 0;
  return l;
}

/// How many elements of a tensor's rows one copy may take: `widest`, four where `fours` says so, 2 or 1, as address and
/// strides allow.
inline int copy_vector(const WeightMmaFixed& f, const void* tensor, const arguments::Strides& s, Int width, Int widest,
                       bool fours = false) {
  const Int tried[] = {widest, fours ? Int(4) : Int(2), 2};
  for (const Int v : tried) {
    if (v > widest || s.w != 1) continue;
    if (aligned(tensor, v * f.element_bytes) && s.n % v == 0 && s.c % v == 0 && s.d % v == 0 && s.h % v == 0 &&
        width % v == 0)
      return int(v);
  }
  return 1;
}

/// The launch's arguments with its tensors.
inline arguments::WeightMma arguments_of(const WeightMmaFixed& f, const WeightMmaLaunch& l, const Tensors& t,
                                         void* workspace) {
  arguments::WeightMma p = l.arguments;
  p.x = static_cast<const char*>(t.a);
  p.dy = static_cast<const char*>(t.b);
  p.out = p.partial ? workspace : t.out;
  p.x_vector = copy_vector(f, p.x, p.xs, p.in_w, f.x_vector);
  p.y_vector = copy_vector(f, p.dy, p.ys, p.out_w, f.y_vector);
  return p;
}
inline Shape shape_of(const WeightMmaFixed& f, const WeightMmaLaunch& l) {
  return {l.grid, static_cast<unsigned>(f.threads), static_cast<unsigned>(f.shared_bytes)};
}

/// Adds up the shares that blocks left in the workspace.
template <class Start>
bool sum_up(const WeightMmaFixed& f, const arguments::WeightMma& p, const Tensors& t, void* workspace, Start&& start) {
  if (!p.partial) return true;
  Int size = p.dw_size;
  int splits = int(p.splits);
  void* dw = t.out;
  void* list[] = {&workspace, &dw, &size, &splits};
  return start(1, Shape{static_cast<unsigned>(ceil_div(size, 256 / f.sum_slices * f.sum_vector)), 256, 0}, list);
}

template <class Start>
bool run(const WeightMmaFixed& f, const WeightMmaLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  arguments::WeightMma p = arguments_of(f, l, t, workspace);
  void* list[] = {&p};
  return start(0, shape_of(f, l), list) && sum_up(f, p, t, workspace, start);
}

}  // namespace upconv::launch
""",
    "launch/bias_sum.hpp": r"""// Launch of bias_sum.cuh: long rows of a channel go to warps, anything shorter is summed down columns; what the blocks
// leave, ordered_sum adds up. Kernels: 0 bias_rows, 1 bias_columns, 2 ordered_sum.
#pragma once

#include "launch/ordered_sum.hpp"

namespace upconv::launch {

struct BiasSumFixed {
  bool last = false;  ///< dy has its channels last.
  Int channels = 1, element_bytes = 4, sum_bytes = 4;
  Int workspace_limit = 64 << 20;

  template <class Visit>
  void visit(Visit&& field) {
    field("last", last), field("channels", channels), field("element_bytes", element_bytes);
    field("sum_bytes", sum_bytes), field("workspace_limit", workspace_limit);
  }
};

struct BiasSumLaunch {
  const char* refusal = nullptr;
  bool rows = true;
  Int batch = 0, volume = 1, piece = 1, pieces = 1, units = 1, shares = 1;          ///< rows
  Int inner = 1, total = 0, width = 1, keep = 1, tiles = 1, lines = 1, chunks = 1;  ///< columns
  unsigned grid = 0, threads = 32;
  Int workspace_bytes = 0;
};

constexpr Int bias_most_threads = 256, bias_most_blocks = 1 << 30;
constexpr Int bias_shortest_row = 256;         ///< Bytes of a channel's row from which a warp is worth it.
constexpr Int bias_piece_bytes = 8192;         ///< Of a row, for a warp at a time.
constexpr Int bias_bytes_of_share = 64 << 10;  ///< Least a block reads of a channel that is split.

inline BiasSumLaunch launch_of(const BiasSumFixed& f, const Sizes& z, int processors) {
  BiasSumLaunch l;
  l.batch = z.batch;
  l.volume = volume(z.out);
  l.rows = !(f.last && f.channels > 1) && l.volume * f.element_bytes >= bias_shortest_row;
  if (l.rows) {
    if (f.channels > bias_most_blocks) {
      l.refusal = "more than 2^30 channels fill no grid";
      return l;
    }
    l.piece = bias_piece_bytes / f.element_bytes;
    l.pieces = ceil_div(l.volume, l.piece);
    const Int units = most(z.batch * l.pieces, 1), of_channel = z.batch * l.volume * f.element_bytes;
    const Int widest = least(least(of_channel / bias_bytes_of_share, ceil_div(units, bias_most_threads / 32)),
                             least(f.workspace_limit / (f.channels * f.sum_bytes), bias_most_blocks / f.channels));
    const Int shares = least(most(ceil_div(Int{16} * processors, f.channels), 1), most(widest, 1));
    l.units = ceil_div(units, shares);
    l.shares = ceil_div(units, l.units);
    l.threads = static_cast<unsigned>(32 * least(l.units, bias_most_threads / 32));
    l.grid = static_cast<unsigned>(f.channels * l.shares);
    l.workspace_bytes = l.shares > 1 ? l.shares * f.channels * f.sum_bytes : 0;
    return l;
  }
  l.inner = f.last ? 1 : l.volume;
  l.total = z.batch * f.channels * l.volume;
  const Int lanes = 16 / f.element_bytes, period = f.channels * l.inner;
  Int common = period, rest = lanes;  // gcd
  while (rest != 0) {
    const Int next = common % rest;
    common = rest, rest = next;
  }
  Int vectors = period / common;  // the shortest line of whole vectors
  if (vectors <= bias_most_threads) {
    vectors *= bias_most_threads / vectors;
    l.keep = period;
  } else {
    l.tiles = ceil_div(vectors, bias_most_threads);
    l.keep = vectors * lanes;
  }
  l.width = vectors * lanes;
  l.threads = static_cast<unsigned>(32 * ceil_div(ceil_div(vectors, l.tiles), 32));
  const Int lines = most(ceil_div(l.total, l.width), 1);
  const Int widest = ceil_div(lines, l.tiles == 1 ? 8 : 16);
  const Int chunks = least(most(ceil_div(Int{4} * processors, l.tiles), 1), widest);
  l.lines = ceil_div(lines, chunks);
  l.chunks = ceil_div(lines, l.lines);
  l.grid = static_cast<unsigned>(l.chunks * l.tiles);
  l.workspace_bytes = l.chunks * l.keep * f.sum_bytes;
  if (l.workspace_bytes > f.workspace_limit || l.chunks * l.tiles > bias_most_blocks)
    l.refusal = "the parts of its sums would exceed the workspace";
  return l;
}

template <class Start>
bool run(const BiasSumFixed& f, const BiasSumLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  const void* dy = t.a;
  void* db = t.out;
  Int channels = f.channels;
  if (l.rows) {
    void* parts = l.shares > 1 ? workspace : nullptr;
    Int batch = l.batch, volume = l.volume, piece = l.piece, pieces = l.pieces, units = l.units;
    void* list[] = {&dy, &parts, &db, &batch, &channels, &volume, &piece, &pieces, &units};
    if (!start(0, Shape{l.grid, l.threads, 0}, list)) return false;
    return l.shares == 1 || run_ordered_sum(start, 2, parts, db, channels, l.shares);
  }
  Int total = l.total, width = l.width, period = f.channels * l.inner, keep = l.keep, tiles = l.tiles, lines = l.lines;
  void* list[] = {&dy, &workspace, &total, &width, &period, &keep, &tiles, &lines};
  if (!start(1, Shape{l.grid, l.threads, 0}, list)) return false;
  return run_ordered_sum(start, 2, workspace, db, channels, l.chunks * (l.keep / period), l.inner);
}

}  // namespace upconv::launch
""",
    "launch/closing.hpp": r"""// Launches of the kernels of closing/ for any sizes: shapes, ranges, shares and grids from what was specialised.
#pragma once

#include "arguments/closing.cuh"
#include "launch/clusters.hpp"
#include "launch/sizes.hpp"

namespace upconv::launch {

constexpr Int closing_threads = 256;
/// Values of a plane, before and after its window, that are counted in 32 bits.
constexpr Int longest_narrow_plane = (Int(1) << 31) - (1 << 20);

/// What a closing kernel was specialised for, as far as a launch depends on it.
struct ClosingFixed {
  Int kind = 0;  ///< 0 map, 1 parts, 2 norm, 3 result, 4 columns, 5 rows, 6 sets.
  bool window = false, reduces = false, wide = false;
  Int k_d = 1, k_h = 1, k_w = 1, s_d = 1, s_h = 1, s_w = 1, p_d = 0, p_h = 0, p_w = 0;  ///< Of the window.
  Int first = 2, last = 4;  ///< The dimensions of a unit (parts), of a column or a row: 1 channel to 4 w.
  Int row_first = 0;        ///< The first dimension of what an item of the value calls a row; 0: there is none.
  Int split = 1, each = 1;  ///< columns: warps that share columns, columns of a thread; rows: values of a thread.
  bool batch = false;       ///< norm: sets are channels of all samples, else `per` planes that follow each other.
  Int per = 1;              ///< norm, sets
  Int cluster = 1;          ///< sets: blocks of a set.
  Int stored_bytes = 4;     ///< sets: of a value of the source.
  Int sum_bytes = 4;

  template <class Visit>
  void visit(Visit&& field) {
    field("kind", kind), field("window", window), field("reduces", reduces), field("wide", wide);
    field("k_d", k_d), field("k_h", k_h), field("k_w", k_w);
    field("s_d", s_d), field("s_h", s_h), field("s_w", s_w);
    field("p_d", p_d), field("p_h", p_h), field("p_w", p_w);
    field("first", first), field("last", last), field("row_first", row_first);
    field("split", split), field("each", each), field("batch", batch), field("per", per);
    field("cluster", cluster), field("stored_bytes", stored_bytes);
    field("sum_bytes", sum_bytes);
  }
};

struct ClosingLaunch {
  const char* refusal = nullptr;
  arguments::Closing arguments{};
  Int result[5] = {1, 1, 1, 1, 1};  ///< Shape of what the kernel writes, where it writes values.
  Int at[5] = {1, 1, 1, 1, 1};      ///< After the window.
  Int blocks = 0;
  Int threads = closing_threads, shared_bytes = 0;  ///< Of a block; dynamic.
  Int parts_bytes = 0;                              ///< Of the statistics that `parts` writes and norm and result read.
};

inline arguments::Divisor divisor_of(Int value) {
  arguments::Divisor d{value, 1, 0};
  if (value > 1 && value <= Int(1) << 31) {
    while ((Int(1) << d.shift) < value) ++d.shift;
    d.magic = static_cast<unsigned>((static_cast<unsigned long long>((Int(1) << d.shift) - value) << 32) /
                                        static_cast<unsigned long long>(value) +
                                    1);
  }
  return d;
}

inline Int closing_product(const Int (&size)[5], Int first, Int last) {
  Int n = 1;
  for (Int d = first; d <= last; ++d) n *= size[d];
  return n;
}

inline arguments::ClosingShape closing_shape(const Int (&size)[5]) {
  arguments::ClosingShape s;
  const Int volume = closing_product(size, 2, 4);
  s.values = {volume * size[1], volume, 1, static_cast<int>(size[3]), static_cast<int>(size[4])};
  s.count = volume * size[1] * size[0];
  s.d = static_cast<int>(size[2]);
  s.volume = divisor_of(volume), s.h = divisor_of(size[3]), s.w = divisor_of(size[4]);
  return s;
}

/// Shares of units and the values of each: whole units to warps where they are small, else enough blocks for the chip.
inline void closing_shares(arguments::Closing& a, int processors) {
  a.shares = 1;
  if (a.length > 2048) {
    const Int enough = ceil_div(32 * Int(processors), most(a.units, 1));
    a.shares = most(least(enough, ceil_div(a.length, 2048)), 1);
  }
  a.share = most(ceil_div(a.length, a.shares), 1);
  a.shares = most(ceil_div(a.length, a.share), 1);
}

/// Pieces of closing/sets.cuh that a block's shared memory holds, and those of a block's share of a set of `bytes`.
inline Int set_slots(Int shared_bytes) {
  return least(most((shared_bytes - 2048) / arguments::set_piece, 0), Int(arguments::most_slots));
}
inline Int set_pieces(Int bytes, Int cluster) {
  return ceil_div(ceil_div(ceil_div(bytes + 15, 16), cluster), arguments::set_piece / 16);
}

/// The most blocks that share a set. A cluster lies in one GPC, of which no GPU has more than 8: where they have more
/// than 8 * 15 multiprocessors together, one of them has 16.
inline Int widest_cluster(Int shared_bytes, int processors) {
  return processors > 8 * 15 && shared_bytes >= Int(200) << 10 ? 16 : 8;
}

/// Why these sets are not for closing/sets.cuh, or null. Each costs some 0.6 us beside the bytes of a block's share, so
/// small ones only where every cluster has about one; the sizes that it counts with have 31 bits.
inline const char* not_for_sets(const ClosingFixed& f, Int units, Int volume, Int shared_bytes, int processors) {
  const Int bytes = f.per * volume * f.stored_bytes;
  if (volume < 16 || f.per * volume >= Int(1) << 30) return "planes too small or sets too large for one kernel";
  if (f.cluster > widest_cluster(shared_bytes, processors)) return "clusters wider than this GPU is known to run";
  if (set_pieces(bytes, f.cluster) > set_slots(shared_bytes)) return "a set is larger than the memory of its blocks";
  if (bytes / f.cluster < 32768 && units * f.cluster > 2 * processors) return "many small sets";
  return nullptr;
}

/// The blocks of a set: as few as leave a third of the shared memory for the next set's values, more where there are
/// fewer sets than multiprocessors.
inline Int cluster_for_sets(const ClosingFixed& f, Int units, Int volume, Int shared_bytes, int processors) {
  const Int widest = widest_cluster(shared_bytes, processors);
  const Int bytes = f.per * volume * f.stored_bytes, slots = set_slots(shared_bytes);
  Int cluster = 1;
  while (cluster < widest && (3 * set_pieces(bytes, cluster) > 2 * slots ||
                              (units * cluster < processors && set_pieces(bytes, cluster) > 1)))
    cluster *= 2;
  return cluster;
}

/// `source` is the shape of what the kernel reads: for norm and result, that of the statistics' value after its window.
/// `shared_bytes`: what a block may have for closing/sets.cuh, 0 where there are no clusters.
inline ClosingLaunch launch_of(const ClosingFixed& f, const Int (&source)[5], int processors, Int shared_bytes = 0) {
  ClosingLaunch l;
  arguments::Closing& a = l.arguments;
  Int at[5] = {source[0], source[1], source[2], source[3], source[4]};
  if (f.window) {
    const Int k[3] = {f.k_d, f.k_h, f.k_w}, s[3] = {f.s_d, f.s_h, f.s_w}, p[3] = {f.p_d, f.p_h, f.p_w};
    for (int d = 0; d < 3; ++d) {
      if (at[d + 2] + 2 * p[d] < k[d]) l.refusal = "a pooling window that is larger than what it is moved over";
      at[d + 2] = (at[d + 2] + 2 * p[d] - k[d]) / s[d] + 1;
    }
  }
  for (int d = 0; d < 5; ++d) {
    l.at[d] = at[d];
    l.result[d] = f.reduces && d >= f.first && d <= f.last ? 1 : at[d];
    if (source[d] > Int(1) << 30) l.refusal = "a dimension above 2^30";
  }
  if (source[0] * source[1] >= Int(1) << 31) l.refusal = "2^31 planes or more";
  if (!f.wide && most(closing_product(source, 2, 4), closing_product(at, 2, 4)) > longest_narrow_plane)
    l.refusal = "a plane of 2^31 values or more";
  if (l.refusal) return l;
  a.in = closing_shape(source), a.at = closing_shape(at), a.result = closing_shape(l.result);
  a.row = f.row_first > 0 ? closing_product(source, f.row_first, 4) : 1;
  a.units = closing_product(at, 0, f.first - 1);
  a.length = closing_product(at, f.first, f.last);
  a.inner = closing_product(at, f.last + 1, 4);
  a.inner_by = divisor_of(a.inner);
  a.planes = source[0];
  a.team = 32;
  if (f.kind >= 1 && f.kind <= 3) {
    closing_shares(a, processors);
    l.parts_bytes = a.units * a.shares * 2 * f.sum_bytes;
  }
  if (f.kind == 6) l.refusal = not_for_sets(f, a.units / f.per, a.length, shared_bytes, processors);
  if (a.at.count == 0) return l;
  switch (f.kind) {
    case 0:
      l.blocks = ceil_div(a.at.count, closing_threads * (f.window ? 2 : 8));
      break;
    case 1:
      a.team = a.length > 2048 ? 256 : 32;
      l.blocks = ceil_div(a.units * a.shares, closing_threads / a.team);
      break;
    case 2: {
      const Int units = a.units;
      a.units = f.batch ? source[1] : units / f.per;
      a.team = (f.batch ? a.planes : f.per) * a.shares > 64 ? 256 : 32;
      l.blocks = ceil_div(a.units, closing_threads / a.team);
      break;
    }
    case 3:
      l.blocks = ceil_div(a.units, closing_threads / 32);
      break;
    case 4:
      l.blocks = ceil_div(a.units * a.inner, closing_threads / f.split * f.each);
      break;
    case 6:
      a.units /= f.per, a.length *= f.per;
      a.shares = set_slots(shared_bytes);
      l.threads = arguments::set_threads, l.shared_bytes = a.shares * arguments::set_piece;
      l.blocks = least(a.units, most(clusters_at_once(f.cluster, processors), 1)) * f.cluster;
      break;
    default:
      a.team = 2;
      while (a.team < 32 && f.each * a.team < a.length) a.team *= 2;
      if (a.length > 32 * f.each) a.team = 256;
      l.blocks = ceil_div(a.units, closing_threads / a.team);
  }
  if (l.blocks > (Int(1) << 31) - 1) l.refusal = "more blocks than 2^31";
  return l;
}

}  // namespace upconv::launch
""",
    "launch/pull.hpp": r"""// Launches of the gradient kernels of closing/ for any sizes, on top of launch/closing.hpp.
#pragma once

#include "arguments/pull.cuh"
#include "launch/closing.hpp"

namespace upconv::launch {

/// What a gradient kernel was specialised for, as far as a launch depends on it.
struct PullFixed {
  Int kind = 0;                 ///< 0 pull, 1 columns, 2 rows, 3 norm.
  ClosingFixed closing;         ///< Of the values that are read; `first` and `last` of the units, columns or rows.
  Int arrives = 0;              ///< closing/gradient.cuh
  Int r_first = 1, r_last = 1;  ///< Of the reduction.
  Int g_kd = 1, g_kh = 1, g_kw = 1, g_sd = 1, g_sh = 1, g_sw = 1, g_pd = 0, g_ph = 0, g_pw = 0;  ///< The window.
  Int sums = 0;              ///< Of a unit and share, or row.
  bool vector_sums = false;  ///< rows

  template <class Visit>
  void visit(Visit&& field) {
    field("kind", kind);
    closing.visit([&](const char* name, auto& value) {
      char path[40] = "closing.";
      for (int i = 8; i < 39 && (path[i] = *name) != 0; ++i) ++name;
      field(static_cast<const char*>(path), value);
    });
    field("arrives", arrives), field("r_first", r_first), field("r_last", r_last);
    field("g_kd", g_kd), field("g_kh", g_kh), field("g_kw", g_kw);
    field("g_sd", g_sd), field("g_sh", g_sh), field("g_sw", g_sw);
    field("g_pd", g_pd), field("g_ph", g_ph), field("g_pw", g_pw);
    field("sums", sums), field("vector_sums", vector_sums);
  }
};

struct PullLaunch {
  const char* refusal = nullptr;
  arguments::Pull arguments{};
  Int blocks = 0;
  Int sum_units = 0, sum_shares = 1;  ///< `sums` numbers of each unit and share.
  Int sum_bytes = 0, vector_bytes = 0;
  Int at[5] = {1, 1, 1, 1, 1};  ///< Shape of the values whose gradient arrives, after the window.
};

inline PullLaunch launch_of(const PullFixed& f, const Int (&source)[5], int processors) {
  PullLaunch l;
  ClosingFixed c = f.closing;
  c.kind = f.kind == 0 ? 1 : f.kind == 1 ? 4 : f.kind == 2 ? 5 : 2;
  c.reduces = false;
  const ClosingLaunch values = launch_of(c, source, processors);
  l.refusal = values.refusal;
  if (l.refusal) return l;
  arguments::Pull& p = l.arguments;
  p.values = values.arguments;
  for (int d = 0; d < 5; ++d) l.at[d] = values.at[d];
  l.blocks = values.blocks;
  if (f.arrives == 1) {
    p.length = closing_product(l.at, f.r_first, f.r_last);
    p.inner = closing_product(l.at, f.r_last + 1, 4);
  } else if (f.arrives > 1) {
    Int left[5] = {l.at[0], l.at[1], l.at[2], l.at[3], l.at[4]};
    const Int k[3] = {f.g_kd, f.g_kh, f.g_kw}, s[3] = {f.g_sd, f.g_sh, f.g_sw}, pad[3] = {f.g_pd, f.g_ph, f.g_pw};
    for (int d = 0; d < 3; ++d) left[d + 2] = (l.at[d + 2] + 2 * pad[d] - k[d]) / s[d] + 1;
    p.arriving = closing_shape(left);
  }
  if (f.kind == 0) {
    l.sum_units = p.values.units, l.sum_shares = p.values.shares;
  } else if (f.kind == 2) {
    // Every block takes several turns, so that a vector's sums are few; blocks enough for the chip stay.
    const Int teams = closing_threads / p.values.team, turns = ceil_div(p.values.units, teams);
    p.values.share = most(ceil_div(turns, 16 * Int(processors)), 1);
    l.blocks = p.values.units == 0 ? 0 : ceil_div(turns, p.values.share);
    l.sum_units = p.values.units;
    l.vector_bytes = l.blocks * 2 * p.values.length * f.closing.sum_bytes;
  }
  l.sum_bytes = l.sum_units * l.sum_shares * f.sums * f.closing.sum_bytes;
  return l;
}

inline void dense_total(const Int (&size)[5], Int (&stride)[5]) {
  Int all = 1;
  for (int d = 4; d >= 0; --d) stride[d] = all, all *= size[d];
}

/// How the sums number `slot` of a launch lie, as an array whose first dimensions are those of its units and whose last
/// are its shares; or a norm's vectors, an array of blocks and a row. Returns the first one's offset.
inline Int sums_of(const PullFixed& f, const PullLaunch& l, Int slot, bool vectors, Int (&size)[5], Int (&stride)[5]) {
  for (int d = 0; d < 5; ++d) size[d] = 1;
  if (vectors) {
    const Int length = l.arguments.values.length;
    size[0] = l.blocks, size[4] = length;
    for (int d = 0; d < 5; ++d) stride[d] = 2 * length;
    stride[4] = 1;
    return slot * length;
  }
  for (int d = 0; d < f.closing.first; ++d) size[d] = l.at[d];
  size[4] = l.sum_shares;
  dense_total(size, stride);
  for (int d = 0; d < 5; ++d) stride[d] *= f.sums;
  return slot;
}

struct TotalLaunch {
  arguments::Total arguments{};
  Int blocks = 0;
};

/// Neighbouring dimensions that lie one behind the other become one: fewer divisions.
inline void closing_collapse(Int (&size)[5], Int (&stride)[5]) {
  for (int d = 4; d > 0; --d)
    for (int outer = d - 1; outer >= 0; --outer) {
      if (size[outer] == 1) continue;
      if (size[d] != 1 && stride[outer] != stride[d] * size[d]) break;
      if (size[d] == 1) stride[d] = stride[outer];
      size[d] *= size[outer], size[outer] = 1;
    }
}

/// Sums over the dimensions of `size` that `gone` names, in elements `stride` apart.
inline TotalLaunch total_of(const Int (&size)[5], const Int (&stride)[5], unsigned gone) {
  TotalLaunch l;
  arguments::Total& t = l.arguments;
  t.outputs = t.count = 1;
  for (int d = 0; d < 5; ++d) {
    const bool sum = gone >> d & 1;
    t.kept[d] = sum ? 1 : size[d], t.kept_stride[d] = stride[d];
    t.gone[d] = sum ? size[d] : 1, t.gone_stride[d] = stride[d];
    t.outputs *= t.kept[d], t.count *= t.gone[d];
  }
  closing_collapse(t.kept, t.kept_stride);
  closing_collapse(t.gone, t.gone_stride);
  t.team = t.count <= 8 || (t.outputs >= 16384 && t.kept[4] > 1 && t.kept_stride[4] == 1) ? 1
           : t.count <= 2048 || t.outputs > 4096                                          ? 32
                                                                                          : 256;
  l.blocks = ceil_div(t.outputs, closing_threads / t.team);
  return l;
}

}  // namespace upconv::launch
""",
    "launch/program.hpp": r"""// A chain's passes for any sizes, as exported files run them: from the shape of the layer's result to the memory that
// the passes share, and their launches one after the other. What a pass is, the library has decided
// (src/plan/program_text.cpp writes it down).
#pragma once

#include "launch/pull.hpp"

namespace upconv::launch {

enum Place {
  IN_WORKSPACE,
  IN_Z,  ///< The layer's result; of a chain without a layer, x.
  IN_Y,
  IN_SAVED,  ///< Kept from the forward pass to the gradient's, by number.
  IN_DY,
  IN_DZ,
  IN_DB,
  IN_GRADIENT,  ///< Of an operand, by number.
};

constexpr int most_passes = 64, most_buffers = 96, most_operands = 16;

struct ProgramPass {
  int form = 0;    ///< 0: a kernel of launch/closing.hpp, 1: of launch/pull.hpp, 2: a total.
  int kernel = 0;  ///< By its number in the file.
  ClosingFixed closing;
  PullFixed pull;
  // Buffers; -1: none.
  int source = -1, out = -1, parts = -1, table_out = -1, saved = -1, argmax = -1;
  int tables[4] = {-1, -1, -1, -1}, coefficients[4] = {-1, -1, -1, -1};
  int gradient = -1, reduced = -1, ties = -1, sums = -1, vector_sums = -1;
  int whole[arguments::most_wholes] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  int of = -1;  ///< The pass whose parts or sums these are.
  int argmax_bytes = 1;
  bool statistics = false;                ///< Gives those of a batch norm.
  bool spared = false;                    ///< Not needed where the units of `of` are one share each.
  int instead_of = 0;                     ///< The passes behind it, which do the same where it cannot run.
  int weight = -1, bias = -1;             ///< Operands.
  bool vectors = false, nothing = false;  ///< total
  int slot = 0, like = -1;                ///< total: of sums; the operand whose sizes the result has.
  unsigned gone = 0;
};

struct ProgramBuffer {
  int place = IN_WORKSPACE, number = 0;
};

struct Program {
  ProgramPass passes[most_passes];
  ProgramBuffer buffers[most_buffers];
  int pass_count = 0, buffer_count = 0, saved_count = 0;

  ProgramPass& add() { return passes[pass_count++]; }
  void buffer(int place, int number) { buffers[buffer_count].place = place, buffers[buffer_count++].number = number; }
};

struct ProgramOperand {
  const void* data = nullptr;
  Int size[5] = {1, 1, 1, 1, 1};  ///< Dense.
};

/// What a program needs for sizes: every buffer's shape and bytes, and where it lies in the workspace.
struct ProgramPlan {
  const char* refusal = nullptr;
  Int shape[most_buffers][5];
  Int bytes[most_buffers];
  Int offset[most_buffers];
  Int workspace_bytes = 0;
  ClosingLaunch closing[most_passes];
  PullLaunch pull[most_passes];
  TotalLaunch total[most_passes];
  Int total_offset[most_passes];
  bool left_out[most_passes];  ///< Another pass does its work.
};

inline Int count_of(const Int (&shape)[5]) { return closing_product(shape, 0, 4); }
inline void set_shape(ProgramPlan& plan, int buffer, const Int (&shape)[5], Int bytes) {
  if (buffer < 0) return;
  for (int d = 0; d < 5; ++d) plan.shape[buffer][d] = shape[d];
  plan.bytes[buffer] = count_of(shape) * bytes;
}
inline void set_bytes(ProgramPlan& plan, int buffer, Int bytes) {
  const Int flat[5] = {1, 1, 1, 1, bytes};
  set_shape(plan, buffer, flat, 1);
}

/// Shapes as they are between the passes: a pass's own kernels are told what they read. `shared_bytes`: of a block,
/// where there are clusters (launch/closing.hpp).
inline void plan_program(const Program& program, const Int (&z)[5], const ProgramOperand* operands, int processors,
                         Int shared_bytes, ProgramPlan& plan) {
  for (int b = 0; b < program.buffer_count; ++b) {
    set_bytes(plan, b, 0);
    if (program.buffers[b].place == IN_Z) set_shape(plan, b, z, 4);
  }
  int done = 0;  // passes to come whose work one before them does
  for (int i = 0; i < program.pass_count && !plan.refusal; ++i) {
    const ProgramPass& p = program.passes[i];
    plan.left_out[i] = done > 0;
    if (done > 0) {
      --done;
      continue;
    }
    Int shape[5] = {1, 1, 1, 1, 1};
    if (p.source >= 0)
      for (int d = 0; d < 5; ++d) shape[d] = plan.shape[p.source][d];
    if (p.form == 0) {
      ClosingLaunch& l = plan.closing[i];
      if (p.of >= 0)  // what is put together: the values after their window
        for (int d = 0; d < 5; ++d) shape[d] = plan.closing[p.of].at[d];
      l = launch_of(p.closing, shape, processors, shared_bytes);
      if (p.instead_of > 0) {
        plan.left_out[i] = l.refusal != nullptr;
        if (l.refusal) continue;
        done = p.instead_of;
      }
      plan.refusal = l.refusal;
      if (p.closing.kind == 1) set_bytes(plan, p.parts, l.parts_bytes);
      set_shape(plan, p.out, l.result, 4);
      set_bytes(plan, p.table_out, closing_product(l.at, 0, static_cast<int>(p.closing.first) - 1) * 12);
      set_bytes(plan, p.saved, l.arguments.units * 8);
      set_shape(plan, p.argmax, l.at, p.argmax_bytes);
    } else if (p.form == 1) {
      PullLaunch& l = plan.pull[i];
      l = launch_of(p.pull, shape, processors);
      plan.refusal = l.refusal;
      set_shape(plan, p.out, l.at, 4);
      for (int w : p.whole) set_shape(plan, w, l.at, 4);
      if (p.pull.kind != 3) set_bytes(plan, p.sums, l.sum_bytes);
      set_bytes(plan, p.vector_sums, l.vector_bytes);
      set_bytes(plan, p.table_out, closing_product(shape, 0, static_cast<int>(p.pull.closing.first) - 1) * 12);
    } else {
      Int size[5], stride[5], left[5];
      plan.total_offset[i] = 0;
      if (p.nothing || p.source >= 0) {
        for (int d = 0; d < 5; ++d) size[d] = p.nothing ? operands[p.like].size[d] : shape[d];
        dense_total(size, stride);
      } else {
        plan.total_offset[i] = 4 * sums_of(program.passes[p.of].pull, plan.pull[p.of], p.slot, p.vectors, size, stride);
      }
      plan.total[i] = total_of(size, stride, p.gone);
      if (p.nothing) plan.total[i].arguments.count = 0;
      for (int d = 0; d < 5; ++d) left[d] = p.gone >> d & 1 ? 1 : size[d];
      set_shape(plan, p.out, left, 4);
    }
  }
  plan.workspace_bytes = 0;
  for (int b = 0; b < program.buffer_count; ++b) {
    plan.offset[b] = plan.workspace_bytes;
    if (program.buffers[b].place == IN_WORKSPACE) plan.workspace_bytes += ceil_div(plan.bytes[b], 256) * 256;
  }
}

/// Addresses of a run.
struct ProgramTensors {
  const void* z = nullptr;
  const void* dy = nullptr;
  void *y = nullptr, *dz = nullptr, *db = nullptr, *workspace = nullptr;
  void* const* saved = nullptr;
  void* const* gradients = nullptr;
  double* statistics = nullptr;
  const ProgramOperand* operands = nullptr;
  int operand_count = 0;
};

/// The operands as kernels take them; `values` where an epilogue's does.
inline arguments::Operands<most_operands> operand_block(const ProgramOperand* operands, int count,
                                                        const arguments::Values& values) {
  arguments::Operands<most_operands> block{};
  block.values = values;
  for (int i = 0; i < count; ++i) {
    long long stride[5], all = 1;
    for (int d = 4; d >= 0; --d) {
      stride[d] = operands[i].size[d] == 1 ? 0 : all;
      all *= operands[i].size[d];
    }
    block.at[i] = {operands[i].data, stride[0], stride[1], stride[2], stride[3], stride[4]};
  }
  return block;
}

inline void* program_address(const Program& program, const ProgramPlan& plan, const ProgramTensors& t, int buffer) {
  if (buffer < 0) return nullptr;
  const ProgramBuffer& b = program.buffers[buffer];
  switch (b.place) {
    case IN_Z:
      return const_cast<void*>(t.z);
    case IN_Y:
      return t.y;
    case IN_SAVED:
      return t.saved[b.number];
    case IN_DY:
      return const_cast<void*>(t.dy);
    case IN_DZ:
      return t.dz;
    case IN_DB:
      return t.db;
    case IN_GRADIENT:
      return t.gradients[b.number];
    default:
      return static_cast<char*>(t.workspace) + plan.offset[buffer];
  }
}

/// Puts all passes on a stream: start(kernel, shape, arguments), which says whether it goes on.
template <class Start>
void run_program(const Program& program, const ProgramPlan& plan, const ProgramTensors& t, Start& start) {
  arguments::Operands<most_operands> block = operand_block(t.operands, t.operand_count, {});
  const auto at = [&](int buffer) { return program_address(program, plan, t, buffer); };
  const auto vector = [&](int operand) -> const void* { return operand < 0 ? nullptr : t.operands[operand].data; };
  for (int i = 0; i < program.pass_count; ++i) {
    const ProgramPass& p = program.passes[i];
    if (plan.left_out[i]) continue;
    if (p.form == 2) {
      arguments::Total a = plan.total[i].arguments;
      if (plan.total[i].blocks == 0) continue;
      const int from = p.nothing       ? -1
                       : p.source >= 0 ? p.source
                       : p.vectors     ? program.passes[p.of].vector_sums
                                       : program.passes[p.of].sums;
      a.in = from < 0 ? nullptr : static_cast<char*>(at(from)) + plan.total_offset[i];
      a.out = at(p.out);
      void* list[] = {&a};
      if (!start(p.kernel, {static_cast<unsigned>(plan.total[i].blocks), closing_threads, 0}, list)) return;
      continue;
    }
    const bool pulls = p.form == 1;
    const Int blocks = pulls ? plan.pull[i].blocks : plan.closing[i].blocks;
    if (blocks == 0 || (p.spared && plan.closing[p.of].arguments.shares == 1)) continue;
    arguments::Pull pull = pulls ? plan.pull[i].arguments : arguments::Pull{};
    arguments::Closing closing = pulls ? pull.values : plan.closing[i].arguments;
    closing.source = at(p.source), closing.out = at(p.out);
    closing.parts = at(pulls && p.pull.kind == 3 ? p.sums : p.parts);
    for (int k = 0; k < 4; ++k) closing.tables[k] = at(p.tables[k]), pull.coefficients[k] = at(p.coefficients[k]);
    closing.table_out = at(p.table_out);
    closing.saved = at(pulls ? -1 : p.saved), closing.argmax = at(pulls ? -1 : p.argmax);
    closing.statistics = p.statistics ? t.statistics : nullptr;
    closing.weight = vector(p.weight), closing.bias = vector(p.bias);
    pull.values = closing;
    pull.gradient = at(p.gradient), pull.argmax = at(pulls ? p.argmax : -1);
    pull.reduced = at(p.reduced), pull.ties = at(p.ties);
    pull.sums = at(p.sums), pull.vector_sums = at(p.vector_sums);
    for (int k = 0; k < arguments::most_wholes; ++k) pull.whole[k] = at(p.whole[k]);
    void* first = pulls && p.pull.kind != 3 ? static_cast<void*>(&pull) : static_cast<void*>(&closing);
    void* list[] = {first, &block};
    const Shape shape{static_cast<unsigned>(blocks),
                      static_cast<unsigned>(pulls ? closing_threads : plan.closing[i].threads),
                      static_cast<unsigned>(pulls ? 0 : plan.closing[i].shared_bytes)};
    if (!start(p.kernel, shape, list)) return;
  }
}

}  // namespace upconv::launch
""",
}


# What each kernel is specialised for: where it is compiled, its source, and the text before it.
KERNELS = {
    "direct_0": ("UPCONV_BASE || UPCONV_HOPPER", "direct.cuh", r"""#include "types.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
namespace config {
typedef float Element;
typedef long long Index;
constexpr bool forward = true;
constexpr int block = 4, tile_i = 1, tile_o = 1, across_i = 1, across_o = 1;
}
"""),
    "ordered_sum_0": ("UPCONV_BASE || UPCONV_HOPPER", "ordered_sum.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
}
"""),
    "gather_mma_0": ("UPCONV_BASE", "gather_mma.cuh", r"""#include "mma/operand.cuh"
#include "mma/taps.cuh"
namespace config {
typedef float Element;
constexpr upconv::Mode MODE = upconv::Mode::tf32;
constexpr bool FORWARD = true;
constexpr upconv::Dimension DIM_D = {1, 1, 1, false};
constexpr upconv::Dimension DIM_H = {3, 1, 1, false};
constexpr upconv::Dimension DIM_W = {3, 1, 1, false};
constexpr int DEPTH = 8;
constexpr int COLUMNS = 8;
constexpr int LOOP = 0;
constexpr int W_DEEP = 72;
constexpr int W_WIDE = 9;
constexpr int W_D = 9;
constexpr int W_H = 3;
constexpr int W_W = 1;
constexpr bool SOURCE_LAST = false;
constexpr bool OUT_LAST = false;
constexpr bool WEIGHT_LAST = false;
constexpr bool HAS_BIAS = true;
constexpr int TN = 1;
constexpr int TD = 1;
constexpr int TH = 8;
constexpr int TW = 32;
constexpr int MT = 4;
constexpr int NT = 1;
constexpr int WARPS_M = 4;
constexpr int WARPS_N = 1;
constexpr int WARPS_K = 1;
constexpr int J = 4;
constexpr int KC = 8;
constexpr bool RESIDENT = true;
constexpr int LW = 34;
constexpr int NPAD = 0;
constexpr int KPITCH = 353;
constexpr int SKEW = 0;
constexpr bool STAGED = false;
constexpr bool RAW_SOURCE = false;
constexpr bool RAW_WEIGHT = false;
constexpr int BLOCKS = 3;
constexpr int FETCH_REGISTERS = 16;
}
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "positions_0": ("UPCONV_BASE || UPCONV_HOPPER", "positions.cuh", r"""namespace config {
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PD = 0;
constexpr int DD = 1;
constexpr int SHIFT_D = 0;
constexpr int W_TD = 9;
constexpr int KH = 3;
constexpr int SH = 1;
constexpr int PH = 0;
constexpr int DH = 1;
constexpr int SHIFT_H = 0;
constexpr int W_TH = 3;
constexpr int KW = 3;
constexpr int SW = 1;
constexpr int PW = 0;
constexpr int DW = 1;
constexpr int SHIFT_W = 0;
constexpr int W_TW = 1;
constexpr int DTYPE = 0;
constexpr int CI = 8;
constexpr int CO = 8;
constexpr int COT = 8;
constexpr int UH = 3;
constexpr int UW = 1;
constexpr int THREADS = 256;
constexpr int BLOCKS = 2;
constexpr int W_GROUP = 576;
constexpr int W_IN = 72;
constexpr int W_OUT = 9;
constexpr int IN_COLUMN = 1;
constexpr int OUT_COLUMN = 1;
constexpr int STAGE_AT = 576;
constexpr int SLICES_AT = 832;
constexpr bool FLAT = true;
constexpr bool DX = false;
constexpr bool BIAS = true;
constexpr bool IN_CL = false;
constexpr bool OUT_CL = false;
constexpr bool GROUP_LANES = false;
constexpr bool WHOLE = true;
}
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "boxes_prepare_0": ("UPCONV_HOPPER", "boxes_prepare.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
constexpr bool tf32 = true;
constexpr int PARTS = 1;
constexpr bool FOLDED = false;
constexpr int K = 8;
constexpr int N = 8;
constexpr int NB = 8;
constexpr int STEPS_K = 1;
constexpr int LOOP_TAPS = 1;
constexpr int SLOTS = 9;
__device__ constexpr int slot_of_tap[] = {6, 3, 0, 7, 4, 1, 8, 5, 2};
}
"""),
    "boxes_0": ("UPCONV_HOPPER", "boxes.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
constexpr bool tf32 = true;
constexpr int PARTS = 1;
constexpr bool FOLDED = false;
constexpr int K = 8;
constexpr int N = 8;
constexpr int NB = 8;
constexpr int STEPS_K = 1;
constexpr int LOOP_TAPS = 1;
constexpr int SLOTS = 9;
__device__ constexpr int slot_of_tap[] = {6, 3, 0, 7, 4, 1, 8, 5, 2};
constexpr bool backward = false;
constexpr bool has_bias = true;
constexpr bool source_last = false;
constexpr bool result_last = false;
constexpr bool depth_loop = false;
constexpr bool RESIDENT = true;
constexpr bool SHARED = true;
constexpr bool WIDE = false;
constexpr bool LINE = false;
constexpr bool DIRECT = false;
constexpr bool OVERLAPPED = false;
constexpr int TAPS_W = 1;
constexpr int ROOM = 0;
__device__ constexpr int overlap_at[] = {0};
constexpr bool EVERY_LANE = false;
constexpr int GROUPS = 3;
constexpr int TOGETHER = 1;
constexpr int SEGMENTS = 1;
constexpr int ROWS = 8;
constexpr int MERGE = 1;
constexpr int LOOP_STRIDE = 1;
constexpr int LOOP_PADDING = 0;
constexpr int LOOP_DILATION = 1;
constexpr int STEP_D = 1;
constexpr int OFFSET_D = 0;
constexpr int PHASES_D = 1;
constexpr int USED_D = 1;
constexpr int PADDING_D = 0;
__device__ constexpr int used_d[] = {0};
constexpr int STEP_H = 1;
constexpr int OFFSET_H = -2;
constexpr int PHASES_H = 1;
constexpr int USED_H = 1;
constexpr int PADDING_H = 0;
__device__ constexpr int used_h[] = {0};
constexpr int STEP_W = 1;
constexpr int OFFSET_W = -2;
constexpr int PHASES_W = 1;
constexpr int USED_W = 1;
constexpr int PADDING_W = 0;
__device__ constexpr int used_w[] = {0};
__device__ constexpr int block_of[] = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr int BLOCKS = 8;
constexpr int FRAGMENTS = 30;
constexpr int STAGES = 3;
constexpr int SOURCE_WORDS = 14656;
constexpr int CONSUMER_REGISTERS = 152;
constexpr int PRODUCER_REGISTERS = 56;
__device__ __forceinline__ void wgmma(float (&sum)[4], const unsigned (&a)[4], unsigned long long b) {
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, %9, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, keep, 1, 1;}"
    : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}
}
#define UPCONV_FRAGMENTS \
  LOAD(0, 0, 0, 0, 0, 0) \
  LOAD(1, 0, 0, 0, 1, 0) \
  USE(0) PRODUCT(0, 0, 1, 0, 2) DONE \
  LOAD(2, 0, 0, 0, 2, 0) \
  USE(1) PRODUCT(1, 0, 1, 0, 1) PRODUCT(1, 1, 1, 0, 2) DONE \
  LOAD(3, 0, 0, 0, 3, 0) \
  USE(2) PRODUCT(2, 0, 1, 0, 0) PRODUCT(2, 1, 1, 0, 1) PRODUCT(2, 2, 1, 0, 2) DONE \
  LOAD(4, 0, 0, 0, 4, 0) \
  USE(3) PRODUCT(3, 1, 1, 0, 0) PRODUCT(3, 2, 1, 0, 1) PRODUCT(3, 3, 1, 0, 2) DONE \
  LOAD(5, 0, 0, 0, 5, 0) \
  USE(4) PRODUCT(4, 2, 1, 0, 0) PRODUCT(4, 3, 1, 0, 1) PRODUCT(4, 4, 1, 0, 2) DONE \
  LOAD(6, 0, 0, 0, 6, 0) \
  USE(5) PRODUCT(5, 3, 1, 0, 0) PRODUCT(5, 4, 1, 0, 1) PRODUCT(5, 5, 1, 0, 2) DONE \
  LOAD(7, 0, 0, 0, 7, 0) \
  USE(6) PRODUCT(6, 4, 1, 0, 0) PRODUCT(6, 5, 1, 0, 1) PRODUCT(6, 6, 1, 0, 2) DONE \
  LOAD(8, 0, 0, 0, 8, 0) \
  USE(7) PRODUCT(7, 5, 1, 0, 0) PRODUCT(7, 6, 1, 0, 1) PRODUCT(7, 7, 1, 0, 2) DONE \
  LOAD(9, 0, 0, 0, 9, 0) \
  USE(8) PRODUCT(8, 6, 1, 0, 0) PRODUCT(8, 7, 1, 0, 1) DONE \
  LOAD(10, 0, 0, 0, 0, 1) \
  USE(9) PRODUCT(9, 7, 1, 0, 0) DONE \
  LOAD(11, 0, 0, 0, 1, 1) \
  USE(10) PRODUCT(10, 0, 1, 0, 5) DONE \
  LOAD(12, 0, 0, 0, 2, 1) \
  USE(11) PRODUCT(11, 0, 1, 0, 4) PRODUCT(11, 1, 1, 0, 5) DONE \
  LOAD(13, 0, 0, 0, 3, 1) \
  USE(12) PRODUCT(12, 0, 1, 0, 3) PRODUCT(12, 1, 1, 0, 4) PRODUCT(12, 2, 1, 0, 5) DONE \
  LOAD(14, 0, 0, 0, 4, 1) \
  USE(13) PRODUCT(13, 1, 1, 0, 3) PRODUCT(13, 2, 1, 0, 4) PRODUCT(13, 3, 1, 0, 5) DONE \
  LOAD(15, 0, 0, 0, 5, 1) \
  USE(14) PRODUCT(14, 2, 1, 0, 3) PRODUCT(14, 3, 1, 0, 4) PRODUCT(14, 4, 1, 0, 5) DONE \
  LOAD(16, 0, 0, 0, 6, 1) \
  USE(15) PRODUCT(15, 3, 1, 0, 3) PRODUCT(15, 4, 1, 0, 4) PRODUCT(15, 5, 1, 0, 5) DONE \
  LOAD(17, 0, 0, 0, 7, 1) \
  USE(16) PRODUCT(16, 4, 1, 0, 3) PRODUCT(16, 5, 1, 0, 4) PRODUCT(16, 6, 1, 0, 5) DONE \
  LOAD(18, 0, 0, 0, 8, 1) \
  USE(17) PRODUCT(17, 5, 1, 0, 3) PRODUCT(17, 6, 1, 0, 4) PRODUCT(17, 7, 1, 0, 5) DONE \
  LOAD(19, 0, 0, 0, 9, 1) \
  USE(18) PRODUCT(18, 6, 1, 0, 3) PRODUCT(18, 7, 1, 0, 4) DONE \
  LOAD(20, 0, 0, 0, 0, 2) \
  USE(19) PRODUCT(19, 7, 1, 0, 3) DONE \
  LOAD(21, 0, 0, 0, 1, 2) \
  USE(20) PRODUCT(20, 0, 1, 0, 8) DONE \
  LOAD(22, 0, 0, 0, 2, 2) \
  USE(21) PRODUCT(21, 0, 1, 0, 7) PRODUCT(21, 1, 1, 0, 8) DONE \
  LOAD(23, 0, 0, 0, 3, 2) \
  USE(22) PRODUCT(22, 0, 1, 0, 6) PRODUCT(22, 1, 1, 0, 7) PRODUCT(22, 2, 1, 0, 8) DONE \
  LOAD(24, 0, 0, 0, 4, 2) \
  USE(23) PRODUCT(23, 1, 1, 0, 6) PRODUCT(23, 2, 1, 0, 7) PRODUCT(23, 3, 1, 0, 8) DONE \
  LOAD(25, 0, 0, 0, 5, 2) \
  USE(24) PRODUCT(24, 2, 1, 0, 6) PRODUCT(24, 3, 1, 0, 7) PRODUCT(24, 4, 1, 0, 8) DONE \
  LOAD(26, 0, 0, 0, 6, 2) \
  USE(25) PRODUCT(25, 3, 1, 0, 6) PRODUCT(25, 4, 1, 0, 7) PRODUCT(25, 5, 1, 0, 8) DONE \
  LOAD(27, 0, 0, 0, 7, 2) \
  USE(26) PRODUCT(26, 4, 1, 0, 6) PRODUCT(26, 5, 1, 0, 7) PRODUCT(26, 6, 1, 0, 8) DONE \
  LOAD(28, 0, 0, 0, 8, 2) \
  USE(27) PRODUCT(27, 5, 1, 0, 6) PRODUCT(27, 6, 1, 0, 7) PRODUCT(27, 7, 1, 0, 8) DONE \
  LOAD(29, 0, 0, 0, 9, 2) \
  USE(28) PRODUCT(28, 6, 1, 0, 6) PRODUCT(28, 7, 1, 0, 7) DONE \
  USE(29) PRODUCT(29, 7, 1, 0, 6) DONE \

#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "direct_1": ("UPCONV_BASE || UPCONV_HOPPER", "direct.cuh", r"""#include "types.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
namespace config {
typedef float Element;
typedef long long Index;
constexpr bool forward = false;
constexpr int block = 4, tile_i = 1, tile_o = 1, across_i = 1, across_o = 1;
}
"""),
    "gather_mma_1": ("UPCONV_BASE", "gather_mma.cuh", r"""#include "mma/operand.cuh"
#include "mma/taps.cuh"
namespace config {
typedef float Element;
constexpr upconv::Mode MODE = upconv::Mode::tf32;
constexpr bool FORWARD = false;
constexpr upconv::Dimension DIM_D = {1, 1, 1, false};
constexpr upconv::Dimension DIM_H = {3, 1, 1, false};
constexpr upconv::Dimension DIM_W = {3, 1, 1, false};
constexpr int DEPTH = 8;
constexpr int COLUMNS = 8;
constexpr int LOOP = 0;
constexpr int W_DEEP = 9;
constexpr int W_WIDE = 72;
constexpr int W_D = 9;
constexpr int W_H = 3;
constexpr int W_W = 1;
constexpr bool SOURCE_LAST = false;
constexpr bool OUT_LAST = false;
constexpr bool WEIGHT_LAST = false;
constexpr bool HAS_BIAS = false;
constexpr int TN = 1;
constexpr int TD = 1;
constexpr int TH = 8;
constexpr int TW = 32;
constexpr int MT = 4;
constexpr int NT = 1;
constexpr int WARPS_M = 4;
constexpr int WARPS_N = 1;
constexpr int WARPS_K = 1;
constexpr int J = 4;
constexpr int KC = 8;
constexpr bool RESIDENT = true;
constexpr int LW = 34;
constexpr int NPAD = 0;
constexpr int KPITCH = 353;
constexpr int SKEW = 0;
constexpr bool STAGED = false;
constexpr bool RAW_SOURCE = false;
constexpr bool RAW_WEIGHT = false;
constexpr int BLOCKS = 3;
constexpr int FETCH_REGISTERS = 16;
}
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "gather_mma_2": ("UPCONV_BASE", "gather_mma.cuh", r"""#include "mma/operand.cuh"
#include "mma/taps.cuh"
namespace config {
typedef float Element;
constexpr upconv::Mode MODE = upconv::Mode::tf32x3;
constexpr bool FORWARD = false;
constexpr upconv::Dimension DIM_D = {1, 1, 1, false};
constexpr upconv::Dimension DIM_H = {3, 1, 1, false};
constexpr upconv::Dimension DIM_W = {3, 1, 1, false};
constexpr int DEPTH = 8;
constexpr int COLUMNS = 8;
constexpr int LOOP = 2;
constexpr int W_DEEP = 9;
constexpr int W_WIDE = 72;
constexpr int W_D = 9;
constexpr int W_H = 3;
constexpr int W_W = 1;
constexpr bool SOURCE_LAST = false;
constexpr bool OUT_LAST = false;
constexpr bool WEIGHT_LAST = false;
constexpr bool HAS_BIAS = false;
constexpr int TN = 1;
constexpr int TD = 1;
constexpr int TH = 8;
constexpr int TW = 32;
constexpr int MT = 4;
constexpr int NT = 1;
constexpr int WARPS_M = 4;
constexpr int WARPS_N = 1;
constexpr int WARPS_K = 1;
constexpr int J = 4;
constexpr int KC = 8;
constexpr bool RESIDENT = true;
constexpr int LW = 34;
constexpr int NPAD = 0;
constexpr int KPITCH = 353;
constexpr int SKEW = 0;
constexpr bool STAGED = false;
constexpr bool RAW_SOURCE = false;
constexpr bool RAW_WEIGHT = false;
constexpr int BLOCKS = 2;
constexpr int FETCH_REGISTERS = 16;
}
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "boxes_prepare_1": ("UPCONV_HOPPER", "boxes_prepare.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
constexpr bool tf32 = true;
constexpr int PARTS = 1;
constexpr bool FOLDED = false;
constexpr int K = 8;
constexpr int N = 8;
constexpr int NB = 8;
constexpr int STEPS_K = 1;
constexpr int LOOP_TAPS = 1;
constexpr int SLOTS = 9;
__device__ constexpr int slot_of_tap[] = {2, 5, 8, 1, 4, 7, 0, 3, 6};
}
"""),
    "boxes_1": ("UPCONV_HOPPER", "boxes.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
constexpr bool tf32 = true;
constexpr int PARTS = 1;
constexpr bool FOLDED = false;
constexpr int K = 8;
constexpr int N = 8;
constexpr int NB = 8;
constexpr int STEPS_K = 1;
constexpr int LOOP_TAPS = 1;
constexpr int SLOTS = 9;
__device__ constexpr int slot_of_tap[] = {2, 5, 8, 1, 4, 7, 0, 3, 6};
constexpr bool backward = true;
constexpr bool has_bias = false;
constexpr bool source_last = false;
constexpr bool result_last = false;
constexpr bool depth_loop = false;
constexpr bool RESIDENT = true;
constexpr bool SHARED = true;
constexpr bool WIDE = true;
constexpr bool LINE = false;
constexpr bool DIRECT = true;
constexpr bool OVERLAPPED = false;
constexpr int TAPS_W = 1;
constexpr int ROOM = 0;
__device__ constexpr int overlap_at[] = {0};
constexpr bool EVERY_LANE = false;
constexpr int GROUPS = 3;
constexpr int TOGETHER = 1;
constexpr int SEGMENTS = 1;
constexpr int ROWS = 8;
constexpr int MERGE = 1;
constexpr int LOOP_STRIDE = 1;
constexpr int LOOP_PADDING = 0;
constexpr int LOOP_DILATION = 1;
constexpr int STEP_D = 1;
constexpr int OFFSET_D = 0;
constexpr int PHASES_D = 1;
constexpr int USED_D = 1;
constexpr int PADDING_D = 0;
__device__ constexpr int used_d[] = {0};
constexpr int STEP_H = 1;
constexpr int OFFSET_H = 0;
constexpr int PHASES_H = 1;
constexpr int USED_H = 1;
constexpr int PADDING_H = 0;
__device__ constexpr int used_h[] = {0};
constexpr int STEP_W = 1;
constexpr int OFFSET_W = 0;
constexpr int PHASES_W = 1;
constexpr int USED_W = 1;
constexpr int PADDING_W = 0;
__device__ constexpr int used_w[] = {0};
__device__ constexpr int block_of[] = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr int BLOCKS = 8;
constexpr int FRAGMENTS = 30;
constexpr int STAGES = 3;
constexpr int SOURCE_WORDS = 18912;
constexpr int CONSUMER_REGISTERS = 152;
constexpr int PRODUCER_REGISTERS = 56;
__device__ __forceinline__ void wgmma(float (&sum)[4], const unsigned (&a)[4], unsigned long long b) {
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, %9, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, keep, 1, 1;}"
    : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}
}
#define UPCONV_FRAGMENTS \
  LOAD(0, 0, 0, 0, 0, 0) \
  LOAD(1, 0, 0, 0, 1, 0) \
  USE(0) PRODUCT(0, 0, 1, 0, 2) DONE \
  LOAD(2, 0, 0, 0, 2, 0) \
  USE(1) PRODUCT(1, 0, 1, 0, 1) PRODUCT(1, 1, 1, 0, 2) DONE \
  LOAD(3, 0, 0, 0, 3, 0) \
  USE(2) PRODUCT(2, 0, 1, 0, 0) PRODUCT(2, 1, 1, 0, 1) PRODUCT(2, 2, 1, 0, 2) DONE \
  LOAD(4, 0, 0, 0, 4, 0) \
  USE(3) PRODUCT(3, 1, 1, 0, 0) PRODUCT(3, 2, 1, 0, 1) PRODUCT(3, 3, 1, 0, 2) DONE \
  LOAD(5, 0, 0, 0, 5, 0) \
  USE(4) PRODUCT(4, 2, 1, 0, 0) PRODUCT(4, 3, 1, 0, 1) PRODUCT(4, 4, 1, 0, 2) DONE \
  LOAD(6, 0, 0, 0, 6, 0) \
  USE(5) PRODUCT(5, 3, 1, 0, 0) PRODUCT(5, 4, 1, 0, 1) PRODUCT(5, 5, 1, 0, 2) DONE \
  LOAD(7, 0, 0, 0, 7, 0) \
  USE(6) PRODUCT(6, 4, 1, 0, 0) PRODUCT(6, 5, 1, 0, 1) PRODUCT(6, 6, 1, 0, 2) DONE \
  LOAD(8, 0, 0, 0, 8, 0) \
  USE(7) PRODUCT(7, 5, 1, 0, 0) PRODUCT(7, 6, 1, 0, 1) PRODUCT(7, 7, 1, 0, 2) DONE \
  LOAD(9, 0, 0, 0, 9, 0) \
  USE(8) PRODUCT(8, 6, 1, 0, 0) PRODUCT(8, 7, 1, 0, 1) DONE \
  LOAD(10, 0, 0, 0, 0, 1) \
  USE(9) PRODUCT(9, 7, 1, 0, 0) DONE \
  LOAD(11, 0, 0, 0, 1, 1) \
  USE(10) PRODUCT(10, 0, 1, 0, 5) DONE \
  LOAD(12, 0, 0, 0, 2, 1) \
  USE(11) PRODUCT(11, 0, 1, 0, 4) PRODUCT(11, 1, 1, 0, 5) DONE \
  LOAD(13, 0, 0, 0, 3, 1) \
  USE(12) PRODUCT(12, 0, 1, 0, 3) PRODUCT(12, 1, 1, 0, 4) PRODUCT(12, 2, 1, 0, 5) DONE \
  LOAD(14, 0, 0, 0, 4, 1) \
  USE(13) PRODUCT(13, 1, 1, 0, 3) PRODUCT(13, 2, 1, 0, 4) PRODUCT(13, 3, 1, 0, 5) DONE \
  LOAD(15, 0, 0, 0, 5, 1) \
  USE(14) PRODUCT(14, 2, 1, 0, 3) PRODUCT(14, 3, 1, 0, 4) PRODUCT(14, 4, 1, 0, 5) DONE \
  LOAD(16, 0, 0, 0, 6, 1) \
  USE(15) PRODUCT(15, 3, 1, 0, 3) PRODUCT(15, 4, 1, 0, 4) PRODUCT(15, 5, 1, 0, 5) DONE \
  LOAD(17, 0, 0, 0, 7, 1) \
  USE(16) PRODUCT(16, 4, 1, 0, 3) PRODUCT(16, 5, 1, 0, 4) PRODUCT(16, 6, 1, 0, 5) DONE \
  LOAD(18, 0, 0, 0, 8, 1) \
  USE(17) PRODUCT(17, 5, 1, 0, 3) PRODUCT(17, 6, 1, 0, 4) PRODUCT(17, 7, 1, 0, 5) DONE \
  LOAD(19, 0, 0, 0, 9, 1) \
  USE(18) PRODUCT(18, 6, 1, 0, 3) PRODUCT(18, 7, 1, 0, 4) DONE \
  LOAD(20, 0, 0, 0, 0, 2) \
  USE(19) PRODUCT(19, 7, 1, 0, 3) DONE \
  LOAD(21, 0, 0, 0, 1, 2) \
  USE(20) PRODUCT(20, 0, 1, 0, 8) DONE \
  LOAD(22, 0, 0, 0, 2, 2) \
  USE(21) PRODUCT(21, 0, 1, 0, 7) PRODUCT(21, 1, 1, 0, 8) DONE \
  LOAD(23, 0, 0, 0, 3, 2) \
  USE(22) PRODUCT(22, 0, 1, 0, 6) PRODUCT(22, 1, 1, 0, 7) PRODUCT(22, 2, 1, 0, 8) DONE \
  LOAD(24, 0, 0, 0, 4, 2) \
  USE(23) PRODUCT(23, 1, 1, 0, 6) PRODUCT(23, 2, 1, 0, 7) PRODUCT(23, 3, 1, 0, 8) DONE \
  LOAD(25, 0, 0, 0, 5, 2) \
  USE(24) PRODUCT(24, 2, 1, 0, 6) PRODUCT(24, 3, 1, 0, 7) PRODUCT(24, 4, 1, 0, 8) DONE \
  LOAD(26, 0, 0, 0, 6, 2) \
  USE(25) PRODUCT(25, 3, 1, 0, 6) PRODUCT(25, 4, 1, 0, 7) PRODUCT(25, 5, 1, 0, 8) DONE \
  LOAD(27, 0, 0, 0, 7, 2) \
  USE(26) PRODUCT(26, 4, 1, 0, 6) PRODUCT(26, 5, 1, 0, 7) PRODUCT(26, 6, 1, 0, 8) DONE \
  LOAD(28, 0, 0, 0, 8, 2) \
  USE(27) PRODUCT(27, 5, 1, 0, 6) PRODUCT(27, 6, 1, 0, 7) PRODUCT(27, 7, 1, 0, 8) DONE \
  LOAD(29, 0, 0, 0, 9, 2) \
  USE(28) PRODUCT(28, 6, 1, 0, 6) PRODUCT(28, 7, 1, 0, 7) DONE \
  USE(29) PRODUCT(29, 7, 1, 0, 6) DONE \

#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "positions_1": ("UPCONV_HOPPER", "positions.cuh", r"""namespace config {
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PD = 0;
constexpr int DD = 1;
constexpr int SHIFT_D = 0;
constexpr int W_TD = 9;
constexpr int KH = 3;
constexpr int SH = 1;
constexpr int PH = 0;
constexpr int DH = 1;
constexpr int SHIFT_H = 0;
constexpr int W_TH = 3;
constexpr int KW = 3;
constexpr int SW = 1;
constexpr int PW = 0;
constexpr int DW = 1;
constexpr int SHIFT_W = 0;
constexpr int W_TW = 1;
constexpr int DTYPE = 0;
constexpr int CI = 8;
constexpr int CO = 8;
constexpr int COT = 8;
constexpr int UH = 3;
constexpr int UW = 1;
constexpr int THREADS = 256;
constexpr int BLOCKS = 2;
constexpr int W_GROUP = 576;
constexpr int W_IN = 9;
constexpr int W_OUT = 72;
constexpr int IN_COLUMN = 1;
constexpr int OUT_COLUMN = 1;
constexpr int STAGE_AT = 576;
constexpr int SLICES_AT = 832;
constexpr bool FLAT = true;
constexpr bool DX = true;
constexpr bool BIAS = false;
constexpr bool IN_CL = false;
constexpr bool OUT_CL = false;
constexpr bool GROUP_LANES = false;
constexpr bool WHOLE = true;
}
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
"""),
    "direct_2": ("UPCONV_BASE || UPCONV_HOPPER", "direct.cuh", r"""#include "types.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
namespace config {
constexpr bool has_epilogue = false;
constexpr bool short_epilogue = true;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
struct OfChannel {
};
struct OfElement {
};
__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {
  OfChannel r;
  return r;
}
__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, upconv::i64 at) {
  OfElement r;
  return r;
}
constexpr bool asks = false;
__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& of_element) {
  return v;
}
template <class S>
__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, upconv::i64 at) {
  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, channel, at));
}
template <class S>
__device__ __forceinline__ S epilogue(S v) {
  return epilogue<S>(v, OfChannel(), OfElement());
}
}  // namespace config
namespace config {
typedef float Element;
typedef long long Index;
constexpr bool forward = true;
constexpr int block = 1, tile_i = 4, tile_o = 4, across_i = 1, across_o = 1;
}
"""),
    "weight_mma_0": ("UPCONV_BASE || UPCONV_HOPPER", "weight_mma.cuh", r"""namespace config {
constexpr int element = 0;
constexpr int x_last = 0;
constexpr int y_last = 0;
constexpr int CI = 8;
constexpr int CO = 8;
constexpr int GROUPS = 8;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int DD = 1;
constexpr int PD = 0;
constexpr int TD = 1;
constexpr int BD = 1;
constexpr int GD = 1;
constexpr int KH = 3;
constexpr int SH = 1;
constexpr int DH = 1;
constexpr int PH = 0;
constexpr int TH = 3;
constexpr int BH = 16;
constexpr int GH = 1;
constexpr int KW = 3;
constexpr int SW = 1;
constexpr int DW = 1;
constexpr int PW = 0;
constexpr int TW = 3;
constexpr int BW = 32;
constexpr int GW = 1;
constexpr int walk_depth = 0;
constexpr long long W_CI = 72, W_CO = 9, W_D = 9, W_H = 3, W_W = 1;
constexpr int LD = 1;
constexpr int LH = 18;
constexpr int LINE_D = 1;
constexpr int LINE_H = 1;
constexpr int STEP_D = 1;
constexpr int STEP_H = 1;
__device__ constexpr int d_origin(int line) { return (0); }
__device__ constexpr int h_origin(int line) { return (0); }
__device__ constexpr int row_offset(int i) { return i == 0 ? 0 : i == 1 ? 36 : 72; }
constexpr int mode = 0;
constexpr int w_last = 0;
constexpr int MT = 1;
constexpr int NT = 1;
constexpr int WM = 1;
constexpr int WN = 1;
constexpr int WK = 8;
constexpr int MB = 16;
constexpr int NB = 8;
constexpr int YP = 656;
constexpr int STAGES = 3;
constexpr int OCCUPANCY = 1;
constexpr int SPAN = 36;
constexpr int PLANES = 1;
constexpr int IW = 1;
constexpr int LEAD = 0;
constexpr int WQ = 2;
constexpr int PLANE_TAPS = 3;
__device__ constexpr int plane_taps(int i) { return 3; }
__device__ constexpr int plane_residue(int i) { return 0; }
__device__ constexpr int plane_needed(int i) { return 34; }
__device__ constexpr int plane_tap_of(int i) { return i == 0 ? 0 : i == 1 ? 1 : 2; }
__device__ constexpr int plane_shift_of(int i) { return i == 0 ? 0 : i == 1 ? 1 : 2; }
__device__ constexpr int plane_tap(int p, int k) { return plane_tap_of(p * PLANE_TAPS + k); }
__device__ constexpr int plane_shift(int p, int k) { return plane_shift_of(p * PLANE_TAPS + k); }
}
"""),
    "weight_sum_0": ("UPCONV_BASE || UPCONV_HOPPER", "weight_sum.cuh", r"""namespace config {
constexpr int element = 0;
constexpr int SLICES = 8;
constexpr int VECTOR = 1;
}
"""),
    "weight_mma_1": ("UPCONV_BASE || UPCONV_HOPPER", "weight_mma.cuh", r"""namespace config {
constexpr int element = 0;
constexpr int x_last = 0;
constexpr int y_last = 0;
constexpr int CI = 8;
constexpr int CO = 8;
constexpr int GROUPS = 8;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int DD = 1;
constexpr int PD = 0;
constexpr int TD = 1;
constexpr int BD = 1;
constexpr int GD = 1;
constexpr int KH = 3;
constexpr int SH = 1;
constexpr int DH = 1;
constexpr int PH = 0;
constexpr int TH = 3;
constexpr int BH = 16;
constexpr int GH = 1;
constexpr int KW = 3;
constexpr int SW = 1;
constexpr int DW = 1;
constexpr int PW = 0;
constexpr int TW = 3;
constexpr int BW = 32;
constexpr int GW = 1;
constexpr int walk_depth = 0;
constexpr long long W_CI = 72, W_CO = 9, W_D = 9, W_H = 3, W_W = 1;
constexpr int LD = 1;
constexpr int LH = 18;
constexpr int LINE_D = 1;
constexpr int LINE_H = 1;
constexpr int STEP_D = 1;
constexpr int STEP_H = 1;
__device__ constexpr int d_origin(int line) { return (0); }
__device__ constexpr int h_origin(int line) { return (0); }
__device__ constexpr int row_offset(int i) { return i == 0 ? 0 : i == 1 ? 36 : 72; }
constexpr int mode = 2;
constexpr int w_last = 0;
constexpr int MT = 1;
constexpr int NT = 1;
constexpr int WM = 1;
constexpr int WN = 1;
constexpr int WK = 8;
constexpr int MB = 16;
constexpr int NB = 8;
constexpr int YP = 656;
constexpr int STAGES = 3;
constexpr int OCCUPANCY = 1;
constexpr int SPAN = 36;
constexpr int PLANES = 1;
constexpr int IW = 1;
constexpr int LEAD = 0;
constexpr int WQ = 2;
constexpr int PLANE_TAPS = 3;
__device__ constexpr int plane_taps(int i) { return 3; }
__device__ constexpr int plane_residue(int i) { return 0; }
__device__ constexpr int plane_needed(int i) { return 34; }
__device__ constexpr int plane_tap_of(int i) { return i == 0 ? 0 : i == 1 ? 1 : 2; }
__device__ constexpr int plane_shift_of(int i) { return i == 0 ? 0 : i == 1 ? 1 : 2; }
__device__ constexpr int plane_tap(int p, int k) { return plane_tap_of(p * PLANE_TAPS + k); }
__device__ constexpr int plane_shift(int p, int k) { return plane_shift_of(p * PLANE_TAPS + k); }
}
"""),
    "bias_sum_0": ("UPCONV_BASE || UPCONV_HOPPER", "bias_sum.cuh", r"""#include "types.cuh"
namespace config {
typedef float Element;
}
"""),
    "closing_sets_0": ("UPCONV_HOPPER", "closing/sets.cuh", r"""#include "arguments/closing.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr bool EVERY_LANE = false;
constexpr int CLUSTER = 16;
constexpr int PER = 8;
constexpr bool CENTER = false;
constexpr bool WEIGHT = true;
constexpr bool BIAS = true;
constexpr double EPS = 0x1.4f8b588e368f1p-17;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  {
  v = upconv::activation::gelu<S>(v);
  }
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S middle(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S last(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
}
"""),
    "closing_parts_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/parts.cuh", r"""#include "arguments/closing.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr int COLLECT = 0;
constexpr bool FINISH = false;
constexpr int AS = 5;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  {
  v = upconv::activation::gelu<S>(v);
  }
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S middle(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S last(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
}
"""),
    "closing_norm_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/norm.cuh", r"""#include "arguments/closing.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr bool BATCH = false;
constexpr int PER = 8;
constexpr bool TABLE = false;
constexpr bool CENTER = false;
constexpr bool CENTERED = false;
constexpr bool WEIGHT = true;
constexpr bool BIAS = true;
constexpr double EPS = 0x1.4f8b588e368f1p-17;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S middle(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S last(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
}
"""),
    "closing_map_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/map.cuh", r"""#include "arguments/closing.cuh"
#include "epilogue/activations.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  {
  v = upconv::activation::gelu<S>(v);
  }
  {
    const S* t = static_cast<const S*>(a.tables[0]) + 3 * (upconv::i64(n) * CHANNELS + channel);
    v = (v - t[0]) * t[1] + t[2];
  }
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S middle(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S last(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
}
"""),
    "closing_pull_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/pull.cuh", r"""#include "arguments/pull.cuh"
#include "epilogue/slopes.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef float Arriving;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 2;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr int ARRIVES = 0;
constexpr int G_ARGMAX = 0;
constexpr bool G_COUNT_PAD = true;
constexpr int G_KD = 1;
constexpr int G_SD = 1;
constexpr int G_PAD_D = 0;
constexpr int G_KH = 1;
constexpr int G_SH = 1;
constexpr int G_PAD_H = 0;
constexpr int G_KW = 1;
constexpr int G_SW = 1;
constexpr int G_PAD_W = 0;
constexpr int SUMS = 2;
constexpr bool STORE = false;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  {
  v = upconv::activation::gelu<S>(v);
  }
  {
    const S* t = static_cast<const S*>(a.tables[0]) + 2 * ((upconv::i64(n) * CHANNELS + channel) / 8);
    v = (v - t[0]) * t[1];
    v *= upconv::operand_value<Element>(operands.at[0], channel);
    v += upconv::operand_value<Element>(operands.at[1], channel);
  }
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S pull(S v, S g, const upconv::arguments::Pull& p, const Operands& operands, int n, int channel, upconv::i64 at, S* sums) {
  const upconv::arguments::Closing& a = p.values;
  const S v0 = upconv::activation::gelu<S>(v);
  const S* t0 = static_cast<const S*>(a.tables[0]) + 2 * ((upconv::i64(n) * CHANNELS + channel) / 8);
  const S q0 = (v0 - t0[0]) * t0[1];
  const S w0 = upconv::operand_value<Element>(operands.at[0], channel);
  const S v1 = q0 * w0 + upconv::operand_value<Element>(operands.at[1], channel);
  sums[0] += g; sums[1] += (g) * q0;
  return g;
}
}
"""),
    "closing_pull_norm_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/pull_norm.cuh", r"""#include "arguments/pull.cuh"
#include "epilogue/slopes.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef float Arriving;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 0;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr bool BATCH = false;
constexpr int PER = 8;
constexpr bool CENTER = false;
constexpr bool WEIGHT = true;
constexpr int TABLE_WIDTH = 2;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
}
"""),
    "closing_total_0": ("UPCONV_BASE || UPCONV_HOPPER", "closing/total.cuh", r"""#include "types.cuh"
namespace config {
typedef float In;
typedef float Out;
constexpr bool ADD = false;
}
"""),
    "closing_pull_1": ("UPCONV_BASE || UPCONV_HOPPER", "closing/pull.cuh", r"""#include "arguments/pull.cuh"
#include "epilogue/slopes.cuh"
#include "epilogue/operands.cuh"
#include "quotient.cuh"
namespace upconv {
__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);
}
namespace config {
typedef float Element;
typedef float Stored;
typedef float Out;
typedef float Arriving;
typedef upconv::Number<Element>::Sum S;
constexpr int CHANNELS = 64;
constexpr int RESULT_CHANNELS = 64;
constexpr bool WIDE = false;
constexpr int OPERANDS = 2;
typedef upconv::arguments::Operands<OPERANDS> Operands;
constexpr bool POOL = false;
constexpr bool AVERAGE = false;
constexpr int ARGMAX = 0;
constexpr bool COUNT_PAD = true;
constexpr int KD = 1;
constexpr int SD = 1;
constexpr int PAD_D = 0;
constexpr int KH = 1;
constexpr int SH = 1;
constexpr int PAD_H = 0;
constexpr int KW = 1;
constexpr int SW = 1;
constexpr int PAD_W = 0;
constexpr int ARRIVES = 0;
constexpr int G_ARGMAX = 0;
constexpr bool G_COUNT_PAD = true;
constexpr int G_KD = 1;
constexpr int G_SD = 1;
constexpr int G_PAD_D = 0;
constexpr int G_KH = 1;
constexpr int G_SH = 1;
constexpr int G_PAD_H = 0;
constexpr int G_KW = 1;
constexpr int G_SW = 1;
constexpr int G_PAD_W = 0;
constexpr int SUMS = 1;
constexpr bool STORE = true;
__device__ __forceinline__ S before(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  {
  v = upconv::activation::gelu<S>(v);
  }
  {
    const S* t = static_cast<const S*>(a.tables[0]) + 2 * ((upconv::i64(n) * CHANNELS + channel) / 8);
    v = (v - t[0]) * t[1];
    v *= upconv::operand_value<Element>(operands.at[0], channel);
    v += upconv::operand_value<Element>(operands.at[1], channel);
  }
  return v;
}
__device__ __forceinline__ S after(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) {
  return v;
}
__device__ __forceinline__ S pull(S v, S g, const upconv::arguments::Pull& p, const Operands& operands, int n, int channel, upconv::i64 at, S* sums) {
  const upconv::arguments::Closing& a = p.values;
  const S v0 = upconv::activation::gelu<S>(v);
  const S* t0 = static_cast<const S*>(a.tables[0]) + 2 * ((upconv::i64(n) * CHANNELS + channel) / 8);
  const S q0 = (v0 - t0[0]) * t0[1];
  const S w0 = upconv::operand_value<Element>(operands.at[0], channel);
  const S v1 = q0 * w0 + upconv::operand_value<Element>(operands.at[1], channel);
  const S* c0 = static_cast<const S*>(p.coefficients[0]) + 3 * (upconv::i64(n) * CHANNELS + channel);
  g = c0[0] * g - c0[1] - q0 * c0[2];
  g *= upconv::slope::gelu<S>(v);
  sums[0] += g;
  return g;
}
}
"""),
}


LAUNCH_HEADERS = [
    "launch/direct.hpp",
    "launch/gather_mma.hpp",
    "launch/positions.hpp",
    "launch/boxes.hpp",
    "launch/weight_mma.hpp",
    "launch/bias_sum.hpp",
    "launch/program.hpp",
]


LAUNCH = r"""// Starting the kernels: one step of a layer (forward, a gradient) is a set of kernels and the launch arithmetic above,
// filled with what the kernels were specialised for.
#include <cuda_runtime.h>

namespace exported {

using upconv::launch::Shape;
using upconv::launch::Sizes;
using upconv::launch::Tensors;

/// Whether a kernel may begin beside the end of the one before it, as all kernels here wait for that end: compute
/// capability 9.0 or later, a driver that captures such launches in graphs too.
static bool may_overlap() {
#if CUDART_VERSION >= 12030
  int device = 0, major = 0, version = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9 &&
         cudaDriverGetVersion(&version) == cudaSuccess && version >= 12030;
#else
  return false;
#endif
}

/// An error that is raised from here is not left to be found, and raised again, by whoever asks next.
static cudaError_t taken(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

/// Puts a kernel on a stream.
static cudaError_t put(const void* kernel, unsigned grid, unsigned block, void** arguments, size_t shared_bytes,
                       cudaStream_t stream) {
#if CUDART_VERSION >= 12030
  static const bool overlap = may_overlap();
  if (overlap) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    const cudaLaunchConfig_t config = {dim3(grid), dim3(block), shared_bytes, stream, &attribute, 1};
    return taken(cudaLaunchKernelExC(&config, kernel, arguments));
  }
#endif
  return taken(cudaLaunchKernel(kernel, dim3(grid), dim3(block), arguments, shared_bytes, stream));
}

/// Lets a kernel have so much shared memory.
static cudaError_t allow_shared(const void* kernel, unsigned bytes) {
  return taken(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
}

/// Puts kernels on a stream; remembers what went wrong.
struct Start {
  const void* const* kernels;
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;

  bool operator()(int kernel, const Shape& s, void** arguments) {
    if (s.shared_bytes > 32 * 1024) error = allow_shared(kernels[kernel], s.shared_bytes);
    if (error == cudaSuccess) error = put(kernels[kernel], s.grid, s.block, arguments, s.shared_bytes, stream);
    return error == cudaSuccess;
  }
};

/// FORWARD_CHAIN: with the steps that follow it in a chain, whose number `layer` then is.
enum Which { FORWARD, FORWARD_CHAIN, INPUT_GRADIENT, WEIGHT_GRADIENT, BIAS_GRADIENT };

struct Step {
  int layer;
  Which which;
  int tf32;     ///< 1: where torch permits TF32, 0: where it does not, -1: either.
  bool hopper;  ///< Chosen for compute capability 9.x; else for any from 8.0 on.
  /// Why these sizes cannot be computed, or null; and the scratch memory they need.
  const char* (*plan)(const Sizes&, int processors, long long* workspace_bytes);
  cudaError_t (*run)(const Sizes&, const Tensors&, void* workspace, int processors, cudaStream_t);
};

/// The launch for these sizes. That of the thread's last call is kept: choosing boxes can take longer than a kernel.
template <class Special>
const auto& launch_for(const Sizes& sizes, int processors) {
  struct Known {
    Sizes sizes;
    int processors = 0;
    decltype(launch_of(Special::fixed(), sizes, processors)) launch;
  };
  static thread_local Known known;
  bool same = processors == known.processors && sizes.batch == known.sizes.batch;
  for (int d = 0; d < 3; ++d) same = same && sizes.in[d] == known.sizes.in[d] && sizes.out[d] == known.sizes.out[d];
  if (!same) known = {sizes, processors, launch_of(Special::fixed(), sizes, processors)};
  return known.launch;
}

template <class Special>
const char* plan_step(const Sizes& sizes, int processors, long long* workspace_bytes) {
  const auto& launch = launch_for<Special>(sizes, processors);
  *workspace_bytes = launch.workspace_bytes;
  return launch.refusal;
}

template <class Special>
cudaError_t run_step(const Sizes& sizes, const Tensors& tensors, void* workspace, int processors, cudaStream_t stream) {
  const auto kernels = Special::kernels();
  Start start{kernels.at, stream};
  upconv::launch::run(Special::fixed(), launch_for<Special>(sizes, processors), tensors, workspace, start);
  return start.error;
}

template <class Special>
constexpr Step step(int layer, Which which, int tf32, bool hopper) {
  return {layer, which, tf32, hopper, &plan_step<Special>, &run_step<Special>};
}

/// A step of two sets of kernels: `AnySize` takes the sizes that `Special` refuses.
template <class Special, class AnySize>
const char* plan_either(const Sizes& sizes, int processors, long long* workspace_bytes) {
  return plan_step<Special>(sizes, processors, workspace_bytes) ? plan_step<AnySize>(sizes, processors, workspace_bytes)
                                                                : nullptr;
}

template <class Special, class AnySize>
cudaError_t run_either(const Sizes& sizes, const Tensors& tensors, void* workspace, int processors,
                       cudaStream_t stream) {
  const bool refused = launch_for<Special>(sizes, processors).refusal != nullptr;
  return (refused ? run_step<AnySize> : run_step<Special>)(sizes, tensors, workspace, processors, stream);
}

template <class Special, class AnySize>
constexpr Step step(int layer, Which which, int tf32, bool hopper) {
  return {layer, which, tf32, hopper, &plan_either<Special, AnySize>, &run_either<Special, AnySize>};
}

struct Kernels {
  const void* at[3];
};

template <class Kernel>
const void* address(Kernel* kernel) {
  return reinterpret_cast<const void*>(kernel);
}

/// One transposed convolution of the model, in D, H, W; missing outer dimensions have kernel and stride 1.
struct Layer {
  int rank;
  long long in_channels, out_channels, groups;
  bool bias;
  long long kernel[3], stride[3], padding[3], output_padding[3], dilation[3];
};

}  // namespace exported

namespace exported {

typedef int (*EncodeMap)(void*, int, unsigned, const void*, const unsigned long long*, const unsigned long long*,
                         const unsigned*, const unsigned*, int, int, int, int);

/// The driver's function that makes a tensor map, which the runtime finds; null: this driver has none.
inline EncodeMap find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  cudaError_t error = cudaErrorInvalidValue;
#if CUDART_VERSION >= 12050
  error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#elif CUDART_VERSION >= 12000
  error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeMap>(found) : nullptr;
}

inline bool encode_map(Start& start, upconv::arguments::TensorMap& map, const upconv::launch::TensorBoxes& boxes) {
  static const EncodeMap encode = find_encode();
  if (!encode || upconv::launch::refusal_of(boxes) ||
      encode(&map, int(boxes.element), unsigned(boxes.rank), boxes.base, boxes.sizes, boxes.strides, boxes.box,
             boxes.steps, 0, int(boxes.swizzle), boxes.promotion, 0) != 0)
    start.error = cudaErrorInvalidValue;
  return start.error == cudaSuccess;
}

}  // namespace exported
"""


# The layers, and every step of them on every GPU with what its launch depends on. The chains, and their passes.
STEPS = r"""namespace exported {

constexpr Layer layers[] = {
    // conv
    {2, 64, 64, 8, true, {1, 3, 3}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, {1, 1, 1}},
};

#if UPCONV_BASE || UPCONV_HOPPER
// conv, forward, sizes that the kernels below refuse: cuda_direct
struct forward_any_size_0 {
  static upconv::launch::DirectFixed fixed() {
    upconv::launch::DirectFixed f;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.kernel_h = 3;
    f.kernel_w = 3;
    f.w_ci = 72;
    f.w_co = 9;
    f.w_tap_d = 9;
    f.w_tap_h = 3;
    f.w_tap_w = 1;
    f.block = 4;
    return f;
  }
  static Kernels kernels() { return {{address(direct_0::direct_gather), address(ordered_sum_0::ordered_sum)}}; }
};
#endif

#if UPCONV_BASE
// conv, forward, tf32, base: cuda_gather_mma, tf32, 1x1x8x32 positions x 8 columns, warps 4x1x1 of 64x8, depth 8 (weights resident), runs of 4, 3 blocks of 25072 bytes shared
struct forward_tf32_base_1 {
  static upconv::launch::GatherMmaFixed fixed() {
    upconv::launch::GatherMmaFixed f;
    f.groups = 8;
    f.source_channels = 64;
    f.out_channels = 64;
    f.weight_group = 576;
    f.columns = 8;
    f.tile_h = 8;
    f.tile_w = 32;
    f.threads = 128;
    f.shared_bytes = 25072;
    f.blocks = 3;
    return f;
  }
  static Kernels kernels() { return {{address(gather_mma_0::gather_mma)}}; }
};
#endif

#if UPCONV_BASE
// conv, forward, ieee, base: cuda_positions, 3x1 positions x 1 phases x 8 channels a thread, lanes along lines, 1 slices, 16 steps, 5552 blocks
struct forward_ieee_base_2 {
  static upconv::launch::PositionsFixed fixed() {
    upconv::launch::PositionsFixed f;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.uh = 3;
    f.cot = 8;
    f.sums = 24;
    f.blocks = 2;
    f.weight_floats = 576;
    return f;
  }
  static Kernels kernels() { return {{address(positions_0::upconv_positions)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, forward, tf32, hopper: cuda_boxes, boxes of 1x1x1x52 positions with 8 rows x 8 channels, 1 segments, weights resident, shared 3 stages, source in bulk, 4 channels stored together, 3 warpgroups, 225 KB
struct forward_tf32_hopper_3 {
  static upconv::launch::BoxesFixed fixed() {
    upconv::launch::BoxesFixed f;
    f.shared = true;
    f.warpgroups = 3;
    f.merge = 1;
    f.rows = 8;
    f.groups = 8;
    f.k = 8;
    f.n = 8;
    f.w_k = 72;
    f.w_n = 9;
    f.w_tap = 1;
    f.w_group = 576;
    f.offset_h = -2;
    f.offset_w = -2;
    f.span_h = 2;
    f.span_w = 2;
    f.source_words = 14656;
    f.shared_bytes = 230400;
    f.clocks = 1113.8399999999999;
    f.store_clocks = 3657.1428571428573;
    f.share_bytes = 2304;
    f.share_units = 144;
    return f;
  }
  static Kernels kernels() { return {{address(boxes_prepare_0::boxes_prepare), address(boxes_0::boxes)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, forward, ieee, hopper: cuda_positions, 3x1 positions x 1 phases x 8 channels a thread, lanes along lines, 1 slices, 16 steps, 5552 blocks
struct forward_ieee_hopper_4 {
  static upconv::launch::PositionsFixed fixed() {
    upconv::launch::PositionsFixed f;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.uh = 3;
    f.cot = 8;
    f.sums = 24;
    f.blocks = 2;
    f.weight_floats = 576;
    return f;
  }
  static Kernels kernels() { return {{address(positions_0::upconv_positions)}}; }
};
#endif

#if UPCONV_BASE || UPCONV_HOPPER
// conv, input gradient, sizes that the kernels below refuse: cuda_direct
struct input_gradient_any_size_5 {
  static upconv::launch::DirectFixed fixed() {
    upconv::launch::DirectFixed f;
    f.which = 1;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.kernel_h = 3;
    f.kernel_w = 3;
    f.w_ci = 72;
    f.w_co = 9;
    f.w_tap_d = 9;
    f.w_tap_h = 3;
    f.w_tap_w = 1;
    f.block = 4;
    return f;
  }
  static Kernels kernels() { return {{address(direct_1::direct_gather), address(ordered_sum_0::ordered_sum)}}; }
};
#endif

#if UPCONV_BASE
// conv, input gradient, tf32, base: cuda_gather_mma, tf32, 1x1x8x32 positions x 8 columns, warps 4x1x1 of 64x8, depth 8 (weights resident), runs of 4, 3 blocks of 25072 bytes shared
struct input_gradient_tf32_base_6 {
  static upconv::launch::GatherMmaFixed fixed() {
    upconv::launch::GatherMmaFixed f;
    f.forward = false;
    f.groups = 8;
    f.source_channels = 64;
    f.out_channels = 64;
    f.weight_group = 576;
    f.columns = 8;
    f.tile_h = 8;
    f.tile_w = 32;
    f.threads = 128;
    f.shared_bytes = 25072;
    f.blocks = 3;
    return f;
  }
  static Kernels kernels() { return {{address(gather_mma_1::gather_mma)}}; }
};
#endif

#if UPCONV_BASE
// conv, input gradient, ieee, base: cuda_gather_mma, tf32x3, 1x1x8x32 positions x 8 columns, warps 4x1x1 of 64x8, depth 8 (weights resident), runs of 4, 2 blocks of 50144 bytes shared
struct input_gradient_ieee_base_7 {
  static upconv::launch::GatherMmaFixed fixed() {
    upconv::launch::GatherMmaFixed f;
    f.forward = false;
    f.groups = 8;
    f.source_channels = 64;
    f.out_channels = 64;
    f.weight_group = 576;
    f.columns = 8;
    f.tile_h = 8;
    f.tile_w = 32;
    f.threads = 128;
    f.shared_bytes = 50144;
    f.blocks = 2;
    return f;
  }
  static Kernels kernels() { return {{address(gather_mma_2::gather_mma)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, input gradient, tf32, hopper: cuda_boxes, boxes of 1x1x1x64 positions with 8 rows x 8 channels, 1 segments, weights resident, shared 3 stages, source by copies, direct 4 channels stored together, 3 warpgroups, 225 KB
struct input_gradient_tf32_hopper_8 {
  static upconv::launch::BoxesFixed fixed() {
    upconv::launch::BoxesFixed f;
    f.backward = true;
    f.shared = true;
    f.wide = true;
    f.direct = true;
    f.warpgroups = 3;
    f.merge = 1;
    f.rows = 8;
    f.groups = 8;
    f.k = 8;
    f.n = 8;
    f.w_k = 9;
    f.w_n = 72;
    f.w_tap = 1;
    f.w_group = 576;
    f.span_h = 2;
    f.span_w = 2;
    f.source_words = 18912;
    f.shared_bytes = 230400;
    f.clocks = 1113.8399999999999;
    f.store_clocks = 2544.0993788819878;
    f.share_bytes = 2304;
    f.share_units = 144;
    return f;
  }
  static Kernels kernels() { return {{address(boxes_prepare_1::boxes_prepare), address(boxes_1::boxes)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, input gradient, ieee, hopper: cuda_positions, 3x1 positions x 1 phases x 8 channels a thread, lanes along lines, 1 slices, 16 steps, 5504 blocks
struct input_gradient_ieee_hopper_9 {
  static upconv::launch::PositionsFixed fixed() {
    upconv::launch::PositionsFixed f;
    f.dx = true;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.uh = 3;
    f.cot = 8;
    f.sums = 24;
    f.blocks = 2;
    f.weight_floats = 576;
    return f;
  }
  static Kernels kernels() { return {{address(positions_1::upconv_positions)}}; }
};
#endif

#if UPCONV_BASE || UPCONV_HOPPER
// conv, weight gradient, sizes that the kernels below refuse: cuda_direct
struct weight_gradient_any_size_10 {
  static upconv::launch::DirectFixed fixed() {
    upconv::launch::DirectFixed f;
    f.which = 2;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.kernel_h = 3;
    f.kernel_w = 3;
    f.w_ci = 72;
    f.w_co = 9;
    f.w_tap_d = 9;
    f.w_tap_h = 3;
    f.w_tap_w = 1;
    f.tile_i = 4;
    f.tile_o = 4;
    return f;
  }
  static Kernels kernels() { return {{address(direct_2::direct_weight), address(ordered_sum_0::ordered_sum)}}; }
};
#endif

#if UPCONV_BASE
// conv, weight gradient, tf32, base: cuda_weight_mma, tf32, block 16 ci x 8 co x 1x3x3 taps, warps 1x1x8 of 1x1, box 1x16x32, 3 stages of 53.5 KiB, 1 a multiprocessor, 8 tiles x 27 splits
struct weight_gradient_tf32_base_11 {
  static upconv::launch::WeightMmaFixed fixed() {
    upconv::launch::WeightMmaFixed f;
    f.folded = true;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.taps = 9;
    f.box_h = 16;
    f.box_w = 32;
    f.tiles = 8;
    f.tile_words = 1152;
    f.x_vector = 4;
    f.y_vector = 4;
    f.shared_bytes = 164352;
    f.box_cycles = 4054.4820000000004;
    f.bytes_per_second = 1800000000000;
    return f;
  }
  static Kernels kernels() { return {{address(weight_mma_0::weight_mma), address(weight_sum_0::weight_sum)}}; }
};
#endif

#if UPCONV_BASE
// conv, weight gradient, ieee, base: cuda_weight_mma, tf32x3, block 16 ci x 8 co x 1x3x3 taps, warps 1x1x8 of 1x1, box 1x16x32, 3 stages of 53.5 KiB, 1 a multiprocessor, 8 tiles x 27 splits
struct weight_gradient_ieee_base_12 {
  static upconv::launch::WeightMmaFixed fixed() {
    upconv::launch::WeightMmaFixed f;
    f.folded = true;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.taps = 9;
    f.box_h = 16;
    f.box_w = 32;
    f.tiles = 8;
    f.tile_words = 1152;
    f.x_vector = 4;
    f.y_vector = 4;
    f.shared_bytes = 164352;
    f.box_cycles = 7839.1860000000006;
    f.bytes_per_second = 1800000000000;
    return f;
  }
  static Kernels kernels() { return {{address(weight_mma_1::weight_mma), address(weight_sum_0::weight_sum)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, weight gradient, tf32, hopper: cuda_weight_mma, tf32, block 16 ci x 8 co x 1x3x3 taps, warps 1x1x8 of 1x1, box 1x16x32, 3 stages of 53.5 KiB, 1 a multiprocessor, 8 tiles x 33 splits
struct weight_gradient_tf32_hopper_13 {
  static upconv::launch::WeightMmaFixed fixed() {
    upconv::launch::WeightMmaFixed f;
    f.folded = true;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.taps = 9;
    f.box_h = 16;
    f.box_w = 32;
    f.tiles = 8;
    f.tile_words = 1152;
    f.x_vector = 4;
    f.y_vector = 4;
    f.shared_bytes = 164352;
    f.box_cycles = 3130.0849872122762;
    f.bytes_per_second = 4280000000000;
    return f;
  }
  static Kernels kernels() { return {{address(weight_mma_0::weight_mma), address(weight_sum_0::weight_sum)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, weight gradient, ieee, hopper: cuda_weight_mma, tf32x3, block 16 ci x 8 co x 1x3x3 taps, warps 1x1x8 of 1x1, box 1x16x32, 3 stages of 53.5 KiB, 1 a multiprocessor, 8 tiles x 33 splits
struct weight_gradient_ieee_hopper_14 {
  static upconv::launch::WeightMmaFixed fixed() {
    upconv::launch::WeightMmaFixed f;
    f.folded = true;
    f.groups = 8;
    f.ci = 8;
    f.co = 8;
    f.taps = 9;
    f.box_h = 16;
    f.box_w = 32;
    f.tiles = 8;
    f.tile_words = 1152;
    f.x_vector = 4;
    f.y_vector = 4;
    f.shared_bytes = 164352;
    f.box_cycles = 5065.9949616368294;
    f.bytes_per_second = 4280000000000;
    return f;
  }
  static Kernels kernels() { return {{address(weight_mma_1::weight_mma), address(weight_sum_0::weight_sum)}}; }
};
#endif

#if UPCONV_BASE
// conv, bias gradient, base: cuda_bias_sum, warps along rows of 66564, each channel in 27 parts
struct bias_gradient_any_base_15 {
  static upconv::launch::BiasSumFixed fixed() {
    upconv::launch::BiasSumFixed f;
    f.channels = 64;
    return f;
  }
  static Kernels kernels() { return {{address(bias_sum_0::bias_rows), address(bias_sum_0::bias_columns), address(ordered_sum_0::ordered_sum)}}; }
};
#endif

#if UPCONV_HOPPER
// conv, bias gradient, hopper: cuda_bias_sum, warps along rows of 66564, each channel in 33 parts
struct bias_gradient_any_hopper_16 {
  static upconv::launch::BiasSumFixed fixed() {
    upconv::launch::BiasSumFixed f;
    f.channels = 64;
    return f;
  }
  static Kernels kernels() { return {{address(bias_sum_0::bias_rows), address(bias_sum_0::bias_columns), address(ordered_sum_0::ordered_sum)}}; }
};
#endif

constexpr Step steps[] = {
#if UPCONV_BASE
    step<forward_tf32_base_1, forward_any_size_0>(0, FORWARD, 1, false),
    step<forward_ieee_base_2, forward_any_size_0>(0, FORWARD, 0, false),
    step<input_gradient_tf32_base_6, input_gradient_any_size_5>(0, INPUT_GRADIENT, 1, false),
    step<input_gradient_ieee_base_7, input_gradient_any_size_5>(0, INPUT_GRADIENT, 0, false),
    step<weight_gradient_tf32_base_11, weight_gradient_any_size_10>(0, WEIGHT_GRADIENT, 1, false),
    step<weight_gradient_ieee_base_12, weight_gradient_any_size_10>(0, WEIGHT_GRADIENT, 0, false),
    step<bias_gradient_any_base_15>(0, BIAS_GRADIENT, -1, false),
#endif
#if UPCONV_HOPPER
    step<forward_tf32_hopper_3, forward_any_size_0>(0, FORWARD, 1, true),
    step<forward_ieee_hopper_4, forward_any_size_0>(0, FORWARD, 0, true),
    step<input_gradient_tf32_hopper_8, input_gradient_any_size_5>(0, INPUT_GRADIENT, 1, true),
    step<input_gradient_ieee_hopper_9, input_gradient_any_size_5>(0, INPUT_GRADIENT, 0, true),
    step<weight_gradient_tf32_hopper_13, weight_gradient_any_size_10>(0, WEIGHT_GRADIENT, 1, true),
    step<weight_gradient_ieee_hopper_14, weight_gradient_any_size_10>(0, WEIGHT_GRADIENT, 0, true),
    step<bias_gradient_any_hopper_16>(0, BIAS_GRADIENT, -1, true),
#endif
};

}  // namespace exported

namespace exported {

using upconv::launch::Program;
using upconv::launch::ProgramOperand;
using upconv::launch::ProgramPlan;
using upconv::launch::ProgramTensors;

/// What a closing step does to sizes: a reduction leaves 1 of the dimensions from first to last, a window less of
/// space.
struct ShapeRule {
  bool window;
  int first, last;
  long long kernel[3], stride[3], padding[3];
};

/// An operand: the step after which it is read (0: the layer), and the dimensions that it has, a bit each, in (n,
/// channel, d, h, w); or a norm's vector of so many elements.
struct OperandRule {
  int level;
  unsigned dimensions;
  long long length;
};

/// The address of a kernel that is compiled for 9.x alone.
#if UPCONV_HOPPER
#define UPCONV_HOPPER_ONLY(address) address
#else
#define UPCONV_HOPPER_ONLY(address) nullptr
#endif

/// The passes of a chain and their kernels.
struct Passes {
  void (*fill)(Program&);
  const void* (*kernel)(int);
};

template <class Special>
constexpr Passes passes() {
  return {&Special::fill, &Special::kernel};
}

struct Chain {
  int layer;  ///< -1: what is given is what the steps begin with.
  int rank;
  long long channels;
  bool epilogue, bias, normalises;
  bool keeps_layout;  ///< The result is channels last where the input is, as torch's is.
  int rule_count, operand_count;
  int norm_level;   ///< Closing steps before a batch norm.
  unsigned wanted;  ///< Operands with a gradient, a bit each.
  const ShapeRule* rules;
  const OperandRule* operands;
  Passes results, training, gradient;
};

/// Puts a program's kernels on a stream; remembers what went wrong.
struct StartPasses {
  const void* (*kernel)(int);
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;

  bool operator()(int number, const Shape& s, void** arguments) {
#if UPCONV_HOPPER
    if (s.shared_bytes > 0) error = allow_shared(kernel(number), s.shared_bytes);
    if (s.shared_bytes > 0 && error == cudaSuccess)
      error = taken(cudaFuncSetAttribute(kernel(number), cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    if (error != cudaSuccess) return false;
#endif
    error = put(kernel(number), s.grid, s.block, arguments, s.shared_bytes, stream);
    return error == cudaSuccess;
  }
};

/// The sizes after `level` closing steps on values of the sizes `shape`.
inline void sizes_after(const Chain& c, int level, long long (&shape)[5]) {
  for (int i = 0; i < level; ++i) {
    const ShapeRule& r = c.rules[i];
    for (int d = r.first; !r.window && d <= r.last; ++d) shape[d] = 1;
    for (int d = 0; r.window && d < 3; ++d)
      shape[d + 2] = (shape[d + 2] + 2 * r.padding[d] - r.kernel[d]) / r.stride[d] + 1;
  }
}

/// Whether an operand's sizes are what its kernels were specialised for.
inline bool fits(const Chain& c, int number, const long long (&size)[5], const long long (&z)[5]) {
  const OperandRule& r = c.operands[number];
  long long at[5] = {z[0], z[1], z[2], z[3], z[4]}, elements = 1;
  for (long long n : size) elements *= n;
  if (r.length > 0) return elements == r.length;
  sizes_after(c, r.level, at);
  for (int d = 0; d < 5; ++d)
    if (size[d] != ((r.dimensions >> d & 1) ? at[d] : 1)) return false;
  return true;
}

inline cudaError_t run_passes(const Passes& passes, const Program& program, const ProgramPlan& plan,
                              const ProgramTensors& tensors, cudaStream_t stream) {
  StartPasses start{passes.kernel, stream};
  upconv::launch::run_program(program, plan, tensors, start);
  return start.error;
}

}  // namespace exported

namespace exported {

struct chain_0_results {
  static void fill(Program& p) {
    p.saved_count = 0;
    p.buffer(upconv::launch::IN_Z, 0);
    p.buffer(upconv::launch::IN_Y, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    {
      upconv::launch::ProgramPass& q = p.add();
      q.closing.kind = 6;
      q.closing.per = 8;
      q.closing.cluster = 16;
      q.source = 0;
      q.out = 1;
      q.instead_of = 3;
      q.weight = 0;
      q.bias = 1;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 1;
      q.closing.kind = 1;
      q.source = 0;
      q.parts = 2;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 2;
      q.closing.kind = 2;
      q.closing.per = 8;
      q.of = 1;
      q.parts = 2;
      q.table_out = 3;
      q.weight = 0;
      q.bias = 1;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 3;
      q.source = 0;
      q.tables[0] = 3;
      q.out = 1;
    }
  }
  static const void* kernel(int i) {
    const void* const at[] = {UPCONV_HOPPER_ONLY(address(closing_sets_0::closing_sets)), address(closing_parts_0::closing_parts), address(closing_norm_0::closing_norm), address(closing_map_0::closing_map)};
    return at[i];
  }
};

struct chain_0_training {
  static void fill(Program& p) {
    p.saved_count = 1;
    p.buffer(upconv::launch::IN_Z, 0);
    p.buffer(upconv::launch::IN_Y, 0);
    p.buffer(upconv::launch::IN_SAVED, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    {
      upconv::launch::ProgramPass& q = p.add();
      q.closing.kind = 6;
      q.closing.per = 8;
      q.closing.cluster = 16;
      q.source = 0;
      q.out = 1;
      q.saved = 2;
      q.instead_of = 3;
      q.weight = 0;
      q.bias = 1;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 1;
      q.closing.kind = 1;
      q.source = 0;
      q.parts = 3;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 2;
      q.closing.kind = 2;
      q.closing.per = 8;
      q.of = 1;
      q.parts = 3;
      q.table_out = 4;
      q.saved = 2;
      q.weight = 0;
      q.bias = 1;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.kernel = 3;
      q.source = 0;
      q.tables[0] = 4;
      q.out = 1;
    }
  }
  static const void* kernel(int i) {
    const void* const at[] = {UPCONV_HOPPER_ONLY(address(closing_sets_0::closing_sets)), address(closing_parts_0::closing_parts), address(closing_norm_0::closing_norm), address(closing_map_0::closing_map)};
    return at[i];
  }
};

struct chain_0_gradient {
  static void fill(Program& p) {
    p.saved_count = 1;
    p.buffer(upconv::launch::IN_Z, 0);
    p.buffer(upconv::launch::IN_SAVED, 0);
    p.buffer(upconv::launch::IN_DY, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    p.buffer(upconv::launch::IN_GRADIENT, 1);
    p.buffer(upconv::launch::IN_GRADIENT, 0);
    p.buffer(upconv::launch::IN_DZ, 0);
    p.buffer(upconv::launch::IN_WORKSPACE, 0);
    p.buffer(upconv::launch::IN_DB, 0);
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 1;
      q.pull.closing.kind = 1;
      q.pull.sums = 2;
      q.source = 0;
      q.tables[0] = 1;
      q.gradient = 2;
      q.sums = 3;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 1;
      q.kernel = 1;
      q.pull.kind = 3;
      q.pull.closing.kind = 2;
      q.pull.closing.per = 8;
      q.source = 0;
      q.tables[0] = 1;
      q.sums = 3;
      q.table_out = 4;
      q.weight = 0;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 2;
      q.kernel = 2;
      q.out = 5;
      q.of = 0;
      q.gone = 29u;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 2;
      q.kernel = 2;
      q.out = 6;
      q.of = 0;
      q.slot = 1;
      q.gone = 29u;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 1;
      q.kernel = 3;
      q.out = 7;
      q.pull.closing.kind = 1;
      q.pull.sums = 1;
      q.source = 0;
      q.tables[0] = 1;
      q.coefficients[0] = 4;
      q.gradient = 2;
      q.sums = 8;
    }
    {
      upconv::launch::ProgramPass& q = p.add();
      q.form = 2;
      q.kernel = 2;
      q.out = 9;
      q.of = 4;
      q.gone = 29u;
    }
  }
  static const void* kernel(int i) {
    const void* const at[] = {address(closing_pull_0::closing_pull), address(closing_pull_norm_0::closing_pull_norm), address(closing_total_0::closing_total), address(closing_pull_1::closing_pull)};
    return at[i];
  }
};

constexpr ShapeRule chain_0_rules[] = {{}};
constexpr OperandRule chain_0_operands[] = {{0, 2, 64}, {0, 2, 64}};

constexpr Chain chains[] = {
    {0, 2, 64, false, true, false, false, 0, 2, 0, 3u, chain_0_rules, chain_0_operands, passes<chain_0_results>(), passes<chain_0_training>(), passes<chain_0_gradient>()},
};

}  // namespace exported
"""


DEFINITIONS = r"""
// Which kernels are compiled: those for compute capability 9.x with the instructions of sm_90a, those for any from
// 8.0 on.
#ifndef UPCONV_HOPPER
#define UPCONV_HOPPER 1
#endif
#ifndef UPCONV_BASE
#define UPCONV_BASE 1
#endif
"""


GLUE = r"""// From torch's tensors to the launches: checks, memory from torch's allocator, torch's current stream.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

namespace exported {

const Step& step_for(int64_t layer, Which which, bool tf32, int major) {
  for (const Step& s : steps)
    if (s.layer == layer && s.which == which && (s.tf32 < 0 || s.tf32 == int(tf32)) && s.hopper == (major == 9))
      return s;
  for (const Step& s : steps)
    if (s.layer == layer && s.which == which && (s.tf32 < 0 || s.tf32 == int(tf32)) && !s.hopper) return s;
  TORCH_CHECK(false, "this extension was not built for a GPU of compute capability ", major, ".x");
}

void check(const at::Tensor& t, const char* name, const at::Tensor& like) {
  TORCH_CHECK(t.is_cuda(), name, " must be on a CUDA device, but is on ", t.device());
  TORCH_CHECK(t.scalar_type() == at::kFloat, name, " must be float32: the kernels were compiled for it, but got ",
              t.scalar_type());
  TORCH_CHECK(t.device() == like.device(), name, " is on ", t.device(), ", but the input is on ", like.device());
}

/// The sizes of a call whose input has the sizes `x`.
Sizes sizes_of(const Layer& l, at::IntArrayRef x) {
  TORCH_CHECK(int64_t(x.size()) == l.rank + 2, "expected an input of ", l.rank + 2, " dimensions, but got ", x);
  TORCH_CHECK(x[1] == l.in_channels, "expected ", l.in_channels,
              " input channels: this file was made for them, but got ", x);
  Sizes s{};
  s.batch = x[0];
  for (int d = 0; d < 3; ++d) {
    const int at = d - (3 - l.rank);
    s.in[d] = at < 0 ? 1 : x[2 + at];
    TORCH_CHECK(s.in[d] > 0, "expected an input with no empty dimension but the batch, but got ", x);
    s.out[d] =
        (s.in[d] - 1) * l.stride[d] - 2 * l.padding[d] + l.dilation[d] * (l.kernel[d] - 1) + l.output_padding[d] + 1;
    TORCH_CHECK(s.out[d] > 0, "an input of ", x, " leaves no output");
  }
  return s;
}

std::vector<int64_t> shape_of(const Layer& l, long long batch, long long channels, const long long (&size)[3]) {
  std::vector<int64_t> shape{batch, channels};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(size[d]);
  return shape;
}

void check_weight(const Layer& l, const at::Tensor& w) {
  std::vector<int64_t> shape{l.in_channels, l.out_channels / l.groups};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(l.kernel[d]);
  TORCH_CHECK(w.sizes() == at::IntArrayRef(shape), "expected a weight of ", shape,
              ": this file was made for it, but got ", w.sizes());
}

void run(int64_t layer, Which which, bool tf32, const Sizes& sizes, const Tensors& tensors, const at::Tensor& like) {
  const cudaDeviceProp* gpu = at::cuda::getCurrentDeviceProperties();
  const Step& step = step_for(layer, which, tf32, gpu->major);
  long long bytes = 0;
  const char* refusal = step.plan(sizes, gpu->multiProcessorCount, &bytes);
  TORCH_CHECK(!refusal, "the kernel in this file cannot take these sizes: ", refusal);
  const at::Tensor workspace = at::empty({bytes}, like.options().dtype(at::kByte));
  const cudaError_t error =
      step.run(sizes, tensors, workspace.data_ptr(), gpu->multiProcessorCount, at::cuda::getCurrentCUDAStream());
  const char* hint = gpu->sharedMemPerBlockOptin < 166912
                         ? "; kernels for GPUs with so little shared memory come from upconv export --base sm_89"
                         : "";
  TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched on ", gpu->name, ": ", cudaGetErrorString(error),
              hint);
}

const Layer& layer_of(int64_t index) {
  TORCH_CHECK(index >= 0 && index < int64_t(sizeof layers / sizeof layers[0]), "this file has no layer ", index);
  return layers[index];
}

}  // namespace exported

/// y of x, w and b; b is empty where the layer has none.
at::Tensor upconv_forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b, int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(x, "the input", x);
  check(w, "the weight", x);
  check_weight(l, w);
  if (l.bias) {
    check(b, "the bias", x);
    TORCH_CHECK(b.dim() == 1 && b.size(0) == l.out_channels, "expected a bias of ", l.out_channels,
                " elements, but got ", b.sizes());
  }
  const c10::cuda::CUDAGuard guard(x.device());
  const Sizes sizes = sizes_of(l, x.sizes());
  const at::Tensor y = at::empty(shape_of(l, sizes.batch, l.out_channels, sizes.out), x.options());
  if (y.numel() == 0) return y;
  const at::Tensor dense_x = x.contiguous(), dense_w = w.contiguous(), dense_b = b.contiguous();
  run(layer, FORWARD, tf32, sizes,
      {dense_x.data_ptr(), dense_w.data_ptr(), l.bias ? dense_b.data_ptr() : nullptr, y.data_ptr()}, x);
  return y.contiguous(x.suggest_memory_format());
}

at::Tensor upconv_input_gradient(const at::Tensor& dy, const at::Tensor& w, std::vector<int64_t> input_size,
                                 int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(dy, "the output's gradient", dy);
  check(w, "the weight", dy);
  check_weight(l, w);
  const c10::cuda::CUDAGuard guard(dy.device());
  const Sizes sizes = sizes_of(l, input_size);
  const at::Tensor dx = at::empty(input_size, dy.options());
  if (dx.numel() == 0) return dx;
  const at::Tensor dense_dy = dy.contiguous(), dense_w = w.contiguous();
  run(layer, INPUT_GRADIENT, tf32, sizes, {dense_dy.data_ptr(), dense_w.data_ptr(), nullptr, dx.data_ptr()}, dy);
  return dx.contiguous(dy.suggest_memory_format());
}

at::Tensor upconv_weight_gradient(const at::Tensor& x, const at::Tensor& dy, int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(x, "the input", x);
  check(dy, "the output's gradient", x);
  const c10::cuda::CUDAGuard guard(x.device());
  const Sizes sizes = sizes_of(l, x.sizes());
  std::vector<int64_t> shape{l.in_channels, l.out_channels / l.groups};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(l.kernel[d]);
  if (sizes.batch == 0) return at::zeros(shape, x.options());
  const at::Tensor dw = at::empty(shape, x.options());
  const at::Tensor dense_x = x.contiguous(), dense_dy = dy.contiguous();
  run(layer, WEIGHT_GRADIENT, tf32, sizes, {dense_x.data_ptr(), dense_dy.data_ptr(), nullptr, dw.data_ptr()}, x);
  return dw;
}

at::Tensor upconv_bias_gradient(const at::Tensor& dy, std::vector<int64_t> input_size, int64_t layer) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(dy, "the output's gradient", dy);
  const c10::cuda::CUDAGuard guard(dy.device());
  const Sizes sizes = sizes_of(l, input_size);
  if (sizes.batch == 0) return at::zeros({l.out_channels}, dy.options());
  const at::Tensor db = at::empty({l.out_channels}, dy.options());
  const at::Tensor dense_dy = dy.contiguous();
  run(layer, BIAS_GRADIENT, false, sizes, {dense_dy.data_ptr(), nullptr, nullptr, db.data_ptr()}, dy);
  return db;
}

namespace exported {

const Chain& chain_of(int64_t index) {
  TORCH_CHECK(index >= 0 && index < int64_t(sizeof chains / sizeof chains[0]), "this file has no chain ", index);
  return chains[index];
}

/// A chain's tensors, checked, and the plan of one of its programs.
struct ChainCall {
  const Chain& chain;
  const Passes& passes;
  Sizes sizes{};
  long long z[5];
  std::vector<at::Tensor> held;
  std::vector<ProgramOperand> operands;
  std::unique_ptr<Program> program = std::make_unique<Program>();
  std::unique_ptr<ProgramPlan> plan = std::make_unique<ProgramPlan>();

  ChainCall(const Chain& c, const Passes& p, at::IntArrayRef x, const std::vector<at::Tensor>& given,
            const at::Tensor& like)
      : chain(c), passes(p) {
    if (c.layer >= 0) {
      sizes = sizes_of(layer_of(c.layer), x);
      z[0] = sizes.batch, z[1] = c.channels;
      for (int d = 0; d < 3; ++d) z[d + 2] = sizes.out[d];
    } else {
      TORCH_CHECK(int64_t(x.size()) == c.rank + 2 && x[1] == c.channels, "expected ", c.channels, " channels in ",
                  c.rank + 2, " dimensions, but got ", x);
      z[0] = x[0], z[1] = x[1];
      for (int d = 0; d < 3; ++d) z[d + 2] = d < 3 - c.rank ? 1 : x[d - 1 + c.rank];
    }
    TORCH_CHECK(int(given.size()) == c.operand_count, "expected ", c.operand_count, " operands, but got ",
                given.size());
    for (int i = 0; i < c.operand_count; ++i) {
      check(given[i], "an operand", like);
      held.push_back(given[i].contiguous());
      ProgramOperand o;
      o.data = held.back().data_ptr();
      const int dims = int(given[i].dim());
      TORCH_CHECK(dims <= c.rank + 2 || c.operands[i].length > 0, "an operand of ", given[i].sizes(),
                  " has more dimensions than the result");
      if (c.operands[i].length > 0) {
        o.size[1] = given[i].numel();
      } else {
        for (int d = 0; d < dims; ++d) {  // dimensions from the last one on
          const int to = 4 - d, own = dims - 1 - d;
          o.size[d < c.rank ? to : c.rank + 1 - d] = given[i].size(own);
        }
      }
      TORCH_CHECK(fits(c, i, o.size, z), "an operand of ", given[i].sizes(), " lies in another way over the result ",
                  "than this file was made for");
      operands.push_back(o);
    }
    p.fill(*program);
    const cudaDeviceProp* gpu = at::cuda::getCurrentDeviceProperties();
    plan_program(*program, z, operands.data(), gpu->multiProcessorCount,
                 UPCONV_HOPPER && gpu->major == 9 ? (long long)gpu->sharedMemPerBlockOptin : 0, *plan);
    TORCH_CHECK(!plan->refusal, "the kernels in this file cannot take these sizes: ", plan->refusal);
  }

  std::vector<int64_t> shape(const long long (&s)[5]) const {
    std::vector<int64_t> all{s[0], s[1]};
    for (int d = 5 - chain.rank; d < 5; ++d) all.push_back(s[d]);
    return all;
  }
  std::vector<int64_t> result_shape() const {
    long long s[5] = {z[0], z[1], z[2], z[3], z[4]};
    sizes_after(chain, chain.rule_count, s);
    for (long long n : s) TORCH_CHECK(n >= 0, "an input of these sizes leaves no output");
    return shape(s);
  }

  void run(ProgramTensors t, const at::Tensor& like) {
    const at::Tensor workspace = at::empty({plan->workspace_bytes}, like.options().dtype(at::kByte));
    t.workspace = workspace.data_ptr();
    t.operands = operands.data(), t.operand_count = int(operands.size());
    const cudaError_t error = run_passes(passes, *program, *plan, t, at::cuda::getCurrentCUDAStream());
    TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched: ", cudaGetErrorString(error));
  }
};

}  // namespace exported

/// The result; in training also the layer's own, and what the gradient needs beside it; of a batch norm at the end
/// means and biased variances.
std::vector<at::Tensor> upconv_chain(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                                     std::vector<at::Tensor> operands, int64_t chain, bool tf32, bool training) {
  using namespace exported;
  const Chain& c = chain_of(chain);
  check(x, "the input", x);
  const c10::cuda::CUDAGuard guard(x.device());
  ChainCall call(c, training ? c.training : c.results, x.sizes(), operands, x);
  const at::Tensor y = at::empty(call.result_shape(), x.options());
  const at::Tensor dense_x = x.contiguous();
  at::Tensor z = dense_x;
  std::vector<at::Tensor> saved, answer{y};
  std::vector<void*> saved_at(call.program->saved_count, nullptr);
  for (int i = 0; i < call.program->saved_count; ++i)
    for (int at = 0; at < call.program->buffer_count; ++at)
      if (call.program->buffers[at].place == upconv::launch::IN_SAVED && call.program->buffers[at].number == i) {
        saved.push_back(at::empty({call.plan->bytes[at]}, x.options().dtype(at::kByte)));
        saved_at[i] = saved.back().data_ptr();
      }
  const at::Tensor statistics = at::empty({2, c.normalises ? c.channels : 0}, x.options().dtype(at::kDouble));
  if (c.layer >= 0) {
    const Layer& l = layer_of(c.layer);
    check(w, "the weight", x);
    check_weight(l, w);
    if (l.bias) {
      check(b, "the bias", x);
      TORCH_CHECK(b.dim() == 1 && b.size(0) == l.out_channels, "expected a bias of ", l.out_channels,
                  " elements, but got ", b.sizes());
    }
    z = call.program->pass_count == 0 ? y : at::empty(call.shape(call.z), x.options());
    if (z.numel() > 0) {
      const at::Tensor dense_w = w.contiguous(), dense_b = b.contiguous();
      const long long volume = call.z[2] * call.z[3] * call.z[4];
      const auto block = upconv::launch::operand_block(
          call.operands.data(), c.operand_count, {c.channels * volume, volume, 1, int(call.z[3]), int(call.z[4])});
      const bool applied = !training && c.epilogue;
      run(applied ? chain : int64_t(c.layer), applied ? FORWARD_CHAIN : FORWARD, tf32, call.sizes,
          {dense_x.data_ptr(), dense_w.data_ptr(), l.bias ? dense_b.data_ptr() : nullptr, z.data_ptr(), &block}, x);
    }
  }
  if (z.numel() > 0) {
    ProgramTensors t;
    t.z = z.data_ptr(), t.y = y.data_ptr(), t.saved = saved_at.data();
    t.statistics = c.normalises ? statistics.data_ptr<double>() : nullptr;
    call.run(t, x);
  }
  if (c.keeps_layout) answer[0] = y.contiguous(x.suggest_memory_format());
  if (training) {
    answer.push_back(z);
    answer.insert(answer.end(), saved.begin(), saved.end());
  }
  answer.push_back(statistics);
  return answer;
}

/// The gradients of the layer's result (without a layer: of the input), the bias and the operands, from that of the
/// result. What is not wanted is empty.
std::vector<at::Tensor> upconv_chain_gradient(const at::Tensor& dy, const at::Tensor& z,
                                              std::vector<int64_t> input_size, std::vector<at::Tensor> saved,
                                              std::vector<at::Tensor> operands, int64_t chain) {
  using namespace exported;
  const Chain& c = chain_of(chain);
  check(dy, "the output's gradient", z);
  const c10::cuda::CUDAGuard guard(z.device());
  ChainCall call(c, c.gradient, input_size, operands, z);
  TORCH_CHECK(dy.sizes() == at::IntArrayRef(call.result_shape()), "expected a gradient of ", call.result_shape(),
              ", but got ", dy.sizes());
  TORCH_CHECK(int(saved.size()) == call.program->saved_count, "what was kept is not this chain's");
  const at::Tensor dense_dy = dy.contiguous();
  const at::Tensor dz = at::empty(call.shape(call.z), z.options());
  const at::Tensor db = at::empty({c.bias ? c.channels : 0}, z.options());
  std::vector<at::Tensor> answer{dz, db};
  std::vector<void*> gradients, saved_at;
  for (int i = 0; i < c.operand_count; ++i) {
    const bool wanted = (c.wanted >> i & 1) != 0;
    answer.push_back(wanted ? at::empty(operands[i].sizes(), z.options()) : at::empty({0}, z.options()));
    gradients.push_back(answer.back().data_ptr());
  }
  for (const at::Tensor& s : saved) saved_at.push_back(s.data_ptr());
  ProgramTensors t;
  t.z = z.data_ptr(), t.dy = dense_dy.data_ptr(), t.dz = dz.data_ptr(), t.db = db.data_ptr();
  t.saved = saved_at.data(), t.gradients = gradients.data();
  call.run(t, z);
  return answer;
}
"""


PROTOTYPES = r"""#include <ATen/ATen.h>
at::Tensor upconv_forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b, int64_t layer, bool tf32);
at::Tensor upconv_input_gradient(const at::Tensor& dy, const at::Tensor& w, std::vector<int64_t> input_size, int64_t layer, bool tf32);
at::Tensor upconv_weight_gradient(const at::Tensor& x, const at::Tensor& dy, int64_t layer, bool tf32);
at::Tensor upconv_bias_gradient(const at::Tensor& dy, std::vector<int64_t> input_size, int64_t layer);
std::vector<at::Tensor> upconv_chain(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b, std::vector<at::Tensor> operands, int64_t chain, bool tf32, bool training);
std::vector<at::Tensor> upconv_chain_gradient(const at::Tensor& dy, const at::Tensor& z, std::vector<int64_t> input_size, std::vector<at::Tensor> saved, std::vector<at::Tensor> operands, int64_t chain);
"""


FUNCTIONS = [
    "upconv_forward",
    "upconv_input_gradient",
    "upconv_weight_gradient",
    "upconv_bias_gradient",
    "upconv_chain",
    "upconv_chain_gradient",
]


#: Rank, channels in and out, kernel, stride, padding, output padding, dilation, groups, bias.
LAYERS = [
    (2, 64, 64, (3, 3), (1, 1), (0, 0), (0, 0), (1, 1), 8, True),  # conv
]


#: Of every chain its layer, whether it has a bias, and its operands with a gradient, a bit each.
CHAINS = [
    (0, True, 3),
]


def _flat(text, seen):
    """The lines of a source with what it includes in place, each file once."""
    lines = []
    for line in text.splitlines():
        if line.startswith('#include "'):
            name = line.split('"')[1]
            if name not in seen:
                seen.add(name)
                lines += ["// " + name, *_flat(SOURCES[name], seen)]
        elif line != "#pragma once":
            lines.append(line)
    return lines


def kernel_source():
    """Kernels and launches as one CUDA source that needs nothing but the CUDA runtime. Every specialised kernel lies in
    a namespace of its own with what it includes."""
    lines = []
    for name, (guard, file, preamble) in KERNELS.items():
        inner = _flat(preamble + '#include "' + file + '"\n', set())
        lines += ["#if " + guard, "#undef UPCONV_PRODUCTS", "namespace " + name + " {", *inner]
        lines += ["using namespace upconv;", "}  // namespace " + name, "#endif"]
    text = "\n".join(lines).replace('extern "C" __global__', "__global__")
    launches = "\n".join(_flat("".join('#include "' + name + '"\n' for name in LAUNCH_HEADERS), set()))
    return "\n".join([DEFINITIONS, text, launches, LAUNCH, STEPS])


#: The compiled extension by device.
_extensions = {}


def _extension(x):
    """The kernels for the GPU that holds x, compiled at the first call."""
    if x.device not in _extensions:
        _extensions[x.device] = _build(_capability(x))
    return _extensions[x.device]


def _capability(x):
    if not torch.cuda.is_available() or torch.version.cuda is None:
        raise RuntimeError("ModelNew computes on an NVIDIA GPU, and torch finds none on this machine.")
    if not x.is_cuda:
        raise RuntimeError(f"ModelNew computes on CUDA tensors, but the input is on {x.device}.")
    return torch.cuda.get_device_capability(x.device)


def _build(capability):
    major, minor = capability
    if major < 8:
        raise RuntimeError(f"ModelNew needs a GPU of compute capability 8.0 or later, but this one has {major}.{minor}.")
    toolkit = tuple(int(number) for number in torch.version.cuda.split(".")[:2])
    hopper = major == 9 and toolkit >= (12, 0)  # the warpgroup instructions of sm_90a
    # From 10.x on what is compiled for x.0 runs on all of x, and more toolkits know x.0.
    architecture = f"{major}{minor if major < 10 else 0}" + ("a" if hopper else "")
    return load_inline(
        name=f"{NAME}_sm{architecture}",
        cpp_sources=[PROTOTYPES],
        cuda_sources=[kernel_source(), GLUE],
        functions=FUNCTIONS,
        extra_cuda_cflags=[
            "--expt-relaxed-constexpr",
            f"-gencode=arch=compute_{architecture},code=sm_{architecture}",
            f"-DUPCONV_HOPPER={int(hopper)}",
            f"-DUPCONV_BASE={int(not hopper)}",
        ],
    )


def _permits_tf32():
    """torch's own switch for convolutions in TF32, as it stands now."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    setting = getattr(conv, "fp32_precision", None)
    # Where fp32_precision exists, reading the old switch can raise.
    return torch.backends.cudnn.allow_tf32 if setting is None else setting == "tf32"


class _ConvTransposeFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, layer):
        ctx.layer = layer
        ctx.save_for_backward(x, weight)
        absent = weight.new_empty(0) if bias is None else bias
        return _extension(x).upconv_forward(x, weight, absent, layer, _permits_tf32())

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        kernels, tf32 = _extension(x), _permits_tf32()
        dx = dw = db = None
        # dx last: the scratch memory of the others is free again before it is allocated.
        if ctx.needs_input_grad[1]:
            dw = kernels.upconv_weight_gradient(x, dy, ctx.layer, tf32)
        if ctx.needs_input_grad[2]:
            db = kernels.upconv_bias_gradient(dy, x.shape, ctx.layer)
        if ctx.needs_input_grad[0]:
            dx = kernels.upconv_input_gradient(dy, weight, x.shape, ctx.layer, tf32)
        return dx, dw, db, None


def _conv_transpose(x, weight, bias, layer):
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias) if t is not None):
        return _ConvTransposeFunction.apply(x, weight, bias, layer)
    absent = weight.new_empty(0) if bias is None else bias
    return _extension(x).upconv_forward(x, weight, absent, layer, _permits_tf32())


def _tuple(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


class _ConvTranspose(nn.Module):
    """One transposed convolution: parameters under torch's names with torch's initialisation, kernels of this file.

    The arguments are those of torch's class; they must be those of a layer that this file was made for.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        super().__init__()
        rank = self.rank
        wanted = (rank, in_channels, out_channels, _tuple(kernel_size, rank), _tuple(stride, rank))
        wanted += (_tuple(padding, rank), _tuple(output_padding, rank), _tuple(dilation, rank), groups, bool(bias))
        if padding_mode != "zeros" or wanted not in LAYERS:
            raise ValueError(
                "this file was made for transposed convolutions of (rank, in_channels, out_channels, kernel_size, "
                "stride, padding, output_padding, dilation, groups, bias) = "
                + " or ".join(map(str, LAYERS))
                + f", but got {wanted} with padding_mode {padding_mode!r}"
            )
        self.layer = LAYERS.index(wanted)
        self.in_channels, self.out_channels = in_channels, out_channels
        options = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels // groups, *_tuple(kernel_size, rank), **options))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, **options))
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)
        else:
            self.register_parameter("bias", None)

    def forward(self, x):
        if x.dim() == self.rank + 1:  # without a batch
            return self(x.unsqueeze(0)).squeeze(0)
        return _conv_transpose(x, self.weight, self.bias, self.layer)


class _ConvTranspose1d(_ConvTranspose):
    rank = 1


class _ConvTranspose2d(_ConvTranspose):
    rank = 2


class _ConvTranspose3d(_ConvTranspose):
    rank = 3


class _ChainFunction(torch.autograd.Function):
    """A layer and what follows it, or (layer -1) what is done to x itself. Kept for the gradient are x, the weight, the
    operands, the layer's own result, and a few numbers of each norm, long softmax and window of a max pooling."""

    @staticmethod
    def forward(ctx, x, weight, bias, chain, *operands):
        absent = x.new_empty(0)
        y, z, *kept, statistics = _extension(x).upconv_chain(
            x,
            absent if weight is None else weight,
            absent if bias is None else bias,
            list(operands),
            chain,
            _permits_tf32(),
            True,
        )
        ctx.chain, ctx.kept = chain, len(kept)
        ctx.save_for_backward(x, weight, z, *kept, *operands)
        ctx.mark_non_differentiable(statistics)
        return y, statistics

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, _):
        x, weight, z, *rest = ctx.saved_tensors
        kept, operands = rest[: ctx.kept], rest[ctx.kept :]
        layer, biased, wanted = CHAINS[ctx.chain]
        kernels, tf32 = _extension(x), _permits_tf32()
        dz, db, *gradients = kernels.upconv_chain_gradient(dy, z, x.shape, kept, operands, ctx.chain)
        dx = dw = None
        if layer < 0:
            dx = dz
        else:
            # dx last, as above.
            if ctx.needs_input_grad[1]:
                dw = kernels.upconv_weight_gradient(x, dz, layer, tf32)
            if ctx.needs_input_grad[0]:
                dx = kernels.upconv_input_gradient(dz, weight, x.shape, layer, tf32)
        given = [g if wanted >> i & 1 else None for i, g in enumerate(gradients)]
        return dx, dw, db if biased else None, None, *given


def _chain(chain, x, weight, bias, *operands):
    """The result, and a batch norm's statistics."""
    tensors = [t for t in (x, weight, bias, *operands) if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _ChainFunction.apply(x, weight, bias, chain, *operands)
    absent = x.new_empty(0)
    given = (x, absent if weight is None else weight, absent if bias is None else bias)
    y, statistics = _extension(x).upconv_chain(*given, list(operands), chain, _permits_tf32(), False)
    return y, statistics


class _Vectors(nn.Module):
    """What a norm has: a weight and a bias, as torch begins them. The chain that holds it computes."""

    def _begin(self, shape, weight, bias, device, dtype):
        options = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(shape, **options)) if weight else None
        self.bias = nn.Parameter(torch.zeros(shape, **options)) if bias else None

    def forward(self, x):
        raise RuntimeError("in this file a norm is computed by the chain that holds it")


class _GroupNorm(_Vectors):
    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self._begin(num_channels, affine, affine and bias, device, dtype)


class _InstanceNorm(_Vectors):
    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self._begin(num_features, affine, affine and bias, device, dtype)


class _LayerNorm(_Vectors):
    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self._begin(shape, elementwise_affine, elementwise_affine and bias, device, dtype)


#: Of the constructor, as get_init_inputs() gives them.
ARGUMENTS = {'in_channels': 64, 'out_channels': 64, 'kernel_size': 3, 'stride': 1, 'groups': 8, 'norm_groups': 8}


def _check_arguments(**given):
    """The constructor's arguments decide what the kernels compute: they must be those that this file was made for."""
    for name, value in given.items():
        value = tuple(value) if isinstance(value, list) else value
        if value != ARGUMENTS[name]:
            raise ValueError(f"this file was made for {name}={ARGUMENTS[name]!r}, but got {name}={value!r}")


class ModelNew(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        groups: int,
        norm_groups: int,
    ) -> None:
        _check_arguments(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride, groups=groups, norm_groups=norm_groups)
        super().__init__()
        self.conv = _ConvTranspose2d(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        self.activation = nn.Identity()
        self.norm = _GroupNorm(norm_groups, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result_0 = _chain(0, x, self.conv.weight, self.conv.bias, self.norm.weight, self.norm.bias)[0]
        return result_0


def get_inputs(batch: int = 128, height: int = 256, width: int = 256) -> list[torch.Tensor]:
    return [torch.rand(batch, 64, height, width)]


def get_init_inputs(groups: int = 8) -> list:
    return [64, 64, 3, 1, groups, 8]
