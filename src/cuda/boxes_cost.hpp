// Which forms of kernels/boxes.cuh a pass may take, and what each is expected to cost. Pure functions.
#pragma once

#include <vector>

#include "cuda/boxes_shape.hpp"
#include "launch/boxes.hpp"
#include "plan/target.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {

struct BoxChoice {
  BoxForm form;
  launch::BoxesFixed fixed;
  launch::BoxesLaunch launch;
  double seconds = 0.0;
};

/// Clocks of one multiprocessor for the products of one stage of one box, where two warpgroups take turns
/// (docs/measured-hopper.md).
double stage_clocks(const BoxProblem& p, const BoxWork& work, int columns);

/// Every form that fits and has boxes for these sizes, the one expected to be fastest first; at most `most`.
std::vector<BoxChoice> box_choices(const BoxProblem& p, const Problem& problem, const Geometry& g,
                                   const CudaTarget& target, std::size_t most);

}  // namespace upconv::cuda
