// The closing kernels of a chain on CUDA: one pass over stored values that evaluates element-wise items, a pooling
// window and one collective operation. What a chain needs of them is decided by plan/cuda_closing.cpp; here a pass
// becomes the text, the launch and the kernel of kernels/closing/.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/operands.hpp"
#include "jit/kernel.hpp"
#include "launch/closing.hpp"
#include "plan/target.hpp"
#include "upconv/chain.hpp"

namespace upconv::cuda {

/// What is done to each element of the source, in order. Tables are buffers of three numbers a plane or row.
struct ClosingItem {
  enum class Kind {
    steps,
    plane_table,  ///< (v - r) * s + t, by sample and channel
    row_table,    ///< the same by row, then a norm's vectors along the row
    soft_table,   ///< exp(v - r) * s, by row
    set_norm,     ///< (v - mean) * scale by the set of planes, then a norm's vectors by channel
    equals,       ///< 1 where v is what a reduction over it gave, else 0
  };
  Kind kind = Kind::steps;
  Epilogue steps;
  int table = -1;                      ///< Buffer.
  int first = 4;                       ///< First dimension of a row.
  int weight = -1, bias = -1;          ///< row_table, set_norm: operand numbers.
  bool batch = false, center = false;  ///< set_norm: a set is a channel of all samples; there is no scale.
  std::int64_t per = 1;                ///< set_norm: else this many planes.
  double eps = 0.0;                    ///< set_norm and row_table
};

struct ClosingWindow {
  bool average = false, count_include_pad = true;
  Extent kernel{1, 1, 1}, stride{1, 1, 1}, padding{0, 0, 0};
};

/// The values that a pass reads.
struct ClosingValue {
  int source = 0;  ///< Buffer.
  DType stored = DType::f32;
  Shape5 shape{};
  std::vector<ClosingItem> before;
  std::optional<ClosingWindow> window;
  Epilogue after;  ///< Steps after the window.

  int argmax = -1;  ///< Buffer: where the window's largest value lies is kept there.

  [[nodiscard]] Shape5 at() const;  ///< The shape after the window.
  [[nodiscard]] bool plain() const { return before.empty() && !window && after.empty(); }
  [[nodiscard]] int tables() const;
};

struct ClosingPass {
  enum class Kind { map, parts, norm, result, columns, rows, sets };
  enum class Collect { moments, sum, largest, smallest, exponentials };

  Kind kind = Kind::map;
  ClosingValue value;  ///< norm and result: of the parts that they put together.
  int out = -1;        ///< Buffer of values; -1: none.
  DType out_type = DType::f32;
  int first = 2, last = 4;  ///< Dimensions of a unit, column or row.
  Collect collect = Collect::moments;
  std::optional<ClosingStep::Reduction> reduce;
  bool softmax = false;                                    ///< result: makes a softmax's table.
  bool layer_norm = false;                                 ///< rows
  bool once = false;                                       ///< rows: no gradient will work these values out again.
  bool batch = false, center = false, statistics = false;  ///< norm
  bool centered = false;                                   ///< norm: after it the mean of each plane is subtracted.
  std::int64_t per = 1;                                    ///< norm, sets: planes that share mean and variance.
  double eps = 0.0;
  int weight = -1, bias = -1;                  ///< Operand numbers of a norm's vectors.
  int parts = -1, table = -1, table_out = -1;  ///< Buffers; `table` is applied to the moments first.
  int saved = -1;                              ///< norm, sets: mean and scale of every set, for the gradient.
  int instead_of = 0;                          ///< sets: the passes behind it, which do the same where it cannot run.
  bool backwards = false;                      ///< Whether the last values are read first.
  Epilogue middle, after_result;               ///< Steps after a softmax or a norm, and after a reduction.

  [[nodiscard]] Shape5 result() const;
  /// Whether it may write where it reads.
  [[nodiscard]] bool in_place() const;
  [[nodiscard]] int operands() const;
};

/// Whether a pass reads values, not statistics of them alone.
bool reads_values(const ClosingPass& pass);

/// Addresses of a run.
struct ClosingTensors {
  const void* source = nullptr;
  void* out = nullptr;
  void* parts = nullptr;
  const void* tables[4] = {nullptr, nullptr, nullptr, nullptr};
  void* table_out = nullptr;
  void *argmax = nullptr, *saved = nullptr;
  double* statistics = nullptr;
  const void *weight = nullptr, *bias = nullptr;
  const Operand* operands = nullptr;  ///< By number; the vectors of row tables as data alone.
};

/// Bytes in which the place of a window's largest value is kept.
int argmax_bytes(const ClosingWindow& window);

/// How a value is read, of both kinds of kernels: the launch's part of it, and how many operands there are.
launch::ClosingFixed closing_fixed(const ClosingPass& pass, DType element);
int operands_of(const ClosingValue& value);

class ClosingKernel {
 public:
  /// Unsupported where sizes exceed what the kernels index.
  static Result<std::unique_ptr<ClosingKernel>> make(const ClosingPass& pass, DType element, const CudaTarget& target);

  [[nodiscard]] Status run(const ClosingTensors& tensors, void* stream) const;
  [[nodiscard]] const jit::Kernel& kernel() const { return kernel_; }
  [[nodiscard]] const launch::ClosingFixed& fixed() const { return fixed_; }
  [[nodiscard]] std::int64_t parts_bytes() const { return launch_.parts_bytes; }
  /// norm and result: whether the parts kernel has already written what this one would.
  [[nodiscard]] bool needed() const { return needed_; }
  [[nodiscard]] double bytes() const { return bytes_; }
  [[nodiscard]] std::string detail() const { return detail_; }

  ClosingKernel(const ClosingPass& pass, DType element, const CudaTarget& target, const launch::ClosingFixed& fixed,
                const launch::ClosingLaunch& launch);

 private:
  int device_, operands_;
  bool needed_ = true;
  launch::ClosingFixed fixed_;
  launch::ClosingLaunch launch_;
  jit::Kernel kernel_;
  double bytes_ = 0.0;
  std::string detail_;
};

}  // namespace upconv::cuda
