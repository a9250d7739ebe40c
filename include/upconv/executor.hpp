// How the CPU engine gets its threads. A host program may hand in its own pool (the PyTorch binding
// hands in torch's); the default is a small pool of std::thread.
#pragma once

#include <memory>

#include "upconv/visibility.hpp"

namespace upconv {

/// Runs a function once per worker, in parallel, and returns when all are done. Results never depend
/// on how many workers there are, nor on which thread runs which.
class UPCONV_API Executor {
 public:
  virtual ~Executor() = default;
  /// Most workers `run` will use; at least 1.
  [[nodiscard]] virtual int workers() const = 0;
  /// Calls body(context, worker) for worker = 0 .. count-1, count <= workers(). `body` does not throw.
  virtual void run(int count, void (*body)(void* context, int worker), void* context) = 0;
};

/// Everything on the calling thread.
UPCONV_API Executor& inline_executor();

/// A pool of `workers` threads, the caller counted in; 0 takes what the machine has.
UPCONV_API std::unique_ptr<Executor> make_thread_pool(int workers = 0);

}  // namespace upconv
