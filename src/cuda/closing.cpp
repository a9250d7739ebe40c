// See closing.hpp.
#include "cuda/closing.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "cuda/closing_text.hpp"
#include "cuda/element.hpp"
#include "cuda/launching.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;
using Kind = ClosingPass::Kind;

Int product(const Shape5& s, int first, int last) {
  Int n = 1;
  for (int d = first; d <= last; ++d) n *= s[d];
  return n;
}

/// Columns of a thread and warps that share one: 32 registers of values a thread, runs of neighbours as long as that
/// allows.
void share_columns(const ClosingPass& p, launch::ClosingFixed& f) {
  const Shape5 at = p.value.at();
  const Int length = product(at, p.first, p.last);
  if (p.first != 1 || p.last != 1 || length > closing_most_held) {
    f.split = length >= 16 ? 8 : 1;
    f.each = 1;
    return;
  }
  f.split = length <= 16 ? 1 : 8;
  const Int held = (length + f.split - 1) / f.split;
  const Int most = 32 / (f.sum_bytes / 4);
  f.each = 4 * held <= most ? 4 : 2 * held <= most ? 2 : 1;
}

}  // namespace

bool reads_values(const ClosingPass& p) { return p.kind != Kind::norm && p.kind != Kind::result; }

int argmax_bytes(const ClosingWindow& w) { return w.kernel[0] * w.kernel[1] * w.kernel[2] <= 256 ? 1 : 4; }

int operands_of(const ClosingValue& value) {
  int n = value.after.operands();
  for (const ClosingItem& item : value.before) n = std::max({n, item.steps.operands(), item.weight + 1, item.bias + 1});
  return n;
}

launch::ClosingFixed closing_fixed(const ClosingPass& p, DType element) {
  launch::ClosingFixed f;
  f.kind = static_cast<Int>(p.kind);
  if (reads_values(p) && p.value.window) {
    const ClosingWindow& w = *p.value.window;
    f.window = true;
    f.k_d = w.kernel[0], f.k_h = w.kernel[1], f.k_w = w.kernel[2];
    f.s_d = w.stride[0], f.s_h = w.stride[1], f.s_w = w.stride[2];
    f.p_d = w.padding[0], f.p_h = w.padding[1], f.p_w = w.padding[2];
  }
  f.reduces = p.reduce.has_value();
  f.first = p.first, f.last = p.last;
  for (const ClosingItem& item : p.value.before)
    if (item.kind == ClosingItem::Kind::row_table || item.kind == ClosingItem::Kind::soft_table)
      f.row_first = item.first;
  f.wide = std::max(product(p.value.shape, 2, 4), product(p.value.at(), 2, 4)) > launch::longest_narrow_plane;
  f.batch = p.batch, f.per = p.per;
  f.sum_bytes = sum_bytes(element);
  f.stored_bytes = static_cast<Int>(size_of(p.value.stored));
  if (p.kind == Kind::columns) share_columns(p, f);
  // As many values on their way from memory as registers hold with ease, which share what is worked out once a row; no
  // more than a row has for a warp, or a block. What a gradient works out again is added up as it does that: it looks
  // for a largest value by its bits.
  if (p.kind == Kind::rows) {
    const Int length = product(p.value.at(), p.first, 4);
    f.each = !p.once || f.sum_bytes > 4 || length > 512 ? 4 : length < 64 ? 8 : 16;
  }
  return f;
}

namespace {

const char* file_of(Kind kind) {
  static const char* const names[] = {"map", "parts", "norm", "result", "columns", "rows", "sets"};
  return names[static_cast<int>(kind)];
}

bool finishes(const ClosingPass& p) { return p.kind == Kind::parts && p.reduce && p.out >= 0; }

std::string describe(const ClosingPass& p) {
  std::string s = file_of(p.kind);
  if (p.kind == Kind::parts) {
    static const char* const names[] = {"moments", "sum", "maximum", "minimum", "exponentials"};
    s += std::string(" (") + names[static_cast<int>(p.collect)] + ")";
  }
  static const char* const reductions[] = {"sum", "mean", "maximum", "minimum", "logsumexp"};
  if (p.kind == Kind::sets) s += " norm";
  if (p.centered) s += " centered";
  if (p.layer_norm) s += " layer norm";
  if (p.softmax) s += " softmax";
  if (p.reduce) s += std::string(" ") + reductions[static_cast<int>(*p.reduce)];
  if (p.value.window && reads_values(p)) s += p.value.window->average ? " of averages" : " of maxima";
  return s;
}

}  // namespace

