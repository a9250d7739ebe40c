// What tuning remembers: the file under many writers, damage and refusal, and that a plan takes the choice only while
// the kernel is the one that was measured. Plans for a device need the fake driver where there is no real one.
#include "plan/tuned.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "jit/environment.hpp"
#include "upconv/plan.hpp"

namespace upconv::jit::testing {
namespace {

const Problem problem = *parse_problem("2d n8 c64 o64 i256x256 k3 tf32");

CudaTarget gpu(const char* name) {
  CudaTarget t;
  t.name = name;
  return t;
}

std::string found(const TunedChoices& choices, const CudaTarget& target, Pass pass, const Epilogue& e = {},
                  const Problem& p = problem) {
  const auto c = choices.find(target, p, pass, e);
  return c ? c->alternative + " | " + c->detail : "nothing";
}

TEST(Tuned, KeptByGpuPassProblemAndEpilogue) {
  const std::string file = new_folder() / "a" / "b" / "tuned.tsv";  // folders that are not there yet
  const CudaTarget h200 = gpu("NVIDIA H200"), other = gpu("NVIDIA A100");
  Epilogue gelu;
  gelu.steps.push_back({Activation::gelu});
  {
    TunedChoices choices(file);
    EXPECT_EQ(found(choices, h200, Pass::forward), "nothing");
    ASSERT_TRUE(choices.remember(h200, problem, Pass::forward, {}, {"cuda_tiles:1", "first"}).ok());
    ASSERT_TRUE(choices.remember(h200, problem, Pass::forward, {}, {"cuda_tiles:3", "a tile, of 3 stages"}).ok());
    ASSERT_TRUE(choices.remember(h200, problem, Pass::forward, gelu, {"cuda_tiles:4", "d"}).ok());
    EXPECT_EQ(found(choices, h200, Pass::forward), "cuda_tiles:3 | a tile, of 3 stages");
  }
  TunedChoices later(file);
  EXPECT_EQ(found(later, h200, Pass::forward), "cuda_tiles:3 | a tile, of 3 stages") << "the last one holds";
  EXPECT_EQ(found(later, h200, Pass::forward, gelu), "cuda_tiles:4 | d");
  EXPECT_EQ(found(later, h200, Pass::backward_input), "nothing");
  EXPECT_EQ(found(later, other, Pass::forward), "nothing");
  Problem larger = problem;
  larger.batch = 9;
  EXPECT_EQ(found(later, h200, Pass::forward, {}, larger), "nothing");
  EXPECT_EQ(later.forget(), 2u);
  EXPECT_EQ(found(later, h200, Pass::forward), "nothing");
  EXPECT_NE(access(file.c_str(), F_OK), 0);
}

TEST(Tuned, ManyWritersLoseNothing) {
  const std::string file = new_folder() / "tuned.tsv";
  constexpr int writers = 8, each = 50;
  std::vector<std::thread> all;
  for (int w = 0; w < writers; ++w)
    all.emplace_back([&, w] {
      TunedChoices own(file);  // as a process of its own would
      Problem p = problem;
      for (int i = 0; i < each; ++i) {
        p.batch = 1 + w * each + i;
        EXPECT_TRUE(own.remember(gpu("g"), p, Pass::forward, {}, {"cuda_tiles:1", std::to_string(p.batch)}).ok());
      }
    });
  for (std::thread& t : all) t.join();
  TunedChoices choices(file);
  Problem p = problem;
  for (p.batch = 1; p.batch <= writers * each; ++p.batch)
    ASSERT_EQ(found(choices, gpu("g"), Pass::forward, {}, p), "cuda_tiles:1 | " + std::to_string(p.batch));
}

TEST(Tuned, DamagedLinesAreNoEntries) {
  const std::string file = new_folder() / "tuned.tsv";
  {
    TunedChoices choices(file);
    ASSERT_TRUE(choices.remember(gpu("g"), problem, Pass::forward, {}, {"cuda_tiles:1", "whole"}).ok());
  }
  std::string line;
  std::getline(std::ifstream(file), line);
  std::ofstream(file, std::ios::app) << "\n\t\t\nnonsense\n" << line << "\tmore\n" << line.substr(0, line.size() / 2);
  TunedChoices damaged(file);
  EXPECT_EQ(found(damaged, gpu("g"), Pass::forward), "cuda_tiles:1 | whole");
}

TEST(Tuned, WhatCannotBeKeptIsTold) {
  const auto folder = new_folder();
  std::ofstream(folder / "file") << "not a folder";
  TunedChoices choices(folder / "file" / "tuned.tsv");
  EXPECT_EQ(found(choices, gpu("g"), Pass::forward), "nothing");
  const Status s = choices.remember(gpu("g"), problem, Pass::forward, {}, {"cuda_tiles:1", "d"});
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.message().find("tuned.tsv"), std::string::npos) << s.message();
  EXPECT_FALSE(TunedChoices("").remember(gpu("g"), problem, Pass::forward, {}, {"cuda_tiles:1", "d"}).ok());
}

TEST(Tuned, APlanTakesTheChoiceWhileTheKernelIsTheSame) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const auto plan = [](const std::string& only = {}) { return *Plan::create(problem, Device::cuda(0), {}, only); };
  const CudaTarget& target = **cuda_target(0);
  const auto before = plan();
  const auto names = before->alternatives(Pass::forward);
  ASSERT_GT(names.size(), 3u);
  EXPECT_EQ(names[0], before->candidate(Pass::forward));
  const std::string other = names[2];
  const std::string detail = plan(other)->detail(Pass::forward);
  ASSERT_NE(detail, before->detail(Pass::forward));

