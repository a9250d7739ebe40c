// A chain as a file of its own would run it: its passes as statements that fill a launch::Program, and their kernels.
// Asked by `upconv export`; needs no GPU and compiles nothing.
#pragma once

#include <string>
#include <vector>

#include "plan/launch_export.hpp"
#include "upconv/chain.hpp"

namespace upconv {

struct ExportedProgram {
  std::vector<ExportedKernel> kernels;  ///< Each once; a pass has its number here.
  std::string text;                     ///< Statements on `p`, a launch::Program.
};

enum class ProgramPurpose { results, training, gradient };

/// `sizes` of the operands. With `layer` false the chain is that of the problem's result alone: what would be the
/// epilogue is a step of the passes.
Result<ExportedProgram> export_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& sizes,
                                       unsigned wanted, ProgramPurpose purpose, bool layer);

}  // namespace upconv
