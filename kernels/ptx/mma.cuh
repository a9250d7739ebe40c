// Warp-level matrix products of sm_80 and up, shared-memory words and predicated global loads, as PTX.
// All are volatile, so that the order written is the order the assembler starts from.
#pragma once

#include "types.cuh"

namespace upconv {

enum class Products { tf32, f16, bf16 };

/// d += a * b: 16 rows, 8 columns, 8 words of depth (8 TF32 numbers, or 16 of 16 bits in pairs).
template <Products P>
__device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if constexpr (P == Products::tf32)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else if constexpr (P == Products::f16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ u32 load_shared(u32 address) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ void load_shared2(u32 address, u32& a, u32& b) {
  asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(address));
}
__device__ __forceinline__ void load_shared4(u32 address, u32& a, u32& b, u32& c, u32& d) {
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(address));
}
__device__ __forceinline__ void store_shared(u32 address, u32 v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v));
}

/// The bits at `p`, or 0 where `ok` is false (nothing is read then).
template <int BYTES>
__device__ __forceinline__ u32 load_or_zero(const void* p, bool ok) {
  u32 v;
  if constexpr (BYTES == 4) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.b32 %0, [%1];}"
                 : "=r"(v)
                 : "l"(p), "r"(static_cast<int>(ok)));
  } else {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=r"(v)
                 : "l"(p), "r"(static_cast<int>(ok)));
  }
  return v;
}

/// Four bytes from global to shared memory, in the background; zero where `ok` is false.
__device__ __forceinline__ void copy_or_zero(u32 address, const void* p, bool ok) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(p), "r"(ok ? 4 : 0));
}
/// Waits for all copies that this thread began.
__device__ __forceinline__ void wait_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// threadIdx.x, read anew each time: what is computed from it is not kept in registers across a loop.
__device__ __forceinline__ int fresh_thread() {
  u32 t;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
  return static_cast<int>(t);
}

/// All threads of the block: what each wrote to shared memory before is seen by all after.
__device__ __forceinline__ void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

}  // namespace upconv
