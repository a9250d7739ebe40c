// Hopper's own instructions (sm_90a): barriers in shared memory that count arrivals and bytes, bulk tensor copies, and
// what surrounds a warpgroup's products. The products themselves are written by the host (src/cuda/wgmma_text.hpp).
#pragma once

#include "arguments/tensor_map.cuh"
#include "types.cuh"

namespace upconv {

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(u32 b, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(b), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(u32 b) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(b) : "memory");
}
/// Without a branch: the assembler makes products wait for one another where one lies between them.
__device__ __forceinline__ void barrier_arrive_if(bool arrives, u32 b) {
  asm volatile(
      "{.reg .pred arrives; setp.ne.b32 arrives, %1, 0;\n@arrives mbarrier.arrive.shared.b64 _, [%0];}" ::"r"(b),
      "r"(static_cast<int>(arrives))
      : "memory");
}
/// Arrives, and has the barrier wait for `bytes` of bulk copies too.
__device__ __forceinline__ void barrier_expect(u32 b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
/// Has the barrier wait for `bytes` of bulk copies, without arriving.
__device__ __forceinline__ void barrier_expect_only(u32 b, int bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
/// 4, 8 or 16 bytes to shared memory in the background, zeros where `inside` is false (nothing is read then).
template <int bytes>
__device__ __forceinline__ void copy_async(u32 to, const void* from, bool inside) {
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(inside ? bytes : 0),
                 "n"(bytes)
                 : "memory");
}
/// 16 bytes through the L1: where the two halves of a sector of 32 bytes go to places apart, it is asked for once.
__device__ __forceinline__ void copy_async_cached(u32 to, const void* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
/// The first `count` of 4 bytes, then zeros; with count 0 nothing is read.
__device__ __forceinline__ void copy_word_async(u32 to, const void* from, int count) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(count) : "memory");
}
/// Where `wanted`: 16 bytes from memory, or zeros.
__device__ __forceinline__ void copy_async_if(bool wanted, u32 to, const void* from, bool inside) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %3, 0;\n@wanted cp.async.cg.shared.global [%0], [%1], 16, %2;}" ::"r"(
          to),
      "l"(from), "r"(inside ? 16 : 0), "r"(static_cast<int>(wanted))
      : "memory");
}
/// Arrives when the cp.async copies of this thread so far have ended.
__device__ __forceinline__ void barrier_arrive_after_copies(u32 b) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(b) : "memory");
}
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
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
/// The named barrier `id` of `threads` threads.
__device__ __forceinline__ void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Counts as this thread's arrival at a named barrier, without waiting.
__device__ __forceinline__ void arrive_only(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Orders plain writes to shared memory before reads by products and bulk copies.
__device__ __forceinline__ void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// A box of a tensor of five dimensions, zeros where it lies outside. `to` is a multiple of 128.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int w, int h, int d,
                                         int c, int n) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(w), "r"(h), "r"(d), "r"(c), "r"(n)
      : "memory");
}

/// The same of a tensor of two dimensions.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

/// The same of a tensor of three dimensions.
__device__ __forceinline__ void copy_box(u32 to, const arguments::TensorMap* map, u32 barrier, int column, int row,
                                         int plane) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(plane)
      : "memory");
}

