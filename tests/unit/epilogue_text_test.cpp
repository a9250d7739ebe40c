// The device text of an epilogue: names, order, exact parameters. That it compiles and computes is tested with NVRTC.
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "epilogue/cuda_text.hpp"

namespace upconv {
namespace {

const double inf = std::numeric_limits<double>::infinity();

TEST(CudaEpilogueText, AnEmptyListReturnsItsArgument) {
  const std::string s = epilogue_text({}, "float");
  EXPECT_NE(s.find("has_epilogue = false;"), std::string::npos) << s;
  EXPECT_EQ(s.find("activation::"), std::string::npos) << s;
  EXPECT_NE(s.find("return v;"), std::string::npos) << s;
}

TEST(CudaEpilogueText, StepsStandInOrderWithExactParameters) {
  const std::string s =
      epilogue_text({{{Activation::leaky_relu, 0.1}, {Activation::gelu}, {Activation::hardtanh, -inf, 6.0}}}, "float");
  const std::size_t a = s.find("leaky_relu<S>(v, S(0x1.999999999999ap-4))"), b = s.find("gelu<S>(v)"),
                    c = s.find("hardtanh<S>(v, S(__longlong_as_double(0xfff0000000000000ll)), S(0x1.8p+2))");
  EXPECT_TRUE(a < b && b < c && c != std::string::npos) << s;
  EXPECT_NE(s.find("has_epilogue = true;"), std::string::npos) << s;
}

TEST(CudaEpilogueText, ArithmeticAndKeptValues) {
  EpilogueStep keep, add, times, from;
  keep.arithmetic = Arithmetic::keep;
  add.arithmetic = Arithmetic::add, add.a = 0.5;
  times.arithmetic = Arithmetic::multiply, times.source = Source::kept;
  from.arithmetic = Arithmetic::reverse_subtract, from.source = Source::operand, from.index = 2;
  const std::string s = steps_text({{keep, add, times, keep, from}}, [](const EpilogueStep& step, std::size_t) {
    return "operand(" + std::to_string(step.index) + ")";
  });
  EXPECT_NE(s.find("  S kept0 = v;\n  v = v + S(0x1p-1);\n  v = v * kept0;\n  kept0 = v;\n  v = operand(2) - v;\n"),
            std::string::npos)
      << s;
}

TEST(CudaEpilogueText, OperandsAreReadWhereTheyLie) {
  EpilogueStep add;
  add.arithmetic = Arithmetic::add, add.source = Source::operand, add.index = 2;
  const auto text = [&](Spread spread) {
    add.spread = spread;
    return epilogue_text({{add}}, "upconv::f16");
  };
  const std::string whole = text(Spread::whole);
  EXPECT_NE(whole.find("OPERANDS = 3;"), std::string::npos) << whole;
  EXPECT_NE(whole.find("r.v0 = upconv::operand_value<upconv::f16>(operands.at[2], exists ? at : 0);"),
            std::string::npos)
      << whole;
  EXPECT_NE(whole.find("v = v + of_element.v0;"), std::string::npos) << whole;
  const std::string channel = text(Spread::channel);
  EXPECT_NE(channel.find("r.v0 = upconv::constant_value<upconv::f16>(operands.at[2], channel * operands.at[2].c);"),
            std::string::npos)
      << channel;
  EXPECT_NE(channel.find("v = v + of_channel.v0;"), std::string::npos) << channel;
  EXPECT_NE(text(Spread::any).find("operand_place(operands.at[2], operands.values, n, channel, at)"),
            std::string::npos);
}

TEST(CudaEpilogueText, DiffersWhereTheListDiffers) {
  std::set<std::string> texts{epilogue_text({}, "float")};
  for (int i = 0; i <= int(Activation::softplus); ++i)
    texts.insert(epilogue_text({{{static_cast<Activation>(i), 1.0, 2.0}}}, "float"));
  EXPECT_EQ(texts.size(), 14u);
  EXPECT_NE(epilogue_text({{{Activation::elu, 1.0}}}, "float"),
            epilogue_text({{{Activation::elu, 1.0 + 1e-15}}}, "float"));
}

}  // namespace
}  // namespace upconv
