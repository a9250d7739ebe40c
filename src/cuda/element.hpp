// The device's name of a dtype; kernels/types.cuh defines the 16-bit ones.
#pragma once

#include "upconv/problem.hpp"

namespace upconv::cuda {

inline const char* device_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float";
    case DType::f64:
      return "double";
    case DType::f16:
      return "upconv::f16";
    case DType::bf16:
      return "upconv::bf16";
  }
  return "";
}

/// Bytes of the accumulator of a dtype.
inline std::int64_t sum_bytes(DType dtype) { return dtype == DType::f64 ? 8 : 4; }

}  // namespace upconv::cuda
