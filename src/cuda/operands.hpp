// The operand tensors of an epilogue as a forward kernel takes them: its last parameter
// (kernels/epilogue/operands.cuh).
#pragma once

#include "arguments/operands.cuh"
#include "cuda/pass_kernel.hpp"

namespace upconv::cuda {

/// Memory for the argument of one launch; left as it is where no step reads an operand.
typedef arguments::Operands<max_operands> OperandBlock;

class OperandArguments {
 public:
  explicit OperandArguments(const Request& r) : count_(r.epilogue.operands()) {
    const Geometry& g = r.geometry;
    const bool last = r.problem.y_layout == Layout::channels_last;
    values_ = {g.out_channels() * g.out_volume(), last ? 1 : g.out_volume(), last ? g.out_channels() : 1,
               static_cast<int>(g.out[1]), static_cast<int>(g.out[2])};
  }

  /// What a launch passes, in `block`; `operands` are those of the run, by number.
  const void* fill(const Operand* operands, OperandBlock& block) const {
    if (count_ == 0) return &block;
    block.values = values_;
    for (int i = 0; i < count_; ++i) {
      const auto& s = operands[i].stride;
      block.at[i] = {operands[i].data, s[0], s[1], s[2], s[3], s[4]};
    }
    return &block;
  }

 private:
  int count_;
  arguments::Values values_{};
};

}  // namespace upconv::cuda
