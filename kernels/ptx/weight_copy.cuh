// Copies from global to shared memory that run while the block computes, with zeros in place of what is outside a
// tensor.
#pragma once

#include "ptx/weight_words.cuh"

namespace upconv {

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

/// `Bytes` is 4, 8 or 16, and both addresses are multiples of it. Writes zeros where `inside` is false.
template <int Bytes>
__device__ __forceinline__ void copy_async(u32 to, const char* from, bool inside) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  const int bytes = inside ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(bytes), "n"(Bytes)
                 : "memory");
}

}  // namespace upconv
