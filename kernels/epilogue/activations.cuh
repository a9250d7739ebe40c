// The epilogue's functions on one accumulator, float or double; src/epilogue/scalar.hpp defines them, and the host
// writes their chain (src/epilogue/cuda_text.hpp). NaN stays NaN. Forms that subtract near-equal numbers are rewritten
// (gelu by erfc, gelu_tanh and mish by one exponential), so small results keep their relative accuracy.
// Measured on an H200 in fp32, arguments in [-100, 100], results above 1e-30: at most 3 ulp from torch's fp64, except
// in the negative tails of gelu (86 ulp at -11.6), softplus (33 at -45) and gelu_tanh (11 at -3.8, not measured below
// -4), where rounding the argument of the exponential shows.
#pragma once

namespace upconv {

__device__ __forceinline__ float exponential(float v) { return expf(v); }
__device__ __forceinline__ double exponential(double v) { return exp(v); }
__device__ __forceinline__ float exponential_minus_one(float v) { return expm1f(v); }
__device__ __forceinline__ double exponential_minus_one(double v) { return expm1(v); }
__device__ __forceinline__ float logarithm_of_one_plus(float v) { return log1pf(v); }
__device__ __forceinline__ double logarithm_of_one_plus(double v) { return log1p(v); }
__device__ __forceinline__ float complementary_error(float v) { return erfcf(v); }
__device__ __forceinline__ double complementary_error(double v) { return erfc(v); }
__device__ __forceinline__ float sine_of(float v) { return sinf(v); }
__device__ __forceinline__ double sine_of(double v) { return sin(v); }
__device__ __forceinline__ float hyperbolic_tangent(float v) { return tanhf(v); }
__device__ __forceinline__ double hyperbolic_tangent(double v) { return tanh(v); }

template <class S>
__device__ __forceinline__ S clamp(S v, S low, S high) {
  return v < low ? low : v > high ? high : v;
}

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
  return S(0.5) * v * complementary_error(v * S(-0.70710678118654752440));
}
/// v/2 * (1 + tanh(u)) = v / (1 + exp(-2u)).
template <class S>
__device__ __forceinline__ S gelu_tanh(S v) {
  const S minus_two_u = S(-1.5957691216057307) * (v + S(0.044715) * v * v * v);
  return v / (S(1) + upconv::exponential(minus_two_u));
}
template <class S>
__device__ __forceinline__ S silu(S v) {
  return v / (S(1) + upconv::exponential(-v));
}
/// tanh(log(1 + e)) = e(e + 2) / (e(e + 2) + 2); beyond 20 it is 1 in either precision.
template <class S>
__device__ __forceinline__ S mish(S v) {
  const S e = upconv::exponential(v > S(20) ? S(20) : v), n = e * (e + S(2));
  return v > S(20) ? v : v * (n / (n + S(2)));
}
template <class S>
__device__ __forceinline__ S tanh(S v) {
  return hyperbolic_tangent(v);
}
template <class S>
__device__ __forceinline__ S sigmoid(S v) {
  return S(1) / (S(1) + upconv::exponential(-v));
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
  return z > threshold ? v : ((z > S(0) ? z : S(0)) + logarithm_of_one_plus(upconv::exponential(-size))) / beta;
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
