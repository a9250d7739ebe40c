// How a chain's steps are shared out between its convolution's kernel and the closing ones.
#pragma once

#include <vector>

#include "jit/kernel.hpp"
#include "upconv/chain.hpp"

namespace upconv {

/// The part of a chain's epilogue that the convolution's kernel applies when results alone are wanted: all of it where
/// nothing follows, and nothing where closing kernels read the result anyway. They wait for memory with many times as
/// many warps, so that the steps cost little there, and much between products (docs/measured-cuda-fusion.md).
inline Epilogue epilogue_of_layer(const Chain& chain) { return chain.closing.empty() ? chain.epilogue : Epilogue{}; }

/// The closing kernels of a chain's plan on CUDA, owned by it.
std::vector<const jit::Kernel*> cuda_chain_kernels(const ChainPlan& plan);
/// The same of its training, forward and backward.
std::vector<const jit::Kernel*> cuda_chain_kernels(const TrainingChain& plan);

}  // namespace upconv
