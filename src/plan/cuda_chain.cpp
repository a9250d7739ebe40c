// A chain on the CUDA engine: the convolution's kernel with the epilogue, which stores its values once, and the closing
// kernels over them, all on the caller's stream with the caller's memory. Nothing synchronises; a repeated run formats
// no text.
#include "plan/cuda_chain.hpp"

#include <cstdio>

#include "jit/image.hpp"
#include "plan/closing_stages.hpp"
#include "plan/cuda_choice.hpp"
#include "problem/geometry.hpp"

namespace upconv {
namespace {

typedef std::int64_t Int;
using Place = ClosingBuffer::Place;

Int round_up(Int n) { return (n + 255) / 256 * 256; }

Status prepare_all(const std::vector<const jit::Kernel*>& kernels, const CudaTarget& target) {
  for (const jit::Kernel* k : kernels) {
    if (target.device >= 0) {
      if (Status s = k->prepare(target.device); !s.ok()) return s;
    } else if (const auto built = jit::build(k->program(), target.architecture()); !built.ok()) {
      return built.status();
    }
  }
  return {};
}

Status check_workspace(const Launch& launch, Int need) {
  if (launch.workspace_bytes < static_cast<std::size_t>(need) || (need > 0 && !launch.workspace))
    return invalid_argument("chain: workspace of " + std::to_string(launch.workspace_bytes) +
                            " bytes is smaller than the " + std::to_string(need) + " that workspace_bytes() asks for");
  return {};
}

class CudaChain final : public ChainPlan {
 public:
  CudaChain(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes, const CudaTarget& target)
      : problem_(problem),
        chain_(chain),
        first_(shapes.front()),
        result_(shapes.back()),
        target_(target),
        program_(closing_program(problem, chain, shapes)),
        before_(problem.dtype, target),
        after_(problem.dtype, target) {}

  Status make(Device device) {
    Problem p = problem_;
    if (!chain_.closing.empty() || !chain_.prologue.empty()) p.y_layout = Layout::channels_first;
    if (!chain_.prologue.empty()) p.x_layout = Layout::channels_first;
    auto plan = Plan::create(p, device, epilogue_of_layer(chain_));
    if (!plan.ok()) return plan.status();
    convolution_ = *plan;
    for (const cuda::ClosingPass& pass : program_.before)
      if (Status s = before_.add(pass, program_.buffers); !s.ok()) return s;
    for (const cuda::ClosingPass& pass : program_.passes)
      if (Status s = after_.add(pass, program_.buffers); !s.ok()) return s;
    // A result that the parts kernel writes itself needs its own pass no longer; the workspace is what is left.
    workspace_ = lay_out(program_.buffers, Place::workspace,
                         round_up(static_cast<Int>(convolution_->workspace_bytes(Pass::forward, 1))));
    return {};
  }

  Shape5 result_shape() const override { return result_; }
  bool normalises() const override { return chain_.batch_norm() != nullptr; }
  std::size_t workspace_bytes(int) const override { return static_cast<std::size_t>(workspace_); }

  Status prepare() const override {
    if (Status s = convolution_->prepare(Pass::forward); !s.ok()) return s;
    return prepare_all(kernels(), target_);
  }

  std::vector<const jit::Kernel*> kernels() const {
    auto list = before_.kernels();
    for (const jit::Kernel* k : after_.kernels()) list.push_back(k);
    return list;
  }

  std::string explain() const override {
    char figures[160];
    std::snprintf(figures, sizeof figures, "workspace %.2f MB", double(workspace_) * 1e-6);
    std::string s = "chain of " + to_string(problem_) + " on " + target_.name + ": ";
    s += std::to_string(kernels().size()) + " closing kernels, " + figures + "\n";
    return s + before_.explain() + "  the convolution, below\n" + after_.explain() + convolution_->explain();
  }

