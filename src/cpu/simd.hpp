// Vector types and element conversions for sources that are compiled once per instruction set.
// Such a source is built with -DUPCONV_ISA=base|v3|v4 and puts everything into namespace upconv::UPCONV_ISA,
// so that no symbol of one instruction set can stand in for another's. For the same reason it uses no
// standard-library template with external linkage (no std::vector, no std::function): plain pointers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#if defined(UPCONV_VECTOR_BYTES)  // a test may force a width the machine emulates
#elif defined(__AVX512F__)
#define UPCONV_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define UPCONV_VECTOR_BYTES 32
#else
#define UPCONV_VECTOR_BYTES 16
#endif

namespace upconv::UPCONV_ISA {

/// Lanes of a vector of T, T = float or double.
template <class T>
inline constexpr int lanes = UPCONV_VECTOR_BYTES / int(sizeof(T));

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(UPCONV_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(UPCONV_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
static inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(p);
}
/// A value of many products. With AVX-512 it is kept in a register: g++ otherwise reads it again as the operand of each
/// product, and a load of 64 bytes takes a multiply-add's time. With 16 registers that is what lets 12 of them
/// accumulate.
template <class V>
static inline V held(V v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#endif
  return v;
}
template <class T>
static inline Vec<T> load_held(const T* p) {
  return held(load(p));
}
template <class T>
static inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(p) = v;
}
template <class T>
static inline Vec<T> broadcast(T s) {
  return s - Vec<T>{};  // x - (+0) is x for every x, -0 and NaN included
}

/// Asks for `count` elements from p on. Channels of a planar tensor are far apart and a line is short: no hardware
/// prefetcher sees it coming.
template <int ForWriting, class S>
static inline void fetch_ahead(const S* p, std::int64_t count) {
  const char* at = reinterpret_cast<const char*>(p);
  for (std::int64_t i = 0; i < count * std::int64_t(sizeof(S)); i += 64) __builtin_prefetch(at + i, ForWriting);
}

// Storage types of tensors: float and double as they are, the 16-bit formats as tagged integers.
struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};

/// What a storage type is computed in.
template <class S>
struct Compute {
  typedef float type;
};
template <>
struct Compute<double> {
  typedef double type;
};

static inline float bits_to_float(std::uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
static inline std::uint32_t float_to_bits(float f) {
  std::uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

static inline float widen(float v) { return v; }
static inline double widen(double v) { return v; }
static inline float widen(BFloat v) { return bits_to_float(std::uint32_t(v.bits) << 16); }
static inline float widen(Half v) {
  const std::uint32_t sign = std::uint32_t(v.bits & 0x8000u) << 16, body = v.bits & 0x7fffu;
  // Shift exponent and mantissa into place, rescale by 2^112 (exact, also for subnormals); all-ones exponents stay
  // inf/NaN.
  const float scaled = bits_to_float(body << 13) * 0x1p112f;
  const std::uint32_t special = body >= 0x7c00u ? 0x7f800000u | (body << 13) : float_to_bits(scaled);
  return bits_to_float(special | sign);
}

static inline void narrow(float v, float& out) { out = v; }
static inline void narrow(double v, double& out) { out = v; }
/// Round to nearest even; NaN stays NaN.
static inline void narrow(float v, BFloat& out) {
  const std::uint32_t u = float_to_bits(v);
  const std::uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
  out.bits = std::uint16_t((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded >> 16);
}
static inline void narrow(float v, Half& out) {
  const std::uint32_t u = float_to_bits(v), sign = (u >> 16) & 0x8000u, body = u & 0x7fffffffu;
  std::uint32_t h;
  if (body > 0x7f800000u) {
    h = 0x7e00u | ((body >> 13) & 0x3ffu);
  } else if (body >= 0x47800000u) {  // 2^16 and above
    h = 0x7c00u;
  } else if (body < 0x38800000u) {  // below 2^-14: subnormal, the addition of 0.5 rounds to nearest even
    h = float_to_bits(bits_to_float(body) + 0.5f) - 0x3f000000u;
  } else {
    const std::uint32_t odd = (body >> 13) & 1u;
    h = (body + 0xfffu + odd - 0x38000000u) >> 13;
  }
  out.bits = std::uint16_t(sign | h);
}

/// n contiguous elements, storage type to compute type.
template <class S, class T>
static inline void widen_row(const S* src, T* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = widen(src[i]);
}
static inline void widen_row(const float* src, float* dst, std::int64_t n) {
  std::memcpy(dst, src, std::size_t(n) * 4);
}
static inline void widen_row(const double* src, double* dst, std::int64_t n) {
  std::memcpy(dst, src, std::size_t(n) * 8);
}

/// n contiguous elements, compute type to storage type.
template <class T, class S>
static inline void narrow_row(const T* src, S* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) narrow(src[i], dst[i]);
}
static inline void narrow_row(const float* src, float* dst, std::int64_t n) {
  std::memcpy(dst, src, std::size_t(n) * 4);
}
static inline void narrow_row(const double* src, double* dst, std::int64_t n) {
  std::memcpy(dst, src, std::size_t(n) * 8);
}

#if defined(__F16C__) && defined(__AVX2__)
static inline void widen_row(const Half* src, float* dst, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i))));
  for (; i < n; ++i) dst[i] = widen(src[i]);
}
static inline void narrow_row(const float* src, Half* dst, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) narrow(src[i], dst[i]);
}
#endif

}  // namespace upconv::UPCONV_ISA
