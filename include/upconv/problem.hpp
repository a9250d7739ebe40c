// One transposed convolution, of any rank, as a plain descriptor; its validation and output size.
// Vocabulary is always that of the *transposed* operator: x -> y, with weight w of shape
// (in_channels, out_channels / groups, *kernel), as torch.nn.ConvTranspose{1,2,3}d stores it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "upconv/status.hpp"
#include "upconv/visibility.hpp"

namespace upconv {

inline constexpr int max_rank = 3;

/// One number per spatial dimension, outermost first; entries from `rank` on are ignored.
using Extent = std::array<std::int64_t, max_rank>;

enum class DType { f32, f64, f16, bf16 };

/// Where the channel dimension lies in memory. Both are dense: (N, C, *spatial) and (N, *spatial, C).
enum class Layout { channels_first, channels_last };

/// How products of fp32 tensors are computed; other dtypes have one way only and take `ieee`. An engine may be more
/// exact than it was asked to be (the CPU engine always computes `ieee`), never less.
enum class Precision {
  ieee,    ///< As exact as a chain of fp32 multiply-adds: about 3e-7 relative to fp64.
  tf32,    ///< Both operands rounded to TF32 (nearest even), fp32 sums: about 3e-4.
  bf16x3,  ///< Both operands as sums of two bf16, three products, fp32 sums: about 4e-6.
};

/// What is computed. `dx`, `dw`, `db` are the gradients with respect to x, w, b.
enum class Pass { forward, backward_input, backward_weight, backward_bias };

/// y[n,co,o] = b[co] + sum over ci in the group and taps t of x[n,ci,i] * w[ci,co,t],
/// where o + padding = stride*i + dilation*t in every spatial dimension and 0 <= i < input.
struct Problem {
  int rank = 2;                  ///< Spatial dimensions: 1, 2 or 3.
  std::int64_t batch = 1;        ///< 0 is legal: an empty result, zero gradients.
  std::int64_t in_channels = 1;  ///< Of the whole tensor, all groups together.
  std::int64_t out_channels = 1;
  Extent input{1, 1, 1};  ///< Spatial size of x.
  Extent kernel{1, 1, 1};
  Extent stride{1, 1, 1};
  Extent padding{0, 0, 0};
  Extent output_padding{0, 0, 0};
  Extent dilation{1, 1, 1};
  std::int64_t groups = 1;
  bool bias = false;
  DType dtype = DType::f32;  ///< Of x, w, b and y. fp16 and bf16 accumulate in fp32.
  Precision precision = Precision::ieee;
  Layout x_layout = Layout::channels_first;
  Layout w_layout = Layout::channels_first;  ///< channels_last: strides of a (I, *kernel, O/g) tensor.
  Layout y_layout = Layout::channels_first;

  bool operator==(const Problem&) const = default;
};

/// Checks every rule PyTorch checks, with operator, value and rule in the message.
UPCONV_API Status validate(const Problem& problem);

/// (in-1)*stride - 2*padding + dilation*(kernel-1) + output_padding + 1 per dimension. Expects a valid problem.
UPCONV_API Extent output_size(const Problem& problem);

/// Products that the definition asks for: 2 * batch * in_channels * out_channels/groups * kernel * input,
/// the figure benchmarks divide by time. Each of forward, dx and dw does as many.
UPCONV_API double flop(const Problem& problem);

/// Least bytes a pass must move: each tensor it reads or writes, once.
UPCONV_API double min_bytes(const Problem& problem, Pass pass);

/// The problem as one line that `parse_problem` reads back, e.g.
/// "2d n8 c64 o64 i1024x1024 k3x3 s1x1 p0x0 op0x0 d1x1 g1 f32". Defaults may be left out when parsing;
/// one number stands for all dimensions ("k3"); "b" means bias, "xl", "wl", "yl" channels_last tensors,
/// "tf32" or "bf16x3" a precision other than ieee.
UPCONV_API std::string to_string(const Problem& problem);
UPCONV_API Result<Problem> parse_problem(std::string_view text);

UPCONV_API std::string_view to_string(DType dtype);
UPCONV_API std::string_view to_string(Precision precision);
UPCONV_API std::string_view to_string(Pass pass);
UPCONV_API std::int64_t size_of(DType dtype);

}  // namespace upconv
