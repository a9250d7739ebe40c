// See candidates.hpp.
#include "cuda/candidates.hpp"

namespace upconv::cuda {

std::span<const Candidate> candidates(Pass pass) {
  static const Candidate forward[] = {
      {{"cuda_scatter", make_scatter}},
      {{"cuda_residues", make_residues}},
      {{"cuda_positions", make_positions}},
      {{"cuda_boxes", make_boxes}, most_variants},
      {{"cuda_implicit_gemm", make_implicit_gemm}, most_variants},
      {{"cuda_columns", make_columns}, most_variants},
      {{"cuda_tiles", make_tiles}, most_variants},
      {{"cuda_gather_mma", make_gather_mma}, most_variants},
      {{"cuda_direct", make_direct}},
  };
  static const Candidate input[] = {
      {{"cuda_positions", make_positions}, 1, true},
      {{"cuda_boxes", make_boxes}, most_variants},
      {{"cuda_implicit_gemm", make_implicit_gemm}, most_variants},
      {{"cuda_input_wgmma", make_input_wgmma}, most_variants},
      {{"cuda_tiles", make_tiles}, most_variants},
      {{"cuda_gather_mma", make_gather_mma}, most_variants},
      {{"cuda_direct", make_direct}},
  };
  static const Candidate weight[] = {
      {{"cuda_positions_weight", make_positions_weight}, 1, true},
      {{"cuda_implicit_gemm_weight", make_implicit_gemm_weight}, most_variants},
      {{"cuda_weight_wgmma", make_weight_wgmma}, most_variants},
      {{"cuda_weight_mma", make_weight_mma}, most_variants},
      {{"cuda_direct", make_direct}},
  };
  static const Candidate bias[] = {
      {{"cuda_bias_sum", make_bias_sum}},
      {{"cuda_direct", make_direct}},
  };
  switch (pass) {
    case Pass::forward:
      return forward;
    case Pass::backward_input:
      return input;
    case Pass::backward_weight:
      return weight;
    case Pass::backward_bias:
      return bias;
  }
  return {};
}

}  // namespace upconv::cuda
