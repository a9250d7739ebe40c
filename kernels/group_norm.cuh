// GroupNorm of x (N, C, *spatial), fp32, channels first, with its gradients; used by exported files
// (docs/exporting.md).
//   group_norm_parts        mean and sum of squared distances from it of each share of a slab, a slab being the
//                           channels of one group of one sample, which lie together in memory
//   group_norm_statistics   the shares of each slab put together: mean and 1 / sqrt(variance + eps)
//   group_norm_apply        y = (x - mean) * rstd * weight + bias
//   group_norm_channel_sums of each sample and channel, the sums of dy and of dy * (x - mean)
//   group_norm_dx           dx from those sums
//   group_norm_parameters   dweight and dbias: the sums over samples, in order
// Every sum has one order, whatever the GPU does. Blocks of 256. Floor: forward reads x twice and writes y, backward
// reads x and dy twice and writes dx; only kernels that keep a slab on the chip do with less.
#pragma once

#include "types.cuh"

namespace upconv::norm {

struct Sizes {
  i64 channels, groups, volume;  ///< volume: of space.
  i64 slabs, shares, share;      ///< Samples times groups; shares of a slab, and elements of each.
};

/// Count, mean and sum of squared distances of some numbers.
struct Moments {
  float count, mean, squares;
};
__device__ __forceinline__ Moments merged(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0.f) return a;
  const float distance = b.mean - a.mean, part = b.count / count;
  return {count, a.mean + distance * part, a.squares + b.squares + distance * distance * a.count * part};
}
__device__ __forceinline__ Moments shifted_down(const Moments& m, int lanes) {
  return {__shfl_down_sync(0xffffffffu, m.count, lanes), __shfl_down_sync(0xffffffffu, m.mean, lanes),
          __shfl_down_sync(0xffffffffu, m.squares, lanes)};
}
/// Of all threads of the block, in thread 0.
__device__ __forceinline__ Moments block_merged(Moments m) {
  __shared__ float held[8][3];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) m = merged(m, shifted_down(m, lanes));
  const int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) held[warp][0] = m.count, held[warp][1] = m.mean, held[warp][2] = m.squares;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 1; w < 8; ++w) m = merged(m, {held[w][0], held[w][1], held[w][2]});
  return m;
}
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float sums[8];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_down_sync(0xffffffffu, v, lanes);
  __syncthreads();  // the sums of the call before have been read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
  __syncthreads();
  float total = 0.f;
  for (int w = 0; w < 8; ++w) total += sums[w];
  return total;
}

}  // namespace upconv::norm

extern "C" __global__ void __launch_bounds__(256)
    group_norm_parts(const float* __restrict__ x, float* __restrict__ parts, const upconv::norm::Sizes s) {
  using namespace upconv;
  using namespace upconv::norm;
  const i64 slab = i64(blockIdx.x) / s.shares, share = i64(blockIdx.x) % s.shares;
  const i64 size = s.channels / s.groups * s.volume, from = share * s.share;
  const i64 to = from + s.share < size ? from + s.share : size;
  const float* at = x + slab * size;
  Moments m = {0.f, 0.f, 0.f};
  for (i64 i = from + threadIdx.x; i < to; i += 8 * 256) {
    float v[8];
    int held = 0;
    float sum = 0.f;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const bool inside = i + k * 256 < to;
      v[k] = inside ? at[i + k * 256] : 0.f;
      held += inside;
      sum += v[k];
    }
    Moments few = {float(held), sum / float(held), 0.f};
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (i + k * 256 < to) few.squares += (v[k] - few.mean) * (v[k] - few.mean);
    m = merged(m, few);
  }
  m = block_merged(m);
  if (threadIdx.x == 0) {
    float* part = parts + i64(blockIdx.x) * 3;
    part[0] = m.count, part[1] = m.mean, part[2] = m.squares;
  }
}

/// A thread a slab. statistics: mean and rstd of each.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_statistics(const float* __restrict__ parts, float* __restrict__ statistics, const upconv::norm::Sizes s,
                          const float eps) {
  using namespace upconv;
  using namespace upconv::norm;
  const i64 slab = i64(blockIdx.x) * 256 + threadIdx.x;
  if (slab >= s.slabs) return;
  Moments m = {0.f, 0.f, 0.f};
  for (i64 k = 0; k < s.shares; ++k) {
    const float* part = parts + (slab * s.shares + k) * 3;
    m = merged(m, {part[0], part[1], part[2]});
  }
  statistics[2 * slab] = m.mean;
  statistics[2 * slab + 1] = 1.f / sqrtf(m.squares / m.count + eps);
}

