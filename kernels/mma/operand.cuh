// How numbers become the 32-bit words that tensor cores multiply, by mode:
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
