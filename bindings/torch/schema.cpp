// The upconv:: operators' schemas and their registration with torch's dispatcher (LibTorch stable ABI).
// torch.ops.load_library runs this; python/upconv/_ops.py is the caller.
#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "chain.hpp"
#include "cpu/fma_peak.hpp"
#include "engine.hpp"
#include "operators.hpp"
#include "single_pass.hpp"
#include "upconv/plan.hpp"
#include "upconv/version.hpp"

namespace upconv::binding {
namespace {

#define UPCONV_GEOMETRY "SymInt[] stride, SymInt[] padding, SymInt[] output_padding, SymInt[] dilation, SymInt groups"

constexpr const char* schemas[] = {
    "conv_transpose(Tensor x, Tensor w, Tensor? b, " UPCONV_GEOMETRY ", int precision=0) -> Tensor",
    "conv_transpose_epilogue(Tensor x, Tensor w, Tensor? b, " UPCONV_GEOMETRY
    ", float[] epilogue, int precision=0) -> Tensor",
    "conv_transpose_backward_input(Tensor dy, Tensor w, SymInt[] input_size, " UPCONV_GEOMETRY
    ", int precision=0) -> Tensor",
    "conv_transpose_backward_weight(Tensor x, Tensor dy, SymInt[] weight_size, " UPCONV_GEOMETRY
    ", int precision=0) -> Tensor",
    "conv_transpose_backward_bias(Tensor dy) -> Tensor",
    "_forward(Tensor x, Tensor w, Tensor? b, int[] geometry) -> Tensor",
    "_forward_epilogue(Tensor x, Tensor w, Tensor? b, int[] geometry, float[] epilogue) -> Tensor",
    "_backward(Tensor dy, Tensor x, Tensor w, int[] geometry, bool dx, bool dw, bool db) -> (Tensor, Tensor, Tensor)",
    "_chain(Tensor x, Tensor w, Tensor? b, Tensor[] operands, int[] geometry, float[] numbers) -> (Tensor, Tensor)",
    "_chain_training(Tensor x, Tensor w, Tensor? b, Tensor[] operands, int[] geometry, float[] numbers, int wanted) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    "_chain_gradient(Tensor dy, Tensor x, Tensor w, bool bias, Tensor z, Tensor saved, Tensor[] operands, "
    "int[] geometry, float[] numbers, int wanted) -> (Tensor, Tensor, Tensor[])",
    "_update_running(Tensor statistics, Tensor(a!) mean, Tensor(b!) variance, Tensor(c!) batches, float momentum, int "
    "count) -> ()",
    "_tap_sums(Tensor x, int dim, int taps, int stride, int padding, int dilation, int size, float scale) -> Tensor",
    "_explain_chain(str problem, str device, float[] numbers) -> str",
    "explain(str problem, str device='cpu') -> str",
    "_run(str problem, str pass_, str only, Tensor a, Tensor b, Tensor? bias, float[] epilogue) -> Tensor",
    "_engine_report() -> str",
    "_kernel_cache(str action) -> str",
    "_prepare(str problem, str pass_, str device, int precision, float[] epilogue) -> ()",
    "_launch_text(str problem, str pass_, str device, float[] epilogue, bool any_size) -> str",
    "_chain_launch_text(str problem, str device, float[] numbers, int[] sizes, bool any_size) -> str",
    "_chain_program_text(str problem, float[] numbers, int[] sizes, int wanted, int purpose, bool layer) -> str",
    "_kernel_source(str name) -> str",
    "_pass_problem(str problem, str pass_, str device, int precision) -> str",
    "_alternatives(str problem, str pass_, str device, float[] epilogue) -> str",
    "_prepare_alternative(str problem, str pass_, str device, str alternative, float[] epilogue) -> ()",
    "_remember(str problem, str pass_, str device, str alternative, float[] epilogue) -> ()",
    "_forget_tuned() -> int",
    "version() -> str",
    "_fma_peak(float seconds) -> float",
};

/// A str argument. (The header-only conversion of the stable ABI leaks its copy.)
std::string take_string(StableIValue value) {
  const auto handle = torch::stable::detail::to<StringHandle>(value);
  std::size_t length = 0;
  const char* data = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
  TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &data));
  std::string text(data, length);
  TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
  return text;
}

void explain(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const auto problem = parse_problem(take_string(stack[0]));
  const std::string device = take_string(stack[1]);
  if (!problem.ok()) throw std::runtime_error("explain: " + problem.status().message());
  const auto plan = Plan::create(*problem, parse_device(device));
  if (!plan.ok()) throw std::runtime_error(plan.status().message());
  stack[0] = torch::stable::detail::from<std::string>((*plan)->explain());
}

/// Boxed by hand for its str arguments.
void run_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::to;
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), only = take_string(stack[2]);
  const auto a = to<Tensor>(stack[3]), b = to<Tensor>(stack[4]);
  const auto bias = to<std::optional<Tensor>>(stack[5]);
  const auto epilogue = to<std::vector<double>>(stack[6]);
  stack[0] = torch::stable::detail::from(run_single(problem, pass, only, a, b, bias, epilogue));
}

