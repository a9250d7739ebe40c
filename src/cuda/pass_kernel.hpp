// The seam between a CUDA plan and a kernel family: one pass of one problem, specialised, not yet compiled.
// Building one needs no GPU, so plans can be explained and compared anywhere; the first run compiles.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/launching.hpp"
#include "jit/kernel.hpp"
#include "plan/candidate.hpp"
#include "plan/target.hpp"

namespace upconv::cuda {

/// What a CUDA candidate is asked: Request's question, about one GPU.
struct Request : upconv::Request {
  const CudaTarget& target;
  int variant = 0;  ///< 0: the tile that the family's cost model puts first; n: the n-th after it.
};

class PassKernel {
 public:
  virtual ~PassKernel() = default;
  /// Device scratch, from the caller. Forward and dx: what prepared weights take, else 0; dw and db: at most 64 MiB.
  [[nodiscard]] virtual std::size_t workspace_bytes() const { return 0; }
  /// Launches on `stream` (a CUstream) of the request's device. Never synchronises, never allocates on the device.
  [[nodiscard]] virtual Status run(const PassTensors& tensors, void* workspace, void* stream) const = 0;
  /// Tile, shared memory and mode, one line for explain().
  [[nodiscard]] virtual std::string detail() const = 0;
  /// Every kernel that run() may launch, for warm-up, compile tests and explain().
  [[nodiscard]] virtual std::vector<const jit::Kernel*> kernels() const = 0;
  /// How a file of its own repeats this pass for other batches and sizes, or why it cannot.
  [[nodiscard]] virtual Result<LaunchText> launch_text() const {
    return unsupported("its launch is not under kernels/launch");
  }
  /// What the cost model expects, in seconds; 0 when the family has none.
  [[nodiscard]] virtual double predicted_seconds() const { return 0.0; }
};

/// What a family says to a variant that it does not have.
inline Status no_variant(int variant) { return unsupported("there is no tile number " + std::to_string(variant)); }

struct Candidate : CandidateOf<PassKernel, Request> {
  int variants = 1;       ///< The most tiles that the family offers for one pass.
  bool compared = false;  ///< Its prediction stands beside those of families with several tiles.
};

}  // namespace upconv::cuda
