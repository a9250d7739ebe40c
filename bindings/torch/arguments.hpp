// From an operator's arguments to a Problem: what only torch knows is checked here (ranks, dtypes, shapes that
// must agree); the rules of the operation itself live in upconv::validate.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "steps.hpp"
#include "upconv/plan.hpp"
#include "upconv/problem.hpp"

namespace upconv::binding {

using Sizes = std::span<const std::int64_t>;

/// The arguments that are not tensors, as the schema gives them: one number each, or one per dimension.
struct Hyperparameters {
  Sizes stride, padding, output_padding, dilation;
  std::int64_t groups = 1;
  std::int64_t precision = 0;  ///< As python/upconv/_precision.py numbers them.
};

/// How fp32 products of one pass are computed. Codes 0, 1, 2 are ieee, tf32, bf16x3; 3 is "what PyTorch computes with
/// TF32 permitted": TF32, except in a forward pass with groups, which cuDNN computes in fp32. Other dtypes and the CPU
/// engine have one way only.
Precision precision_of(std::int64_t code, const Problem& problem, Pass pass, Device device);

Sizes sizes_of(const torch::stable::Tensor& tensor);

/// Shapes of x (N, C_in, *input) and w (C_in, C_out/groups, *kernel), and the rest, as a valid Problem in plain
/// layouts. Throws std::runtime_error naming operator, value and rule.
Problem make_problem(Sizes x, Sizes w, const Hyperparameters& hyperparameters, DType dtype);

/// The one dtype of the tensors of a call.
DType common_dtype(int rank, const torch::stable::Tensor& first, const char* first_name,
                   const torch::stable::Tensor& second, const char* second_name);

void check_bias(const Problem& problem, const torch::stable::Tensor& b);

/// One device for all tensors of a call. Throws std::runtime_error naming both.
Device common_device(int rank, const torch::stable::Tensor& first, const char* first_name,
                     const torch::stable::Tensor& second, const char* second_name);

/// dy must have the shape of y.
void check_output_gradient(const Problem& problem, Sizes dy);

}  // namespace upconv::binding
