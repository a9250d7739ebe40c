// See cuda_trial.hpp.
#include "emulator/cuda_trial.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "emulator/gpu_bound.hpp"
#include "ops/number.hpp"
#include "ops/random.hpp"
#include "problem/geometry.hpp"

namespace upconv::test {
namespace {

constexpr std::size_t alignment = 256;  // of what torch allocates, at least

std::vector<double> make_values(Random& random, const CudaSetting& setting, DType dtype, std::int64_t n) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (double& e : v) e = setting.exact() ? double(random.between(-3, 3)) : quantise(dtype, random.real());
  return v;
}

/// Element offset of logical (n, c, s) in a dense tensor.
std::int64_t offset(Layout layout, std::int64_t channels, std::int64_t volume, std::int64_t logical) {
  if (layout == Layout::channels_first) return logical;
  const std::int64_t s = logical % volume, c = logical / volume % channels, n = logical / volume / channels;
  return (n * volume + s) * channels + c;
}

bool all_ones(DType dtype, const void* base, std::int64_t at) {
  const auto n = static_cast<std::size_t>(size_of(dtype));
  const unsigned char* p = static_cast<const unsigned char*>(base) + n * static_cast<std::size_t>(at);
  return std::all_of(p, p + n, [](unsigned char c) { return c == 0xff; });
}

/// Logical coordinates of an element of a pass's result.
std::string place_in_words(const Problem& p, Pass pass, std::int64_t at) {
  std::vector<std::int64_t> dims;
  if (pass == Pass::backward_bias) dims = {p.out_channels};
  if (pass == Pass::backward_weight) dims = {p.in_channels, p.out_channels / p.groups};
  if (pass == Pass::backward_input) dims = {p.batch, p.in_channels};
  if (pass == Pass::forward) dims = {p.batch, p.out_channels};
  const Extent out = output_size(p);
  for (int d = 0; d < p.rank && pass != Pass::backward_bias; ++d)
    dims.push_back(pass == Pass::backward_weight ? p.kernel[d] : pass == Pass::backward_input ? p.input[d] : out[d]);
  std::string s;
  for (std::size_t i = dims.size(); i-- > 0; at /= dims[i])
    s = std::to_string(at % dims[i]) + (s.empty() ? "" : ",") + s;
  return "[" + s + "]";
}

}  // namespace

CudaTrial::CudaTrial(const Problem& problem, const CudaSetting& setting)
    : problem_(problem), setting_(setting), size_(problem), oracle_([&] {
        Random random(setting.seed ^ 0xc0da);
        x_ = make_values(random, setting, problem.dtype, size_.x);
        w_ = make_values(random, setting, problem.dtype, size_.w);
        b_ = make_values(random, setting, problem.dtype, size_.b);
        dy_ = make_values(random, setting, problem.dtype, size_.y);
        for (std::vector<double>* v : {&x_, &dy_})
          if (setting.not_finite && !v->empty())
            (*v)[static_cast<std::size_t>(random.between(0, std::int64_t(v->size()) - 1))] = HUGE_VAL;
        return Oracle(problem, x_, w_, b_, dy_);
      }()) {
  if (setting.operands) draw_operands();
}

void CudaTrial::draw_operands() {
  const bool last = problem_.y_layout == Layout::channels_last;
  const struct {
    Spread spread;
    std::array<bool, 5> varies;
  } kinds[] = {
      {Spread::scalar, {}},
      {Spread::channel, {false, true}},
      {Spread::plane, {true, true}},
      {last ? Spread::any : Spread::space, {false, false, true, true, true}},
      {last ? Spread::any : Spread::image, {false, true, true, true, true}},
      {last ? Spread::any : Spread::whole, {true, true, true, true, true}},
      {Spread::any, {true, false, false, true, false}},
      {Spread::any, {false, false, false, false, true}},
  };
  const Geometry g = make_geometry(problem_);
  const std::int64_t sizes[] = {g.batch, g.out_channels(), g.out[0], g.out[1], g.out[2]};
  Random random(setting_.seed ^ 0x0be2);
  for (const auto& kind : kinds) {
    EpilogueStep add;
    add.arithmetic = Arithmetic::add, add.source = Source::operand, add.spread = kind.spread;
    add.index = static_cast<int>(operands_.size());
    setting_.epilogue.steps.push_back(add);
    std::int64_t n = 1;
    for (int d = 0; d < 5; ++d) n *= kind.varies[d] ? sizes[d] : 1;
    operands_.push_back({kind.varies, make_values(random, setting_, problem_.dtype, n)});
  }
}

