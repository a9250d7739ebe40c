// Adds the partial sums that the blocks of weight_mma.cuh left in the workspace, in order, and writes dw.
// Host side: src/cuda/weight_mma.cpp. Floor: the bytes of the partial sums.
#include "mma/weight_element.cuh"

namespace upconv {

/// dw = the partial sums in order: 32 elements a block, eight threads an element.
extern "C" __global__ void __launch_bounds__(256) weight_sum(const float* partial, void* dw, i64 size, int splits) {
  __shared__ float part[8][33];
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const i64 at = static_cast<i64>(blockIdx.x) * 32 + lane;
  const int each = (splits + 7) / 8, begin = slice * each, end = begin + each < splits ? begin + each : splits;
  float sum = 0.0f;
  if (at < size)
#pragma unroll 8
    for (int s = begin; s < end; ++s) sum += partial[s * size + at];
  part[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || at >= size) return;
#pragma unroll
  for (int i = 1; i < 8; ++i) sum += part[i][lane];
  static_cast<Element*>(dw)[at] = from_float<Element>(sum);
}

}  // namespace upconv
