// See closing_stages.hpp.
#include "plan/closing_stages.hpp"

#include <algorithm>
#include <cstdio>

namespace upconv {
namespace {

using cuda::ClosingItem;
using cuda::ClosingPass;
using cuda::ClosingValue;
using cuda::PullPass;
typedef std::int64_t Int;

ChainArgs args_of(const StageTensors& t) {
  ChainArgs args;
  args.operands = t.given, args.operand_count = t.given_count;
  return args;
}

Int row_length(const Shape5& s, int first) {
  Int n = 1;
  for (int d = first; d < 5; ++d) n *= s[d];
  return n;
}

/// Of the steps and norms that a pass evaluates on the value it reads.
Status resolve_value(const ClosingValue& v, StageTensors& t) {
  for (const ClosingItem& item : v.before) {
    if (Status s = resolve_noted(item.steps, v.shape, t); !s.ok()) return s;
    const bool set = item.kind == ClosingItem::Kind::set_norm;
    const Int length = set ? v.shape[1] : row_length(v.shape, item.first);
    for (int number : {item.weight, item.bias})
      if (number >= 0)
        if (Status s =
                resolve_vector(number, length, set ? "norm" : "layer norm", args_of(t), &t.operands[number].data);
            !s.ok())
          return s;
  }
  return resolve_noted(v.after, v.at(), t);
}

void tables_of(const ClosingValue& v, const std::vector<ClosingBuffer>& buffers, const StageTensors& t,
               const void* (&tables)[4]) {
  int count = 0;
  for (const ClosingItem& item : v.before)
    if (item.table >= 0) tables[count++] = address(buffers, item.table, t);
}

}  // namespace

Status resolve_noted(const Epilogue& steps, const Shape5& shape, StageTensors& t) {
  if (Status s = upconv::resolve(steps, shape, args_of(t), t.operands); !s.ok()) return s;
  for (const EpilogueStep& s : steps.steps) {
    if (s.arithmetic <= Arithmetic::keep || s.source != Source::operand || s.spread == Spread::any) continue;
    if (spread_of(t.given[s.index], shape) != s.spread)
      return invalid_argument("chain: operand " + std::to_string(s.index) +
                              " lies in another way than the plan was made for");
  }
  return {};
}

void* address(const std::vector<ClosingBuffer>& buffers, int buffer, const StageTensors& t) {
  if (buffer < 0) return nullptr;
  const ClosingBuffer& b = buffers[static_cast<std::size_t>(buffer)];
  switch (b.place) {
    case ClosingBuffer::Place::x:
      return const_cast<void*>(t.x);
    case ClosingBuffer::Place::y:
      return t.y;
    case ClosingBuffer::Place::z:
      return const_cast<void*>(t.z);
    case ClosingBuffer::Place::saved:
      return static_cast<char*>(t.saved) + b.offset;
    case ClosingBuffer::Place::dy:
      return const_cast<void*>(t.dy);
    case ClosingBuffer::Place::dz:
      return t.dz;
    case ClosingBuffer::Place::db:
      return t.db;
    case ClosingBuffer::Place::operand:
      return t.gradients[b.number];
    case ClosingBuffer::Place::workspace:
      break;
  }
  return t.workspace + b.offset;
}

std::int64_t lay_out(std::vector<ClosingBuffer>& buffers, ClosingBuffer::Place place, std::int64_t at) {
  for (ClosingBuffer& b : buffers) {
    if (b.place != place) continue;
    b.offset = at;
    at += (b.bytes + 255) / 256 * 256;
  }
  return at;
}

Status ClosingStages::add(const ClosingPass& wanted, std::vector<ClosingBuffer>& buffers) {
  if (done_ > 0) {
    --done_;
    return {};
  }
  ClosingPass pass = wanted;
  // What was written or read last is still in a cache: each pass over values begins where the one before it ended, the
  // first where the layer did.
  if (reads_values(pass)) pass.backwards = backwards_;
  auto kernel = cuda::ClosingKernel::make(pass, dtype_, target_);
  if (!kernel.ok() && pass.instead_of > 0) return {};
  if (!kernel.ok()) return kernel.status();
  if (reads_values(pass)) backwards_ = !backwards_;
  done_ = pass.instead_of;
  if (pass.kind == ClosingPass::Kind::parts)
    buffers[static_cast<std::size_t>(pass.parts)].bytes = (*kernel)->parts_bytes();
  stages_.emplace_back(Closing{pass, std::move(kernel).value()});
  return {};
}

Status ClosingStages::add(const PullPass& pass, std::vector<ClosingBuffer>& buffers) {
  const cuda::PullKernel* from =
      pass.from >= 0 ? std::get<Pull>(stages_[static_cast<std::size_t>(pass.from)]).kernel.get() : nullptr;
  auto kernel = cuda::PullKernel::make(pass, dtype_, target_, from);
  if (!kernel.ok()) return kernel.status();
  if (pass.kind != PullPass::Kind::norm && pass.sums >= 0)
    buffers[static_cast<std::size_t>(pass.sums)].bytes = (*kernel)->sum_bytes();
  if (pass.vector_sums >= 0) buffers[static_cast<std::size_t>(pass.vector_sums)].bytes = (*kernel)->vector_bytes();
  stages_.emplace_back(Pull{pass, std::move(kernel).value()});
  return {};
}

Status ClosingStages::resolve(StageTensors& t) const {
  for (const auto& stage : stages_) {
    if (const auto* c = std::get_if<Closing>(&stage)) {
      const ClosingPass& p = c->pass;
      if (reads_values(p))
        if (Status s = resolve_value(p.value, t); !s.ok()) return s;
      if (Status s = resolve_noted(p.middle, p.value.at(), t); !s.ok()) return s;
      if (Status s = resolve_noted(p.after_result, p.result(), t); !s.ok()) return s;
    } else {
      const PullPass& p = std::get<Pull>(stage).pass;
      if (p.kind == PullPass::Kind::norm || p.kind == PullPass::Kind::total) continue;
      if (Status s = resolve_value(p.value, t); !s.ok()) return s;
      if (Status s = resolve_noted(p.middle, p.value.at(), t); !s.ok()) return s;
    }
  }
  return {};
}

Status ClosingStages::run(const std::vector<ClosingBuffer>& buffers, const StageTensors& t) const {
  for (const auto& stage : stages_)
    if (Status s = std::visit([&](const auto& one) { return run_one(one, buffers, t); }, stage); !s.ok()) return s;
  return {};
}

Status ClosingStages::run_one(const Closing& s, const std::vector<ClosingBuffer>& buffers,
                              const StageTensors& t) const {
  const ClosingPass& p = s.pass;
  const auto at = [&](int buffer) { return address(buffers, buffer, t); };
  cuda::ClosingTensors c;
  c.source = at(p.value.source);
  c.out = at(p.out), c.parts = at(p.parts), c.table_out = at(p.table_out);
  c.argmax = at(p.value.argmax), c.saved = at(p.saved);
  if (reads_values(p))
    tables_of(p.value, buffers, t, c.tables);
  else
    c.tables[0] = at(p.table);
  if (p.statistics) c.statistics = t.statistics;
  const Int length = p.layer_norm ? row_length(p.value.at(), p.first) : p.value.shape[1];
  const char* what = p.layer_norm ? "layer norm weight or bias"
                     : p.batch    ? "batch norm weight or bias"
                                  : "group norm weight or bias";
  if (Status status = resolve_vector(p.weight, length, what, args_of(t), &c.weight); !status.ok()) return status;
  if (Status status = resolve_vector(p.bias, length, what, args_of(t), &c.bias); !status.ok()) return status;
  c.operands = t.operands;
  return s.kernel->run(c, t.stream);
}

Status ClosingStages::run_one(const Pull& s, const std::vector<ClosingBuffer>& buffers, const StageTensors& t) const {
  const PullPass& p = s.pass;
  const auto at = [&](int buffer) { return address(buffers, buffer, t); };
  cuda::PullTensors c;
  c.out = at(p.out);
  c.operands = t.operands;
  c.sums = at(p.sums), c.vector_sums = at(p.vector_sums), c.table_out = at(p.table_out);
  if (p.kind == PullPass::Kind::total) {
    if (p.source == PullPass::Source::whole) {
      c.source = at(p.total_in);
    } else {
      const PullPass& from = std::get<Pull>(stages_[static_cast<std::size_t>(p.from)]).pass;
      c.source = at(p.source == PullPass::Source::sums ? from.sums : from.vector_sums);
    }
    return s.kernel->run(c, t.stream);
  }
  c.source = at(p.value.source), c.gradient = at(p.gradient);
  c.argmax = at(p.argmax), c.reduced = at(p.reduced), c.ties = at(p.ties);
  if (p.kind == PullPass::Kind::norm)
    c.tables[0] = at(p.saved);
  else
    tables_of(p.value, buffers, t, c.tables);
  for (std::size_t i = 0; i < p.coefficients.size() && i < 4; ++i) c.coefficients[i] = at(p.coefficients[i]);
  for (std::size_t i = 0; i < p.wholes.size(); ++i) c.whole[i] = at(p.wholes[i]);
  const bool rows = p.kind == PullPass::Kind::rows;
  const Int length = rows ? row_length(p.value.at(), p.first) : p.value.shape[1];
  if (Status status = resolve_vector(p.weight, length, "norm weight", args_of(t), &c.weight); !status.ok())
    return status;
  if (Status status = resolve_vector(p.bias, length, "norm bias", args_of(t), &c.bias); !status.ok()) return status;
  return s.kernel->run(c, t.stream);
}

std::vector<const jit::Kernel*> ClosingStages::kernels() const {
  std::vector<const jit::Kernel*> list;
  for (const auto& stage : stages_) {
    if (const auto* c = std::get_if<Closing>(&stage)) {
      if (c->kernel->needed()) list.push_back(&c->kernel->kernel());
    } else {
      list.push_back(&std::get<Pull>(stage).kernel->kernel());
    }
  }
  return list;
}

double ClosingStages::bytes() const {
  double all = 0.0;
  for (const auto& stage : stages_) {
    if (const auto* c = std::get_if<Closing>(&stage))
      all += c->kernel->needed() ? c->kernel->bytes() : 0.0;
    else
      all += std::get<Pull>(stage).kernel->bytes();
  }
  return all;
}

std::string ClosingStages::explain() const {
  std::string s;
  const auto line = [&](const std::string& detail, double bytes) {
    char figures[96];
    std::snprintf(figures, sizeof figures, " (%.2f MB moved, %.1f us at the memory's rate)\n", bytes * 1e-6,
                  bytes / target_.bytes_per_second * 1e6);
    s += "  " + detail + figures;
  };
  for (const auto& stage : stages_) {
    if (const auto* c = std::get_if<Closing>(&stage)) {
      if (c->kernel->needed()) line(c->kernel->detail(), c->kernel->bytes());
    } else {
      const auto& kernel = *std::get<Pull>(stage).kernel;
      line(kernel.detail(), kernel.bytes());
    }
  }
  return s;
}

}  // namespace upconv
