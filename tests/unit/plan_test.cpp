// The plan: what it chooses and says about it, what it refuses, and that it is immutable.
#include "upconv/plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "cpu/candidates.hpp"
#include "ops/trial.hpp"

namespace upconv {
namespace {

using test::all_passes;
using test::candidate_names;

Problem problem(const char* text) { return *parse_problem(text); }

/// Tensors of one small problem, and room for any pass.
struct Tensors {
  std::vector<float> x, w, b, y, dy, dx, dw, db;
  std::vector<std::max_align_t> memory;
  std::size_t bytes = 0;

  Tensors(const Plan& plan, int workers) {
    const test::Sizes size(plan.problem());
    const auto fill = [](std::vector<float>& v, std::int64_t n, float from) {
      v.resize(std::size_t(n));
      for (float& e : v) e = from = from * 1.7f - float(int(from * 1.7f)) + 0.01f;
    };
    fill(x, size.x, 0.1f), fill(w, size.w, 0.2f), fill(b, size.b, 0.3f), fill(dy, size.y, 0.4f);
    y.resize(dy.size()), dx.resize(x.size()), dw.resize(w.size()), db.resize(b.size());
    for (Pass pass : all_passes) bytes = std::max(bytes, plan.workspace_bytes(pass, workers));
    memory.resize((bytes + 128) / sizeof(std::max_align_t) + 1);
  }
  void* workspace() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return reinterpret_cast<void*>((address + 63) / 64 * 64);
  }
  const float* bias(const Plan& plan) const { return plan.problem().bias ? b.data() : nullptr; }
  Status run(const Plan& plan, Pass pass, const Launch& launch) {
    switch (pass) {
      case Pass::forward:
        return plan.forward({x.data(), w.data(), bias(plan), y.data()}, launch);
      case Pass::backward_input:
        return plan.backward_input({dy.data(), w.data(), dx.data()}, launch);
      case Pass::backward_weight:
        return plan.backward_weight({x.data(), dy.data(), dw.data()}, launch);
      case Pass::backward_bias:
        return plan.backward_bias({dy.data(), db.data()}, launch);
    }
    return {};
  }
  [[nodiscard]] std::vector<float> results() const {
    std::vector<float> all = y;
    for (const auto* v : {&dx, &dw, &db}) all.insert(all.end(), v->begin(), v->end());
    return all;
  }
};

const char* const problems[] = {"2d n2 c9 o6 i7x9 k3 s2 p1 op1 b", "1d n1 c16 o33 i50 k3 p1",
                                "3d n2 c4 o4 i3x4x5 k2 s2 g2 b", "2d n1 c8 o8 i9x33 k3 g8"};

TEST(Plan, TheLastCandidateOfEveryPassTakesAnything) {
  for (Pass pass : all_passes) {
    const auto names = candidate_names(pass);
    ASSERT_FALSE(names.empty());
    EXPECT_EQ(names.back(), "cpu_reference");
    auto sorted = names;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_TRUE(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end()) << "two candidates of one name";
  }
}

TEST(Plan, ExplainsTheChoiceAndEveryDeclineBeforeIt) {
  for (const char* text : problems) {
    const auto plan = Plan::create(problem(text));
    ASSERT_TRUE(plan.ok());
    const std::string said = (*plan)->explain();
    EXPECT_NE(said.find(to_string(problem(text))), std::string::npos) << said;
    for (Pass pass : all_passes) {
      const std::string chosen = (*plan)->candidate(pass);
      EXPECT_NE(said.find(std::string(to_string(pass)) + ": " + chosen), std::string::npos) << said;
      for (const std::string& name : candidate_names(pass)) {
        if (name == chosen) break;
        const std::size_t at = said.find("declined " + name + ": ");
        ASSERT_NE(at, std::string::npos) << name << " was passed over in silence:\n" << said;
        EXPECT_GT(said.find('\n', at) - at, name.size() + 15) << "no reason:\n" << said;
      }
    }
  }
}

/// Tables and tiles sized by such numbers would not fit any memory.
TEST(Plan, LeavesExtremeStridesAndReachesToThePlainLoops) {
  const struct {
    const char *text, *reason;
  } cases[] = {{"1d c2 o3 i3 k1 s1000000000 p1000000000", "stride 1000000000 is above 4096"},
               {"1d c16 o16 i4 k3 d1000000000", "dilation * (kernel - 1) = 2000000000 is above 65536"},
               {"2d c2 o2 i4 k1x3 d1x32769", "dilation * (kernel - 1) = 65538 is above 65536"}};
  for (const auto& c : cases) {
    const auto plan = Plan::create(problem(c.text));
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    for (Pass pass : all_passes) EXPECT_EQ((*plan)->candidate(pass), "cpu_reference") << c.text;
    EXPECT_NE((*plan)->explain().find(c.reason), std::string::npos) << (*plan)->explain();
  }
}

TEST(Plan, NamedCandidateIsUsedOrRefusedWithReasons) {
  for (const char* text : problems)
    for (const std::string& name : candidate_names()) {
      const auto plan = Plan::create(problem(text), Device::cpu(), {}, name);
      if (!plan.ok()) {
        EXPECT_EQ(plan.status().code(), Code::unsupported) << plan.status().message();
        EXPECT_NE(plan.status().message().find(name), std::string::npos) << plan.status().message();
        continue;
      }
      for (Pass pass : all_passes) {
        const auto names = candidate_names(pass);
        if (std::find(names.begin(), names.end(), name) == names.end()) continue;
        EXPECT_EQ((*plan)->candidate(pass), name) << text;
      }
    }
  const auto none = Plan::create(problem("1d i4 k3"), Device::cpu(), {}, "no_such_candidate");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), Code::invalid_argument);
  EXPECT_NE(none.status().message().find("no_such_candidate"), std::string::npos);
}

