// Softmax and reductions over a dimension whose values lie apart: values [units][length][inner], a column is all
// `length` values of one (unit, position). Steps after a softmax, a reduction over the same columns, steps after that.
// A thread has EACH columns, 32 apart, and every SPLIT-th value of them; SPLIT warps share a column. With LENGTH known
// (channels) a thread's values stay in its registers between the passes over them: they are read once, all at once.
// Else they are read again. Where the values are kept in registers the result may take the source's place; so may it
// else, since a value is read last by the thread that overwrites it. Floor: the source once, the result once.
// Host preamble: LENGTH (0: known at run time), SPLIT, EACH, SOFTMAX, REDUCE (-1: none), CHANNEL_RANGE (columns run
// over the channels alone).
#include "closing/collect.cuh"

namespace upconv::closing {

using config::EACH;
using config::LENGTH;
using config::REDUCE;
using config::SOFTMAX;
using config::SPLIT;
constexpr int GROUPS = THREADS / 32 / SPLIT;                         ///< of warps that share columns
constexpr int HELD = LENGTH > 0 ? (LENGTH + SPLIT - 1) / SPLIT : 1;  ///< values of a column in a thread
constexpr int COLLECT = REDUCE == AS_MAXIMUM     ? LARGEST
                        : REDUCE == AS_MINIMUM   ? SMALLEST
                        : REDUCE == AS_LOGSUMEXP ? EXPONENTIALS
                                                 : SUM;
constexpr int SHARED_COLUMNS = GROUPS * 32 * EACH;

/// Merges the SPLIT parts of every column; all of its threads have the whole afterwards.
template <int collect>
__device__ __forceinline__ void merge_split(Collected<collect, S> (&c)[EACH]) {
  if constexpr (SPLIT > 1) {
    struct Parts {
      S first[SPLIT][SHARED_COLUMNS], second[SPLIT][SHARED_COLUMNS];
    };
    __shared__ Parts parts;
    const int warp = threadIdx.x / 32, part = warp % SPLIT, at = warp / SPLIT * (32 * EACH) + threadIdx.x % 32;
    __syncthreads();  // what an earlier merge left here has been read
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      parts.first[part][at + 32 * e] = c[e].first;
      if constexpr (collect == EXPONENTIALS) parts.second[part][at + 32 * e] = c[e].second;
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      c[e] = {S(0), parts.first[0][at + 32 * e], S(0)};
      if constexpr (collect == EXPONENTIALS) c[e].second = parts.second[0][at + 32 * e];
#pragma unroll
      for (int p = 1; p < SPLIT; ++p)
        c[e].merge({S(0), parts.first[p][at + 32 * e], collect == EXPONENTIALS ? parts.second[p][at + 32 * e] : S(0)});
    }
  }
}

/// Where a thread's columns lie.
struct Columns {
  i64 base[EACH];  ///< number of the first value among all
  i64 column[EACH];
  int unit[EACH];
  Index inside[EACH];
  bool exists[EACH];
};

/// The value `l` of column e, and where it is.
__device__ __forceinline__ Spot place(const Closing& a, const Columns& c, int e, i64 l) {
  if constexpr (config::CHANNEL_RANGE) return {c.unit[e], static_cast<int>(l), c.inside[e]};
  return spot(a, c.base[e] + l * a.inner);
}

}  // namespace upconv::closing

extern "C" __global__ void __launch_bounds__(256)
    closing_columns(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  const int warp = threadIdx.x / 32, part = warp % SPLIT;
  Columns c;
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const i64 column = i64(blockIdx.x) * SHARED_COLUMNS + warp / SPLIT * (32 * EACH) + threadIdx.x % 32 + 32 * e;
    c.exists[e] = column < a.units * a.inner;
    c.column[e] = c.exists[e] ? column : 0;
    const i64 unit = quotient(c.column[e], a.inner);
    c.unit[e] = static_cast<int>(unit);
    c.inside[e] = static_cast<Index>(c.column[e] - unit * a.inner);
    c.base[e] = unit * a.length * a.inner + c.inside[e];
  }
  const auto read = [&](int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return value(a, operands, s.n, s.channel, s.inside);
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
      for (int e = 0; e < EACH; ++e) v[e][h] = c.exists[e] && exists(h) ? read(e, part + h * SPLIT) : S(0);
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
        for (int h = 0; h < HELD; ++h)
          if (c.exists[e] && exists(h)) v[e][h] = after_softmax(v[e][h] * scale, e, part + h * SPLIT);
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
            v[k] = l + k * SPLIT < length ? read(e, l + k * SPLIT) : S(0);
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
          v[k] = inside ? read(e, l + k * SPLIT) : S(0);
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
