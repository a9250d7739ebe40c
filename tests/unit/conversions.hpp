// The element conversions of cpu/simd.hpp as compiled for one instruction set, behind plain function pointers.
#pragma once

#include <cstdint>

namespace upconv::test {

struct Conversions {
  const char* isa;
  int lanes;
  void (*widen_half)(const std::uint16_t*, float*, std::int64_t);
  void (*widen_bfloat)(const std::uint16_t*, float*, std::int64_t);
  void (*narrow_half)(const float*, std::uint16_t*, std::int64_t);
  void (*narrow_bfloat)(const float*, std::uint16_t*, std::int64_t);
  void (*broadcast)(float value, float* vector);
};

const Conversions& conversions_base();
const Conversions& conversions_v3();
const Conversions& conversions_v4();

}  // namespace upconv::test
