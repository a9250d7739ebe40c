// What tests see of the counting NVRTC.
#pragma once

#include <atomic>

struct CountingNvrtc {
  std::atomic<int> compiles{0};
  std::atomic<int> delay_ms{0};  ///< Added to each compile.
  std::atomic<int> newest{999};  ///< Architectures above are not supported. Read when the library is loaded.
};
