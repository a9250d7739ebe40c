// The epilogue on a row of accumulators, vectorised, for both CPU kernel families. fp32 uses the polynomials
// below, within 2 ulp of scalar.hpp (gelu and gelu_tanh 5, relative even where the result is tiny, as in gelu(-9));
// fp64 takes the cheap functions vectorised and calls libm for the rest.
#pragma once

#include <cmath>

#include "cpu/simd.hpp"
#include "epilogue/steps.hpp"

namespace upconv::UPCONV_ISA {

typedef std::int32_t IVec __attribute__((vector_size(UPCONV_VECTOR_BYTES)));

/// c[0] + c[1] t + ..., highest coefficient last.
template <class V, int N>
static inline V polynomial(const float (&c)[N], V t) {
  V p = t * c[N - 1] + c[N - 2];
  for (int i = N - 3; i >= 0; --i) p = p * t + c[i];
  return p;
}

/// e^v = 2^k (1 + m): k as a vector of integers, m = e^r - 1 with |r| <= ln(2)/2, `low` a small addend to v.
/// The magic number rounds to nearest in the default rounding mode; NaN passes through m.
struct Exponential {
  IVec k;
  Vec<float> m;
};
static inline Exponential reduce_exp(Vec<float> v, Vec<float> low) {
  constexpr float log2e = 1.44269504f, magic = 12582912.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  // (e^r - 1 - r) / r^2, relative to e^r within 7e-9.
  static constexpr float c[] = {0.49999997f, 0.166665137f, 0.0416669548f, 0.00836957898f, 0.00139049999f};
  const Vec<float> shifted = v * log2e + magic;
  const Vec<float> whole = shifted - magic;
  const Vec<float> r = (v - whole * ln2_high) - (whole * ln2_low - low);
  return {(IVec)shifted - 0x4b400000, r * r * polynomial(c, r) + r};
}
static inline Vec<float> power_of_two(IVec k) { return (Vec<float>)((k + 127) << 23); }

/// Between -105 and 89.5 the two-step scale keeps subnormal results and overflows to infinity as exp does.
static inline Vec<float> exp_of(Vec<float> v, Vec<float> low = Vec<float>{}) {
  v = v > 89.5f ? broadcast(89.5f) : v;
  v = v < -105.0f ? broadcast(-105.0f) : v;
  const Exponential e = reduce_exp(v, low);
  const IVec half = e.k >> 1;
  return (e.m + 1.0f) * power_of_two(half) * power_of_two(e.k - half);
}

/// e^v - 1 for v <= 0, without cancellation near zero.
static inline Vec<float> expm1_negative(Vec<float> v) {
  v = v < -30.0f ? broadcast(-30.0f) : v;
  const Exponential e = reduce_exp(v, Vec<float>{});
  const Vec<float> scale = power_of_two(e.k);
  return e.m * scale + (scale - 1.0f);
}

/// log(1 + u) for 0 <= u <= 1, as 2 atanh(s), s = u / (2 + u).
static inline Vec<float> log1p_unit(Vec<float> u) {
  static constexpr float c[] = {0.666666746f, 0.399988979f, 0.286163718f, 0.214331567f, 0.242806092f};
  const Vec<float> s = u / (u + 2.0f), s2 = s * s;
  return s * s2 * polynomial(c, s2) + (s + s);
}

static inline Vec<float> magnitude(Vec<float> v) { return (Vec<float>)((IVec)v & 0x7fffffff); }
static inline Vec<float> with_sign(Vec<float> m, Vec<float> v) {
  return (Vec<float>)(((IVec)m & 0x7fffffff) | ((IVec)v & std::int32_t(0x80000000)));
}

static inline Vec<float> tanh_of(Vec<float> v) {
  const Vec<float> e = expm1_negative(magnitude(v) * -2.0f);
  return with_sign(e / (e + 2.0f), v);
}

/// v times the normal distribution function. For z = |v| the tail is exp(-z^2/2) g(z), where g(z) (1 + 2z) is
/// smooth in (z - 2.5) / (z + 2.5) (fit within 3.3e-9 on [0, 14.5], where the tail leaves fp32). z^2 is split
/// so that its rounding does not reach the exponent.
static inline Vec<float> gelu_of(Vec<float> v) {
  static constexpr float c[] = {0.847988009f,    0.0448947921f,    -0.188569054f,   0.116675541f,
                                -0.0122758849f,  -0.0150492443f,   0.00174601399f,  0.00288874283f,
                                0.000194344349f, -0.000479463954f, -0.000153039975f};
  Vec<float> z = magnitude(v);
  z = z > 14.5f ? broadcast(14.5f) : z;
  const Vec<float> high = (Vec<float>)((IVec)z & ~0xfff);
  const Vec<float> square = high * high * -0.5f, rest = (z - high) * (z + high) * -0.5f;
  const Vec<float> denominator = (z + 2.5f) * (z * 2.0f + 1.0f);  // one division for both quotients
  const Vec<float> inverse = 1.0f / denominator;
  const Vec<float> g = polynomial(c, (z - 2.5f) * (z * 2.0f + 1.0f) * inverse) * ((z + 2.5f) * inverse);
  const Vec<float> tail = exp_of(square, rest) * g;
  return v * (v < 0.0f ? tail : 1.0f - tail);
}

static inline Vec<float> softplus_of(Vec<float> v) {
  const Vec<float> u = exp_of(-magnitude(v));
  return log1p_unit(u) + (v > 0.0f ? v : Vec<float>{});
}

static inline Vec<float> mish_of(Vec<float> v) {
  // tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); past 20 it is 1.
  const Vec<float> e = exp_of(v > 20.0f ? broadcast(20.0f) : v);
  const Vec<float> n = e * (e + 2.0f);
  return v * (n / (n + 2.0f));
}

template <class T>
static inline Vec<T> clamp_to(Vec<T> v, T low, T high) {  // NaN fails both comparisons and stays
  v = v < low ? broadcast(low) : v;
  return v > high ? broadcast(high) : v;
}

/// sin: v = n pi + r with pi in three parts, exact products while |v| < 8192; libm for a vector with a lane beyond.
static inline Vec<float> sin_of(Vec<float> v) {
  static constexpr float c[] = {-0.166666567f, 0.00833298452f, -0.000198125144f, 2.60831598e-06f};
  const Vec<float> m = magnitude(v);
  bool far = false;
  for (int i = 0; i < lanes<float>; ++i) far |= !(m[i] < 8192.0f);
  if (far) {
    for (int i = 0; i < lanes<float>; ++i) v[i] = ::sinf(v[i]);
    return v;
  }
  constexpr float magic = 12582912.0f;
  const Vec<float> shifted = v * 0.318309886f + magic;
  const Vec<float> n = shifted - magic;
  const Vec<float> r = ((v - n * 3.140625f) - n * 0.000967502594f) - n * 1.50995803e-07f;
  const Vec<float> r2 = r * r;
  const Vec<float> s = r * r2 * polynomial(c, r2) + r;
  return (Vec<float>)((IVec)s ^ ((IVec)shifted << 31));
}

/// The functions that need no transcendental, for both compute types; false: not one of them.
template <class T>
static inline bool activate_simple(const EpilogueStep& step, Vec<T>& v) {
  switch (step.activation) {
    case Activation::relu:
      v = v < T(0) ? Vec<T>{} : v;
      return true;
    case Activation::leaky_relu:
      v = v > T(0) ? v : v * T(step.a);
      return true;
    case Activation::hardtanh:
      v = clamp_to(v, T(step.a), T(step.b));
      return true;
    case Activation::hardswish:
      v = v * clamp_to<T>(v + T(3), T(0), T(6)) / T(6);
      return true;
    case Activation::hardsigmoid:
      v = clamp_to<T>(v + T(3), T(0), T(6)) / T(6);
      return true;
    case Activation::square:
      v = v * v;
      return true;
    default:
      return false;
  }
}

static inline Vec<float> activate_vector(const EpilogueStep& step, Vec<float> v) {
  if (activate_simple<float>(step, v)) return v;
  const float a = float(step.a);
  switch (step.activation) {
    case Activation::elu:
      return v > 0.0f ? v : expm1_negative(v) * a;
    case Activation::gelu:
      return gelu_of(v);
    case Activation::gelu_tanh:
      return v / (exp_of((v + v * v * v * 0.044715f) * -1.59576912f) + 1.0f);
    case Activation::silu:
      return v / (exp_of(-v) + 1.0f);
    case Activation::mish:
      return mish_of(v);
    case Activation::tanh:
      return tanh_of(v);
    case Activation::sigmoid:
      return 1.0f / (exp_of(-v) + 1.0f);
    case Activation::softplus: {
      const Vec<float> scaled = v * a;
      return scaled > float(step.b) ? v : softplus_of(scaled) / a;
    }
    case Activation::sin:
      return sin_of(v);
    case Activation::exp:
      return exp_of(v);
    default:
      return v;
  }
}

static inline double activate_one(const EpilogueStep& step, double v) {
  switch (step.activation) {
    case Activation::elu:
      return v > 0.0 ? v : step.a * ::expm1(v);
    case Activation::gelu:
      return 0.5 * v * ::erfc(-v * 0.70710678118654752440);
    case Activation::gelu_tanh:
      return v / (1.0 + ::exp(-1.59576912160573071176 * (v + 0.044715 * v * v * v)));
    case Activation::silu:
      return v / (1.0 + ::exp(-v));
    case Activation::mish: {
      const double e = ::exp(v > 40.0 ? 40.0 : v), n = e * (e + 2.0);
      return v * (n / (n + 2.0));
    }
    case Activation::tanh:
      return ::tanh(v);
    case Activation::sigmoid:
      return 1.0 / (1.0 + ::exp(-v));
    case Activation::softplus: {
      const double s = v * step.a;
      return s > step.b ? v : ((s > 0.0 ? s : 0.0) + ::log1p(::exp(-::fabs(s)))) / step.a;
    }
    case Activation::sin:
      return ::sin(v);
    case Activation::exp:
      return ::exp(v);
    default:
      return v;
  }
}
static inline Vec<double> activate_vector(const EpilogueStep& step, Vec<double> v) {
  if (activate_simple<double>(step, v)) return v;
  for (int i = 0; i < lanes<double>; ++i) v[i] = activate_one(step, v[i]);
  return v;
}

template <class T>
static inline Vec<T> combine_vector(Arithmetic arithmetic, Vec<T> v, Vec<T> u) {
  switch (arithmetic) {
    case Arithmetic::add:
      return v + u;
    case Arithmetic::subtract:
      return v - u;
    case Arithmetic::reverse_subtract:
      return u - v;
    case Arithmetic::multiply:
      return v * u;
    case Arithmetic::divide:
      return v / u;
    case Arithmetic::reverse_divide:
      return u / v;
    case Arithmetic::minimum:  // a NaN fails both comparisons: v stays where it is one, u where that is
      return v < u ? v : (v != v ? v : u);
    case Arithmetic::maximum:
      return v > u ? v : (v != v ? v : u);
    case Arithmetic::load:
      return u;
    default:
      return v;
  }
}

/// An operand along one row: its first element there and the step from one value to the next.
template <class S>
struct OperandRow {
  const S* first;
  std::int64_t step;
};

/// `count` (at most a vector) values of an operand row from value i on.
template <class S>
static inline auto load_operand(const OperandRow<S>& o, std::int64_t i, std::int64_t count) {
  typedef typename Compute<S>::type T;
  if (o.step == 0) return broadcast(T(widen(*o.first)));
  if constexpr (sizeof(S) == sizeof(T)) {
    if (o.step == 1 && count == lanes<T>) return load(o.first + i);
  }
  Vec<T> u{};
  for (std::int64_t k = 0; k < count; ++k) u[k] = widen(o.first[(i + k) * o.step]);
  return u;
}

/// One activation on B vectors: the choice is made once, so that their chains of operations overlap.
template <int B, class T>
static inline void activate_vectors(const EpilogueStep& step, Vec<T> (&v)[B]) {
  if constexpr (sizeof(T) == 4) {
    switch (step.activation) {
      case Activation::gelu:
        for (int b = 0; b < B; ++b) v[b] = gelu_of(v[b]);
        return;
      case Activation::silu:
        for (int b = 0; b < B; ++b) v[b] = v[b] / (exp_of(-v[b]) + 1.0f);
        return;
      case Activation::mish:
        for (int b = 0; b < B; ++b) v[b] = mish_of(v[b]);
        return;
      case Activation::tanh:
        for (int b = 0; b < B; ++b) v[b] = tanh_of(v[b]);
        return;
      case Activation::sigmoid:
        for (int b = 0; b < B; ++b) v[b] = 1.0f / (exp_of(-v[b]) + 1.0f);
        return;
      default:
        break;
    }
  }
  switch (step.activation) {
    case Activation::relu:
      for (int b = 0; b < B; ++b) v[b] = v[b] < T(0) ? Vec<T>{} : v[b];
      return;
    case Activation::leaky_relu:
      for (int b = 0; b < B; ++b) v[b] = v[b] > T(0) ? v[b] : v[b] * T(step.a);
      return;
    case Activation::hardtanh:
      for (int b = 0; b < B; ++b) v[b] = clamp_to(v[b], T(step.a), T(step.b));
      return;
    default:
      for (int b = 0; b < B; ++b) v[b] = activate_vector(step, v[b]);
  }
}

/// All steps on B vectors that begin at value i of a row and hold `count` values in the last.
template <class S, int B, class T>
static inline void apply_steps(const EpilogueSteps& epilogue, const OperandRow<S>* operands, std::int64_t i,
                               std::int64_t count, Vec<T> (&v)[B]) {
  constexpr int L = lanes<T>;
  Vec<T> kept[max_kept][B];
  for (int s = 0; s < epilogue.count; ++s) {
    const EpilogueStep& step = epilogue.steps[s];
    if (step.arithmetic == Arithmetic::none) {
      activate_vectors<B, T>(step, v);
    } else if (step.arithmetic == Arithmetic::keep) {
      for (int b = 0; b < B; ++b) kept[step.index][b] = v[b];
    } else if (step.source == Source::scalar) {
      for (int b = 0; b < B; ++b) v[b] = combine_vector<T>(step.arithmetic, v[b], broadcast(T(step.a)));
    } else if (step.source == Source::operand) {
      for (int b = 0; b < B; ++b)
        v[b] = combine_vector<T>(step.arithmetic, v[b],
                                 load_operand(operands[step.index], i + b * L, b + 1 < B ? L : count));
    } else {
      for (int b = 0; b < B; ++b) v[b] = combine_vector<T>(step.arithmetic, v[b], kept[step.index][b]);
    }
  }
}

template <class S, class T>
static inline void apply_rows(const EpilogueSteps& epilogue, const OperandRow<S>* operands, T* row, std::int64_t n) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    Vec<T> v[4] = {load(row + i), load(row + i + L), load(row + i + 2 * L), load(row + i + 3 * L)};
    apply_steps<S, 4, T>(epilogue, operands, i, L, v);
    for (int b = 0; b < 4; ++b) store(row + i + b * L, v[b]);
  }
  for (; i < n; i += L) {
    const std::int64_t count = n - i < L ? n - i : L;
    Vec<T> v[1] = {};
    if (count == L) {
      v[0] = load(row + i);
      apply_steps<S, 1, T>(epilogue, operands, i, count, v);
      store(row + i, v[0]);
    } else {
      std::memcpy(&v[0], row + i, std::size_t(count) * sizeof(T));
      apply_steps<S, 1, T>(epilogue, operands, i, count, v);
      std::memcpy(row + i, &v[0], std::size_t(count) * sizeof(T));
    }
  }
}

