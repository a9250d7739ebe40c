// See memory.hpp.
#include "emulator/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "emulator/runtime.hpp"

namespace emulator {

bool proxies_apart = false;

namespace {

constexpr std::size_t page = 4096, region_bytes = 256 << 10, canary = 2048;
constexpr unsigned char poison = 0xff;

unsigned* static_bytes = nullptr;

/// Ends at an unmapped page, as does its copy behind it.
Region make_region() {
  const auto map = [] {
    auto* p = static_cast<char*>(mmap(nullptr, region_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (p == MAP_FAILED || mprotect(p + page, region_bytes, PROT_READ | PROT_WRITE) != 0) {
      std::perror("emulator: shared memory");
      std::abort();
    }
    std::memset(p + page, poison, region_bytes);
    return p + page;
  };
  return {map(), map()};
}

std::vector<std::unique_ptr<Memory>>& all() {
  static auto* memories = new std::vector<std::unique_ptr<Memory>>;
  return *memories;
}

bool clean(const char* p, std::size_t n) {
  return std::all_of(p, p + n, [](char c) { return static_cast<unsigned char>(c) == poison; });
}

/// Where `bytes` bytes at an address lie in a region, or null.
char* find(unsigned address, std::size_t bytes, char* Region::*of) {
  if (rank_of(address) >= all().size()) return nullptr;
  const Memory& m = *all()[rank_of(address)];
  const unsigned at = in_block(address);
  if (at >= shared_start && at + bytes <= shared_start + emu_shared_bytes)
    return m.dynamic.*of + (m.dynamic_begin - m.dynamic.memory) + (at - shared_start);
  if (at >= static_start && at + bytes <= static_start + *static_bytes) return m.statics.*of + (at - static_start);
  return nullptr;
}

}  // namespace

Memory& memory_of(unsigned rank) {
  while (all().size() <= rank) {
    all().push_back(std::make_unique<Memory>(Memory{make_region(), make_region(), nullptr}));
    all().back()->dynamic_begin = all().back()->dynamic.memory + region_bytes;
  }
  return *all()[rank];
}

void set_static_bytes(unsigned* bytes) { static_bytes = bytes; }

void poison_memory(unsigned rank, unsigned dynamic_bytes) {
  Memory& m = memory_of(rank);
  // Ends at the unmapped page and begins after bytes that are checked.
  m.dynamic_begin = m.dynamic.memory + region_bytes - (dynamic_bytes + 15) / 16 * 16;
  std::memset(m.dynamic_begin - canary, poison, dynamic_bytes + canary);
  std::memset(m.statics.memory, poison, *static_bytes + canary);
  if (!proxies_apart) return;
  std::memset(m.dynamic.view + (m.dynamic_begin - m.dynamic.memory), poison, dynamic_bytes);
  std::memset(m.statics.view, poison, *static_bytes);
}

std::string damage_of(unsigned rank) {
  const Memory& m = memory_of(rank);
  if (!clean(m.dynamic_begin - canary, canary)) return "wrote before its dynamic shared memory";
  if (!clean(m.statics.memory + *static_bytes, canary)) return "wrote behind its static shared memory";
  return {};
}

void publish(unsigned rank) {
  if (!proxies_apart) return;
  const Memory& m = memory_of(rank);
  std::memcpy(m.dynamic.view + (m.dynamic_begin - m.dynamic.memory), m.dynamic_begin, emu_shared_bytes);
  std::memcpy(m.statics.view, m.statics.memory, *static_bytes);
}

char* bytes_at(unsigned address, std::size_t bytes) { return find(address, bytes, &Region::memory); }
char* view_at(unsigned address, std::size_t bytes) {
  return find(address, bytes, proxies_apart ? &Region::view : &Region::memory);
}

unsigned address_of(const void* p) {
  const auto* at = static_cast<const char*>(p);
  for (unsigned rank = 0; rank < all().size(); ++rank) {
    const Memory& m = *all()[rank];
    if (at >= m.dynamic_begin && at <= m.dynamic_begin + emu_shared_bytes)
      return (rank << rank_shift) + shared_start + static_cast<unsigned>(at - m.dynamic_begin);
    if (at >= m.statics.memory && at < m.statics.memory + region_bytes)
      return (rank << rank_shift) + static_start + static_cast<unsigned>(at - m.statics.memory);
  }
  return 0;
}

}  // namespace emulator
