// Layout of torch tensors: which are dense and how, what torch would choose for a result, allocation.
#include "operand.hpp"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <array>
#include <stdexcept>
#include <string>

#include "large_pages.hpp"

namespace upconv::binding {
namespace {

using torch::stable::Tensor;
constexpr int max_dims = max_rank + 2;

void require(AOTITorchError error, const char* what) {
  if (error != 0) throw std::runtime_error(std::string("upconv: torch could not ") + what);
}

/// Dimensions from the fastest-running to the slowest.
std::array<int, max_dims> memory_order(int dims, Layout layout) {
  std::array<int, max_dims> order{};
  if (dims == 1) return order;  // a bias
  int n = 0;
  if (layout == Layout::channels_last) order[n++] = 1;
  for (int d = dims - 1; d >= 2; --d) order[n++] = d;
  if (layout == Layout::channels_first) order[n++] = 1;
  order[n] = 0;
  return order;
}

bool is_dense(const std::int64_t* sizes, const std::int64_t* strides, int dims, Layout layout) {
  for (int d = 0; d < dims; ++d)
    if (sizes[d] == 0) return true;
  const auto order = memory_order(dims, layout);
  std::int64_t expected = 1;
  for (int i = 0; i < dims; ++i) {
    const int d = order[i];
    if (sizes[d] != 1 && strides[d] != expected) return false;
    expected *= sizes[d];
  }
  return true;
}

int32_t torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return aoti_torch_dtype_float32();
    case DType::f64:
      return aoti_torch_dtype_float64();
    case DType::f16:
      return aoti_torch_dtype_float16();
    case DType::bf16:
      return aoti_torch_dtype_bfloat16();
  }
  return aoti_torch_dtype_float32();
}

}  // namespace

Layout suggested_layout(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const int dims = static_cast<int>(sizes.size());
  if (dims < 4 || dims > max_dims || strides[1] == 0) return Layout::channels_first;
  // Strides must grow in the order C, W, H, (D,) N, each at least what the dimensions before it span.
  const auto order = memory_order(dims, Layout::channels_last);
  std::int64_t span = 0;
  for (int i = 0; i < dims; ++i) {
    const int d = order[i];
    if (sizes[d] == 0 || strides[d] < span) return Layout::channels_first;
    // One channel and one pixel: both layouts fit, and torch then says channels first.
    if (d == 0 && span == strides[1]) return Layout::channels_first;
    span = strides[d] * (sizes[d] > 1 ? sizes[d] : 1);
  }
  return Layout::channels_last;
}

Operand dense(const Tensor& tensor, Layout preferred) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const int dims = static_cast<int>(sizes.size());
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  if (address % tensor.element_size() == 0) {
    if (is_dense(sizes.data(), strides.data(), dims, preferred)) return {tensor, preferred};
    const Layout other = preferred == Layout::channels_first ? Layout::channels_last : Layout::channels_first;
    if (dims > 3 && is_dense(sizes.data(), strides.data(), dims, other)) return {tensor, other};
  }
  Tensor copy =
      allocate(sizes.data(), dims, preferred, dtype_of("conv_transpose", "tensor", tensor), device_of(tensor));
  require(aoti_torch_copy_(copy.get(), tensor.get(), 0), "copy a tensor");
  return {copy, preferred};
}

Device device_of(const Tensor& tensor) {
  int32_t type = 0, index = 0;
  require(aoti_torch_get_device_type(tensor.get(), &type), "tell a device");
  if (type == aoti_torch_device_type_cpu()) return Device::cpu();
  if (type != aoti_torch_device_type_cuda())
    throw std::runtime_error("upconv: tensors must be on the CPU or on a CUDA device, but one is on device type " +
                             std::to_string(type));
  require(aoti_torch_get_device_index(tensor.get(), &index), "tell a device index");
  return Device::cuda(index);
}

Tensor allocate(const std::int64_t* sizes, int dims, Layout layout, DType dtype, Device device) {
  std::array<std::int64_t, max_dims> strides{};
  const auto order = memory_order(dims, layout);
  std::int64_t stride = 1;
  for (int i = 0; i < dims; ++i) {
    strides[order[i]] = stride;
    stride *= sizes[order[i]] > 1 ? sizes[order[i]] : 1;
  }
  AtenTensorHandle handle = nullptr;
  const bool cpu = device.kind == Device::Kind::cpu;
  require(aoti_torch_empty_strided(dims, sizes, strides.data(), torch_dtype(dtype),
                                   cpu ? aoti_torch_device_type_cpu() : aoti_torch_device_type_cuda(), device.index,
                                   &handle),
          "allocate a tensor");
  const Tensor tensor(handle);
  if (cpu) prefer_large_pages(tensor.mutable_data_ptr(), static_cast<std::size_t>(tensor.numel() * size_of(dtype)));
  return tensor;
}

DType dtype_of(const char* operator_name, const char* tensor_name, const Tensor& tensor) {
  int32_t type = 0;
  require(aoti_torch_get_dtype(tensor.get(), &type), "tell a dtype");
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    if (type == torch_dtype(t)) return t;
  throw std::runtime_error(std::string(operator_name) + ": expected " + tensor_name +
                           " of dtype float32, float64, float16 or bfloat16, but got dtype number " +
                           std::to_string(type) + " of torch.ScalarType");
}

}  // namespace upconv::binding
