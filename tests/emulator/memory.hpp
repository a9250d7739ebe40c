// The shared memory of the blocks that run at once: one of their own for each block of a cluster. Called by runtime.cpp
// and by the instructions.
//
// An address of 32 bits holds the block's rank in its cluster in the upper eight bits, as on sm_90, so that one of the
// own block serves as an address of the cluster as well. Dynamic shared memory lies at `shared_start`, `__shared__`
// variables at `static_start`.
//
// The asynchronous proxy (bulk stores, the operands of wgmma) has a view of its own where `proxies_apart` says so: what
// a thread wrote is seen there only after a fence.proxy.async.
#pragma once

#include <cstddef>
#include <string>

namespace emulator {

constexpr unsigned shared_start = 1024;      ///< Shared-memory address of the dynamic part.
constexpr unsigned static_start = 0x100000;  ///< Of `__shared__` variables.
constexpr unsigned most_shared = 232448;     ///< Of a block, static and dynamic together.
constexpr unsigned rank_shift = 24;          ///< Of the rank in an address.

constexpr unsigned rank_of(unsigned address) { return address >> rank_shift; }
constexpr unsigned in_block(unsigned address) { return address & ((1u << rank_shift) - 1); }

struct Region {
  char *memory, *view;  ///< What threads see; what the asynchronous proxy sees where proxies are apart.
};
struct Memory {
  Region dynamic, statics;
  char* dynamic_begin;  ///< In `dynamic.memory`, whose end is the last byte's.
};

/// The memory of the block of that rank. The reference stays good.
Memory& memory_of(unsigned rank);

/// Bytes of `__shared__` variables that the running kernel's text has asked for so far.
void set_static_bytes(unsigned* bytes);

/// Fills the memory of that rank with NaN patterns for a launch with `dynamic_bytes`.
void poison_memory(unsigned rank, unsigned dynamic_bytes);
/// What was written outside, in words; empty: nothing.
std::string damage_of(unsigned rank);

/// Whether the asynchronous proxy sees less than threads do.
extern bool proxies_apart;
/// All that the block wrote becomes visible to the asynchronous proxy.
void publish(unsigned rank);

/// Host addresses of `bytes` bytes at a shared-memory address (of whichever block), by threads or the asynchronous
/// proxy; null where they do not lie in shared memory.
char* bytes_at(unsigned address, std::size_t bytes);
char* view_at(unsigned address, std::size_t bytes);
/// The shared-memory address of a host address; 0: it is none.
unsigned address_of(const void* p);

}  // namespace emulator
