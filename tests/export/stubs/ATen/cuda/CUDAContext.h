// See ../../cuda_runtime.h.
#pragma once

#include <cuda_runtime.h>

namespace at::cuda {
struct Stream {
  operator cudaStream_t() const;
};
Stream getCurrentCUDAStream(signed char device = -1);
cudaDeviceProp* getCurrentDeviceProperties();
}  // namespace at::cuda
