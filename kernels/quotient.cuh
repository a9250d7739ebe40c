// Division of places by sizes.
#pragma once

#include "types.cuh"

namespace upconv {

/// Of non-negative numbers; most fit 32 bits, whose division is many times cheaper.
__device__ __forceinline__ i64 quotient(i64 a, i64 b) {
  if (((a | b) >> 32) == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}

}  // namespace upconv
