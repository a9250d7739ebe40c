// From the moments of planes to the table that applies a norm: for every plane three numbers, v -> (v - r) * s + t.
// A set is what shares mean and variance: a group of channels of one sample, or (BATCH) a channel of all samples; a
// team, a warp or a block, works on one. A table that is there already is applied to the moments first, so that norms
// without anything between them need the values once. Sums of moments in double.
// Where each plane is moved to a mean of 0 next (CENTERED), that is part of it: a plane's own mean takes the place of
// the set's.
// Host preamble: BATCH, PER (planes of a group), CHANNELS, TABLE (there is one already), WEIGHT, BIAS, CENTER (no
// scale), CENTERED, EPS.
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) closing_norm(const upconv::arguments::Closing a) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  typedef Collected<MOMENTS, double> Moments;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 set = i64(blockIdx.x) * teams + team;
  if (set >= a.units) return;
  const i64 planes = config::BATCH ? a.planes : config::PER, parts = planes * a.shares;
  const auto plane_of = [&](i64 k) { return config::BATCH ? k * CHANNELS + set : set * config::PER + k; };
  const S* table = static_cast<const S*>(a.tables[0]);
  // The moments of a share of a plane.
  const auto moments = [&](i64 plane, i64 share) {
    const S* part = static_cast<const S*>(a.parts) + 2 * (plane * a.shares + share);
    const i64 left = a.length - share * a.share;
    Moments one = {double(left < a.share ? left : a.share), double(part[0]), double(part[1])};
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      one.first = (one.first - double(t[0])) * double(t[1]) + double(t[2]);
      one.second *= double(t[1]) * double(t[1]);
    }
    return one;
  };
  Moments m = Moments::none();
  for (i64 i = lane; i < parts; i += a.team) {
    const i64 k = quotient(i, a.shares);
    m.merge(moments(plane_of(k), i - k * a.shares));
  }
  m.merge_team(a.team);
  const double mean = m.first, variance = m.second / m.count;
  const double inverse = config::CENTER ? 1.0 : 1.0 / sqrt(variance + config::EPS);
  if (a.saved && lane == 0)
    static_cast<S*>(a.saved)[2 * set] = S(mean), static_cast<S*>(a.saved)[2 * set + 1] = S(inverse);
  if (a.statistics && lane == 0) a.statistics[set] = mean, a.statistics[a.units + set] = variance;
  for (i64 k = lane; k < planes; k += a.team) {
    const i64 plane = plane_of(k), channel = plane % CHANNELS;
    double scale = inverse, shift = 0.0;
    if constexpr (config::WEIGHT) scale *= double(to_float(static_cast<const Element*>(a.weight)[channel]));
    if constexpr (config::BIAS) shift = double(to_float(static_cast<const Element*>(a.bias)[channel]));
    double middle = mean;
    if constexpr (config::CENTERED) {
      Moments own = Moments::none();
      for (i64 share = 0; share < a.shares; ++share) own.merge(moments(plane, share));
      middle = own.first, shift = 0.0;
    }
    S* to = static_cast<S*>(a.table_out) + 3 * plane;
    if constexpr (config::TABLE) {
      const S* t = table + 3 * plane;
      const S r = t[0];
      const double s = double(t[1]), was = double(t[2]);
      to[0] = r, to[1] = S(s * scale), to[2] = S((was - middle) * scale + shift);
    } else {
      const S r = S(middle);
      to[0] = r, to[1] = S(scale), to[2] = S((double(r) - middle) * scale + shift);
    }
  }
}
