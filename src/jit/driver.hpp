// libcuda, loaded when first asked for: only what upconv calls, with types of our own so that no CUDA header is needed.
#pragma once

#include <cstddef>
#include <string>

#include "upconv/status.hpp"

namespace upconv::jit {

using CuResult = int;
using CuDevice = int;
using CuContext = void*;
using CuModule = void*;
using CuFunction = void*;
using CuStream = void*;

/// CUlaunchConfig and CUlaunchAttribute of the driver's ABI.
struct CuLaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    struct {
      unsigned x, y, z;
    } cluster;
    int value;
  };
};
struct CuLaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  CuStream stream;
  CuLaunchAttribute* attributes;
  unsigned attribute_count;
};

inline constexpr int cu_attribute_cluster = 4, cu_attribute_programmatic_launch = 6;
inline constexpr int cu_capture_relaxed = 2;

enum class CuDeviceAttribute : int {
  processors = 16,
  shared_per_processor = 81,
  registers_per_processor = 82,
  major = 75,
  minor = 76,
  l2_bytes = 38,
  memory_clock_khz = 36,
  bus_width_bits = 37,
  shared_per_block_optin = 97,
};

enum class CuFunctionAttribute : int {
  static_shared = 1,
  local_bytes = 3,
  registers = 4,
  max_dynamic_shared = 8,
  preferred_carveout = 9,
  wide_clusters = 14,  // more than 8 blocks, which not every GPU has room for
};

struct Driver {
  std::string path;  ///< Of the library that was loaded.
  CuResult (*cuInit)(unsigned);
  CuResult (*cuDriverGetVersion)(int*);
  CuResult (*cuGetErrorString)(CuResult, const char**);
  CuResult (*cuDeviceGetCount)(int*);
  CuResult (*cuDeviceGet)(CuDevice*, int);
  CuResult (*cuDeviceGetName)(char*, int, CuDevice);
  CuResult (*cuDeviceGetAttribute)(int*, int, CuDevice);
  CuResult (*cuDevicePrimaryCtxRetain)(CuContext*, CuDevice);
  CuResult (*cuCtxGetCurrent)(CuContext*);
  CuResult (*cuCtxPushCurrent)(CuContext);
  CuResult (*cuCtxPopCurrent)(CuContext*);
  CuResult (*cuModuleLoadData)(CuModule*, const void*);
  CuResult (*cuModuleUnload)(CuModule);
  CuResult (*cuModuleGetFunction)(CuFunction*, CuModule, const char*);
  CuResult (*cuFuncGetAttribute)(int*, int, CuFunction);
  CuResult (*cuFuncSetAttribute)(CuFunction, int, int);
  CuResult (*cuLaunchKernelEx)(const CuLaunchConfig*, CuFunction, void**, void**);
  CuResult (*cuStreamIsCapturing)(CuStream, int*);
  /// Optional: how this thread's calls get on with graphs that other threads capture.
  CuResult (*cuThreadExchangeStreamCaptureMode)(int*);
  /// Optional (null before 12.0): tensor maps for bulk copies.
  CuResult (*cuTensorMapEncodeTiled)(void* map, int dtype, unsigned rank, void* address,
                                     const unsigned long long* sizes, const unsigned long long* strides,
                                     const unsigned* box, const unsigned* element_strides, int interleave, int swizzle,
                                     int l2_promotion, int out_of_bounds_fill);
};

/// The driver, or why there is none. Loaded once.
const Result<const Driver*>& driver();

/// What NVRTC is asked for: "sm_90a" and "sm_100a" with the instructions of that architecture alone, else "sm_80".
std::string architecture_name(int major, int minor);
Result<std::string> architecture_of(const Driver& driver, int device);

/// "what: the driver's words".
Status driver_error(const Driver& driver, CuResult result, const std::string& what);

/// Makes a device's primary context current until it goes out of scope; nothing when it is already.
class CurrentContext {
 public:
  CurrentContext(const Driver& driver, int device);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  const Driver& driver_;
  bool pushed_ = false;
  Status status_;
};

}  // namespace upconv::jit
