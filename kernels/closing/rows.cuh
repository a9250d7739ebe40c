// LayerNorm, softmax and reductions over short rows of neighbouring values (at most EACH a thread), which stay in
// registers: a team of 2 to 32 lanes, or a block, has a row. Steps after a norm or softmax, a reduction over the same
// rows, steps after that. The result may take the source's place. Floor: the source once, the result once.
// Where rows are multiples of four values a lane's are neighbours by fours (VECTORS), read and written together.
// Host preamble: EACH (values of a thread, at most), FIRST (dimension of a row: from 2 on it lies in one plane),
// VECTORS (whether fours may be taken together), NORM, WEIGHT, BIAS (dense vectors along the row), EPS, SOFTMAX,
// REDUCE (-1: none).
#include "closing/collect.cuh"
#include "closing/team.cuh"
#include "neighbours.cuh"

namespace upconv::closing {

using config::REDUCE;
constexpr int ELEMENTS = config::EACH;
constexpr bool IN_PLANE = config::FIRST >= 2;

/// A lane's values of a row: runs of `together` neighbours, the team's runs after each other.
template <int together>
struct Row {
  const Closing& a;
  const Operands& operands;
  int lane, length;
  bool exists;
  i64 number, first;  ///< Of the row among all; of its first value.
  Run run;
  Spot begin;

  __device__ __forceinline__ Row(const Closing& a, const Operands& operands, i64 number, bool exists, int lane)
      : a(a),
        operands(operands),
        lane(lane),
        length(static_cast<int>(a.length)),
        exists(exists),
        number(number),
        first(exists ? number * a.length : 0),
        run(a, first, a.length),
        begin(in_plane(run.plane, run.first)) {}

  __device__ __forceinline__ bool inside(int k) const { return exists && index_of(k) < length; }
  /// Of a value that does not exist: of one in the row's first run.
  __device__ __forceinline__ int place(int k) const { return inside(k) ? index_of(k) : k % together; }
  __device__ __forceinline__ Spot spot(int k) const {
    if constexpr (IN_PLANE) return {begin.n, begin.channel, begin.inside + place(k)};
    return run.one_plane ? in_plane(run.plane, run.first + place(k)) : run.at(a, place(k));
  }
  /// The values, or 0 where there are none.
  __device__ __forceinline__ void read(S (&v)[ELEMENTS]) const {
    if constexpr (together == 1) {
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k) v[k] = value_if(inside(k), a, operands, spot(k));
    } else {
      Neighbours<Stored, together> read[ELEMENTS / together];
#pragma unroll
      for (int r = 0; r < ELEMENTS / together; ++r)
        read[r] = *reinterpret_cast<const Neighbours<Stored, together>*>(static_cast<const Stored*>(a.source) + first +
                                                                         place(r * together));
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k) {
        const Spot s = spot(k);
        const i64 at = first + place(k);
        const S u = config::before(to_float(read[k / together].v[k % together]), a, operands, s.n, s.channel, at);
        v[k] = inside(k) ? config::after(u, a, operands, s.n, s.channel, at) : S(0);
      }
    }
  }
  /// A norm's vector along the row.
  template <class F>
  __device__ __forceinline__ void with_vector(const void* vector, F&& each) const {
#pragma unroll
    for (int r = 0; r < ELEMENTS / together; ++r) {
      const auto u = *reinterpret_cast<const Neighbours<Element, together>*>(static_cast<const Element*>(vector) +
                                                                             place(r * together));
#pragma unroll
      for (int k = 0; k < together; ++k) each(r * together + k, to_float(u.v[k]));
    }
  }
  __device__ __forceinline__ void write(const S (&v)[ELEMENTS]) const {
#pragma unroll
    for (int r = 0; r < ELEMENTS / together; ++r) {
      if (!inside(r * together)) continue;
      Neighbours<Out, together> u;
#pragma unroll
      for (int k = 0; k < together; ++k) u.v[k] = from_float<Out>(v[r * together + k]);
      *reinterpret_cast<Neighbours<Out, together>*>(static_cast<Out*>(a.out) + first + place(r * together)) = u;
    }
  }

 private:
  __device__ __forceinline__ int index_of(int k) const {
    return (k / together * a.team + lane) * together + k % together;
  }
};

