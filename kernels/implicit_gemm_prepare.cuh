// The weights of implicit_gemm.cuh as its B operand, where w is not: [tap][result channel of all groups][source
// channel], source channels contiguous and as many as whole stages have (zeros behind the last), fp32 rounded to TF32.
// Floor: w read and written once. Host side: src/cuda/implicit_gemm.cpp.
#include "ptx/dependents.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

constexpr int side = 64, prepare_threads = 256, each = STAGE_K * side / prepare_threads;
constexpr int columns_of_group = N * TAPS, column_tiles = (columns_of_group + side - 1) / side;

__device__ __forceinline__ float prepared(float v) { return __uint_as_float(round_tf32(v)); }
template <class Half>
__device__ __forceinline__ Half prepared(Half v) {
  return v;
}

/// A block turns STAGE_K source channels of 64 (result channel, tap), which lie in w's own order. Strides in elements.
extern "C" __global__ void __launch_bounds__(prepare_threads)
    implicit_gemm_prepare(const Element* w, Element* out, i64 w_k, i64 w_n, i64 w_tap, i64 w_group) {
  let_next_begin();
  __shared__ Element turned[side][STAGE_K + 4 / sizeof(Element)];
  int tile = blockIdx.x;
  const int column0 = tile % column_tiles * side;
  tile /= column_tiles;
  const int k0 = tile % (K_PADDED / STAGE_K) * STAGE_K, group = tile / (K_PADDED / STAGE_K);
  const auto channel = [](int column) { return WEIGHT_LAST ? column % N : column / TAPS; };
  const auto tap = [](int column) { return WEIGHT_LAST ? column / N : column % TAPS; };
  {
    const int column = column0 + threadIdx.x % side, row = threadIdx.x / side;
    const Element* from = w + group * w_group + channel(column) * w_n + tap(column) * w_tap;
    after_previous();
    Element v[each];
#pragma unroll
    for (int i = 0; i < each; ++i) {  // all asked for before any is waited for
      const int k = k0 + row + i * (prepare_threads / side);
      v[i] = column < columns_of_group && k < K ? from[k * w_k] : Element{};
    }
#pragma unroll
    for (int i = 0; i < each; ++i) turned[threadIdx.x % side][row + i * (prepare_threads / side)] = prepared(v[i]);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const int at = threadIdx.x + i * prepare_threads, column = column0 + at / STAGE_K;
    if (column < columns_of_group)
      out[((i64(tap(column)) * GROUPS + group) * N + channel(column)) * K_PADDED + k0 + at % STAGE_K] =
          turned[at / STAGE_K][at % STAGE_K];
  }
}

}  // namespace upconv
