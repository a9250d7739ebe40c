// See pull.hpp.
#include "cuda/pull.hpp"

#include <algorithm>

#include "cuda/element.hpp"
#include "cuda/pull_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;
using Kind = PullPass::Kind;

ClosingPass forward_of(const PullPass& p) {
  ClosingPass c;
  static constexpr ClosingPass::Kind kinds[] = {ClosingPass::Kind::parts, ClosingPass::Kind::columns,
                                                ClosingPass::Kind::rows, ClosingPass::Kind::norm};
  c.kind = kinds[static_cast<int>(p.kind)];
  c.value = p.value;
  c.first = p.first, c.last = p.last;
  c.batch = p.batch, c.per = p.per;
  return c;
}

launch::PullFixed fixed_of(const PullPass& p, DType element) {
  launch::PullFixed f;
  f.kind = static_cast<Int>(p.kind);
  f.closing = closing_fixed(forward_of(p), element);
  if (p.kind == Kind::columns) share_pulled_columns(p, f.closing);
  f.arrives = static_cast<Int>(p.arrives);
  f.r_first = p.r_first, f.r_last = p.r_last;
  const ClosingWindow& w = p.window;
  f.g_kd = w.kernel[0], f.g_kh = w.kernel[1], f.g_kw = w.kernel[2];
  f.g_sd = w.stride[0], f.g_sh = w.stride[1], f.g_sw = w.stride[2];
  f.g_pd = w.padding[0], f.g_ph = w.padding[1], f.g_pw = w.padding[2];
  f.sums = p.sum_count;
  f.vector_sums = p.vector_sums >= 0;
  return f;
}

const char* file_of(Kind kind) {
  static const char* const names[] = {"pull", "pull_columns", "pull_rows", "pull_norm", "total"};
  return names[static_cast<int>(kind)];
}

std::string describe(const PullPass& p) {
  std::string s = file_of(p.kind);
  if (p.kind == Kind::total || p.kind == Kind::norm) return s;
  if (p.out < 0) s += " (sums alone)";
  static const char* const from[] = {"", " from a reduction", " from averages", " from maxima"};
  return s + from[static_cast<int>(p.arrives)];
}

}  // namespace

int PullPass::operands() const {
  if (kind == Kind::norm || kind == Kind::total) return 0;
  return std::max(operands_of(value), middle.operands());
}

bool reads_values(const PullPass& p) {
  if (p.kind == Kind::norm || p.kind == Kind::total) return false;
  if (p.kind != Kind::pull || p.value.window) return true;
  if (p.reduction && *p.reduction != ClosingStep::Reduction::sum && *p.reduction != ClosingStep::Reduction::mean)
    return true;
  for (const ClosingItem& item : p.value.before) {
    if (item.kind != ClosingItem::Kind::steps) return true;
    for (const EpilogueStep& s : item.steps.steps) {
      if (s.arithmetic == Arithmetic::none || s.source == Source::kept) return true;
      const bool scales = s.arithmetic == Arithmetic::multiply || s.arithmetic == Arithmetic::divide;
      const bool wanted = s.source == Source::operand && std::any_of(p.targets.begin(), p.targets.end(),
                                                                     [&](auto& t) { return t.operand == s.index; });
      if (scales && !wanted) continue;
      if (s.arithmetic > Arithmetic::reverse_subtract && s.arithmetic != Arithmetic::load &&
          s.arithmetic != Arithmetic::detach)
        return true;
    }
  }
  return false;
}

Result<std::unique_ptr<PullKernel>> PullKernel::make(const PullPass& p, DType element, const CudaTarget& target,
                                                     const PullKernel* from) {
  launch::PullFixed fixed;
  launch::PullLaunch launch;
  launch::TotalLaunch total;
  Int offset = 0;
  if (p.kind == Kind::total) {
    launch::Int size[5], stride[5];
    if (p.source == PullPass::Source::whole) {
      std::copy(p.shape.begin(), p.shape.end(), size);
      launch::dense_total(size, stride);
    } else {
      offset =
          launch::sums_of(from->fixed_, from->launch_, p.slot, p.source == PullPass::Source::vector_sums, size, stride);
    }
    total = launch::total_of(size, stride, p.gone);
    if (p.nothing) total.arguments.count = 0;
  } else {
    fixed = fixed_of(p, element);
    const bool norm = p.kind == Kind::norm;
    const Shape5 shape = norm ? p.value.at() : p.value.shape;
    launch::Int source[5];
    std::copy(shape.begin(), shape.end(), source);
    launch = launch_of(fixed, source, target.processors);
    if (launch.refusal) return unsupported(std::string("chain: ") + launch.refusal + " in a closing step's gradient");
  }
  auto made = std::make_unique<PullKernel>(p, element, target, fixed, launch, total);
  made->total_offset_ = offset * upconv::cuda::sum_bytes(element);
  return made;
}

