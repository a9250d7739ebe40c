// dw from the sums that the splits of implicit_gemm_weight.cuh left as [split][tap][ci][co]: adds them up in order and
// writes [ci][co][tap], or [ci][tap][co] where dw has its channels last. Host side: src/cuda/implicit_gemm_weight.cpp.
// A block has COLUMNS co of one ci. Floor: the bytes of the sums.
#include "mma/weight_element.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

using namespace config;

constexpr int parts = (CO + COLUMNS - 1) / COLUMNS;
/// Of a co and of a tap in shared memory: as in dw, but neighbouring co lie in different banks.
constexpr int co_pitch = w_last ? 1 : TAPS | 1, tap_pitch = w_last ? COLUMNS : 1;
static_assert(CO % 8 == 0 && COLUMNS % 8 == 0, "sums are read by fours");

constexpr int quads = TAPS * (COLUMNS / 4), lanes = 256 / SLICES;  ///< SLICES threads share the splits of four sums.

__device__ __forceinline__ void add(float4& sum, const float4& v) {
  sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
}

extern "C" __global__ void __launch_bounds__(256) implicit_gemm_weight_sum(const float* sums, void* dw, int splits) {
  let_next_begin();
  __shared__ float turned[w_last ? COLUMNS * TAPS : COLUMNS * co_pitch];
  __shared__ float4 shares[SLICES][SLICES > 1 ? lanes : 1];
  const i64 ci = blockIdx.x / parts, size = static_cast<i64>(TAPS) * CHANNELS * CO;
  const int co0 = static_cast<int>(blockIdx.x % parts) * COLUMNS;
  const int columns = COLUMNS < CO - co0 ? COLUMNS : CO - co0;
  const int lane = threadIdx.x % lanes, slice = threadIdx.x / lanes;
  const int each = (splits + SLICES - 1) / SLICES, begin = slice * each;
  const int end = begin + each < splits ? begin + each : splits;
  after_previous();
  for (int first = 0; first < quads; first += lanes) {
    const int i = first + lane, tap = i / (COLUMNS / 4), co = i % (COLUMNS / 4) * 4;
    const bool real = i < quads && co < columns;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (real) {
      const float* from = sums + (static_cast<i64>(tap) * CHANNELS + ci) * CO + co0 + co;
#pragma unroll 8
      for (int s = begin; s < end; ++s) add(sum, *reinterpret_cast<const float4*>(from + s * size));
    }
    if constexpr (SLICES > 1) {
      __syncthreads();
      shares[slice][lane] = sum;
      __syncthreads();
#pragma unroll
      for (int s = 1; s < SLICES; ++s)
        if (slice == 0) add(sum, shares[s][lane]);
    }
    if (!real || slice != 0) continue;
    float* const to = turned + co * co_pitch + tap * tap_pitch;
    to[0] = sum.x, to[co_pitch] = sum.y, to[2 * co_pitch] = sum.z, to[3 * co_pitch] = sum.w;
  }
  __syncthreads();
  Element* const to = static_cast<Element*>(dw) + ci * CO * TAPS;
  for (int i = threadIdx.x; i < columns * TAPS; i += 256) {
    const int co = w_last ? i % columns : i / TAPS, tap = w_last ? i / columns : i % TAPS;
    to[w_last ? tap * CO + co0 + co : (co0 + co) * TAPS + tap] =
        from_float<Element>(turned[co * co_pitch + tap * tap_pitch]);
  }
}

}  // namespace upconv
