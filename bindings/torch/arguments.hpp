// From an operator's arguments to a Problem: what only torch knows is checked here (ranks, dtypes, shapes that
// must agree); the rules of the operation itself live in upconv::validate.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "upconv/epilogue.hpp"
#include "upconv/problem.hpp"

namespace upconv::binding {

using Sizes = std::span<const std::int64_t>;

/// The arguments that are not tensors, as the schema gives them: one number each, or one per dimension.
struct Hyperparameters {
  Sizes stride, padding, output_padding, dilation;
  std::int64_t groups = 1;
};

Sizes sizes_of(const torch::stable::Tensor& tensor);

/// Shapes of x (N, C_in, *input) and w (C_in, C_out/groups, *kernel), and the rest, as a valid Problem in plain
/// layouts. Throws std::runtime_error naming operator, value and rule.
Problem make_problem(Sizes x, Sizes w, const Hyperparameters& hyperparameters, DType dtype);

/// The one dtype of the tensors of a call.
DType common_dtype(int rank, const torch::stable::Tensor& first, const char* first_name,
                   const torch::stable::Tensor& second, const char* second_name);

void check_bias(const Problem& problem, const torch::stable::Tensor& b);

/// dy must have the shape of y.
void check_output_gradient(const Problem& problem, Sizes dy);

/// (activation, a, b) triples, as python/upconv/_activations.py writes them.
Epilogue make_epilogue(std::span<const double> triples);

}  // namespace upconv::binding
