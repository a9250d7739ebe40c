// Checking and naming of the epilogue list; docs/architecture.md says how each engine evaluates it.
#include "upconv/epilogue.hpp"

#include <algorithm>

#include "epilogue/steps.hpp"

namespace upconv {
namespace {

const char* name(Activation a) {
  switch (a) {
    case Activation::relu:
      return "relu";
    case Activation::leaky_relu:
      return "leaky_relu";
    case Activation::elu:
      return "elu";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_tanh";
    case Activation::silu:
      return "silu";
    case Activation::mish:
      return "mish";
    case Activation::tanh:
      return "tanh";
    case Activation::sigmoid:
      return "sigmoid";
    case Activation::hardtanh:
      return "hardtanh";
    case Activation::hardswish:
      return "hardswish";
    case Activation::hardsigmoid:
      return "hardsigmoid";
    case Activation::softplus:
      return "softplus";
    case Activation::sin:
      return "sin";
    case Activation::square:
      return "square";
    case Activation::exp:
      return "exp";
  }
  return "?";
}

const char* name(Arithmetic a) {
  static const char* const names[] = {
      "none",    "keep",    "add",  "subtract", "reverse_subtract", "multiply", "divide", "reverse_divide",
      "minimum", "maximum", "load", "detach"};
  return names[static_cast<int>(a)];
}

Status validate_arithmetic(const EpilogueStep& step, bool (&kept)[max_kept]) {
  const std::string number = std::to_string(step.index);
  if (step.arithmetic == Arithmetic::detach) return {};
  if (step.arithmetic == Arithmetic::keep || step.source == Source::kept) {
    if (step.index < 0 || step.index >= max_kept)
      return invalid_argument("epilogue: at most " + std::to_string(max_kept) + " kept values, but got number " +
                              number);
    if (step.arithmetic == Arithmetic::keep)
      kept[step.index] = true;
    else if (!kept[step.index])
      return invalid_argument(std::string(name(step.arithmetic)) + ": no step before it kept value number " + number);
  } else if (step.source == Source::operand && (step.index < 0 || step.index >= max_operands)) {
    return invalid_argument(std::string(name(step.arithmetic)) + ": at most " + std::to_string(max_operands) +
                            " operands, but got number " + number);
  }
  return {};
}

}  // namespace

Status validate(const Epilogue& epilogue) {
  if (epilogue.steps.size() > max_epilogue_steps)
    return invalid_argument("epilogue: at most " + std::to_string(max_epilogue_steps) + " steps, but got " +
                            std::to_string(epilogue.steps.size()));
  bool kept[max_kept] = {};
  for (const EpilogueStep& step : epilogue.steps) {
    if (step.arithmetic != Arithmetic::none) {
      if (Status s = validate_arithmetic(step, kept); !s.ok()) return s;
      continue;
    }
    if (step.activation == Activation::hardtanh && !(step.a <= step.b))
      return invalid_argument("hardtanh: min_val (" + std::to_string(step.a) + ") must not exceed max_val (" +
                              std::to_string(step.b) + ")");
    if (step.activation == Activation::softplus && !(step.a > 0.0))
      return invalid_argument("softplus: beta (" + std::to_string(step.a) + ") must be greater than zero");
  }
  return {};
}

EpilogueSteps flatten(const Epilogue& epilogue) {
  EpilogueSteps flat;
  flat.count = static_cast<int>(std::min<std::size_t>(epilogue.steps.size(), max_epilogue_steps));
  flat.operands = epilogue.operands() > 0;
  std::copy_n(epilogue.steps.begin(), flat.count, flat.steps);
  return flat;
}

std::string to_string(const Epilogue& epilogue) {
  std::string s;
  for (const EpilogueStep& step : epilogue.steps) {
    if (!s.empty()) s += ", ";
    if (step.arithmetic == Arithmetic::detach) {
      s += name(step.arithmetic);
      continue;
    }
    if (step.arithmetic != Arithmetic::none) {
      s += std::string(name(step.arithmetic)) + "(";
      if (step.arithmetic != Arithmetic::keep && step.source == Source::scalar)
        s += std::to_string(step.a);
      else
        s += (step.source == Source::operand ? "operand " : "kept ") + std::to_string(step.index);
      s += ")";
      continue;
    }
    s += name(step.activation);
    switch (step.activation) {
      case Activation::leaky_relu:
      case Activation::elu:
        s += "(" + std::to_string(step.a) + ")";
        break;
      case Activation::hardtanh:
      case Activation::softplus:
        s += "(" + std::to_string(step.a) + ", " + std::to_string(step.b) + ")";
        break;
      default:
        break;
    }
  }
  return s;
}

}  // namespace upconv
