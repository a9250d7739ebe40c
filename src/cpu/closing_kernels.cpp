// Closing steps on values that the convolution has just left in the caches: norms, softmax, reductions, pooling, each
// with the element-wise steps after it. Sums are taken in short vector blocks that are added up in double; statistics
// in two passes. Compiled once per instruction set; closing.hpp says what each computes.
#include "cpu/closing.hpp"
#include "cpu/simd.hpp"
#include "epilogue/simd.hpp"
#include "upconv/chain.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using namespace upconv::cpu;
typedef ClosingStep::Reduction Reduction;

constexpr std::int64_t chunk = 1024;  ///< values that stay in the first-level cache between two loops over them

static inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// The program on n values from `flat` on, all of one channel.
template <class S, class T>
static inline void finish(const ClosingProgram& p, T* values, std::int64_t flat, std::int64_t n) {
  if (p.steps.count == 0) return;
  if (!p.steps.operands) return apply_epilogue(p.steps, values, n);
  const std::int64_t plane = flat / p.volume, at = flat % p.volume;
  RowPlace place{p.n0 + plane / p.channels, plane % p.channels};
  if (!p.spatial) return apply_epilogue<S>(p.steps, p.operands, place, values, n);
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t row = (at + i) / p.w;
    place.d = row / p.h, place.h = row % p.h, place.w = (at + i) % p.w;
    const std::int64_t count = least(n - i, p.w - place.w);
    apply_epilogue<S>(p.steps, p.operands, place, values + i, count);
    i += count;
  }
}

template <class T>
static inline double sum_lanes(Vec<T> v) {
  double total = 0.0;
  for (int k = 0; k < lanes<T>; ++k) total += double(v[k]);
  return total;
}

/// Sum of (v - shift) and, with Squares, of its square, over at most `chunk` values.
template <bool Squares, class T>
static inline void sum_chunk(const T* p, std::int64_t n, T shift, double& sum, double& squares) {
  constexpr int L = lanes<T>;
  const Vec<T> m = broadcast(shift);
  Vec<T> a[4] = {}, q[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L)
    for (int k = 0; k < 4; ++k) {
      const Vec<T> v = load(p + i + k * L) - m;
      a[k] += v;
      if (Squares) q[k] += v * v;
    }
  for (; i + L <= n; i += L) {
    const Vec<T> v = load(p + i) - m;
    a[0] += v;
    if (Squares) q[0] += v * v;
  }
  sum += sum_lanes<T>((a[0] + a[1]) + (a[2] + a[3]));
  if (Squares) squares += sum_lanes<T>((q[0] + q[1]) + (q[2] + q[3]));
  for (; i < n; ++i) {
    const double v = double(p[i]) - double(shift);
    sum += v;
    if (Squares) squares += v * v;
  }
}

template <class T>
static inline double sum_of(const T* p, std::int64_t n) {
  double sum = 0.0, none = 0.0;
  for (std::int64_t i = 0; i < n; i += chunk) sum_chunk<false>(p + i, least(chunk, n - i), T(0), sum, none);
  return sum;
}

/// Two passes; the second also corrects the mean that the compute type has rounded.
template <class T>
static inline void moments_of(const T* p, std::int64_t n, double& mean, double& squares) {
  const T shift = T(sum_of(p, n) / double(n));
  double sum = 0.0;
  squares = 0.0;
  for (std::int64_t i = 0; i < n; i += chunk) sum_chunk<true>(p + i, least(chunk, n - i), shift, sum, squares);
  mean = double(shift) + sum / double(n);
  squares -= sum * sum / double(n);
  if (squares < 0.0) squares = 0.0;
}

template <class S>
void moments(const void* values, std::int64_t n, double* mean, double* squares) {
  typedef typename Compute<S>::type T;
  moments_of(static_cast<const T*>(values), n, *mean, *squares);
}

