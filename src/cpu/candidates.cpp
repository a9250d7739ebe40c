// See candidates.hpp.
#include "cpu/candidates.hpp"

namespace upconv::cpu {

std::span<const Candidate> candidates(Pass pass) {
  static const Candidate products[] = {
      {"cpu_positions", make_positions},
      {"cpu_reference", make_reference},
  };
  static const Candidate bias[] = {
      {"cpu_reference", make_reference},
  };
  if (pass == Pass::backward_bias || pass == Pass::backward_weight) return bias;
  return products;
}

}  // namespace upconv::cpu
