// A plan on the CUDA engine. Choosing needs no GPU and compiles nothing; the first run of a pass compiles its kernels.
#include <algorithm>
#include <cstdio>

#include "cuda/candidates.hpp"
#include "jit/image.hpp"
#include "plan/chain.hpp"
#include "plan/cuda_choice.hpp"
#include "plan/engine_plan.hpp"

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
      : EnginePlan(problem, epilogue), target_(target) {}

  Status choose(const std::string& only) {
    const auto request = [this](Pass pass, bool forced) {
      return cuda::Request{{problem_, geometry_, pass, epilogue_of(pass), forced}, target_};
    };
    return upconv::choose(problem_, only, cuda::candidates, request, choices_, true);
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
  Choices<cuda::PassKernel> choices_;
};

}  // namespace

CudaChoice cuda_choice(const Plan& plan, Pass pass) { return dynamic_cast<const CudaPlan&>(plan).choice(pass); }

Result<std::shared_ptr<const Plan>> make_cuda_plan(const Problem& problem, Device device, const Epilogue& epilogue,
                                                   const std::string& only) {
  if (epilogue.operands() > 0)
    return unsupported("the CUDA engine applies operand tensors in a chain's second kernel, not in the convolution's");
  const auto target = device.kind == Device::Kind::cuda ? cuda_target(device.index) : cuda_target_model(device.index);
  if (!target.ok()) return target.status();
  auto plan = std::make_shared<CudaPlan>(problem, epilogue, **target);
  if (Status s = plan->choose(only); !s.ok()) return s;
  return std::shared_ptr<const Plan>(std::move(plan));
}

Result<std::shared_ptr<const ChainPlan>> make_cuda_chain(const Problem&, Device, const Chain&,
                                                         const std::vector<Shape5>&) {
  return unsupported("chain: the CUDA engine has no closing steps yet");
}

}  // namespace upconv