TEST(Plan, RefusesInvalidProblemsAndEpilogues) {
  const auto bad = Plan::create(problem("2d c3 o4 i5 k3 g2"));
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().message(), validate(problem("2d c3 o4 i5 k3 g2")).message());
  const Epilogue wrong{{{Activation::hardtanh, 1.0, 0.0}}};
  const auto plan = Plan::create(problem("2d i5 k3"), Device::cpu(), wrong);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().message(), validate(wrong).message());
}

TEST(Plan, RefusesABiasThatDoesNotMatch) {
  for (const char* text : {"1d c2 o3 i4 k3", "1d c2 o3 i4 k3 b"}) {
    const auto plan = Plan::create(problem(text));
    Tensors t(**plan, 1);
    const Launch launch{t.workspace(), t.bytes, nullptr};
    const bool has = (*plan)->problem().bias;
    const std::vector<float> before = t.y;
    const Status s = (*plan)->forward({t.x.data(), t.w.data(), has ? nullptr : t.b.data(), t.y.data()}, launch);
    EXPECT_EQ(s.code(), Code::invalid_argument);
    EXPECT_NE(s.message().find("bias"), std::string::npos) << s.message();
    EXPECT_EQ(t.y, before);
  }
}

TEST(Plan, RefusesAWorkspaceThatIsMissingTooSmallOrMisaligned) {
  for (const char* text : problems)
    for (const std::string& name : candidate_names()) {
      const auto plan = Plan::create(problem(text), Device::cpu(), {}, name);
      if (!plan.ok()) continue;
      test::BackwardsExecutor three(3);
      Tensors t(**plan, 3);
      for (Pass pass : all_passes) {
        const std::size_t need = (*plan)->workspace_bytes(pass, 3);
        EXPECT_TRUE(t.run(**plan, pass, {t.workspace(), need, &three}).ok());
        if (need == 0) {
          EXPECT_TRUE(t.run(**plan, pass, {nullptr, 0, &three}).ok());
          continue;
        }
        for (const Launch& launch :
             {Launch{nullptr, need, &three}, Launch{t.workspace(), need - 1, &three}, Launch{nullptr, 0, &three},
              Launch{static_cast<char*>(t.workspace()) + 8, need, &three}}) {
          const Status s = t.run(**plan, pass, launch);
          EXPECT_EQ(s.code(), Code::invalid_argument) << name << " " << to_string(pass);
          EXPECT_NE(s.message().find("workspace"), std::string::npos) << s.message();
          EXPECT_NE(s.message().find(to_string(pass)), std::string::npos) << s.message();
        }
      }
    }
}

