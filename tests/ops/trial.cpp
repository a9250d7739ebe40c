// See trial.hpp.
#include "ops/trial.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "cpu/candidates.hpp"
#include "cpu/isa.hpp"
#include "ops/number.hpp"
#include "ops/random.hpp"

namespace upconv::test {
namespace {

std::vector<double> make_values(Random& random, const Setting& setting, DType dtype, std::int64_t n) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (double& e : v)
    e = setting.data == Data::uniform ? quantise(dtype, random.real()) : double(random.between(-4, 4));
  return v;
}

/// A few non-finite elements; most tensors keep most outputs finite.
void add_specials(Random& random, std::vector<double>& v) {
  if (v.empty() || random.one_in(3)) return;
  const double inf = std::numeric_limits<double>::infinity();
  for (std::int64_t i = random.between(1, 2); i > 0; --i)
    v[static_cast<std::size_t>(random.between(0, std::int64_t(v.size()) - 1))] =
        random.pick({inf, -inf, std::numeric_limits<double>::quiet_NaN()});
}

/// Element offset of logical (n, c, s) in a dense tensor.
std::int64_t offset(Layout layout, std::int64_t channels, std::int64_t volume, std::int64_t logical) {
  if (layout == Layout::channels_first) return logical;
  const std::int64_t s = logical % volume, c = logical / volume % channels, n = logical / volume / channels;
  return (n * volume + s) * channels + c;
}

bool all_ones(DType dtype, const void* base, std::int64_t at) {
  const std::size_t n = static_cast<std::size_t>(size_of(dtype));
  const unsigned char* p = static_cast<const unsigned char*>(base) + n * static_cast<std::size_t>(at);
  return std::all_of(p, p + n, [](unsigned char c) { return c == 0xff; });
}

Executor& pool(int workers) {
  static std::map<int, std::unique_ptr<Executor>> pools;
  auto& p = pools[workers];
  if (!p) p = make_thread_pool(workers);
  return *p;
}

std::string place_in_words(const Problem& p, Pass pass, std::int64_t at) {
  const Sizes size(p);
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

const char* output_name(Pass pass) {
  return pass == Pass::forward           ? "y"
         : pass == Pass::backward_input  ? "dx"
         : pass == Pass::backward_weight ? "dw"
                                         : "db";
}

}  // namespace

std::vector<std::string> candidate_names(Pass pass) {
  std::vector<std::string> names;
  for (const Candidate& c : cpu::candidates(pass)) names.emplace_back(c.name);
  return names;
}

std::vector<std::string> candidate_names() {
  std::vector<std::string> names;
  for (Pass pass : all_passes)
    for (const std::string& name : candidate_names(pass))
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

std::string describe(const Problem& problem, const Setting& s) {
  static constexpr const char* data[] = {"integers", "uniform", "specials"};
  std::string text = "\"" + to_string(problem) + "\"";
  if (!s.epilogue.empty()) text += ", epilogue " + to_string(s.epilogue);
  text += std::string(", data ") + data[int(s.data)] + ", " + std::to_string(s.workers) +
          (s.threads ? " threads" : " workers") + (s.flush == Flush::front ? ", flush front" : ", flush back");
  if (s.misalign) text += ", misaligned by " + std::to_string(s.misalign);
  return text + ", isa " + to_string(active_isa());
}

/// What runs a pass: a plan, or the bare kernel where a plan of this candidate alone is impossible because it
/// declines another pass.
struct Trial::Subject {
  std::shared_ptr<const Plan> plan;
  std::unique_ptr<PassKernel> kernel;
  std::string declined, wrong;

  [[nodiscard]] std::size_t workspace_bytes(Pass pass, int workers) const {
    return plan ? plan->workspace_bytes(pass, workers) : kernel->workspace_bytes(workers);
  }
};

Trial::Trial(const Problem& problem, const Setting& setting)
    : problem_(problem), setting_(setting), size_(problem), oracle_([&] {
        Random random(setting.seed ^ 0x5eed);
        x = make_values(random, setting, problem.dtype, size_.x);
        w = make_values(random, setting, problem.dtype, size_.w);
        b = make_values(random, setting, problem.dtype, size_.b);
        dy = make_values(random, setting, problem.dtype, size_.y);
        if (setting.data == Data::specials)
          for (auto* v : {&x, &w, &b, &dy}) add_specials(random, *v);
        return Oracle(problem, x, w, b, dy);
      }()) {}

Trial::Subject Trial::subject(const std::string& name, Pass pass) {
  Subject s;
  try {
    return find_subject(name, pass);
  } catch (const std::exception& e) {
    s.wrong = std::string("making it threw ") + e.what();
    return s;
  }
}

Trial::Subject Trial::find_subject(const std::string& name, Pass pass) {
  Subject s;
  if (name.empty()) {
    auto plan = Plan::create(problem_, Device::cpu(), setting_.epilogue);
    if (plan.ok())
      s.plan = *plan;
    else
      s.wrong = "no plan: " + plan.status().message();
    return s;
  }
  static const Epilogue none;
  const Geometry geometry = make_geometry(problem_);
  const Request request{problem_, geometry, pass, pass == Pass::forward ? setting_.epilogue : none, true};
  s.declined = "no candidate of this pass";
  for (const Candidate& c : cpu::candidates(pass)) {
    if (c.name != name) continue;
    const bool last = &c == &cpu::candidates(pass).back();
    if (const Status bounds = within_bounds(geometry); !last && !bounds.ok()) {
      s.declined = bounds.message();
      return s;
    }
    auto made = c.make(request);
    if (!made.ok()) {
      s.declined = made.status().message();
      if (made.status().code() != Code::unsupported || s.declined.empty())
        s.wrong = "declined a legal problem, but not with Code::unsupported and a reason: '" + s.declined + "'";
      return s;
    }
    s.declined.clear();
    auto plan = Plan::create(problem_, Device::cpu(), setting_.epilogue, name);
    if (!plan.ok())
      s.kernel = std::move(made).value();
    else if ((*plan)->candidate(pass) != name)
      s.wrong = "Plan::create(only " + name + ") took " + (*plan)->candidate(pass);
    else
      s.plan = *plan;
    return s;
  }
  return s;
}

/// The weights a few times over in fp64, and what a worker may keep beside them.
std::size_t Trial::workspace_limit(int workers) const {
  return 64u * static_cast<std::size_t>(size_.w + 4096) + (std::size_t{64} << 20) +
         (std::size_t{64} << 20) * static_cast<std::size_t>(workers);
}

void Trial::place(Guarded& buffer, const std::vector<double>& values, std::int64_t channels, std::int64_t volume,
                  Layout layout) {
  const std::size_t element = static_cast<std::size_t>(size_of(problem_.dtype));
  buffer.reset(values.size() * element, setting_.flush, element * static_cast<std::size_t>(setting_.misalign), element);
  for (std::int64_t i = 0; i < std::int64_t(values.size()); ++i)
    store_element(problem_.dtype, buffer.data(), offset(layout, channels, volume, i),
                  values[static_cast<std::size_t>(i)]);
}

std::string Trial::judge(Pass pass, const Guarded& out, std::int64_t channels, std::int64_t volume,
                         Layout layout) const {
  const Sums& sums = oracle_.of(pass);
  static const Epilogue none;
  const Epilogue& epilogue = pass == Pass::forward ? setting_.epilogue : none;
  const bool exact = setting_.data != Data::uniform && epilogue.empty();
  std::int64_t wrong = 0;
  std::string first;
  for (std::int64_t i = 0; i < std::int64_t(sums.value.size()); ++i) {
    const std::int64_t at = offset(layout, channels, volume, i);
    const double got = load_element(problem_.dtype, out.data(), at);
    const Want expected = want(problem_.dtype, sums, i, epilogue);
    const double rounded = quantise(problem_.dtype, expected.value);
    bool good;
    if (std::isnan(got) && all_ones(problem_.dtype, out.data(), at))
      good = false;  // the poison: never written
    else if (std::isnan(rounded))
      good = std::isnan(got);
    else if (exact || std::isinf(rounded))
      good = got == rounded;
    else
      good = std::fabs(got - expected.value) <= expected.bound;
    if (good) continue;
    if (wrong++ == 0) {
      char text[200];
      std::snprintf(text, sizeof text, ": got %.9g%s, want %.9g (%s %.3g, %g products)", got,
                    std::isnan(got) && all_ones(problem_.dtype, out.data(), at) ? " (never written)" : "",
                    expected.value, exact ? "exactly; off by" : "bound", exact ? got - expected.value : expected.bound,
                    sums.length[static_cast<std::size_t>(i)]);
      first = output_name(pass) + place_in_words(problem_, pass, i) + text;
    }
  }
  if (!wrong) return {};
  return first + "; " + std::to_string(wrong) + " of " + std::to_string(sums.value.size()) + " elements wrong";
}

Outcome Trial::run(const std::string& candidate, Pass pass, int workers, bool threads) {
  Outcome outcome;
  Subject s = subject(candidate, pass);
  if (!s.wrong.empty()) {
    outcome.ran = true;
    outcome.message = s.wrong;
  } else if (!s.declined.empty()) {
    outcome.message = s.declined;
    return outcome;
  }
  outcome.ran = true;
  const auto where = [&] {
    return std::string(to_string(pass)) + " by " + (candidate.empty() ? "the plan's choice" : candidate) +
           (s.plan ? " (" + s.plan->candidate(pass) + ")" : "") + " with " + std::to_string(workers) +
           (threads ? " threads" : " workers") + " of " + describe(problem_, setting_) + "\n    ";
  };
  if (!outcome.message.empty()) {
    outcome.message = where() + outcome.message;
    return outcome;
  }

  static Guarded x_buffer, w_buffer, b_buffer, dy_buffer, out, workspace;
  const Problem& p = problem_;
  const std::int64_t group_co = p.out_channels / p.groups;
  const bool forward = pass == Pass::forward, needs_x = forward || pass == Pass::backward_weight,
             needs_w = forward || pass == Pass::backward_input, needs_b = forward && p.bias, needs_dy = !forward;
  struct Input {
    bool used;
    Guarded* buffer;
    const char* name;
    Bits before;
  } inputs[] = {{needs_x, &x_buffer, "x", {}},
                {needs_w, &w_buffer, "w", {}},
                {needs_b, &b_buffer, "b", {}},
                {needs_dy, &dy_buffer, "dy", {}}};
  if (needs_x) place(x_buffer, x, p.in_channels, size_.input, p.x_layout);
  if (needs_w) place(w_buffer, w, group_co, size_.taps, p.w_layout);
  if (needs_b) place(b_buffer, b, 1, 1, Layout::channels_first);
  if (needs_dy) place(dy_buffer, dy, p.out_channels, size_.output, p.y_layout);
  for (Input& in : inputs)
    if (in.used) {
      const auto* bytes = static_cast<const unsigned char*>(in.buffer->data());
      in.before.assign(bytes, bytes + in.buffer->bytes());
    }

  const std::size_t element = static_cast<std::size_t>(size_of(p.dtype));
  const std::int64_t out_elements = forward                         ? size_.y
                                    : pass == Pass::backward_input  ? size_.x
                                    : pass == Pass::backward_weight ? size_.w
                                                                    : size_.b;
  out.reset(static_cast<std::size_t>(out_elements) * element, setting_.flush,
            element * static_cast<std::size_t>(setting_.misalign), element);
  const std::size_t need = s.workspace_bytes(pass, workers);
  if (need > workspace_limit(workers)) {
    outcome.message = where() + "asks for a workspace of " + std::to_string(need) + " bytes";
    return outcome;
  }
  workspace.reset(need, setting_.flush, 0, 64);
  if (setting_.seed & 1) {  // half of the time finite garbage in place of NaN
    Random garbage(setting_.seed);
    auto* bytes = static_cast<unsigned char*>(workspace.data());
    for (std::size_t i = 0; i < need; ++i) bytes[i] = (i & 3) == 3 ? 0x40 : static_cast<unsigned char>(garbage.bits());
  }

  BackwardsExecutor backwards(workers);
  Executor& executor = threads ? pool(workers) : backwards;
  const Launch launch{workspace.data(), need, &executor};
  Status status;
  if (s.plan) {
    if (pass == Pass::forward)
      status =
          s.plan->forward({x_buffer.data(), w_buffer.data(), p.bias ? b_buffer.data() : nullptr, out.data()}, launch);
    else if (pass == Pass::backward_input)
      status = s.plan->backward_input({dy_buffer.data(), w_buffer.data(), out.data()}, launch);
    else if (pass == Pass::backward_weight)
      status = s.plan->backward_weight({x_buffer.data(), dy_buffer.data(), out.data()}, launch);
    else
      status = s.plan->backward_bias({dy_buffer.data(), out.data()}, launch);
  } else {
    PassTensors t;
    if (needs_x) t.x = x_buffer.data();
    if (needs_w) t.w = w_buffer.data();
    if (needs_b) t.b = b_buffer.data();
    if (needs_dy) t.dy = dy_buffer.data();
    (forward ? t.y : pass == Pass::backward_input ? t.dx : pass == Pass::backward_weight ? t.dw : t.db) = out.data();
    s.kernel->run(t, workspace.data(), executor);
  }

  if (!status.ok()) outcome.message = "the run failed: " + status.message();
  if (backwards.misused()) outcome.message = "asked the executor for fewer than 1 or more than workers() workers";
  if (!out.intact()) outcome.message = std::string("wrote outside ") + output_name(pass);
  if (!workspace.intact()) outcome.message = "wrote outside the workspace of " + std::to_string(need) + " bytes";
  for (const Input& in : inputs)
    if (in.used && (!in.buffer->intact() ||
                    (!in.before.empty() && std::memcmp(in.before.data(), in.buffer->data(), in.before.size()) != 0)))
      outcome.message = std::string("changed its input ") + in.name;
  if (outcome.message.empty())
    outcome.message = forward                         ? judge(pass, out, p.out_channels, size_.output, p.y_layout)
                      : pass == Pass::backward_input  ? judge(pass, out, p.in_channels, size_.input, p.x_layout)
                      : pass == Pass::backward_weight ? judge(pass, out, group_co, size_.taps, p.w_layout)
                                                      : judge(pass, out, 1, 1, Layout::channels_first);
  if (!outcome.message.empty()) outcome.message = where() + outcome.message;
  const auto* bytes = static_cast<const unsigned char*>(out.data());
  outcome.bits.assign(bytes, bytes + out.bytes());
  return outcome;
}

std::string Trial::run_all(const std::string& only, std::int64_t* ran) {
  for (Pass pass : all_passes) {
    std::vector<std::string> names = only.empty() ? candidate_names(pass) : std::vector<std::string>{only};
    if (only.empty()) {  // first the plan's choice, which need not run a second time under its own name
      names.insert(names.begin(), "");
      const Subject chosen = subject("", pass);
      if (chosen.plan) std::erase(names, chosen.plan->candidate(pass));
    }
    for (const std::string& name : names) {
      const Outcome outcome = run(name, pass);
      if (outcome.failed()) return outcome.message;
      if (ran && outcome.ran) ++*ran;
    }
  }
  return {};
}

}  // namespace upconv::test
