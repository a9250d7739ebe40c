// What is compiled: one embedded source specialised by a preamble, and the entry point wanted from it.
// This folder knows nothing of convolutions.
#pragma once

#include <string>

namespace upconv::jit {

/// The translation unit is `preamble`, then `#include "file"`. Every file under kernels/ can be included by its path
/// from there ("gather_mma.cuh", "ptx/copy.cuh"); there is no other header: NVRTC runs without an include path.
struct Program {
  std::string file;
  std::string entry;     ///< Name of an extern "C" __global__ function.
  std::string preamble;  ///< Device text, normally `namespace config { constexpr int ...; }`.
};

}  // namespace upconv::jit
