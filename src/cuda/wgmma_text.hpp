// Device text for one warpgroup tensor instruction of sm_90a, whose register list depends on its width.
#pragma once

#include <string>

namespace upconv::cuda {

enum class TensorOperand { tf32, bf16, f16 };

/// Defines `__device__ void wgmma(float (&sum)[n / 2], const unsigned (&a)[4], unsigned long long b)`: 64 x n sums of
/// a from registers times b from shared memory (K-major for TF32; see descriptor() in kernels/tiles.cuh), added to
/// `sum`. n is a multiple of 8 up to 256.
/// `rows_contiguous`: b has its rows contiguous (16-bit types; descriptor() in kernels/ptx/warpgroup.cuh).
std::string wgmma_text(int n, TensorOperand operand, bool rows_contiguous = false);

/// `wgmma_shared(sum, unsigned long long a, unsigned long long b)`, a in shared memory too, its rows contiguous (16-bit
/// types) or its depth.
std::string wgmma_shared_text(int n, TensorOperand operand, bool rows_contiguous, bool a_rows_contiguous = true);

/// The config constant EVERY_LANE, for kernels whose warps hand a stage back by one lane's arrival, for all that have
/// met: racecheck does not see that, and asks for every lane's by UPCONV_EVERY_LANE_ARRIVES (docs/benchmarking.md).
std::string every_lane_text();

}  // namespace upconv::cuda
