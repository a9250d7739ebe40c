// Random problems for the CUDA engine: a specialisation (all that a kernel is compiled for) and several sizes of it, so
// that a run sees many problems for each kernel it compiles. Called by emulate.cpp.
#pragma once

#include <vector>

#include "ops/random.hpp"
#include "upconv/epilogue.hpp"
#include "upconv/problem.hpp"

namespace upconv::test {

/// Problems of one specialisation, at most `most` of them and `budget` products each; never empty.
std::vector<Problem> draw_cuda_problems(Random& random, int most, double budget);

/// The same with the specialisation of a problem; may be empty.
std::vector<Problem> draw_sizes(Random& random, const Problem& specialisation, int most, double budget);

/// Mostly none.
Epilogue draw_epilogue(Random& random);

}  // namespace upconv::test
