// THE INTERFACE of an epilogue that reads operand tensors, for every kernel that writes y.
//
// The preamble (src/epilogue/cuda_text.hpp) defines in namespace config
//   Operands                            what the kernel takes as its LAST parameter, `const config::Operands operands`,
//                                       an empty struct where no step reads an operand
//   OPERANDS                            how many there are, a constexpr int
//   S epilogue(S v, const Operands& operands, int n, int channel, i64 at)
//                                       the steps on the value v of sample n and channel `channel` (of all groups)
//                                       whose element of y is number `at` of y's memory. Without operands it is
//                                       epilogue(v): the other arguments cost nothing
// With operands the element must exist: a kernel whose tile reaches over y's edge may not call it there. An operand may
// be y itself, where every element is written by the thread that has called epilogue() for it.
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
