// What a chain becomes on CUDA: the convolution with the epilogue, then passes of the closing kernels over what it
// stored. A pure function of problem and chain.
#pragma once

#include <vector>

#include "cuda/closing.hpp"

namespace upconv {

/// Memory that passes share. Values have a shape; statistics and tables are known by their size alone.
struct ClosingBuffer {
  enum class Place { x, y, workspace } place = Place::workspace;
  std::int64_t bytes = 0;   ///< workspace
  std::int64_t offset = 0;  ///< workspace
};

struct ClosingProgram {
  std::vector<ClosingBuffer> buffers;
  std::vector<cuda::ClosingPass> before;  ///< On x, in front of the convolution.
  std::vector<cuda::ClosingPass> passes;
  int x = 0, y = 1;  ///< Buffers that the convolution reads and writes.
};

/// `shapes` as chain_shapes gives them. Sizes of parts are filled in by who knows the launches.
ClosingProgram closing_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes);

}  // namespace upconv
