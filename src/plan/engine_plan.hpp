// The four passes of a Plan, written once over what engines differ in.
#pragma once

#include "plan/choose.hpp"

namespace upconv {

class EnginePlan : public Plan {
 public:
  EnginePlan(const Problem& problem, const Epilogue& epilogue)
      : problem_(problem), geometry_(make_geometry(problem)), epilogue_(epilogue) {}

  const Problem& problem() const override { return problem_; }

  Status forward(const ForwardArgs& a, const Launch& launch) const override {
    if ((a.b != nullptr) != problem_.bias)
      return invalid_argument(problem_.bias ? "forward: the problem has a bias, but b is null"
                                            : "forward: the problem has no bias, but b is given");
    if (a.operands == nullptr && epilogue_.operands() > 0)
      return invalid_argument("forward: the epilogue reads " + std::to_string(epilogue_.operands()) +
                              " operands, but none are given");
    return run(Pass::forward, {.x = a.x, .w = a.w, .b = a.b, .y = a.y, .operands = a.operands}, launch);
  }
  Status backward_input(const BackwardInputArgs& a, const Launch& launch) const override {
    return run(Pass::backward_input, {.w = a.w, .dy = a.dy, .dx = a.dx}, launch);
  }
  Status backward_weight(const BackwardWeightArgs& a, const Launch& launch) const override {
    return run(Pass::backward_weight, {.x = a.x, .dy = a.dy, .dw = a.dw}, launch);
  }
  Status backward_bias(const BackwardBiasArgs& a, const Launch& launch) const override {
    return run(Pass::backward_bias, {.dy = a.dy, .db = a.db}, launch);
  }

 protected:
  virtual Status run(Pass pass, const PassTensors& tensors, const Launch& launch) const = 0;

  /// Only forward applies the epilogue.
  [[nodiscard]] const Epilogue& epilogue_of(Pass pass) const {
    static const Epilogue none;
    return pass == Pass::forward ? epilogue_ : none;
  }

  Problem problem_;
  Geometry geometry_;
  Epilogue epilogue_;
};

Result<std::shared_ptr<const Plan>> make_cpu_plan(const Problem& problem, const Epilogue& epilogue,
                                                  const std::string& only);
Result<std::shared_ptr<const Plan>> make_cuda_plan(const Problem& problem, Device device, const Epilogue& epilogue,
                                                   const std::string& only);

}  // namespace upconv
