// See engine.hpp.
#include "engine.hpp"

#include <algorithm>
#include <stdexcept>

#include "arguments.hpp"
#include "jit/cache.hpp"
#include "jit/notice.hpp"
#include "jit/report.hpp"
#include "plan/cuda_chain.hpp"
#include "plan/launch_export.hpp"
#include "plan/program_text.hpp"
#include "plan/target.hpp"
#include "plan/tuned.hpp"
#include "plan_cache.hpp"
#include "single_pass.hpp"

namespace upconv::binding {
namespace {

Pass parse_pass(const std::string& text) {
  for (Pass pass : {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias})
    if (text == to_string(pass)) return pass;
  throw std::runtime_error("upconv: no pass is named '" + text + "'");
}

/// The problem that operators.cpp makes for a pass of a call whose forward problem is `p`.
Problem problem_of_pass(Problem p, Pass pass) {
  if (pass == Pass::forward) return p;
  p.bias = false;
  if (pass == Pass::backward_weight) p.w_layout = Layout::channels_first;
  if (pass == Pass::backward_input) p.x_layout = p.y_layout;
  if (pass != Pass::backward_bias) return p;
  Problem db;  // db depends on dy's shape alone
  db.rank = p.rank;
  db.batch = p.batch;
  db.out_channels = p.out_channels;
  db.input = output_size(p);
  db.dtype = p.dtype;
  db.x_layout = db.y_layout = p.y_layout;
  return db;
}

Problem problem_of_text(const std::string& text) {
  const auto parsed = parse_problem(text);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  if (Status s = validate(*parsed); !s.ok()) throw std::runtime_error(s.message());
  return *parsed;
}

/// What an operator computes in `pass` of a call with this forward problem and `precision` (-1: the problem's own).
Problem resolve(const std::string& text, Pass pass, Device device, std::int64_t precision) {
  Problem p = problem_of_text(text);
  if (precision >= 0) p.precision = precision_of(precision, p, pass, device);
  if (device.kind == Device::Kind::cpu) p.precision = Precision::ieee;
  return problem_of_pass(p, pass);
}

std::shared_ptr<const Plan> created(const Problem& p, Device device, const Epilogue& epilogue,
                                    const std::string& only) {
  auto made = Plan::create(p, device, epilogue, only);
  if (!made.ok()) throw std::runtime_error(made.status().message());
  return *made;
}

}  // namespace

std::string engine_report() {
  const jit::Report report = jit::report();
  std::string text;
  for (const auto& [name, value] : report.findings) text += name + "\t" + value + "\n";
  return text + "cuda engine\t" + (report.obstacle.empty() ? "ok" : report.obstacle);
}

std::string kernel_cache(const std::string& action) {
  const jit::Cache& cache = jit::user_cache();
  if (action == "folder") return cache.folder();
  if (action == "clear") return std::to_string(cache.clear());
  if (action != "list") throw std::runtime_error("upconv: the kernel cache cannot '" + action + "'");
  std::string text;
  for (const auto& e : cache.entries())
    text += std::to_string(e.bytes) + "\t" + std::to_string(e.age_seconds) + "\t" + e.path + "\t" + e.about + "\n";
  return text;
}

std::string pass_problem(const std::string& text, const std::string& pass_text, const std::string& device,
                         std::int64_t precision) {
  return to_string(resolve(text, parse_pass(pass_text), parse_device(device), precision));
}

void prepare(const std::string& text, const std::string& pass_text, const std::string& device_text,
             std::int64_t precision, const std::vector<double>& epilogue) {
  const Pass pass = parse_pass(pass_text);
  const Device device = parse_device(device_text);
  const jit::Quiet quiet;  // the caller shows progress
  const auto plan = plan_for(resolve(text, pass, device, precision),
                             pass == Pass::forward ? make_epilogue(epilogue) : Epilogue{}, device);
  if (Status s = plan->prepare(pass); !s.ok()) throw std::runtime_error(s.message());
}
std::string alternatives(const std::string& text, const std::string& pass_text, const std::string& device_text,
                         const std::vector<double>& epilogue) {
  const Pass pass = parse_pass(pass_text);
  const Device device = parse_device(device_text);
  const Problem p = problem_of_text(text);
  const Epilogue applied = pass == Pass::forward ? make_epilogue(epilogue) : Epilogue{};
  const auto plan = created(p, device, applied, {});
  std::string lines;
  for (const std::string& name : plan->alternatives(pass))
    lines += name + "\t" + created(p, device, applied, name)->detail(pass) + "\n";
  return lines;
}

void prepare_alternative(const std::string& text, const std::string& pass_text, const std::string& device_text,
                         const std::string& alternative, const std::vector<double>& epilogue) {
  const Pass pass = parse_pass(pass_text);
  const jit::Quiet quiet;
  const auto plan = created(problem_of_text(text), parse_device(device_text),
                            pass == Pass::forward ? make_epilogue(epilogue) : Epilogue{}, alternative);
  if (Status s = plan->prepare(pass); !s.ok()) throw std::runtime_error(s.message());
}

std::string launch_text(const std::string& text, const std::string& pass_text, const std::string& device_text,
                        const std::vector<double>& epilogue, bool any_size) {
  const auto problem = parse_problem(text);
  if (!problem.ok()) throw std::runtime_error(problem.status().message());
  const Device device = parse_device(device_text);
  if (device.kind != Device::Kind::cuda_model)
    throw std::runtime_error("upconv: '" + device_text + "' is no model of a GPU");
  const auto e = export_pass(*problem, parse_pass(pass_text), device.index, make_epilogue(epilogue), any_size);
  if (!e.ok()) throw std::runtime_error(e.status().message());
  std::string all = e->candidate;
  const auto add = [&](const std::string& field) { all += "\x1e" + field; };
  add(e->detail), add(e->header), add(e->type), add(e->fields);
  for (const ExportedKernel& k : e->kernels) add(k.file), add(k.entry), add(k.preamble);
  return all;
}

namespace {

/// What an exported file's chain may count on: any batch, so not one sample alone, over which an operand without a
/// batch would lie as over its own size.
Problem of_any_batch(Problem problem) {
  problem.batch = std::max<std::int64_t>(problem.batch, 2);
  return problem;
}

/// A chain and its operands as a call would have them, `sizes` five numbers each.
Chain noted_chain(const Problem& problem, const std::vector<double>& numbers, const std::vector<std::int64_t>& sizes,
                  std::vector<Shape5>& shapes) {
  Chain chain = make_chain(numbers);
  std::vector<OperandTensor> operands(sizes.size() / 5);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::int64_t stride = 1;
    for (std::size_t d = 5; d-- > 0;) {
      operands[i].size[d] = sizes[5 * i + d];
      operands[i].stride[d] = stride;
      stride *= operands[i].size[d];
    }
    shapes.push_back(operands[i].size);
  }
  note_spreads(problem, chain, operands.data(), static_cast<int>(operands.size()));
  return chain;
}

std::string joined(const std::vector<std::string>& fields, const std::vector<ExportedKernel>& kernels) {
  std::string all;
  const auto add = [&](const std::string& field) { all += (all.empty() ? "" : "\x1e") + field; };
  for (const std::string& f : fields) add(f);
  for (const ExportedKernel& k : kernels) add(k.file), add(k.entry), add(k.preamble);
  return all;
}

}  // namespace

