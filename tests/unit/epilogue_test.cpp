// The epilogue's checks, its text, and its scalar definitions against values from closed forms.
#include "upconv/epilogue.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "epilogue/scalar.hpp"

namespace upconv {
namespace {

const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

TEST(EpilogueRules, EachNamesTheFunctionTheValueAndTheRule) {
  const struct {
    Epilogue epilogue;
    std::vector<std::string> words;  // none: legal
  } cases[] = {
      {{}, {}},
      {{{{Activation::relu}, {Activation::gelu}}}, {}},
      {{{{Activation::hardtanh, -1.0, 1.0}}}, {}},
      {{{{Activation::hardtanh, 2.0, 2.0}}}, {}},
      {{{{Activation::hardtanh, 2.0, 1.0}}}, {"hardtanh", "min_val (2", "max_val", "(1"}},
      {{{{Activation::hardtanh, nan, 1.0}}}, {"hardtanh", "nan"}},
      {{{{Activation::relu}, {Activation::softplus, 0.0, 20.0}}}, {"softplus", "beta (0", "greater than zero"}},
      {{{{Activation::softplus, -1.0, 20.0}}}, {"softplus", "beta (-1"}},
      {{{{Activation::softplus, nan, 20.0}}}, {"softplus"}},
      {{std::vector<EpilogueStep>(24)}, {}},
      {{std::vector<EpilogueStep>(25)}, {"epilogue", "at most 24", "25"}},
  };
  for (const auto& c : cases) {
    const Status s = validate(c.epilogue);
    EXPECT_EQ(s.ok(), c.words.empty()) << to_string(c.epilogue) << ": " << s.message();
    for (const std::string& word : c.words)
      EXPECT_NE(s.message().find(word), std::string::npos) << s.message() << " lacks " << word;
  }
}

TEST(EpilogueRules, ArithmeticNamesWhatIsMissing) {
  const auto step = [](Arithmetic a, Source source, int index) {
    EpilogueStep s;
    s.arithmetic = a, s.source = source, s.index = index;
    return s;
  };
  const EpilogueStep keep = step(Arithmetic::keep, Source::scalar, 1);
  EXPECT_TRUE(validate(Epilogue{{keep, step(Arithmetic::multiply, Source::kept, 1)}}).ok());
  EXPECT_NE(validate(Epilogue{{step(Arithmetic::multiply, Source::kept, 1)}}).message().find("kept value number 1"),
            std::string::npos);
  EXPECT_NE(validate(Epilogue{{step(Arithmetic::keep, Source::scalar, 4)}}).message().find("at most 4"),
            std::string::npos);
  EXPECT_NE(validate(Epilogue{{step(Arithmetic::add, Source::operand, 16)}}).message().find("at most 16 operands"),
            std::string::npos);
  EXPECT_EQ((Epilogue{{keep, step(Arithmetic::add, Source::operand, 2)}}.operands()), 3);
  EXPECT_EQ(to_string(Epilogue{{keep, step(Arithmetic::divide, Source::operand, 2)}}),
            "keep(kept 1), divide(operand 2)");
}

TEST(EpilogueValues, ArithmeticInOrder) {
  EpilogueStep keep, minus, times, least;
  keep.arithmetic = Arithmetic::keep;
  minus.arithmetic = Arithmetic::reverse_subtract, minus.a = 1.0;
  times.arithmetic = Arithmetic::multiply, times.source = Source::kept;
  least.arithmetic = Arithmetic::minimum, least.source = Source::operand, least.index = 3;
  const Epilogue e{{keep, minus, times, least}};
  const auto run = [&](double v, double u) { return evaluate(e, v, [&](int k) { return k == 3 ? u : NAN; }); };
  EXPECT_DOUBLE_EQ(run(0.25, 9.0), 0.1875);
  EXPECT_DOUBLE_EQ(run(0.25, 0.125), 0.125);
  EXPECT_TRUE(std::isnan(run(0.25, NAN)));
  EXPECT_TRUE(std::isnan(run(NAN, 0.0)));
}

TEST(EpilogueText, NamesStepsInOrder) {
  EXPECT_EQ(to_string(Epilogue{}), "");
  const std::string s =
      to_string(Epilogue{{{Activation::leaky_relu, 0.25}, {Activation::gelu_tanh}, {Activation::hardtanh, -1.0, 6.0}}});
  const std::size_t a = s.find("leaky_relu(0.25"), b = s.find("gelu_tanh"), c = s.find("hardtanh(-1");
  EXPECT_TRUE(a != std::string::npos && b != std::string::npos && c != std::string::npos && a < b && b < c) << s;
  std::set<std::string> names;
  for (int i = 0; i <= int(Activation::softplus); ++i)
    names.insert(to_string(Epilogue{{{static_cast<Activation>(i), 1.0, 2.0}}}));
  EXPECT_EQ(names.size(), 13u);  // all different
}

TEST(EpilogueValues, MatchClosedForms) {
  const struct {
    EpilogueStep step;
    double argument, value;
  } cases[] = {
      {{Activation::relu}, 2.5, 2.5},
      {{Activation::relu}, -2.5, 0.0},
      {{Activation::leaky_relu, 0.1}, -2.0, -0.2},
      {{Activation::leaky_relu, 0.1}, 2.0, 2.0},
      {{Activation::elu, 2.0}, -1.0, 2.0 * (std::exp(-1.0) - 1.0)},
      {{Activation::elu, 2.0}, 3.0, 3.0},
      {{Activation::gelu}, 1.0, 0.84134474606854293},
      {{Activation::gelu}, -1.0, -0.15865525393145707},
      {{Activation::gelu_tanh}, 1.0, 0.84119199060827670},
      {{Activation::silu}, 1.0, 0.73105857863000490},
      {{Activation::silu}, -2.0, -0.23840584404423512},
      {{Activation::mish}, 1.0, 0.86509838826731037},
      {{Activation::mish}, -1.0, -0.30340146137410895},
      {{Activation::tanh}, 0.5, 0.46211715726000975},
      {{Activation::sigmoid}, -1.0, 0.26894142136999512},
      {{Activation::hardtanh, -0.5, 2.0}, -3.0, -0.5},
      {{Activation::hardtanh, -0.5, 2.0}, 3.0, 2.0},
      {{Activation::hardtanh, -0.5, 2.0}, 1.0, 1.0},
      {{Activation::hardswish}, -3.0, 0.0},
      {{Activation::hardswish}, 1.0, 4.0 / 6.0},
      {{Activation::hardswish}, 4.0, 4.0},
      {{Activation::hardsigmoid}, 0.0, 0.5},
      {{Activation::hardsigmoid}, -4.0, 0.0},
      {{Activation::hardsigmoid}, 4.0, 1.0},
      {{Activation::softplus, 1.0, 20.0}, 0.0, std::log(2.0)},
      {{Activation::softplus, 2.0, 20.0}, 1.0, std::log(1.0 + std::exp(2.0)) / 2.0},
      {{Activation::softplus, 1.0, 20.0}, 30.0, 30.0},
      {{Activation::softplus, 1.0, 2.0}, 3.0, 3.0},
      {{Activation::relu}, inf, inf},
      {{Activation::relu}, -inf, 0.0},
      {{Activation::elu, 1.0}, -inf, -1.0},
      {{Activation::sigmoid}, -inf, 0.0},
      {{Activation::tanh}, inf, 1.0},
      {{Activation::mish}, inf, inf},
      {{Activation::softplus, 1.0, 20.0}, -inf, 0.0},
  };
  for (const auto& c : cases)
    EXPECT_DOUBLE_EQ(activate(c.step, c.argument), c.value) << to_string(Epilogue{{c.step}}) << " of " << c.argument;
}

TEST(EpilogueValues, NanStaysNan) {
  for (int i = 0; i <= int(Activation::softplus); ++i) {
    const EpilogueStep step{static_cast<Activation>(i), 0.5, 2.0};
    EXPECT_TRUE(std::isnan(activate(step, nan))) << to_string(Epilogue{{step}});
  }
}

}  // namespace
}  // namespace upconv
