// From the moments of planes to the table that applies a norm: for every plane three numbers, v -> (v - r) * s + t.
// A set is what shares mean and variance: a group of channels of one sample, or (BATCH) a channel of all samples; a
// team, a warp or a block, works on one. A table that is there already is applied to the moments first, so that norms
// without anything between them need the values once. Sums of moments in double.
// Host preamble: BATCH, PER (planes of a group), CHANNELS, TABLE (there is one already), WEIGHT, BIAS, CENTER (no
// scale), EPS.
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) closing_norm(const upconv::arguments::Closing a) {
  using namespace upconv;
  using namespace upconv::closing;
  typedef Collected<MOMENTS, double> Moments;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 set = i64(blockIdx.x) * teams + team;
  if (set >= a.units) return;
  const i64 planes = config::BATCH ? a.planes : config::PER, parts = planes * a.shares;
  const auto plane_of = [&](i64 k) { return config::BATCH ? k * CHANNELS + set : set * config::PER + k; };
  const S* table = static_cast<const S*>(a.tables[0]);
  Moments m = Moments::none();
  for (i64 i = lane; i < parts; i += a.team) {
    const i64 k = quotient(i, a.shares), share = i - k * a.shares, plane = plane_of(k);
    const S* part = static_cast<const S*>(a.parts) + 2 * (plane * a.shares + share);
    const i64 left = a.length - share * a.share;
    Moments one = {double(left < a.share ? left : a.share), double(part[0]), double(part[1])};
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      one.first = (one.first - double(t[0])) * double(t[1]) + double(t[2]);
      one.second *= double(t[1]) * double(t[1]);
    }
    m.merge(one);
  }
  m.merge_team(a.team);
  double mean = m.first, variance = m.second / m.count;
  if (a.team == 32) {
    mean = __shfl_sync(0xffffffffu, mean, 0);
    variance = __shfl_sync(0xffffffffu, variance, 0);
  } else {
    __shared__ double both[2];
    if (threadIdx.x == 0) both[0] = mean, both[1] = variance;
    __syncthreads();
    mean = both[0], variance = both[1];
  }
  const double inverse = config::CENTER ? 1.0 : 1.0 / sqrt(variance + config::EPS);
  if (a.saved && lane == 0)
    static_cast<S*>(a.saved)[2 * set] = S(mean), static_cast<S*>(a.saved)[2 * set + 1] = S(inverse);
  if (a.statistics && lane == 0) a.statistics[set] = mean, a.statistics[a.units + set] = variance;
  for (i64 k = lane; k < planes; k += a.team) {
    const i64 plane = plane_of(k), channel = plane % CHANNELS;
    double scale = inverse, shift = 0.0;
    if constexpr (config::WEIGHT) scale *= double(to_float(static_cast<const Element*>(a.weight)[channel]));
    if constexpr (config::BIAS) shift = double(to_float(static_cast<const Element*>(a.bias)[channel]));
    S* to = static_cast<S*>(a.table_out) + 3 * plane;
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      const S r = t[0];
      const double s = double(t[1]), was = double(t[2]);
      to[0] = r, to[1] = S(s * scale), to[2] = S((was - mean) * scale + shift);
    } else {
      const S r = S(mean);
      to[0] = r, to[1] = S(scale), to[2] = S((double(r) - mean) * scale + shift);
    }
  }
}
