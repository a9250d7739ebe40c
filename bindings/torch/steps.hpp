// Epilogues and chains from the flat lists of numbers that the operators take. Knows nothing of torch.
#pragma once

#include <span>
#include <vector>

#include "upconv/chain.hpp"

namespace upconv::binding {

/// (activation, a, b) triples, as python/upconv/_activations.py writes them, or (100 + arithmetic, scalar or index,
/// source), as python/upconv/_chain.py does.
Epilogue make_epilogue(std::span<const double> triples);

/// The chain that a flat list of numbers describes: the step lists of prologue and epilogue, then the closing steps.
/// A step list is its length and as many triples as make_epilogue reads; a closing step is 21 numbers in the order of
/// ClosingStep's members, then the list after it. Throws std::runtime_error where the numbers end early or are left.
Chain make_chain(const std::vector<double>& numbers);

}  // namespace upconv::binding