std::string chain_launch_text(const std::string& text, const std::string& device_text,
                              const std::vector<double>& numbers, const std::vector<std::int64_t>& sizes,
                              bool any_size) {
  const Problem p = problem_of_text(text);
  std::vector<Shape5> shapes;
  const Chain chain = noted_chain(of_any_batch(p), numbers, sizes, shapes);
  const auto e = export_pass(p, Pass::forward, parse_device(device_text).index, epilogue_of_layer(chain), any_size);
  if (!e.ok()) throw std::runtime_error(e.status().message());
  return joined({e->candidate, e->detail, e->header, e->type, e->fields}, e->kernels);
}

std::string chain_program_text(const std::string& text, const std::vector<double>& numbers,
                               const std::vector<std::int64_t>& sizes, std::int64_t wanted, std::int64_t purpose,
                               bool layer) {
  const Problem p = of_any_batch(problem_of_text(text));
  std::vector<Shape5> shapes;
  const Chain chain = noted_chain(p, numbers, sizes, shapes);
  const auto e =
      export_program(p, chain, shapes, static_cast<unsigned>(wanted), static_cast<ProgramPurpose>(purpose), layer);
  if (!e.ok()) throw std::runtime_error(e.status().message());
  return joined({e->text}, e->kernels);
}

std::string kernel_source(const std::string& name) {
  const std::string_view text = kernel_text(name);
  if (text.empty()) throw std::runtime_error("upconv: there is no kernels/" + name);
  return std::string(text);
}

void remember(const std::string& text, const std::string& pass_text, const std::string& device_text,
              const std::string& alternative, const std::vector<double>& epilogue) {
  const Pass pass = parse_pass(pass_text);
  const Device device = parse_device(device_text);
  const Problem p = problem_of_text(text);
  const Epilogue applied = pass == Pass::forward ? make_epilogue(epilogue) : Epilogue{};
  const std::string detail = created(p, device, applied, alternative)->detail(pass);
  if (device.kind != Device::Kind::cuda)
    throw std::runtime_error("upconv: only a GPU's choices can be remembered, not those of '" + device_text + "'");
  const auto target = cuda_target(device.index);
  if (!target.ok()) throw std::runtime_error(target.status().message());
  if (Status s = user_tuned_choices().remember(**target, p, pass, applied, {alternative, detail}); !s.ok())
    throw std::runtime_error(s.message());
  forget_plans();
}

std::int64_t forget_tuned() {
  const auto count = user_tuned_choices().forget();
  forget_plans();
  return static_cast<std::int64_t>(count);
}

}  // namespace upconv::binding
