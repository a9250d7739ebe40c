// What a cost model's time becomes on an H200, so that families can be compared. Models count clocks of the parts that
// they know; what they leave out showed as a start and a factor, the same within a quarter for all named shapes.
#pragma once

#include <string_view>

#include "upconv/plan.hpp"

namespace upconv::cuda {

/// `seconds` of the model of `family` (a candidate's name) for a pass of a problem, as measured times would have it.
double calibrated(std::string_view family, const Problem& problem, Pass pass, double seconds);

}  // namespace upconv::cuda