  ASSERT_TRUE(user_tuned_choices().remember(target, problem, Pass::forward, {}, {other, detail}).ok());
  const auto after = plan();
  EXPECT_EQ(after->detail(Pass::forward), detail);
  EXPECT_EQ(after->alternatives(Pass::forward), names) << "the cost model's choice stays first";
  EXPECT_NE(after->explain().find("by tuning instead of " + names[0]), std::string::npos) << after->explain();
  EXPECT_EQ(after->detail(Pass::backward_input), before->detail(Pass::backward_input));
  EXPECT_EQ(plan(names[0])->detail(Pass::forward), before->detail(Pass::forward)) << "a name asked for is taken";
  EXPECT_EQ((*Plan::create(problem, Device::cuda_model(90)))->detail(Pass::forward).find("tuning"), std::string::npos);

  ASSERT_TRUE(user_tuned_choices().remember(target, problem, Pass::forward, {}, {other, "what it was once"}).ok());
  EXPECT_EQ(plan()->detail(Pass::forward), before->detail(Pass::forward));
  ASSERT_TRUE(user_tuned_choices().remember(target, problem, Pass::forward, {}, {"cuda_tiles:999", detail}).ok());
  EXPECT_EQ(plan()->detail(Pass::forward), before->detail(Pass::forward));
  user_tuned_choices().forget();
}

TEST(Tuned, AChoiceMayHaveResiduesAsChannels) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Problem stft = *parse_problem("1d n1 c1026 o1 i224 k1024 s256 f32 tf32");
  const auto plan = [&](const std::string& only = {}) { return *Plan::create(stft, Device::cuda(0), {}, only); };
  constexpr Pass dw = Pass::backward_weight;
  const CudaTarget& target = **cuda_target(0);
  const auto before = plan();
  const auto names = before->alternatives(dw);
  const auto of = [](const std::string& name) { return name.substr(0, name.find(':')); };
  const auto other = std::find_if(names.begin() + 1, names.end(),
                                  [](const std::string& n) { return n.find("+residues:") != std::string::npos; });
  ASSERT_NE(other, names.end());
  const std::string detail = plan(*other)->detail(dw);
  ASSERT_NE(detail, before->detail(dw));
  ASSERT_TRUE(user_tuned_choices().remember(target, stft, dw, {}, {*other, detail}).ok());
  EXPECT_EQ(plan()->detail(dw), detail);
  EXPECT_EQ(plan()->candidate(dw), of(*other));
  EXPECT_EQ(plan()->alternatives(dw), names);
  // The same name without the suffix is another way, which makes no such kernel.
  ASSERT_TRUE(user_tuned_choices().remember(target, stft, dw, {}, {other->substr(0, other->find('+')), detail}).ok());
  EXPECT_EQ(plan()->detail(dw), before->detail(dw));
  user_tuned_choices().forget();
}

TEST(Tuned, NamesThatAreNoneAreRefused) {
  for (const char* name : {"cuda_tiles:", "cuda_tiles:x", "cuda_tiles:-1", "cuda_tiles:1x", "cuda_tile:1", ":1"}) {
    const auto made = Plan::create(problem, Device::cuda_model(90), {}, name);
    ASSERT_FALSE(made.ok()) << name;
    EXPECT_NE(made.status().message().find(name[0] == ':' ? "candidate" : "cuda_tile"), std::string::npos)
        << made.status().message();
  }
  EXPECT_TRUE(Plan::create(problem, Device::cuda_model(90), {}, "cuda_tiles:11").ok());
}

}  // namespace
}  // namespace upconv::jit::testing
