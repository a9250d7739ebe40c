// What a mean over one dimension of a transposed convolution's result needs of x: for every tap the sum of x over the
// positions that the tap takes inside the result, and its gradient (docs/fusion.md). x is (outer, length, inner), the
// sums are (outer, TAPS, inner). In blocks as launch/tap_sums.hpp says. Where an exported file needs it, it brings its own.
// Host preamble: Element, TAPS, STRIDE, PADDING, DILATION. Floor: the bytes of x, read (the gradient: written) once.
#include "types.cuh"

namespace upconv {

/// The positions [low, high) of x that a tap takes to [0, size).
struct TapRange {
  i64 low, high;
  __device__ __forceinline__ TapRange(int tap, i64 length, i64 size) {
    const i64 offset = i64(config::DILATION) * tap - config::PADDING, last = size - 1 - offset;
    low = offset < 0 ? (-offset + config::STRIDE - 1) / config::STRIDE : 0;
    if (low > length) low = length;
    high = last < 0 ? 0 : last / config::STRIDE + 1;
    if (high > length) high = length;
    if (high < low) high = low;
  }
  __device__ __forceinline__ bool holds(i64 at) const { return at >= low && at < high; }
};

/// LANES neighbouring threads make the sums of one (outer, inner): all of a warp where inner is short, else one.
template <int LANES>
__device__ __forceinline__ void sum_taps(const config::Element* __restrict__ x, config::Element* __restrict__ out,
                                         i64 outer, i64 length, i64 inner, i64 size, float scale) {
  constexpr int ahead = 8;
  const int lane = static_cast<int>(threadIdx.x % LANES);
  const i64 by = i64(gridDim.x) * blockDim.x / LANES;
  i64 low = 0, high = length;  // what all taps share
#pragma unroll
  for (int t = 0; t < config::TAPS; ++t) {
    const TapRange r(t, length, size);
    if (r.low > low) low = r.low;
    if (r.high < high) high = r.high;
  }
  if (low >= high) low = high = length;
  for (i64 item = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / LANES; item < outer * inner; item += by) {
    const config::Element* from = x + item / inner * length * inner + item % inner;
    float shared = 0.0f, own[config::TAPS] = {};
    i64 at = low + lane;
    for (; at + (ahead - 1) * LANES < high; at += ahead * LANES) {
      float v[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) v[k] = to_float(from[(at + k * LANES) * inner]);
      shared += ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    for (; at < high; at += LANES) shared += to_float(from[at * inner]);
    for (int end = 0; end < 2; ++end)
      for (at = (end ? high : 0) + lane; at < (end ? length : low); at += LANES) {
        const float v = to_float(from[at * inner]);
#pragma unroll
        for (int t = 0; t < config::TAPS; ++t)
          if (TapRange(t, length, size).holds(at)) own[t] += v;
      }
#pragma unroll
    for (int t = 0; t < config::TAPS; ++t) {
      own[t] += shared;
#pragma unroll
      for (int apart = LANES / 2; apart > 0; apart /= 2) own[t] += __shfl_xor_sync(0xffffffffu, own[t], apart);
      if (lane == 0)
        out[(item / inner * config::TAPS + t) * inner + item % inner] = from_float<config::Element>(own[t] * scale);
    }
  }
}

}  // namespace upconv

/// In blocks of a multiple of 32 threads.
extern "C" __global__ void __launch_bounds__(256)
    tap_sums(const config::Element* __restrict__ x, config::Element* __restrict__ out, const long long outer,
             const long long length, const long long inner, const long long size, const float scale) {
  if (inner < 32)
    upconv::sum_taps<32>(x, out, outer, length, inner, size, scale);
  else
    upconv::sum_taps<1>(x, out, outer, length, inner, size, scale);
}

/// From the gradient of the sums to that of x.
extern "C" __global__ void __launch_bounds__(256)
    tap_sums_gradient(const config::Element* __restrict__ sums, config::Element* __restrict__ out,
                      const long long outer, const long long length, const long long inner, const long long size,
                      const float scale) {
  using namespace upconv;
  const i64 all = outer * length * inner, by = i64(gridDim.x) * blockDim.x;
  for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < all; i += by) {
    const i64 at = i / inner % length;
    const config::Element* from = sums + i / inner / length * config::TAPS * inner + i % inner;
    float sum = 0.0f;
#pragma unroll
    for (int t = 0; t < config::TAPS; ++t)
      if (TapRange(t, length, size).holds(at)) sum += to_float(from[t * inner]);
    out[i] = from_float<config::Element>(sum * scale);
  }
}
