// What the candidate "cpu_bias_sum" (bias_sum.cpp) hands to its kernels (bias_sum_kernels.cpp).
#pragma once

#include <cstdint>

namespace upconv::cpu {

/// dy seen as [batch][channels][volume], or [batch * volume][channels] when channels come last. The sum is cut into
/// slots, each with a double per channel, so that neither the order nor the result depends on the workers.
struct BiasSumJob {
  std::int64_t batch = 0, channels = 0, volume = 0;
  std::int64_t pieces = 1;  ///< per sample and channel (channels first)
  std::int64_t slots = 1;   ///< of batch * pieces, or of rows
};

struct BiasSumKernels {
  /// Channels first: one slot of channels [first, end).
  void (*planes)(const BiasSumJob& job, const void* dy, double* partial, std::int64_t slot, std::int64_t first, std::int64_t end);
  /// Channels last: one slot of all channels; `row` holds two rows of accumulators.
  void (*rows)(const BiasSumJob& job, const void* dy, double* partial, std::int64_t slot, void* row);
  /// db of channels [first, end): slots in order.
  void (*reduce)(const BiasSumJob& job, const double* partial, void* db, std::int64_t first, std::int64_t end);
};

}  // namespace upconv::cpu
