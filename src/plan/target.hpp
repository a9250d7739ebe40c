// What the CUDA candidates know about a GPU: the limits that make a configuration legal and the rates that make it
// fast. Filled from the driver for a real device, from data sheets and measurements for a model of one.
#pragma once

#include <string>

#include "upconv/status.hpp"

namespace upconv {

struct CudaTarget {
  int device = -1;                ///< Driver ordinal; -1 for a model, which cannot run.
  std::string name;               ///< "NVIDIA H200", or "a model of sm_90a".
  int major = 9, minor = 0;       ///< Compute capability.
  int processors = 132;           ///< Streaming multiprocessors.
  int shared_per_block = 232448;  ///< Bytes of dynamic shared memory a block may ask for.
  int shared_per_processor = 233472;
  int registers_per_processor = 65536;
  int l2_bytes = 50 << 20;
  double bytes_per_second = 4.28e12;  ///< A copy's rate, reads and writes counted.
  double tf32_flops = 364e12, half_flops = 787e12, fp32_flops = 51e12, fp64_flops = 60e12;

  /// What NVRTC is asked for: "sm_90a", "sm_100a" with the architecture's own instructions, else "sm_80".
  [[nodiscard]] std::string architecture() const;
  [[nodiscard]] int capability() const { return 10 * major + minor; }
  /// Clusters of `blocks` blocks that run at once where a block takes a multiprocessor.
  [[nodiscard]] int clusters(int blocks) const;
};

/// The GPU numbered `device`, asked of the driver once. Unavailable without a driver or such a device.
Result<const CudaTarget*> cuda_target(int device);

/// A model of an architecture (80, 89, 90, 100, 120), for planning without a GPU.
Result<const CudaTarget*> cuda_target_model(int architecture);

}  // namespace upconv
