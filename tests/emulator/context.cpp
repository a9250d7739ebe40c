// See context.hpp. Written for x86-64; elsewhere by ucontext, slower and not tried so far.
#include "emulator/context.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {
namespace {

constexpr std::size_t page = 4096, stack_bytes = 256 << 10;

/// The upper end of a stack that an unmapped page bounds below.
char* stack_of(std::size_t i) {
  constexpr std::size_t each = stack_bytes + page, together = 1024;
  static std::vector<char*> all;
  while (all.size() <= i / together) {
    void* p =
        mmap(nullptr, each * together, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      std::perror("emulator: stacks");
      std::abort();
    }
    for (std::size_t k = 0; k < together; ++k) mprotect(static_cast<char*>(p) + k * each, page, PROT_NONE);
    all.push_back(static_cast<char*>(p));
  }
  return all[i / together] + (i % together + 1) * each - i % 31 * 192;  // not all in the same lines of the cache
}

}  // namespace

#if defined(__x86_64__)

// What a function must preserve goes onto the stack, and the stack changes.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");

void switch_context(void** save, void* load) { emulator_switch(save, load); }

void* fresh_context(std::size_t i, void (*body)()) {
  auto* top = reinterpret_cast<void**>(stack_of(i));
  *--top = nullptr;  // a return address that nobody uses; keeps the stack as a call leaves it
  *--top = reinterpret_cast<void*>(body);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  return top;
}

#else

void switch_context(void** save, void* load) {
  ucontext_t here;
  *save = &here;
  swapcontext(&here, static_cast<ucontext_t*>(load));
}

void* fresh_context(std::size_t i, void (*body)()) {
  constexpr std::size_t own = (sizeof(ucontext_t) + 63) / 64 * 64;
  char* const top = stack_of(i) - own;
  auto* context = reinterpret_cast<ucontext_t*>(top);
  getcontext(context);
  context->uc_stack.ss_size = stack_bytes / 2;
  context->uc_stack.ss_sp = top - stack_bytes / 2;
  context->uc_link = nullptr;
  makecontext(context, body, 0);
  return context;
}

#endif

}  // namespace emulator
