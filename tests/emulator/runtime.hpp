// How the emulator runs a grid: its clusters one after the other in a drawn order (a block without a cluster is one of
// its own), the threads of a cluster's blocks as fibers that run until they wait for another. Who runs next is drawn as
// well, from a seed, so that a thread may be far ahead of its neighbours, as on a GPU: what a missing barrier breaks
// comes out wrong for some seed. instructions.cpp, copies.cpp and bulk.cpp build on this; device code sees cuda.hpp
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "emulator/cuda.hpp"

namespace emulator {

struct Block;
struct BulkStore;  // bulk.cpp

/// Bytes that one cp.async moves, not moved yet.
struct Copy {
  unsigned to;
  const void* from;
  unsigned bytes, source_bytes;
};

/// Products of one lane that wgmma has begun.
struct Products {
  int n, type, keep;
  bool a_in_memory;  ///< By `a_descriptor`, else in registers.
  std::vector<float*> d;
  const unsigned* a_at[4];
  unsigned a[4];
  unsigned long long a_descriptor, descriptor;
  int turned;  ///< 1: the operand of `descriptor` has its rows contiguous, not its depth; 2: that of `a_descriptor`.
};

/// One device thread.
struct Fiber : EmuThread {
  Block* home = nullptr;
  void* stack_pointer = nullptr;
  bool finished = false;
  const char* waits_for = nullptr;
  std::vector<std::vector<Copy>> copies;                        ///< Groups, the last one open.
  std::vector<std::vector<Products>> products;                  ///< Likewise.
  std::vector<std::vector<std::shared_ptr<BulkStore>>> stores;  ///< Likewise.
  bool arrived = false;                                         ///< At the cluster's barrier, and has not waited yet,
  unsigned arrived_in = 0;                                      ///< in that phase of it.
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

/// A barrier in shared memory, where a number stands for it that nobody writes by accident.
struct MBarrier {
  std::uint64_t mark = 0;
  unsigned count = 0, pending = 0, phase = 0;
  long long bytes = 0;   ///< Expected less those that have come.
  Fiber* by = nullptr;   ///< Who initialised it,
  bool visible = false;  ///< and has made that visible to bulk copies by a fence.
  std::vector<Fiber*> waiting;
};

/// One barrier of bar.sync.
struct Barrier {
  int arrived = 0, wanted = 0;  ///< wanted < 0: all threads that have not returned.
  std::vector<Fiber*> waiting;
  int any = 0, all = 1, count = 0;
  int sequence = 0;
  int result_any[2], result_all[2], result_count[2];
};

/// The threads that share one memory.
struct Block {
  unsigned rank = 0;                           ///< In its cluster.
  std::vector<std::unique_ptr<Fiber>> fibers;  ///< Kept between blocks; the first `threads` are in use.
  std::vector<Warp> warps;
  Barrier barriers[16];
  std::map<unsigned, MBarrier> mbarriers;  ///< By in_block(address).
  int threads = 0, alive = 0;
  bool started = false;  ///< Some thread of it has run.
  int landing = 0;       ///< Bulk copies on their way into its memory.
};

/// Waits until the lanes of `mask` that still run have called this with the same `complete` and `tag`; the last of them
/// runs `complete`, which sees what all brought.
void meet(unsigned mask, Meeting::Complete complete, int tag, void* brought, const char* what);

/// Puts the running fiber aside until wake(fiber).
void park(const char* why);
void wake(Fiber* fiber);
/// Lets others run, and comes back when nobody else can.
void poll(const char* why);

[[noreturn]] void fail(const std::string& what);

/// The running fiber.
inline Fiber& self() { return *static_cast<Fiber*>(emu_self); }

/// The block of that rank in the running cluster; one that runs, else this fails.
Block& peer(unsigned rank);
/// Blocks of the running cluster.
unsigned ranks();

/// Something that happens at some later time, on behalf of the running fiber: at the latest when nobody can run, or, if
/// it is `of_thread`, when settle() is called for it.
void later(std::function<void()> what, bool of_thread);
void settle(Fiber& fiber);

/// What a thread that returns leaves behind: copies and bulk stores come to their end, or it fails.
void finish_copies(Fiber& fiber);
void finish_stores(Fiber& fiber);
/// The last thread of a block returned: fails where bulk copies or bytes are missing.
void finish_barriers(const Block& block);
/// In words, the mbarriers of a block that are waited for.
std::string barriers_in_words(const Block& block);

/// The mbarrier at an address of the cluster; fails where none was initialised. `bulk`: for a bulk copy.
MBarrier& mbarrier_at(unsigned address, bool bulk);
/// `bytes` more have come, or are expected where < 0; ends the phase when all have and nobody is to arrive.
void count_bytes(MBarrier& b, long long bytes);

/// Fails where the running fiber touches global memory before griddepcontrol.wait.
void needs_previous();

/// How kernels are run from here on.
struct Order {
  std::uint64_t seed = 1;
};
Order& order();

/// A kernel as a launch finds it. `cluster`: that of __cluster_dims__, or zeros.
struct Kernel {
  std::string name;
  void (*entry)(void**) = nullptr;
  std::size_t allowed = 48 << 10;  ///< Dynamic shared memory of a launch.
  dim3 cluster{0, 0, 0};
  unsigned most_ranks = 8;  ///< Blocks of a cluster.
};
/// The kernel that was registered with that entry, or null.
const Kernel* kernel_of(void (*entry)(void**));

/// Runs a grid; 0, or an error of the driver, whose words emu_last_error() has. `cluster`: asked for by the launch, or
/// zeros. `early`: it may begin before the kernel before it has ended, so that every thread has to wait for that.
int launch(const Kernel& kernel, const dim3& grid, const dim3& block, const dim3& cluster, void** arguments,
           std::size_t shared_bytes, bool early);
/// What emu_last_error() says from here on.
void set_last_error(std::string words);

/// A number drawn from the order's seed.
std::uint64_t draw();
/// Whether products and copies are put off as long as the program allows, or done at once: by turns, drawn per cluster.
bool late();

}  // namespace emulator
