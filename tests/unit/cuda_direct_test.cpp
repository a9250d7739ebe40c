// cuda_direct and cuda_bias_sum without a GPU: what they take, how wide their indices are, what memory they ask for.
#include <gtest/gtest.h>

#include "upconv/plan.hpp"

namespace upconv {
namespace {

std::shared_ptr<const Plan> plan_of(const char* text, const std::string& only) {
  const auto problem = parse_problem(text);
  EXPECT_TRUE(problem.ok()) << text;
  const auto plan = Plan::create(*problem, Device::cuda_model(90), {}, only);
  EXPECT_TRUE(plan.ok()) << text << ": " << plan.status().message();
  return plan.ok() ? *plan : nullptr;
}

TEST(CudaDirect, TakesEveryPassOfEveryProblem) {
  for (const char* text :
       {"1d n0 c3 o4 i5 k3 b f32", "2d n2 c6 o9 i5x7 k3x2 s2 p1 op1 g3 b bf16 xl wl yl", "3d c8 o4 i2x3x5 k3 d2 f64",
        "1d c2 o3 i1 k2 s1000000000000 b f32", "1d c2 o3 i1 k3 d1000000000 p1000000000 b f16",
        "1d c2 o3 i3 k1 s1000000000 p1000000000 b f32", "1d n64 c512 o512 i1000000 k16 s8 bf16",
        "1d c200000 o100000 i3 k3 f32", "1d c1 o1 i20000000000 k3 f32"}) {
    const auto plan = plan_of(text, "cuda_direct");
    ASSERT_TRUE(plan);
    for (Pass pass : {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias}) {
      EXPECT_EQ(plan->candidate(pass), "cuda_direct") << text;
      const bool gradient_of_parameters = pass == Pass::backward_weight || pass == Pass::backward_bias;
      EXPECT_LE(plan->workspace_bytes(pass, 1), gradient_of_parameters ? std::size_t{64} << 20 : 0) << text;
    }
  }
}

TEST(CudaDirect, IndicesAreWideOnlyWhereNumbersAre) {
  const struct {
    const char* text;
    bool wide;
  } cases[] = {
      {"2d n8 c64 o64 i512x512 k3 f32", false},
      {"2d n8 c64 o64 i2048x2048 k3 f32", true},            // 2^31 elements of x
      {"1d c1 o1 i2 k1 s2000000000 p999999999 f32", true},  // a stride past 2^30
      {"1d c1 o1 i1 k2 d1000000000 p500000000 f32", true},  // a reach past it
      {"1d c2 o3 i1 k2 s1000000000000 p1 d3 f32", false},   // one input: its stride does not matter
      {"1d c1 o1 i100 k1 s2 d1000000000000 f32", false},    // one tap: nor its dilation
      {"1d n1 c1 o1 i100000 k3 s30000 p1499900000 f32", true},
  };
  for (const auto& c : cases) {
    const auto plan = plan_of(c.text, "cuda_direct");
    ASSERT_TRUE(plan);
    const std::string s = plan->explain();
    const std::size_t line = s.find("forward: cuda_direct");
    ASSERT_NE(line, std::string::npos) << s;
    EXPECT_EQ(s.substr(line, s.find('\n', line) - line).find("64-bit") != std::string::npos, c.wide) << c.text << "\n"
                                                                                                     << s;
  }
}

TEST(CudaBiasSum, LeavesItsPartsInBoundedMemory) {
  for (const char* text :
       {"1d n0 c1 o7 i5 k1 f32", "1d n8 c1 o64 i1052676 k1 f32", "1d n8 c1 o64 i1052676 k1 bf16 yl",
        "1d n4 c1 o513 i50000 k1 bf16 yl", "1d n64 c1 o4096 i49 k1 f64", "1d c1 o100003 i3 k1 f16"}) {
    const auto plan = plan_of(text, "cuda_bias_sum");
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->candidate(Pass::backward_bias), "cuda_bias_sum");
    EXPECT_LE(plan->workspace_bytes(Pass::backward_bias, 1), std::size_t{64} << 20) << text;
  }
}

}  // namespace
}  // namespace upconv
