// See ../../cuda_runtime.h.
#pragma once

#include <c10/core/Device.h>

namespace c10::cuda {
struct CUDAGuard {
  explicit CUDAGuard(Device device);
  ~CUDAGuard();
};
}  // namespace c10::cuda
