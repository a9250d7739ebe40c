// A chain on the CUDA engine: the convolution's kernel with the epilogue, which stores its values once, and the closing
// kernels over them, all on the caller's stream with the caller's memory. Nothing synchronises; a repeated run formats
// no text.
#include "plan/cuda_chain.hpp"

#include <algorithm>
#include <cstdio>

#include "cuda/closing.hpp"
#include "jit/image.hpp"
#include "plan/chain.hpp"
#include "plan/cuda_choice.hpp"
#include "plan/cuda_closing.hpp"
#include "problem/geometry.hpp"

namespace upconv {
namespace {

using cuda::ClosingItem;
using cuda::ClosingKernel;
using cuda::ClosingPass;
typedef std::int64_t Int;

Int round_up(Int n) { return (n + 255) / 256 * 256; }

class CudaChain final : public ChainPlan {
 public:
  CudaChain(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes, const CudaTarget& target)
      : problem_(problem),
        chain_(chain),
        first_(shapes.front()),
        result_(shapes.back()),
        target_(target),
        program_(closing_program(problem, chain, shapes)) {}

  Status make(Device device) {
    Problem p = problem_;
    if (!chain_.closing.empty() || !chain_.prologue.empty()) p.y_layout = Layout::channels_first;
    if (!chain_.prologue.empty()) p.x_layout = Layout::channels_first;
    auto plan = Plan::create(p, device, chain_.epilogue);
    if (!plan.ok()) return plan.status();
    convolution_ = *plan;
    for (auto* list : {&program_.before, &program_.passes})
      for (const ClosingPass& pass : *list) {
        auto kernel = ClosingKernel::make(pass, problem_.dtype, target_);
        if (!kernel.ok()) return kernel.status();
        if (pass.kind == ClosingPass::Kind::parts) program_.buffers[pass.parts].bytes = (*kernel)->parts_bytes();
        (list == &program_.before ? before_ : after_).push_back({pass, std::move(kernel).value()});
      }
    // A result that the parts kernel writes itself needs its own pass no longer; the workspace is what is left.
    Int at = round_up(static_cast<Int>(convolution_->workspace_bytes(Pass::forward, 1)));
    for (ClosingBuffer& b : program_.buffers) {
      if (b.place != ClosingBuffer::Place::workspace) continue;
      b.offset = at;
      at += round_up(b.bytes);
    }
    workspace_ = at;
    return {};
  }

  Shape5 result_shape() const override { return result_; }
  bool normalises() const override { return chain_.batch_norm() != nullptr; }
  std::size_t workspace_bytes(int) const override { return static_cast<std::size_t>(workspace_); }

  Status prepare() const override {
    if (Status s = convolution_->prepare(Pass::forward); !s.ok()) return s;
    for (const jit::Kernel* k : kernels()) {
      if (target_.device >= 0) {
        if (Status s = k->prepare(target_.device); !s.ok()) return s;
      } else if (const auto built = jit::build(k->program(), target_.architecture()); !built.ok()) {
        return built.status();
      }
    }
    return {};
  }

  std::vector<const jit::Kernel*> kernels() const {
    std::vector<const jit::Kernel*> list;
    for (const auto* stages : {&before_, &after_})
      for (const Stage& s : *stages)
        if (s.kernel->needed()) list.push_back(&s.kernel->kernel());
    return list;
  }

  std::string explain() const override {
    char figures[160];
    std::snprintf(figures, sizeof figures, "workspace %.2f MB", double(workspace_) * 1e-6);
    std::string s = "chain of " + to_string(problem_) + " on " + target_.name + ": ";
    s += std::to_string(kernels().size()) + " closing kernels, " + figures + "\n";
    for (const auto* stages : {&before_, &after_}) {
      if (stages == &after_) s += "  the convolution, below\n";
      for (const Stage& stage : *stages) {
        if (!stage.kernel->needed()) continue;
        std::snprintf(figures, sizeof figures, " (%.2f MB moved, %.1f us at the memory's rate)\n",
                      stage.kernel->bytes() * 1e-6, stage.kernel->bytes() / target_.bytes_per_second * 1e6);
        s += "  " + stage.kernel->detail() + figures;
      }
    }
    return s + convolution_->explain();
  }

  Status run(const ChainArgs& args, const Launch& launch) const override {
    if (launch.workspace_bytes < static_cast<std::size_t>(workspace_) || (workspace_ > 0 && !launch.workspace))
      return invalid_argument("chain: workspace of " + std::to_string(launch.workspace_bytes) +
                              " bytes is smaller than the " + std::to_string(workspace_) +
                              " that workspace_bytes() asks for");
    if (problem_.batch == 0) return {};
    Run r{args, static_cast<char*>(launch.workspace), launch.stream, {}};
    for (const auto* stages : {&before_, &after_})
      for (const Stage& s : *stages)
        if (Status status = resolve_pass(s.pass, r); !status.ok()) return status;
    if (Status s = resolve_noted(chain_.epilogue, first_, r); !s.ok()) return s;
    for (const Stage& s : before_)
      if (Status status = start(s, r); !status.ok()) return status;
    if (Status s = convolution_->forward({.x = at(program_.x, r),
                                          .w = args.w,
                                          .b = args.b,
                                          .y = const_cast<void*>(at(program_.y, r)),
                                          .operands = r.operands},
                                         launch);
        !s.ok())
      return s;
    for (const Stage& s : after_)
      if (Status status = start(s, r); !status.ok()) return status;
    return {};
  }