template <class S>
void affine(const ClosingProgram& p, const void* in_, void* out_, std::int64_t flat, std::int64_t n, double scale_,
            double shift_) {
  typedef typename Compute<S>::type T;
  const T *in = static_cast<const T*>(in_) + flat, scale = T(scale_), shift = T(shift_);
  T* out = static_cast<T*>(out_) + flat;
  const bool plain = scale == T(1) && shift == T(0);
  for (std::int64_t i = 0; i < n; i += chunk) {
    const std::int64_t count = least(chunk, n - i);
    if (!plain)
      for (std::int64_t k = i; k < i + count; ++k) out[k] = in[k] * scale + shift;
    else if (in != out)
      std::memcpy(out + i, in + i, std::size_t(count) * sizeof(T));
    finish<S>(p, out + i, flat + i, count);
  }
}

template <class S>
void channels(const ClosingProgram& p, const void* in, void* out, std::int64_t n) {
  typedef typename Compute<S>::type T;
  const T* from = static_cast<const T*>(in) + n * p.channels;
  T* to = static_cast<T*>(out) + n * p.channels;
  if (from != to) std::memcpy(to, from, std::size_t(p.channels) * sizeof(T));
  if (p.steps.count > 0) apply_epilogue<S>(p.steps, p.operands, {p.n0 + n, 0, 0, 0, 0, true}, to, p.channels);
}

template <class S>
void row_norm(const ClosingProgram& p, const void* in_, void* out_, std::int64_t flat, std::int64_t n,
              const void* weight_, const void* bias_, double eps) {
  typedef typename Compute<S>::type T;
  const T* in = static_cast<const T*>(in_) + flat;
  T* out = static_cast<T*>(out_) + flat;
  const S *weight = static_cast<const S*>(weight_), *bias = static_cast<const S*>(bias_);
  double mean, squares;
  moments_of(in, n, mean, squares);
  const double inverse = 1.0 / __builtin_sqrt(squares / double(n) + eps);
  const T scale = T(inverse), shift = T(-mean * inverse);
  if (weight && bias)
    for (std::int64_t i = 0; i < n; ++i) out[i] = (in[i] * scale + shift) * widen(weight[i]) + widen(bias[i]);
  else if (weight)
    for (std::int64_t i = 0; i < n; ++i) out[i] = (in[i] * scale + shift) * widen(weight[i]);
  else
    for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] * scale + shift;
  // A row over several channels has its program applied channel by channel.
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t count = least(n - i, p.volume - (flat + i) % p.volume);
    finish<S>(p, out + i, flat + i, count);
    i += count;
  }
}

/// NaN wins.
template <class V>
static inline V larger(V a, V b) {
  return b > a ? b : (b != b ? b : a);
}
template <class V>
static inline V smaller(V a, V b) {
  return b < a ? b : (b != b ? b : a);
}

template <class T>
static inline Vec<T> exponential(Vec<T> v) {
  EpilogueStep step;
  step.activation = Activation::exp;
  return activate_vector(step, v);
}
static inline float logarithm(float v) { return ::logf(v); }
static inline double logarithm(double v) { return ::log(v); }
template <class T>
static inline T exponential_one(T v) {
  Vec<T> u = broadcast(v);
  return exponential<T>(u)[0];
}

template <bool Smallest, class T>
static inline T extreme_of(const T* p, std::int64_t n) {
  constexpr int L = lanes<T>;
  T best = p[0];
  std::int64_t i = 0;
  if (n >= L) {
    Vec<T> v = load(p);
    for (i = L; i + L <= n; i += L) v = Smallest ? smaller(v, load(p + i)) : larger(v, load(p + i));
    best = v[0];
    for (int k = 1; k < L; ++k) best = Smallest ? smaller(best, T(v[k])) : larger(best, T(v[k]));
  }
  for (; i < n; ++i) best = Smallest ? smaller(best, p[i]) : larger(best, p[i]);
  return best;
}

