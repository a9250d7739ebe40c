// A chain's CUDA plan on the emulated device, for tests in Python (tests/fusion/emulated_chains.py): one C function
// over host memory. Tensors lie in guarded buffers, results and workspace are full of NaN before the run.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "ops/guarded.hpp"
#include "plan/cuda_chain.hpp"
#include "steps.hpp"
#include "upconv/chain.hpp"

using namespace upconv;

namespace {

std::string answer;

const char* say(const std::string& s) {
  answer = s;
  return answer.c_str();
}

std::int64_t count_of(const std::int64_t* size) {
  std::int64_t n = 1;
  for (int d = 0; d < 5; ++d) n *= size[d];
  return n;
}

}  // namespace

extern "C" {

struct ChainCall {
  const char* problem;
  const double* numbers;
  std::int64_t number_count;
  const void *x, *w, *b;
  std::int64_t x_count, w_count, b_count;
  void* y;
  std::int64_t y_count;
  double* statistics;
  std::int64_t operand_count;
  const void* const* operands;        ///< dense
  const std::int64_t* operand_sizes;  ///< five each
};

/// Null, or what went wrong.
__attribute__((visibility("default"))) const char* upconv_run_chain(const ChainCall* call) try {
  const auto problem = parse_problem(call->problem);
  if (!problem.ok()) return say(problem.status().message());
  Chain chain = binding::make_chain({call->numbers, call->numbers + call->number_count});
  const auto bytes = [&](std::int64_t n) { return static_cast<std::size_t>(n * size_of(problem->dtype)); };
  std::vector<std::unique_ptr<test::Guarded>> held;
  const auto place = [&](const void* from, std::size_t size, std::size_t alignment) {
    held.push_back(std::make_unique<test::Guarded>());
    held.back()->reset(size, test::Flush::back, 0, alignment);
    if (from) std::memcpy(held.back()->data(), from, size);
    return held.back()->data();
  };
  std::vector<OperandTensor> operands(static_cast<std::size_t>(call->operand_count));
  for (std::size_t i = 0; i < operands.size(); ++i) {
    OperandTensor& o = operands[i];
    std::copy_n(call->operand_sizes + 5 * i, 5, o.size.begin());
    o.data = place(call->operands[i], bytes(count_of(call->operand_sizes + 5 * i)), 16);
    std::int64_t stride = 1;
    for (int d = 4; d >= 0; --d) o.stride[d] = stride, stride *= o.size[d];
  }
  note_spreads(*problem, chain, operands.data(), static_cast<int>(operands.size()));
  const auto plan = ChainPlan::create(*problem, Device::cuda(0), chain);
  if (!plan.ok()) return say(plan.status().message());
  std::int64_t expected = 1;
  for (std::int64_t n : (*plan)->result_shape()) expected *= n;
  if (expected != call->y_count) return say("the plan's result has " + std::to_string(expected) + " elements");
  const void* x = place(call->x, bytes(call->x_count), 16);
  const void* w = place(call->w, bytes(call->w_count), 16);
  const void* b = call->b ? place(call->b, bytes(call->b_count), 16) : nullptr;
  void* y = place(nullptr, bytes(call->y_count), 16);
  const std::size_t need = (*plan)->workspace_bytes(1);
  void* workspace = need ? place(nullptr, need, 256) : nullptr;
  const Status s = (*plan)->run({.x = x,
                                 .w = w,
                                 .b = b,
                                 .y = y,
                                 .operands = operands.data(),
                                 .operand_count = static_cast<int>(operands.size()),
                                 .statistics = (*plan)->normalises() ? call->statistics : nullptr},
                                {.workspace = workspace, .workspace_bytes = need});
  if (!s.ok()) return say(s.message());
  for (const auto& buffer : held)
    if (!buffer->intact()) return say("something outside a tensor was written");
  const std::pair<const void*, const void*> unchanged[] = {{x, call->x}, {w, call->w}};
  if (std::memcmp(unchanged[0].first, unchanged[0].second, bytes(call->x_count)) != 0 ||
      std::memcmp(unchanged[1].first, unchanged[1].second, bytes(call->w_count)) != 0)
    return say("an input was changed");
  std::memcpy(call->y, y, bytes(call->y_count));
  return nullptr;
} catch (const std::exception& e) {
  return say(e.what());
}

/// What runs it on `device` ("sm_90"), for people.
__attribute__((visibility("default"))) const char* upconv_explain_chain(const ChainCall* call) try {
  const auto problem = parse_problem(call->problem);
  if (!problem.ok()) return say(problem.status().message());
  const auto plan = ChainPlan::create(*problem, Device::cuda_model(90),
                                      binding::make_chain({call->numbers, call->numbers + call->number_count}));
  return say(plan.ok() ? (*plan)->explain() : plan.status().message());
} catch (const std::exception& e) {
  return say(e.what());
}
}