  Status run(const ChainArgs& args, const Launch& launch) const override {
    if (Status s = check_workspace(launch, workspace_); !s.ok()) return s;
    if (problem_.batch == 0) return {};
    StageTensors t;
    t.x = args.x, t.y = args.y, t.statistics = args.statistics;
    t.workspace = static_cast<char*>(launch.workspace);
    t.given = args.operands, t.given_count = args.operand_count;
    t.stream = launch.stream;
    for (const ClosingStages* stages : {&before_, &after_})
      if (Status s = stages->resolve(t); !s.ok()) return s;
    if (Status s = resolve_noted(epilogue_of_layer(chain_), first_, t); !s.ok()) return s;
    if (Status s = before_.run(program_.buffers, t); !s.ok()) return s;
    if (Status s = convolution_->forward({.x = address(program_.buffers, program_.x, t),
                                          .w = args.w,
                                          .b = args.b,
                                          .y = address(program_.buffers, program_.y, t),
                                          .operands = t.operands},
                                         launch);
        !s.ok())
      return s;
    return after_.run(program_.buffers, t);
  }

 private:
  Problem problem_;
  Chain chain_;
  Shape5 first_, result_;
  const CudaTarget& target_;
  ClosingProgram program_;
  std::shared_ptr<const Plan> convolution_;
  ClosingStages before_, after_;
  Int workspace_ = 0;
};

class CudaTrainingChain final : public TrainingChain {
 public:
  CudaTrainingChain(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
                    const std::vector<Shape5>& sizes, unsigned wanted, const CudaTarget& target)
      : problem_(problem),
        chain_(chain),
        shapes_(shapes),
        target_(target),
        program_(closing_program(problem, chain, shapes, true)),
        pulling_(pulling_program(problem, chain, shapes, sizes, wanted, problem.bias)),
        forward_(problem.dtype, target),
        backward_(problem.dtype, target) {}

  Status make(Device device) {
    Problem p = problem_;
    p.y_layout = Layout::channels_first;
    auto plan = Plan::create(p, device, {});
    if (!plan.ok()) return plan.status();
    convolution_ = *plan;
    for (const cuda::ClosingPass& pass : program_.passes)
      if (Status s = forward_.add(pass, program_.buffers); !s.ok()) return s;
    for (const auto& pass : pulling_.passes)
      if (Status s = std::visit([&](const auto& one) { return backward_.add(one, pulling_.buffers); }, pass); !s.ok())
        return s;
    forward_workspace_ = lay_out(program_.buffers, Place::workspace,
                                 round_up(static_cast<Int>(convolution_->workspace_bytes(Pass::forward, 1))));
    backward_workspace_ = lay_out(pulling_.buffers, Place::workspace, 0);
    saved_ = lay_out_saved(program_.buffers, program_.saved);
    if (saved_ != lay_out_saved(pulling_.buffers, pulling_.saved))
      return invalid_argument("chain: what is kept and what its gradient reads differ");
    return {};
  }

  Shape5 result_shape() const override { return shapes_.back(); }
  Shape5 layer_shape() const override { return shapes_.front(); }
  bool normalises() const override { return chain_.batch_norm() != nullptr; }
  std::size_t saved_bytes() const override { return static_cast<std::size_t>(saved_); }
  std::size_t workspace_bytes(bool gradient) const override {
    return static_cast<std::size_t>(gradient ? backward_workspace_ : forward_workspace_);
  }

  Status prepare() const override {
    if (Status s = convolution_->prepare(Pass::forward); !s.ok()) return s;
    return prepare_all(kernels(), target_);
  }
  std::vector<const jit::Kernel*> kernels() const {
    auto list = forward_.kernels();
    for (const jit::Kernel* k : backward_.kernels()) list.push_back(k);
    return list;
  }

  std::string explain() const override {
    char figures[200];
    std::snprintf(
        figures, sizeof figures,
        "kept for the gradient: the layer's result and %.2f MB; workspace %.2f MB forward, %.2f MB backward\n",
        double(saved_) * 1e-6, double(forward_workspace_) * 1e-6, double(backward_workspace_) * 1e-6);
    return "training of " + to_string(problem_) + " on " + target_.name + ": " + figures + "  the convolution\n" +
           forward_.explain() + "  gradient of what follows it\n" + backward_.explain();
  }

