// What a mean over one dimension of a transposed convolution's result needs of x: for every tap the sum of x over the
// positions that the tap takes inside the result, and its gradient (docs/fusion.md). x is (outer, length, inner), the
// sums are (outer, TAPS, inner). In blocks as launch/tap_sums.hpp says. Where an exported file needs it, it brings its
// own. Host preamble: Element, TAPS, STRIDE, PADDING, DILATION. Floor: the bytes of x, read (the gradient: written)
// once.
#include "neighbours.cuh"
#include "ptx/dependents.cuh"
#include "quotient.cuh"
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

/// LANES neighbouring threads make the sums of `together` neighbours of one outer index: all of a warp where inner is
/// short, else one.
template <int LANES, int together>
__device__ __forceinline__ void sum_taps(const config::Element* x, config::Element* __restrict__ out, i64 outer,
                                         i64 length, i64 inner, i64 size, float scale) {
  typedef Neighbours<config::Element, together> Some;
  constexpr int ahead = 8, taps = config::TAPS;
  const int lane = static_cast<int>(threadIdx.x % LANES);
  const i64 by = i64(gridDim.x) * blockDim.x / LANES, columns = inner / together;
  i64 low = 0, high = length;  // what all taps share
#pragma unroll
  for (int t = 0; t < taps; ++t) {
    const TapRange r(t, length, size);
    if (r.low > low) low = r.low;
    if (r.high < high) high = r.high;
  }
  if (low >= high) low = high = length;
  for (i64 item = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / LANES; item < outer * columns; item += by) {
    const i64 unit = quotient(item, columns), inside = (item - unit * columns) * together;
    const config::Element* from = x + unit * length * inner + inside;
    const auto read = [&](i64 at) { return *reinterpret_cast<const Some*>(from + at * inner); };
    float shared[together] = {}, own[taps][together] = {};
    // Values that are asked for together, the last of them too: who has none left reads one again, for nothing.
    for (i64 at = low + lane; at < high; at += ahead * LANES) {
      Some v[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) v[k] = read(at + k * LANES < high ? at + k * LANES : at);
#pragma unroll
      for (int k = 0; k < ahead; ++k)
#pragma unroll
        for (int e = 0; e < together; ++e) shared[e] += at + k * LANES < high ? to_float(v[k].v[e]) : 0.0f;
    }
    for (int end = 0; end < 2; ++end)
      for (i64 at = (end ? high : 0) + lane; at < (end ? length : low); at += LANES) {
        const Some v = read(at);
#pragma unroll
        for (int t = 0; t < taps; ++t) {
          const bool holds = TapRange(t, length, size).holds(at);
#pragma unroll
          for (int e = 0; e < together; ++e) own[t][e] += holds ? to_float(v.v[e]) : 0.0f;
        }
      }
#pragma unroll
    for (int t = 0; t < taps; ++t) {
      Some sums;
#pragma unroll
      for (int e = 0; e < together; ++e) {
        float sum = own[t][e] + shared[e];
#pragma unroll
        for (int apart = LANES / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
        sums.v[e] = from_float<config::Element>(sum * scale);
      }
      if (lane == 0) *reinterpret_cast<Some*>(out + (unit * taps + t) * inner + inside) = sums;
    }
  }
}

}  // namespace upconv

/// In blocks of a multiple of 32 threads.
extern "C" __global__ void __launch_bounds__(256)
    tap_sums(const config::Element* x, config::Element* __restrict__ out, const long long outer, const long long length,
             const long long inner, const long long size, const float scale) {
  upconv::let_next_begin();
  upconv::after_previous();
  // Fours where enough threads are left that half of them have one.
  constexpr int four = 4 * sizeof(config::Element);
  const bool fours =
      inner % 4 == 0 &&
      (reinterpret_cast<unsigned long long>(x) | reinterpret_cast<unsigned long long>(out)) % four == 0 &&
      outer * inner >= 2ll * gridDim.x * blockDim.x;
  if (inner < 32)
    upconv::sum_taps<32, 1>(x, out, outer, length, inner, size, scale);
  else if (fours)
    upconv::sum_taps<1, 4>(x, out, outer, length, inner, size, scale);
  else
    upconv::sum_taps<1, 1>(x, out, outer, length, inner, size, scale);
}

/// From the gradient of the sums to that of x.
extern "C" __global__ void __launch_bounds__(256)
    tap_sums_gradient(const config::Element* sums, config::Element* __restrict__ out, const long long outer,
                      const long long length, const long long inner, const long long size, const float scale) {
  using namespace upconv;
  let_next_begin();
  after_previous();
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