/// out = e^(in - largest); returns the sum. A row without finite values gives what the formula gives.
template <class T>
static inline double exponentials(const T* in, T* out, std::int64_t n, T largest) {
  constexpr int L = lanes<T>;
  double sum = 0.0;
  for (std::int64_t i0 = 0; i0 < n; i0 += chunk) {
    const std::int64_t end = i0 + least(chunk, n - i0);
    Vec<T> total{};
    std::int64_t i = i0;
    for (; i + L <= end; i += L) {
      const Vec<T> e = exponential<T>(load(in + i) - largest);
      total += e;
      if (out) store(out + i, e);
    }
    sum += sum_lanes<T>(total);
    for (; i < end; ++i) {
      const T e = exponential_one<T>(in[i] - largest);
      sum += double(e);
      if (out) out[i] = e;
    }
  }
  return sum;
}

template <class T>
static inline T finite_or_zero(T v) {
  return v - v == T(0) ? v : T(0);
}

template <class T>
static inline T reduce_row(Reduction reduction, const T* p, std::int64_t n) {
  switch (reduction) {
    case Reduction::sum:
      return T(sum_of(p, n));
    case Reduction::mean:
      return T(sum_of(p, n) / double(n));
    case Reduction::maximum:
      return extreme_of<false>(p, n);
    case Reduction::minimum:
      return extreme_of<true>(p, n);
    case Reduction::logsumexp: {
      const T largest = finite_or_zero(extreme_of<false>(p, n));
      return T(__builtin_log(exponentials<T>(p, nullptr, n, largest)) + double(largest));
    }
  }
  return T(0);
}

/// acc[i] = op(acc[i], row[i]).
template <class T, class F>
static inline void fold(T* acc, const T* row, std::int64_t n, F op) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L <= n; i += L) store(acc + i, op(load(acc + i), load(row + i)));
  for (; i < n; ++i) acc[i] = op(broadcast(acc[i]), broadcast(row[i]))[0];
}
template <class T>
static inline void fold_extreme(bool smallest, T* acc, const T* row, std::int64_t n) {
  if (smallest)
    fold(acc, row, n, [](Vec<T> a, Vec<T> b) { return smaller(a, b); });
  else
    fold(acc, row, n, [](Vec<T> a, Vec<T> b) { return larger(a, b); });
}

/// Sums of rows, 16 at a time apart, so that many rows round as few do.
template <class T>
static inline void sum_rows(const T* p, std::int64_t length, std::int64_t step, std::int64_t n, T* acc) {
  T part[closing_block];
  for (std::int64_t i = 0; i < n; ++i) acc[i] = T(0);
  for (std::int64_t r = 0; r < length;) {
    const std::int64_t end = r + 16 < length ? r + 16 : length;
    std::memcpy(part, p + r * step, std::size_t(n) * sizeof(T));
    for (++r; r < end; ++r) fold(part, p + r * step, n, [](Vec<T> a, Vec<T> b) { return a + b; });
    fold(acc, part, n, [](Vec<T> a, Vec<T> b) { return a + b; });
  }
}

template <class T>
static inline void extreme_rows(bool smallest, const T* p, std::int64_t length, std::int64_t step, std::int64_t n,
                                T* acc) {
  std::memcpy(acc, p, std::size_t(n) * sizeof(T));
  for (std::int64_t r = 1; r < length; ++r) fold_extreme(smallest, acc, p + r * step, n);
}

/// e^(row - largest) of one row of a block, stored if out is given, added to sum.
template <class T>
static inline void exponential_row(const T* row, const T* largest, std::int64_t n, T* out, T* sum) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> e = exponential<T>(load(row + i) - load(largest + i));
    store(sum + i, load(sum + i) + e);
    if (out) store(out + i, e);
  }
  for (; i < n; ++i) {
    const T e = exponential_one<T>(row[i] - largest[i]);
    sum[i] += e;
    if (out) out[i] = e;
  }
}

