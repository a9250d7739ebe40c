// From the shares of units to one number each: a reduction with the steps after it, or (AS_TABLE) what applies a
// softmax to the unit's values, v -> exp(v - largest) * s, as three numbers of a table. A warp works on one unit. Host
// preamble: COLLECT, AS, TABLE (moments that a norm's table is applied to: the mean of normalised values).
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_result(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  typedef Collected<config::COLLECT, S> Collection;
  const int lane = threadIdx.x % 32;
  const i64 unit = i64(blockIdx.x) * (THREADS / 32) + threadIdx.x / 32;
  if (unit >= a.units) return;
  Collection all = Collection::none();
  for (i64 share = lane; share < a.shares; share += 32) {
    const S* part = static_cast<const S*>(a.parts) + 2 * (unit * a.shares + share);
    const i64 left = a.length - share * a.share;
    all.merge({S(left < a.share ? left : a.share), part[0], part[1]});
  }
  all.merge_team(32);
  if (lane != 0) return;
  if constexpr (config::AS == AS_TABLE) {
    S* to = static_cast<S*>(a.table_out) + 3 * unit;
    to[0] = all.first;
    to[1] = all.first - all.first == S(0) ? S(1) / all.second : S(not_a_number());
    to[2] = S(0);
  } else {
    S v = reduced(all, config::AS, a.length);
    if constexpr (config::TABLE) {
      const S* t = static_cast<const S*>(a.tables[0]) + 3 * unit;
      v = (v - t[0]) * t[1] + t[2];
    }
    const u32 plane = static_cast<u32>(quotient(unit, a.result.values.c)), n = plane / config::RESULT_CHANNELS;
    v = config::last(v, a, operands, static_cast<int>(n), static_cast<int>(plane - n * config::RESULT_CHANNELS), unit);
    static_cast<Out*>(a.out)[unit] = from_float<Out>(v);
  }
}
