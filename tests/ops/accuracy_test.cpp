// fp32 error against float64 beside a yardstick: the same sum as one plain chain of fp32 FMAs, in the order of the
// definition. A candidate may be twice as far off as that chain, in root mean square and at its worst element.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/number.hpp"
#include "ops/trial.hpp"

namespace upconv::test {
namespace {

struct Error {
  double square = 0.0, worst = 0.0;
  void add(double difference) {
    square += difference * difference;
    worst = std::max(worst, std::fabs(difference));
  }
};

/// Sums of all passes as fp32 FMA chains.
struct Chains {
  std::vector<float> y, dx, dw, db;
  explicit Chains(const Trial& t) {
    const Problem& p = t.problem();
    const Sizes size(p);
    y.resize(size.y), dx.resize(size.x), dw.resize(size.w), db.resize(size.b);
    for (std::int64_t i = 0; i < size.y; ++i) {
      const std::int64_t channel = i / size.output % p.out_channels;
      if (p.bias) y[i] = float(t.b[channel]);
      db[channel] += float(t.dy[i]);
    }
    for_each_product(p, [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
      const float x = float(t.x[xi]), w = float(t.w[wi]), g = float(t.dy[yi]);
      y[yi] = std::fma(x, w, y[yi]);
      dx[xi] = std::fma(g, w, dx[xi]);
      dw[wi] = std::fma(x, g, dw[wi]);
    });
  }
  [[nodiscard]] const std::vector<float>& of(Pass pass) const {
    return pass == Pass::forward ? y : pass == Pass::backward_input ? dx : pass == Pass::backward_weight ? dw : db;
  }
};

class Accuracy : public testing::TestWithParam<const char*> {};

TEST_P(Accuracy, WithinTwiceAPlainFmaChain) {
  const auto p = parse_problem(GetParam());
  ASSERT_TRUE(p.ok());
  Setting setting;
  setting.data = Data::uniform;
  Trial trial(*p, setting);
  const Chains chains(trial);
  for (Pass pass : all_passes) {
    const Sums& truth = trial.oracle().of(pass);
    Error yardstick;
    for (std::size_t i = 0; i < truth.value.size(); ++i) yardstick.add(chains.of(pass)[i] - truth.value[i]);
    for (const std::string& name : candidate_names(pass)) {
      const Outcome outcome = trial.run(name, pass, 2, false);
      ASSERT_FALSE(outcome.failed()) << outcome.message;
      if (!outcome.ran) continue;
      Error error;
      for (std::size_t i = 0; i < truth.value.size(); ++i)
        error.add(load_element(DType::f32, outcome.bits.data(), std::int64_t(i)) - truth.value[i]);
      const double n = double(truth.value.size());
      EXPECT_LE(std::sqrt(error.square / n), 2.0 * std::sqrt(yardstick.square / n))
          << name << ", " << to_string(pass) << ": rms";
      EXPECT_LE(error.worst, 2.0 * yardstick.worst) << name << ", " << to_string(pass) << ": worst element";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fp32, Accuracy,
                         testing::Values("2d n1 c64 o32 i12x13 k3 p1 b", "1d n1 c128 o16 i30 k16 s8 p4 b",
                                         "3d n1 c16 o16 i5x6x7 k3 s2 p1", "2d n2 c32 o32 i20x21 k3 p1 g32 b",
                                         "2d n4 c8 o8 i20x20 k2 s2 b"));

}  // namespace
}  // namespace upconv::test