template <int together>
__device__ __forceinline__ void finish_row(const Row<together>& row) {
  const Closing& a = row.a;
  const int team = a.team, length = row.length;
  const auto add = [](S x, S y) { return x + y; };
  S v[ELEMENTS];
  row.read(v);
  if constexpr (config::NORM) {
    S sum = S(0), squares = S(0);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) sum += v[k];
    const S mean = over_team(sum, team, add) / S(length);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      v[k] = row.inside(k) ? v[k] - mean : S(0);
      squares += v[k] * v[k];
    }
    const S scale = S(1) / root(over_team(squares, team, add) / S(length) + S(config::EPS));
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) v[k] *= scale;
    if constexpr (config::WEIGHT) row.with_vector(a.weight, [&](int k, S u) { v[k] *= u; });
    if constexpr (config::BIAS) row.with_vector(a.bias, [&](int k, S u) { v[k] += u; });
  }
  if constexpr (config::SOFTMAX) {
    S most = S(-infinity()), sum = S(0);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k)
      if (row.inside(k)) most = larger(most, v[k]);
    most = over_team(most, team, [](S x, S y) { return larger(x, y); });
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      v[k] = row.inside(k) ? exponential(v[k] - most) : S(0);
      sum += v[k];
    }
    const S scale = S(1) / over_team(sum, team, add);
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) v[k] *= scale;
  }
  if constexpr (config::NORM || config::SOFTMAX) {
#pragma unroll
    for (int k = 0; k < ELEMENTS; ++k) {
      const Spot s = row.spot(k);
      const S u = config::middle(v[k], a, row.operands, s.n, s.channel, row.first + row.place(k));
      v[k] = row.inside(k) ? u : S(0);
    }
  }
  if constexpr (REDUCE < 0) {
    row.write(v);
  } else {
    S r;
    if constexpr (REDUCE == AS_SUM || REDUCE == AS_MEAN) {
      r = S(0);
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k) r += row.inside(k) ? v[k] : S(0);
      r = over_team(r, team, add);
      if constexpr (REDUCE == AS_MEAN) r = r / S(length);
    } else {
      constexpr bool least = REDUCE == AS_MINIMUM;
      r = S(least ? infinity() : -infinity());
#pragma unroll
      for (int k = 0; k < ELEMENTS; ++k)
        if (row.inside(k)) r = least ? smaller(r, v[k]) : larger(r, v[k]);
      r = over_team(r, team, [](S x, S y) { return least ? smaller(x, y) : larger(x, y); });
      if constexpr (REDUCE == AS_LOGSUMEXP) {
        const S zero = finite_or_zero(r);
        S sum = S(0);
#pragma unroll
        for (int k = 0; k < ELEMENTS; ++k) sum += row.inside(k) ? exponential(v[k] - zero) : S(0);
        r = natural_log(over_team(sum, team, add)) + zero;
      }
    }
    if (!row.exists || row.lane != 0) return;
    const u32 plane = static_cast<u32>(quotient(row.number, a.result.values.c)), n = plane / config::RESULT_CHANNELS;
    r = config::last(r, a, row.operands, static_cast<int>(n), static_cast<int>(plane - n * config::RESULT_CHANNELS),
                     row.number);
    static_cast<Out*>(a.out)[row.number] = from_float<Out>(r);
  }
}

}  // namespace upconv::closing

extern "C" __global__ void __launch_bounds__(256)
    closing_rows(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  const int bits = 31 - __clz(a.team), team = static_cast<int>(threadIdx.x) >> bits;  // teams are powers of two
  const int lane = static_cast<int>(threadIdx.x) - (team << bits);
  const i64 number = i64(block_number(a)) * (THREADS >> bits) + team;
  const bool exists = number < a.units;
  if constexpr (config::VECTORS) {
    const bool aligned = in_place_for<Stored, 4>(a.source) && in_place_for<Out, 4>(a.out) &&
                         (!config::WEIGHT || in_place_for<Element, 4>(a.weight)) &&
                         (!config::BIAS || in_place_for<Element, 4>(a.bias));
    if (a.length % 4 == 0 && aligned) return finish_row(Row<4>(a, operands, number, exists, lane));
  }
  finish_row(Row<1>(a, operands, number, exists, lane));
}
