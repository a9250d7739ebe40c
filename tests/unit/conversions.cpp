// Compiled once per instruction set, without GoogleTest: nothing of it may be shared between instruction sets.
#include "unit/conversions.hpp"

#include "cpu/simd.hpp"

#define UPCONV_JOIN(a, b) a##b
#define UPCONV_NAME(isa) UPCONV_JOIN(conversions_, isa)
#define UPCONV_TEXT_OF(isa) #isa
#define UPCONV_TEXT(isa) UPCONV_TEXT_OF(isa)

namespace upconv::test {

using namespace UPCONV_ISA;

const Conversions& UPCONV_NAME(UPCONV_ISA)() {
  static constexpr Conversions all = {
      UPCONV_TEXT(UPCONV_ISA),
      lanes<float>,
      [](const std::uint16_t* s, float* d, std::int64_t n) { widen_row(reinterpret_cast<const Half*>(s), d, n); },
      [](const std::uint16_t* s, float* d, std::int64_t n) { widen_row(reinterpret_cast<const BFloat*>(s), d, n); },
      [](const float* s, std::uint16_t* d, std::int64_t n) { narrow_row(s, reinterpret_cast<Half*>(d), n); },
      [](const float* s, std::uint16_t* d, std::int64_t n) { narrow_row(s, reinterpret_cast<BFloat*>(d), n); },
      [](float v, float* d) { store(d, broadcast(v)); },
  };
  return all;
}

}  // namespace upconv::test
