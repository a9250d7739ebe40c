// Random problems and settings, and the shrinking of a failing one. Sizes crowd around what tiles are made of:
// small numbers, and multiples of 8 with their neighbours.
#pragma once

#include <functional>

#include "ops/random.hpp"
#include "ops/trial.hpp"

namespace upconv::test {

/// A valid problem of at most `budget` products.
Problem random_problem(Random& random, double budget);

Setting random_setting(std::uint64_t seed);

/// The smallest problem reached by halving and removing that still fails.
Problem shrink(Problem problem, const std::function<bool(const Problem&)>& fails);

}  // namespace upconv::test
