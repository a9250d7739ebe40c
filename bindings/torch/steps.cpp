// See steps.hpp.
#include "steps.hpp"

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace upconv::binding {
namespace {

/// (arithmetic, scalar or index, source).
EpilogueStep arithmetic_step(double arithmetic, double value, double source) {
  const auto within = [](double v, int last) { return v >= 1.0 && v <= static_cast<double>(last); };
  if (!within(arithmetic, static_cast<int>(Arithmetic::detach)) || !within(source + 1.0, 3))
    throw std::runtime_error("conv_transpose_epilogue: no arithmetic has the numbers " + std::to_string(arithmetic) +
                             ", " + std::to_string(source));
  EpilogueStep step;
  step.arithmetic = static_cast<Arithmetic>(static_cast<int>(arithmetic));
  step.source = static_cast<Source>(static_cast<int>(source));
  if (step.arithmetic == Arithmetic::detach) return step;
  if (step.arithmetic != Arithmetic::keep && step.source == Source::scalar)
    step.a = value;
  else
    step.index = value >= 0.0 && value < 1e6 ? static_cast<int>(value) : -1;
  return step;
}

/// Reads numbers off a list, front to back.
class Reader {
 public:
  explicit Reader(const std::vector<double>& numbers) : numbers_(numbers) {}
  double next() {
    if (at_ >= numbers_.size()) throw std::runtime_error("upconv::_chain: the list of numbers ends within a step");
    return numbers_[at_++];
  }
  std::int64_t integer() {
    const double v = next();
    if (!(std::abs(v) < 1e15)) throw std::runtime_error("upconv::_chain: a count is no integer");
    return static_cast<std::int64_t>(v);
  }
  Epilogue steps() {
    const std::int64_t count = integer();
    if (count < 0 || at_ + 3 * static_cast<std::size_t>(count) > numbers_.size())
      throw std::runtime_error("upconv::_chain: a list of " + std::to_string(count) + " steps is cut short");
    const Epilogue e = make_epilogue({numbers_.data() + at_, 3 * static_cast<std::size_t>(count)});
    at_ += 3 * static_cast<std::size_t>(count);
    return e;
  }
  [[nodiscard]] bool done() const { return at_ == numbers_.size(); }

 private:
  const std::vector<double>& numbers_;
  std::size_t at_ = 0;
};

}  // namespace

Epilogue make_epilogue(std::span<const double> triples) {
  if (triples.size() % 3 != 0)
    throw std::runtime_error("conv_transpose_epilogue: expected (activation, a, b) triples, but got " +
                             std::to_string(triples.size()) + " numbers");
  Epilogue e;
  for (std::size_t i = 0; i < triples.size(); i += 3) {
    const double code = triples[i];
    if (code >= 100.0) {
      e.steps.push_back(arithmetic_step(code - 100.0, triples[i + 1], triples[i + 2]));
      continue;
    }
    if (!(code >= 0.0 && code <= static_cast<double>(Activation::exp)))
      throw std::runtime_error("conv_transpose_epilogue: no activation has the number " + std::to_string(code));
    e.steps.push_back({static_cast<Activation>(static_cast<int>(code)), triples[i + 1], triples[i + 2]});
  }
  return e;
}

Chain make_chain(const std::vector<double>& numbers) {
  Reader r(numbers);
  Chain c;
  c.prologue = r.steps();
  c.epilogue = r.steps();
  const std::int64_t closing = r.integer();
  for (std::int64_t i = 0; i < closing; ++i) {
    ClosingStep s;
    const std::int64_t kind = r.integer(), reduction = r.integer();
    if (kind < 0 || kind > static_cast<int>(ClosingStep::Kind::batch_norm) || reduction < 0 ||
        reduction > static_cast<int>(ClosingStep::Reduction::logsumexp))
      throw std::runtime_error("upconv::_chain: no closing step has the numbers " + std::to_string(kind) + ", " +
                               std::to_string(reduction));
    s.kind = static_cast<ClosingStep::Kind>(kind);
    s.reduction = static_cast<ClosingStep::Reduction>(reduction);
    s.first = static_cast<int>(r.integer());
    s.last = static_cast<int>(r.integer());
    s.average = r.integer() != 0;
    s.count_include_pad = r.integer() != 0;
    for (Extent* e : {&s.kernel, &s.stride, &s.padding})
      for (std::int64_t& v : *e) v = r.integer();
    s.groups = r.integer();
    s.dims = static_cast<int>(r.integer());
    s.eps = r.next();
    s.center_only = r.integer() != 0;
    s.weight = static_cast<int>(r.integer());
    s.bias = static_cast<int>(r.integer());
    s.after = r.steps();
    c.closing.push_back(std::move(s));
  }
  if (!r.done()) throw std::runtime_error("upconv::_chain: numbers are left after the last step");
  return c;
}

}  // namespace upconv::binding
