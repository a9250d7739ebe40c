// The sums over x that a mean of a transposed convolution needs, on CUDA: a kernel for every layer's dimension.
#include "launch/tap_sums.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "cuda/element.hpp"
#include "jit/kernel.hpp"
#include "plan/target.hpp"
#include "upconv/chain.hpp"

namespace upconv {
namespace {

/// Kernels are few: as many as layers whose mean is taken.
const jit::Kernel& kernel_of(const TapSumsArgs& a) {
  static std::mutex mutex;
  static auto* kernels =
      new std::map<std::tuple<DType, std::int64_t, std::int64_t, std::int64_t, std::int64_t>, jit::Kernel>;
  const std::lock_guard lock(mutex);
  const std::tuple key(a.dtype, a.taps, a.stride, a.padding, a.dilation);
  const auto found = kernels->find(key);
  if (found != kernels->end()) return found->second;
  std::string text = "#include \"types.cuh\"\nnamespace config {\ntypedef ";
  text += std::string(cuda::device_type(a.dtype)) + " Element;\n";
  for (const auto& [name, value] :
       {std::pair{"TAPS", a.taps}, {"STRIDE", a.stride}, {"PADDING", a.padding}, {"DILATION", a.dilation}})
    text += std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
  return kernels->try_emplace(key, jit::Program{"tap_sums.cuh", "tap_sums", text + "}\n"}).first->second;
}

}  // namespace

Status tap_sums(Device device, const TapSumsArgs& a, const Launch& launch) {
  if (device.kind != Device::Kind::cuda) return unsupported("sums by tap are known on CUDA alone");
  if (a.dtype == DType::f64) return unsupported("sums by tap of float64");
  const auto target = cuda_target(device.index);
  if (!target.ok()) return target.status();
  const std::int64_t blocks = launch::tap_sums_blocks(false, a.outer, a.length, a.inner, (*target)->processors);
  if (blocks == 0) return {};
  const void* x = a.x;
  void* sums = a.sums;
  std::int64_t outer = a.outer, length = a.length, inner = a.inner, size = a.size;
  float scale = a.scale;
  void* list[] = {&x, &sums, &outer, &length, &inner, &size, &scale};
  return kernel_of(a).launch(device.index, launch.stream,
                             {{static_cast<unsigned>(blocks)}, {launch::tap_sums_threads}, 0}, list);
}

}  // namespace upconv
