// A kernel that is compiled when first needed on a device and launched with a look-up ever after.
// Many threads and devices may share one Kernel. Errors carry NVRTC's log or the driver's words.
// From compute capability 9.0 on a kernel may begin while the one before it on the stream ends, and waits there
// (kernels/ptx/dependents.cuh), in captured graphs as well; UPCONV_OVERLAP=0 has none begin early. Kernels of others
// need know nothing of it: behind one that lets nobody begin early ours begins at its end, and one that is launched
// as usual begins at the end of ours.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "jit/program.hpp"
#include "jit/resources.hpp"
#include "upconv/status.hpp"

namespace upconv::jit {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Dim grid, block;
  unsigned shared_bytes = 0;  ///< Dynamic; the most any launch of this kernel uses is given to the constructor.
  Dim cluster{1, 1, 1};
};

class Kernel {
 public:
  /// `max_shared_bytes` is the largest dynamic shared memory it will be launched with; `wide_clusters`: its clusters
  /// have more than 8 blocks.
  explicit Kernel(Program program, unsigned max_shared_bytes = 0, bool wide_clusters = false);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /// Puts the kernel on `stream` (a CUstream) of `device`. `arguments` are pointers to the values of the kernel's
  /// parameters, which are copied before this returns. Compiles or loads at the first launch on a device; while the
  /// stream is being captured into a graph that is an error that says "run once before capture".
  [[nodiscard]] Status launch(int device, void* stream, const LaunchShape& shape, void** arguments) const;

  /// Compiles or loads for `device` without launching.
  [[nodiscard]] Status prepare(int device) const;
  /// Of the compiled kernel; prepares it.
  [[nodiscard]] Result<Resources> resources(int device) const;

  [[nodiscard]] const Program& program() const { return program_; }

 private:
  static constexpr int most_devices = 64;
  Program program_;
  unsigned max_shared_bytes_;
  bool wide_clusters_;
  mutable std::array<std::atomic<void*>, most_devices> functions_{};  ///< CUfunction by device.
};

}  // namespace upconv::jit
