// See residues_form.hpp.
#include "plan/residues_form.hpp"

#include "plan/candidate.hpp"
#include "problem/residues_as_channels.hpp"

namespace upconv {

ResiduesForm::ResiduesForm(const Problem& of) : problem_(residues_as_channels(of)), bias_(of.bias) {
  bounds_ = within_bounds(make_geometry(of));
  if (problem_) geometry_ = make_geometry(*problem_);
}

Status ResiduesForm::covers(Pass pass, const Epilogue& epilogue) const {
  if (!problem_)
    return unsupported(
        "needs one dimension, one output channel, at least 16 input channels, and a stride of at least 8 that divides "
        "kernel and padding, without dilation and output_padding");
  if (!bounds_.ok()) return bounds_;
  if (pass == Pass::backward_bias) return unsupported("db is one sum over all residues, not one for each");
  if (pass == Pass::forward && bias_) return unsupported("the bias is one number for all residues, not one for each");
  if (pass == Pass::forward && !epilogue.empty())
    return unsupported("the epilogue has one channel for all residues, not one for each");
  return {};
}

}  // namespace upconv
