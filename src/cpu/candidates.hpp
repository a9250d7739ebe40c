// The CPU engine's candidates, best first; the last one of every pass takes any problem.
#pragma once

#include <span>

#include "plan/candidate.hpp"

namespace upconv::cpu {

std::span<const Candidate> candidates(Pass pass);

/// Vectors across channels: dense layers. Forward and backward_input; backward_weight.
Result<std::unique_ptr<PassKernel>> make_channels_gather(const Request& request);
/// The same kernels for one output channel and a long stride (an inverse STFT): vectors across the outputs of a stride.
Result<std::unique_ptr<PassKernel>> make_residues(const Request& request);
Result<std::unique_ptr<PassKernel>> make_channels_weight(const Request& request);
/// Weights broadcast as they lie, vectors across positions: dx of dense layers.
Result<std::unique_ptr<PassKernel>> make_weight_rows(const Request& request);
/// Vectors across positions: forward, dx and dw of layers with few channels a group.
Result<std::unique_ptr<PassKernel>> make_positions(const Request& request);
/// Depthwise layers with the channels last: vectors across channels, in place.
Result<std::unique_ptr<PassKernel>> make_depthwise(const Request& request);
/// db of any problem.
Result<std::unique_ptr<PassKernel>> make_bias_sum(const Request& request);

/// Plain loops, the definition written down: the oracle of the tests and the last candidate.
Result<std::unique_ptr<PassKernel>> make_reference(const Request& request);

}  // namespace upconv::cpu
