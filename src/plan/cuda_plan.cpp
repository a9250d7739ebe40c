// A plan on the CUDA engine. Choosing needs no GPU and compiles nothing; the first run of a pass compiles its kernels.
//
// Where the residues of a stride can be channels of another problem on the same tensors (residues_form.hpp), the
// candidates are asked about both; what is chosen for that one is named "cuda_tiles+residues" (way.hpp).
#include <algorithm>
#include <cstdio>
#include <optional>

#include "cuda/candidates.hpp"
#include "jit/image.hpp"
#include "plan/cuda_choice.hpp"
#include "plan/engine_plan.hpp"
#include "plan/residues_form.hpp"
#include "plan/tuned.hpp"
#include "plan/way.hpp"

namespace upconv {
namespace {

/// The time below which no kernel can do a pass: its bytes or its products, whichever takes longer.
double floor_seconds(const Problem& problem, Pass pass, const CudaTarget& target) {
  const double bytes = min_bytes(problem, pass) / target.bytes_per_second;
  if (pass == Pass::backward_bias) return bytes;
  const double operations = flop(problem);
  switch (problem.dtype) {
    case DType::f64:
      return std::max(bytes, operations / target.fp64_flops);
    case DType::f16:
    case DType::bf16:
      return std::max(bytes, operations / target.half_flops);
    case DType::f32:
      break;
  }
  switch (problem.precision) {
    case Precision::tf32:
      return std::max(bytes, operations / target.tf32_flops);
    case Precision::bf16x3:
      return std::max(bytes, 3.0 * operations / target.half_flops);
    case Precision::ieee:  // the fastest of FFMA, three TF32 products and six bf16 ones
      return std::max(bytes, operations / std::max({target.fp32_flops, target.tf32_flops / 3, target.half_flops / 6}));
  }
  return bytes;
}

class CudaPlan final : public EnginePlan {
 public:
  CudaPlan(const Problem& problem, const Epilogue& epilogue, const CudaTarget& target)
      : EnginePlan(problem, epilogue), target_(target), residues_(problem) {}

  /// `only`: a way (way.hpp), or empty; then what `tuned` knows has precedence.
  Status choose(const std::string& only, const TunedChoices& tuned) {
    const auto asked = parse_way(only);
    if (!asked) return invalid_argument("plan: '" + only + "' is no candidate and no tile of one");
    const auto fill = [&](Pass pass, const std::string& name, Choice<cuda::PassKernel>& choice) {
      if (name.empty())
        walk_forms(pass, choice);
      else
        walk_forced(pass, *asked, choice);
    };
    if (Status s = upconv::choose(problem_, asked->candidate, cuda::candidates, fill, choices_, true); !s.ok())
      return s;
    if (only.empty() && target_.device >= 0)
      for (Pass pass : passes) take_tuned(pass, tuned);
    return {};
  }

  std::vector<std::string> alternatives(Pass pass) const override {
    struct Predicted {
      std::string name;
      double seconds;
    };
    std::vector<Predicted> ways;
    double best = 1e30;
    const std::string last(cuda::candidates(pass).back().name);
    for (const bool residues : {false, true}) {
      if (residues && !covered(pass).ok()) continue;
      for (const cuda::Candidate& c : cuda::candidates(pass))
        for (int variant = 0; variant < c.variants; ++variant) {
          if (residues && c.name == last) break;
          // Families without a cost model decline what another runs faster; the others are compared by their
          // predictions.
          const Way way{std::string(c.name), residues, variant};
          const auto made = c.make(ask(pass, way, c.variants > 1));
          if (!made.ok()) break;
          const double seconds = (*made)->predicted_seconds();
          best = seconds > 0.0 ? std::min(best, seconds) : best;
          ways.push_back({way.name(), seconds});
        }
    }
    // The last candidate takes any problem, slowly: it is worth a measurement only where nothing else is there.
    std::erase_if(ways, [&](const Predicted& w) {
      return w.name != walked(pass) && ((w.name == last && ways.size() > 1) || w.seconds > 2.5 * best);
    });
    std::vector<std::string> names;
    for (const Predicted& w : ways)
      if (w.name == walked(pass))
        names.insert(names.begin(), w.name);
      else
        names.push_back(w.name);
    return names;
  }

