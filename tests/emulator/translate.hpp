// From CUDA C++ to C++ that a compiler of the CPU takes together with cuda.hpp: inline PTX becomes calls, `__shared__`
// variables become a block's memory, every `__global__` function gets an entry that unpacks launch arguments. All else
// stays as it is, line by line. Called by the emulated NVRTC and by upconv_emulate.
#pragma once

#include <string>
#include <string_view>

namespace emulator {

/// `name` is for messages. What the translator does not know becomes a static_assert that names it.
std::string translate(std::string_view text, std::string_view name);

/// One PTX text, after its string literals are joined, as C++ statements. Operand %i is the variable _i; for wgmma,
/// `_at_i` (a pointer) tells where an input operand lies.
std::string translate_ptx(std::string_view text);

}  // namespace emulator
