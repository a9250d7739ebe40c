// What blocks hand to one another while they run: counters, and loads that no L1 answers with what it held before.
#pragma once

#include "types.cuh"

namespace upconv {

__device__ __forceinline__ int load_relaxed(const int* p) {
  int v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
/// From the L2. By `T` of 2, 4 or 16 bytes.
template <class T>
__device__ __forceinline__ T load_far(const T* p) {
  T v;
  if constexpr (sizeof(T) == 16) {
    u32(&w)[4] = reinterpret_cast<u32(&)[4]>(v);
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                 : "l"(p)
                 : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(reinterpret_cast<u32&>(v)) : "l"(p) : "memory");
  } else {
    static_assert(sizeof(T) == 2);
    asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(reinterpret_cast<u16&>(v)) : "l"(p) : "memory");
  }
  return v;
}
/// 16 bytes that nobody reads soon: the first that the cache gives up.
template <class T>
__device__ __forceinline__ void store_last(T* p, const T& v) {
  static_assert(sizeof(T) == 16);
  const u32(&w)[4] = reinterpret_cast<const u32(&)[4]>(v);
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
               : "memory");
}

}  // namespace upconv