template <class S>
void reduce(const ClosingRange& range, const void* in_, void* out_, std::int64_t outer, std::int64_t first,
            std::int64_t count) {
  typedef typename Compute<S>::type T;
  const T* in = static_cast<const T*>(in_) + outer * range.length * range.inner + first;
  T* out = static_cast<T*>(out_) + outer * range.inner + first;
  const Reduction reduction = Reduction(range.reduction);
  if (range.inner == 1) {
    *out = reduce_row(reduction, in, range.length);
    return;
  }
  switch (reduction) {
    case Reduction::sum:
      return sum_rows(in, range.length, range.inner, count, out);
    case Reduction::mean: {
      sum_rows(in, range.length, range.inner, count, out);
      for (std::int64_t i = 0; i < count; ++i) out[i] /= T(range.length);
      return;
    }
    case Reduction::maximum:
    case Reduction::minimum:
      return extreme_rows(reduction == Reduction::minimum, in, range.length, range.inner, count, out);
    case Reduction::logsumexp: {
      T largest[closing_block];
      extreme_rows(false, in, range.length, range.inner, count, largest);
      for (std::int64_t i = 0; i < count; ++i) largest[i] = finite_or_zero(largest[i]), out[i] = T(0);
      for (std::int64_t r = 0; r < range.length; ++r)
        exponential_row<T>(in + r * range.inner, largest, count, nullptr, out);
      for (std::int64_t i = 0; i < count; ++i) out[i] = logarithm(out[i]) + largest[i];
    }
  }
}

template <class S>
void softmax(const ClosingProgram& p, const ClosingRange& range, const void* in_, void* out_, std::int64_t outer,
             std::int64_t first, std::int64_t count) {
  typedef typename Compute<S>::type T;
  const std::int64_t flat = outer * range.length * range.inner + first;
  const T* in = static_cast<const T*>(in_) + flat;
  T* out = static_cast<T*>(out_) + flat;
  if (range.inner == 1) {
    const T largest = extreme_of<false>(in, range.length);
    const T scale = T(1.0 / exponentials<T>(in, out, range.length, largest));
    for (std::int64_t i = 0; i < range.length; i += chunk) {
      const std::int64_t n = least(chunk, range.length - i);
      for (std::int64_t k = i; k < i + n; ++k) out[k] *= scale;
      for (std::int64_t k = i; k < i + n;) {  // channel by channel
        const std::int64_t m = least(i + n - k, p.volume - (flat + k) % p.volume);
        finish<S>(p, out + k, flat + k, m);
        k += m;
      }
    }
    return;
  }
  T largest[closing_block], sum[closing_block];
  extreme_rows(false, in, range.length, range.inner, count, largest);
  for (std::int64_t i = 0; i < count; ++i) sum[i] = T(0);
  for (std::int64_t r = 0; r < range.length; ++r)
    exponential_row<T>(in + r * range.inner, largest, count, out + r * range.inner, sum);
  for (std::int64_t i = 0; i < count; ++i) sum[i] = T(1) / sum[i];
  for (std::int64_t r = 0; r < range.length; ++r) {
    fold(out + r * range.inner, sum, count, [](Vec<T> a, Vec<T> b) { return a * b; });
    finish<S>(p, out + r * range.inner, flat + r * range.inner, count);
  }
}

/// Windows along w of a row that is already reduced over d and h.
template <class T>
static inline void pool_line(const ClosingPool& pool, const T* line, T* out) {
  const std::int64_t k = pool.kernel[2], s = pool.stride[2], n = pool.out[2];
  if (pool.padding[2] == 0 && k == 2 && s == 2) {
    if (pool.average)
      for (std::int64_t i = 0; i < n; ++i) out[i] = line[2 * i] + line[2 * i + 1];
    else
      for (std::int64_t i = 0; i < n; ++i) out[i] = larger(line[2 * i], line[2 * i + 1]);
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t a = i * s - pool.padding[2], b = a + k;
    a = a < 0 ? 0 : a, b = b > pool.in[2] ? pool.in[2] : b;
    T v = line[a];
    for (std::int64_t j = a + 1; j < b; ++j) v = pool.average ? v + line[j] : larger(v, line[j]);
    out[i] = v;
  }
}