  std::string detail(Pass pass) const override {
    const auto& kernel = choices_[index_of(pass)].kernel;
    return kernel ? kernel->detail() : std::string();
  }

  std::size_t workspace_bytes(Pass pass, int) const override {
    const auto& kernel = choices_[index_of(pass)].kernel;
    return kernel ? kernel->workspace_bytes() : 0;
  }
  std::string candidate(Pass pass) const override { return choices_[index_of(pass)].name; }

  Status prepare(Pass pass) const override {
    const auto& chosen = choices_[index_of(pass)].kernel;
    if (!chosen) return unsupported(std::string(to_string(pass)) + ": the candidate that was asked for declined");
    for (const jit::Kernel* k : chosen->kernels()) {
      if (target_.device >= 0) {
        if (Status s = k->prepare(target_.device); !s.ok()) return s;
      } else if (const auto built = jit::build(k->program(), target_.architecture()); !built.ok()) {
        return built.status();
      }
    }
    return {};
  }

  CudaChoice choice(Pass pass) const {
    const auto& c = choices_[index_of(pass)];
    if (!c.kernel) return {};
    return {c.name, c.kernel->detail(), c.kernel->kernels(), target_.architecture()};
  }

  std::string explain() const override {
    std::string s = to_string(problem_) + "\n";
    s += "  " + target_.name + " (" + target_.architecture() + "), output " + output_text(problem_);
    if (problem_.dtype == DType::f32) s += ", precision " + std::string(to_string(problem_.precision));
    char figures[160];
    std::snprintf(figures, sizeof figures, ", %.3f GFLOP a pass\n", flop(problem_) * 1e-9);
    s += figures;
    if (!epilogue_.empty()) s += "  epilogue: " + to_string(epilogue_) + "\n";
    for (Pass pass : passes) {
      const auto& c = choices_[index_of(pass)];
      if (!c.kernel) {
        s += "  " + std::string(to_string(pass)) + ": none\n";
        for (const Decline& d : c.declined) s += "    declined " + d.candidate + ": " + d.reason + "\n";
        continue;
      }
      s += "  " + std::string(to_string(pass)) + ": " + c.name + ", " + c.kernel->detail();
      if (parse_way(c.name)->residues) s += ", as \"" + to_string(residues_.problem()) + "\"";
      if (!walked_[index_of(pass)].empty()) s += ", by tuning instead of " + walked_[index_of(pass)];
      std::snprintf(figures, sizeof figures, " (floor %.1f us, %.2f MB moved at least, workspace %.2f MB",
                    floor_seconds(problem_, pass, target_) * 1e6, min_bytes(problem_, pass) * 1e-6,
                    double(c.kernel->workspace_bytes()) * 1e-6);
      s += figures;
      if (const double predicted = c.kernel->predicted_seconds(); predicted > 0.0) {
        std::snprintf(figures, sizeof figures, ", predicted %.1f us", predicted * 1e6);
        s += figures;
      }
      s += ")\n";
      if (target_.device >= 0) s += compiled(*c.kernel);
      for (const Decline& d : c.declined) s += "    declined " + d.candidate + ": " + d.reason + "\n";
    }
    return s;
  }

 private:
  /// What a way's candidate is asked; of residues as channels only where they are covered().
  [[nodiscard]] cuda::Request ask(Pass pass, const Way& way, bool forced) const {
    const Problem& problem = way.residues ? residues_.problem() : problem_;
    const Geometry& geometry = way.residues ? residues_.geometry() : geometry_;
    return {{problem, geometry, pass, epilogue_of(pass), forced}, target_, way.variant};
  }
  [[nodiscard]] Status covered(Pass pass) const { return residues_.covers(pass, epilogue_of(pass)); }

  /// Chooses among all candidates: for the problem as it is, or with residues as channels where that is known to be
  /// faster.
  void walk_forms(Pass pass, Choice<cuda::PassKernel>& choice) const {
    walk(cuda::candidates(pass), {}, ask(pass, {}, false), choice);
    if (!covered(pass).ok()) return;
    Choice<cuda::PassKernel> other;
    walk(cuda::candidates(pass), {}, ask(pass, {.candidate = {}, .residues = true}, false), other, residues_suffix);
    if (other.kernel->predicted_seconds() > 0.0) keep_faster(choice, other.name, std::move(other.kernel));
  }

