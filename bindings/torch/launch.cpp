// See launch.hpp.
#include "launch.hpp"

#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "operand.hpp"
#include "torch_executor.hpp"

namespace upconv::binding {
namespace {

using torch::stable::Tensor;

void check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

/// The 64-byte aligned part of fresh memory of `bytes` bytes. On a GPU all of it: memory there comes in blocks that are
/// aligned, and of 512 bytes, of which a spare byte would cost another.
struct Workspace {
  Workspace(std::size_t bytes, Device device) : memory(reserve(bytes, device)) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.mutable_data_ptr());
    begin = reinterpret_cast<void*>((address + 63) & ~std::uintptr_t{63});
    if (device.kind != Device::Kind::cpu && address % 64 != 0)
      throw std::runtime_error("upconv: torch gave memory of the GPU that is not aligned to 64 bytes");
  }
  static Tensor reserve(std::size_t bytes, Device device) {
    const std::size_t spare = device.kind == Device::Kind::cpu ? 64 : 0;
    const std::array<std::int64_t, 1> words{static_cast<std::int64_t>((bytes + spare + 7) / 8)};
    return allocate(words.data(), 1, Layout::channels_first, DType::f64, device);
  }
  Tensor memory;
  void* begin;
};

/// torch's current stream of a CUDA device. Found by name: this module is the same file for CPU builds of torch.
void* current_stream(int device) {
  using Getter = int32_t (*)(int32_t, void**);
  static const Getter getter = [] {
    const char* name = "aoti_torch_get_current_cuda_stream";
    void* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<Getter>(dlsym(library ? library : RTLD_DEFAULT, name));
  }();
  void* stream = nullptr;
  if (!getter || getter(device, &stream) != 0)
    throw std::runtime_error("upconv: this torch does not tell its current CUDA stream");
  return stream;
}

/// `bytes(workers)` is the workspace that `run` needs.
template <class F>
void launch_with(Device device, F&& bytes_for, const std::function<Status(const Launch&)>& run) {
  if (device.kind != Device::Kind::cpu) {
    Launch l{.stream = current_stream(device.index)};
    const std::size_t bytes = bytes_for(1);
    if (bytes == 0) return check(run(l));
    const Workspace workspace(bytes, device);  // freed in stream order, after the kernels that use it
    l.workspace = workspace.begin;
    l.workspace_bytes = bytes;
    return check(run(l));
  }
  TorchExecutor executor;
  const std::size_t bytes = bytes_for(executor.workers());
  alignas(64) std::array<std::byte, 8192> stack;  // a tiny call should not pay for an allocation
  if (bytes <= stack.size()) return check(run({stack.data(), stack.size(), &executor}));
  const Workspace workspace(bytes, device);
  check(run({workspace.begin, bytes, &executor}));
}

}  // namespace

void launch(const Plan& plan, Pass pass, Device device, const std::function<Status(const Launch&)>& run) {
  launch_with(
      device, [&](int workers) { return plan.workspace_bytes(pass, workers); }, run);
}

void launch(Device device, const std::function<Status(const Launch&)>& run) {
  launch_with(
      device, [](int) { return std::size_t{0}; }, run);
}

void launch(std::size_t bytes, Device device, const std::function<Status(const Launch&)>& run) {
  launch_with(
      device, [&](int) { return bytes; }, run);
}

void launch(const ChainPlan& plan, Device device, const std::function<Status(const Launch&)>& run) {
  launch_with(
      device, [&](int workers) { return plan.workspace_bytes(workers); }, run);
}

}  // namespace upconv::binding
