// What is applied to the accumulator before it is stored: an ordered list of typed steps.
// The list is checked once, when the plan is built; each engine turns it into its own code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "upconv/status.hpp"
#include "upconv/visibility.hpp"

namespace upconv {

/// Element-wise functions, named as torch.nn.functional names them.
enum class Activation {
  relu,
  leaky_relu,  ///< a = negative_slope
  elu,         ///< a = alpha
  gelu,        ///< x/2 * (1 + erf(x/sqrt(2)))
  gelu_tanh,   ///< the tanh approximation
  silu,
  mish,
  tanh,
  sigmoid,
  hardtanh,  ///< clamp to [a, b]
  hardswish,
  hardsigmoid,
  softplus,  ///< a = beta, b = threshold
};

struct EpilogueStep {
  Activation activation = Activation::relu;
  double a = 0.0;
  double b = 0.0;

  bool operator==(const EpilogueStep&) const = default;
};

/// Applied in order, after the bias. Empty: the plain operator.
struct Epilogue {
  std::vector<EpilogueStep> steps;

  bool operator==(const Epilogue&) const = default;
  [[nodiscard]] bool empty() const { return steps.empty(); }
};

/// Checks parameters (hardtanh a <= b, softplus beta > 0) and length (at most 8 steps).
UPCONV_API Status validate(const Epilogue& epilogue);

UPCONV_API std::string to_string(const Epilogue& epilogue);

}  // namespace upconv
