// What a chain becomes on CUDA: the convolution with the epilogue, then passes of the closing kernels over what it
// stored. A pure function of problem and chain.
#pragma once

#include <variant>
#include <vector>

#include "cuda/closing.hpp"
#include "cuda/pull.hpp"

namespace upconv {

/// Memory that passes share. Values have a shape; statistics and tables are known by their size alone.
struct ClosingBuffer {
  enum class Place {
    x,
    y,
    workspace,
    z,        ///< training: the convolution's result, kept
    saved,    ///< training: what norms, softmax and maxima keep
    dy,       ///< gradient of y
    dz,       ///< gradient of z
    db,       ///< of the bias
    operand,  ///< of operand `number`
  } place = Place::workspace;
  std::int64_t bytes = 0;   ///< workspace, saved
  std::int64_t offset = 0;  ///< workspace, saved
  int number = 0;           ///< operand
};

struct ClosingProgram {
  std::vector<ClosingBuffer> buffers;
  std::vector<cuda::ClosingPass> before;  ///< On x, in front of the convolution.
  std::vector<cuda::ClosingPass> passes;
  std::vector<int> saved;  ///< Buffers, in an order that the chain decides.
  int x = 0, y = 1;        ///< Buffers that the convolution reads and writes.
};

/// `any_size`: passes that are right for any batch and spatial sizes, not for those of `shapes` alone.
/// `shapes` as chain_shapes gives them. Sizes of parts are filled in by who knows the launches. `training`: the
/// convolution stores its own result, which stays, and the epilogue is a step of the passes.
ClosingProgram closing_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
                               bool training = false, bool any_size = false);

/// The gradient of a chain: from dy, z and what was saved to dz, db and the gradients of operands.
struct PullingProgram {
  std::vector<ClosingBuffer> buffers;
  std::vector<std::variant<cuda::ClosingPass, cuda::PullPass>> passes;
  std::vector<int> saved;
};

/// `sizes` of the operands, `wanted`: a bit for each whose gradient is wanted. Without a prologue, which is no part of
/// it.
PullingProgram pulling_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
                               const std::vector<Shape5>& sizes, unsigned wanted, bool bias, bool any_size = false);

}  // namespace upconv
