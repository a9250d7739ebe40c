// THE INTERFACE of an epilogue that reads operand tensors, for every kernel that writes y.
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
