// A torch tensor as the engine wants it: dense, aligned to its element, channels first or last.
// Called by every operator before it looks up a plan; copies only what is neither.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include "upconv/plan.hpp"
#include "upconv/problem.hpp"

namespace upconv::binding {

struct Operand {
  torch::stable::Tensor tensor;
  Layout layout;
};

/// torch's own choice of memory format for a result, made from the strides of an operand.
/// 1-D tensors are always channels first.
Layout suggested_layout(const torch::stable::Tensor& tensor);

/// The tensor itself when it is dense in `preferred` or in the other layout, else a copy in `preferred`.
Operand dense(const torch::stable::Tensor& tensor, Layout preferred);

/// Uninitialised memory from torch's allocator of that device.
torch::stable::Tensor allocate(const std::int64_t* sizes, int dims, Layout layout, DType dtype, Device device);

/// Where a tensor lies. Throws for a device that upconv has no engine for.
Device device_of(const torch::stable::Tensor& tensor);

/// Sizes are given by the caller in (N, C, *spatial) order whatever the layout.
DType dtype_of(const char* operator_name, const char* tensor_name, const torch::stable::Tensor& tensor);

}  // namespace upconv::binding
