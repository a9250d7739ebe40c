// See calibration.hpp.
#include "cuda/calibration.hpp"

namespace upconv::cuda {
namespace {

enum class Kind { tf32, half, any };

struct Fit {
  std::string_view family;
  Pass pass;
  Kind kind;
  double start, factor;  ///< Seconds; measured = start + factor * model.
};

/// Least squares of log(measured / fit) over the best tile of every row of tests/shapes (17 and 83), docs/measured.md.
constexpr Fit fits[] = {
    {"cuda_gather_mma", Pass::forward, Kind::half, 12e-6, 1.40},
    {"cuda_gather_mma", Pass::forward, Kind::any, 16e-6, 1.15},
    {"cuda_gather_mma", Pass::backward_input, Kind::half, 2e-6, 2.40},
    {"cuda_gather_mma", Pass::backward_input, Kind::any, 20e-6, 1.45},
    {"cuda_tiles", Pass::forward, Kind::half, 8e-6, 1.35},
    {"cuda_tiles", Pass::forward, Kind::any, 6e-6, 1.05},
    {"cuda_tiles", Pass::backward_input, Kind::half, 6e-6, 0.90},
    {"cuda_tiles", Pass::backward_input, Kind::any, 4e-6, 0.75},
    // Two layers on the first form of the kernel (docs/measured-cuda-columns.md), 1.26 and 2.1: no fit.
    {"cuda_columns", Pass::forward, Kind::any, 0.0, 1.60},
};

Kind kind_of(const Problem& p) {
  if (p.dtype == DType::bf16 || p.dtype == DType::f16) return Kind::half;
  return p.dtype == DType::f32 && p.precision == Precision::tf32 ? Kind::tf32 : Kind::any;
}

}  // namespace

double calibrated(std::string_view family, const Problem& problem, Pass pass, double seconds) {
  const Kind kind = kind_of(problem);
  for (const Fit& f : fits)
    if (f.family == family && f.pass == pass && (f.kind == Kind::any || f.kind == kind))
      return f.start + f.factor * seconds;
  return seconds;
}

}  // namespace upconv::cuda
