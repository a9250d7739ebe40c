// The epilogue's functions on one accumulator, float or double; src/epilogue/scalar.hpp defines them, and the host
// writes their chain (src/epilogue/cuda_text.hpp). NaN stays NaN. Forms that subtract near-equal numbers are rewritten
// (gelu by the tail of the normal distribution, gelu_tanh and mish by one exponential), so small results keep their
// relative accuracy. Nothing branches: values that are worked out together wait for each other's instructions only.
// docs/measured-cuda-fusion.md has what was measured of their accuracy and cost.
#pragma once

namespace upconv {

__device__ __forceinline__ float exponential(float v) { return expf(v); }
__device__ __forceinline__ double exponential(double v) { return exp(v); }
__device__ __forceinline__ float exponential_minus_one(float v) { return expm1f(v); }
__device__ __forceinline__ double exponential_minus_one(double v) { return expm1(v); }
__device__ __forceinline__ float logarithm_of_one_plus(float v) { return log1pf(v); }
__device__ __forceinline__ double logarithm_of_one_plus(double v) { return log1p(v); }
__device__ __forceinline__ float sine_of(float v) { return sinf(v); }
__device__ __forceinline__ double sine_of(double v) { return sin(v); }
__device__ __forceinline__ float hyperbolic_tangent(float v) { return tanhf(v); }
__device__ __forceinline__ double hyperbolic_tangent(double v) { return tanh(v); }

/// Within 1 and 2 ulp; results and arguments under 2^-126 are zero.
__device__ __forceinline__ float reciprocal(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ float power_of_two(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

/// n / d within 2 ulp, without the branch of an exact division; d is not subnormal, and over 2^126 taken for infinite.
__device__ __forceinline__ float ratio(float n, float d) { return n * reciprocal(d); }
__device__ __forceinline__ double ratio(double n, double d) { return n / d; }

/// v / u, exactly, of a u that is known when the kernel is compiled: without a branch where neither it nor the quotient
/// is near the ends of the range.
__device__ __forceinline__ float divided(float v, float u) {
  const float size = fabsf(u);
  if (!(size > 1e-30f && size < 1e30f)) return v / u;
  const float r = 1.f / u, q = v * r, exact = fmaf(fmaf(-q, u, v), r, q);
  return fabsf(q) < 1e37f ? exact : q;
}
__device__ __forceinline__ double divided(double v, double u) { return v / u; }

/// The standard normal distribution's share below v. Its tail is exp(-v^2 / 2) times a function that changes slowly: a
/// polynomial in t = 1 / (1 + 0.33 |v|) times t, fitted to 6e-8 up to |v| = 14.5, where the exponential ends.
__device__ __forceinline__ float normal_below(float v) {
  const float t = reciprocal(fmaf(fabsf(v), 0.33f, 1.f));
  float tail = fmaf(-0.020442497f, t, 0.121348783f);
  tail = fmaf(tail, t, -0.263710707f);
  tail = fmaf(tail, t, 0.2207845f);
  tail = fmaf(tail, t, -0.0539695285f);
  tail = fmaf(tail, t, 0.120776832f);
  tail = fmaf(tail, t, 0.111319385f);
  tail = fmaf(tail, t, 0.132269248f);
  tail = fmaf(tail, t, 0.131623998f);
  tail *= t * power_of_two(v * v * -0.72134752f);
  return v < 0.f ? tail : 1.f - tail;
}
__device__ __forceinline__ double normal_below(double v) { return 0.5 * erfc(v * -0.70710678118654752440); }

template <class S>
__device__ __forceinline__ S clamp(S v, S low, S high) {
  return v < low ? low : v > high ? high : v;
}

/// Forms of fewer instructions.
namespace brief {

/// NaN stays NaN.
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  if constexpr (sizeof(S) == 4) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(high));
    return v;
  } else {
    return clamp(v, low, high);
  }
}

}  // namespace brief

namespace activation {

template <class S>
__device__ __forceinline__ S relu(S v) {
  return v <= S(0) ? S(0) : v;
}
template <class S>
__device__ __forceinline__ S leaky_relu(S v, S negative_slope) {
  return v > S(0) ? v : v * negative_slope;
}
template <class S>
__device__ __forceinline__ S elu(S v, S alpha) {
  return v > S(0) ? v : alpha * exponential_minus_one(v);
}
template <class S>
__device__ __forceinline__ S gelu(S v) {
  return v * normal_below(v);
}
/// v/2 * (1 + tanh(u)) = v / (1 + exp(-2u)).
template <class S>
__device__ __forceinline__ S gelu_tanh(S v) {
  const S minus_two_u = S(-1.5957691216057307) * (v + S(0.044715) * v * v * v);
  return ratio(v, S(1) + upconv::exponential(minus_two_u));
}
template <class S>
__device__ __forceinline__ S silu(S v) {
  return ratio(v, S(1) + upconv::exponential(-v));
}
/// tanh(log(1 + e)) = e(e + 2) / (e(e + 2) + 2); beyond 20 it is 1 in either precision.
template <class S>
__device__ __forceinline__ S mish(S v) {
  const S e = upconv::exponential(v > S(20) ? S(20) : v), n = e * (e + S(2));
  return v > S(20) ? v : v * ratio(n, n + S(2));
}
template <class S>
__device__ __forceinline__ S tanh(S v) {
  return hyperbolic_tangent(v);
}
template <class S>
__device__ __forceinline__ S sigmoid(S v) {
  return ratio(S(1), S(1) + upconv::exponential(-v));
}
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  return clamp(v, low, high);
}
template <class S>
__device__ __forceinline__ S hardsigmoid(S v) {
  return clamp(v + S(3), S(0), S(6)) * S(1.0 / 6.0);
}
template <class S>
__device__ __forceinline__ S hardswish(S v) {
  return v * hardsigmoid(v);
}
/// log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)), which no z overflows.
template <class S>
__device__ __forceinline__ S softplus(S v, S beta, S threshold) {
  const S z = v * beta, size = z < S(0) ? -z : z;
  const S smooth = (z > S(0) ? z : S(0)) + logarithm_of_one_plus(upconv::exponential(-size));
  return z > threshold ? v : divided(smooth, beta);
}

template <class S>
__device__ __forceinline__ S sine(S v) {
  return sine_of(v);
}
template <class S>
__device__ __forceinline__ S square(S v) {
  return v * v;
}
template <class S>
__device__ __forceinline__ S exponential(S v) {
  return upconv::exponential(v);
}
/// NaN in either wins.
template <class S>
__device__ __forceinline__ S minimum(S v, S u) {
  return v < u || v != v ? v : u;
}
template <class S>
__device__ __forceinline__ S maximum(S v, S u) {
  return v > u || v != v ? v : u;
}

}  // namespace activation
}  // namespace upconv
