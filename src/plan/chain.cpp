// Checking of a chain: the sizes after each step, the operands that fit them. The engines' plans take it from there.
#include "plan/chain.hpp"

#include <algorithm>

#include "problem/geometry.hpp"

namespace upconv {
namespace {

std::string text(const Shape5& s) {
  std::string t = "(";
  for (int i = 0; i < 5; ++i) t += (i ? ", " : "") + std::to_string(s[i]);
  return t + ")";
}

Status after_step(const ClosingStep& s, Shape5& shape) {
  using Kind = ClosingStep::Kind;
  if (Status status = validate(s.after); !status.ok()) return status;
  switch (s.kind) {
    case Kind::reduce:
    case Kind::softmax:
      if (s.first < 1 || s.last > 4 || s.first > s.last)
        return invalid_argument("closing step: dimensions " + std::to_string(s.first) + " to " +
                                std::to_string(s.last) + " are not within 1 (channel) to 4 (w)");
      if (s.kind == Kind::reduce)
        for (int d = s.first; d <= s.last; ++d) shape[d] = 1;
      return {};
    case Kind::pool:
      for (int d = 0; d < 3; ++d) {
        const std::int64_t k = s.kernel[d], p = s.padding[d];
        if (k < 1 || s.stride[d] < 1 || p < 0 || 2 * p > k)
          return invalid_argument("pool: kernel " + std::to_string(k) + ", stride " + std::to_string(s.stride[d]) +
                                  ", padding " + std::to_string(p) +
                                  ": kernel and stride must be positive and padding at most half the kernel");
        if (shape[d + 2] + 2 * p < k)
          return invalid_argument("pool: a window of " + std::to_string(k) + " does not fit a size of " +
                                  std::to_string(shape[d + 2]));
        shape[d + 2] = (shape[d + 2] + 2 * p - k) / s.stride[d] + 1;
      }
      return {};
    case Kind::plane_norm:
      if (s.groups < 1 || shape[1] % s.groups != 0)
        return invalid_argument("group norm: " + std::to_string(shape[1]) + " channels do not divide into " +
                                std::to_string(s.groups) + " groups");
      return {};
    case Kind::row_norm:
      if (s.dims < 1 || s.dims > 4)
        return invalid_argument("layer norm: over the last " + std::to_string(s.dims) +
                                " dimensions; 1 to 4 are known");
      return {};
    case Kind::batch_norm:
      return {};
  }
  return invalid_argument("closing step: no such kind");
}

}  // namespace

int Chain::operands() const {
  int n = std::max(prologue.operands(), epilogue.operands());
  for (const ClosingStep& s : closing) n = std::max({n, s.after.operands(), s.weight + 1, s.bias + 1});
  return n;
}

const ClosingStep* Chain::batch_norm() const {
  for (const ClosingStep& s : closing)
    if (s.kind == ClosingStep::Kind::batch_norm) return &s;
  return nullptr;
}

Result<std::vector<Shape5>> chain_shapes(const Problem& problem, const Chain& chain) {
  if (Status s = validate(problem); !s.ok()) return s;
  for (const Epilogue* e : {&chain.prologue, &chain.epilogue})
    if (Status s = validate(*e); !s.ok()) return s;
  const Geometry g = make_geometry(problem);
  Shape5 shape{g.batch, g.out_channels(), g.out[0], g.out[1], g.out[2]};
  std::vector<Shape5> shapes{shape};
  int norms = 0;
  for (const ClosingStep& step : chain.closing) {
    if (Status s = after_step(step, shape); !s.ok()) return s;
    norms += step.kind == ClosingStep::Kind::batch_norm;
    shapes.push_back(shape);
  }
  if (norms > 1) return unsupported("chain: " + std::to_string(norms) + " batch norms of this batch, but one is known");
  if (chain.operands() > max_operands)
    return unsupported("chain: " + std::to_string(chain.operands()) + " operands, but at most " +
                       std::to_string(max_operands) + " are known");
  return shapes;
}

Spread spread_of(const OperandTensor& t, const Shape5& shape) {
  std::array<bool, 5> varies{};
  bool dense = true;
  std::int64_t stride = 1;
  for (int d = 4; d >= 0; --d) {
    if (t.size[d] != 1 && t.size[d] != shape[d]) return Spread::any;
    varies[d] = t.size[d] != 1;
    if (varies[d] && t.stride[d] != stride) dense = false;
    stride *= t.size[d];
  }
  const bool space = varies[2] || varies[3] || varies[4];
  if (!space) {
    if (varies[0]) return Spread::plane;
    return varies[1] ? Spread::channel : Spread::scalar;
  }
  if (!dense) return Spread::any;
  for (int d = 2; d < 5; ++d)
    if (t.size[d] != shape[d]) return Spread::any;
  const bool all_samples = t.size[0] == shape[0], all_channels = t.size[1] == shape[1];
  if (all_samples && all_channels) return Spread::whole;
  if (varies[0]) return Spread::any;
  return all_channels ? Spread::image : Spread::space;
}

void note_spreads(const Problem& problem, Chain& chain, const OperandTensor* operands, int count) {
  const auto shapes = chain_shapes(problem, chain);
  if (!shapes.ok() || problem.y_layout != Layout::channels_first) return;
  const auto note = [&](Epilogue& steps, const Shape5& shape) {
    for (EpilogueStep& s : steps.steps)
      if (s.arithmetic > Arithmetic::keep && s.source == Source::operand && s.index < count)
        s.spread = spread_of(operands[s.index], shape);
  };
  const Geometry g = make_geometry(problem);
  note(chain.prologue, {g.batch, g.in_channels(), g.in[0], g.in[1], g.in[2]});
  note(chain.epilogue, shapes->front());
  for (std::size_t i = 0; i < chain.closing.size(); ++i) note(chain.closing[i].after, (*shapes)[i + 1]);
}

Status resolve(const Epilogue& steps, const Shape5& shape, const ChainArgs& args, Operand* out) {
  for (const EpilogueStep& step : steps.steps) {
    if (step.arithmetic <= Arithmetic::keep || step.source != Source::operand) continue;
    if (step.index >= args.operand_count)
      return invalid_argument("chain: operand " + std::to_string(step.index) + " is read, but " +
                              std::to_string(args.operand_count) + " are given");
    const OperandTensor& t = args.operands[step.index];
    Operand& o = out[step.index];
    o.data = t.data;
    for (int d = 0; d < 5; ++d) {
      if (t.size[d] != 1 && t.size[d] != shape[d])
        return invalid_argument("chain: operand " + std::to_string(step.index) + " of size " + text(t.size) +
                                " does not broadcast over " + text(shape));
      o.stride[d] = t.size[d] == 1 ? 0 : t.stride[d];
    }
  }
  return {};
}

Status resolve_vector(int number, std::int64_t length, const char* what, const ChainArgs& args, const void** out) {
  *out = nullptr;
  if (number < 0) return {};
  if (number >= args.operand_count)
    return invalid_argument(std::string(what) + ": operand " + std::to_string(number) + " is not given");
  const OperandTensor& t = args.operands[number];
  std::int64_t elements = 1, dense = 1;
  for (int d = 4; d >= 0; --d) {
    elements *= t.size[d];
    if (t.size[d] > 1 && t.stride[d] != dense) elements = -1;
    dense *= t.size[d];
  }
  if (elements != length)
    return invalid_argument(std::string(what) + ": operand " + std::to_string(number) + " of size " + text(t.size) +
                            " is no dense vector of " + std::to_string(length) + " elements");
  *out = t.data;
  return {};
}

bool varies_in_space(const Epilogue& steps, const Operand* operands) {
  for (const EpilogueStep& step : steps.steps)
    if (step.arithmetic > Arithmetic::keep && step.source == Source::operand)
      for (int d = 2; d < 5; ++d)
        if (operands[step.index].stride[d] != 0) return true;
  return false;
}

Result<std::shared_ptr<const ChainPlan>> ChainPlan::create(const Problem& problem, Device device, const Chain& chain) {
  const auto shapes = chain_shapes(problem, chain);
  if (!shapes.ok()) return shapes.status();
  if (problem.y_layout != Layout::channels_first && !(chain.closing.empty() && chain.prologue.empty()))
    return unsupported("chain: closing steps and a prologue want y with the channels first");
  if (device.kind == Device::Kind::cpu) return make_cpu_chain(problem, chain, *shapes);
  return make_cuda_chain(problem, device, chain, *shapes);
}

}  // namespace upconv