void kernel_cache_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = torch::stable::detail::from<std::string>(kernel_cache(take_string(stack[0])));
}

void prepare_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::to;
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), device = take_string(stack[2]);
  const auto epilogue = to<std::vector<double>>(stack[4]);
  prepare(problem, pass, device, to<std::int64_t>(stack[3]), epilogue);
}

void explain_chain_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::to;
  const std::string problem = take_string(stack[0]), device = take_string(stack[1]);
  const auto numbers = to<std::vector<double>>(stack[2]);
  stack[0] = torch::stable::detail::from<std::string>(explain_chain(problem, device, numbers));
}

void launch_text_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), device = take_string(stack[2]);
  const auto epilogue = torch::stable::detail::to<std::vector<double>>(stack[3]);
  const bool any_size = torch::stable::detail::to<bool>(stack[4]);
  stack[0] = torch::stable::detail::from<std::string>(launch_text(problem, pass, device, epilogue, any_size));
}

void chain_launch_text_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::to;
  const std::string problem = take_string(stack[0]), device = take_string(stack[1]);
  const auto numbers = to<std::vector<double>>(stack[2]);
  const auto sizes = to<std::vector<std::int64_t>>(stack[3]);
  const bool any_size = to<bool>(stack[4]);
  stack[0] = torch::stable::detail::from<std::string>(chain_launch_text(problem, device, numbers, sizes, any_size));
}

void chain_program_text_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::to;
  const std::string problem = take_string(stack[0]);
  const auto numbers = to<std::vector<double>>(stack[1]);
  const auto sizes = to<std::vector<std::int64_t>>(stack[2]);
  const auto wanted = to<std::int64_t>(stack[3]), purpose = to<std::int64_t>(stack[4]);
  const bool layer = to<bool>(stack[5]);
  stack[0] =
      torch::stable::detail::from<std::string>(chain_program_text(problem, numbers, sizes, wanted, purpose, layer));
}

void kernel_source_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = torch::stable::detail::from<std::string>(kernel_source(take_string(stack[0])));
}

void pass_problem_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), device = take_string(stack[2]);
  const auto precision = torch::stable::detail::to<std::int64_t>(stack[3]);
  stack[0] = torch::stable::detail::from<std::string>(pass_problem(problem, pass, device, precision));
}

void alternatives_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), device = take_string(stack[2]);
  const auto epilogue = torch::stable::detail::to<std::vector<double>>(stack[3]);
  stack[0] = torch::stable::detail::from<std::string>(alternatives(problem, pass, device, epilogue));
}

