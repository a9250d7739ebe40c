// See calibration.hpp.
#include "cuda/calibration.hpp"

#include <cstdint>
#include <numeric>

namespace upconv::cuda {
namespace {

enum class Kind { tf32, half, any };

struct Fit {
  std::string_view family;
  Pass pass;
  Kind kind;
  double start, factor;  ///< Seconds; measured = start + factor * model.
};

/// Least squares of log(measured / fit) over the best tile of the rows of tests/shapes (17 and 83), docs/measured.md;
/// of dw over 17 and 30 of them, of cuda_positions, cuda_positions_weight and cuda_residues over those that they take.
constexpr Fit fits[] = {
    {"cuda_boxes", Pass::forward, Kind::half, 8e-6, 1.35},
    {"cuda_boxes", Pass::forward, Kind::any, 12e-6, 1.04},
    {"cuda_boxes", Pass::backward_input, Kind::half, 12e-6, 1.20},
    {"cuda_boxes", Pass::backward_input, Kind::any, 4e-6, 1.30},
    {"cuda_gather_mma", Pass::forward, Kind::half, 12e-6, 1.40},
    {"cuda_gather_mma", Pass::forward, Kind::any, 16e-6, 1.45},
    {"cuda_gather_mma", Pass::backward_input, Kind::half, 2e-6, 2.40},
    {"cuda_gather_mma", Pass::backward_input, Kind::any, 20e-6, 1.45},
    {"cuda_tiles", Pass::forward, Kind::half, 8e-6, 1.35},
    {"cuda_tiles", Pass::forward, Kind::any, 6e-6, 1.20},
    {"cuda_tiles", Pass::backward_input, Kind::half, 6e-6, 0.90},
    {"cuda_tiles", Pass::backward_input, Kind::any, 4e-6, 1.00},
    {"cuda_positions", Pass::backward_input, Kind::any, 6e-6, 1.00},
    {"cuda_residues", Pass::forward, Kind::half, 16e-6, 1.40},
    {"cuda_residues", Pass::forward, Kind::any, 14e-6, 0.92},
    {"cuda_positions_weight", Pass::backward_weight, Kind::any, 0.0, 1.40},
    {"cuda_weight_mma", Pass::backward_weight, Kind::half, 3e-6, 1.65},
    {"cuda_weight_mma", Pass::backward_weight, Kind::any, 4.6e-6, 1.11},
    {"cuda_weight_wgmma", Pass::backward_weight, Kind::half, 3.5e-6, 0.72},
    {"cuda_weight_wgmma", Pass::backward_weight, Kind::any, 3e-6, 0.90},
};

Kind kind_of(const Problem& p) {
  if (p.dtype == DType::bf16 || p.dtype == DType::f16) return Kind::half;
  return p.dtype == DType::f32 && p.precision == Precision::tf32 ? Kind::tf32 : Kind::any;
}

std::int64_t taps_of(const Problem& p) {
  return p.kernel[0] * (p.rank > 1 ? p.kernel[1] : 1) * (p.rank > 2 ? p.kernel[2] : 1);
}

}  // namespace

double calibrated(std::string_view family, const Problem& problem, Pass pass, double seconds) {
  const Kind kind = kind_of(problem);
  // Where no tap of dx reads some of dy (a stride and its dilation have a factor in common, or the kernel is smaller
  // than the stride), cuda_boxes brings it all the same. Its predictions for L1/75, L1/79 and L1/81 are right within a
  // fifth; the others' are too high by 1.35 to 1.7.
  if (family == "cuda_boxes" && pass == Pass::backward_input) {
    bool unread = false;
    for (std::size_t d = 0; d < static_cast<std::size_t>(problem.rank); ++d)
      unread |= problem.kernel[d] > 1 &&
                (std::gcd(problem.stride[d], problem.dilation[d]) > 1 || problem.kernel[d] < problem.stride[d]);
    if (unread) seconds *= 1.25;
  }
  // Channels last are brought element by element: 2.4 times the prediction (64 -> 64, kernel 3: 216 us for 89).
  const Layout source = pass == Pass::forward ? problem.x_layout : problem.y_layout;
  if (family == "cuda_boxes" && problem.rank > 1 && source == Layout::channels_last) seconds *= 2.4;
  // Its tiles are filled with channels that are not there: 2.7 times the prediction with 3 input channels (L2/58).
  if (family == "cuda_gather_mma" && pass == Pass::forward && problem.in_channels / problem.groups < 8) seconds *= 2.7;
  // With few products of an output its dx starts sooner than with many: 11 to 15 us where the fit says 30.
  const bool few = problem.out_channels / problem.groups < 8 && taps_of(problem) < 128;
  const double sooner =
      family == "cuda_gather_mma" && pass == Pass::backward_input && kind != Kind::half && few ? 13e-6 : 0.0;
  // Of one tap every operand is used once, and the time is that of bringing them, which its model counts by
  // instructions: 91 us where 58 were predicted (pointpillars/deblocks0; cuda_weight_wgmma 66, predicted 64).
  if (family == "cuda_weight_mma" && kind == Kind::tf32 && taps_of(problem) == 1) seconds *= 1.61;
  // dy with its channels last comes element by element: twice the prediction where there are few positions (istft).
  if (family == "cuda_weight_wgmma" && problem.y_layout == Layout::channels_last) seconds += 12e-6;
  // Lanes that bring channels last one by one are told right by the model itself (600 to 700 us for mask-rcnn, 980 for
  // 1000 of vqvae2/dec-t-last); the fit of 16 bits is of bulk copies.
  if (family == "cuda_weight_wgmma" && kind == Kind::half &&
      (problem.x_layout == Layout::channels_last || problem.y_layout == Layout::channels_last))
    return seconds;
  for (const Fit& f : fits)
    if (f.family == family && f.pass == pass && (f.kind == Kind::any || f.kind == kind))
      return f.start - sooner + f.factor * seconds;
  return seconds;
}

}  // namespace upconv::cuda
