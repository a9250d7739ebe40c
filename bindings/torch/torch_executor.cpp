// See torch_executor.hpp.
#include "torch_executor.hpp"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

namespace upconv::binding {

TorchExecutor::TorchExecutor() : workers_(std::max(1, static_cast<int>(torch::stable::get_num_threads()))) {}

void TorchExecutor::run(int count, void (*body)(void* context, int worker), void* context) {
  if (count == 1) return body(context, 0);
  torch::stable::parallel_for(0, count, 1, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t worker = begin; worker < end; ++worker) body(context, static_cast<int>(worker));
  });
}

}  // namespace upconv::binding
