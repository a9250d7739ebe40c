// Kernels that want a tensor's channels where they do not lie: the turned tensor is made in the workspace before
// (kernels/turn.cuh, kernels/launch/turn.hpp).
#pragma once

#include <string>

#include "jit/program.hpp"

namespace upconv::cuda {

inline jit::Program turn_program(std::int64_t element_bytes) {
  return {"turn.cuh", "turn",
          "namespace config {\nconstexpr int ELEMENT_BYTES = " + std::to_string(element_bytes) + ";\n}\n"};
}

}  // namespace upconv::cuda
