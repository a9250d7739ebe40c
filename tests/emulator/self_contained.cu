// A text as a user would compile it, kernels and the host code that launches them, run on the CPU by way of
// upconv_emulate (tests/CMakeLists.txt): arguments by value, dynamic and static shared memory, inline PTX, errors.
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

}  // namespace own

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
  const cudaError_t error = launch(from.data(), to.data(), 130, 128);  // half of what the kernel uses
  std::printf("as it should fail: %s\n", cudaGetErrorString(error));
  if (error == cudaSuccess) return 4;
  return launch(from.data(), to.data(), 130, 70000) == cudaSuccess ? 5 : 0;  // more than it was allowed
}
