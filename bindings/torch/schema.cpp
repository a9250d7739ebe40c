// The upconv:: operators' schemas and their registration with torch's dispatcher (LibTorch stable ABI).
// torch.ops.load_library runs this; python/upconv/_ops.py is the caller.
#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "cpu/fma_peak.hpp"
#include "operators.hpp"
#include "upconv/plan.hpp"
#include "upconv/version.hpp"

namespace upconv::binding {
namespace {

#define UPCONV_GEOMETRY "SymInt[] stride, SymInt[] padding, SymInt[] output_padding, SymInt[] dilation, SymInt groups"

constexpr const char* schemas[] = {
    "conv_transpose(Tensor x, Tensor w, Tensor? b, " UPCONV_GEOMETRY ") -> Tensor",
    "conv_transpose_epilogue(Tensor x, Tensor w, Tensor? b, " UPCONV_GEOMETRY ", float[] epilogue) -> Tensor",
    "conv_transpose_backward_input(Tensor dy, Tensor w, SymInt[] input_size, " UPCONV_GEOMETRY ") -> Tensor",
    "conv_transpose_backward_weight(Tensor x, Tensor dy, SymInt[] weight_size, " UPCONV_GEOMETRY ") -> Tensor",
    "conv_transpose_backward_bias(Tensor dy) -> Tensor",
    "_forward(Tensor x, Tensor w, Tensor? b, int[] geometry) -> Tensor",
    "_forward_epilogue(Tensor x, Tensor w, Tensor? b, int[] geometry, float[] epilogue) -> Tensor",
    "_backward(Tensor dy, Tensor x, Tensor w, int[] geometry, bool dx, bool dw, bool db) -> (Tensor, Tensor, Tensor)",
    "explain(str problem) -> str",
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
  if (!problem.ok()) throw std::runtime_error("explain: " + problem.status().message());
  const auto plan = Plan::create(*problem);
  if (!plan.ok()) throw std::runtime_error(plan.status().message());
  stack[0] = torch::stable::detail::from<std::string>((*plan)->explain());
}

std::string version() { return UPCONV_VERSION; }

/// What `upconv bench` divides by; see src/cpu/fma_peak.hpp.
double fma_peak(double seconds) { return cpu::fma_peak(seconds); }

[[noreturn]] void no_cuda(StableIValue*, std::uint64_t, std::uint64_t) {
  throw std::runtime_error("upconv " UPCONV_VERSION
                           " has no CUDA engine yet: move the tensors to the CPU, or keep "
                           "torch.nn.functional.conv_transpose for CUDA tensors");
}

}  // namespace
}  // namespace upconv::binding

STABLE_TORCH_LIBRARY(upconv, m) {
  for (const char* schema : upconv::binding::schemas) m.def(schema);
}

STABLE_TORCH_LIBRARY_IMPL(upconv, CPU, m) {
  m.impl("conv_transpose", TORCH_BOX(&upconv::binding::conv_transpose));
  m.impl("conv_transpose_epilogue", TORCH_BOX(&upconv::binding::conv_transpose_epilogue));
  m.impl("conv_transpose_backward_input", TORCH_BOX(&upconv::binding::conv_transpose_backward_input));
  m.impl("conv_transpose_backward_weight", TORCH_BOX(&upconv::binding::conv_transpose_backward_weight));
  m.impl("conv_transpose_backward_bias", TORCH_BOX(&upconv::binding::conv_transpose_backward_bias));
  m.impl("_forward", TORCH_BOX(&upconv::binding::forward_packed));
  m.impl("_forward_epilogue", TORCH_BOX(&upconv::binding::forward_epilogue_packed));
  m.impl("_backward", TORCH_BOX(&upconv::binding::backward_packed));
}

STABLE_TORCH_LIBRARY_IMPL(upconv, CUDA, m) {
  for (const char* name :
       {"conv_transpose", "conv_transpose_epilogue", "conv_transpose_backward_input", "conv_transpose_backward_weight",
        "conv_transpose_backward_bias", "_forward", "_forward_epilogue", "_backward"})
    m.impl(name, &upconv::binding::no_cuda);
}

STABLE_TORCH_LIBRARY_IMPL(upconv, CompositeExplicitAutograd, m) {
  m.impl("explain", &upconv::binding::explain);
  m.impl("version", TORCH_BOX(&upconv::binding::version));
  m.impl("_fma_peak", TORCH_BOX(&upconv::binding::fma_peak));
}
