// What the compiler made of a kernel, read from its machine code: registers and local memory (spills and stack), and
// its instructions, so that a machine without a GPU can tell. Called by the tests that compile every kernel family.
#pragma once

#include <string_view>

#include "jit/resources.hpp"
#include "upconv/status.hpp"

namespace upconv::jit {

/// Of the function `entry` in a cubin (a 64-bit ELF file).
Result<Resources> resources_of(std::string_view cubin, std::string_view entry);
/// Its instructions, 16 bytes each from sm_70 on; empty where there is no such function.
std::string_view code_of(std::string_view cubin, std::string_view entry);

}  // namespace upconv::jit
