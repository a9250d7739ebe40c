// The gradient of a LayerNorm or softmax over short rows (closing/rows.cuh), taken through the steps after it first and
// the items in front of it last. A team has a row at a time, values and gradients in registers, and `share` rows in
// turn: a norm's weight and bias gather their gradients in its threads, and the block writes them once. Sums for
// operands are written for every row. Floor: source and gradient once, the result once.
// Host preamble: NORM (else a softmax), WEIGHT, BIAS, EPS, VECTOR_SUMS, that of closing/gradient.cuh, and pull_after.
#include "closing/gradient.cuh"
#include "closing/team.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_pull_rows(const upconv::arguments::Pull p, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  constexpr int elements = 4;
  const Closing& a = p.values;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const int length = static_cast<int>(a.length);
  const auto add = [](S x, S y) { return x + y; };
  S of_weight[elements] = {}, of_bias[elements] = {};
  for (i64 turn = 0; turn < a.share; ++turn) {
    const i64 row = (i64(blockIdx.x) * a.share + turn) * teams + team;
    const bool exists = row < a.units;
    const i64 first = exists ? row * length : 0;
    const Run run(a, first, length);
    S sums[HELD_SUMS] = {};
    S v[elements], g[elements], u[elements];
    Spot s[elements];
    bool inside[elements];
#pragma unroll
    for (int k = 0; k < elements; ++k) {
      inside[k] = exists && lane + k * a.team < length;
      v[k] = g[k] = u[k] = S(0);
      if (!inside[k]) continue;
      s[k] = run.one_plane ? in_plane(run.plane, run.first + lane + k * a.team) : run.at(a, lane + k * a.team);
      const i64 at = first + lane + k * a.team;
      v[k] = beginning(p, operands, s[k].n, s[k].channel, s[k].inside, at);
      g[k] = arriving_at(p, s[k].n, s[k].channel, s[k].inside, at);
    }
#pragma unroll
    for (int k = 0; k < elements; ++k)
      if (inside[k]) u[k] = given(v[k], p, operands, s[k].n, s[k].channel, first + lane + k * a.team);
    if constexpr (config::NORM) {
      S sum = S(0), squares = S(0), of_g = S(0), of_product = S(0);
#pragma unroll
      for (int k = 0; k < elements; ++k) sum += u[k];
      const S mean = over_team(sum, a.team, add) / S(length);
#pragma unroll
      for (int k = 0; k < elements; ++k) {
        u[k] = inside[k] ? u[k] - mean : S(0);
        squares += u[k] * u[k];
      }
      const S scale = S(1) / root(over_team(squares, a.team, add) / S(length) + S(config::EPS));
#pragma unroll
      for (int k = 0; k < elements; ++k) {
        if (!inside[k]) continue;
        u[k] *= scale;
        S weight = S(1), q = u[k];
        if constexpr (config::WEIGHT)
          weight = to_float(static_cast<const Element*>(a.weight)[lane + k * a.team]), q *= weight;
        if constexpr (config::BIAS) q += to_float(static_cast<const Element*>(a.bias)[lane + k * a.team]);
        g[k] = config::pull_after(q, g[k], p, operands, s[k].n, s[k].channel, first + lane + k * a.team, sums);
        of_weight[k] += g[k] * u[k];
        of_bias[k] += g[k];
        g[k] *= weight;
        of_g += g[k];
        of_product += g[k] * u[k];
      }
      of_g = over_team(of_g, a.team, add) / S(length);
      of_product = over_team(of_product, a.team, add) / S(length);
#pragma unroll
      for (int k = 0; k < elements; ++k) g[k] = scale * (g[k] - of_g - u[k] * of_product);
    } else {
      S most = S(-infinity()), sum = S(0), product = S(0);
#pragma unroll
      for (int k = 0; k < elements; ++k)
        if (inside[k]) most = larger(most, u[k]);
      most = over_team(most, a.team, [](S x, S y) { return larger(x, y); });
#pragma unroll
      for (int k = 0; k < elements; ++k) {
        u[k] = inside[k] ? exponential(u[k] - most) : S(0);
        sum += u[k];
      }
      const S scale = S(1) / over_team(sum, a.team, add);
#pragma unroll
      for (int k = 0; k < elements; ++k) {
        if (!inside[k]) continue;
        u[k] *= scale;
        g[k] = config::pull_after(u[k], g[k], p, operands, s[k].n, s[k].channel, first + lane + k * a.team, sums);
        product += u[k] * g[k];
      }
      product = over_team(product, a.team, add);
#pragma unroll
      for (int k = 0; k < elements; ++k) g[k] = u[k] * (g[k] - product);
    }
#pragma unroll
    for (int k = 0; k < elements; ++k) {
      if (!inside[k]) continue;
      const i64 at = first + lane + k * a.team;
      static_cast<Out*>(a.out)[at] =
          from_float<Out>(config::pull(v[k], g[k], p, operands, s[k].n, s[k].channel, at, sums));
    }
    if constexpr (SUMS > 0) {
      sum_team(sums, a.team);
      if (exists && lane == 0)
#pragma unroll
        for (int k = 0; k < SUMS; ++k) static_cast<S*>(p.sums)[row * SUMS + k] = sums[k];
    }
  }
  if constexpr (config::VECTOR_SUMS) {
    __shared__ S held[THREADS];
    S* to = static_cast<S*>(p.vector_sums) + i64(blockIdx.x) * 2 * length;
#pragma unroll
    for (int k = 0; k < 2 * elements; ++k) {
      __syncthreads();
      held[threadIdx.x] = k % 2 ? of_bias[k / 2] : of_weight[k / 2];
      __syncthreads();
      const int i = lane + k / 2 * a.team;
      if (team != 0 || i >= length) continue;
      S sum = S(0);
      for (int t = 0; t < teams; ++t) sum += held[t * a.team + lane];
      to[k % 2 * length + i] = sum;
    }
  }
}