  Status forward(const ChainArgs& args, const Kept& kept, const Launch& launch) const override {
    if (Status s = check_workspace(launch, forward_workspace_); !s.ok()) return s;
    if (problem_.batch == 0) return {};
    StageTensors t;
    t.y = args.y, t.z = kept.z, t.saved = kept.saved, t.statistics = args.statistics;
    t.workspace = static_cast<char*>(launch.workspace);
    t.given = args.operands, t.given_count = args.operand_count;
    t.stream = launch.stream;
    if (Status s = forward_.resolve(t); !s.ok()) return s;
    if (Status s = convolution_->forward({.x = args.x, .w = args.w, .b = args.b, .y = kept.z}, launch); !s.ok())
      return s;
    return forward_.run(program_.buffers, t);
  }

  Status backward(const ChainGradients& g, const Kept& kept, const Launch& launch) const override {
    if (Status s = check_workspace(launch, backward_workspace_); !s.ok()) return s;
    StageTensors t;
    t.z = kept.z, t.saved = kept.saved, t.dy = g.dy, t.dz = g.dz, t.db = g.db;
    t.gradients = g.gradients;
    t.workspace = static_cast<char*>(launch.workspace);
    t.given = g.operands, t.given_count = g.operand_count;
    t.stream = launch.stream;
    if (Status s = backward_.resolve(t); !s.ok()) return s;
    return backward_.run(pulling_.buffers, t);
  }

 private:
  /// In the order in which the chain asks for them, whatever else the buffers are.
  static Int lay_out_saved(std::vector<ClosingBuffer>& buffers, const std::vector<int>& saved) {
    Int at = 0;
    for (int b : saved) {
      buffers[static_cast<std::size_t>(b)].offset = at;
      at += round_up(buffers[static_cast<std::size_t>(b)].bytes);
    }
    return at;
  }

  Problem problem_;
  Chain chain_;
  std::vector<Shape5> shapes_;
  const CudaTarget& target_;
  ClosingProgram program_;
  PullingProgram pulling_;
  std::shared_ptr<const Plan> convolution_;
  ClosingStages forward_, backward_;
  Int forward_workspace_ = 0, backward_workspace_ = 0, saved_ = 0;
};

Result<const CudaTarget*> target_of(Device device) {
  return device.kind == Device::Kind::cuda ? cuda_target(device.index) : cuda_target_model(device.index);
}

}  // namespace

std::vector<const jit::Kernel*> cuda_chain_kernels(const ChainPlan& plan) {
  return dynamic_cast<const CudaChain&>(plan).kernels();
}
std::vector<const jit::Kernel*> cuda_chain_kernels(const TrainingChain& plan) {
  return dynamic_cast<const CudaTrainingChain&>(plan).kernels();
}

Result<std::shared_ptr<const TrainingChain>> TrainingChain::create(const Problem& problem, Device device,
                                                                   const Chain& chain, const std::vector<Shape5>& sizes,
                                                                   unsigned wanted) {
  if (device.kind == Device::Kind::cpu)
    return unsupported("chain: its gradient as one operator is known on CUDA alone");
  if (!chain.prologue.empty()) return unsupported("chain: the gradient of steps before the layer");
  if (chain.epilogue.empty() && chain.closing.empty()) return unsupported("chain: nothing follows the layer");
  const auto shapes = chain_shapes(problem, chain);
  if (!shapes.ok()) return shapes.status();
  if (static_cast<int>(sizes.size()) < chain.operands())
    return invalid_argument("chain: " + std::to_string(chain.operands()) + " operands are read, but " +
                            std::to_string(sizes.size()) + " are given");
  const auto target = target_of(device);
  if (!target.ok()) return target.status();
  auto plan = std::make_shared<CudaTrainingChain>(problem, chain, *shapes, sizes, wanted, **target);
  if (Status s = plan->make(device); !s.ok()) return s;
  return std::shared_ptr<const TrainingChain>(std::move(plan));
}

Result<std::shared_ptr<const ChainPlan>> make_cuda_chain(const Problem& problem, Device device, const Chain& chain,
                                                         const std::vector<Shape5>& shapes) {
  if (!chain.prologue.empty() && problem.x_layout != Layout::channels_first)
    return unsupported("chain: a prologue on CUDA wants x with the channels first");
  const auto target = target_of(device);
  if (!target.ok()) return target.status();
  auto plan = std::make_shared<CudaChain>(problem, chain, shapes, **target);
  if (Status s = plan->make(device); !s.ok()) return s;
  return std::shared_ptr<const ChainPlan>(std::move(plan));
}

}  // namespace upconv
