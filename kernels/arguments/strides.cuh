// Element strides of a tensor (N, C, D, H, W), as launches pass them by value.
#pragma once

namespace upconv::arguments {

struct Strides {
  long long n, c;
  long long d, h, w;
};

}  // namespace upconv::arguments
