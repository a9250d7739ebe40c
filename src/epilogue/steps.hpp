// The epilogue list as plain data, the form that sources compiled once per instruction set can take.
#pragma once

#include "upconv/epilogue.hpp"

namespace upconv {

struct EpilogueSteps {
  int count = 0;
  bool operands = false;  ///< some step reads an operand tensor: rows need their place
  EpilogueStep steps[max_epilogue_steps];
};

/// Where a row of results begins in (n, channel, d, h, w), and whether it runs along channels or along w.
struct RowPlace {
  std::int64_t n = 0, c = 0, d = 0, h = 0, w = 0;
  bool along_channels = false;
};

/// Expects a validated list.
EpilogueSteps flatten(const Epilogue& epilogue);

}  // namespace upconv
