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
    case Activation::sin:
      return std::sin(v);
    case Activation::square:
      return v * v;
    case Activation::exp:
      return std::exp(v);
  }
  return v;
}

inline double combine(Arithmetic arithmetic, double v, double u) {
  switch (arithmetic) {
    case Arithmetic::none:
    case Arithmetic::keep:
    case Arithmetic::detach:
      return v;
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
    case Arithmetic::minimum:
      return v < u || std::isnan(v) ? v : u;
    case Arithmetic::maximum:
      return v > u || std::isnan(v) ? v : u;
    case Arithmetic::load:
      return u;
  }
  return v;
}

/// The whole list on one value; operand(k) gives operand number k at the value's place.
template <class F>
double evaluate(const Epilogue& epilogue, double v, F&& operand) {
  double kept[max_kept] = {};
  for (const EpilogueStep& step : epilogue.steps) {
    if (step.arithmetic == Arithmetic::none)
      v = activate(step, v);
    else if (step.arithmetic == Arithmetic::keep)
      kept[step.index] = v;
    else
      v = combine(step.arithmetic, v,
                  step.source == Source::scalar    ? step.a
                  : step.source == Source::operand ? operand(step.index)
                                                   : kept[step.index]);
  }
  return v;
}

}  // namespace upconv
