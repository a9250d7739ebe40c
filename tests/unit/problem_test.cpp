// The text form of a problem, the rules it is validated by, and its sizes against brute force.
#include "upconv/problem.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "ops/random.hpp"

namespace upconv {
namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

Problem parsed(std::string_view text) {
  const auto p = parse_problem(text);
  EXPECT_TRUE(p.ok()) << text << ": " << p.status().message();
  return p.ok() ? *p : Problem{};
}

/// Any descriptor at all, valid or not; what lies beyond the rank keeps its default, as text cannot carry it.
Problem any_problem(test::Random& r) {
  Problem p;
  p.rank = int(r.between(1, 3));
  const auto number = [&] { return r.one_in(20) ? r.pick<std::int64_t>({-1, -7, most, 1ll << 40}) : r.between(0, 70); };
  for (std::int64_t* v : {&p.batch, &p.in_channels, &p.out_channels, &p.groups}) *v = number();
  for (Extent* e : {&p.input, &p.kernel, &p.stride, &p.padding, &p.output_padding, &p.dilation})
    for (int d = 0; d < p.rank; ++d) (*e)[d] = number();
  p.bias = r.one_in(2);
  p.dtype = r.pick({DType::f32, DType::f64, DType::f16, DType::bf16});
  for (Layout* l : {&p.x_layout, &p.w_layout, &p.y_layout})
    *l = r.one_in(2) ? Layout::channels_last : Layout::channels_first;
  return p;
}

TEST(ProblemText, RoundTripsAnyDescriptor) {
  test::Random r(1);
  for (int i = 0; i < 20000; ++i) {
    const Problem p = any_problem(r);
    const auto back = parse_problem(to_string(p));
    ASSERT_TRUE(back.ok()) << to_string(p) << ": " << back.status().message();
    ASSERT_TRUE(*back == p) << to_string(p) << " came back as " << to_string(*back);
  }
}

TEST(ProblemText, DefaultsOrderAndSpacesDoNotMatter) {
  const struct {
    const char *text, *same_as;
  } cases[] = {
      {"2d", "2d n1 c1 o1 i1x1 k1x1 s1x1 p0x0 op0x0 d1x1 g1 f32"},
      {"1d c3 o4 i9 k3", "1d n1 c3 o4 i9 k3 s1 p0 op0 d1 g1 f32"},
      {"3d i5 k3 s2 op1", "3d n1 c1 o1 i5x5x5 k3x3x3 s2x2x2 p0x0x0 op1x1x1 d1x1x1 g1 f32"},
      {"  2d\t g4  bf16  b k3x5   c8 i7 o12 yl xl ", "2d n1 c8 o12 i7x7 k3x5 s1x1 p0x0 op0x0 d1x1 g4 b bf16 xl yl"},
      {"2d n8 c64 o64 i1024x1024 k3", "2d n8 c64 o64 i1024x1024 k3x3 s1x1 p0x0 op0x0 d1x1 g1 f32"},
  };
  for (const auto& c : cases) EXPECT_EQ(to_string(parsed(c.text)), c.same_as) << c.text;
}

TEST(ProblemText, RefusesWhatItCannotRead) {
  for (const char* text : {"",
                           "  ",
                           "4d",
                           "0d",
                           "2",
                           "k3",
                           "2d k",
                           "2d k3x",
                           "2d kx3",
                           "2d k3x3x3",
                           "3d k3x3",
                           "1d k3x3",
                           "2d k3x3x3x3",
                           "2d q4",
                           "2d n",
                           "2d n1.5",
                           "2d n0x10",
                           "2d f31",
                           "2d f",
                           "2d bb",
                           "2d c-",
                           "2d c99999999999999999999",
                           "2d op",
                           "2d k 3",
                           "2d 3d",
                           "2d k3,3",
                           "2d K3",
                           "2d k3\n"}) {
    const auto p = parse_problem(text);
    ASSERT_FALSE(p.ok()) << "'" << text << "' was read as " << to_string(*p);
    EXPECT_EQ(p.status().code(), Code::invalid_argument);
    EXPECT_FALSE(p.status().message().empty());
  }
}

TEST(Validation, EveryRuleNamesOperatorValueAndRule) {
  const struct {
    const char* text;
    std::vector<std::string> words;
  } cases[] = {
      {"2d n-1", {"conv_transpose2d", "negative batch", "-1"}},
      {"1d g0", {"conv_transpose1d", "groups", "greater than 0", "0"}},
      {"1d g-2", {"conv_transpose1d", "groups", "-2"}},
      {"3d c0", {"conv_transpose3d", "positive", "in_channels=0"}},
      {"2d o-4", {"conv_transpose2d", "positive", "out_channels=-4"}},
      {"2d c7 o4 g2", {"conv_transpose2d", "in_channels (7)", "divisible by groups (2)"}},
      {"2d c8 o9 g4", {"conv_transpose2d", "out_channels (9)", "divisible by groups (4)"}},
      {"2d i5 k3x0", {"conv_transpose2d", "kernel size", "greater than zero", "(3, 0)"}},
      {"2d i5 k3 s0x1", {"conv_transpose2d", "stride", "greater than zero", "(0, 1)"}},
      {"2d i5 k3 s-1", {"stride", "(-1, -1)"}},
      {"3d i5 k3 d1x1x0", {"conv_transpose3d", "dilation", "greater than zero", "(1, 1, 0)"}},
      {"1d i5 k3 p-2", {"conv_transpose1d", "negative padding", "(-2)"}},
      {"2d i5 k3 s2 op0x-1", {"negative output_padding", "(0, -1)"}},
      {"2d i5 k3 s2 op2", {"conv_transpose2d", "output_padding (2)", "smaller than", "stride (2)", "dilation (1)"}},
      {"2d i5 k3 s2x3 d3x1 op0x3", {"output_padding (3)", "stride (3)", "dilation (1)", "dimension 1"}},
      {"2d i0x5 k3", {"conv_transpose2d", "non-zero spatial", "(0, 5)"}},
      {"2d i5x-3 k3", {"non-zero spatial", "(5, -3)"}},
      {"1d i5 k1 p3", {"conv_transpose1d", "output size", "(-1)", "too small", "padding (3)"}},
      {"2d i5x4 k1x2 p0x4", {"output size (5, -3)", "too small"}},
      {"1d i3 k1 p1 s1", {}},      // one output is enough
      {"2d i5 k3 s2 d3 op2", {}},  // smaller than one of the two is enough
      {"2d i5 k3 s3 d1 op2", {}},
      {"1d i2 k1 p1 s1", {"output size (0)", "too small"}},
      {"1d i9223372036854775807 k3 s2", {"conv_transpose1d", "output size", "64 bits"}},
      {"1d i3 k9223372036854775807 d2", {"64 bits"}},
      {"1d i3 k3 p9223372036854775807", {"64 bits"}},
      {"2d n4000000000 c4000000000 i3 k3", {"conv_transpose2d", "64-bit addressing"}},
      {"1d c4000000000 o4000000000 i1 k1", {"64-bit addressing"}},
      {"2d n0 i4000000000x4000000000", {"64-bit addressing"}},
  };
  for (const auto& c : cases) {
    const Status s = validate(parsed(c.text));
    EXPECT_EQ(s.ok(), c.words.empty()) << c.text << ": " << s.message();
    EXPECT_EQ(s.code(), c.words.empty() ? Code::ok : Code::invalid_argument) << c.text;
    for (const std::string& word : c.words)
      EXPECT_NE(s.message().find(word), std::string::npos)
          << c.text << ": '" << s.message() << "' lacks '" << word << "'";
  }
  for (int rank : {-1, 0, 4, 100}) {
    Problem p;
    p.rank = rank;
    EXPECT_NE(validate(p).message().find("1, 2 or 3 spatial dimensions, but got " + std::to_string(rank)),
              std::string::npos);
  }
}

/// No combination of numbers may overflow on the way (the sanitizer build watches), nor be accepted and not
/// addressable.
TEST(Validation, SurvivesAnyNumbers) {
  test::Random r(2);
  const std::initializer_list<std::int64_t> numbers = {
      std::numeric_limits<std::int64_t>::min(), -1, 0, 1, 2, 3, 1ll << 31, 1ll << 40, most / 2, most - 1, most};
  int accepted = 0;
  for (int i = 0; i < 100000; ++i) {
    Problem p;
    p.rank = int(r.between(1, 3));
    const auto number = [&] { return r.one_in(3) ? r.pick(numbers) : r.between(1, 4); };
    p.batch = number(), p.in_channels = number(), p.out_channels = number();
    p.groups = r.one_in(4) ? number() : 1;
    for (Extent* e : {&p.input, &p.kernel, &p.stride, &p.dilation})
      for (int d = 0; d < p.rank; ++d) (*e)[d] = r.one_in(2) ? 1 : number();
    for (Extent* e : {&p.padding, &p.output_padding})
      for (int d = 0; d < p.rank; ++d) (*e)[d] = r.one_in(2) ? 0 : number();
    if (!validate(p).ok()) continue;
    ++accepted;
    __int128 y = __int128(p.batch) * p.out_channels;
    for (int d = 0; d < p.rank; ++d) y *= output_size(p)[d];
    ASSERT_LT(y, __int128(most) / 8) << to_string(p);
  }
  EXPECT_GT(accepted, 100);
}

TEST(OutputSize, IsOnePastTheFurthestReach) {
  test::Random r(3);
  for (int i = 0; i < 3000; ++i) {
    Problem p;
    p.rank = int(r.between(1, 3));
    for (int d = 0; d < p.rank; ++d) {
      p.input[d] = r.between(1, 9), p.kernel[d] = r.between(1, 6), p.stride[d] = r.between(1, 5),
      p.dilation[d] = r.between(1, 4);
      p.padding[d] = r.between(0, 6), p.output_padding[d] = r.between(0, 3);
    }
    if (!validate(p).ok()) continue;
    for (int d = 0; d < p.rank; ++d) {
      std::set<std::int64_t> reached;  // positions of the uncropped output
      for (std::int64_t a = 0; a < p.input[d]; ++a)
        for (std::int64_t t = 0; t < p.kernel[d]; ++t) reached.insert(p.stride[d] * a + p.dilation[d] * t);
      EXPECT_EQ(output_size(p)[d], *reached.rbegin() + 1 - 2 * p.padding[d] + p.output_padding[d]) << to_string(p);
    }
  }
}

TEST(Figures, FlopAndBytes) {
  const Problem p = parsed("2d n2 c6 o4 i3x5 k3x2 s2 g2 b bf16");  // y: 2 x 4 x 7 x 10
  EXPECT_EQ(flop(p), 2.0 * 2 * 6 * 2 * (3 * 2) * (3 * 5));
  const double x = 2 * 6 * 15, w = 6 * 2 * 6, y = 2 * 4 * 70, b = 4;
  EXPECT_EQ(min_bytes(p, Pass::forward), 2 * (x + w + y + b));
  EXPECT_EQ(min_bytes(p, Pass::backward_input), 2 * (x + w + y));
  EXPECT_EQ(min_bytes(p, Pass::backward_weight), 2 * (x + w + y));
  EXPECT_EQ(min_bytes(p, Pass::backward_bias), 2 * (y + b));
  EXPECT_EQ(flop(parsed("1d n0 c3 o3 i9 k3")), 0.0);
  const struct {
    DType dtype;
    std::int64_t bytes;
  } sizes[] = {{DType::f32, 4}, {DType::f64, 8}, {DType::f16, 2}, {DType::bf16, 2}};
  for (const auto& s : sizes) EXPECT_EQ(size_of(s.dtype), s.bytes) << to_string(s.dtype);
}

}  // namespace
}  // namespace upconv
