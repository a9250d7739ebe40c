// The second pass of dw and db when their sums are split over blocks: adds the parts up in a fixed order.
#pragma once

#include <cstdint>

#include "jit/kernel.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {

/// result[c] = the sum over row < rows and i < inner of parts[row * count * inner + c * inner + i], c < count, where
/// `parts` are float (double for f64) and `result` is of the kernel's dtype.
class OrderedSum {
 public:
  explicit OrderedSum(DType dtype);
  [[nodiscard]] Status launch(int device, void* stream, const void* parts, void* result, std::int64_t count,
                              std::int64_t rows, std::int64_t inner = 1) const;
  [[nodiscard]] const jit::Kernel& kernel() const { return kernel_; }

 private:
  jit::Kernel kernel_;
};

}  // namespace upconv::cuda
