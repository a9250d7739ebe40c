// A program's code for an architecture, from the disk cache or else from the compiler. Needs no GPU.
// Called by kernel.cpp before it loads the code onto a device, and by the tests that compile every kernel family.
#pragma once

#include <string>

#include "jit/cache.hpp"
#include "jit/compiler.hpp"
#include "jit/program.hpp"
#include "upconv/status.hpp"

namespace upconv::jit {

/// An image and how it was come by.
struct Built {
  Image image;
  Digest key{};
  bool compiled = false;  ///< By this call; otherwise it was on disk.
};

/// `architecture` as GPUs are called, "sm_90a"; NVRTC makes what comes nearest (aim_for). Of many processes that want
/// the same program at once, one compiles.
Result<Built> build(const Program& program, const std::string& architecture, const Cache& cache = user_cache());

}  // namespace upconv::jit
