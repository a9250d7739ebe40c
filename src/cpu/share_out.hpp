// Hands the tasks of one pass to the workers of an executor.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "upconv/executor.hpp"

namespace upconv::cpu {

/// Calls body(first, end, worker) over shares of [0, n), handed out as workers become free. Work of few operations,
/// too little for a thread to be woken, stays on the calling one.
template <class F>
void share_out(Executor& executor, std::int64_t n, double operations, F&& body) {
  const int workers = operations < 2e5 ? 1 : static_cast<int>(std::min<std::int64_t>(executor.workers(), n));
  if (workers <= 1) {
    if (n > 0) body(0, n, 0);
    return;
  }
  struct Shared {
    F& body;
    std::int64_t n, grain;
    std::atomic<std::int64_t> next{0};
  } shared{body, n, std::max<std::int64_t>(1, n / (workers * 8))};
  executor.run(workers, [](void* context, int worker) {
    Shared& s = *static_cast<Shared*>(context);
    for (;;) {
      const std::int64_t first = s.next.fetch_add(s.grain, std::memory_order_relaxed);
      if (first >= s.n) return;
      s.body(first, std::min(s.n, first + s.grain), worker);
    }
  }, &shared);
}

}  // namespace upconv::cpu
