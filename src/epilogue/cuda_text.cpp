// See cuda_text.hpp.
#include "epilogue/cuda_text.hpp"

#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace upconv {
namespace {

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
    case Activation::sin:
      return {"sine", 0};
    case Activation::square:
      return {"square", 0};
    case Activation::exp:
      return {"exponential", 0};
  }
  return {"unknown", 0};
}

/// `v = ...;` of an arithmetic step whose second value is the expression `u`.
std::string arithmetic(Arithmetic a, const std::string& u) {
  switch (a) {
    case Arithmetic::none:
    case Arithmetic::keep:
    case Arithmetic::detach:
      return "";
    case Arithmetic::add:
      return "v = v + " + u + ";";
    case Arithmetic::subtract:
      return "v = v - " + u + ";";
    case Arithmetic::reverse_subtract:
      return "v = " + u + " - v;";
    case Arithmetic::multiply:
      return "v = v * " + u + ";";
    case Arithmetic::divide:
      return "v = v / " + u + ";";
    case Arithmetic::reverse_divide:
      return "v = " + u + " / v;";
    case Arithmetic::minimum:
      return "v = upconv::activation::minimum<S>(v, " + u + ");";
    case Arithmetic::maximum:
      return "v = upconv::activation::maximum<S>(v, " + u + ");";
    case Arithmetic::load:
      return "v = " + u + ";";
  }
  return "";
}

}  // namespace

std::string literal_text(double v) {
  char text[64];
  if (std::isfinite(v))
    std::snprintf(text, sizeof text, "S(%a)", v);
  else
    std::snprintf(text, sizeof text, "S(__longlong_as_double(0x%016" PRIx64 "ll))", std::bit_cast<std::uint64_t>(v));
  return text;
}

std::string call_text(const char* scope, const EpilogueStep& step, const std::string& argument) {
  const Function f = function_of(step.activation);
  std::string s = std::string("upconv::") + scope + "::" + f.name + "<S>(" + argument;
  if (f.parameters > 0) s += ", " + literal_text(step.a);
  if (f.parameters > 1) s += ", " + literal_text(step.b);
  return s + ")";
}

std::string steps_text(const Epilogue& epilogue, const OperandText& operand) {
  std::string s;
  bool kept[max_kept] = {};
  for (std::size_t i = 0; i < epilogue.steps.size(); ++i) {
    const EpilogueStep& step = epilogue.steps[i];
    if (step.arithmetic == Arithmetic::keep) {
      const std::string name = "kept" + std::to_string(step.index);
      s += (kept[step.index] ? "  " : "  S ") + name + " = v;\n";
      kept[step.index] = true;
    } else if (step.arithmetic == Arithmetic::detach) {
      continue;
    } else if (step.arithmetic != Arithmetic::none) {
      const std::string u = step.source == Source::scalar    ? literal_text(step.a)
                            : step.source == Source::operand ? operand(step, i)
                                                             : "kept" + std::to_string(step.index);
      s += "  " + arithmetic(step.arithmetic, u) + "\n";
    } else {
      s += "  v = " + call_text("activation", step, "v") + ";\n";
    }
  }
  return s;
}

std::string operand_text(const EpilogueStep& step, const std::string& element, const std::string& values) {
  const std::string o = "operands.at[" + std::to_string(step.index) + "]";
  std::string at;
  switch (step.spread) {
    case Spread::any:
      at = "upconv::operand_place(" + o + ", " + values + ", n, channel, at)";
      break;
    case Spread::scalar:
      at = "0";
      break;
    case Spread::channel:
      at = "channel * " + o + ".c";
      break;
    case Spread::plane:
      at = "n * " + o + ".n + channel * " + o + ".c";
      break;
    case Spread::space:
      at = "at - n * " + values + ".n - channel * " + values + ".c";
      break;
    case Spread::image:
      at = "at - n * " + values + ".n";
      break;
    case Spread::whole:
      at = "at";
      break;
  }
  return "upconv::operand_value<" + element + ">(" + o + ", " + at + ")";
}

std::string epilogue_text(const Epilogue& epilogue, const std::string& element) {
  const int operands = epilogue.operands();
  std::string s = "#include \"epilogue/activations.cuh\"\n#include \"epilogue/operands.cuh\"\nnamespace config {\n";
  s += "constexpr bool has_epilogue = " + std::string(epilogue.empty() ? "false" : "true") + ";\n";
  s += "constexpr int OPERANDS = " + std::to_string(operands) + ";\n";
  s += "typedef upconv::arguments::Operands<OPERANDS> Operands;\n";
  const std::string steps = steps_text(
      epilogue, [&](const EpilogueStep& step, std::size_t) { return operand_text(step, element, "operands.values"); });
  const std::string head = "template <class S>\n__device__ __forceinline__ S epilogue(S v";
  const std::string place = ", const Operands& operands, int n, int channel, upconv::i64 at) {\n";
  if (operands > 0)
    s += head + place + steps + "  return v;\n}\n";
  else
    s += head + ") {\n" + steps + "  return v;\n}\n" + head + ", const Operands&, int, int, upconv::i64) {\n" +
         "  return epilogue<S>(v);\n}\n";
  return s + "}  // namespace config\n";
}

}  // namespace upconv
