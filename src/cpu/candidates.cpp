// See candidates.hpp.
#include "cpu/candidates.hpp"

namespace upconv::cpu {

std::span<const Candidate> candidates(Pass) {
  static const Candidate all[] = {
      {"cpu_channels", make_channels_gather},
      {"cpu_reference", make_reference},
  };
  return all;
}

}  // namespace upconv::cpu