/// Scratch is bounded by the weights and a tile a worker: it must not grow with batch or with positions.
TEST(Plan, WorkspaceDoesNotGrowWithTheTensors) {
  const struct {
    const char *small, *large;
  } cases[] = {{"2d n2 c64 o64 i64x64 k3 b", "2d n64 c64 o64 i1024x1024 k3 b"},
               {"1d n1 c64 o32 i4096 k16 s8 p4", "1d n16 c64 o32 i1048576 k16 s8 p4"},
               {"3d n1 c32 o32 i16x32x32 k3 s2 p1", "3d n8 c32 o32 i64x128x128 k3 s2 p1"},
               {"2d n1 c64 o64 i64x64 k3 s2 p1 g8", "2d n16 c64 o64 i1024x1024 k3 s2 p1 g8"},
               {"2d n1 c64 o64 i64x64 k3 g64", "2d n16 c64 o64 i1024x1024 k3 g64"},
               {"2d n1 c32 o64 i32x64 k3 s5 p1 d2", "2d n16 c32 o64 i512x1024 k3 s5 p1 d2"}};
  for (const auto& c : cases)
    for (int channels_last = 0; channels_last < 2; ++channels_last) {
      Problem small = problem(c.small), large = problem(c.large);
      for (Problem* p : {&small, &large})
        if (channels_last) p->x_layout = p->y_layout = Layout::channels_last;
      const auto a = Plan::create(small), b = Plan::create(large);
      ASSERT_TRUE(a.ok() && b.ok());
      const test::Sizes size(large);
      for (Pass pass : all_passes)
        for (int workers : {1, 8}) {
          const double bytes = double((*b)->workspace_bytes(pass, workers)),
                       before = double((*a)->workspace_bytes(pass, workers));
          const double tensors = 4.0 * double(std::min(size.x, size.y));
          EXPECT_TRUE(bytes <= 2.0 * before || bytes < 0.02 * tensors)
              << to_string(pass) << " of " << c.large << " by " << (*b)->candidate(pass) << ", " << workers
              << " workers: " << bytes << " bytes, " << before << " for the small one";
        }
    }
}

TEST(Plan, RunsFromManyThreadsAtOnce) {
  for (const char* text : problems) {
    const auto plan = Plan::create(problem(text));
    ASSERT_TRUE(plan.ok());
    Tensors alone(**plan, 2);
    for (Pass pass : all_passes) ASSERT_TRUE(alone.run(**plan, pass, {alone.workspace(), alone.bytes, nullptr}).ok());
    const auto pool = make_thread_pool(2);
    std::vector<std::thread> hosts;
    std::vector<std::string> wrong(8);
    for (std::size_t i = 0; i < wrong.size(); ++i)
      hosts.emplace_back([&, i] {
        Tensors t(**plan, 2);
        for (int repeat = 0; repeat < 5; ++repeat) {
          for (auto* v : {&t.y, &t.dx, &t.dw, &t.db}) std::fill(v->begin(), v->end(), -9.0f);
          for (Pass pass : all_passes)  // half of them share a pool
            if (!t.run(**plan, pass, {t.workspace(), t.bytes, i % 2 ? pool.get() : nullptr}).ok()) wrong[i] = "refused";
          if (t.results() != alone.results()) wrong[i] = "other bits";
        }
      });
    for (std::thread& h : hosts) h.join();
    for (const std::string& w : wrong) EXPECT_EQ(w, "") << text;
  }
}

}  // namespace
}  // namespace upconv
