// The CUDA engine's candidates, best first; the last one of every pass takes any problem.
#pragma once

#include <span>

#include "cuda/pass_kernel.hpp"

namespace upconv::cuda {

std::span<const Candidate> candidates(Pass pass);

/// How many tiles a family with a cost model lets tuning try (plan/tuned.hpp).
inline constexpr int most_variants = 8;

/// Few output channels, kernel a multiple of the stride: phases as rows of a product on the tensor cores
/// (kernels/residues.cuh): forward.
Result<std::unique_ptr<PassKernel>> make_residues(const Request& request);

/// Few output channels: one product over all taps on the tensor cores, then an overlap-add (kernels/scatter.cuh):
/// forward.
Result<std::unique_ptr<PassKernel>> make_scatter(const Request& request);

/// Few channels a group, by fp32 multiply-adds (kernels/positions.cuh): forward and dx.
Result<std::unique_ptr<PassKernel>> make_positions(const Request& request);

/// Forward layers of fewer than 8 input channels that cuda_boxes does sooner than cuda_positions, channels that are not
/// there included: with 3 channels, 27 taps and 8 phases 0.42 ms against 0.60 (L2/58).
inline bool worth_tensor_cores(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  return r.target.major == 9 && r.pass == Pass::forward && p.dtype == DType::f32 && p.precision == Precision::tf32 &&
         p.x_layout == Layout::channels_first && p.y_layout == Layout::channels_first && g.groups == 1 && g.ci >= 3 &&
         g.ci < 8 && g.co >= 16 && g.ci * g.taps() >= 8 * g.stride[0] * g.stride[1] * g.stride[2];
}

/// Few channels a group, by fp32 multiply-adds (kernels/positions_weight.cuh): dw.
Result<std::unique_ptr<PassKernel>> make_positions_weight(const Request& request);

/// Many channels on the warpgroup tensor cores of sm_90a, weights as rows of the product (kernels/columns.cuh):
/// forward.
Result<std::unique_ptr<PassKernel>> make_columns(const Request& request);

/// Forward and dx of dense and grouped layers on the warpgroup tensor cores of sm_90a (kernels/tiles.cuh).
Result<std::unique_ptr<PassKernel>> make_tiles(const Request& request);

/// Forward and dx of dense and grouped layers on the warpgroup tensor cores of sm_90a, few channels against positions
/// (kernels/boxes.cuh).
Result<std::unique_ptr<PassKernel>> make_boxes(const Request& request);

/// dx of layers of many channels on the warpgroup tensor cores of sm_90a, w as it lies (kernels/input_wgmma.cuh): TF32,
/// fp16, bf16.
Result<std::unique_ptr<PassKernel>> make_input_wgmma(const Request& request);

/// Forward and dx of channels-last tensors on the warpgroup tensor cores of sm_90a, positions by channels
/// (kernels/implicit_gemm.cuh): TF32, fp16, bf16.
Result<std::unique_ptr<PassKernel>> make_implicit_gemm(const Request& request);

/// Tensor cores by mma.sync (kernels/gather_mma.cuh): forward and dx of dense and grouped problems.
Result<std::unique_ptr<PassKernel>> make_gather_mma(const Request& request);

/// db at memory speed (kernels/bias_sum.cuh).
Result<std::unique_ptr<PassKernel>> make_bias_sum(const Request& request);

/// Every pass by its definition (kernels/direct.cuh): any problem; the GPU's oracle and last candidate.
Result<std::unique_ptr<PassKernel>> make_direct(const Request& request);

/// dw of channels-last tensors in 16 bits on the warpgroup tensor cores of sm_90a (kernels/implicit_gemm_weight.cuh).
Result<std::unique_ptr<PassKernel>> make_implicit_gemm_weight(const Request& request);

/// dw on the warpgroup tensor cores of sm_90a (kernels/weight_wgmma.cuh): TF32, fp16, bf16; dense and grouped.
Result<std::unique_ptr<PassKernel>> make_weight_wgmma(const Request& request);

/// dw on tensor cores with mma.sync (kernels/weight_mma.cuh): fp32 in every precision, fp16, bf16; dense and grouped.
Result<std::unique_ptr<PassKernel>> make_weight_mma(const Request& request);

}  // namespace upconv::cuda
