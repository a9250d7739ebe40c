// cp.async and mbarriers. Called by translated device code through cuda.hpp, and by bulk.cpp.
//
// Copies are put off until they are waited for where late() says so, their destination being NaN until then.
#include <cstring>

#include "emulator/memory.hpp"
#include "emulator/runtime.hpp"

using namespace emulator;

namespace {

// ---- copies -------------------------------------------------------------------------------------------------------

void move(const Copy& c) {
  auto* to = static_cast<char*>(emu_shared_pointer(c.to, c.bytes));
  if (c.source_bytes) std::memcpy(to, c.from, c.source_bytes);
  std::memset(to + c.source_bytes, 0, c.bytes - c.source_bytes);
}
void finish(Fiber& f, std::size_t leave) {
  while (f.copies.size() > leave) {
    for (const Copy& c : f.copies.front()) move(c);
    f.copies.erase(f.copies.begin());
  }
}

// ---- mbarriers ----------------------------------------------------------------------------------------------------

constexpr unsigned most_arrivals = (1u << 20) - 1, most_bytes = (1u << 20) - 1;

/// What stands for a barrier in memory.
std::uint64_t* word_of(unsigned address) { return reinterpret_cast<std::uint64_t*>(bytes_at(address, 8)); }

std::string place(unsigned address) { return std::to_string(static_cast<long long>(in_block(address)) - shared_start); }

void end_phase(MBarrier& b) {
  if (b.pending > 0 || b.bytes != 0) return;
  b.pending = b.count;
  b.phase ^= 1u;
  std::vector<Fiber*> all;
  all.swap(b.waiting);
  for (Fiber* f : all) wake(f);
}

/// The barrier at an address, for a thread that arrives or waits. `remote`: it may be another block's.
MBarrier& barrier_of(unsigned address, bool remote) {
  if (!remote && rank_of(address) != emu_self->rank)
    fail("an mbarrier of another block in an instruction that knows its own only");
  return mbarrier_at(address, false);
}

}  // namespace

namespace emulator {

MBarrier& mbarrier_at(unsigned address, bool bulk) {
  Block& block = peer(rank_of(address));
  if (address % 8 != 0) fail("an mbarrier that is not aligned to 8 bytes");
  const auto found = block.mbarriers.find(in_block(address));
  const std::uint64_t* word = word_of(address);
  if (!word || found == block.mbarriers.end() || *word != found->second.mark)
    fail("an mbarrier that was not initialised, or was overwritten");
  if (bulk && !found->second.visible)
    fail(
        "a bulk copy on an mbarrier whose initialisation no fence has shown to it (fence.mbarrier_init or "
        "fence.proxy.async by the thread that initialised it)");
  return found->second;
}

void count_bytes(MBarrier& b, long long bytes) {
  b.bytes -= bytes;
  if (b.bytes > most_bytes || b.bytes < -static_cast<long long>(most_bytes))
    fail("an mbarrier that counts more than 2^20 - 1 bytes");
  end_phase(b);
}

void finish_copies(Fiber& fiber) {
  settle(fiber);
  if (fiber.copies.size() > 1 || !fiber.copies[0].empty()) finish(fiber, 0), fiber.copies.assign(1, {});
}

void finish_barriers(const Block& block) {
  if (block.landing)
    fail("the block ended before " + std::to_string(block.landing) + " bulk copies into its memory had landed");
  for (const auto& [at, b] : block.mbarriers)
    if (b.bytes != 0)
      fail("the block ended with an mbarrier, at byte " + place(at) + ", that expects " + std::to_string(b.bytes) +
           " more bytes than were copied");
}

std::string barriers_in_words(const Block& block) {
  std::string words;
  for (const auto& [at, b] : block.mbarriers)
    if (!b.waiting.empty())
      words += " the mbarrier at byte " + place(at) + (block.rank ? " of block " + std::to_string(block.rank) : "") +
               " lacks " + std::to_string(b.pending) + " arrivals and " + std::to_string(b.bytes) + " bytes;";
  return words;
}

}  // namespace emulator

