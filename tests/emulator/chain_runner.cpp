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

/// Training: what the emulated device computes forward (`gradient` 0) and backward.
struct TrainingCall {
  ChainCall chain;
  std::int64_t wanted, gradient;
  void *z, *saved;
  std::int64_t z_count, saved_bytes;
  const void* dy;
  void *dz, *db;
  void* const* gradients;
};

namespace {

/// The plan of a call and the operands it looked at.
struct Planned {
  std::vector<OperandTensor> operands;
  std::shared_ptr<const TrainingChain> plan;
  std::string error;

  explicit Planned(const TrainingCall* call) {
    const auto problem = parse_problem(call->chain.problem);
    if (!problem.ok()) {
      error = problem.status().message();
      return;
    }
    Chain chain = binding::make_chain({call->chain.numbers, call->chain.numbers + call->chain.number_count});
    std::vector<Shape5> sizes;
    for (std::int64_t i = 0; i < call->chain.operand_count; ++i) {
      OperandTensor o;
      std::copy_n(call->chain.operand_sizes + 5 * i, 5, o.size.begin());
      o.data = call->chain.operands[i];
      std::int64_t stride = 1;
      for (int d = 4; d >= 0; --d) o.stride[d] = stride, stride *= o.size[d];
      operands.push_back(o);
      sizes.push_back(o.size);
    }
    note_spreads(*problem, chain, operands.data(), static_cast<int>(operands.size()));
    const auto made =
        TrainingChain::create(*problem, Device::cuda(0), chain, sizes, static_cast<unsigned>(call->wanted));
    if (made.ok())
      plan = *made;
    else
      error = made.status().message();
  }
};

}  // namespace

/// Bytes kept between forward and backward, or -1.
__attribute__((visibility("default"))) std::int64_t upconv_saved_bytes(const TrainingCall* call) {
  const Planned p(call);
  return p.plan ? static_cast<std::int64_t>(p.plan->saved_bytes()) : -1;
}

/// Null, or what went wrong.
__attribute__((visibility("default"))) const char* upconv_train_chain(const TrainingCall* call) try {
  Planned p(call);
  if (!p.plan) return say(p.error);
  const std::int64_t size = size_of(parse_problem(call->chain.problem)->dtype);
  std::vector<std::unique_ptr<test::Guarded>> held;
  const auto place = [&](const void* from, std::int64_t bytes, std::size_t alignment = 16) {
    held.push_back(std::make_unique<test::Guarded>());
    held.back()->reset(static_cast<std::size_t>(bytes), test::Flush::back, 0, alignment);
    if (from) std::memcpy(held.back()->data(), from, static_cast<std::size_t>(bytes));
    return held.back()->data();
  };
  for (std::size_t i = 0; i < p.operands.size(); ++i)
    p.operands[i].data = place(p.operands[i].data, size * count_of(p.operands[i].size.data()));
  const ChainCall& c = call->chain;
  void* z = place(call->gradient ? call->z : nullptr, call->z_count * size);
  void* saved = place(call->gradient ? call->saved : nullptr, call->saved_bytes, 256);
  const std::size_t need = p.plan->workspace_bytes(call->gradient != 0);
  const Launch launch{.workspace = need ? place(nullptr, static_cast<std::int64_t>(need), 256) : nullptr,
                      .workspace_bytes = need};
  Status s;
  void *y = nullptr, *dz = nullptr, *db = nullptr;
  std::vector<void*> gradients;
  if (call->gradient) {
    const void* dy = place(call->dy, c.y_count * size);
    dz = place(nullptr, call->z_count * size);
    db = call->db ? place(nullptr, c.b_count * size) : nullptr;
    for (std::size_t i = 0; i < p.operands.size(); ++i)
      gradients.push_back(call->wanted >> i & 1 ? place(nullptr, size * count_of(p.operands[i].size.data())) : nullptr);
    s = p.plan->backward({.dy = dy,
                          .operands = p.operands.data(),
                          .operand_count = static_cast<int>(p.operands.size()),
                          .dz = dz,
                          .db = db,
                          .gradients = gradients.data()},
                         {z, saved}, launch);
  } else {
    y = place(nullptr, c.y_count * size);
    s = p.plan->forward({.x = place(c.x, c.x_count * size),
                         .w = place(c.w, c.w_count * size),
                         .b = c.b ? place(c.b, c.b_count * size) : nullptr,
                         .y = y,
                         .operands = p.operands.data(),
                         .operand_count = static_cast<int>(p.operands.size()),
                         .statistics = p.plan->normalises() ? c.statistics : nullptr},
                        {z, saved}, launch);
  }
  if (!s.ok()) return say(s.message());
  for (const auto& buffer : held)
    if (!buffer->intact()) return say("something outside a tensor was written");
  const auto give = [&](void* to, const void* from, std::int64_t bytes) {
    if (to && from) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  };
  if (call->gradient) {
    if (std::memcmp(z, call->z, static_cast<std::size_t>(call->z_count * size)) != 0) return say("z was changed");
    give(call->dz, dz, call->z_count * size);
    give(call->db, db, c.b_count * size);
    for (std::size_t i = 0; i < gradients.size(); ++i)
      give(call->gradients[i], gradients[i], size * count_of(p.operands[i].size.data()));
  } else {
    give(c.y, y, c.y_count * size);
    give(call->z, z, call->z_count * size);
    give(call->saved, saved, call->saved_bytes);
  }
  return nullptr;
} catch (const std::exception& e) {
  return say(e.what());
}

/// What runs it on the emulated GPU, for people.
__attribute__((visibility("default"))) const char* upconv_explain_chain(const ChainCall* call) try {
  const auto problem = parse_problem(call->problem);
  if (!problem.ok()) return say(problem.status().message());
  const auto plan = ChainPlan::create(*problem, Device::cuda(0),
                                      binding::make_chain({call->numbers, call->numbers + call->number_count}));
  return say(plan.ok() ? (*plan)->explain() : plan.status().message());
} catch (const std::exception& e) {
  return say(e.what());
}
}
