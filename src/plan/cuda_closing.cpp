// See cuda_closing.hpp.
#include "plan/cuda_closing.hpp"

#include "plan/closing_lowering.hpp"

namespace upconv {

ClosingProgram closing_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
                               bool training, bool any_size) {
  const auto purpose = training ? ClosingLowering::Purpose::training : ClosingLowering::Purpose::results;
  return ClosingLowering(problem, chain, shapes, purpose, any_size).take();
}

}  // namespace upconv
