// Adds the partial sums that the blocks of weight_mma.cuh left in the workspace, in order, and writes dw.
// Host side: src/cuda/weight_mma.cpp. Floor: the bytes of the partial sums.
#include "mma/weight_element.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

using namespace config;

constexpr int lanes = 256 / SLICES;  ///< Of a block; SLICES threads share the partial sums of VECTOR elements.

struct alignas(VECTOR * sizeof(float)) Partial {
  float v[VECTOR];
};
struct alignas(VECTOR * sizeof(Element)) Total {
  Element v[VECTOR];
};

extern "C" __global__ void __launch_bounds__(256) weight_sum(const float* partial, void* dw, i64 size, int splits) {
  let_next_begin();
  __shared__ float part[SLICES][lanes * VECTOR + 1];
  const int lane = threadIdx.x % lanes, slice = threadIdx.x / lanes;
  const i64 at = (static_cast<i64>(blockIdx.x) * lanes + lane) * VECTOR;
  const int each = (splits + SLICES - 1) / SLICES, begin = slice * each;
  const int end = begin + each < splits ? begin + each : splits;
  float sum[VECTOR] = {};
  after_previous();
  if (at < size)
#pragma unroll 8
    for (int s = begin; s < end; ++s) {
      const Partial share = *reinterpret_cast<const Partial*>(partial + s * size + at);
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) sum[i] += share.v[i];
    }
  if constexpr (SLICES > 1) {
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) part[slice][lane * VECTOR + i] = sum[i];
    __syncthreads();
    if (slice != 0) return;
#pragma unroll
    for (int s = 1; s < SLICES; ++s)
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) sum[i] += part[s][lane * VECTOR + i];
  }
  if (at >= size) return;
  Element* const to = static_cast<Element*>(dw) + at;
  Total total;
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) total.v[i] = from_float<Element>(sum[i]);
  if (reinterpret_cast<u64>(dw) % sizeof(Total) == 0) {
    *reinterpret_cast<Total*>(to) = total;
  } else {
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) to[i] = total.v[i];
  }
}

}  // namespace upconv
