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
  }
  return "?";
}

}  // namespace

Status validate(const Epilogue& epilogue) {
  if (epilogue.steps.size() > 8)
    return invalid_argument("epilogue: at most 8 steps, but got " + std::to_string(epilogue.steps.size()));
  for (const EpilogueStep& step : epilogue.steps) {
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
  flat.count = static_cast<int>(std::min<std::size_t>(epilogue.steps.size(), 8));
  std::copy_n(epilogue.steps.begin(), flat.count, flat.steps);
  return flat;
}

std::string to_string(const Epilogue& epilogue) {
  std::string s;
  for (const EpilogueStep& step : epilogue.steps) {
    if (!s.empty()) s += ", ";
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
