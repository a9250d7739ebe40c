// The running averages of a batch norm on both engines.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>

#include "cuda/element.hpp"
#include "jit/kernel.hpp"
#include "upconv/chain.hpp"

namespace upconv {
namespace {

template <class T>
void update(const RunningArgs& a) {
  const double before = static_cast<double>((*a.batches)++);
  const double share = a.momentum >= 0.0 ? a.momentum : 1.0 / (before + 1.0);
  const double correction = double(a.count) / double(std::max<std::int64_t>(a.count - 1, 1));
  T *mean = static_cast<T*>(a.mean), *variance = static_cast<T*>(a.variance);
  for (std::int64_t c = 0; c < a.channels; ++c) {
    mean[c] = T(double(mean[c]) + share * (a.statistics[c] - double(mean[c])));
    variance[c] = T(double(variance[c]) + share * (a.statistics[a.channels + c] * correction - double(variance[c])));
  }
}

const jit::Kernel& kernel_of(DType dtype) {
  static const auto made = [] {
    std::array<std::unique_ptr<jit::Kernel>, 4> all;
    for (int i = 0; i < 4; ++i)
      all[i] = std::make_unique<jit::Kernel>(
          jit::Program{"closing/running.cuh", "closing_running",
                       std::string("#include \"types.cuh\"\nnamespace config {\ntypedef ") +
                           cuda::device_type(static_cast<DType>(i)) + " Element;\n}\n"});
    return new std::array<std::unique_ptr<jit::Kernel>, 4>(std::move(all));
  }();
  return *(*made)[static_cast<std::size_t>(dtype)];
}

}  // namespace

Status update_running(Device device, const RunningArgs& a, const Launch& launch) {
  if (device.kind == Device::Kind::cpu) {
    if (a.dtype == DType::f32) return update<float>(a), Status{};
    if (a.dtype == DType::f64) return update<double>(a), Status{};
    return unsupported("batch norm: running averages of " + std::string(to_string(a.dtype)) +
                       " are known on CUDA alone");
  }
  if (device.kind != Device::Kind::cuda) return unsupported("batch norm: a model of a GPU cannot run");
  double momentum = a.momentum;
  double correction = double(a.count) / double(std::max<std::int64_t>(a.count - 1, 1));
  int channels = static_cast<int>(a.channels);
  const void* statistics = a.statistics;
  void *mean = a.mean, *variance = a.variance, *batches = a.batches;
  void* list[] = {&statistics, &mean, &variance, &batches, &momentum, &correction, &channels};
  return kernel_of(a.dtype).launch(device.index, launch.stream, {{1}, {256}, 0}, list);
}

}  // namespace upconv