 private:
  struct Stage {
    ClosingPass pass;
    std::unique_ptr<ClosingKernel> kernel;
  };
  struct Run {
    const ChainArgs& args;
    char* workspace;
    void* stream;
    Operand operands[max_operands];
  };

  const void* at(int buffer, const Run& r) const {
    if (buffer < 0) return nullptr;
    const ClosingBuffer& b = program_.buffers[static_cast<std::size_t>(buffer)];
    switch (b.place) {
      case ClosingBuffer::Place::x:
        return r.args.x;
      case ClosingBuffer::Place::y:
        return r.args.y;
      case ClosingBuffer::Place::workspace:
        break;
    }
    return r.workspace + b.offset;
  }

  /// Strides of a list's operands, which must lie as the plan was made for.
  static Status resolve_noted(const Epilogue& steps, const Shape5& shape, Run& r) {
    if (Status s = resolve(steps, shape, r.args, r.operands); !s.ok()) return s;
    for (const EpilogueStep& s : steps.steps) {
      if (s.arithmetic <= Arithmetic::keep || s.source != Source::operand || s.spread == Spread::any) continue;
      if (spread_of(r.args.operands[s.index], shape) != s.spread)
        return invalid_argument("chain: operand " + std::to_string(s.index) +
                                " lies in another way than the plan was made for");
    }
    return {};
  }

  Status resolve_pass(const ClosingPass& p, Run& r) const {
    const Shape5 at = p.value.at(), result = p.result();
    if (p.kind != ClosingPass::Kind::norm && p.kind != ClosingPass::Kind::result)
      for (const ClosingItem& item : p.value.before) {
        if (Status s = resolve_noted(item.steps, p.value.shape, r); !s.ok()) return s;
        Int length = 1;
        for (int d = item.first; d < 5; ++d) length *= p.value.shape[d];
        for (int number : {item.weight, item.bias})
          if (number >= 0)
            if (Status s = resolve_vector(number, length, "layer norm", r.args, &r.operands[number].data); !s.ok())
              return s;
      }
    for (const auto& [steps, shape] : {std::pair{&p.value.after, &at}, {&p.middle, &at}, {&p.after_result, &result}})
      if (Status s = resolve_noted(*steps, *shape, r); !s.ok()) return s;
    return {};
  }

  Status start(const Stage& s, const Run& r) const {
    const ClosingPass& p = s.pass;
    cuda::ClosingTensors t;
    t.source = at(p.value.source, r);
    t.out = const_cast<void*>(at(p.out, r));
    t.parts = const_cast<void*>(at(p.parts, r));
    t.table_out = const_cast<void*>(at(p.table_out, r));
    int tables = 0;
    if (p.kind == ClosingPass::Kind::norm || p.kind == ClosingPass::Kind::result) {
      t.tables[0] = at(p.table, r);
    } else {
      for (const ClosingItem& item : p.value.before)
        if (item.table >= 0) t.tables[tables++] = at(item.table, r);
    }
    if (p.statistics) t.statistics = r.args.statistics;
    Int length = p.value.shape[1];
    if (p.layer_norm) {
      length = 1;
      for (int d = p.first; d < 5; ++d) length *= p.value.at()[d];
    }
    const char* what = p.layer_norm ? "layer norm weight or bias"
                       : p.batch    ? "batch norm weight or bias"
                                    : "group norm weight or bias";
    if (Status status = resolve_vector(p.weight, length, what, r.args, &t.weight); !status.ok()) return status;
    if (Status status = resolve_vector(p.bias, length, what, r.args, &t.bias); !status.ok()) return status;
    t.operands = r.operands;
    return s.kernel->run(t, r.stream);
  }

  Problem problem_;
  Chain chain_;
  Shape5 first_, result_;
  const CudaTarget& target_;
  ClosingProgram program_;
  std::shared_ptr<const Plan> convolution_;
  std::vector<Stage> before_, after_;
  Int workspace_ = 0;
};

}  // namespace

std::vector<const jit::Kernel*> cuda_chain_kernels(const ChainPlan& plan) {
  return dynamic_cast<const CudaChain&>(plan).kernels();
}

Result<std::shared_ptr<const ChainPlan>> make_cuda_chain(const Problem& problem, Device device, const Chain& chain,
                                                         const std::vector<Shape5>& shapes) {
  if (!chain.prologue.empty() && problem.x_layout != Layout::channels_first)
    return unsupported("chain: a prologue on CUDA wants x with the channels first");
  const auto target = device.kind == Device::Kind::cuda ? cuda_target(device.index) : cuda_target_model(device.index);
  if (!target.ok()) return target.status();
  auto plan = std::make_shared<CudaChain>(problem, chain, shapes, **target);
  if (Status s = plan->make(device); !s.ok()) return s;
  return std::shared_ptr<const ChainPlan>(std::move(plan));
}

}  // namespace upconv
