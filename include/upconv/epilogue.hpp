// What is applied to the accumulator before it is stored: an ordered list of typed steps.
// The list is checked once, when the plan is built; each engine turns it into its own code.
#pragma once

#include <array>
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
  sin,
  square,
  exp,
};

/// What a step that is no activation does with the value v and its second operand u.
enum class Arithmetic {
  none,  ///< the step is an activation
  keep,  ///< remembers v as number `index` for later steps; v stays
  add,
  subtract,          ///< v - u
  reverse_subtract,  ///< u - v
  multiply,
  divide,          ///< v / u
  reverse_divide,  ///< u / v
  minimum,         ///< NaN in either stays NaN, as torch.minimum has it
  maximum,
  load,    ///< u
  detach,  ///< v, without a gradient further back
};

/// Where u comes from.
enum class Source {
  scalar,   ///< `a`
  operand,  ///< operand tensor number `index` of the run, broadcast over y
  kept,     ///< what a `keep` step remembered as number `index`
};

/// How an operand lies over the dense values, channels first, that read it: what a GPU's kernel is specialised for.
/// `any` is always right. A chain's plan fills it in from the tensors of a call (plan/chain.hpp).
enum class Spread {
  any,
  scalar,   ///< one number
  channel,  ///< one a channel
  plane,    ///< one a sample and channel
  space,    ///< one a position, dense
  image,    ///< one a channel and position, dense
  whole,    ///< one a value, dense
};

inline constexpr int max_epilogue_steps = 24;
inline constexpr int max_operands = 16;
inline constexpr int max_kept = 4;

struct EpilogueStep {
  Activation activation = Activation::relu;
  double a = 0.0;
  double b = 0.0;
  Arithmetic arithmetic = Arithmetic::none;
  Source source = Source::scalar;
  int index = 0;
  Spread spread = Spread::any;  ///< of an operand

  bool operator==(const EpilogueStep&) const = default;
};

/// Applied in order, after the bias. Empty: the plain operator.
struct Epilogue {
  std::vector<EpilogueStep> steps;

  bool operator==(const Epilogue&) const = default;
  [[nodiscard]] bool empty() const { return steps.empty(); }
  /// One more than the largest operand number in use.
  [[nodiscard]] int operands() const {
    int n = 0;
    for (const EpilogueStep& s : steps)
      if (s.arithmetic > Arithmetic::keep && s.source == Source::operand && s.index >= n) n = s.index + 1;
    return n;
  }
};

/// An operand tensor as a run sees it: element strides over (n, channel, d, h, w) of y, 0 where it is broadcast (a
/// scalar, a per-channel vector, one value per sample and channel, or a whole tensor). Of the problem's dtype. It
/// must not overlap y.
struct Operand {
  const void* data = nullptr;
  std::array<std::int64_t, 5> stride{};
};

/// Checks parameters (hardtanh a <= b, softplus beta > 0), operand and keep numbers, and length (at most
/// max_epilogue_steps).
UPCONV_API Status validate(const Epilogue& epilogue);

UPCONV_API std::string to_string(const Epilogue& epilogue);

}  // namespace upconv
