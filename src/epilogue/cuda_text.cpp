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

/// Whether dividing by `v` is multiplying by its reciprocal, bit by bit: a power of two whose reciprocal is one too, in
/// single precision.
bool has_exact_reciprocal(double v) {
  int exponent = 0;
  return std::isfinite(v) && std::fabs(std::frexp(v, &exponent)) == 0.5 && exponent > -125 && exponent < 126;
}

/// `v = ...;` of an arithmetic step whose second value is the expression `u`.
std::string arithmetic(const EpilogueStep& step, const std::string& u, bool brief) {
  const bool known = step.source == Source::scalar, number = brief && known && !std::isnan(step.a);
  switch (step.arithmetic) {
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
      if (known && has_exact_reciprocal(step.a)) return "v = v * " + literal_text(1.0 / step.a) + ";";
      return known ? "v = upconv::divided(v, " + u + ");" : "v = v / " + u + ";";
    case Arithmetic::reverse_divide:
      return "v = " + u + " / v;";
    // Beside a number that is none itself, NaN stays NaN without being asked for.
    case Arithmetic::minimum:
      return number ? "v = v > " + u + " ? " + u + " : v;" : "v = upconv::activation::minimum<S>(v, " + u + ");";
    case Arithmetic::maximum:
      return number ? "v = v < " + u + " ? " + u + " : v;" : "v = upconv::activation::maximum<S>(v, " + u + ");";
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

/// Instructions of a step on one value, roughly; many where it calls a function or divides by what is not known.
int instructions_of(const EpilogueStep& step) {
  constexpr int many = 100;
  switch (step.arithmetic) {
    case Arithmetic::none:
      switch (step.activation) {
        case Activation::relu:
        case Activation::leaky_relu:
          return 2;
        case Activation::hardtanh:
          return 4;
        case Activation::square:
          return 1;
        default:
          return many;
      }
    case Arithmetic::keep:
    case Arithmetic::detach:
    case Arithmetic::load:
      return 0;
    case Arithmetic::add:
    case Arithmetic::subtract:
    case Arithmetic::reverse_subtract:
    case Arithmetic::multiply:
      return 1;
    case Arithmetic::minimum:
    case Arithmetic::maximum:
      return 3;
    case Arithmetic::divide:
      return step.source != Source::scalar ? many : has_exact_reciprocal(step.a) ? 1 : 5;
    case Arithmetic::reverse_divide:
      return many;
  }
  return many;
}

}  // namespace

bool is_short(const Epilogue& epilogue) {
  int instructions = 0;
  for (const EpilogueStep& step : epilogue.steps) {
    if (step.arithmetic > Arithmetic::keep && step.source == Source::operand && step.spread != Spread::scalar &&
        step.spread != Spread::channel)
      return false;
    instructions += instructions_of(step);
  }
  return instructions <= 20;
}

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

std::string steps_text(const Epilogue& epilogue, const OperandText& operand, bool brief) {
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
      s += "  " + arithmetic(step, u, brief) + "\n";
    } else {
      const bool cut = brief && step.activation == Activation::hardtanh;
      s += "  v = " + call_text(cut ? "brief" : "activation", step, "v") + ";\n";
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
  s += "constexpr bool short_epilogue = " + std::string(is_short(epilogue) ? "true" : "false") + ";\n";
  s += "constexpr int OPERANDS = " + std::to_string(operands) + ";\n";
  s += "typedef upconv::arguments::Operands<OPERANDS> Operands;\n";
  // What each step reads has a member of its own, in one of two structs.
  std::string members[2], reads[2], asked;
  const std::string steps = steps_text(
      epilogue,
      [&](const EpilogueStep& step, std::size_t i) {
        const bool of_channel = step.spread == Spread::scalar || step.spread == Spread::channel;
        const std::string name = "v" + std::to_string(i), o = "operands.at[" + std::to_string(step.index) + "]";
        const std::string place = place_text(step, o, "operands.values");
        members[of_channel] += "  typename upconv::Number<" + element + ">::Sum " + name + ";\n";
        reads[of_channel] += "  r." + name + " = upconv::" + (of_channel ? "constant" : "operand") + "_value<" +
                             element + ">(" + o + ", " + (of_channel ? place : "exists ? " + place + " : 0") + ");\n";
        if (step.spread == Spread::whole) asked += "  upconv::ask_for<" + element + ">(" + o + ", at);\n";
        return (of_channel ? "of_channel." : "of_element.") + name;
      },
      is_short(epilogue));
  s += "struct OfChannel {\n" + members[1] + "};\nstruct OfElement {\n" + members[0] + "};\n";
  s += "__device__ __forceinline__ OfChannel of_channel(const Operands& operands, int channel) {\n  OfChannel r;\n" +
       reads[1] + "  return r;\n}\n";
  s += "__device__ __forceinline__ OfElement of_element(const Operands& operands, bool exists, int n, int channel, "
       "upconv::i64 at) {\n  OfElement r;\n" +
       reads[0] + "  return r;\n}\n";
  s += "constexpr bool asks = " + std::string(asked.empty() ? "false" : "true") + ";\n";
  s += "__device__ __forceinline__ void ask_for_elements(const Operands& operands, upconv::i64 at) {\n" + asked + "}\n";
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
