// What a launch of direct.cuh passes by value: the whole problem. launch/direct.hpp fills it.
#pragma once

namespace upconv::arguments {

/// Element strides of (n, channel, d, h, w).
struct DirectTensor {
  long long n, c, at[3];
};

/// Counts of channels are per group. A dimension of one input has stride 1 and a kernel of one tap dilation 1:
/// equivalent, and free of numbers near the end of 64 bits.
struct Direct {
  long long batch, groups, ci, co;
  long long in[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  long long tap_step[3];        ///< stride / gcd(stride, dilation): from a tap that reaches an output to the next.
  long long source_step[3];     ///< dilation / gcd: how far back the input moves meanwhile.
  long long back[3], shift[3];  ///< dilation / stride and dilation % stride.
  DirectTensor x, y;
  long long w_ci, w_co, w_tap[3];
  long long channels_fast;  ///< Neighbouring threads take neighbouring channels, not positions.
};

}  // namespace upconv::arguments
