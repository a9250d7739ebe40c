// Launch of tap_sums.cuh over x of (outer, length, inner).
#pragma once

#include "launch/sizes.hpp"

namespace upconv::launch {

constexpr unsigned tap_sums_threads = 256;

/// Blocks of the sums, or of their gradient, which is a value of x a thread; 0: there is nothing to do.
inline Int tap_sums_blocks(bool gradient, Int outer, Int length, Int inner, int processors) {
  const Int threads = outer * inner * (gradient ? length : inner < 32 ? 32 : 1);
  return least(ceil_div(threads, Int(tap_sums_threads)), 16 * Int(processors));
}

}  // namespace upconv::launch
