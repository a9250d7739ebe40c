// What one kernel takes of a multiprocessor.
#pragma once

namespace upconv::jit {

struct Resources {
  int registers = 0;  ///< A thread.
  int static_shared_bytes = 0;
  int local_bytes = 0;  ///< Spills and stack of one thread.
};

}  // namespace upconv::jit
