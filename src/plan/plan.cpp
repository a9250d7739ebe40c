// Plan::create: validate, walk each pass's candidates, keep the first that accepts and every reason before it.
#include "upconv/plan.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cpu/candidates.hpp"
#include "cpu/isa.hpp"
#include "plan/candidate.hpp"

namespace upconv {
namespace {

constexpr std::array passes = {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias};

struct Decline {
  std::string candidate;
  std::string reason;
};

/// What was decided about one pass.
struct Choice {
  std::string name;
  std::unique_ptr<PassKernel> kernel;
  std::vector<Decline> declined;
};

// Models reach k = 4096, s = 1024 (an inverse STFT) and dilations of a few hundred.
constexpr std::int64_t widest_stride = 4096, widest_reach = 65536;

class CpuPlan final : public Plan {
 public:
  CpuPlan(const Problem& problem, const Epilogue& epilogue)
      : problem_(problem), geometry_(make_geometry(problem)), epilogue_(epilogue) {}

  Status choose(const std::string& only) {
    static const Epilogue none;
    if (!only.empty() && !known(only)) return invalid_argument("plan: there is no candidate named '" + only + "'");
    for (Pass pass : passes) {
      Choice& choice = choices_[index(pass)];
      const auto list = cpu::candidates(pass);
      bool forced = false;
      for (const Candidate& c : list) forced |= c.name == only;
      const Request request{problem_, geometry_, pass, pass == Pass::forward ? epilogue_ : none, forced};
      for (const Candidate& c : list) {
        if (forced && c.name != only) {
          choice.declined.push_back({std::string(c.name), "only " + only + " was asked for"});
          continue;
        }
        auto made = &c == &list.back() ? c.make(request) : ask(c, request);
        if (made.ok()) {
          choice.name = c.name;
          choice.kernel = std::move(made).value();
          break;
        }
        choice.declined.push_back({std::string(c.name), made.status().message()});
      }
      if (!choice.kernel) {
        std::string reasons;
        for (const Decline& d : choice.declined) reasons += "; " + d.candidate + ": " + d.reason;
        return unsupported("no candidate for " + std::string(to_string(pass)) + " of " + to_string(problem_) + reasons);
      }
    }
    return {};
  }

  const Problem& problem() const override { return problem_; }
  std::size_t workspace_bytes(Pass pass, int workers) const override {
    return choices_[index(pass)].kernel->workspace_bytes(workers);
  }
  std::string candidate(Pass pass) const override { return choices_[index(pass)].name; }

  std::string explain() const override {
    std::string s = to_string(problem_) + "\n";
    const Extent out = output_size(problem_);
    s += "  device cpu, instruction set " + to_string(active_isa()) + ", output ";
    for (int d = 0; d < problem_.rank; ++d) s += (d ? "x" : "") + std::to_string(out[d]);
    char figures[128];
    std::snprintf(figures, sizeof figures, ", %.3f GFLOP a pass\n", flop(problem_) * 1e-9);
    s += figures;
    if (!epilogue_.empty()) s += "  epilogue: " + to_string(epilogue_) + "\n";
    for (Pass pass : passes) {
      const Choice& c = choices_[index(pass)];
      std::snprintf(figures, sizeof figures, " (at least %.2f MB moved, workspace %.2f MB at 1 worker)\n",
                    min_bytes(problem_, pass) * 1e-6, double(c.kernel->workspace_bytes(1)) * 1e-6);
      s += "  " + std::string(to_string(pass)) + ": " + c.name + ", " + c.kernel->detail() + figures;
      for (const Decline& d : c.declined) s += "    declined " + d.candidate + ": " + d.reason + "\n";
    }
    return s;
  }

  Status forward(const ForwardArgs& a, const Launch& launch) const override {
    if ((a.b != nullptr) != problem_.bias)
      return invalid_argument(problem_.bias ? "forward: the problem has a bias, but b is null"
                                            : "forward: the problem has no bias, but b is given");
    return run(Pass::forward, {.x = a.x, .w = a.w, .b = a.b, .y = a.y}, launch);
  }
  Status backward_input(const BackwardInputArgs& a, const Launch& launch) const override {
    return run(Pass::backward_input, {.w = a.w, .dy = a.dy, .dx = a.dx}, launch);
  }
  Status backward_weight(const BackwardWeightArgs& a, const Launch& launch) const override {
    return run(Pass::backward_weight, {.x = a.x, .dy = a.dy, .dw = a.dw}, launch);
  }
  Status backward_bias(const BackwardBiasArgs& a, const Launch& launch) const override {
    return run(Pass::backward_bias, {.dy = a.dy, .db = a.db}, launch);
  }

 private:
  static std::size_t index(Pass pass) { return static_cast<std::size_t>(pass); }

  static Result<std::unique_ptr<PassKernel>> ask(const Candidate& c, const Request& request) {
    if (Status s = within_bounds(request.geometry); !s.ok()) return s;
    return c.make(request);
  }

  static bool known(const std::string& name) {
    for (Pass pass : passes)
      for (const Candidate& c : cpu::candidates(pass))
        if (c.name == name) return true;
    return false;
  }

  Status run(Pass pass, const PassTensors& tensors, const Launch& launch) const {
    Executor& executor = launch.executor ? *launch.executor : inline_executor();
    const PassKernel& kernel = *choices_[index(pass)].kernel;
    const std::size_t need = kernel.workspace_bytes(executor.workers());
    if (need > 0 && (launch.workspace == nullptr || launch.workspace_bytes < need))
      return invalid_argument(std::string(to_string(pass)) + ": workspace of " +
                              std::to_string(launch.workspace_bytes) + " bytes is smaller than the " +
                              std::to_string(need) + " that workspace_bytes() asks for");
    if (need > 0 && reinterpret_cast<std::uintptr_t>(launch.workspace) % 64 != 0)
      return invalid_argument(std::string(to_string(pass)) + ": the workspace must be aligned to 64 bytes");
    kernel.run(tensors, launch.workspace, executor);
    return {};
  }

  Problem problem_;
  Geometry geometry_;
  Epilogue epilogue_;
  std::array<Choice, 4> choices_;
};

}  // namespace

Status within_bounds(const Geometry& g) {
  for (int d = 0; d < 3; ++d) {
    const std::int64_t reach = g.dilation[d] * (g.kernel[d] - 1);
    if (g.stride[d] > widest_stride)
      return unsupported("stride " + std::to_string(g.stride[d]) + " is above " + std::to_string(widest_stride));
    if (reach > widest_reach)
      return unsupported("dilation * (kernel - 1) = " + std::to_string(reach) + " is above " +
                         std::to_string(widest_reach));
  }
  return {};
}

Result<std::shared_ptr<const Plan>> Plan::create(const Problem& problem, Device, const Epilogue& epilogue,
                                                 const std::string& only) {
  if (Status s = validate(problem); !s.ok()) return s;
  if (Status s = validate(epilogue); !s.ok()) return s;
  auto plan = std::make_shared<CpuPlan>(problem, epilogue);
  if (Status s = plan->choose(only); !s.ok()) return s;
  return std::shared_ptr<const Plan>(std::move(plan));
}

}  // namespace upconv
