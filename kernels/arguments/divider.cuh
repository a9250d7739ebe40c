// A divisor that only a launch knows, as multiplication and shift: right for dividends below 2^31. launch/divider.hpp
// makes it, divide() of kernels/columns/shape.cuh uses it.
#pragma once

namespace upconv::arguments {

struct Divider {
  unsigned divisor, multiplier, shift;
};

}  // namespace upconv::arguments
