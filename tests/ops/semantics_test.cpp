// What holds of every candidate beside the sum itself: layouts and alignment, the epilogue, inf and NaN,
// empty batches, and the same bits however many workers share the work.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "ops/expect.hpp"
#include "ops/number.hpp"
#include "ops/trial.hpp"

namespace upconv::test {
namespace {

Problem problem(const std::string& text) {
  const auto p = parse_problem(text);
  EXPECT_TRUE(p.ok()) << text;
  return *p;
}

/// One window of every kind: dense, strided with uneven phases, kernel = stride, empty phases, grouped, 3-D, and
/// enough channels to be taken a piece at a time.
const std::vector<std::string> windows = {
    "1d n2 c5 o6 i19 k3 p1",
    "1d n2 c16 o8 i9 k16 s8 p4",
    "2d n2 c9 o8 i5x17 k3 p1",
    "2d n1 c8 o17 i6x7 k3 s2 p1 op1",
    "2d n2 c6 o5 i4x9 k2 s2",
    "2d n1 c4 o6 i5x6 k3 s5 p1 d2",
    "2d n2 c8 o12 i5x7 k3x4 s1x2 p1 g4",
    "2d n2 c19 o19 i5x7 k3 s2 p1 g19",
    "3d n1 c6 o4 i3x4x5 k3 s2 p1 op1 g2",
    "3d n1 c4 o8 i3x4x9 k3x2x3 s1x2x1 p1x0x2 d1x1x2",
    "2d n1 c90 o9 i4x5 k3 s2 p1 op1",
};

TEST(Semantics, LayoutsDtypesBiasAndAlignment) {
  std::uint64_t seed = 100;
  for (const std::string& text : windows)
    for (int layouts = 0; layouts < 8; ++layouts)
      for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
        Problem p = problem(text);
        p.dtype = dtype;
        p.x_layout = layouts & 1 ? Layout::channels_last : Layout::channels_first;
        p.w_layout = layouts & 2 ? Layout::channels_last : Layout::channels_first;
        p.y_layout = layouts & 4 ? Layout::channels_last : Layout::channels_first;
        Setting s;
        s.seed = ++seed;
        p.bias = seed % 2;
        s.workers = 1 + int(seed % 4);
        s.data = seed % 3 ? Data::integers : Data::uniform;
        s.flush = seed % 5 < 3 ? Flush::front : Flush::back;
        s.misalign = s.flush == Flush::front;
        ASSERT_TRUE(passes(Trial(p, s)));
      }
}

/// An inf or NaN reaches the outputs whose sums contain it, and no other: neither padding nor inserted zeros are
/// ever multiplied. The oracle enumerates the products that exist.
TEST(Semantics, NonFiniteNumbersReachTheirOutputsOnly) {
  for (const std::string& text : windows)
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      Problem p = problem(text + (seed % 2 ? " b" : "") + (seed % 3 ? "" : " xl yl") + (seed % 4 ? "" : " bf16"));
      Setting s;
      s.seed = seed;
      s.data = Data::specials;
      s.workers = 1 + int(seed % 3);
      ASSERT_TRUE(passes(Trial(p, s)));
    }
}

/// One vector of channels of every instruction set and dtype, alone or after wider blocks: lines of fewer positions
/// than neighbouring taps share their reads in, of one register tile, of several; every width of kernel, with phases
/// too.
TEST(Semantics, TapsThatShareReads) {
  std::uint64_t seed = 900;
  for (int width = 1; width <= 9; ++width)
    for (int line : {5, 6, 7, 8, 11, 12, 15, 16, 17, 23, 31})
      for (const char* channels : {"c3 o4", "c17 o8", "c2 o16", "c5 o36", "c8 o3", "c16 o18"}) {
        ++seed;
        const int stride = seed % 4 == 0 ? 2 : 1, input = line + (width - 1) / stride;
        Problem p = problem("2d n2 " + std::string(channels) + " i3x" + std::to_string(input) + " k2x" +
                            std::to_string(width) + " s1x" + std::to_string(stride));
        p.dtype = std::array{DType::f32, DType::f32, DType::f64, DType::bf16, DType::f32}[seed % 5];
        p.y_layout = seed % 7 < 2 ? Layout::channels_last : Layout::channels_first;
        Setting s;
        s.seed = seed;
        s.data = std::array{Data::integers, Data::uniform, Data::specials}[seed % 3];
        s.workers = 1 + int(seed % 2);
        ASSERT_TRUE(passes(Trial(p, s)));
      }
  // More than a piece of a weight panel: channels, then taps.
  for (const char* text : {"1d c3500 o4 i40 k2", "1d c1800 o8 i40 k2", "1d c900 o16 i40 k2", "2d c400 o4 i9x12 k9x2",
                           "2d c200 o8 i9x20 k9x2", "2d c100 o16 i9x36 k9x2"}) {
    Setting s;
    s.seed = ++seed;
    ASSERT_TRUE(passes(Trial(problem(text), s)));
  }
}

