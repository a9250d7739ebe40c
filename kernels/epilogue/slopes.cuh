// The derivatives of the activations of epilogue/activations.cuh, for the kernels of closing/pull*.cuh: d f(v) / dv at
// v, as torch's backward takes it where the function has a corner.
#pragma once

#include "epilogue/activations.cuh"

namespace upconv::slope {

__device__ __forceinline__ float cosine_of(float v) { return cosf(v); }
__device__ __forceinline__ double cosine_of(double v) { return cos(v); }

template <class S>
__device__ __forceinline__ S relu(S v) {
  return v <= S(0) ? S(0) : S(1);
}
template <class S>
__device__ __forceinline__ S leaky_relu(S v, S negative_slope) {
  return v > S(0) ? S(1) : negative_slope;
}
template <class S>
__device__ __forceinline__ S elu(S v, S alpha) {
  return v > S(0) ? S(1) : alpha * upconv::exponential(v);
}
template <class S>
__device__ __forceinline__ S gelu(S v) {
  const S density = S(0.39894228040143267794) * upconv::exponential(S(-0.5) * v * v);
  return normal_below(v) + v * density;
}
/// Of v * s with s = 1 / (1 + exp(-2u)).
template <class S>
__device__ __forceinline__ S gelu_tanh(S v) {
  const S s = activation::sigmoid(S(1.5957691216057307) * (v + S(0.044715) * v * v * v));
  return s + v * s * (S(1) - s) * S(1.5957691216057307) * (S(1) + S(0.134145) * v * v);
}
template <class S>
__device__ __forceinline__ S silu(S v) {
  const S s = activation::sigmoid(v);
  return s * (S(1) + v * (S(1) - s));
}
/// With t = tanh(log(1 + e)): t + v * (1 - t * t) * sigmoid(v).
template <class S>
__device__ __forceinline__ S mish(S v) {
  const S e = upconv::exponential(v > S(20) ? S(20) : v), n = e * (e + S(2)), t = n / (n + S(2));
  return v > S(20) ? S(1) : t + v * (S(4) * (n + S(1)) / ((n + S(2)) * (n + S(2)))) * activation::sigmoid(v);
}
template <class S>
__device__ __forceinline__ S tanh(S v) {
  const S t = hyperbolic_tangent(v);
  return S(1) - t * t;
}
template <class S>
__device__ __forceinline__ S sigmoid(S v) {
  const S s = activation::sigmoid(v);
  return s * (S(1) - s);
}
template <class S>
__device__ __forceinline__ S hardtanh(S v, S low, S high) {
  return v <= low || v >= high ? S(0) : S(1);
}
template <class S>
__device__ __forceinline__ S hardsigmoid(S v) {
  return v > S(-3) && v < S(3) ? S(1.0 / 6.0) : S(0);
}
template <class S>
__device__ __forceinline__ S hardswish(S v) {
  return v <= S(-3) ? S(0) : v < S(3) ? v * S(1.0 / 3.0) + S(0.5) : S(1);
}
template <class S>
__device__ __forceinline__ S softplus(S v, S beta, S threshold) {
  return v * beta > threshold ? S(1) : activation::sigmoid(v * beta);
}

template <class S>
__device__ __forceinline__ S sine(S v) {
  return cosine_of(v);
}
template <class S>
__device__ __forceinline__ S square(S v) {
  return S(2) * v;
}
template <class S>
__device__ __forceinline__ S exponential(S v) {
  return upconv::exponential(v);
}

}  // namespace upconv::slope