/// `bytes` that lie together, a multiple of 16 as both addresses are.
__device__ __forceinline__ void copy_bytes(u32 to, const void* from, int bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
/// Keeps reads of a product's sums behind the wait for it.
template <int count>
__device__ __forceinline__ void hold(float (&sums)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

/// Keeps what a product reads from being worked out between it and the products before.
template <int count>
__device__ __forceinline__ void hold(u32 (&words)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(words[i])::"memory");
}

/// An operand of a product without swizzle. With its depth contiguous: core matrices of 8 rows x 16 bytes, `depth`
/// bytes between neighbours in depth, `rows` between neighbours in rows. With its rows contiguous (16-bit types): core
/// matrices of 8 depths x 16 bytes, the same distances. It may start at any multiple of 16 bytes.
__device__ __forceinline__ constexpr u64 descriptor(u32 depth, u32 rows) {
  return u64(rows >> 4) << 32 | (depth >> 4) << 16;
}
/// The same with its rows contiguous, 64 of them in 128 bytes, whose pieces of 16 change places as bulk copies leave
/// them: eight depths are 1024 bytes, `rows` bytes between neighbours of 64 rows. It starts at a multiple of 1024.
__device__ __forceinline__ constexpr u64 swizzled_descriptor(u32 rows) {
  return u64(1) << 62 | u64(1024 >> 4) << 32 | (rows >> 4) << 16;
}
/// An operand with its depth contiguous, rows of 128 bytes, swizzled alike: eight rows are 1024 bytes. It starts at a
/// multiple of 1024, or 32, 64 or 96 bytes behind one.
__device__ __forceinline__ constexpr u64 row_descriptor() { return swizzled_descriptor(16); }
/// An address of this block as descriptors count it. (In a cluster it may have bits that say whose it is.)
__device__ __forceinline__ u32 units_of(u32 address) { return (address & 0x3ffff) >> 4; }

/// B of a product: core matrices of 8 x 16 bytes without swizzle, `step_k` bytes between neighbours in k, 128 between
/// neighbours in n. `units` is its address in units of 16 bytes.
template <u32 step_k>
__device__ __forceinline__ u64 b_descriptor(u32 units) {
  return u64(128 >> 4) << 32 | (step_k >> 4) << 16 | units;
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
/// What pack_bf16's two numbers left over, packed.
__device__ __forceinline__ u32 pack_rest(float first, float second, u32 high) {
  return pack_bf16(first - __uint_as_float(high << 16), second - __uint_as_float(high & 0xffff0000u));
}

/// Four matrices of 8 x 8 16-bit numbers, turned: lane i has the address of row i % 8 of matrix i / 8; of each matrix a
/// lane gets rows 2 * (i % 4) and the next, column i / 4.
__device__ __forceinline__ void load_turned(u32 address, u32 (&v)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}
/// The same numbers as rows: lane i has the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void store_matrices(u32 address, const u32 (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v[0]), "r"(v[1]),
               "r"(v[2]), "r"(v[3])
               : "memory");
}

/// Of this block among those of its cluster, and the address of what lies at `address` of block `rank`.
__device__ __forceinline__ int rank_in_cluster() {
  u32 r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return static_cast<int>(r);
}
__device__ __forceinline__ u32 address_in(int rank, u32 address) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}
__device__ __forceinline__ float4 load_quad_in_cluster(u32 address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
/// Four numbers to a block of the cluster in the background, whose barrier counts their 16 bytes; both addresses are of
/// that block.
__device__ __forceinline__ void send_quad(u32 to, const float4& v, u32 barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
      : "memory");
}
/// The sum of what lies at `address` of each of the cluster's `blocks` blocks, always added in their order.
template <int blocks>
__device__ __forceinline__ float4 add_quads_in_cluster(u32 address) {
  float4 sum = load_quad_in_cluster(address_in(0, address));
#pragma unroll
  for (int rank = 1; rank < blocks; ++rank) {
    const float4 v = load_quad_in_cluster(address_in(rank, address));
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  return sum;
}
/// All threads of all blocks of the cluster meet; what they wrote to shared memory is seen, and what they wanted of it
/// is read: the arrival must be a release. Past a relaxed one ptxas leaves loads from other blocks on their way, and
/// those may be gone by then.
__device__ __forceinline__ void meet_cluster() {
  __syncwarp();  // both instructions want whole warps
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ u32 load_word(u32 address) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ u32 load_half(u32 address) {
  u16 v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ void load(u32 address, u16& v) {
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, u32& v) {
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, uint2& v) {
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
}
__device__ __forceinline__ void load(u32 address, uint4& v) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
}
/// 16 or 8 bytes to global memory, without a branch.
__device__ __forceinline__ void store_global_if(bool wanted, void* to, const u32 (&v)[4]) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %5, 0;\n@wanted st.global.v4.b32 [%0], {%1, %2, %3, %4};}" ::"l"(to),
      "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(static_cast<int>(wanted))
      : "memory");
}
__device__ __forceinline__ void store_global_if(bool wanted, void* to, u32 x, u32 y) {
  asm volatile("{.reg .pred wanted; setp.ne.b32 wanted, %3, 0;\n@wanted st.global.v2.b32 [%0], {%1, %2};}" ::"l"(to),
               "r"(x), "r"(y), "r"(static_cast<int>(wanted))
               : "memory");
}
__device__ __forceinline__ void store_word(u32 address, u32 v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
__device__ __forceinline__ void store_pair(u32 address, u32 x, u32 y) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void store_quad(u32 address, u32 x, u32 y, u32 z, u32 w) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

}  // namespace upconv