PullKernel::PullKernel(const PullPass& p, DType element, const CudaTarget& target, const launch::PullFixed& fixed,
                       const launch::PullLaunch& launch, const launch::TotalLaunch& total)
    : device_(target.device),
      operands_(p.operands()),
      kind_(p.kind),
      fixed_(fixed),
      launch_(launch),
      total_(total),
      kernel_({std::string("closing/") + file_of(p.kind) + ".cuh", std::string("closing_") + file_of(p.kind),
               pull_text(p, element, fixed)}),
      detail_(describe(p)) {
  if (p.kind == Kind::total) {
    bytes_ = double(total.arguments.outputs) * double(total.arguments.count) * double(upconv::cuda::sum_bytes(element));
    return;
  }
  const arguments::Pull& a = launch.arguments;
  if (p.kind != Kind::norm) {
    if (reads_values(p)) bytes_ += double(a.values.in.count) * double(size_of(p.value.stored));
    const double gradient = p.arrives == PullPass::Arrives::plain ? double(a.values.at.count)
                            : p.arrives == PullPass::Arrives::reduced
                                ? double(a.values.at.count / std::max<Int>(a.length, 1))
                                : double(a.arriving.count);
    bytes_ += gradient * double(size_of(p.gradient_type));
    if (p.argmax >= 0) bytes_ += double(a.arriving.count) * argmax_bytes(p.window);
    if (p.out >= 0) bytes_ += double(a.values.at.count) * double(size_of(p.out_type));
    bytes_ += double(p.wholes.size()) * double(a.values.at.count) * double(upconv::cuda::sum_bytes(element));
  }
  bytes_ += double(launch.sum_bytes) + double(launch.vector_bytes);
}

Status PullKernel::run(const PullTensors& t, void* stream) const {
  const Int blocks = kind_ == Kind::total ? total_.blocks : launch_.blocks;
  if (blocks == 0) return {};
  const jit::LaunchShape shape{{static_cast<unsigned>(blocks)}, {static_cast<unsigned>(launch::closing_threads)}, 0};
  if (kind_ == Kind::total) {
    arguments::Total a = total_.arguments;
    a.in = t.source ? static_cast<const char*>(t.source) + total_offset_ : nullptr;
    a.out = t.out;
    void* list[] = {&a};
    return kernel_.launch(device_, stream, shape, list);
  }
  arguments::Pull p = launch_.arguments;
  arguments::Closing& a = p.values;
  a.source = t.source, a.out = t.out;
  std::copy_n(t.tables, 4, a.tables);
  a.weight = t.weight, a.bias = t.bias;
  if (kind_ == Kind::norm) {
    a.parts = t.sums, a.table_out = t.table_out;
    void* list[] = {&a};
    return kernel_.launch(device_, stream, shape, list);
  }
  p.gradient = t.gradient, p.argmax = t.argmax, p.reduced = t.reduced, p.ties = t.ties;
  std::copy_n(t.coefficients, 4, p.coefficients);
  p.sums = t.sums, p.vector_sums = t.vector_sums;
  std::copy_n(t.whole, arguments::most_wholes, p.whole);
  OperandBlock block;
  block.values = {};
  for (int i = 0; i < operands_; ++i) {
    const Operand& o = t.operands[i];
    block.at[i] = {o.data, o.stride[0], o.stride[1], o.stride[2], o.stride[3], o.stride[4]};
  }
  void* list[] = {&p, &block};
  return kernel_.launch(device_, stream, shape, list);
}

}  // namespace upconv::cuda
