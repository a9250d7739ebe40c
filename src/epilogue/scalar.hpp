// The epilogue's functions on one double: the definition that every engine's own code is tested against.
#pragma once

#include <algorithm>
#include <cmath>

#include "upconv/epilogue.hpp"

namespace upconv {

inline double activate(const EpilogueStep& step, double v) {
  const auto clamp = [](double x, double lo, double hi) { return std::isnan(x) ? x : std::min(std::max(x, lo), hi); };
  switch (step.activation) {
    case Activation::relu:
      return v > 0.0 || std::isnan(v) ? v : 0.0;
    case Activation::leaky_relu:
      return v > 0.0 ? v : v * step.a;
    case Activation::elu:
      return v > 0.0 ? v : step.a * std::expm1(v);
    case Activation::gelu:
      return 0.5 * v * (1.0 + std::erf(v * 0.70710678118654752440));
    case Activation::gelu_tanh:
      return 0.5 * v * (1.0 + std::tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v)));
    case Activation::silu:
      return v / (1.0 + std::exp(-v));
    case Activation::mish:
      return v * std::tanh(v > 20.0 ? v : std::log1p(std::exp(v)));
    case Activation::tanh:
      return std::tanh(v);
    case Activation::sigmoid:
      return 1.0 / (1.0 + std::exp(-v));
    case Activation::hardtanh:
      return clamp(v, step.a, step.b);
    case Activation::hardswish:
      return v * clamp(v + 3.0, 0.0, 6.0) / 6.0;
    case Activation::hardsigmoid:
      return clamp(v + 3.0, 0.0, 6.0) / 6.0;
    case Activation::softplus:
      return v * step.a > step.b ? v : std::log1p(std::exp(v * step.a)) / step.a;
  }
  return v;
}

}  // namespace upconv
