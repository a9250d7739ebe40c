// The warp's matrix product for dw, 16 input channels x 8 output channels, and what each precision makes of a word.
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
