// The preamble of a closing kernel (kernels/closing/value.cuh says what it defines).
#pragma once

#include <string>

#include "cuda/closing.hpp"

namespace upconv::cuda {

/// The longest column whose values a thread of closing/columns.cuh and its neighbours keep in registers.
inline constexpr std::int64_t closing_most_held = 512;

std::string closing_text(const ClosingPass& pass, DType element, const launch::ClosingFixed& fixed, bool finishes);

}  // namespace upconv::cuda
