// The second form that a CUDA plan may run a pass in: the problem that has the residues of the stride as channels
// (problem/residues_as_channels.hpp), on the same tensors. Used by cuda_plan.cpp, which asks the candidates about both.
#pragma once

#include <optional>

#include "problem/geometry.hpp"
#include "upconv/epilogue.hpp"
#include "upconv/problem.hpp"
#include "upconv/status.hpp"

namespace upconv {

class ResiduesForm {
 public:
  explicit ResiduesForm(const Problem& of);

  /// Whether `pass` of the plan's problem, with this epilogue, is that pass of problem(); the reason why not. What
  /// follows may be called where it is.
  [[nodiscard]] Status covers(Pass pass, const Epilogue& epilogue) const;
  [[nodiscard]] const Problem& problem() const { return *problem_; }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }

 private:
  std::optional<Problem> problem_;
  Geometry geometry_;
  Status bounds_;  ///< Of the plan's problem: beyond them its stride would be a number of channels that no layer has.
  bool bias_;
};

}  // namespace upconv