  void walk_forced(Pass pass, const Way& way, Choice<cuda::PassKernel>& choice) const {
    if (Status s = way.residues ? covered(pass) : Status{}; !s.ok())
      choice.declined.push_back({way.family(), s.message()});
    else
      walk(cuda::candidates(pass), way.candidate, ask(pass, way, true), choice, way.residues ? residues_suffix : "");
  }

  /// What the walk over the candidates chose, tuned or not.
  [[nodiscard]] const std::string& walked(Pass pass) const {
    const std::string& before = walked_[index_of(pass)];
    return before.empty() ? choices_[index_of(pass)].name : before;
  }

  /// Replaces the walk's choice by the tuned one where the same tile can still be made.
  void take_tuned(Pass pass, const TunedChoices& tuned) {
    const auto known = tuned.find(target_, problem_, pass, epilogue_of(pass));
    const auto asked = known ? parse_way(known->alternative) : std::nullopt;
    if (!asked || (asked->residues && !covered(pass).ok())) return;
    for (const cuda::Candidate& c : cuda::candidates(pass)) {
      if (c.name != asked->candidate) continue;
      auto made = c.make(ask(pass, *asked, true));
      if (!made.ok() || (*made)->detail() != known->detail) return;
      auto& choice = choices_[index_of(pass)];
      walked_[index_of(pass)] = choice.name;
      choice.name = asked->family();
      choice.kernel = std::move(made).value();
    }
  }

  /// Registers, shared memory and spills of a pass's kernels, which compiles them.
  std::string compiled(const cuda::PassKernel& kernel) const {
    std::string s;
    for (const jit::Kernel* k : kernel.kernels()) {
      s += "    " + k->program().file + ", " + k->program().entry + ": ";
      const auto r = k->resources(target_.device);
      if (!r.ok()) {
        s += r.status().message() + "\n";
        continue;
      }
      s += std::to_string(r->registers) + " registers, " + std::to_string(r->static_shared_bytes) +
           " bytes of static shared memory, " + std::to_string(r->local_bytes) + " bytes of local memory a thread\n";
    }
    return s;
  }

  Status run(Pass pass, const PassTensors& tensors, const Launch& launch) const override {
    const auto& choice = choices_[index_of(pass)];
    if (!choice.kernel) {  // only when one candidate was asked for
      std::string reason;
      for (const Decline& d : choice.declined)
        if (!d.reason.starts_with("only ")) reason = d.candidate + " declined: " + d.reason;
      return unsupported(std::string(to_string(pass)) + ": no candidate for " + to_string(problem_) + "; " + reason);
    }
    const cuda::PassKernel& kernel = *choice.kernel;
    if (Status s = check_workspace(pass, kernel.workspace_bytes(), launch); !s.ok()) return s;
    if (target_.device < 0)
      return {Code::unavailable, "this plan is for " + target_.name + ", which can explain itself but not run"};
    return kernel.run(tensors, launch.workspace, launch.stream);
  }

  const CudaTarget& target_;
  const ResiduesForm residues_;
  Choices<cuda::PassKernel> choices_;
  std::array<std::string, passes.size()> walked_;  ///< Where tuning decided: what the walk had chosen.
};

}  // namespace

CudaChoice cuda_choice(const Plan& plan, Pass pass) { return dynamic_cast<const CudaPlan&>(plan).choice(pass); }

Result<std::shared_ptr<const Plan>> make_cuda_plan(const Problem& problem, Device device, const Epilogue& epilogue,
                                                   const std::string& only) {
  const auto target = device.kind == Device::Kind::cuda ? cuda_target(device.index) : cuda_target_model(device.index);
  if (!target.ok()) return target.status();
  auto plan = std::make_shared<CudaPlan>(problem, epilogue, **target);
  if (Status s = plan->choose(only, user_tuned_choices()); !s.ok()) return s;
  return std::shared_ptr<const Plan>(std::move(plan));
}

}  // namespace upconv
