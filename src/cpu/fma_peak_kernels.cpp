// Independent chains of multiply-adds in registers: no memory, no dependence within the latency of an instruction.
// Compiled once per instruction set; called by fma_peak.cpp.
#include "cpu/fma_peak.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

constexpr int chains = 12;  // two units of latency 4 or 5 need 10; 12 and two constants fit in 16 registers

/// The compiler may assume nothing about v from here on.
template <class V>
inline void opaque(V& v) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(v));
#else
  asm volatile("" : "+w"(v));
#endif
}

double flop(std::int64_t rounds) {
  using V = Vec<float>;
  V sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = broadcast(float(i));
  V factor = broadcast(0.999f), term = broadcast(0.001f);
  opaque(factor);  // not constants to the compiler
  opaque(term);
  for (std::int64_t r = 0; r < rounds; ++r)
    for (int i = 0; i < chains; ++i) sum[i] = sum[i] * factor + term;
  for (int i = 0; i < chains; ++i) opaque(sum[i]);  // used, as far as the compiler knows
  return 2.0 * chains * lanes<float> * double(rounds);
}

}  // namespace

extern const cpu::FmaIsa fma_isa;
const cpu::FmaIsa fma_isa{flop};

}  // namespace upconv::UPCONV_ISA
