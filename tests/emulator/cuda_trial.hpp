// One problem with data, run through candidates of the CUDA engine on the emulated device and judged against the
// oracle, with guarded tensors and poisoned outputs and workspaces. Called by emulate.cpp.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "ops/guarded.hpp"
#include "ops/oracle.hpp"
#include "upconv/plan.hpp"

namespace upconv::test {

/// How a trial runs, beside its problem. Everything follows from `seed`.
struct CudaSetting {
  std::uint64_t seed = 1;  ///< Of the data; also says whether they are small integers and where the tensors lie.
  Epilogue epilogue;
  bool operands = false;  ///< After the epilogue, operand tensors of every spread are added to y.
  /// One element of x and of dy is inf: results that use it are not finite, all others are right.
  bool not_finite = false;

  /// Integers -3 .. 3, whose sums are exact in every precision, so that results must be equal; else [-1, 1).
  [[nodiscard]] bool exact() const { return seed % 2 == 1; }
  /// Tensors end right before an unmapped page, wherever they then start; else they start aligned, or one element
  /// behind that.
  [[nodiscard]] bool at_end() const { return seed % 4 < 2; }
  [[nodiscard]] int misalign() const { return seed % 8 >= 6 ? 1 : 0; }
};

struct CudaOutcome {
  bool ran = false;     ///< False: the candidate declined, `message` says why.
  std::string message;  ///< Empty: all is well.
};

class CudaTrial {
 public:
  CudaTrial(const Problem& problem, const CudaSetting& setting);

  CudaOutcome run(const std::string& candidate, Pass pass);

 private:
  /// Adds an operand of every spread to the epilogue; channels-last results know no dense spreads.
  void draw_operands();
  /// What the operands add to element `logical` of y.
  [[nodiscard]] double of_operands(std::int64_t logical) const;
  void place(Guarded& buffer, const std::vector<double>& values, std::int64_t channels, std::int64_t volume,
             Layout layout) const;
  [[nodiscard]] std::string judge(Pass pass, const Guarded& out, std::int64_t channels, std::int64_t volume,
                                  Layout layout) const;

  Problem problem_;
  CudaSetting setting_;
  Sizes size_;
  std::vector<double> x_, w_, b_, dy_;
  /// Their sizes as flags over (n, channel, d, h, w), and their numbers, dense channels first.
  struct DrawnOperand {
    std::array<bool, 5> varies;
    std::vector<double> values;
  };
  std::vector<DrawnOperand> operands_;
  Oracle oracle_;
};

}  // namespace upconv::test
