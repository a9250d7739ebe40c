// The activations of a forward pass by themselves, element by element: where gradients are wanted the convolution
// leaves z, and y = epilogue(z) and dz = dy * epilogue'(z) are computed here. Used by exported files
// (docs/exporting.md). Floor: each tensor once through memory.
// Host preamble: Element, epilogue and epilogue_gradient.
#pragma once

#include "types.cuh"

extern "C" __global__ void __launch_bounds__(256)
    activation_forward(const config::Element* __restrict__ z, config::Element* __restrict__ y,
                       const upconv::i64 count) {
  using namespace upconv;
  for (i64 i = i64(blockIdx.x) * 256 + threadIdx.x; i < count; i += i64(gridDim.x) * 256)
    y[i] = from_float<config::Element>(config::epilogue(to_float(z[i])));
}

extern "C" __global__ void __launch_bounds__(256)
    activation_backward(const config::Element* __restrict__ z, const config::Element* __restrict__ dy,
                        config::Element* __restrict__ dz, const upconv::i64 count) {
  using namespace upconv;
  for (i64 i = i64(blockIdx.x) * 256 + threadIdx.x; i < count; i += i64(gridDim.x) * 256)
    dz[i] = from_float<config::Element>(config::epilogue_gradient(to_float(z[i]), to_float(dy[i])));
}
