// What a CUDA chain runs beside its convolution, for tests that compile every kernel.
#pragma once

#include <vector>

#include "jit/kernel.hpp"
#include "upconv/chain.hpp"

namespace upconv {

/// The closing kernels of a chain's plan on CUDA, owned by it.
std::vector<const jit::Kernel*> cuda_chain_kernels(const ChainPlan& plan);
/// The same of its training, forward and backward.
std::vector<const jit::Kernel*> cuda_chain_kernels(const TrainingChain& plan);

}  // namespace upconv
