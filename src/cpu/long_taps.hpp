// dw and dx of one-dimensional layers with long kernels (the inverse STFT: k1024 s256, one output channel), as
// cpu_positions runs them: there the taps, contiguous in w, dw and, shifted, in dy, fill the vectors.
#pragma once

#include <cstdint>

namespace upconv::cpu {

struct LongTapsJob {
  std::int64_t batch = 0, groups = 0, ci = 0, co = 0, in = 0, out = 0;
  std::int64_t kernel = 0, stride = 0, padding = 0;
  std::int64_t w_group = 0, w_ci = 0, w_co = 0, w_tap = 0;  ///< element strides of dw
  std::int64_t width = 0;                                   ///< taps of a block: 3 vectors
  // dw: a task sums a range of blocks for a part of the input channels.
  std::int64_t channels = 0, parts = 0;
  std::int64_t blocks = 0, blocks_at_once = 0, ranges = 0;
};

/// Input channels of one dx task.
constexpr std::int64_t long_taps_channels = 32;
/// Most input channels and blocks of taps of one dw task: x of all its channels at the positions taken at once stays
/// in the second-level cache while the blocks go by, and so do the sums.
constexpr std::int64_t long_taps_dw_channels = 192, long_taps_dw_blocks = 4;

struct LongTapsKernels {
  std::int64_t (*scratch_elements)(const LongTapsJob& job);
  std::int64_t width;
  /// dw: task = (group, output channel, part of the input channels, range of blocks of taps).
  void (*run)(const LongTapsJob& job, const void* x, const void* dy, void* dw, std::int64_t task, void* scratch);
  /// dx of long_taps_channels input channels: task = (sample, group, block of channels). Null for 16-bit types.
  void (*run_dx)(const LongTapsJob& job, const void* dy, const void* w, void* dx, std::int64_t task);
};

}  // namespace upconv::cpu
