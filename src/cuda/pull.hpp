// The gradient kernels of a chain on CUDA: one pass that takes a gradient back through what kernels/closing/ computes
// forward. What a chain needs of them is decided by plan/cuda_pulling.cpp; here a pass becomes text, launch and kernel.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/closing.hpp"
#include "launch/pull.hpp"

namespace upconv::cuda {

/// Where the gradient of an operand goes: into sum number `slot` of every share, or into a number for each value.
struct PullTarget {
  int operand = 0;
  bool whole = false;
  int slot = 0;
};

struct PullPass {
  enum class Kind {
    pull,     ///< closing/pull.cuh
    columns,  ///< closing/pull_columns.cuh
    rows,     ///< closing/pull_rows.cuh
    norm,     ///< closing/pull_norm.cuh
    total,    ///< closing/total.cuh
  };
  enum class Arrives { plain, reduced, averages, maxima };
  /// total: sums of another pass, a norm's vectors of rows, or values.
  enum class Source { sums, vector_sums, whole };

  Kind kind = Kind::pull;
  ClosingValue value;  ///< What the forward pass computed from.
  int gradient = -1;   ///< Buffer.
  DType gradient_type = DType::f32;
  Arrives arrives = Arrives::plain;
  ClosingWindow window;  ///< That the gradient comes from.
  int argmax = -1;
  std::optional<ClosingStep::Reduction> reduction;  ///< That it comes from, over r_first to r_last.
  int r_first = 1, r_last = 1;
  int reduced = -1, ties = -1;    ///< Buffers: what the reduction gave, and of how many values.
  std::vector<int> coefficients;  ///< Buffers, one for each table of the value; -1 where none is needed.
  bool stops = false;             ///< columns, rows: at what the items give.
  int depth = -1;                 ///< The item before which it stops, to sum up what that item's gradient needs.
  int first = 2, last = 4;        ///< Dimensions of a unit, column or row.
  int out = -1;
  DType out_type = DType::f32;
  int sums = -1, sum_count = 0;
  std::vector<PullTarget> targets, middle_targets;
  std::vector<int> wholes;  ///< Buffers by slot.
  int bias_slot = -1;       ///< The sum of what is written.
  bool layer_norm = false;  ///< rows
  double eps = 0.0;
  int weight = -1, bias = -1;  ///< rows, norm: operand numbers.
  int vector_sums = -1;        ///< rows: buffer.
  Epilogue middle;             ///< columns, rows: steps after the softmax or norm.
  // norm
  bool batch = false, center = false;
  std::int64_t per = 1;
  int saved = -1, table_out = -1, table_width = 2;
  // total
  Source source = Source::sums;
  int from = -1;  ///< sums and vector_sums: the pass, by its place among all.
  int slot = 0;
  int total_in = -1;     ///< whole: buffer
  Shape5 shape{};        ///< whole
  unsigned gone = 0;     ///< Dimensions that are summed over, a bit each.
  bool add = false;      ///< To what is there.
  bool nothing = false;  ///< The result is 0.

  [[nodiscard]] int operands() const;
};

struct PullTensors {
  const void* source = nullptr;
  const void* gradient = nullptr;
  void* out = nullptr;
  const void* tables[4] = {nullptr, nullptr, nullptr, nullptr};
  const void* coefficients[4] = {nullptr, nullptr, nullptr, nullptr};
  const void *argmax = nullptr, *reduced = nullptr, *ties = nullptr;
  void *sums = nullptr, *vector_sums = nullptr, *table_out = nullptr;
  void* whole[arguments::most_wholes] = {};
  const void *weight = nullptr, *bias = nullptr;
  const Operand* operands = nullptr;
};

class PullKernel {
 public:
  /// `from`: of a total, the kernel whose sums it adds up.
  static Result<std::unique_ptr<PullKernel>> make(const PullPass& pass, DType element, const CudaTarget& target,
                                                  const PullKernel* from);

  [[nodiscard]] Status run(const PullTensors& tensors, void* stream) const;
  [[nodiscard]] const jit::Kernel& kernel() const { return kernel_; }
  [[nodiscard]] const launch::PullFixed& fixed() const { return fixed_; }
  [[nodiscard]] std::int64_t sum_bytes() const { return launch_.sum_bytes; }
  [[nodiscard]] std::int64_t vector_bytes() const { return launch_.vector_bytes; }
  [[nodiscard]] double bytes() const { return bytes_; }
  [[nodiscard]] std::string detail() const { return detail_; }

  PullKernel(const PullPass& pass, DType element, const CudaTarget& target, const launch::PullFixed& fixed,
             const launch::PullLaunch& launch, const launch::TotalLaunch& total);

 private:
  int device_, operands_;
  PullPass::Kind kind_;
  launch::PullFixed fixed_;
  launch::PullLaunch launch_;
  launch::TotalLaunch total_;
  std::int64_t total_offset_ = 0;
  jit::Kernel kernel_;
  double bytes_ = 0.0;
  std::string detail_;
};

/// Whether the pass reads the values themselves.
bool reads_values(const PullPass& pass);

}  // namespace upconv::cuda
