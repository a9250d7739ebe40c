// The gradient of a softmax over values that lie apart (closing/columns.cuh), taken through the steps after it first
// and the items in front of it last: of s = softmax(u) and h, the gradient of s, that of u is s * (h - sum of h * s).
// With LENGTH known, values and gradients are read once, all at once, and stay in registers; else they are read three
// times. Host preamble: that of closing/column.cuh and closing/gradient.cuh, and pull_after(S s, S g, ...), which is
// pull() for the steps after the softmax.
#include "closing/column.cuh"
#include "closing/gradient.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_pull_columns(const upconv::arguments::Pull p, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  const Closing& a = p.values;
  const int part = threadIdx.x / 32 % SPLIT;
  const Columns c(a);
  S no_sums[1] = {};
  const auto number = [&](int e, i64 l) { return c.base[e] + l * a.inner; };
  const auto first = [&](int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return beginning(p, operands, s.n, s.channel, s.inside, number(e, l));
  };
  const auto forward = [&](S v, int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return given(v, p, operands, s.n, s.channel, number(e, l));
  };
  const auto arrives = [&](int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return arriving_at(p, s.n, s.channel, s.inside, number(e, l));
  };
  const auto after = [&](S v, S g, int e, i64 l) {
    const Spot s = place(a, c, e, l);
    return config::pull_after(v, g, p, operands, s.n, s.channel, number(e, l), no_sums);
  };
  const auto write = [&](S v, S g, int e, i64 l) {
    const Spot s = place(a, c, e, l);
    const S back = config::pull(v, g, p, operands, s.n, s.channel, number(e, l), no_sums);
    static_cast<Out*>(a.out)[number(e, l)] = from_float<Out>(back);
  };
  if constexpr (LENGTH > 0) {
    S v[EACH][HELD], g[EACH][HELD], s[EACH][HELD];
    Collected<LARGEST, S> most[EACH];
    Collected<SUM, S> sum[EACH], product[EACH];
    const auto exists = [&](int h) { return LENGTH % SPLIT == 0 || part + h * SPLIT < LENGTH; };
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        const bool there = c.exists[e] && exists(h);
        v[e][h] = there ? first(e, part + h * SPLIT) : S(0);
        g[e][h] = there ? arrives(e, part + h * SPLIT) : S(0);
      }
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      most[e] = Collected<LARGEST, S>::none();
#pragma unroll
      for (int h = 0; h < HELD; ++h) {
        s[e][h] = c.exists[e] && exists(h) ? forward(v[e][h], e, part + h * SPLIT) : S(0);
        if (exists(h)) most[e].first = larger(most[e].first, s[e][h]);
      }
    }
    merge_split(most);
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      sum[e] = Collected<SUM, S>::none();
#pragma unroll
      for (int h = 0; h < HELD; ++h) {
        s[e][h] = exponential(s[e][h] - most[e].first);
        if (exists(h)) sum[e].first += s[e][h];
      }
    }
    merge_split(sum);
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
      product[e] = Collected<SUM, S>::none();
      const S scale = S(1) / sum[e].first;
#pragma unroll
      for (int h = 0; h < HELD; ++h) {
        s[e][h] *= scale;
        if (!c.exists[e] || !exists(h)) continue;
        g[e][h] = after(s[e][h], g[e][h], e, part + h * SPLIT);
        product[e].first += s[e][h] * g[e][h];
      }
    }
    merge_split(product);
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int e = 0; e < EACH; ++e)
        if (c.exists[e] && exists(h)) write(v[e][h], s[e][h] * (g[e][h] - product[e].first), e, part + h * SPLIT);
  } else {
    constexpr int few = 4;
    const i64 length = a.length;
    Collected<EXPONENTIALS, S> soft[EACH];
    Collected<SUM, S> product[EACH];
#pragma unroll
    for (int e = 0; e < EACH; ++e) soft[e] = Collected<EXPONENTIALS, S>::none(), product[e] = Collected<SUM, S>::none();
    for (i64 l = part; l < length; l += few * SPLIT)
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        S v[few];
        int held = 0;
#pragma unroll
        for (int k = 0; k < few; ++k) {
          const bool inside = l + k * SPLIT < length;
          v[k] = inside ? forward(first(e, l + k * SPLIT), e, l + k * SPLIT) : S(0);
          held += inside;
        }
        soft[e].take(v, held);
      }
    merge_split(soft);
    const auto softened = [&](S v, int e) { return exponential(v - soft[e].first) * (S(1) / soft[e].second); };
    for (i64 l = part; l < length; l += SPLIT)
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        if (!c.exists[e]) continue;
        const S s = softened(forward(first(e, l), e, l), e);
        product[e].first += s * after(s, arrives(e, l), e, l);
      }
    merge_split(product);
    for (i64 l = part; l < length; l += SPLIT)
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        if (!c.exists[e]) continue;
        const S v = first(e, l), s = softened(forward(v, e, l), e);
        write(v, s * (after(s, arrives(e, l), e, l) - product[e].first), e, l);
      }
  }
}
