// Which instruction set the engine uses, decided once per process: the best one this machine has and this
// build carries, or what UPCONV_ISA names (for tests and for comparing).
#pragma once

#include <string>

namespace upconv {

/// In rising order; `base` is whatever the compiler targets by default (x86-64-v2, or NEON on AArch64).
enum class Isa { base, v3, v4 };

/// The instruction set in use. UPCONV_ISA=base|v3|v4 caps it; a cap above what the machine has is ignored.
Isa active_isa();

std::string to_string(Isa isa);

}  // namespace upconv
