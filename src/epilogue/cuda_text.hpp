// The epilogue list as device text, for the preamble of any CUDA kernel.
#pragma once

#include <string>

#include "upconv/epilogue.hpp"

namespace upconv {

/// Text that defines `constexpr bool has_epilogue` and `template <class S> S epilogue(S v)` (S float or double) in
/// namespace config. It brings the include it needs. Equal lists give equal texts.
std::string epilogue_text(const Epilogue& epilogue);

/// `namespace config { template <class S> S epilogue_gradient(S v, S dy); }`: dy times the derivative of the steps at
/// v.
std::string epilogue_gradient_text(const Epilogue& epilogue);

}  // namespace upconv
