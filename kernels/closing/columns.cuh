// Softmax and reductions over a dimension whose values lie apart: values [units][length][inner], a column is all
// `length` values of one (unit, position). Steps after a softmax, a reduction over the same columns, steps after that.
// A thread has EACH columns, 32 apart, and every SPLIT-th value of them; SPLIT warps share a column. With LENGTH known
// (channels) a thread's values stay in its registers between the passes over them: they are read once, all at once.
// Else they are read again. Where the values are kept in registers the result may take the source's place; so may it
// else, since a value is read last by the thread that overwrites it. Floor: the source once, the result once.
// Host preamble: LENGTH (0: known at run time), SPLIT, EACH, SOFTMAX, REDUCE (-1: none), CHANNEL_RANGE (columns run
// over the channels alone).
#include "closing/column.cuh"

namespace upconv::closing {

using config::REDUCE;
using config::SOFTMAX;
constexpr int COLLECT = REDUCE == AS_MAXIMUM     ? LARGEST
                        : REDUCE == AS_MINIMUM   ? SMALLEST
                        : REDUCE == AS_LOGSUMEXP ? EXPONENTIALS
                                                 : SUM;

}  // namespace upconv::closing

extern "C" __global__ void __launch_bounds__(256)
    closing_columns(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  const int warp = threadIdx.x / 32, part = warp % SPLIT;
  const Columns c(a);
  /// Value l of column e, or 0 where there is none.
  const auto read = [&](int e, i64 l, bool exists) {
    return value_if(exists && c.exists[e], a, operands, place(a, c, e, exists ? l : 0));
  };
  const auto after_softmax = [&](S v, int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return config::middle(v, a, operands, s.n, s.channel, c.base[e] + l * a.inner);
  };
  const auto write = [&](S v, int e, i64 l) { static_cast<Out*>(a.out)[c.base[e] + l * a.inner] = from_float<Out>(v); };
  Collected<COLLECT, S> total[EACH];
#pragma unroll
  for (int e = 0; e < EACH; ++e) total[e] = Collected<COLLECT, S>::none();

  if constexpr (LENGTH > 0) {
    S v[EACH][HELD];
    const auto exists = [&](int h) { return LENGTH % SPLIT == 0 || part + h * SPLIT < LENGTH; };
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int e = 0; e < EACH; ++e) v[e][h] = read(e, part + h * SPLIT, exists(h));
    if constexpr (SOFTMAX) {
      Collected<LARGEST, S> most[EACH];
      Collected<SUM, S> sum[EACH];
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        most[e] = Collected<LARGEST, S>::none();
#pragma unroll
        for (int h = 0; h < HELD; ++h)
          if (exists(h)) most[e].first = larger(most[e].first, v[e][h]);
      }
      merge_split(most);
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        sum[e] = Collected<SUM, S>::none();
#pragma unroll
        for (int h = 0; h < HELD; ++h) {
          v[e][h] = exponential(v[e][h] - most[e].first);
          if (exists(h)) sum[e].first += v[e][h];
        }
      }
      merge_split(sum);
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        const S scale = S(1) / sum[e].first;
#pragma unroll
        for (int h = 0; h < HELD; ++h) v[e][h] = after_softmax(v[e][h] * scale, e, exists(h) ? part + h * SPLIT : 0);
      }
    }
    if constexpr (REDUCE < 0) {
#pragma unroll
      for (int h = 0; h < HELD; ++h)
#pragma unroll
        for (int e = 0; e < EACH; ++e)
          if (c.exists[e] && exists(h)) write(v[e][h], e, part + h * SPLIT);
      return;
    }
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      if constexpr (LENGTH % SPLIT == 0) {
        total[e].take(v[e], HELD);
      } else {
        total[e].take(v[e], exists(HELD - 1) ? HELD : HELD - 1);
      }
    }
  } else {
    constexpr int most = 4;
    const i64 length = a.length;
    Collected<EXPONENTIALS, S> soft[EACH];
    if constexpr (SOFTMAX) {
#pragma unroll
      for (int e = 0; e < EACH; ++e) soft[e] = Collected<EXPONENTIALS, S>::none();
      for (i64 l = part; l < length; l += most * SPLIT)
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
          S v[most];
          int held = 0;
#pragma unroll
          for (int k = 0; k < most; ++k) {
            v[k] = read(e, l + k * SPLIT, l + k * SPLIT < length);
            held += l + k * SPLIT < length;
          }
          soft[e].take(v, held);
        }
      merge_split(soft);
    }
    for (i64 l = part; l < length; l += most * SPLIT)
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        S v[most];
        int held = 0;
#pragma unroll
        for (int k = 0; k < most; ++k) {
          const bool inside = l + k * SPLIT < length;
          v[k] = read(e, l + k * SPLIT, inside);
          held += inside;
        }
        if constexpr (SOFTMAX) {
          const S scale = soft[e].first - soft[e].first == S(0) ? S(1) / soft[e].second : S(not_a_number());
#pragma unroll
          for (int k = 0; k < most; ++k)
            if (k < held) v[k] = after_softmax(exponential(v[k] - soft[e].first) * scale, e, l + k * SPLIT);
        }
        if constexpr (REDUCE < 0) {
#pragma unroll
          for (int k = 0; k < most; ++k)
            if (k < held && c.exists[e]) write(v[k], e, l + k * SPLIT);
        } else {
          total[e].take(v, held);
        }
      }
    if constexpr (REDUCE < 0) return;
  }
  if constexpr (REDUCE >= 0) {
    merge_split(total);
    if (part != 0) return;
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      if (!c.exists[e]) continue;
      const i64 plane = quotient(c.column[e], a.result.values.c);
      const u32 n = static_cast<u32>(plane) / config::RESULT_CHANNELS;
      const S r = config::last(reduced(total[e], REDUCE, a.length), a, operands, static_cast<int>(n),
                               static_cast<int>(static_cast<u32>(plane) - n * config::RESULT_CHANNELS), c.column[e]);
      static_cast<Out*>(a.out)[c.column[e]] = from_float<Out>(r);
    }
  }
}
