// The seam between the plan and the engines: a candidate is one way to run one pass. It accepts a problem
// by returning a PassKernel, or declines with the reason that explain() shows.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "problem/geometry.hpp"
#include "upconv/epilogue.hpp"
#include "upconv/executor.hpp"
#include "upconv/problem.hpp"
#include "upconv/status.hpp"

namespace upconv {

/// The tensors of any pass; a pass reads and writes its own members only.
struct PassTensors {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* b = nullptr;
  const void* dy = nullptr;
  void* y = nullptr;
  void* dx = nullptr;
  void* dw = nullptr;
  void* db = nullptr;
  const Operand* operands = nullptr;  ///< forward: of the epilogue's steps, by number
};

/// One pass of one problem, specialised and ready to run. Immutable.
class PassKernel {
 public:
  virtual ~PassKernel() = default;
  [[nodiscard]] virtual std::size_t workspace_bytes(int workers) const = 0;
  virtual void run(const PassTensors& tensors, void* workspace, Executor& executor) const = 0;
  /// Blocking and instruction set, one line for explain().
  [[nodiscard]] virtual std::string detail() const = 0;
};

/// What a candidate is asked.
struct Request {
  const Problem& problem;
  const Geometry& geometry;
  Pass pass;
  const Epilogue& epilogue;
  bool forced = false;  ///< Asked for by name: decline only what cannot run, not what another would run faster.
};

/// The bounds inside which every candidate but the last may size tables and tiles by stride and dilated kernel.
/// Beyond them lie legal problems that no model has; the plain loops take those.
Status within_bounds(const Geometry& geometry);

/// A named way to run a pass on an engine whose kernels are `Kernel`s and whose question is an `Ask`.
template <class Kernel, class Ask>
struct CandidateOf {
  std::string_view name;
  Result<std::unique_ptr<Kernel>> (*make)(const Ask& request);
};

using Candidate = CandidateOf<PassKernel, Request>;

}  // namespace upconv
