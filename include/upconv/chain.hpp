// A transposed convolution together with what surrounds it in a model: steps on x before it, steps on its result, and
// closing steps that look at more than one element (norms, softmax, reductions, pooling). Built and run like a Plan.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "upconv/epilogue.hpp"
#include "upconv/plan.hpp"
#include "upconv/problem.hpp"
#include "upconv/status.hpp"
#include "upconv/visibility.hpp"

namespace upconv {

/// Sizes of a tensor as (n, channel, d, h, w); a problem of fewer dimensions has 1 for the outer ones.
using Shape5 = std::array<std::int64_t, 5>;

/// One step over more than one element, and the element-wise steps after it.
struct ClosingStep {
  enum class Kind {
    reduce,      ///< `reduction` over the dimensions first..last (1 = channel .. 4 = w), which become 1
    softmax,     ///< over the dimensions first..last together
    pool,        ///< average or maximum in windows of `kernel`
    plane_norm,  ///< GroupNorm with `groups`; InstanceNorm is groups = channels
    row_norm,    ///< LayerNorm over the last `dims` dimensions
    batch_norm,  ///< BatchNorm with the statistics of this batch; at most one in a chain
  };
  enum class Reduction { sum, mean, maximum, minimum, logsumexp };

  Kind kind = Kind::reduce;
  Reduction reduction = Reduction::sum;
  int first = 1, last = 1;
  bool average = false;  ///< pool: average instead of maximum
  bool count_include_pad = true;
  Extent kernel{1, 1, 1}, stride{1, 1, 1}, padding{0, 0, 0};  ///< pool, as (d, h, w)
  std::int64_t groups = 1;
  int dims = 1;
  double eps = 1e-5;
  bool center_only = false;    ///< plane_norm: subtract the mean and leave the scale
  int weight = -1, bias = -1;  ///< operand numbers of a norm, dense vectors; -1: none
  Epilogue after;

  bool operator==(const ClosingStep&) const = default;
};

struct Chain {
  Epilogue prologue;  ///< on x, before the convolution
  Epilogue epilogue;  ///< on its result
  std::vector<ClosingStep> closing;

  bool operator==(const Chain&) const = default;
  [[nodiscard]] int operands() const;
  [[nodiscard]] const ClosingStep* batch_norm() const;
};

/// An operand as the caller has it: sizes that broadcast over the values of the step that reads it, element strides.
struct OperandTensor {
  const void* data = nullptr;
  Shape5 size{1, 1, 1, 1, 1};
  Shape5 stride{};
};

struct ChainArgs {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* b = nullptr;
  void* y = nullptr;  ///< of result_shape(), dense channels first
  const OperandTensor* operands = nullptr;
  int operand_count = 0;
  double* statistics = nullptr;  ///< batch_norm: mean, then biased variance of every channel; may be null
};

/// Notes in every step of a chain how its operand lies, for the tensors of a call: what the CUDA engine specialises its
/// kernels for. A plan of the noted chain takes tensors that lie alike. Leaves a chain alone that is not valid.
UPCONV_API void note_spreads(const Problem& problem, Chain& chain, const OperandTensor* operands, int count);

/// Sizes after the epilogue and after each closing step, or what is wrong with a step.
UPCONV_API Result<std::vector<Shape5>> chain_shapes(const Problem& problem, const Chain& chain);

/// What a batch norm in training does to its running averages, given a run's statistics: the mean, and the unbiased
/// variance of `count` values a channel.
struct RunningArgs {
  const double* statistics = nullptr;  ///< mean, then biased variance of every channel
  void* mean = nullptr;
  void* variance = nullptr;
  std::int64_t* batches = nullptr;  ///< counts the updates; goes up by one
  DType dtype = DType::f32;         ///< of the averages
  std::int64_t channels = 0, count = 1;
  double momentum = 0.1;  ///< below 0: of the averages over all batches
};
UPCONV_API Status update_running(Device device, const RunningArgs& args, const Launch& launch = {});

/// For every tap of one dimension the sum of the x that it takes to a result of `size` there, times `scale`: what a
/// mean over that dimension needs of x (docs/fusion.md). x is dense, (outer, length, inner), sums are (outer, taps,
/// inner), of the same dtype, added up in float. On CUDA, not of float64.
struct TapSumsArgs {
  const void* x = nullptr;
  void* sums = nullptr;
  DType dtype = DType::f32;
  std::int64_t outer = 1, length = 1, inner = 1, size = 1;
  std::int64_t taps = 1, stride = 1, padding = 0, dilation = 1;  ///< the layer's, of this dimension
  float scale = 1.0f;
};
UPCONV_API Status tap_sums(Device device, const TapSumsArgs& args, const Launch& launch = {});

class UPCONV_API ChainPlan {
 public:
  /// Validates problem and chain. With closing steps or a prologue y must be channels first.
  static Result<std::shared_ptr<const ChainPlan>> create(const Problem& problem, Device device, const Chain& chain);
  virtual ~ChainPlan() = default;
  [[nodiscard]] virtual Shape5 result_shape() const = 0;
  /// Whether a run has statistics to give.
  [[nodiscard]] virtual bool normalises() const = 0;
  [[nodiscard]] virtual std::size_t workspace_bytes(int workers) const = 0;
  [[nodiscard]] virtual std::string explain() const = 0;
  [[nodiscard]] virtual Status prepare() const = 0;
  [[nodiscard]] virtual Status run(const ChainArgs& args, const Launch& launch = {}) const = 0;
};

/// A chain whose gradient is wanted. Forward, the layer stores its own result z, and norms, softmax over long rows and
/// maxima of windows keep a few numbers; backward, dy becomes dz, the bias's and operands' gradients. dx and dw are
/// then those of the layer, from dz. On CUDA, without a prologue.
class UPCONV_API TrainingChain {
 public:
  /// What lasts from forward to backward.
  struct Kept {
    void* z = nullptr;      ///< of layer_shape(), dense channels first
    void* saved = nullptr;  ///< saved_bytes()
  };
  struct ChainGradients {
    const void* dy = nullptr;
    const OperandTensor* operands = nullptr;
    int operand_count = 0;
    void* dz = nullptr;
    void* db = nullptr;                ///< where the problem has a bias
    void* const* gradients = nullptr;  ///< by number, of every wanted operand: dense, of its size
  };

  /// Of a chain that note_spreads() has seen. `sizes` of the operands; `wanted`: a bit for each whose gradient is
  /// wanted.
  static Result<std::shared_ptr<const TrainingChain>> create(const Problem& problem, Device device, const Chain& chain,
                                                             const std::vector<Shape5>& sizes, unsigned wanted);
  virtual ~TrainingChain() = default;
  [[nodiscard]] virtual Shape5 result_shape() const = 0;
  [[nodiscard]] virtual Shape5 layer_shape() const = 0;
  [[nodiscard]] virtual bool normalises() const = 0;
  [[nodiscard]] virtual std::size_t saved_bytes() const = 0;
  [[nodiscard]] virtual std::size_t workspace_bytes(bool gradient) const = 0;
  [[nodiscard]] virtual std::string explain() const = 0;
  [[nodiscard]] virtual Status prepare() const = 0;
  [[nodiscard]] virtual Status forward(const ChainArgs& args, const Kept& kept, const Launch& launch = {}) const = 0;
  [[nodiscard]] virtual Status backward(const ChainGradients& gradients, const Kept& kept,
                                        const Launch& launch = {}) const = 0;
};

}  // namespace upconv