template <class S>
void pool(const ClosingProgram& p, const ClosingPool& pool, const void* in_, void* out_, std::int64_t flat,
          std::int64_t first, std::int64_t end, void* line_) {
  typedef typename Compute<S>::type T;
  const T* in = static_cast<const T*>(in_);
  T *out = static_cast<T*>(out_) + flat, *line = static_cast<T*>(line_);
  for (std::int64_t row = first; row < end; ++row) {
    const std::int64_t at[2] = {row / pool.out[1], row % pool.out[1]};
    std::int64_t a[2], b[2], window = 1;  // planes and rows of the window, and what an average divides by
    for (int d = 0; d < 2; ++d) {
      a[d] = at[d] * pool.stride[d] - pool.padding[d];
      b[d] = least(a[d] + pool.kernel[d], pool.in[d] + pool.padding[d]);
      if (pool.count_include_pad) window *= b[d] - a[d];
      a[d] = a[d] < 0 ? 0 : a[d];
      b[d] = least(b[d], pool.in[d]);
      if (!pool.count_include_pad) window *= b[d] - a[d];
    }
    bool begun = false;
    for (std::int64_t d = a[0]; d < b[0]; ++d)
      for (std::int64_t h = a[1]; h < b[1]; ++h) {
        const T* from = in + (d * pool.in[1] + h) * pool.in[2];
        if (!begun)
          std::memcpy(line, from, std::size_t(pool.in[2]) * sizeof(T));
        else if (pool.average)
          fold(line, from, pool.in[2], [](Vec<T> x, Vec<T> y) { return x + y; });
        else
          fold_extreme(false, line, from, pool.in[2]);
        begun = true;
      }
    T* to = out + row * pool.out[2];
    pool_line(pool, line, to);
    if (pool.average) {
      if (pool.padding[2] == 0) {
        const T scale = T(1) / T(window * pool.kernel[2]);
        for (std::int64_t i = 0; i < pool.out[2]; ++i) to[i] *= scale;
      } else {
        for (std::int64_t i = 0; i < pool.out[2]; ++i) {
          const std::int64_t w0 = i * pool.stride[2] - pool.padding[2];
          std::int64_t width = least(w0 + pool.kernel[2], pool.in[2] + pool.padding[2]) - w0;
          if (!pool.count_include_pad) width = least(w0 + pool.kernel[2], pool.in[2]) - (w0 < 0 ? 0 : w0);
          to[i] /= T(window * width);
        }
      }
    }
    finish<S>(p, to, flat + row * pool.out[2], pool.out[2]);
  }
}

template <class S>
void rows(const EpilogueSteps& steps, const Operand* operands, const RowPlace& place, const void* in_, void* out_,
          std::int64_t n) {
  typedef typename Compute<S>::type T;
  const S* in = static_cast<const S*>(in_);
  S* out = static_cast<S*>(out_);
  T values[chunk];
  for (std::int64_t i = 0; i < n; i += chunk) {
    const std::int64_t count = least(chunk, n - i);
    RowPlace at = place;
    (place.along_channels ? at.c : at.w) += i;
    widen_row(in + i, values, count);
    apply_epilogue<S>(steps, operands, at, values, count);
    narrow_row(values, out + i, count);
  }
}

template <class S>
void widen_values(const void* storage, void* values, std::int64_t n) {
  widen_row(static_cast<const S*>(storage), static_cast<typename Compute<S>::type*>(values), n);
}
template <class S>
void narrow_values(const void* values, void* storage, std::int64_t n) {
  narrow_row(static_cast<const typename Compute<S>::type*>(values), static_cast<S*>(storage), n);
}

template <class S>
constexpr ClosingKernels table() {
  return {moments<S>, affine<S>, channels<S>, row_norm<S>,     reduce<S>,
          softmax<S>, pool<S>,   rows<S>,     widen_values<S>, narrow_values<S>};
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const ClosingKernels closing_kernels[4];
const ClosingKernels closing_kernels[4] = {table<float>(), table<double>(), table<Half>(), table<BFloat>()};

}  // namespace upconv::UPCONV_ISA
