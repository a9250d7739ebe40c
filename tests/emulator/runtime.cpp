// See runtime.hpp.
#include "emulator/runtime.hpp"

#include <dlfcn.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "emulator/context.hpp"
#include "emulator/memory.hpp"

extern "C" {
EmuThread* emu_self = nullptr;
char* emu_dynamic_shared = nullptr;
unsigned emu_shared_bytes = 0;
}

namespace emulator {
namespace {

constexpr std::size_t most_threads = 1024;
constexpr unsigned most_ranks = 16;

/// A loaded text. Kernels of one text share the places of their `__shared__` variables.
struct Module {
  unsigned static_bytes = 0;                    ///< Of all its kernels' `__shared__` variables.
  std::map<const Kernel*, unsigned> static_of;  ///< Of each kernel's own.
};
Module& module_of(const void* function) {
  static auto* all = new std::map<const void*, Module>;
  Dl_info info{};
  return (*all)[dladdr(function, &info) ? info.dli_fbase : nullptr];
}

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

// ---- a cluster ----------------------------------------------------------------------------------------------------

/// The blocks that run at once, and all that is drawn for them.
struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;  ///< Kept between clusters; the first `size` are in use.
  unsigned size = 1;
  std::vector<Fiber*> ready;
  std::size_t ready_head = 0;
  std::vector<Fiber*> polling;  ///< Those that look again when nobody else can run,
  int in_vain = 0;              ///< and how often they have, without anything else having happened.
  struct Later {
    Fiber* by;
    bool of_thread;
    std::function<void()> what;
  };
  std::vector<Later> later;
  int policy = 0;               ///< Of next().
  std::uint64_t eagerness = 0;  ///< Of what happens later: one time in so many that a thread stops; 0: when it must.
  int alive = 0;
  int arrived = 0;  ///< At the cluster's barrier.
  unsigned phase = 0;
  std::vector<Fiber*> waiting;  ///< For it.
  // Of the launch.
  const Kernel* kernel = nullptr;
  Module* module = nullptr;
  void** arguments = nullptr;
  bool early = false;
};
Cluster cluster;
void* main_context = nullptr;
bool in_fiber = false;
std::string failure;

Block& home() { return *self().home; }

void enter(Fiber* f) {
  emu_self = f;
  emu_dynamic_shared = memory_of(f->home->rank).dynamic_begin;
}

void happen(std::size_t i) {
  Cluster::Later one = std::move(cluster.later[i]);
  cluster.later.erase(cluster.later.begin() + static_cast<std::ptrdiff_t>(i));
  enter(one.by);
  one.what();
  cluster.in_vain = 0;
}

/// Who runs next, or null. Policy 0: anyone; 1: who waited longest; 2: who became ready last; 3: the same warp while it
/// can.
Fiber* next() {
  auto& r = cluster.ready;
  if (cluster.alive == 0) return nullptr;
  if (cluster.eagerness && !cluster.later.empty() && draw() % cluster.eagerness == 0)
    happen(draw() % cluster.later.size());
  while (r.size() == cluster.ready_head) {
    if (!cluster.later.empty()) {
      happen(draw() % cluster.later.size());
    } else if (!cluster.polling.empty() && ++cluster.in_vain < 10000) {
      r.insert(r.end(), cluster.polling.begin(), cluster.polling.end());
      cluster.polling.clear();
    } else {
      return nullptr;
    }
  }
  const std::size_t n = r.size() - cluster.ready_head;
  std::size_t at = cluster.ready_head;
  if (cluster.policy == 0) at += draw() % n;
  if (cluster.policy == 2) at = r.size() - 1;
  if (cluster.policy == 3) {
    static int warp = 0;
    at = r.size() - 1;  // who was woken last is mostly of the warp that ran
    if (r[at]->warp != warp) at = cluster.ready_head + draw() % n;
    warp = r[at]->warp;
  }
  Fiber* f = r[at];
  if (cluster.policy == 1) {
    if (++cluster.ready_head > 4096)
      r.erase(r.begin(), r.begin() + static_cast<std::ptrdiff_t>(cluster.ready_head)), cluster.ready_head = 0;
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
    enter(f);
    if (save == &f->stack_pointer) return;  // what happened meanwhile woke the one that wanted to wait
    to = f->stack_pointer;
  }
  switch_context(save, to);
}

void complete_meetings(Warp& warp);
void complete_barrier(Block& block, Barrier& b);
void complete_cluster_barrier();

void body() {
  Fiber& f = self();
  Block& block = *f.home;
  block.started = true;
  cluster.kernel->entry(cluster.arguments);
  f.finished = true;
  if (f.early) fail("a thread returned without griddepcontrol.wait, which its launch asks for");
  finish_copies(f);
  finish_stores(f);
  for (const auto& group : f.products)
    if (!group.empty()) fail("a thread returned before its wgmma products were waited for");
  --block.alive;
  --cluster.alive;
  if (f.arrived && f.arrived_in == cluster.phase) --cluster.arrived;
  Warp& warp = block.warps[static_cast<std::size_t>(f.warp)];
  warp.lanes &= ~(1u << f.lane);
  complete_meetings(warp);
  for (Barrier& b : block.barriers)
    if (b.wanted < 0) complete_barrier(block, b);
  complete_cluster_barrier();
  if (block.alive == 0) finish_barriers(block);
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

void wake_all(std::vector<Fiber*>& waiting) {
  std::vector<Fiber*> all;
  all.swap(waiting);
  for (Fiber* f : all) wake(f);
}

void complete_barrier(Block& block, Barrier& b) {
  if (b.arrived == 0 || b.arrived < (b.wanted < 0 ? block.alive : b.wanted)) return;
  const int s = b.sequence & 1;
  b.result_any[s] = b.any, b.result_all[s] = b.all, b.result_count[s] = b.count;
  ++b.sequence;
  b.any = 0, b.all = 1, b.count = 0;
  b.arrived = 0, b.wanted = 0;
  wake_all(b.waiting);
}

/// Arrives, and waits where `wait` says so. Which of the barrier's results to read.
int at_barrier(unsigned id, int threads, int value, bool wait = true) {
  if (id >= 16) fail("barrier " + std::to_string(id) + ": there are 16");
  if (threads == 0 || threads % 32 != 0)
    if (threads >= 0) fail("a barrier of " + std::to_string(threads) + " threads: not whole warps");
  Block& block = home();
  Barrier& b = block.barriers[id];
  if (b.arrived > 0 && b.wanted != threads)
    fail("barrier " + std::to_string(id) + " is waited on for " + std::to_string(threads) + " and for " +
         std::to_string(b.wanted) + " threads");
  const int s = b.sequence & 1;
  b.wanted = threads;
  b.any |= value != 0, b.all &= value != 0, b.count += value != 0;
  ++b.arrived;
  if (b.arrived >= (threads < 0 ? block.alive : threads)) {
    complete_barrier(block, b);
  } else if (wait) {
    b.waiting.push_back(&self());
    park("a barrier of the block");
  }
  return s;
}

/// All threads of the cluster that have not returned have arrived.
void complete_cluster_barrier() {
  if (cluster.arrived == 0 || cluster.arrived < cluster.alive) return;
  cluster.arrived = 0;
  ++cluster.phase;
  wake_all(cluster.waiting);
}

std::string where() {
  if (!in_fiber || !emu_self) return "kernel " + (cluster.kernel ? cluster.kernel->name : std::string("?"));
  char text[240];
  const EmuThread& t = *emu_self;
  std::snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread %u of %u",
                cluster.kernel->name.c_str(), t.block.x, t.block.y, t.block.z, t.blocks.x, t.blocks.y, t.blocks.z,
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

// ---- a grid -------------------------------------------------------------------------------------------------------

/// Block `rank` of the cluster whose first block is at `first`, its threads ready to begin.
void prepare(unsigned rank, const dim3& grid, const dim3& size, const dim3& shape, const dim3& first) {
  if (cluster.blocks.size() <= rank) cluster.blocks.push_back(std::make_unique<Block>());
  Block& block = *cluster.blocks[rank];
  block.rank = rank;
  block.threads = block.alive = static_cast<int>(size.x * size.y * size.z);
  block.warps.resize(static_cast<std::size_t>(block.threads + 31) / 32);
  for (Warp& w : block.warps) w.lanes = 0, w.meetings.clear();
  for (Barrier& b : block.barriers)
    b.arrived = b.wanted = b.any = b.count = b.sequence = 0, b.all = 1, b.waiting.clear();
  block.mbarriers.clear();
  block.started = false;
  block.landing = 0;
  poison_memory(rank, emu_shared_bytes);
  const dim3 within(rank % shape.x, rank / shape.x % shape.y, rank / shape.x / shape.y);
  for (int i = 0; i < block.threads; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (block.fibers.size() <= k) block.fibers.push_back(std::make_unique<Fiber>());
    Fiber& f = *block.fibers[k];
    const auto u = static_cast<unsigned>(i);
    f.home = &block;
    f.thread = dim3(u % size.x, u / size.x % size.y, u / size.x / size.y);
    f.block = dim3(first.x + within.x, first.y + within.y, first.z + within.z);
    f.threads = size, f.blocks = grid;
    f.in_cluster = within, f.cluster = shape, f.rank = rank;
    f.lane = i % 32, f.warp = i / 32;
    f.finished = f.arrived = false;
    f.early = cluster.early;
    f.waits_for = nullptr;
    if (f.copies.size() != 1 || !f.copies[0].empty()) f.copies.assign(1, {});
    if (f.products.size() != 1 || !f.products[0].empty()) f.products.assign(1, {});
    if (f.stores.size() != 1 || !f.stores[0].empty()) f.stores.assign(1, {});
    f.stack_pointer = fresh_context(rank * most_threads + k, body);
    block.warps[k / 32].lanes |= 1u << f.lane;
    cluster.ready.push_back(&f);
  }
}

/// Why nobody can run although threads are left.
std::string standstill() {
  std::map<std::string, int> why;
  std::string barriers;
  for (unsigned rank = 0; rank < cluster.size; ++rank) {
    const Block& block = *cluster.blocks[rank];
    for (int i = 0; i < block.threads; ++i) {
      const Fiber& f = *block.fibers[static_cast<std::size_t>(i)];
      if (!f.finished) ++why[f.waits_for ? f.waits_for : "nothing"];
    }
    barriers += barriers_in_words(block);
  }
  std::string words = cluster.size > 1 ? ": the cluster never ends;" : ": the block never ends;";
  for (const auto& [what, count] : why) words += " " + std::to_string(count) + " threads wait for " + what + ";";
  return words + barriers;
}

void run_cluster(const dim3& grid, const dim3& size, const dim3& shape, const dim3& first) {
  cluster.size = shape.x * shape.y * shape.z;
  cluster.policy = static_cast<int>(draw() % 4);
  cluster.eagerness = draw() % 2 ? 0 : draw() % 2 ? 5 : 200;
  put_off = draw() % 4 != 0;
  proxies_apart = draw() % 4 == 0;
  cluster.ready.clear(), cluster.ready_head = 0;
  cluster.later.clear(), cluster.polling.clear(), cluster.in_vain = 0;
  cluster.waiting.clear(), cluster.arrived = 0, cluster.phase = 0;
  for (unsigned rank = 0; rank < cluster.size; ++rank) prepare(rank, grid, size, shape, first);
  cluster.alive = static_cast<int>(cluster.ready.size());
  go_on(&main_context);  // comes back when no thread is left that could run, or by fail()
  in_fiber = false;
  if (cluster.alive > 0 && failure.empty()) failure = where() + standstill();
  emu_self = nullptr;
  for (unsigned rank = 0; rank < cluster.size && failure.empty(); ++rank)
    if (const std::string damage = damage_of(rank); !damage.empty()) failure = where() + ": " + damage;
}

/// Why there is no such launch, or nothing.
std::string refusal(const Kernel& kernel, Module& module, const dim3& grid, const dim3& size, const dim3& shape,
                    const dim3& asked, std::size_t shared_bytes) {
  const std::uint64_t threads = std::uint64_t{size.x} * size.y * size.z,
                      blocks = std::uint64_t{shape.x} * shape.y * shape.z;
  if (threads == 0 || threads > most_threads || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535 || grid.x > 0x7fffffffu || size.z > 64)
    return "no such grid or block";
  if (shared_bytes > kernel.allowed)
    return std::to_string(shared_bytes) + " bytes of dynamic shared memory, of which it was allowed " +
           std::to_string(kernel.allowed);
  if (shared_bytes + module.static_of[&kernel] > most_shared) return "more shared memory than a block has";
  if (kernel.cluster.x && asked.x &&
      (kernel.cluster.x != asked.x || kernel.cluster.y != asked.y || kernel.cluster.z != asked.z))
    return "a launch with clusters other than those of __cluster_dims__";
  if (blocks == 0 || blocks > std::min(kernel.most_ranks, most_ranks))
    return "clusters of " + std::to_string(blocks) + " blocks, of " + std::to_string(kernel.most_ranks) + " allowed";
  if (grid.x % shape.x || grid.y % shape.y || grid.z % shape.z) return "a grid that is no multiple of its clusters";
  return {};
}

int run(const Kernel& kernel, Module& module, const dim3& grid, const dim3& size, const dim3& asked, void** arguments,
        std::size_t shared_bytes, bool early) {
  const std::lock_guard lock(running);
  cluster.kernel = &kernel;
  cluster.module = &module;
  cluster.arguments = arguments;
  cluster.early = early;
  const dim3 shape = asked.x ? asked : kernel.cluster.x ? kernel.cluster : dim3(1, 1, 1);
  const std::string refused = refusal(kernel, module, grid, size, shape, asked, shared_bytes);
  if (!refused.empty()) {
    last_error = where() + ": " + refused;
    return 1;
  }
  failure.clear();
  set_static_bytes(&module.static_bytes);
  emu_shared_bytes = static_cast<unsigned>(shared_bytes);
  state = the_order.seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;
  std::vector<dim3> places;
  for (unsigned z = 0; z < grid.z; z += shape.z)
    for (unsigned y = 0; y < grid.y; y += shape.y)
      for (unsigned x = 0; x < grid.x; x += shape.x) places.emplace_back(x, y, z);
  for (std::size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[draw() % i]);
  catch_faults(true);
  for (const dim3& at : places) {
    run_cluster(grid, size, shape, at);
    if (!failure.empty()) break;
  }
  catch_faults(false);
  if (failure.empty()) return 0;
  last_error = failure;
  return 719;
}

}  // namespace

void needs_previous() {
  if (self().early) fail("global memory before griddepcontrol.wait");
}

Order& order() { return the_order; }
bool late() { return put_off; }

std::uint64_t draw() {
  state += 0x9e3779b97f4a7c15ull;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

int launch(const Kernel& kernel, const dim3& grid, const dim3& size, const dim3& asked, void** arguments,
           std::size_t shared_bytes, bool early) {
  return run(kernel, module_of(reinterpret_cast<const void*>(kernel.entry)), grid, size, asked, arguments, shared_bytes,
             early);
}
void set_last_error(std::string words) { last_error = std::move(words); }

const Kernel* kernel_of(void (*entry)(void**)) {
  for (const auto& [function, kernel] : *kernels())
    if (kernel.entry == entry) return &kernel;
  return nullptr;
}

void park(const char* why) {
  Fiber& f = self();
  f.waits_for = why;
  go_on(&f.stack_pointer);
  f.waits_for = nullptr;
}
void wake(Fiber* fiber) {
  cluster.in_vain = 0;
  cluster.ready.push_back(fiber);
}
void poll(const char* why) {
  cluster.polling.push_back(&self());
  park(why);
}

void later(std::function<void()> what, bool of_thread) {
  cluster.later.push_back({&self(), of_thread, std::move(what)});
}
void settle(Fiber& fiber) {
  for (std::size_t i = 0; i < cluster.later.size();)
    if (cluster.later[i].by == &fiber && cluster.later[i].of_thread)
      happen(i);
    else
      ++i;
}

unsigned ranks() { return cluster.size; }
Block& peer(unsigned rank) {
  if (rank >= cluster.size)
    fail("there is no block " + std::to_string(rank) + " in a cluster of " + std::to_string(cluster.size));
  Block& block = *cluster.blocks[rank];
  if (&block != &home()) {
    if (!block.started) fail("memory of a block of the cluster that may not have started yet");
    if (block.alive == 0) fail("memory of a block of the cluster that has ended");
  }
  return block;
}

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
  Warp& warp = f.home->warps[static_cast<std::size_t>(f.warp)];
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
void emu_after_previous() { emu_self->early = false; }

unsigned emu_shared_address(const void* p) {
  const unsigned at = address_of(p);
  if (at == 0) fail("the address of what is not in shared memory is taken for one");
  return at;
}
void* emu_shared_pointer(unsigned address, unsigned bytes) {
  if (address % bytes != 0) fail("a misaligned access to shared memory, of " + std::to_string(bytes) + " bytes");
  if (rank_of(address) != emu_self->rank)
    fail("an address of another block's shared memory in an instruction that knows its own only");
  if (char* at = bytes_at(address, bytes)) return at;
  fail("an access outside shared memory: " + std::to_string(bytes) + " bytes at byte " +
       std::to_string(static_cast<long long>(in_block(address)) - shared_start) + " of " +
       std::to_string(emu_shared_bytes));
}
void* emu_cluster_pointer(unsigned address, unsigned bytes) {
  if (address % bytes != 0) fail("a misaligned access to shared memory, of " + std::to_string(bytes) + " bytes");
  peer(rank_of(address));
  if (char* at = bytes_at(address, bytes)) return at;
  fail("an access outside the shared memory of block " + std::to_string(rank_of(address)) +
       " of the cluster: " + std::to_string(bytes) + " bytes at byte " +
       std::to_string(static_cast<long long>(in_block(address)) - shared_start) + " of " +
       std::to_string(emu_shared_bytes));
}
unsigned emu_map_rank(unsigned address, unsigned rank) {
  if (rank >= cluster.size)
    fail("mapa: there is no block " + std::to_string(rank) + " in a cluster of " + std::to_string(cluster.size));
  return in_block(address) | rank << rank_shift;
}
void* emu_map_pointer(const void* p, unsigned rank) {
  const unsigned at = emu_map_rank(emu_shared_address(p), rank);
  if (char* to = bytes_at(at, 1)) return to;
  fail("mapa: an address outside shared memory");
}

unsigned emu_static_shared_reserve(unsigned bytes, unsigned alignment) {
  unsigned& used = cluster.module->static_bytes;
  const unsigned at = (used + alignment - 1) / alignment * alignment;
  if (at + bytes > most_shared) fail("more __shared__ variables in one text than there is room for");
  used = at + bytes;
  unsigned& own = cluster.module->static_of[cluster.kernel];
  own = (own + alignment - 1) / alignment * alignment + bytes;
  if (emu_shared_bytes + own > most_shared) fail("more shared memory than a block has");
  for (unsigned rank = 0; rank < cluster.size; ++rank) {
    const Memory& m = memory_of(rank);
    std::memset(m.statics.memory + at, 0xff, bytes + 2048);  // and what is checked behind it
    std::memset(m.statics.view + at, 0xff, bytes);
  }
  return at;
}
void* emu_static_shared_at(unsigned offset) { return memory_of(emu_self->rank).statics.memory + offset; }

void emu_register(const void* function, const char* name, void (*entry)(void**), unsigned x, unsigned y, unsigned z) {
  Kernel& k = (*kernels())[function];
  k = Kernel{};
  k.name = name;
  k.entry = entry;
  k.cluster = dim3(x, y, z);
  module_of(function) = {};
}

void emu_barrier(unsigned id, int threads) { at_barrier(id, threads, 0); }
void emu_barrier_arrive(unsigned id, int threads) { at_barrier(id, threads, 0, false); }
int emu_barrier_or(int value) {
  const int s = at_barrier(0, -1, value);
  return home().barriers[0].result_any[s];
}
int emu_barrier_and(int value) {
  const int s = at_barrier(0, -1, value);
  return home().barriers[0].result_all[s];
}
int emu_barrier_count(int value) {
  const int s = at_barrier(0, -1, value);
  return home().barriers[0].result_count[s];
}

void emu_cluster_arrive(int aligned) {
  if (aligned) meet(~0u, nullptr, 100, nullptr, "barrier.cluster.arrive.aligned");
  Fiber& f = self();
  if (f.arrived) fail("barrier.cluster.arrive: the thread has not waited since it arrived last");
  f.arrived = true;
  f.arrived_in = cluster.phase;
  ++cluster.arrived;
  complete_cluster_barrier();
}
void emu_cluster_wait(int aligned) {
  if (aligned) meet(~0u, nullptr, 101, nullptr, "barrier.cluster.wait.aligned");
  Fiber& f = self();
  if (!f.arrived) fail("barrier.cluster.wait: the thread has not arrived");
  while (cluster.phase == f.arrived_in) {
    cluster.waiting.push_back(&f);
    park("the barrier of the cluster");
  }
  f.arrived = false;
}

void emu_proxy_fence() { publish(emu_self->rank); }
void emu_yield() { poll("its turn"); }

int emu_allow_shared(const void* function, size_t bytes) {
  const auto k = kernels()->find(function);
  if (k == kernels()->end() || bytes > most_shared) return 1;
  k->second.allowed = std::max(k->second.allowed, bytes);
  return 0;
}
int emu_allow_wide_clusters(const void* function) {
  const auto k = kernels()->find(function);
  if (k == kernels()->end()) return 1;
  k->second.most_ranks = most_ranks;
  return 0;
}
int emu_launch(const void* function, const dim3* grid, const dim3* size, void** arguments, size_t shared_bytes,
               int early) {
  const auto k = kernels()->find(function);
  if (k == kernels()->end()) {
    last_error = "a launch of what is no kernel of a translated text";
    return 98;
  }
  return run(k->second, module_of(function), *grid, *size, dim3(0, 0, 0), arguments, shared_bytes, early != 0);
}
const char* emu_last_error() { return last_error.c_str(); }

}  // extern "C"