/// The same said once without the oracle: all of w infinite, x zero except where padding and gaps would be, and
/// every output that no product reaches stays at its bias.
TEST(Semantics, OutputsWithoutProductsAreTheBias) {
  const Problem p = problem("2d n1 c3 o4 i3x4 k2 s5 p1 op2 b");
  const Sizes size(p);
  std::vector<float> x(size.x, 1.0f), w(size.w, std::numeric_limits<float>::infinity()), b{1, 2, 3, 4}, y(size.y);
  std::vector<bool> reached(size.y);
  for_each_product(p, [&](std::int64_t, std::int64_t, std::int64_t yi) { reached[yi] = true; });
  for (const std::string& name : candidate_names()) {
    const auto plan = Plan::create(p, Device::cpu(), {}, name);
    if (!plan.ok()) continue;
    std::vector<unsigned char> workspace((*plan)->workspace_bytes(Pass::forward, 1) + 64, 0xff);
    void* aligned = workspace.data() + (64 - reinterpret_cast<std::uintptr_t>(workspace.data()) % 64) % 64;
    std::fill(y.begin(), y.end(), NAN);
    ASSERT_TRUE(
        (*plan)->forward({x.data(), w.data(), b.data(), y.data()}, {aligned, workspace.size() - 63, nullptr}).ok());
    for (std::int64_t i = 0; i < size.y; ++i)
      ASSERT_EQ(y[i], reached[i] ? std::numeric_limits<float>::infinity() : b[i / size.output])
          << name << " y[" << i << "]";
  }
}

const std::vector<EpilogueStep> activations = {{Activation::relu},
                                               {Activation::leaky_relu, 0.01},
                                               {Activation::leaky_relu, -0.5},
                                               {Activation::elu, 1.0},
                                               {Activation::elu, 0.3},
                                               {Activation::gelu},
                                               {Activation::gelu_tanh},
                                               {Activation::silu},
                                               {Activation::mish},
                                               {Activation::tanh},
                                               {Activation::sigmoid},
                                               {Activation::hardtanh, -1.0, 1.0},
                                               {Activation::hardtanh, 0.0, 6.0},
                                               {Activation::hardswish},
                                               {Activation::hardsigmoid},
                                               {Activation::softplus, 1.0, 20.0},
                                               {Activation::softplus, 0.5, 20.0},
                                               {Activation::softplus, 2.0, 5.5}};

TEST(Epilogues, EveryActivationOnEveryDtype) {
  std::uint64_t seed = 500;
  for (const EpilogueStep& step : activations)
    for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
      for (const char* text :
           {"2d n2 c5 o9 i4x19 k3 s2 p1 b", "1d n1 c17 o8 i9 k2 s3 b yl", "2d c2 o3 i3x4 k3 s5 p1 d2 b"}) {
        Problem p = problem(text);
        p.dtype = dtype;
        Setting s;
        s.seed = ++seed;
        s.data = seed % 3 ? Data::integers : Data::uniform;  // integers reach far into both tails
        s.epilogue.steps = {step};
        ASSERT_TRUE(passes(Trial(p, s)));
      }
}

TEST(Epilogues, StepsApplyInOrder) {
  for (const char* text : {"2d n1 c4 o6 i5x9 k3 s2 p1 b", "1d n2 c3 o33 i40 k3 b xl yl"}) {
    Setting s;
    s.data = Data::uniform;
    for (auto steps : {std::vector<EpilogueStep>{{Activation::gelu}, {Activation::hardtanh, -0.1, 0.5}},
                       {{Activation::hardtanh, -0.1, 0.5}, {Activation::gelu}},
                       {{Activation::relu},
                        {Activation::elu, 1.0},
                        {Activation::tanh},
                        {Activation::silu},
                        {Activation::mish},
                        {Activation::sigmoid},
                        {Activation::hardswish},
                        {Activation::relu}}}) {
      s.epilogue.steps = steps;
      ASSERT_TRUE(passes(Trial(problem(text), s)));
    }
  }
}

