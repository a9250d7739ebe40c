// Passes of the closing kernels as a plan keeps and runs them: each with its kernel, and the memory that they share.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "plan/chain.hpp"
#include "plan/cuda_closing.hpp"

namespace upconv {

/// The memory of a run.
struct StageTensors {
  const void *x = nullptr, *z = nullptr, *dy = nullptr;
  void *y = nullptr, *saved = nullptr, *dz = nullptr, *db = nullptr;
  void* const* gradients = nullptr;  ///< Of operands, by number.
  char* workspace = nullptr;
  double* statistics = nullptr;
  const OperandTensor* given = nullptr;
  int given_count = 0;
  void* stream = nullptr;
  Operand operands[max_operands];  ///< Filled by resolve().
};

class ClosingStages {
 public:
  ClosingStages(DType dtype, const CudaTarget& target) : dtype_(dtype), target_(target) {}

  /// A pass's kernel. Buffers whose size a launch decides are given it in `buffers`.
  Status add(const cuda::ClosingPass& pass, std::vector<ClosingBuffer>& buffers);
  Status add(const cuda::PullPass& pass, std::vector<ClosingBuffer>& buffers);

  /// Operands' strides, which must lie as the plan was made for.
  Status resolve(StageTensors& t) const;
  Status run(const std::vector<ClosingBuffer>& buffers, const StageTensors& t) const;
  [[nodiscard]] std::vector<const jit::Kernel*> kernels() const;
  [[nodiscard]] std::string explain() const;
  [[nodiscard]] double bytes() const;

 private:
  bool backwards_ = true;  ///< Of the next pass over values.
  int done_ = 0;           ///< The next passes whose work a pass before them does.
  struct Closing {
    cuda::ClosingPass pass;
    std::unique_ptr<cuda::ClosingKernel> kernel;
  };
  struct Pull {
    cuda::PullPass pass;
    std::unique_ptr<cuda::PullKernel> kernel;
  };

  Status run_one(const Closing& s, const std::vector<ClosingBuffer>& buffers, const StageTensors& t) const;
  Status run_one(const Pull& s, const std::vector<ClosingBuffer>& buffers, const StageTensors& t) const;

  DType dtype_;
  const CudaTarget& target_;
  std::vector<std::variant<Closing, Pull>> stages_;
};

/// Where a buffer lies in a run.
void* address(const std::vector<ClosingBuffer>& buffers, int buffer, const StageTensors& t);

/// Gives the buffers of `place` their offsets from `at` on; where they end.
std::int64_t lay_out(std::vector<ClosingBuffer>& buffers, ClosingBuffer::Place place, std::int64_t at);

/// Operands of a list of steps over values of `shape`, which must lie as the plan was made for.
Status resolve_noted(const Epilogue& steps, const Shape5& shape, StageTensors& t);

}  // namespace upconv
