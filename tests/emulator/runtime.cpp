// See runtime.hpp.
#include "emulator/runtime.hpp"

#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "emulator/context.hpp"

extern "C" {
EmuThread* emu_self = nullptr;
char* emu_dynamic_shared = nullptr;
unsigned emu_shared_bytes = 0;
}

namespace emulator {
namespace {

constexpr std::size_t page = 4096, most_threads = most_contexts;
constexpr unsigned char poison = 0xff;

/// A kernel of a loaded text. Kernels of one text share the places of their `__shared__` variables.
struct Module {
  unsigned static_bytes = 0;                        ///< Of all its kernels' `__shared__` variables.
  std::map<void (*)(void**), unsigned> static_of;  ///< Of each kernel's own.
};
Module& module_of(const void* function) {
  static auto* all = new std::map<const void*, Module>;
  Dl_info info{};
  return (*all)[dladdr(function, &info) ? info.dli_fbase : nullptr];
}
struct Kernel {
  std::string name;
  void (*entry)(void**) = nullptr;
  std::size_t allowed = 48 << 10;  ///< Dynamic shared memory of a launch.
};

// Where one kernel of this process runs at a time.
std::mutex running;
std::map<const void*, Kernel>* kernels() {
  static auto* all = new std::map<const void*, Kernel>;
  return all;
}
std::string last_error = "no error";
Order the_order;
std::uint64_t state = 1;
bool put_off = true;

// ---- a block ------------------------------------------------------------------------------------------------------

struct Barrier {
  int arrived = 0, wanted = 0;  ///< wanted < 0: all threads that have not returned.
  std::vector<Fiber*> waiting;
  int any = 0, all = 1, count = 0;
  int sequence = 0;
  int result_any[2], result_all[2], result_count[2];
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  ///< Kept between blocks; the first `threads` are in use.
  std::vector<Warp> warps;
  std::vector<Fiber*> ready;
  std::size_t ready_head = 0;
  Barrier barriers[16];
  int threads = 0, alive = 0;
  int policy = 0;
  Module* module = nullptr;
  void (*entry)(void**) = nullptr;
  void** arguments = nullptr;
  const char* kernel = "";
};
Block block;
void* main_context = nullptr;
bool in_fiber = false;
std::string failure;

/// Who runs next, or null. 0: anyone; 1: who waited longest; 2: who became ready last; 3: the same warp while it can.
Fiber* next() {
  auto& r = block.ready;
  const std::size_t n = r.size() - block.ready_head;
  if (n == 0) return nullptr;
  std::size_t at = block.ready_head;
  if (block.policy == 0) at += draw() % n;
  if (block.policy == 2) at = r.size() - 1;
  if (block.policy == 3) {
    static int warp = 0;
    at = r.size() - 1;  // who was woken last is mostly of the warp that ran
    if (r[at]->warp != warp) at = block.ready_head + draw() % n;
    warp = r[at]->warp;
  }
  Fiber* f = r[at];
  if (block.policy == 1) {
    if (++block.ready_head > 4096)
      r.erase(r.begin(), r.begin() + static_cast<std::ptrdiff_t>(block.ready_head)), block.ready_head = 0;
  } else {
    r[at] = r.back();
    r.pop_back();
  }
  return f;
}

void go_on(void** save) {
  Fiber* f = next();
  void* to = main_context;
  in_fiber = f != nullptr;
  if (f) {
    emu_self = f;
    to = f->stack_pointer;
  }
  switch_context(save, to);
}

void complete_meetings(Warp& warp);
void complete_barrier(Barrier& b);

void body() {
  block.entry(block.arguments);
  Fiber& f = self();
  f.finished = true;
  finish_copies(f);
  for (const auto& group : f.products)
    if (!group.empty()) fail("a thread returned before its wgmma products were waited for");
  --block.alive;
  Warp& warp = block.warps[static_cast<std::size_t>(f.warp)];
  warp.lanes &= ~(1u << f.lane);
  complete_meetings(warp);
  for (Barrier& b : block.barriers)
    if (b.wanted < 0) complete_barrier(b);
  void* nowhere;
  go_on(&nowhere);
}

void complete_meetings(Warp& warp) {
  for (std::size_t i = 0; i < warp.meetings.size();) {
    Meeting& m = warp.meetings[i];
    if ((m.mask & warp.lanes) != m.arrived) {
      ++i;
      continue;
    }
    Meeting done = m;
    warp.meetings.erase(warp.meetings.begin() + static_cast<std::ptrdiff_t>(i));
    if (done.complete) done.complete(done);
    for (int lane = 0; lane < 32; ++lane)
      if (done.arrived >> lane & 1u && done.fibers[lane] != &self()) wake(done.fibers[lane]);
  }
}

void complete_barrier(Barrier& b) {
  if (b.arrived == 0 || b.arrived < (b.wanted < 0 ? block.alive : b.wanted)) return;
  const int s = b.sequence & 1;
  b.result_any[s] = b.any, b.result_all[s] = b.all, b.result_count[s] = b.count;
  ++b.sequence;
  b.any = 0, b.all = 1, b.count = 0;
  b.arrived = 0, b.wanted = 0;
  std::vector<Fiber*> waiting;
  waiting.swap(b.waiting);
  for (Fiber* f : waiting) wake(f);
}

/// Which of the barrier's results to read.
int at_barrier(unsigned id, int threads, int value) {
  if (id >= 16) fail("barrier " + std::to_string(id) + ": there are 16");
  if (threads == 0 || threads % 32 != 0)
    if (threads >= 0) fail("a barrier of " + std::to_string(threads) + " threads: not whole warps");
  Barrier& b = block.barriers[id];
  if (b.arrived > 0 && b.wanted != threads)
    fail("barrier " + std::to_string(id) + " is waited on for " + std::to_string(threads) + " and for " +
         std::to_string(b.wanted) + " threads");
  const int s = b.sequence & 1;
  b.wanted = threads;
  b.any |= value != 0, b.all &= value != 0, b.count += value != 0;
  ++b.arrived;
  if (b.arrived >= (threads < 0 ? block.alive : threads)) {
    complete_barrier(b);
  } else {
    b.waiting.push_back(&self());
    park("a barrier of the block");
  }
  return s;
}

std::string where() {
  if (!in_fiber || !emu_self) return std::string("kernel ") + block.kernel;
  char text[200];
  const EmuThread& t = *emu_self;
  std::snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread %u of %u", block.kernel,
                t.block.x, t.block.y, t.block.z, t.blocks.x, t.blocks.y, t.blocks.z,
                t.thread.x + t.threads.x * (t.thread.y + t.threads.y * t.thread.z),
                t.threads.x * t.threads.y * t.threads.z);
  return text;
}

struct sigaction before[65];
void faulted(int number, siginfo_t* info, void* context) {
  if (in_fiber) {
    char text[120];
    const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const auto low = reinterpret_cast<std::uintptr_t>(emu_dynamic_shared);
    if (number == SIGILL)
      std::snprintf(text, sizeof text,
                    "undefined behaviour: an index outside an array, a misaligned or null pointer, or a shift");
    else if (at + 65536 > low && at < low + emu_shared_bytes + 65536)
      std::snprintf(text, sizeof text, "an access outside the %u bytes of dynamic shared memory, at byte %lld",
                    emu_shared_bytes, static_cast<long long>(at) - static_cast<long long>(low));
    else
      std::snprintf(text, sizeof text, "an access outside every tensor, at %p", info->si_addr);
    fail(text);
  }
  const struct sigaction& b = before[number];  // not ours
  if (b.sa_flags & SA_SIGINFO) return b.sa_sigaction(number, info, context);
  if (b.sa_handler != SIG_DFL && b.sa_handler != SIG_IGN) return b.sa_handler(number);
  signal(number, SIG_DFL);
  raise(number);
}

void catch_faults(bool on) {
  constexpr int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  static char* const stack = static_cast<char*>(std::malloc(1 << 16));
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = 1 << 16;
  sigaltstack(&alternate, nullptr);
  for (const int n : numbers) {
    if (on) {
      struct sigaction action {};
      action.sa_sigaction = faulted;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigaction(n, &action, &before[n]);
    } else {
      sigaction(n, &before[n], nullptr);
    }
  }
}

// ---- shared memory ------------------------------------------------------------------------------------------------

constexpr std::size_t region_bytes = 256 << 10;
/// Dynamic shared memory ends at an unmapped page and starts after bytes that are checked; `__shared__` variables lie
/// in a second region.
struct Shared {
  char *dynamic_region, *static_region;
};
Shared& shared() {
  static Shared s = [] {
    const auto map = [] {
      auto* p =
          static_cast<char*>(mmap(nullptr, region_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      if (p == MAP_FAILED || mprotect(p + page, region_bytes, PROT_READ | PROT_WRITE) != 0) {
        std::perror("emulator: shared memory");
        std::abort();
      }
      std::memset(p + page, poison, region_bytes);
      return p + page;
    };
    return Shared{map(), map()};
  }();
  return s;
}
constexpr std::size_t canary = 2048;

bool clean(const char* p, std::size_t n) {
  return std::all_of(p, p + n, [](char c) { return static_cast<unsigned char>(c) == poison; });
}

void poison_shared() {
  std::memset(emu_dynamic_shared - canary, poison, emu_shared_bytes + canary);
  std::memset(shared().static_region, poison, block.module->static_bytes + canary);
}
void check_shared() {
  if (!clean(emu_dynamic_shared - canary, canary)) failure = where() + ": wrote before its dynamic shared memory";
  if (!clean(shared().static_region + block.module->static_bytes, canary))
    failure = where() + ": wrote behind its static shared memory";
}

void run_block(const dim3& grid, const dim3& size, const dim3& at) {
  block.threads = block.alive = static_cast<int>(size.x * size.y * size.z);
  block.policy = static_cast<int>(draw() % 4);
  put_off = draw() % 4 != 0;
  block.ready.clear();
  block.ready_head = 0;
  block.warps.resize(static_cast<std::size_t>(block.threads + 31) / 32);
  for (Warp& w : block.warps) w.lanes = 0, w.meetings.clear();
  for (Barrier& b : block.barriers)
    b.arrived = b.wanted = b.any = b.count = b.sequence = 0, b.all = 1, b.waiting.clear();
  forget_barriers();
  poison_shared();
  for (int i = 0; i < block.threads; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (block.fibers.size() <= k) block.fibers.push_back(std::make_unique<Fiber>());
    Fiber& f = *block.fibers[k];
    const auto u = static_cast<unsigned>(i);
    f.thread = dim3(u % size.x, u / size.x % size.y, u / size.x / size.y);
    f.block = at, f.threads = size, f.blocks = grid;
    f.lane = i % 32, f.warp = i / 32;
    f.finished = false;
    if (f.copies.size() != 1 || !f.copies[0].empty()) f.copies.assign(1, {});
    if (f.products.size() != 1 || !f.products[0].empty()) f.products.assign(1, {});
    f.stack_pointer = fresh_context(k, body);
    block.warps[k / 32].lanes |= 1u << f.lane;
    block.ready.push_back(&f);
  }
  go_on(&main_context);  // comes back when no thread is left that could run, or by fail()
  in_fiber = false;
  if (block.alive > 0 && failure.empty()) {
    std::map<std::string, int> why;
    for (int i = 0; i < block.threads; ++i) {
      const Fiber& f = *block.fibers[static_cast<std::size_t>(i)];
      if (!f.finished) ++why[f.waits_for ? f.waits_for : "nothing"];
    }
    failure = where() + ": the block never ends;";
    for (const auto& [what, count] : why) failure += " " + std::to_string(count) + " threads wait for " + what + ";";
  }
  emu_self = nullptr;
  if (failure.empty()) check_shared();
}

int run(const char* name, Module& module, void (*entry)(void**), std::size_t allowed, const dim3& grid,
        const dim3& size, void** arguments, std::size_t shared_bytes) {
  const std::lock_guard lock(running);
  failure.clear();
  block.kernel = name;
  const std::uint64_t threads = std::uint64_t{size.x} * size.y * size.z;
  if (threads == 0 || threads > most_threads || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535 || grid.x > 0x7fffffffu || size.z > 64)
    failure = where() + ": no such grid or block";
  else if (shared_bytes > allowed)
    failure = where() + ": " + std::to_string(shared_bytes) +
              " bytes of dynamic shared memory, of which it was allowed " + std::to_string(allowed);
  else if (shared_bytes + module.static_of[entry] > most_shared)
    failure = where() + ": more shared memory than a block has";
  if (!failure.empty()) {
    last_error = failure;
    return 1;
  }
  block.module = &module;
  block.entry = entry;
  block.arguments = arguments;
  emu_shared_bytes = static_cast<unsigned>(shared_bytes);
  emu_dynamic_shared = shared().dynamic_region + region_bytes - (shared_bytes + 15) / 16 * 16;
  state = the_order.seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;
  std::vector<dim3> places;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) places.emplace_back(x, y, z);
  for (std::size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[draw() % i]);
  catch_faults(true);
  for (const dim3& at : places) {
    run_block(grid, size, at);
    if (!failure.empty()) break;
  }
  catch_faults(false);
  if (failure.empty()) return 0;
  last_error = failure;
  return 719;
}

}  // namespace

Order& order() { return the_order; }
bool late() { return put_off; }

std::uint64_t draw() {
  state += 0x9e3779b97f4a7c15ull;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

int launch(const char* name, void (*entry)(void**), std::size_t allowed, const dim3& grid, const dim3& size,
           void** arguments, std::size_t shared_bytes) {
  return run(name, module_of(reinterpret_cast<const void*>(entry)), entry, allowed, grid, size, arguments,
             shared_bytes);
}

void park(const char* why) {
  Fiber& f = self();
  f.waits_for = why;
  go_on(&f.stack_pointer);
  f.waits_for = nullptr;
}
void wake(Fiber* fiber) { block.ready.push_back(fiber); }

void fail(const std::string& what) {
  failure = where() + ": " + what;
  if (!in_fiber) {
    std::fprintf(stderr, "emulator: %s\n", failure.c_str());
    std::abort();
  }
  in_fiber = false;
  void* nowhere;
  switch_context(&nowhere, main_context);
  std::abort();
}

void meet(unsigned mask, Meeting::Complete complete, int tag, void* brought, const char* what) {
  Fiber& f = self();
  Warp& warp = block.warps[static_cast<std::size_t>(f.warp)];
  if (!(mask >> f.lane & 1u)) fail(std::string(what) + ": the lane is not in its own mask");
  Meeting* m = nullptr;
  for (Meeting& at : warp.meetings)
    if (at.mask == mask) m = &at;
  if (!m) {
    m = &warp.meetings.emplace_back();
    m->mask = mask;
    m->complete = complete;
    m->tag = tag;
  }
  if (m->complete != complete || m->tag != tag)
    fail(std::string(what) + ": the lanes of a warp have met at different instructions");
  m->arrived |= 1u << f.lane;
  m->lanes[f.lane] = brought;
  m->fibers[f.lane] = &f;
  if (m->arrived == (mask & warp.lanes))
    complete_meetings(warp);
  else
    park(what);
}

}  // namespace emulator

using namespace emulator;

extern "C" {

void emu_fail(const char* what) { fail(what); }

unsigned emu_shared_address(const void* p) {
  const auto* at = static_cast<const char*>(p);
  if (at >= emu_dynamic_shared && at <= emu_dynamic_shared + emu_shared_bytes)
    return shared_start + static_cast<unsigned>(at - emu_dynamic_shared);
  const char* statics = shared().static_region;
  if (at >= statics && at < statics + region_bytes) return static_start + static_cast<unsigned>(at - statics);
  fail("the address of what is not in shared memory is taken for one");
}
void* emu_shared_pointer(unsigned address, unsigned bytes) {
  if (address % bytes != 0) fail("a misaligned access to shared memory, of " + std::to_string(bytes) + " bytes");
  if (address >= shared_start && address + bytes <= shared_start + emu_shared_bytes)
    return emu_dynamic_shared + (address - shared_start);
  if (address >= static_start && address + bytes <= static_start + block.module->static_bytes)
    return shared().static_region + (address - static_start);
  fail("an access outside shared memory: " + std::to_string(bytes) + " bytes at byte " +
       std::to_string(static_cast<long long>(address) - shared_start) + " of " + std::to_string(emu_shared_bytes));
}
unsigned emu_static_shared_reserve(unsigned bytes, unsigned alignment) {
  unsigned& used = block.module->static_bytes;
  const unsigned at = (used + alignment - 1) / alignment * alignment;
  used = at + bytes;
  unsigned& own = block.module->static_of[block.entry];
  own = (own + alignment - 1) / alignment * alignment + bytes;
  if (emu_shared_bytes + own > most_shared) fail("more shared memory than a block has");
  std::memset(shared().static_region + at, poison, bytes + canary);
  return at;
}
void* emu_static_shared_at(unsigned offset) { return shared().static_region + offset; }

void emu_register(const void* function, const char* name, void (*entry)(void**)) {
  Kernel& k = (*kernels())[function];
  k = Kernel{};
  k.name = name;
  k.entry = entry;
  module_of(function) = {};
}

void emu_barrier(unsigned id, int threads) { at_barrier(id, threads, 0); }
int emu_barrier_or(int value) {
  const int s = at_barrier(0, -1, value);
  return block.barriers[0].result_any[s];
}
int emu_barrier_and(int value) {
  const int s = at_barrier(0, -1, value);
  return block.barriers[0].result_all[s];
}
int emu_barrier_count(int value) {
  const int s = at_barrier(0, -1, value);
  return block.barriers[0].result_count[s];
}

int emu_allow_shared(const void* function, size_t bytes) {
  const auto k = kernels()->find(function);
  if (k == kernels()->end() || bytes > most_shared) return 1;
  k->second.allowed = std::max(k->second.allowed, bytes);
  return 0;
}
int emu_launch(const void* function, const dim3* grid, const dim3* size, void** arguments, size_t shared_bytes) {
  const auto k = kernels()->find(function);
  if (k == kernels()->end()) {
    last_error = "a launch of what is no kernel of a translated text";
    return 98;
  }
  return run(k->second.name.c_str(), module_of(function), k->second.entry, k->second.allowed, *grid, *size, arguments,
             shared_bytes);
}
const char* emu_last_error() { return last_error.c_str(); }

}  // extern "C"