double CudaTrial::of_operands(std::int64_t logical) const {
  const Geometry g = make_geometry(problem_);
  const std::int64_t sizes[] = {g.batch, g.out_channels(), g.out[0], g.out[1], g.out[2]};
  std::int64_t at[5];
  for (int d = 4; d >= 0; --d) at[d] = logical % sizes[d], logical /= sizes[d];
  double sum = 0.0;
  for (const DrawnOperand& o : operands_) {
    std::int64_t i = 0;
    for (int d = 0; d < 5; ++d)
      if (o.varies[d]) i = i * sizes[d] + at[d];
    sum += o.values[static_cast<std::size_t>(i)];
  }
  return sum;
}

void CudaTrial::place(Guarded& buffer, const std::vector<double>& values, std::int64_t channels, std::int64_t volume,
                      Layout layout) const {
  const auto element = static_cast<std::size_t>(size_of(problem_.dtype));
  buffer.reset(values.size() * element, setting_.at_end() ? Flush::back : Flush::front,
               element * static_cast<std::size_t>(setting_.misalign()), element);
  for (std::int64_t i = 0; i < std::int64_t(values.size()); ++i)
    store_element(problem_.dtype, buffer.data(), offset(layout, channels, volume, i),
                  values[static_cast<std::size_t>(i)]);
}

std::string CudaTrial::judge(Pass pass, const Guarded& out, std::int64_t channels, std::int64_t volume,
                             Layout layout) const {
  const Sums& sums = oracle_.of(pass);
  static const Epilogue none;
  const Epilogue& epilogue = pass == Pass::forward ? setting_.epilogue : none;
  const bool added = pass == Pass::forward && setting_.operands;
  const bool exact = setting_.exact() && epilogue.steps.size() == (added ? operands_.size() : 0);
  const auto n = std::int64_t(sums.value.size());
  std::int64_t wrong = 0, unwritten = 0;
  double error = 0.0, norm = 0.0, terms = 1.0;
  std::string first;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t at = offset(layout, channels, volume, i);
    const double got = load_element(problem_.dtype, out.data(), at);
    Want expected = gpu_want(problem_, pass, sums, i, epilogue);
    if (added) {
      const double sum = of_operands(i);
      expected.value += sum;
      expected.bound += unit_roundoff(problem_.dtype) * (std::fabs(sum) + 8.0);
    }
    const double rounded = quantise(problem_.dtype, expected.value);
    const bool never = std::isnan(got) && all_ones(problem_.dtype, out.data(), at);
    if (setting_.not_finite && !std::isfinite(sums.value[static_cast<std::size_t>(i)])) {
      if (std::isfinite(got) && wrong++ == 0) first = place_in_words(problem_, pass, i) + ": inf is lost";
      continue;
    }
    const bool good = exact || std::isinf(rounded) ? got == rounded : std::fabs(got - expected.value) <= expected.bound;
    error += (got - expected.value) * (got - expected.value);
    norm += expected.value * expected.value;
    terms = std::max(terms, sums.length[static_cast<std::size_t>(i)]);
    if (good) continue;
    unwritten += never;
    if (wrong++ == 0) {
      char text[200];
      std::snprintf(text, sizeof text, ": got %.9g%s, want %.9g (%s %.3g, %g products)", got, never ? " (poison)" : "",
                    expected.value, exact ? "exactly; off by" : "bound", exact ? got - expected.value : expected.bound,
                    sums.length[static_cast<std::size_t>(i)]);
      first = place_in_words(problem_, pass, i) + text;
    }
  }
  if (wrong)
    return first + "; " + std::to_string(wrong) + " of " + std::to_string(n) + " elements wrong, " +
           std::to_string(unwritten) + " of them poison";
  if (!exact && epilogue.empty() && n >= norm_enough && norm > 0.0 && std::isfinite(norm)) {
    const double relative = std::sqrt(error / norm),
                 allowed = gpu_norm_bound(problem_, pass, terms, gpu_steps(problem_, pass));
    if (!(relative <= allowed)) {
      char text[120];
      std::snprintf(text, sizeof text, "||error|| / ||exact|| is %.3g, allowed are %.3g", relative, allowed);
      return text;
    }
  }
  return {};
}

