// Takes a gradient back through element-wise items, norms among them, and through what lies behind them: a reduction, a
// pooling. A team (a warp where units are small, else a block) has a share of a unit, as in closing/parts.cuh; it
// writes the gradient of every value and sums over the share: of the gradient itself (a bias's), of operands, of what a
// norm or softmax needs before its own gradient is known. Floor: source and gradient once, the result once. Host
// preamble: STORE, SUMS, that of closing/gradient.cuh.
#include "closing/gradient.cuh"

extern "C" __global__ void __launch_bounds__(256, 3)
    closing_pull(const upconv::arguments::Pull p, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  constexpr int most = config::POOL ? 2 : 4;
  const Closing& a = p.values;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 index = i64(blockIdx.x) * teams + team;  // of all shares; a warp beyond the last does nothing
  if (index >= a.units * a.shares) return;
  const i64 unit = quotient(index, a.shares), share = index - unit * a.shares;
  const Index from = static_cast<Index>(share * a.share);
  const Index count = static_cast<Index>(a.length - from < a.share ? a.length - from : a.share);
  const Run run(a, unit * a.length + from, count);
  const Spot plane = in_plane(run.plane, run.first);
  S sums[HELD_SUMS] = {};
  for (Index i = lane; i < count; i += most * a.team) {
    S v[most], g[most];
    Spot s[most];
#pragma unroll
    for (int k = 0; k < most; ++k) {
      const bool inside = i + k * a.team < count;
      const Index there = inside ? i + k * a.team : 0;
      s[k] = run.one_plane ? Spot{plane.n, plane.channel, run.first + there} : run.at(a, there);
      const i64 at = s[k].n * a.at.values.n + s[k].channel * a.at.values.c + s[k].inside;
      v[k] = inside ? beginning(p, operands, s[k].n, s[k].channel, s[k].inside, at) : S(0);
      g[k] = inside ? arriving_at(p, s[k].n, s[k].channel, s[k].inside, at) : S(0);
    }
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (i + k * a.team >= count) continue;
      const i64 at = s[k].n * a.at.values.n + s[k].channel * a.at.values.c + s[k].inside;
      const S back = config::pull(v[k], g[k], p, operands, s[k].n, s[k].channel, at, sums);
      if constexpr (config::STORE) static_cast<Out*>(a.out)[at] = from_float<Out>(back);
    }
  }
  if constexpr (SUMS > 0) {
    sum_team(sums, a.team);
    if (lane != 0) return;
    S* to = static_cast<S*>(p.sums) + index * SUMS;
#pragma unroll
    for (int k = 0; k < SUMS; ++k) to[k] = sums[k];
  }
}
