// See arguments.hpp.
#include "arguments.hpp"

#include <stdexcept>
#include <string>

#include "operand.hpp"

namespace upconv::binding {
namespace {

using torch::stable::Tensor;

std::string list(Sizes sizes) {
  std::string s = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) s += (i ? ", " : "") + std::to_string(sizes[i]);
  return s + "]";
}

std::string name(int rank) { return "conv_transpose" + std::to_string(rank) + "d"; }

[[noreturn]] void fail(int rank, const std::string& rule) { throw std::runtime_error(name(rank) + ": " + rule); }

/// `e` holds what Problem gives to dimensions that there are none of.
Extent extent(int rank, const char* what, Sizes values, Extent e) {
  if (values.size() != 1 && values.size() != static_cast<std::size_t>(rank))
    fail(rank, std::string("expected ") + what + " to be a single integer value or a list of " + std::to_string(rank) +
                   " values to match the convolution dimensions, but got " + what + "=" + list(values));
  for (int d = 0; d < rank; ++d) e[d] = values.size() == 1 ? values[0] : values[d];
  return e;
}

}  // namespace

Sizes sizes_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.data(), sizes.size()};
}

Problem make_problem(Sizes x, Sizes w, const Hyperparameters& h, DType dtype) {
  Problem p;
  p.rank = static_cast<int>(w.size()) - 2;
  if (p.rank < 1 || p.rank > max_rank)
    throw std::runtime_error(
        "conv_transpose: expected a weight of 3, 4 or 5 dimensions (in_channels, "
        "out_channels/groups, *kernel), but got weight of size " +
        list(w));
  if (x.size() != w.size())
    fail(p.rank, "expected a " + std::to_string(w.size()) +
                     "D input (batch, in_channels, *spatial) for a weight of size " + list(w) +
                     ", but got input of size " + list(x));
  if (h.groups <= 0) fail(p.rank, "non-positive groups is not supported, but got groups=" + std::to_string(h.groups));
  if (w[0] % h.groups != 0)
    fail(p.rank, "given groups=" + std::to_string(h.groups) + ", expected weight to be divisible by " +
                     std::to_string(h.groups) + " at dimension 0, but got weight of size " + list(w));
  if (x[1] != w[0])
    fail(p.rank, "given weight of size " + list(w) + ", expected input " + list(x) + " to have " +
                     std::to_string(w[0]) + " channels, but got " + std::to_string(x[1]) + " channels instead");
  p.batch = x[0];
  p.in_channels = w[0];
  if (__builtin_mul_overflow(w[1], h.groups, &p.out_channels))
    fail(p.rank, "groups=" + std::to_string(h.groups) + " times weight of size " + list(w) + " does not fit 64 bits");
  p.groups = h.groups;
  for (int d = 0; d < p.rank; ++d) {
    p.input[d] = x[d + 2];
    p.kernel[d] = w[d + 2];
  }
  p.stride = extent(p.rank, "stride", h.stride, p.stride);
  p.padding = extent(p.rank, "padding", h.padding, p.padding);
  p.output_padding = extent(p.rank, "output_padding", h.output_padding, p.output_padding);
  p.dilation = extent(p.rank, "dilation", h.dilation, p.dilation);
  p.dtype = dtype;
  return p;
}

DType common_dtype(int rank, const Tensor& first, const char* first_name, const Tensor& second,
                   const char* second_name) {
  const std::string op = name(rank);
  const DType a = dtype_of(op.c_str(), first_name, first), b = dtype_of(op.c_str(), second_name, second);
  if (a != b)
    fail(rank, std::string(first_name) + " type (" + std::string(to_string(a)) + ") and " + second_name + " type (" +
                   std::string(to_string(b)) + ") should be the same");
  return a;
}

namespace {

std::string text(Device device) {
  return device.kind == Device::Kind::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace

Device common_device(int rank, const Tensor& first, const char* first_name, const Tensor& second,
                     const char* second_name) {
  const Device a = device_of(first), b = device_of(second);
  if (!(a == b))
    fail(rank, std::string("expected all tensors to be on the same device, but ") + first_name + " is on " + text(a) +
                   " and " + second_name + " is on " + text(b));
  return a;
}

/// Whether torch, where it permits TF32, computes in it. With groups cuDNN 9.19 has forward kernels of both kinds
/// (H200; tools/torch_precision.py shows which): IEEE for KernelBench L1/72 and L1/75, which have strides and
/// dilations, TF32 for 64 -> 64 channels in 8 groups, kernel 3, stride 1. What was not seen is taken for IEEE, so that
/// nothing becomes less exact than torch is.
bool torch_takes_tf32(const Problem& p, Pass pass) {
  if (pass != Pass::forward || p.groups == 1) return true;
  for (int d = 0; d < p.rank; ++d)
    if (p.stride[d] != 1 || p.dilation[d] != 1) return false;
  return p.in_channels / p.groups >= 8 && p.out_channels / p.groups >= 8;
}

Precision precision_of(std::int64_t code, const Problem& p, Pass pass, Device device) {
  if (code < 0 || code > 3)
    fail(p.rank, "no precision has the number " + std::to_string(code) + "; there are 0 (ieee) to 3 (torch)");
  if (p.dtype != DType::f32 || device.kind == Device::Kind::cpu || pass == Pass::backward_bias) return Precision::ieee;
  if (code < 3) return static_cast<Precision>(code);
  return torch_takes_tf32(p, pass) ? Precision::tf32 : Precision::bf16x3;
}

void check_bias(const Problem& p, const Tensor& b) {
  const DType t = dtype_of("conv_transpose", "bias", b);
  if (t != p.dtype)
    fail(p.rank, "input type (" + std::string(to_string(p.dtype)) + ") and bias type (" + std::string(to_string(t)) +
                     ") should be the same");
  const Sizes sizes = sizes_of(b);
  if (sizes.size() != 1 || sizes[0] != p.out_channels)
    fail(p.rank, "expected bias to be 1-dimensional with " + std::to_string(p.out_channels) +
                     " elements, but got bias of size " + list(sizes));
}

void check_output_gradient(const Problem& p, Sizes dy) {
  const Extent out = output_size(p);
  bool same = dy.size() == static_cast<std::size_t>(p.rank) + 2 && dy[0] == p.batch && dy[1] == p.out_channels;
  for (int d = 0; same && d < p.rank; ++d) same = dy[d + 2] == out[d];
  if (same) return;
  std::vector<std::int64_t> expected{p.batch, p.out_channels};
  expected.insert(expected.end(), out.begin(), out.begin() + p.rank);
  fail(p.rank, "expected the gradient of the output to have size " + list(expected) + ", but got " + list(dy));
}

}  // namespace upconv::binding
