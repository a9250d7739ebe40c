// How far a result of the CUDA engine may be from float64, in C++: the rule and the reasons are those of
// tests/gpu/gpu_bounds.py. Called by cuda_trial.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/oracle.hpp"
#include "ops/tolerance.hpp"

namespace upconv::test {

/// Relative error of a product by the rounding of its operands.
inline double operand_error(DType dtype, Precision precision) {
  if (dtype != DType::f32) return 0.0;
  return precision == Precision::tf32 ? 2.1 * 0x1p-11 : precision == Precision::bf16x3 ? 3.1 * 0x1p-16 : 3.0 * 0x1p-22;
}

/// Of a sum of `terms` products that add up to `magnitude` in absolute value, before it is stored.
inline double gpu_sum_bound(const Problem& p, Pass pass, double magnitude, double terms) {
  double relative = accumulate_roundoff(p.dtype) * (4.0 + 2.0 * std::sqrt(terms)) * (p.dtype == DType::f64 ? 2.0 : 1.0);
  if (pass != Pass::backward_bias) relative += operand_error(p.dtype, p.precision);
  return relative * magnitude;
}

/// What one stored element should be, and how far off it may be.
inline Want gpu_want(const Problem& p, Pass pass, const Sums& sums, std::int64_t at, const Epilogue& epilogue) {
  double v = sums.value[at], error = gpu_sum_bound(p, pass, sums.magnitude[at], std::max(1.0, sums.length[at]));
  for (const EpilogueStep& step : epilogue.steps) {
    if (step.arithmetic != Arithmetic::none) continue;  // operands, which the caller adds
    const double after = activate(step, v);
    error = activation_bound(p.dtype, step, v, after, error);
    v = after;
  }
  return {v, store_bound(p.dtype, v, error)};
}

/// Elements from which on the norm of a result's error says something.
inline constexpr std::int64_t norm_enough = 256;

/// Of ||error|| / ||exact||, for a result of `terms` products an element, `steps` additions of a matrix unit.
inline double gpu_norm_bound(const Problem& p, Pass pass, double terms, double steps) {
  if (p.dtype == DType::f64) return 0x1p-53 * (8.0 + 2.0 * std::sqrt(terms));
  if (p.dtype != DType::f32) return unit_roundoff(p.dtype);
  const Precision precision = pass == Pass::backward_bias ? Precision::ieee : p.precision;
  const double own = precision == Precision::tf32 ? 5e-4 : precision == Precision::bf16x3 ? 1e-5 : 1e-6;
  const double passes = precision == Precision::tf32 ? 2.0 : precision == Precision::bf16x3 ? 3.0 : 0.0;
  return own + 0x1p-24 * std::sqrt(terms) + 0x1p-25 * passes * steps;
}

/// Additions that a matrix unit makes to one element, 16 products each and taps apart.
inline double gpu_steps(const Problem& p, Pass pass) {
  const Sizes size(p);
  const auto of = [](std::int64_t each, std::int64_t taps) { return double((each + 15) / 16 * taps); };
  switch (pass) {
    case Pass::forward:
      return of(p.in_channels / p.groups, size.taps);
    case Pass::backward_input:
      return of(p.out_channels / p.groups, size.taps);
    case Pass::backward_weight:
      return of(p.batch * size.input, 1);
    case Pass::backward_bias:
      return 0.0;
  }
  return 0.0;
}

}  // namespace upconv::test
