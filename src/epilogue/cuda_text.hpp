// The epilogue list as device text, for the preamble of any CUDA kernel.
#pragma once

#include <functional>
#include <string>

#include "upconv/epilogue.hpp"

namespace upconv {

/// Text that defines, in namespace config, `constexpr bool has_epilogue`, `short_epilogue` and the interface of
/// kernels/epilogue/operands.cuh; `element` is the device's name of the operands' type. It brings the includes it
/// needs. Equal lists give equal texts.
std::string epilogue_text(const Epilogue& epilogue, const std::string& element);

/// Exactly `v` as a value of type S.
std::string literal_text(double v);

/// An activation, or (scope "slope") its derivative, at `argument`.
std::string call_text(const char* scope, const EpilogueStep& step, const std::string& argument);

/// Whether an epilogue costs less where a kernel has its sums than in a loop of its own over them: few instructions on
/// numbers that a whole channel has in common.
bool is_short(const Epilogue& epilogue);

/// The expression of a step's operand; the number is the step's place in its list.
using OperandText = std::function<std::string(const EpilogueStep&, std::size_t)>;

/// The statements alone, on a variable `v` of type S. `brief`: in as few instructions as can be, for steps that stand
/// among others; a loop of long ones was slower by these (docs/measured-cuda-fusion.md).
std::string steps_text(const Epilogue& epilogue, const OperandText& operand, bool brief = false);

/// The value of a step's operand as `operands` of kernels/epilogue/operands.cuh holds it, where n, channel and at are
/// known. `values` names the arguments::Values.
std::string operand_text(const EpilogueStep& step, const std::string& element, const std::string& values);

}  // namespace upconv
