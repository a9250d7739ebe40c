// Makes a Divider (arguments/divider.cuh).
#pragma once

#include "arguments/divider.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// For dividends below 2^31; `divisor` from 1 to 2^31.
inline arguments::Divider divider(Int divisor) {
  unsigned shift = 0;
  while ((1ull << shift) < static_cast<unsigned long long>(divisor)) ++shift;
  const unsigned long long d = static_cast<unsigned long long>(divisor);
  return {static_cast<unsigned>(divisor), static_cast<unsigned>((((1ull << shift) - d) << 32) / d + 1), shift};
}

}  // namespace upconv::launch
