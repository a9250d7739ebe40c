// The second pass of dw and db when their sums are split over blocks: adds the parts up in a fixed order.
// kernels/launch/ordered_sum.hpp launches it.
#pragma once

#include "jit/kernel.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {

/// kernels/ordered_sum.cuh for results of a dtype; its parts are float (double for f64).
class OrderedSum {
 public:
  explicit OrderedSum(DType dtype);
  [[nodiscard]] const jit::Kernel& kernel() const { return kernel_; }

 private:
  jit::Kernel kernel_;
};

}  // namespace upconv::cuda
