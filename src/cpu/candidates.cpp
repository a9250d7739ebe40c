// See candidates.hpp.
#include "cpu/candidates.hpp"

namespace upconv::cpu {

std::span<const Candidate> candidates(Pass pass) {
  static const Candidate gather[] = {
      {"cpu_depthwise", make_depthwise},     {"cpu_residues", make_residues},        {"cpu_positions", make_positions},
      {"cpu_weight_rows", make_weight_rows}, {"cpu_channels", make_channels_gather}, {"cpu_reference", make_reference},
  };
  static const Candidate weight[] = {
      {"cpu_depthwise", make_depthwise},
      {"cpu_positions", make_positions},
      {"cpu_channels", make_channels_weight},
      {"cpu_reference", make_reference},
  };
  static const Candidate bias[] = {
      {"cpu_bias_sum", make_bias_sum},
      {"cpu_reference", make_reference},
  };
  switch (pass) {
    case Pass::forward:
    case Pass::backward_input:
      return gather;
    case Pass::backward_weight:
      return weight;
    case Pass::backward_bias:
      return bias;
  }
  return {};
}

}  // namespace upconv::cpu
