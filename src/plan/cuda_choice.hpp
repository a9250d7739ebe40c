// What a CUDA plan chose for a pass, for tests: those that compile every kernel, and the golden files of choices.
#pragma once

#include <string>
#include <vector>

#include "jit/kernel.hpp"
#include "upconv/plan.hpp"

namespace upconv {

struct CudaChoice {
  std::string candidate, detail;
  std::vector<const jit::Kernel*> kernels;  ///< Owned by the plan.
  std::string architecture;                 ///< What they are compiled for, "sm_90a".
};

/// `plan` must be of a CUDA device or a model of one.
CudaChoice cuda_choice(const Plan& plan, Pass pass);

}  // namespace upconv
