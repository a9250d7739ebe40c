// How the emulator runs a grid: its blocks one after the other in a drawn order, the threads of a block as fibers
// that run until they wait for another. Who runs next is drawn as well, from a seed, so that a thread may be far ahead
// of its neighbours, as on a GPU: what a missing barrier breaks comes out wrong for some seed. instructions.cpp builds
// on this; device code sees cuda.hpp only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "emulator/cuda.hpp"

namespace emulator {

/// Bytes that one cp.async moves, not moved yet.
struct Copy {
  unsigned to;
  const void* from;
  unsigned bytes, source_bytes;
};

/// Products of one lane that wgmma has begun.
struct Products {
  int n, type, keep;
  std::vector<float*> d;
  const unsigned* a_at[4];
  unsigned a[4];
  unsigned long long descriptor;
};

/// One device thread.
struct Fiber : EmuThread {
  void* stack_pointer = nullptr;
  bool finished = false;
  const char* waits_for = nullptr;
  std::vector<std::vector<Copy>> copies;        ///< Groups, the last one open.
  std::vector<std::vector<Products>> products;  ///< Likewise.
};

/// Lanes of a warp that have come to one instruction and wait for the others of `mask`.
struct Meeting {
  using Complete = void (*)(Meeting&);
  unsigned mask = 0, arrived = 0;
  Complete complete = nullptr;
  int tag = 0;
  void* lanes[32];  ///< What each lane brought.
  Fiber* fibers[32];
};

struct Warp {
  unsigned lanes = 0;  ///< Those that have not returned.
  std::vector<Meeting> meetings;
};

/// Waits until the lanes of `mask` that still run have called this with the same `complete` and `tag`; the last of them
/// runs `complete`, which sees what all brought.
void meet(unsigned mask, Meeting::Complete complete, int tag, void* brought, const char* what);

/// Puts the running fiber aside until wake(fiber).
void park(const char* why);
void wake(Fiber* fiber);

[[noreturn]] void fail(const std::string& what);

/// The running fiber.
inline Fiber& self() { return *static_cast<Fiber*>(emu_self); }

/// Completes all copies of a fiber: it returns.
void finish_copies(Fiber& fiber);

/// mbarriers and who waits on them (instructions.cpp) are forgotten between blocks.
void forget_barriers();

/// How kernels are run from here on.
struct Order {
  std::uint64_t seed = 1;
};
Order& order();

/// Runs a grid; 0, or an error of the driver, whose words emu_last_error() has. `allowed` is the dynamic shared memory
/// that the kernel was granted.
int launch(const char* name, void (*entry)(void**), std::size_t allowed, const dim3& grid, const dim3& block,
           void** arguments, std::size_t shared_bytes);

/// A number drawn from the order's seed.
std::uint64_t draw();
/// Whether products and copies are put off as long as the program allows, or done at once: by turns, drawn per block.
bool late();

constexpr unsigned shared_start = 1024;      ///< Shared-memory address of the dynamic part.
constexpr unsigned static_start = 0x100000;  ///< Of `__shared__` variables.
constexpr unsigned most_shared = 232448;     ///< Of a block, static and dynamic together.

}  // namespace emulator
