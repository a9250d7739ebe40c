// A plan on the CPU engine.
#include <cstdio>

#include "cpu/candidates.hpp"
#include "cpu/isa.hpp"
#include "plan/engine_plan.hpp"

namespace upconv {
namespace {

class CpuPlan final : public EnginePlan {
 public:
  using EnginePlan::EnginePlan;

  Status choose(const std::string& only) {
    const auto fill = [this](Pass pass, const std::string& name, Choice<PassKernel>& choice) {
      walk(cpu::candidates(pass), name, Request{problem_, geometry_, pass, epilogue_of(pass), !name.empty()}, choice);
    };
    return upconv::choose(problem_, only, cpu::candidates, fill, choices_);
  }

  std::size_t workspace_bytes(Pass pass, int workers) const override {
    return choices_[index_of(pass)].kernel->workspace_bytes(workers);
  }
  std::string candidate(Pass pass) const override { return choices_[index_of(pass)].name; }
  std::vector<std::string> alternatives(Pass pass) const override { return {candidate(pass)}; }
  std::string detail(Pass pass) const override { return choices_[index_of(pass)].kernel->detail(); }
  Status prepare(Pass) const override { return {}; }

  std::string explain() const override {
    std::string s = to_string(problem_) + "\n";
    s += "  device cpu, instruction set " + to_string(active_isa()) + ", output " + output_text(problem_);
    char figures[128];
    std::snprintf(figures, sizeof figures, ", %.3f GFLOP a pass\n", flop(problem_) * 1e-9);
    s += figures;
    if (!epilogue_.empty()) s += "  epilogue: " + to_string(epilogue_) + "\n";
    for (Pass pass : passes) {
      const auto& c = choices_[index_of(pass)];
      std::snprintf(figures, sizeof figures, " (at least %.2f MB moved, workspace %.2f MB at 1 worker)\n",
                    min_bytes(problem_, pass) * 1e-6, double(c.kernel->workspace_bytes(1)) * 1e-6);
      s += "  " + std::string(to_string(pass)) + ": " + c.name + ", " + c.kernel->detail() + figures;
      for (const Decline& d : c.declined) s += "    declined " + d.candidate + ": " + d.reason + "\n";
    }
    return s;
  }

 private:
  Status run(Pass pass, const PassTensors& tensors, const Launch& launch) const override {
    Executor& executor = launch.executor ? *launch.executor : inline_executor();
    const PassKernel& kernel = *choices_[index_of(pass)].kernel;
    if (Status s = check_workspace(pass, kernel.workspace_bytes(executor.workers()), launch); !s.ok()) return s;
    kernel.run(tensors, launch.workspace, executor);
    return {};
  }

  Choices<PassKernel> choices_;
};

}  // namespace

Result<std::shared_ptr<const Plan>> make_cpu_plan(const Problem& problem, const Epilogue& epilogue,
                                                  const std::string& only) {
  auto plan = std::make_shared<CpuPlan>(problem, epilogue);
  if (Status s = plan->choose(only); !s.ok()) return s;
  return std::shared_ptr<const Plan>(std::move(plan));
}

}  // namespace upconv
