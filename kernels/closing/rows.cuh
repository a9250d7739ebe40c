// LayerNorm, softmax and reductions over short rows of neighbouring values (at most EACH a thread), which stay in
// registers: a team of 2 to 32 lanes, or a block, has a row. Steps after a norm or softmax, a reduction over the same
// rows, steps after that. The result may take the source's place. Floor: the source once, the result once.
// Host preamble: EACH (values of a thread, at most), NORM, WEIGHT, BIAS (dense vectors along the row), EPS, SOFTMAX,
// REDUCE (-1: none).
#include "closing/collect.cuh"
#include "closing/team.cuh"

namespace upconv::closing {

using config::REDUCE;
constexpr int ELEMENTS = config::EACH;

}  // namespace upconv::closing

extern "C" __global__ void __launch_bounds__(256)
    closing_rows(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 row = i64(block_number(a)) * teams + team;
  const bool exists = row < a.units;
  const int length = static_cast<int>(a.length);
  const i64 first = exists ? row * length : 0;
  const Run run(a, first, length);
  const auto place = [&](int k, bool inside) {
    const int i = inside ? lane + k * a.team : 0;
    return run.one_plane ? in_plane(run.plane, run.first + i) : run.at(a, i);
  };
  const auto add = [](S x, S y) { return x + y; };
  S v[ELEMENTS];
  bool inside[ELEMENTS];
#pragma unroll
  for (int k = 0; k < ELEMENTS; ++k) {
    inside[k] = exists && lane + k * a.team < length;
    v[k] = value_if(inside[k], a, operands, place(k, inside[k]));
  }
  if constexpr (config::NORM) {
    S sum = S(0), squares = S(0);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) sum += v[k];
    const S mean = over_team(sum, a.team, add) / S(length);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      v[k] = inside[k] ? v[k] - mean : S(0);
      squares += v[k] * v[k];
    }
    const S scale = S(1) / root(over_team(squares, a.team, add) / S(length) + S(config::EPS));
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      const int i = inside[k] ? lane + k * a.team : 0;
      v[k] *= scale;
      if constexpr (config::WEIGHT) v[k] *= to_float(static_cast<const Element*>(a.weight)[i]);
      if constexpr (config::BIAS) v[k] += to_float(static_cast<const Element*>(a.bias)[i]);
    }
  }
  if constexpr (config::SOFTMAX) {
    S most = S(-infinity()), sum = S(0);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k)
      if (inside[k]) most = larger(most, v[k]);
    most = over_team(most, a.team, [](S x, S y) { return larger(x, y); });
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      v[k] = inside[k] ? exponential(v[k] - most) : S(0);
      sum += v[k];
    }
    const S scale = S(1) / over_team(sum, a.team, add);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) v[k] *= scale;
  }
  if constexpr (config::NORM || config::SOFTMAX) {
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      const Spot s = place(k, inside[k]);
      const S u = config::middle(v[k], a, operands, s.n, s.channel, first + (inside[k] ? lane + k * a.team : 0));
      v[k] = inside[k] ? u : S(0);
    }
  }
  if constexpr (REDUCE < 0) {
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k)
      if (inside[k]) static_cast<Out*>(a.out)[first + lane + k * a.team] = from_float<Out>(v[k]);
  } else {
    S r;
    if constexpr (REDUCE == AS_SUM || REDUCE == AS_MEAN) {
      r = S(0);
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k) r += inside[k] ? v[k] : S(0);
      r = over_team(r, a.team, add);
      if constexpr (REDUCE == AS_MEAN) r = r / S(length);
    } else {
      constexpr bool least = REDUCE == AS_MINIMUM;
      r = S(least ? infinity() : -infinity());
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k)
        if (inside[k]) r = least ? smaller(r, v[k]) : larger(r, v[k]);
      r = over_team(r, a.team, [](S x, S y) { return least ? smaller(x, y) : larger(x, y); });
      if constexpr (REDUCE == AS_LOGSUMEXP) {
        const S zero = finite_or_zero(r);
        S sum = S(0);
#pragma unroll
        for (int k = 0; k < ELEMENTS; ++k) sum += inside[k] ? exponential(v[k] - zero) : S(0);
        r = natural_log(over_team(sum, a.team, add)) + zero;
      }
    }
    if (!exists || lane != 0) return;
    const u32 plane = static_cast<u32>(quotient(row, a.result.values.c)), n = plane / config::RESULT_CHANNELS;
    r = config::last(r, a, operands, static_cast<int>(n), static_cast<int>(plane - n * config::RESULT_CHANNELS), row);
    static_cast<Out*>(a.out)[row] = from_float<Out>(r);
  }
}