CudaOutcome CudaTrial::run(const std::string& candidate, Pass pass) {
  const auto made = Plan::create(problem_, Device::cuda(0), setting_.epilogue, candidate);
  if (!made.ok()) return {made.status().code() != Code::unsupported, made.status().message()};
  const Plan& plan = **made;
  if (!candidate.empty() && plan.candidate(pass) != candidate.substr(0, candidate.find(':')))
    return {false, "declined this pass"};

  static Guarded x, w, b, dy, out, workspace, operand_buffers[8];
  const Problem& p = problem_;
  const std::int64_t group_co = p.out_channels / p.groups;
  const bool forward = pass == Pass::forward, needs_x = forward || pass == Pass::backward_weight,
             needs_w = forward || pass == Pass::backward_input, needs_b = forward && p.bias, needs_dy = !forward;
  if (needs_x) place(x, x_, p.in_channels, size_.input, p.x_layout);
  if (needs_w) place(w, w_, group_co, size_.taps, p.w_layout);
  if (needs_b) place(b, b_, 1, 1, Layout::channels_first);
  if (needs_dy) place(dy, dy_, p.out_channels, size_.output, p.y_layout);
  Operand operands[8];
  const Geometry g = make_geometry(p);
  const std::int64_t y_sizes[] = {g.batch, g.out_channels(), g.out[0], g.out[1], g.out[2]};
  for (std::size_t k = 0; forward && k < operands_.size(); ++k) {
    const DrawnOperand& o = operands_[k];
    place(operand_buffers[k], o.values, 1, 1, Layout::channels_first);
    operands[k].data = operand_buffers[k].data();
    std::int64_t stride = 1;
    for (std::size_t d = 5; d-- > 0;)
      if (o.varies[d]) operands[k].stride[d] = stride, stride *= y_sizes[d];
  }
  struct Input {
    bool used;
    Guarded* buffer;
    const char* name;
    std::vector<unsigned char> before;
  } inputs[] = {{needs_x, &x, "x", {}}, {needs_w, &w, "w", {}}, {needs_b, &b, "b", {}}, {needs_dy, &dy, "dy", {}}};
  for (Input& in : inputs)
    if (in.used) {
      const auto* bytes = static_cast<const unsigned char*>(in.buffer->data());
      in.before.assign(bytes, bytes + in.buffer->bytes());
    }

  const auto element = static_cast<std::size_t>(size_of(p.dtype));
  const std::int64_t elements = forward                         ? size_.y
                                : pass == Pass::backward_input  ? size_.x
                                : pass == Pass::backward_weight ? size_.w
                                                                : size_.b;
  out.reset(static_cast<std::size_t>(elements) * element, setting_.at_end() ? Flush::back : Flush::front,
            element * static_cast<std::size_t>(setting_.misalign()), element);
  const std::size_t need = plan.workspace_bytes(pass, 1);
  if (need > std::size_t{64} << 20) return {true, "asks for a workspace of " + std::to_string(need) + " bytes"};
  workspace.reset(need, Flush::back, 0, alignment);

  const Launch launch{.workspace = need ? workspace.data() : nullptr, .workspace_bytes = need};
  const Status status =
      forward ? plan.forward({x.data(), w.data(), p.bias ? b.data() : nullptr, out.data(), operands}, launch)
      : pass == Pass::backward_input  ? plan.backward_input({dy.data(), w.data(), out.data()}, launch)
      : pass == Pass::backward_weight ? plan.backward_weight({x.data(), dy.data(), out.data()}, launch)
                                      : plan.backward_bias({dy.data(), out.data()}, launch);
  if (!status.ok()) return {true, status.message()};
  if (!out.intact()) return {true, "wrote outside its result"};
  if (need && !workspace.intact()) return {true, "wrote outside the workspace of " + std::to_string(need) + " bytes"};
  for (const Input& in : inputs)
    if (in.used && (!in.buffer->intact() ||
                    (!in.before.empty() && std::memcmp(in.before.data(), in.buffer->data(), in.before.size()) != 0)))
      return {true, std::string("changed its input ") + in.name};
  return {true, forward                         ? judge(pass, out, p.out_channels, size_.output, p.y_layout)
                : pass == Pass::backward_input  ? judge(pass, out, p.in_channels, size_.input, p.x_layout)
                : pass == Pass::backward_weight ? judge(pass, out, group_co, size_.taps, p.w_layout)
                                                : judge(pass, out, 1, 1, Layout::channels_first)};
}

}  // namespace upconv::test
