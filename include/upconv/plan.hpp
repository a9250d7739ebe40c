// A plan is everything decided about one problem on one device: per pass the candidate that runs,
// why the ones before it were declined, its workspace. Immutable and safe to run from many threads.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "upconv/epilogue.hpp"
#include "upconv/executor.hpp"
#include "upconv/problem.hpp"
#include "upconv/status.hpp"
#include "upconv/visibility.hpp"

namespace upconv {

/// Where a plan runs.
struct Device {
  enum class Kind {
    cpu,
    cuda,       ///< GPU number `index` of this process.
    cuda_model  ///< A GPU that need not be here: plans for it explain themselves and cannot run. `index` is its
                ///< architecture, 80, 89, 90, 100 or 120, as data-sheets describe its largest chip.
  };
  Kind kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index) { return {Kind::cuda, index}; }
  static Device cuda_model(int architecture) { return {Kind::cuda_model, architecture}; }
  bool operator==(const Device&) const = default;
};

/// What a run may use beside its tensors. All memory is the caller's.
struct Launch {
  void* workspace = nullptr;  ///< At least Plan::workspace_bytes(pass, executor->workers()) bytes, 64-byte aligned.
  std::size_t workspace_bytes = 0;
  Executor* executor = nullptr;  ///< CPU. Null: the calling thread alone.
  void* stream = nullptr;        ///< CUDA: the CUstream that the kernels are put on. Null: the default stream.
};

/// Dense tensors in the problem's layouts and dtype. b is null exactly when the problem has no bias.
struct ForwardArgs {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  const Operand* operands = nullptr;  ///< As many as Epilogue::operands() says, by number; null when it is 0.
};
struct BackwardInputArgs {
  const void* dy = nullptr;
  const void* w = nullptr;
  void* dx = nullptr;
};
struct BackwardWeightArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  void* dw = nullptr;
};
struct BackwardBiasArgs {
  const void* dy = nullptr;
  void* db = nullptr;
};

class UPCONV_API Plan {
 public:
  /// Validates the problem, walks the candidates of each pass and keeps the first that accepts.
  /// `epilogue` belongs to the forward pass only. `only` (for tests, benchmarks and tuning) names one candidate
  /// that must be used for every pass it implements, or one of alternatives(); empty lets the list decide.
  static Result<std::shared_ptr<const Plan>> create(const Problem& problem, Device device = Device::cpu(),
                                                    const Epilogue& epilogue = {}, const std::string& only = {});

  virtual ~Plan() = default;

  [[nodiscard]] virtual const Problem& problem() const = 0;
  /// Bytes of scratch a pass needs when `workers` threads run it. Bounded by the weights and a tile per worker.
  [[nodiscard]] virtual std::size_t workspace_bytes(Pass pass, int workers) const = 0;
  /// Name of the candidate that runs a pass.
  [[nodiscard]] virtual std::string candidate(Pass pass) const = 0;
  /// Ways to run a pass that are worth measuring against each other, the one that the cost model prefers first; names
  /// that `only` takes ("cuda_tiles", "cuda_gather_mma:3", "cuda_tiles+residues": with the residues of a stride as
  /// channels). On the CPU there is one.
  [[nodiscard]] virtual std::vector<std::string> alternatives(Pass pass) const = 0;
  /// Does ahead what the first run of a pass would do and later ones do not: compiling or loading CUDA kernels (for a
  /// model of a GPU into the disk cache). From many threads at once if wanted. Nothing to do on the CPU.
  [[nodiscard]] virtual Status prepare(Pass pass) const = 0;
  /// Blocking and mode of what runs a pass, one line.
  [[nodiscard]] virtual std::string detail(Pass pass) const = 0;
  /// Candidates, decline reasons, blocking, workspace and floor, for people.
  [[nodiscard]] virtual std::string explain() const = 0;

  [[nodiscard]] virtual Status forward(const ForwardArgs& args, const Launch& launch = {}) const = 0;
  [[nodiscard]] virtual Status backward_input(const BackwardInputArgs& args, const Launch& launch = {}) const = 0;
  [[nodiscard]] virtual Status backward_weight(const BackwardWeightArgs& args, const Launch& launch = {}) const = 0;
  [[nodiscard]] virtual Status backward_bias(const BackwardBiasArgs& args, const Launch& launch = {}) const = 0;
};

}  // namespace upconv
