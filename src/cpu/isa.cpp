// See isa.hpp.
#include "cpu/isa.hpp"

#include <algorithm>
#include <cstdlib>

namespace upconv {
namespace {

Isa machine_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return v4 ? Isa::v4 : v3 ? Isa::v3 : Isa::base;
#else
  return Isa::base;
#endif
}

Isa choose() {
  Isa isa = machine_isa();
  if (const char* cap = std::getenv("UPCONV_ISA")) {
    for (Isa named : {Isa::base, Isa::v3, Isa::v4})
      if (cap == to_string(named)) isa = std::min(isa, named);
  }
  return isa;
}

}  // namespace

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

std::string to_string(Isa isa) {
  switch (isa) {
    case Isa::base:
      return "base";
    case Isa::v3:
      return "v3";
    case Isa::v4:
      return "v4";
  }
  return "?";
}

}  // namespace upconv
