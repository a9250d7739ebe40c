// How far a result may be from the float64 oracle: the one place that decides. The bound is scaled by
// sum |x||w| of the very element and by how many products it adds up; it never refers to another library.
#pragma once

#include <algorithm>
#include <cmath>

#include "upconv/epilogue.hpp"
#include "upconv/problem.hpp"

namespace upconv::test {

/// Half the distance from 1 to the next number: the relative error of one rounding.
inline double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f64:
      return 0x1p-53;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
  }
  return 0.0;
}

/// The 16-bit formats accumulate in fp32.
inline double accumulate_roundoff(DType dtype) { return dtype == DType::f64 ? 0x1p-53 : 0x1p-24; }

/// Half the smallest positive number of the format.
inline double underflow(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-25;
    case DType::bf16:
      return 0x1p-134;
    default:
      return 0x1p-149;
  }
}

/// Of a sum of `length` products whose absolute values sum to `magnitude`, in the accumulator. Rounding errors of
/// different steps are independent, so they grow with the square root of the length; 4 covers short sums.
inline double accumulate_bound(DType dtype, double magnitude, double length) {
  return accumulate_roundoff(dtype) * (4.0 + std::sqrt(length)) * magnitude;
}

/// Largest slope of an activation: how much of an error in its argument it passes on.
inline double slope(const EpilogueStep& step) {
  switch (step.activation) {
    case Activation::leaky_relu:
    case Activation::elu:
      return std::max(1.0, std::fabs(step.a));
    case Activation::hardswish:
      return 1.5;
    default:
      return 1.2;
  }
}

/// Error of an activation's result `after`, when its argument `before` is known to `error`. Its own evaluation may
/// lose 8 roundings of the result and 4 of the argument (x * (1 + erf) cancels for negative x, in every library).
inline double activation_bound(DType dtype, const EpilogueStep& step, double before, double after, double error) {
  return slope(step) * error + accumulate_roundoff(dtype) * (8.0 * std::fabs(after) + 4.0 * std::fabs(before));
}

/// The last rounding, to the tensor's format.
inline double store_bound(DType dtype, double value, double error) {
  return error + 1.01 * unit_roundoff(dtype) * (std::fabs(value) + error) + underflow(dtype);
}

}  // namespace upconv::test
