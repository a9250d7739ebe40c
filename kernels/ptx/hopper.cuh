// What sm_90a adds, as PTX: mbarriers, warpgroup products in the background, copies that tell an mbarrier.
#pragma once

#include "types.cuh"

namespace upconv::hopper {

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(u32 b, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(b), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u32 b) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(b) : "memory");
}
__device__ __forceinline__ void barrier_wait(u32 b, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:}" ::"r"(b),
      "r"(parity)
      : "memory");
}
/// Arrives when the copies that this thread has begun have ended.
__device__ __forceinline__ void barrier_arrive_after_copies(u32 b) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(b) : "memory");
}

/// A barrier of `threads` threads of the block; 0 is __syncthreads.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Makes what this thread has written to shared memory visible to wgmma.
__device__ __forceinline__ void fence_for_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// `bytes` (4, 8, 16) to shared memory in the background; of the source only `take` bytes, zeros behind them.
template <int bytes>
__device__ __forceinline__ void copy_async(u32 to, const void* from, int take) {
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(take) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(bytes), "r"(take)
                 : "memory");
}

/// A matrix of core matrices of 8 x 16 bytes without swizzle: `leading` bytes between neighbours in depth, 128 between
/// neighbours in columns. It may start at any multiple of 16 bytes.
__device__ __forceinline__ unsigned long long descriptor(u32 address, u32 leading) {
  return static_cast<unsigned long long>((address & 0x3ffff) >> 4) |
         static_cast<unsigned long long>(leading >> 4) << 16 | static_cast<unsigned long long>(128 >> 4) << 32;
}
__device__ __forceinline__ void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ u32 round_tf32(float v) {
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ u32 pack_bf16(float first, float second) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}
/// What two numbers keep when their bf16 in `packed` are taken away.
__device__ __forceinline__ u32 pack_rest(float first, float second, u32 packed) {
  return pack_bf16(first - __uint_as_float(packed << 16), second - __uint_as_float(packed & 0xffff0000u));
}

}  // namespace upconv::hopper