/// Operands of every kind on every candidate against the plain loops, in both layouts: a channel's, a sample's, a whole
/// tensor's, one that differs along w alone; with phases that get no product and rows that no vector fills.
TEST(Epilogues, OperandsOnEveryCandidate) {
  const auto arithmetic = [](Arithmetic a, Source source, int index, double value = 0.0) {
    EpilogueStep s;
    s.arithmetic = a, s.source = source, s.index = index, s.a = value;
    return s;
  };
  const Epilogue epilogue{{arithmetic(Arithmetic::add, Source::operand, 0),
                           arithmetic(Arithmetic::keep, Source::kept, 0),
                           {Activation::sigmoid},
                           arithmetic(Arithmetic::multiply, Source::kept, 0),
                           arithmetic(Arithmetic::subtract, Source::operand, 1),
                           arithmetic(Arithmetic::maximum, Source::scalar, 0, -0.75),
                           arithmetic(Arithmetic::multiply, Source::operand, 2),
                           arithmetic(Arithmetic::reverse_subtract, Source::operand, 3)}};
  int ran = 0;
  for (const std::string& text : windows)
    for (const char* layout : {"", " xl yl"})
      for (const char* dtype : {" f32", " f64", " bf16"}) {
        const Problem p = problem(text + layout + dtype + " b");
        const Extent out = output_size(p);
        const std::int64_t d = p.rank > 2 ? out[0] : 1, h = p.rank > 1 ? out[p.rank - 2] : 1, w = out[p.rank - 1];
        const std::int64_t c = p.out_channels, volume = d * h * w, total = p.batch * c * volume;
        const std::int64_t bytes = size_of(p.dtype);
        std::int64_t in = p.batch * p.in_channels, taps = p.in_channels * c / p.groups;
        for (int i = 0; i < p.rank; ++i) in *= p.input[i], taps *= p.kernel[i];
        const auto fill = [&](std::int64_t n, double scale) {
          std::vector<char> data(static_cast<std::size_t>(n * bytes));
          for (std::int64_t i = 0; i < n; ++i)
            store_element(p.dtype, data.data(), i, scale * double((i * 7919 + 13) % 257 - 128) / 128.0);
          return data;
        };
        const auto x = fill(in, 1.0), weight = fill(taps, 0.25), bias = fill(c, 0.5), channel = fill(c, 0.5);
        const auto sample = fill(p.batch * c, 0.5), whole = fill(total, 1.0), line = fill(w, 1.0);
        const bool last = p.y_layout == Layout::channels_last;
        const Operand operands[] = {
            {channel.data(), {0, 1, 0, 0, 0}},
            {sample.data(), {c, 1, 0, 0, 0}},
            {whole.data(), last ? std::array<std::int64_t, 5>{c * volume, 1, h * w * c, w * c, c}
                                : std::array<std::int64_t, 5>{c * volume, volume, h * w, w, 1}},
            {line.data(), {0, 0, 0, 0, 1}}};
        std::vector<char> want;
        for (const char* name : {"cpu_reference", "cpu_channels", "cpu_positions", "cpu_depthwise", "cpu_residues"}) {
          const auto plan = Plan::create(p, Device::cpu(), epilogue, name);
          if (!plan.ok()) continue;
          std::vector<char> y(static_cast<std::size_t>(total * bytes)),
              work((*plan)->workspace_bytes(Pass::forward, 1) + 64);
          void* aligned =
              reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(work.data()) + 63) & ~std::uintptr_t{63});
          const Status s = (*plan)->forward({x.data(), weight.data(), bias.data(), y.data(), operands},
                                            {aligned, work.size() - 64, nullptr, nullptr});
          ASSERT_TRUE(s.ok()) << s.message();
          EXPECT_FALSE((*plan)
                           ->forward({x.data(), weight.data(), bias.data(), y.data()},
                                     {aligned, work.size() - 64, nullptr, nullptr})
                           .ok());
          ++ran;
          if (want.empty()) {
            want = y;
            continue;
          }
          const double bound = p.dtype == DType::f64 ? 1e-12 : p.dtype == DType::f32 ? 2e-5 : 4e-2;
          for (std::int64_t i = 0; i < total; ++i) {
            const double a = load_element(p.dtype, want.data(), i), b = load_element(p.dtype, y.data(), i);
            ASSERT_NEAR(a, b, bound * (1.0 + std::abs(a))) << name << " " << to_string(p) << " element " << i;
          }
        }
      }
  EXPECT_GT(ran, 150);
}

