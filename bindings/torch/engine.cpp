// See engine.hpp.
#include "engine.hpp"

#include <stdexcept>

#include "arguments.hpp"
#include "jit/cache.hpp"
#include "jit/notice.hpp"
#include "jit/report.hpp"
#include "plan/launch_export.hpp"
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

void prepare(const std::string& text, const std::string& pass_text, const std::string& device_text,
             std::int64_t precision, const std::vector<double>& epilogue) {
  const auto parsed = parse_problem(text);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  const Pass pass = parse_pass(pass_text);
  const Device device = parse_device(device_text);
  Problem p = *parsed;
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  if (precision >= 0) p.precision = precision_of(precision, p, pass, device);
  if (device.kind == Device::Kind::cpu) p.precision = Precision::ieee;
  const jit::Quiet quiet;  // the caller shows progress
  const auto plan =
      plan_for(problem_of_pass(p, pass), pass == Pass::forward ? make_epilogue(epilogue) : Epilogue{}, device);
  if (Status s = plan->prepare(pass); !s.ok()) throw std::runtime_error(s.message());
}

std::string launch_text(const std::string& text, const std::string& pass_text, const std::string& device_text,
                        const std::vector<double>& epilogue) {
  const auto problem = parse_problem(text);
  if (!problem.ok()) throw std::runtime_error(problem.status().message());
  const Device device = parse_device(device_text);
  if (device.kind != Device::Kind::cuda_model)
    throw std::runtime_error("upconv: '" + device_text + "' is no model of a GPU");
  const auto e = export_pass(*problem, parse_pass(pass_text), device.index, make_epilogue(epilogue));
  if (!e.ok()) throw std::runtime_error(e.status().message());
  std::string all = e->candidate;
  const auto add = [&](const std::string& field) { all += "\x1e" + field; };
  add(e->detail), add(e->header), add(e->type), add(e->fields);
  for (const ExportedKernel& k : e->kernels) add(k.file), add(k.entry), add(k.preamble);
  return all;
}

std::string activation_text(const std::vector<double>& epilogue) {
  return activation_preamble(make_epilogue(epilogue));
}

std::string kernel_source(const std::string& name) {
  const std::string_view text = kernel_text(name);
  if (text.empty()) throw std::runtime_error("upconv: there is no kernels/" + name);
  return std::string(text);
}

}  // namespace upconv::binding
