// Residues of the stride as channels: the identity by the CPU's plain loops, whom it is for, and what a CUDA plan makes
// of it on models of a GPU.
#include "problem/residues_as_channels.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "ops/oracle.hpp"
#include "ops/random.hpp"
#include "ops/trial.hpp"
#include "upconv/plan.hpp"

namespace upconv {
namespace {

Problem problem(const std::string& text) { return *parse_problem(text); }

TEST(ResiduesAsChannels, AreTheSameLayerOnTheSameMemory) {
  for (const char* text :
       {"1d n2 c24 o1 i20 k32 s8 f32", "1d n2 c24 o1 i20 k32 s8 p8 f32", "1d n1 c17 o1 i9 k27 s9 p18",
        "1d n3 c16 o1 i5 k8 s8", "1d n2 c18 o1 i7 k40 s10 p10 xl", "1d n2 c16 o1 i6 k24 s12 b",
        "1d n2 c16 o1 i6 k24 s12 p12 xl wl yl", "1d n0 c16 o1 i6 k16 s8"}) {
    SCOPED_TRACE(text);
    const Problem p = problem(text);
    const auto q = residues_as_channels(p);
    ASSERT_TRUE(q);
    ASSERT_TRUE(validate(*q).ok()) << validate(*q).message();
    EXPECT_EQ(output_size(*q)[0] * p.stride[0], output_size(p)[0]);
    EXPECT_EQ(flop(*q), flop(p));
    EXPECT_EQ(min_bytes(*q, Pass::backward_input), min_bytes(p, Pass::backward_input));

    const test::Sizes size(p), other(*q);
    ASSERT_TRUE(size.x == other.x && size.w == other.w && size.y == other.y);
    test::Random r(7);
    const auto draw = [&](std::int64_t n) {
      std::vector<float> v(static_cast<std::size_t>(n));
      for (float& e : v) e = float(r.between(-3, 3));
      return v;
    };
    const auto x = draw(size.x), w = draw(size.w), dy = draw(size.y);
    const auto results = [&](const Problem& of) {
      const auto plan = *Plan::create(of, Device::cpu(), {}, "cpu_reference");
      std::vector<float> y(dy.size()), dx(x.size()), dw(w.size());
      EXPECT_TRUE(plan->forward({x.data(), w.data(), nullptr, y.data()}).ok());
      EXPECT_TRUE(plan->backward_input({dy.data(), w.data(), dx.data()}).ok());
      EXPECT_TRUE(plan->backward_weight({x.data(), dy.data(), dw.data()}).ok());
      return std::array{y, dx, dw};
    };
    Problem without = p;
    without.bias = false;
    EXPECT_EQ(results(without), results(*q));
  }
}

TEST(ResiduesAsChannels, KeepWhatIsNotAboutResidues) {
  const auto q = residues_as_channels(problem("1d n8 c4098 o1 i435 k4096 s1024 p2048 b f32 tf32 xl"));
  ASSERT_TRUE(q);
  EXPECT_EQ(to_string(*q), to_string(problem("1d n8 c4098 o1024 i435 k4 s1 p2 f32 tf32 xl wl yl")));
}

TEST(ResiduesAsChannels, AreNoneWhereTheIdentityDoesNotHoldOrPay) {
  const char* const fits = "1d n2 c24 o1 i20 k32 s8 p8";
  ASSERT_TRUE(residues_as_channels(problem(fits)));
  for (const char* other : {"1d n2 c24 o2 i20 k32 s8 p8", "1d n2 c24 o3 i20 k32 s8 p8 g3", "1d n2 c24 o1 i20 k33 s8 p8",
                            "1d n2 c24 o1 i20 k32 s8 p4", "1d n2 c24 o1 i20 k32 s8 p8 op1",
                            "1d n2 c24 o1 i20 k32 s8 d2", "1d n2 c24 o1 i20 k28 s7 p7", "1d n2 c15 o1 i20 k32 s8 p8",
                            "1d n2 c24 o1 i20 k4 s8", "2d n2 c24 o1 i20x1 k32x1 s8x1", "2d n2 c24 o1 i4x4 k8 s8"}) {
    ASSERT_TRUE(validate(problem(other)).ok()) << other;
    EXPECT_FALSE(residues_as_channels(problem(other))) << other;
  }
}

const std::string istft = "1d n8 c4098 o1 i435 k4096 s1024 f32 tf32", small = "1d n1 c1026 o1 i224 k1024 s256 bf16";

std::shared_ptr<const Plan> plan_of(const std::string& text, const std::string& only = {},
                                    const Epilogue& epilogue = {}) {
  const auto made = Plan::create(problem(text), Device::cuda_model(90), epilogue, only);
  EXPECT_TRUE(made.ok()) << text << " by " << only << ": " << made.status().message();
  return made.ok() ? *made : nullptr;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(ResiduesForm, IsTakenWhereItIsPredictedToBeFaster) {
  const auto plan = plan_of(istft);
  const std::string said = plan->explain();
  EXPECT_EQ(plan->candidate(Pass::backward_weight), "cuda_weight_wgmma+residues");
  EXPECT_EQ(plan->candidate(Pass::backward_bias), "cuda_bias_sum");
  const std::size_t at = said.find("backward_weight: cuda_weight_wgmma+residues, ");
  ASSERT_NE(at, std::string::npos) << said;
  EXPECT_TRUE(contains(said.substr(at, said.find('\n', at) - at),
                       ", as \"" + to_string(problem("1d n8 c4098 o1024 i435 k4 f32 tf32 wl yl")) + "\" ("))
      << said;
  EXPECT_TRUE(contains(said, "declined cuda_direct: no predicted time against ")) << said;
  // What is done is what would be done for the other problem.
  const auto other = plan_of(to_string(*residues_as_channels(problem(istft))));
  EXPECT_EQ(plan->detail(Pass::backward_weight), other->detail(Pass::backward_weight));
  EXPECT_EQ(plan->workspace_bytes(Pass::backward_weight, 1), other->workspace_bytes(Pass::backward_weight, 1));
}

TEST(ResiduesForm, IsNoneForABiasOrAnEpilogueInForwardAndForOtherLayers) {
  const auto with_bias = plan_of(istft + " b");
  EXPECT_EQ(with_bias->candidate(Pass::forward), "cuda_residues");
  EXPECT_EQ(with_bias->candidate(Pass::backward_weight), "cuda_weight_wgmma+residues");
  const Epilogue relu{{{Activation::relu}}};
  EXPECT_EQ(plan_of(istft, {}, relu)->candidate(Pass::forward), "cuda_residues");
  for (const char* text :
       {"1d n8 c64 o64 i435 k16 s8 f32 tf32", "1d n8 c64 o1 i435 k15 s8 f32 tf32", "2d n8 c64 o1 i32 k16 s8 f32 tf32",
        "1d n1 c32 o1 i100 k32 s8 f64", "1d c16 o1 i1 k1000000000 s1000000000 tf32"})
    for (Pass pass : test::all_passes) EXPECT_FALSE(contains(plan_of(text)->candidate(pass), "+residues")) << text;
}

TEST(ResiduesForm, IsForcedByItsNameAndAbsentWithoutIt) {
  std::vector<std::string> details;
  for (const std::string name : {"cuda_weight_wgmma", "cuda_weight_wgmma:1", "cuda_weight_wgmma+residues",
                                 "cuda_weight_wgmma+residues:1", "cuda_weight_mma+residues"}) {
    const auto plan = plan_of(small, name);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->candidate(Pass::backward_weight), name.substr(0, name.find(':')));
    EXPECT_EQ(plan->candidate(Pass::backward_input), plan_of(small)->candidate(Pass::backward_input)) << "not named";
    EXPECT_EQ(std::count(details.begin(), details.end(), plan->detail(Pass::backward_weight)), 0);
    details.push_back(plan->detail(Pass::backward_weight));
  }
  const auto direct = plan_of(small, "cuda_direct+residues");
  for (Pass pass : {Pass::forward, Pass::backward_input, Pass::backward_weight})
    EXPECT_EQ(direct->candidate(pass), "cuda_direct+residues");
  EXPECT_EQ(direct->candidate(Pass::backward_bias), "");
  const struct {
    std::string text, only, reason;
  } refused[] = {{"1d n2 c24 o1 i20 k33 s8 f32", "cuda_weight_mma+residues", "a stride of at least 8 that divides"},
                 {"1d c16 o1 i1 k1000000000 s1000000000", "cuda_direct+residues", "stride 1000000000 is above 4096"},
                 {istft + " b", "cuda_scatter+residues", "the bias is one number"},
                 {istft, "cuda_bias_sum+residues", "db is one sum"},
                 {istft, "+residues", "no candidate"},
                 {istft, "cuda_weight_mma+residue", "no candidate named"},
                 {istft, "cuda_weight_mma:1+residues", "no candidate and no tile"}};
  for (const auto& r : refused) {
    const auto made = Plan::create(problem(r.text), Device::cuda_model(90), {}, r.only);
    ASSERT_FALSE(made.ok()) << r.only;
    EXPECT_TRUE(contains(made.status().message(), r.reason)) << made.status().message();
  }
}

TEST(ResiduesForm, IsAmongTheAlternatives) {
  for (Pass pass : {Pass::forward, Pass::backward_input, Pass::backward_weight}) {
    const auto plan = plan_of(small);
    const auto names = plan->alternatives(pass);
    const auto count = [&](bool residues) {
      return std::count_if(names.begin(), names.end(),
                           [&](const std::string& n) { return contains(n, "+residues") == residues; });
    };
    ASSERT_FALSE(names.empty());
    EXPECT_EQ(names[0], plan->candidate(pass));
    EXPECT_EQ(std::count(names.begin(), names.end(), "cuda_direct"), 0);
    EXPECT_EQ(std::count(names.begin(), names.end(), "cuda_direct+residues"), 0);
    for (const std::string& name : names)
      EXPECT_EQ(plan_of(small, name)->candidate(pass), name.substr(0, name.find(':')));
    // Both forms of this layer are near enough to be measured.
    EXPECT_GT(count(false), 0) << to_string(pass);
    EXPECT_GT(count(true), 0) << to_string(pass);
  }
  // What runs is always among them, whatever the models say of others.
  const auto chosen = plan_of("1d n1 c64 o4 i300 k16 s8 p4 b bf16");
  EXPECT_EQ(chosen->alternatives(Pass::forward).front(), chosen->candidate(Pass::forward));
  for (const std::string& name : plan_of(small + " b")->alternatives(Pass::forward))
    EXPECT_FALSE(contains(name, "+residues")) << name;
}

}  // namespace
}  // namespace upconv
