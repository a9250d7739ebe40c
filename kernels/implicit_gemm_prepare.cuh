// The weights of implicit_gemm.cuh as its B operand: [group][tap][result channel][source channel], source channels
// contiguous and as many as whole stages have (zeros behind the last), fp32 rounded to TF32. Floor: w read and written
// once. Host side: src/cuda/implicit_gemm.cpp.
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

constexpr int side = 64, prepare_threads = 256;
constexpr int columns_of_group = N * TAPS, column_tiles = (columns_of_group + side - 1) / side;

template <class T>
__device__ __forceinline__ T prepared(T v) {
  if constexpr (sizeof(T) == 4) return __uint_as_float(round_tf32(v));
  return v;
}

/// A block turns 64 source channels of 64 (result channel, tap), which lie in w's own order. Strides in elements.
extern "C" __global__ void __launch_bounds__(prepare_threads)
    implicit_gemm_prepare(const Element* w, Element* out, i64 w_k, i64 w_n, i64 w_tap, i64 w_group) {
  __shared__ Element turned[side][side + 4 / sizeof(Element)];
  int tile = blockIdx.x;
  const int column0 = tile % column_tiles * side;
  tile /= column_tiles;
  const int k0 = tile % (K_PADDED / STAGE_K) * STAGE_K, group = tile / (K_PADDED / STAGE_K);
  const auto channel = [](int column) { return WEIGHT_LAST ? column % N : column / TAPS; };
  const auto tap = [](int column) { return WEIGHT_LAST ? column / N : column % TAPS; };
  for (int i = threadIdx.x; i < STAGE_K * side; i += prepare_threads) {
    const int column = column0 + i % side, k = k0 + i / side;
    Element v{};
    if (column < columns_of_group && k < K)
      v = w[group * w_group + k * w_k + channel(column) * w_n + tap(column) * w_tap];
    turned[i % side][i / side] = prepared(v);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < STAGE_K * side; i += prepare_threads) {
    const int column = column0 + i / STAGE_K;
    if (column >= columns_of_group) break;
    out[((i64(group) * TAPS + tap(column)) * N + channel(column)) * K_PADDED + k0 + i % STAGE_K] =
        turned[i / STAGE_K][i % STAGE_K];
  }
}

}  // namespace upconv
