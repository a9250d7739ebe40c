// Element types by their definition: sign, exponent, significand, evaluated in double with ldexp and one
// rounding to nearest even. Shares nothing with the library's conversions; slow and plain on purpose.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "upconv/problem.hpp"

namespace upconv::test {

struct Format16 {
  int exponent_bits;
  int fraction_bits;
  [[nodiscard]] int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
inline constexpr Format16 half_format{5, 10}, bfloat_format{8, 7};

inline double decode16(std::uint16_t bits, Format16 f) {
  const int sign = bits >> 15, exponent = (bits >> f.fraction_bits) & ((1 << f.exponent_bits) - 1);
  const int fraction = bits & ((1 << f.fraction_bits) - 1);
  double v;
  if (exponent == (1 << f.exponent_bits) - 1)
    v = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    v = std::ldexp(double(fraction), 1 - f.bias() - f.fraction_bits);
  else
    v = std::ldexp(double(fraction + (1 << f.fraction_bits)), exponent - f.bias() - f.fraction_bits);
  return sign ? -v : v;
}

/// Nearest, ties to even; overflow to infinity; any NaN to one quiet NaN.
inline std::uint16_t encode16(double v, Format16 f) {
  const unsigned sign = std::signbit(v) ? 0x8000u : 0u;
  const unsigned infinity = ((1u << f.exponent_bits) - 1u) << f.fraction_bits;
  const double a = std::fabs(v);
  if (std::isnan(v)) return std::uint16_t(sign | infinity | (1u << (f.fraction_bits - 1)));
  if (a == 0.0) return std::uint16_t(sign);
  if (std::isinf(v) || a >= std::ldexp(1.0, f.bias() + 1)) return std::uint16_t(sign | infinity);
  const int exponent = std::max(std::ilogb(a), 1 - f.bias());
  // In units of the last place; a carry out of the significand moves into the exponent field by itself.
  const unsigned units = unsigned(std::nearbyint(std::ldexp(a, f.fraction_bits - exponent)));
  return std::uint16_t(sign | ((unsigned(exponent + f.bias() - 1) << f.fraction_bits) + units));
}

inline const double* decode_table(Format16 f) {
  const auto build = [](Format16 format) {
    std::vector<double> table(65536);
    for (unsigned i = 0; i < 65536; ++i) table[i] = decode16(std::uint16_t(i), format);
    return table;
  };
  static const std::vector<double> half = build(half_format), bfloat = build(bfloat_format);
  return (f.exponent_bits == 5 ? half : bfloat).data();
}

inline double load_element(DType dtype, const void* base, std::int64_t index) {
  switch (dtype) {
    case DType::f32:
      return double(static_cast<const float*>(base)[index]);
    case DType::f64:
      return static_cast<const double*>(base)[index];
    case DType::f16:
      return decode_table(half_format)[static_cast<const std::uint16_t*>(base)[index]];
    case DType::bf16:
      return decode_table(bfloat_format)[static_cast<const std::uint16_t*>(base)[index]];
  }
  return 0.0;
}

inline void store_element(DType dtype, void* base, std::int64_t index, double v) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(base)[index] = float(v);
      break;
    case DType::f64:
      static_cast<double*>(base)[index] = v;
      break;
    case DType::f16:
      static_cast<std::uint16_t*>(base)[index] = encode16(v, half_format);
      break;
    case DType::bf16:
      static_cast<std::uint16_t*>(base)[index] = encode16(v, bfloat_format);
      break;
  }
}

/// The value `v` takes when stored as `dtype`.
inline double quantise(DType dtype, double v) {
  std::uint64_t room = 0;
  store_element(dtype, &room, 0, v);
  return load_element(dtype, &room, 0);
}

}  // namespace upconv::test