/// Through a 1x1 layer with one channel the activation's argument is x itself: its whole range, and its limits.
TEST(Epilogues, LimitsAndNonFiniteArguments) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> x = {0.0f,  -0.0f, inf,    -inf,  NAN,    1e-30f, -1e-30f, 1e4f,
                          -1e4f, 3e37f, -3e37f, 20.0f, -20.0f, 88.7f,  -88.7f,  -104.0f};
  for (float v = -12.0f; v <= 12.0f; v += 0.0625f) x.push_back(v);
  Problem p = problem("1d c1 o1 k1");
  p.input[0] = std::int64_t(x.size());
  const float one = 1.0f;
  for (const EpilogueStep& step : activations)
    for (const std::string& name : candidate_names()) {
      const Epilogue epilogue{{step}};
      const auto plan = Plan::create(p, Device::cpu(), epilogue, name);
      if (!plan.ok()) continue;
      std::vector<float> y(x.size(), 0.5f);
      std::vector<unsigned char> workspace((*plan)->workspace_bytes(Pass::forward, 1) + 64);
      void* aligned = workspace.data() + (64 - reinterpret_cast<std::uintptr_t>(workspace.data()) % 64) % 64;
      ASSERT_TRUE(
          (*plan)->forward({x.data(), &one, nullptr, y.data()}, {aligned, workspace.size() - 63, nullptr}).ok());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double v = activate(step, x[i]);
        double bound = store_bound(DType::f32, v, activation_bound(DType::f32, step, x[i], v, 0.0));
        if (std::isinf(x[i])) bound = 1e-6 * std::fabs(v);  // a limit, such as elu's -alpha
        const bool same = std::isnan(v) ? std::isnan(y[i]) : std::isinf(v) ? y[i] == v : std::fabs(y[i] - v) <= bound;
        EXPECT_TRUE(same) << name << ": " << to_string(epilogue) << " of " << x[i] << ": got " << y[i] << ", want " << v
                          << " within " << bound;
      }
    }
}

/// The sum of an element never depends on how many workers there are, or on which one came first.
TEST(Determinism, SameBitsForAnyWorkerCount) {
  const std::vector<std::string> problems = {"2d n3 c33 o17 i9x14 k3 p1 b",
                                             "1d n1 c24 o40 i150 k8 s4 p2 bf16",
                                             "2d n1 c16 o16 i12x33 k3 s2 p1 op1 g2 f16",
                                             "3d n2 c8 o8 i5x6x7 k3 s2 p1",
                                             "2d n2 c32 o32 i11x12 k3 p1 g32",
                                             "2d n1 c3 o64 i20x21 k4 s2 p1 xl yl",
                                             "2d n2 c20 o6 i7x8 k3 s5 p1 d2 f64",
                                             "1d n7 c9 o2 i64 k2 s2 wl",
                                             "1d n1 c170 o200 i30 k4 s2 p1"};
  for (const std::string& text : problems) {
    Setting s;
    s.data = Data::uniform;
    Trial trial(problem(text), s);
    for (Pass pass : all_passes)
      for (const std::string& name : candidate_names(pass)) {
        const Outcome first = trial.run(name, pass, 1, false);
        ASSERT_FALSE(first.failed()) << first.message;
        if (!first.ran) continue;
        for (int workers : {1, 2, 3, 5})
          for (int repeat = 0; repeat < 5; ++repeat) {
            const Outcome again = trial.run(name, pass, workers, repeat % 2 == 0);
            ASSERT_EQ(again.message, "");
            ASSERT_TRUE(again.bits == first.bits)
                << name << " " << to_string(pass) << " of \"" << text << "\": other bits with " << workers
                << (repeat % 2 == 0 ? " threads" : " workers") << ", repeat " << repeat;
          }
      }
  }
}

/// An empty batch has empty y and dx, which may be null, and zero dw and db.
TEST(EmptyBatch, ZeroGradientsAndNullTensors) {
  for (const char* text :
       {"2d n0 c8 o6 i4x5 k3 s2 p1 b", "1d n0 c3 o5 i7 k3", "3d n0 c4 o4 i3x3x3 k2 s2 g2 bf16 xl yl"})
    for (const std::string& name : candidate_names()) {
      const Problem p = problem(text);
      const auto plan = Plan::create(p, Device::cpu(), {}, name);
      if (!plan.ok()) continue;
      const Sizes size(p);
      std::vector<float> w(size.w, 1.0f), b(size.b, 1.0f), dw(size.w, NAN), db(size.b, NAN);
      std::vector<unsigned char> workspace(64);
      for (Pass pass : all_passes) workspace.resize(std::max(workspace.size(), (*plan)->workspace_bytes(pass, 1) + 64));
      void* aligned = workspace.data() + (64 - reinterpret_cast<std::uintptr_t>(workspace.data()) % 64) % 64;
      const Launch launch{aligned, workspace.size() - 63, nullptr};
      EXPECT_TRUE((*plan)->forward({nullptr, w.data(), p.bias ? b.data() : nullptr, nullptr}, launch).ok());
      EXPECT_TRUE((*plan)->backward_input({nullptr, w.data(), nullptr}, launch).ok());
      ASSERT_TRUE((*plan)->backward_weight({nullptr, nullptr, dw.data()}, launch).ok());
      ASSERT_TRUE((*plan)->backward_bias({nullptr, db.data()}, launch).ok());
      for (std::int64_t i = 0; i < size.w; ++i)
        ASSERT_EQ(load_element(p.dtype, dw.data(), i), 0.0) << name << " dw[" << i << "]";
      for (std::int64_t i = 0; i < size.b; ++i)
        ASSERT_EQ(load_element(p.dtype, db.data(), i), 0.0) << name << " db[" << i << "]";
    }
}

}  // namespace
}  // namespace upconv::test