/// All steps of a list without operand tensors on n contiguous values, in place.
template <class T>
static inline void apply_epilogue(const EpilogueSteps& epilogue, T* row, std::int64_t n) {
  if (epilogue.count > 0) apply_rows<T>(epilogue, static_cast<const OperandRow<T>*>(nullptr), row, n);
}

/// All steps of any list on a row of results that begins at `place`; S is the tensors' storage type.
template <class S, class T>
static inline void apply_epilogue(const EpilogueSteps& epilogue, const Operand* operands, const RowPlace& place, T* row,
                                  std::int64_t n) {
  if (!epilogue.operands) return apply_epilogue(epilogue, row, n);
  OperandRow<S> rows[max_operands];
  for (int s = 0; s < epilogue.count; ++s) {
    const EpilogueStep& step = epilogue.steps[s];
    if (step.arithmetic <= Arithmetic::keep || step.source != Source::operand) continue;
    const Operand& o = operands[step.index];
    const std::int64_t* stride = &o.stride[0];
    rows[step.index] = {static_cast<const S*>(o.data) + place.n * stride[0] + place.c * stride[1] +
                            place.d * stride[2] + place.h * stride[3] + place.w * stride[4],
                        place.along_channels ? stride[1] : stride[4]};
  }
  apply_rows<S>(epilogue, rows, row, n);
}

}  // namespace upconv::UPCONV_ISA
