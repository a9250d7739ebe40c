// torch's own threads as the engine's executor, so that torch.set_num_threads holds.
// Made on the stack by each operator call.
#pragma once

#include "upconv/executor.hpp"

namespace upconv::binding {

class TorchExecutor final : public Executor {
 public:
  TorchExecutor();
  [[nodiscard]] int workers() const override { return workers_; }
  /// Inside one of torch's own parallel regions this runs the workers one after the other on the caller.
  void run(int count, void (*body)(void* context, int worker), void* context) override;

 private:
  int workers_;
};

}  // namespace upconv::binding
