// One pass of a problem as a file of its own would repeat it: the kernels' specialisations, the launch header and what
// fills it, all as text. Asked by `upconv export`; needs no GPU and compiles nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "upconv/epilogue.hpp"
#include "upconv/plan.hpp"

namespace upconv {

struct ExportedKernel {
  std::string file;      ///< Under kernels/, e.g. "gather_mma.cuh".
  std::string entry;     ///< Its __global__ function.
  std::string preamble;  ///< Goes before the file: `namespace config` and the epilogue.
};

struct ExportedPass {
  std::string candidate, detail;
  std::vector<ExportedKernel> kernels;  ///< By the number under which the launch header starts them.
  std::string header;                   ///< Under kernels/, e.g. "launch/gather_mma.hpp".
  std::string type;                     ///< Of the struct in namespace upconv::launch that the specialisation fills.
  std::string fields;                   ///< Statements that fill it, "f.groups = 4;" a line.
};

/// The first candidate for `pass` on a model of `architecture` (80, 89, 90, ...) that takes the problem and whose
/// launch can be repeated for other sizes; with `any_size` the one whose launch refuses no others.
Result<ExportedPass> export_pass(const Problem& problem, Pass pass, int architecture, const Epilogue& epilogue,
                                 bool any_size);

/// A file of kernels/ by its path there; empty when there is none.
std::string_view kernel_text(std::string_view name);

}  // namespace upconv