/// Grid: samples times channels, times `shares` of the volume.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_apply(const float* __restrict__ x, const float* __restrict__ statistics,
                     const float* __restrict__ weight, const float* __restrict__ bias, float* __restrict__ y,
                     const upconv::norm::Sizes s) {
  using namespace upconv;
  const i64 plane = i64(blockIdx.x) / s.shares, share = i64(blockIdx.x) % s.shares;
  const i64 channel = plane % s.channels, slab = plane / (s.channels / s.groups);
  const float mean = statistics[2 * slab], scale = statistics[2 * slab + 1] * weight[channel], shift = bias[channel];
  const i64 to = (share + 1) * s.share < s.volume ? (share + 1) * s.share : s.volume;
  for (i64 i = share * s.share + threadIdx.x; i < to; i += 256)
    y[plane * s.volume + i] = (x[plane * s.volume + i] - mean) * scale + shift;
}

/// Grid: samples times channels. sums: of dy, and of dy * (x - mean).
extern "C" __global__ void __launch_bounds__(256)
    group_norm_channel_sums(const float* __restrict__ x, const float* __restrict__ dy,
                            const float* __restrict__ statistics, float* __restrict__ sums,
                            const upconv::norm::Sizes s) {
  using namespace upconv;
  using namespace upconv::norm;
  const i64 plane = blockIdx.x, slab = plane / (s.channels / s.groups);
  const float mean = statistics[2 * slab];
  float of_dy = 0.f, of_product = 0.f;
  for (i64 i = threadIdx.x; i < s.volume;) {
    float few_dy = 0.f, few_product = 0.f;  // short chains, smaller error
    for (int k = 0; k < 64 && i < s.volume; ++k, i += 256) {
      const float d = dy[plane * s.volume + i];
      few_dy += d;
      few_product += d * (x[plane * s.volume + i] - mean);
    }
    of_dy += few_dy;
    of_product += few_product;
  }
  of_dy = block_sum(of_dy);
  of_product = block_sum(of_product);
  if (threadIdx.x == 0) sums[2 * plane] = of_dy, sums[2 * plane + 1] = of_product;
}

/// Grid: as group_norm_apply.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_dx(const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ statistics,
                  const float* __restrict__ weight, const float* __restrict__ sums, float* __restrict__ dx,
                  const upconv::norm::Sizes s) {
  using namespace upconv;
  using namespace upconv::norm;
  const i64 plane = i64(blockIdx.x) / s.shares, share = i64(blockIdx.x) % s.shares;
  const i64 of_group = s.channels / s.groups, channel = plane % s.channels, slab = plane / of_group;
  const float mean = statistics[2 * slab], rstd = statistics[2 * slab + 1];
  float of_dy = 0.f, of_product = 0.f;  // over the group's channels
  for (i64 c = threadIdx.x; c < of_group; c += 256) {
    const float w = weight[slab % s.groups * of_group + c];
    of_dy += w * sums[2 * (slab * of_group + c)];
    of_product += w * sums[2 * (slab * of_group + c) + 1];
  }
  const float size = float(of_group * s.volume);
  const float average = block_sum(of_dy) / size, slope = block_sum(of_product) / size * rstd * rstd;
  const float w = weight[channel];
  const i64 to = (share + 1) * s.share < s.volume ? (share + 1) * s.share : s.volume;
  for (i64 i = share * s.share + threadIdx.x; i < to; i += 256) {
    const i64 at = plane * s.volume + i;
    dx[at] = rstd * (w * dy[at] - average - (x[at] - mean) * slope);
  }
}

/// Grid: channels.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_parameters(const float* __restrict__ statistics, const float* __restrict__ sums,
                          float* __restrict__ dweight, float* __restrict__ dbias, const upconv::norm::Sizes s) {
  using namespace upconv;
  using namespace upconv::norm;
  const i64 channel = blockIdx.x, samples = s.slabs / s.groups, group = channel / (s.channels / s.groups);
  float of_dy = 0.f, of_product = 0.f;
  for (i64 n = threadIdx.x; n < samples; n += 256) {
    const i64 plane = n * s.channels + channel;
    of_dy += sums[2 * plane];
    of_product += sums[2 * plane + 1] * statistics[2 * (n * s.groups + group) + 1];
  }
  of_dy = block_sum(of_dy);
  of_product = block_sum(of_product);
  if (threadIdx.x == 0) dweight[channel] = of_product, dbias[channel] = of_dy;
}
