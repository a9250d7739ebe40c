// One pass of a problem written as text, by a candidate of choice: what tests and benchmarks call.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "upconv/plan.hpp"

namespace upconv::binding {

/// "cpu", "cuda", "cuda:1", or "sm_90": a model of that architecture, which can explain but not run.
Device parse_device(const std::string& text);

/// Runs `pass` ("forward", "backward_input", ...) of `problem` ("2d n8 c64 o64 i1024 k3 tf32") with the candidate named
/// `only` ("" lets the list decide) and returns its result. a and b are dense in the problem's layouts and on one
/// device: x and w for forward, dy and w for backward_input, x and dy for backward_weight, dy twice for backward_bias.
torch::stable::Tensor run_single(const std::string& problem, const std::string& pass, const std::string& only,
                                 const torch::stable::Tensor& a, const torch::stable::Tensor& b,
                                 const std::optional<torch::stable::Tensor>& bias, const std::vector<double>& epilogue);

}  // namespace upconv::binding
