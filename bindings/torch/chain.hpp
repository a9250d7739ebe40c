// The operator upconv::_chain: a convolution with what surrounds it in one call. Registered in schema.cpp;
// python/upconv/_fused_chain.py is the caller, python/upconv/_chain.py writes the numbers.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "upconv/chain.hpp"

namespace upconv::binding {

/// y of w.dim() dimensions (reduced ones have size 1), and the batch norm's mean and biased variance as float64
/// (2, channels), empty where there is none. Operands have 0 dimensions, 1 (channels) or w.dim().
std::tuple<torch::stable::Tensor, torch::stable::Tensor> chain(const torch::stable::Tensor& x,
                                                               const torch::stable::Tensor& w,
                                                               const std::optional<torch::stable::Tensor>& b,
                                                               const std::vector<torch::stable::Tensor>& operands,
                                                               const std::vector<std::int64_t>& geometry,
                                                               const std::vector<double>& numbers);

/// The same where gradients are wanted, `wanted` a bit for each operand whose is: also the layer's own result z and
/// what norms and maxima keep.
std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor> chain_training(
    const torch::stable::Tensor& x, const torch::stable::Tensor& w, const std::optional<torch::stable::Tensor>& b,
    const std::vector<torch::stable::Tensor>& operands, const std::vector<std::int64_t>& geometry,
    const std::vector<double>& numbers, std::int64_t wanted);

/// dz, the bias's gradient and those of the wanted operands, from that of the result; the others are empty.
std::tuple<torch::stable::Tensor, torch::stable::Tensor, std::vector<torch::stable::Tensor>> chain_gradient(
    const torch::stable::Tensor& dy, const torch::stable::Tensor& x, const torch::stable::Tensor& w, bool bias,
    const torch::stable::Tensor& z, const torch::stable::Tensor& saved,
    const std::vector<torch::stable::Tensor>& operands, const std::vector<std::int64_t>& geometry,
    const std::vector<double>& numbers, std::int64_t wanted);

/// Brings a batch norm's running averages up to date; `momentum` below 0 stands for None. Writes to the last three
/// tensors.
void update_running(const torch::stable::Tensor& statistics, const torch::stable::Tensor& mean,
                    const torch::stable::Tensor& variance, const torch::stable::Tensor& batches, double momentum,
                    std::int64_t count);

/// x with `taps` sums in dimension `dim`, times `scale`: see TapSumsArgs. `size` is that of the layer's result there.
torch::stable::Tensor tap_sums(const torch::stable::Tensor& x, std::int64_t dim, std::int64_t taps, std::int64_t stride,
                               std::int64_t padding, std::int64_t dilation, std::int64_t size, double scale);

/// What runs a chain, for people. `device` as parse_device reads it.
std::string explain_chain(const std::string& problem, const std::string& device, const std::vector<double>& numbers);

}  // namespace upconv::binding