extern "C" {

void emu_copy_async(int bytes, unsigned to, const void* from, unsigned source_bytes) {
  needs_previous();
  const auto n = static_cast<unsigned>(bytes);
  if (source_bytes > n) fail("cp.async: more bytes of source than of destination");
  // The assembler makes a copy of 16 bytes of it that begins as many bytes further on as are to be zeros; memcheck
  // reports what of these lies beyond an allocation.
  if (n == 16 && source_bytes != 0 && source_bytes != 16) fail("cp.async: a part of 16 bytes");
  if (source_bytes && reinterpret_cast<std::uintptr_t>(from) % n != 0)
    fail("cp.async: the source is not a multiple of " + std::to_string(n) + " bytes");
  const Copy c{to, from, n, source_bytes};
  if (!late()) return move(c);
  std::memset(emu_shared_pointer(to, n), 0xff, n);
  self().copies.back().push_back(c);
}
void emu_copy_commit() { self().copies.emplace_back(); }
void emu_copy_wait(int pending) {
  Fiber& f = self();
  settle(f);
  if (pending < 0) {
    finish(f, 0);
    f.copies.assign(1, {});
  } else {
    finish(f, static_cast<std::size_t>(pending) + 1);
  }
}

void emu_mbarrier_init(unsigned address, unsigned count) {
  if (count == 0 || count > most_arrivals) fail("an mbarrier of " + std::to_string(count) + " arrivals");
  emu_shared_pointer(address, 8);
  MBarrier& b = self().home->mbarriers[in_block(address)];
  if (b.mark && *word_of(address) == b.mark)
    fail("mbarrier.init where an mbarrier lies that mbarrier.inval has not ended");
  b = {};
  b.mark = *word_of(address) = draw() | 1u;
  b.count = b.pending = count;
  b.by = &self();
}
void emu_mbarrier_inval(unsigned address) {
  MBarrier& b = barrier_of(address, false);
  if (!b.waiting.empty()) fail("mbarrier.inval: threads wait for it");
  if (b.bytes != 0) fail("mbarrier.inval: bulk copies on it are under way");
  *word_of(address) = ~std::uint64_t{0};
  self().home->mbarriers.erase(in_block(address));
}
unsigned long long emu_mbarrier_arrive(unsigned address, unsigned count, unsigned bytes, int remote) {
  MBarrier& b = barrier_of(address, remote);
  if (bytes) count_bytes(b, -static_cast<long long>(bytes));
  if (count == 0 || count > b.pending) fail("more arrivals at an mbarrier than its phase has left");
  const unsigned phase = b.phase;
  b.pending -= count;
  end_phase(b);
  return phase;
}
void emu_mbarrier_bytes(unsigned address, unsigned expected, unsigned complete, int remote) {
  count_bytes(barrier_of(address, remote), static_cast<long long>(complete) - expected);
}
/// Waits for the end of the phase of that parity. (A fresh barrier is in phase 0, so parity 1 has ended.)
void emu_mbarrier_wait(unsigned address, unsigned parity) {
  while (barrier_of(address, false).phase == (parity & 1u)) {
    barrier_of(address, false).waiting.push_back(&self());
    park("an mbarrier");
  }
}
int emu_mbarrier_test(unsigned address, unsigned parity) {
  if (barrier_of(address, false).phase == (parity & 1u)) poll("an mbarrier that it tests");
  return barrier_of(address, false).phase != (parity & 1u);
}
void emu_fence_barriers() {
  for (auto& [at, b] : self().home->mbarriers)
    if (b.by == &self()) b.visible = true;
}

/// Arrives once all copies that the thread has begun so far have ended.
void emu_copy_arrive(unsigned address, int counted) {
  MBarrier& b = barrier_of(address, false);
  if (!counted) ++b.pending;
  std::vector<Copy> copies;
  for (auto& group : self().copies) {
    copies.insert(copies.end(), group.begin(), group.end());
    group.clear();
  }
  const auto arrive = [copies, address] {
    for (const Copy& c : copies) move(c);
    emu_mbarrier_arrive(address, 1, 0, 0);
  };
  if (late())
    later(arrive, true);
  else
    arrive();
}

}  // extern "C"
