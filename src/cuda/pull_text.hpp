// The preamble of a gradient kernel (kernels/closing/gradient.cuh says what it defines).
#pragma once

#include <string>

#include "cuda/pull.hpp"

namespace upconv::cuda {

/// The longest column whose values and gradients the threads of closing/pull_columns.cuh keep in registers.
inline constexpr std::int64_t pulled_most_held = 256;

/// How columns are shared out there: 16 values a thread, three numbers for each.
void share_pulled_columns(const PullPass& pass, launch::ClosingFixed& fixed);

std::string pull_text(const PullPass& pass, DType element, const launch::PullFixed& fixed);

}  // namespace upconv::cuda
