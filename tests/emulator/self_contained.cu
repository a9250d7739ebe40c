// A text as a user would compile it, kernels and the host code that launches them, run on the CPU by way of
// upconv_emulate (tests/CMakeLists.txt): arguments by value, dynamic and static shared memory, inline PTX, a tensor map
// by the driver's function, errors.
#include <cuda_runtime.h>

#include <cstdio>
#include <vector>

namespace own {

struct Arguments {
  const float* from;
  float* to;
  int count;
};

template <class T>
__device__ __forceinline__ T twice(T v) {
  return v + v;
}

/// to[i] = 2 * from[i ^ 1] + the block's number.
__global__ void __launch_bounds__(64) exchange(const Arguments a, int limit) {
  extern __shared__ __align__(16) float values[];
  __shared__ int number;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x == 0) number = blockIdx.x;
  values[threadIdx.x] = i < a.count ? a.from[i] : 0.f;
  __syncthreads();
  float v;
  asm("mov.b32 %0, %1;" : "=f"(v) : "r"(__float_as_uint(values[(threadIdx.x ^ 1) % limit])));
  if (i < a.count) a.to[i] = twice(v) + number;
}

struct alignas(64) Map {
  unsigned long long opaque[16];
};

/// Four lines of eight numbers, zero outside of the tensor.
__global__ void __launch_bounds__(32) box(const __grid_constant__ Map map, int x, int y, float* to) {
  __shared__ __align__(128) float values[32];
  __shared__ __align__(8) unsigned long long barrier;
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 128;" ::"r"(at) : "memory");
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            static_cast<unsigned>(__cvta_generic_to_shared(values))),
        "l"(&map), "r"(x), "r"(y), "r"(at)
        : "memory");
  }
  __syncwarp();
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], 0;\n"
      "@!done bra again;}" ::"r"(at)
      : "memory");
  to[threadIdx.x] = values[threadIdx.x];
}

}  // namespace own

static bool boxes_are_right() {
  typedef int (*Encode)(void*, int, unsigned, const void*, const unsigned long long*, const unsigned long long*,
                        const unsigned*, const unsigned*, int, int, int, int);
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess)
    return false;
  alignas(16) static float tensor[6][12];
  for (int i = 0; i < 72; ++i) tensor[i / 12][i % 12] = 1.f + i;
  std::vector<float> to(32, -1.f);
  const unsigned long long sizes[] = {12, 6}, strides[] = {48};
  const unsigned box[] = {8, 4}, steps[] = {1, 1};
  own::Map map;
  if (reinterpret_cast<Encode>(found)(&map, 7, 2, tensor, sizes, strides, box, steps, 0, 0, 2, 0) != 0) return false;
  int x = 8, y = -1;
  float* p = to.data();
  void* arguments[] = {&map, &x, &y, &p};
  if (cudaLaunchKernel(own::box, dim3(1), dim3(32), arguments) != cudaSuccess) return false;
  for (int i = 0; i < 32; ++i) {
    const int r = i / 8 + y, c = i % 8 + x;
    if (to[i] != (r >= 0 && c < 12 ? 1.f + 12 * r + c : 0.f)) return false;
  }
  return true;
}

static cudaError_t launch(const float* from, float* to, int count, int shared_bytes) {
  own::Arguments a{from, to, count};
  int limit = 64;
  void* arguments[] = {&a, &limit};
  return cudaLaunchKernel(reinterpret_cast<const void*>(own::exchange), dim3((count + 63) / 64), dim3(64), arguments,
                          shared_bytes, nullptr);
}

int main() {
  std::vector<float> from(130), to(130, -1.f);
  for (int i = 0; i < 130; ++i) from[i] = float(i);
  if (cudaFuncSetAttribute(own::exchange, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000) != cudaSuccess) return 1;
  if (launch(from.data(), to.data(), 130, 256) != cudaSuccess) return 2;
  for (int i = 0; i < 130; ++i)
    if (to[i] != 2.f * float(i ^ 1) + float(i / 64)) {
      std::printf("element %d is %g\n", i, to[i]);
      return 3;
    }
  if (!boxes_are_right()) return 6;
  const cudaError_t error = launch(from.data(), to.data(), 130, 128);  // half of what the kernel uses
  std::printf("as it should fail: %s\n", cudaGetErrorString(error));
  if (error == cudaSuccess) return 4;
  return launch(from.data(), to.data(), 130, 70000) == cudaSuccess ? 5 : 0;  // more than it was allowed
}