template <auto function>
void alternative_boxed(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const std::string problem = take_string(stack[0]), pass = take_string(stack[1]), device = take_string(stack[2]),
                    alternative = take_string(stack[3]);
  function(problem, pass, device, alternative, torch::stable::detail::to<std::vector<double>>(stack[4]));
}

std::string version() { return UPCONV_VERSION; }

/// What `upconv bench` divides by; see src/cpu/fma_peak.hpp.
double fma_peak(double seconds) { return cpu::fma_peak(seconds); }

}  // namespace
}  // namespace upconv::binding

STABLE_TORCH_LIBRARY(upconv, m) {
  for (const char* schema : upconv::binding::schemas) m.def(schema);
}

/// The same functions serve both devices: they ask the tensors where they lie.
#define UPCONV_IMPLEMENTATIONS(m)                                                                        \
  m.impl("conv_transpose", TORCH_BOX(&upconv::binding::conv_transpose));                                 \
  m.impl("conv_transpose_epilogue", TORCH_BOX(&upconv::binding::conv_transpose_epilogue));               \
  m.impl("conv_transpose_backward_input", TORCH_BOX(&upconv::binding::conv_transpose_backward_input));   \
  m.impl("conv_transpose_backward_weight", TORCH_BOX(&upconv::binding::conv_transpose_backward_weight)); \
  m.impl("conv_transpose_backward_bias", TORCH_BOX(&upconv::binding::conv_transpose_backward_bias));     \
  m.impl("_forward", TORCH_BOX(&upconv::binding::forward_packed));                                       \
  m.impl("_forward_epilogue", TORCH_BOX(&upconv::binding::forward_epilogue_packed));                     \
  m.impl("_backward", TORCH_BOX(&upconv::binding::backward_packed));                                     \
  m.impl("_chain", TORCH_BOX(&upconv::binding::chain));                                                  \
  m.impl("_chain_training", TORCH_BOX(&upconv::binding::chain_training));                                \
  m.impl("_chain_gradient", TORCH_BOX(&upconv::binding::chain_gradient));                                \
  m.impl("_update_running", TORCH_BOX(&upconv::binding::update_running));                                \
  m.impl("_tap_sums", TORCH_BOX(&upconv::binding::tap_sums));                                            \
  m.impl("_run", &upconv::binding::run_boxed)

STABLE_TORCH_LIBRARY_IMPL(upconv, CPU, m) { UPCONV_IMPLEMENTATIONS(m); }
STABLE_TORCH_LIBRARY_IMPL(upconv, CUDA, m) { UPCONV_IMPLEMENTATIONS(m); }

STABLE_TORCH_LIBRARY_IMPL(upconv, CompositeExplicitAutograd, m) {
  m.impl("explain", &upconv::binding::explain);
  m.impl("_explain_chain", &upconv::binding::explain_chain_boxed);
  m.impl("_engine_report", TORCH_BOX(&upconv::binding::engine_report));
  m.impl("_kernel_cache", &upconv::binding::kernel_cache_boxed);
  m.impl("_prepare", &upconv::binding::prepare_boxed);
  m.impl("_launch_text", &upconv::binding::launch_text_boxed);
  m.impl("_chain_launch_text", &upconv::binding::chain_launch_text_boxed);
  m.impl("_chain_program_text", &upconv::binding::chain_program_text_boxed);
  m.impl("_kernel_source", &upconv::binding::kernel_source_boxed);
  m.impl("_pass_problem", &upconv::binding::pass_problem_boxed);
  m.impl("_alternatives", &upconv::binding::alternatives_boxed);
  m.impl("_prepare_alternative", &upconv::binding::alternative_boxed<upconv::binding::prepare_alternative>);
  m.impl("_remember", &upconv::binding::alternative_boxed<upconv::binding::remember>);
  m.impl("_forget_tuned", TORCH_BOX(&upconv::binding::forget_tuned));
  m.impl("version", TORCH_BOX(&upconv::binding::version));
  m.impl("_fma_peak", TORCH_BOX(&upconv::binding::fma_peak));
}
