// Adds the partial sums that the blocks of weight_mma.cuh left in the workspace, in order, and writes dw.
// Host side: src/cuda/weight_mma.cpp. Floor: the bytes of the partial sums.
#include "mma/weight_element.cuh"

namespace upconv {

using namespace config;

constexpr int elements = 256 / SLICES;  ///< Of a block; SLICES threads share the partial sums of one.

extern "C" __global__ void __launch_bounds__(256) weight_sum(const float* partial, void* dw, i64 size, int splits) {
  __shared__ float part[SLICES][elements + 1];
  const int lane = threadIdx.x % elements, slice = threadIdx.x / elements;
  const i64 at = static_cast<i64>(blockIdx.x) * elements + lane;
  const int each = (splits + SLICES - 1) / SLICES, begin = slice * each;
  const int end = begin + each < splits ? begin + each : splits;
  float sum = 0.0f;
  if (at < size)
#pragma unroll 8
    for (int s = begin; s < end; ++s) sum += partial[s * size + at];
  if constexpr (SLICES > 1) {
    part[slice][lane] = sum;
    __syncthreads();
    if (slice != 0) return;
#pragma unroll
    for (int i = 1; i < SLICES; ++i) sum += part[i][lane];
  }
  if (at < size) static_cast<Element*>(dw)[at] = from_float<Element>(sum);
}

}  // namespace upconv
