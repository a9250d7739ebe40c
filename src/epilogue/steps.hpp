// The epilogue list as plain data, the form that sources compiled once per instruction set can take.
#pragma once

#include "upconv/epilogue.hpp"

namespace upconv {

struct EpilogueSteps {
  int count = 0;
  EpilogueStep steps[8];
};

/// Expects a validated list (at most 8 steps).
EpilogueSteps flatten(const Epilogue& epilogue);

}  // namespace upconv
