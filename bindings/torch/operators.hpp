// The operators' implementations, on CPU and CUDA tensors, in the argument order of their schemas. Registered in
// schema.cpp.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "arguments.hpp"

namespace upconv::binding {

using torch::stable::Tensor;
using Integers = const std::vector<std::int64_t>&;

/// y, optionally through the epilogue's activations.
Tensor conv_transpose(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers stride,
                      Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                      std::int64_t precision);
Tensor conv_transpose_epilogue(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers stride,
                               Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                               const std::vector<double>& epilogue, std::int64_t precision);

/// dx of shape `input_size`, dw of shape `weight_size`, db of shape (C_out,).
Tensor conv_transpose_backward_input(const Tensor& dy, const Tensor& w, Integers input_size, Integers stride,
                                     Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                                     std::int64_t precision);
Tensor conv_transpose_backward_weight(const Tensor& x, const Tensor& dy, Integers weight_size, Integers stride,
                                      Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                                      std::int64_t precision);
Tensor conv_transpose_backward_bias(const Tensor& dy);

/// The same without autograd, for python/upconv/_autograd.py: the hyperparameters in one list, (stride..., padding...,
/// output_padding..., dilation..., groups, precision), and the gradients in one call (an empty tensor for one that is
/// not wanted). Reading fewer lists is what makes a tiny call as cheap as torch's own.
Tensor forward_packed(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers geometry);
Tensor forward_epilogue_packed(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers geometry,
                               const std::vector<double>& epilogue);
/// The packed list taken apart; it must outlive the result.
Hyperparameters unpack(const Tensor& w, Integers geometry);
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
Gradients backward_packed(const Tensor& dy, const Tensor& x, const Tensor& w, Integers geometry, bool need_dx,
                          bool need_dw, bool need_db);

}  // namespace upconv::binding
