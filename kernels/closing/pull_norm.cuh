// From the sums of a norm's gradient to what takes it back. With h the gradient of the norm's result, w its weight, q
// the normalised value, r the scale: that of the value is r * (w h - mean(w h) - q mean(w h q)), means over the set
// that shares mean and variance. SUMS of every plane or row and share: h, and h q. For every plane or row three
// numbers: r w, r mean(w h), r mean(w h q). Sets and teams as in closing/norm.cuh; sums in double. Host preamble:
// BATCH, PER, CHANNELS, CENTER (no scale), WEIGHT (a number for each channel).
#include "closing/value.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) closing_pull_norm(const upconv::arguments::Closing a) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 set = i64(blockIdx.x) * teams + team;
  if (set >= a.units) return;
  const i64 planes = config::BATCH ? a.planes : config::PER, parts = planes * a.shares;
  const auto plane_of = [&](i64 k) { return config::BATCH ? k * CHANNELS + set : set * config::PER + k; };
  const auto weight_of = [&](i64 plane) {
    return config::WEIGHT ? double(to_float(static_cast<const Element*>(a.weight)[plane % CHANNELS])) : 1.0;
  };
  double of_h = 0.0, of_product = 0.0;
  for (i64 i = lane; i < parts; i += a.team) {
    const i64 k = quotient(i, a.shares), share = i - k * a.shares, plane = plane_of(k);
    const S* part = static_cast<const S*>(a.parts) + 2 * (plane * a.shares + share);
    const double w = weight_of(plane);
    of_h += w * double(part[0]);
    of_product += w * double(part[1]);
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    of_h += __shfl_xor_sync(0xffffffffu, of_h, lanes);
    of_product += __shfl_xor_sync(0xffffffffu, of_product, lanes);
  }
  if (a.team > 32) {
    __shared__ double held[2][THREADS / 32];
    if (threadIdx.x % 32 == 0) held[0][threadIdx.x / 32] = of_h, held[1][threadIdx.x / 32] = of_product;
    __syncthreads();
    of_h = of_product = 0.0;
    for (int w = 0; w < THREADS / 32; ++w) of_h += held[0][w], of_product += held[1][w];
  }
  const double count = double(planes) * double(a.length);
  const double scale = double(static_cast<const S*>(a.tables[0])[config::TABLE_WIDTH * set + 1]);
  const S mean = S(scale * of_h / count), slope = config::CENTER ? S(0) : S(scale * of_product / count);
  for (i64 k = lane; k < planes; k += a.team) {
    const i64 plane = plane_of(k);
    S* to = static_cast<S*>(a.table_out) + 3 * plane;
    to[0] = S(scale * weight_of(plane)), to[1] = mean, to[2] = slope;
  }
}
