// Tensor maps, which the driver makes. Called by the hosts of kernels that copy boxes of tensors in bulk, through
// src/cuda/launching.hpp, once a launch: that takes some hundred nanoseconds and no device.
#pragma once

#include "launch/tensor_map.hpp"
#include "upconv/status.hpp"

namespace upconv::jit {

/// The map of `boxes` on `device`: invalid_argument with the rule that it breaks, unavailable without a driver of
/// CUDA 12.
Result<arguments::TensorMap> encode_tensor_map(int device, const launch::TensorBoxes& boxes);

}  // namespace upconv::jit
