// Statistics of units, runs of `length` neighbouring values each: planes, rows, or what a pooling leaves of a plane.
// A unit is cut into shares; a team (a warp where units are small, else a block) collects one share and writes two
// numbers, which closing/norm.cuh or closing/result.cuh put together. Where a unit is one share and a plain reduction
// is wanted (FINISH), the team writes the result itself. Floor: the values once through memory.
// Host preamble: COLLECT, FINISH, AS (how a collected number becomes the result).
#include "closing/collect.cuh"

extern "C" __global__ void __launch_bounds__(256, sizeof(upconv::closing::S) == 4 ? 6 : 2)
    closing_parts(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  typedef Collected<config::COLLECT, S> Collection;
  constexpr int most = config::POOL ? 4 : 8;
  const int teams = THREADS / a.team, team = threadIdx.x / static_cast<u32>(a.team), lane = threadIdx.x % a.team;
  const i64 index = i64(block_number(a)) * teams + team;  // of all shares; a warp beyond the last does nothing
  if (index >= a.units * a.shares) return;
  const i64 unit = quotient(index, a.shares), share = index - unit * a.shares;
  const Index from = static_cast<Index>(share * a.share);
  const Index count = static_cast<Index>(a.length - from < a.share ? a.length - from : a.share);
  const Run run(a, unit * a.length + from, count);
  Taken<config::COLLECT, S> taken;
  Index i = lane;
  const int apart = a.team;
  const auto inside = [&](int k) { return i + k * apart < count; };
  const auto take = [&](auto&& value_of) {
    S v[most];
    int held = 0;
#pragma unroll
    for (int k = 0; k < most; ++k) v[k] = value_of(k), held += inside(k);
    taken.take(v, held, i == lane);
  };
  const auto in_one_plane = [&](int k) {
    Spot s = in_plane(run.plane, run.first);
    s.inside = run.first + (inside(k) ? i + k * apart : i);
    return value_if(inside(k), a, operands, s);
  };
  const auto anywhere = [&](int k) {
    return value_if(inside(k), a, operands, run.at(a, inside(k) ? i + k * apart : 0));
  };
  if constexpr (config::POOL) {  // windows are long: as few copies of their code as can be
    for (; i < count; i += most * apart) run.one_plane ? take(in_one_plane) : take(anywhere);
  } else if (run.one_plane) {
    const Spot s = in_plane(run.plane, run.first);
    for (; inside(most - 1); i += most * apart) {
      S v[most];
#pragma unroll
      for (int k = 0; k < most; ++k) v[k] = value(a, operands, s.n, s.channel, s.inside + i + k * apart);
      taken.take(v, most, i == lane);
    }
    if (i < count) take(in_one_plane);
  } else {
    for (; i < count; i += most * apart) take(anywhere);
  }
  Collection all = taken.collected();
  all.merge_team(a.team);
  if (lane != 0) return;
  if constexpr (config::FINISH) {
    if (a.shares == 1) {
      const i64 plane = quotient(unit, a.result.values.c);
      const u32 n = static_cast<u32>(plane) / config::RESULT_CHANNELS;
      const int channel = static_cast<int>(static_cast<u32>(plane) - n * config::RESULT_CHANNELS);
      static_cast<Out*>(a.out)[unit] = from_float<Out>(
          config::last(reduced(all, config::AS, a.length), a, operands, static_cast<int>(n), channel, unit));
      return;
    }
  }
  S* part = static_cast<S*>(a.parts) + 2 * index;
  part[0] = all.first;
  part[1] = all.second;
}
