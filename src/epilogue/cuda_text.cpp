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

/// `v = ...;` of an arithmetic step whose second value is the expression `u`; `known`: a literal.
std::string arithmetic(Arithmetic a, const std::string& u, bool known) {
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
      return known ? "v = upconv::divided(v, " + u + ");" : "v = v / " + u + ";";
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

/// The index in the memory of operand `o`, where n, channel and at are known.
std::string place_text(const EpilogueStep& step, const std::string& o, const std::string& values) {
  switch (step.spread) {
    case Spread::any:
      return "upconv::operand_place(" + o + ", " + values + ", n, channel, at)";
    case Spread::scalar:
      return "0";
    case Spread::channel:
      return "channel * " + o + ".c";
    case Spread::plane:
      return "n * " + o + ".n + channel * " + o + ".c";
    case Spread::space:
      return "at - n * " + values + ".n - channel * " + values + ".c";
    case Spread::image:
      return "at - n * " + values + ".n";
    case Spread::whole:
      return "at";
  }
  return "0";
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
      s += "  " + arithmetic(step.arithmetic, u, step.source == Source::scalar) + "\n";
    } else {
      s += "  v = " + call_text("activation", step, "v") + ";\n";
    }
  }
  return s;
}

std::string operand_text(const EpilogueStep& step, const std::string& element, const std::string& values) {
  const std::string o = "operands.at[" + std::to_string(step.index) + "]";
  return "upconv::operand_value<" + element + ">(" + o + ", " + place_text(step, o, values) + ")";
}

std::string epilogue_text(const Epilogue& epilogue, const std::string& element) {
  const int operands = epilogue.operands();
  std::string s = "#include \"epilogue/activations.cuh\"\n#include \"epilogue/operands.cuh\"\nnamespace config {\n";
  s += "constexpr bool has_epilogue = " + std::string(epilogue.empty() ? "false" : "true") + ";\n";
  s += "constexpr int OPERANDS = " + std::to_string(operands) + ";\n";
  s += "typedef upconv::arguments::Operands<OPERANDS> Operands;\n";
  // What each step reads has a member of its own, in one of two structs.
  std::string members[2], reads[2];
  const std::string steps = steps_text(epilogue, [&](const EpilogueStep& step, std::size_t i) {
    const bool of_channel = step.spread == Spread::scalar || step.spread == Spread::channel;
    const std::string name = "v" + std::to_string(i), o = "operands.at[" + std::to_string(step.index) + "]";
    const std::string place = place_text(step, o, "operands.values");
    members[of_channel] += "  typename upconv::Number<" + element + ">::Sum " + name + ";\n";
    reads[of_channel] += "  r." + name + " = upconv::" + (of_channel ? "constant" : "operand") + "_value<" + element +
                         ">(" + o + ", " + (of_channel ? place : "exists ? " + place + " : 0") + ");\n";
    return (of_channel ? "of_channel." : "of_element.") + name;
  });
  s += "struct OfChannel {\n" + members[1] + "};\nstruct OfElement {\n" + members[0] + "};\n";
  s += "__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {\n  OfChannel r;\n" +
       reads[1] + "  return r;\n}\n";
  s += "__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, "
       "upconv::i64 at) {\n  OfElement r;\n" +
       reads[0] + "  return r;\n}\n";
  s += "template <class S>\n__device__ __forceinline__ S epilogue(S v, const OfChannel& of_channel, const OfElement& "
       "of_element) {\n" +
       steps + "  return v;\n}\n";
  s += "template <class S>\n__device__ __forceinline__ S epilogue(S v, const Operands& operands, int n, int channel, "
       "upconv::i64 at) {\n  return epilogue<S>(v, of_channel(operands, channel), of_element(operands, true, n, "
       "channel, "
       "at));\n}\n";
  if (operands == 0)
    s += "template <class S>\n__device__ __forceinline__ S epilogue(S v) {\n  return epilogue<S>(v, OfChannel(), "
         "OfElement());\n}\n";
  return s + "}  // namespace config\n";
}

}  // namespace upconv
