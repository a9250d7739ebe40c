// Waiting for copies to shared memory, and words of it. (What starts a copy is in weight_copy.cuh and, for kernels of
// sm_90a, in warpgroup.cuh.)
#pragma once

#include "types.cuh"

namespace upconv {

__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `Pending` groups of this thread are under way.
template <int Pending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

__device__ __forceinline__ u16 load_bits16(const char* from) {
  u16 v;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(from));
  return v;
}
__device__ __forceinline__ void store_bits16(u32 to, u16 v) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
}
__device__ __forceinline__ void load_quad(u32 (&v)[4], u32 from) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(from));
}
/// Of 2 bytes or 4.
template <int bytes>
__device__ __forceinline__ void store_zero(u32 to) {
  if constexpr (bytes == 2)
    store_bits16(to, 0);
  else
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(0) : "memory");
}
__device__ __forceinline__ void store_zero_quad(u32 to) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
}

}  // namespace upconv