Shape5 ClosingValue::at() const {
  Shape5 s = shape;
  if (window)
    for (int d = 0; d < 3; ++d)
      s[d + 2] = (s[d + 2] + 2 * window->padding[d] - window->kernel[d]) / window->stride[d] + 1;
  return s;
}

int ClosingValue::tables() const {
  int n = 0;
  for (const ClosingItem& item : before) n += item.kind != ClosingItem::Kind::steps;
  return n;
}

Shape5 ClosingPass::result() const {
  Shape5 s = value.at();
  if (reduce)
    for (int d = first; d <= last; ++d) s[d] = 1;
  return s;
}

bool ClosingPass::in_place() const {
  const bool one_read = kind == Kind::map || kind == Kind::columns || kind == Kind::rows || kind == Kind::sets;
  return one_read && !value.window && !reduce;
}

int ClosingPass::operands() const {
  return std::max({reads_values(*this) ? operands_of(value) : 0, middle.operands(), after_result.operands()});
}

Result<std::unique_ptr<ClosingKernel>> ClosingKernel::make(const ClosingPass& pass, DType element,
                                                           const CudaTarget& target) {
  launch::ClosingFixed fixed = closing_fixed(pass, element);
  const Shape5 shape = reads_values(pass) ? pass.value.shape : pass.value.at();
  launch::Int source[5];
  std::copy(shape.begin(), shape.end(), source);
  const Int shared_bytes = target.major >= 9 && element != DType::f64 ? target.shared_per_block : 0;
  if (pass.kind == Kind::sets)
    fixed.cluster = launch::cluster_for_sets(fixed, product(shape, 0, 1) / pass.per, product(shape, 2, 4), shared_bytes,
                                             target.processors);
  const launch::ClosingLaunch launch = launch::launch_of(fixed, source, target.processors, shared_bytes);
  if (launch.refusal) return unsupported(std::string("chain: ") + launch.refusal + " in a closing step");
  return std::make_unique<ClosingKernel>(pass, element, target, fixed, launch);
}

ClosingKernel::ClosingKernel(const ClosingPass& pass, DType element, const CudaTarget& target,
                             const launch::ClosingFixed& fixed, const launch::ClosingLaunch& launch)
    : device_(target.device),
      operands_(pass.operands()),
      fixed_(fixed),
      launch_(launch),
      kernel_({std::string("closing/") + file_of(pass.kind) + ".cuh", std::string("closing_") + file_of(pass.kind),
               closing_text(pass, element, fixed, finishes(pass))},
              static_cast<unsigned>(launch.shared_bytes), fixed.cluster > 8),
      detail_(describe(pass)) {
  launch_.arguments.backwards = pass.backwards;
  // A reduction whose units are one share each is written by the parts kernel.
  needed_ = !(pass.kind == Kind::result && pass.reduce && pass.table < 0 && launch.arguments.shares == 1);
  if (pass.kind == Kind::norm || pass.kind == Kind::result) {
    bytes_ = double(launch.parts_bytes);
  } else {
    bytes_ = double(launch.arguments.in.count) * double(size_of(pass.value.stored));
    if (pass.kind == Kind::columns && pass.softmax &&
        (pass.first != 1 || pass.last != 1 || pass.value.shape[1] > closing_most_held))
      bytes_ *= 2.0;
  }
  if (pass.out >= 0 && pass.kind != Kind::parts)
    bytes_ += double(launch.arguments.result.count) * double(size_of(pass.out_type));
  for (const Epilogue* e : {&pass.value.after, &pass.middle, &pass.after_result})
    for (const EpilogueStep& s : e->steps)
      if (s.spread == Spread::whole) bytes_ += double(launch.arguments.at.count) * double(size_of(element));
}

Status ClosingKernel::run(const ClosingTensors& t, void* stream) const {
  if (!needed_ || launch_.blocks == 0) return {};
  arguments::Closing a = launch_.arguments;
  a.source = t.source, a.out = t.out, a.parts = t.parts;
  std::copy_n(t.tables, 4, a.tables);
  a.table_out = t.table_out;
  a.argmax = t.argmax, a.saved = t.saved;
  a.statistics = t.statistics;
  a.weight = t.weight, a.bias = t.bias;
  OperandBlock block;
  block.values = {};
  for (int i = 0; i < operands_; ++i) {
    const Operand& o = t.operands[i];
    block.at[i] = {o.data, o.stride[0], o.stride[1], o.stride[2], o.stride[3], o.stride[4]};
  }
  void* list[] = {&a, &block};
  return kernel_.launch(device_, stream,
                        {{static_cast<unsigned>(launch_.blocks)},
                         {static_cast<unsigned>(launch_.threads)},
                         static_cast<unsigned>(launch_.shared_bytes)},
                        list);
}

}  // namespace upconv::cuda
