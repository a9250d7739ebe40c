// See cuda_text.hpp.
#include "epilogue/cuda_text.hpp"

#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace upconv {
namespace {

/// Exactly `v` as a value of type S. Infinities and NaN, which no literal writes, go by their bits.
std::string literal(double v) {
  char text[64];
  if (std::isfinite(v))
    std::snprintf(text, sizeof text, "S(%a)", v);
  else
    std::snprintf(text, sizeof text, "S(__longlong_as_double(0x%016" PRIx64 "ll))", std::bit_cast<std::uint64_t>(v));
  return text;
}

/// The device function of a step and how many of the step's parameters it takes.
struct Function {
  const char* name;
  int parameters;
};

Function function_of(Activation a) {
  switch (a) {
    case Activation::relu:
      return {"relu", 0};
    case Activation::leaky_relu:
      return {"leaky_relu", 1};
    case Activation::elu:
      return {"elu", 1};
    case Activation::gelu:
      return {"gelu", 0};
    case Activation::gelu_tanh:
      return {"gelu_tanh", 0};
    case Activation::silu:
      return {"silu", 0};
    case Activation::mish:
      return {"mish", 0};
    case Activation::tanh:
      return {"tanh", 0};
    case Activation::sigmoid:
      return {"sigmoid", 0};
    case Activation::hardtanh:
      return {"hardtanh", 2};
    case Activation::hardswish:
      return {"hardswish", 0};
    case Activation::hardsigmoid:
      return {"hardsigmoid", 0};
    case Activation::softplus:
      return {"softplus", 2};
  }
  return {"unknown", 0};
}

/// A step applied to `argument`, by the function of that name in upconv::`scope`.
std::string call(const char* scope, const EpilogueStep& step, const std::string& argument) {
  const Function f = function_of(step.activation);
  std::string s = std::string("upconv::") + scope + "::" + f.name + "<S>(" + argument;
  if (f.parameters > 0) s += ", " + literal(step.a);
  if (f.parameters > 1) s += ", " + literal(step.b);
  return s + ")";
}

}  // namespace

std::string epilogue_text(const Epilogue& epilogue) {
  std::string s = "#include \"epilogue/activations.cuh\"\nnamespace config {\nconstexpr bool has_epilogue = ";
  s += epilogue.empty() ? "false" : "true";
  s += ";\ntemplate <class S>\n__device__ __forceinline__ S epilogue(S v) {\n";
  for (const EpilogueStep& step : epilogue.steps) s += "  v = " + call("activation", step, "v") + ";\n";
  s += "  return v;\n}\n}  // namespace config\n";
  return s;
}

std::string epilogue_gradient_text(const Epilogue& epilogue) {
  std::string s = "#include \"epilogue/slopes.cuh\"\nnamespace config {\ntemplate <class S>\n";
  s += "__device__ __forceinline__ S epilogue_gradient(S v0, S dy) {\n";
  const std::size_t count = epilogue.steps.size();
  const auto value = [](std::size_t i) { return "v" + std::to_string(i); };
  for (std::size_t i = 0; i + 1 < count; ++i)
    s += "  const S " + value(i + 1) + " = " + call("activation", epilogue.steps[i], value(i)) + ";\n";
  for (std::size_t i = count; i-- > 0;) s += "  dy *= " + call("slope", epilogue.steps[i], value(i)) + ";\n";
  s += "  return dy;\n}\n}  // namespace config\n";
  return s;
}

}  // namespace upconv
