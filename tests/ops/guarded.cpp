// See guarded.hpp. Works on mmap; under AddressSanitizer the slack is poisoned as well.
#include "ops/guarded.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__has_feature)  // clang's way to say it
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

namespace upconv::test {
namespace {

constexpr std::size_t page = 4096, slack = 1024;
constexpr unsigned char poison = 0xff;
const char* crash_text = nullptr;

void say_crash_text() {
  if (const char* text = crash_text) {
    [[maybe_unused]] auto n = write(2, text, std::strlen(text));
  }
}
[[maybe_unused]] void crashed(int number) {
  const char* name = number == SIGSEGV || number == SIGBUS ? "\nCRASH (memory outside a tensor): " : "\nCRASH: ";
  [[maybe_unused]] auto n = write(2, name, std::strlen(name));
  say_crash_text();
  signal(number, SIG_DFL);
  raise(number);
}

}  // namespace

void on_crash_print(const char* text) {
  if (!crash_text) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(say_crash_text);
#else
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) signal(number, crashed);
#endif
  }
  crash_text = text;
}

void limit_memory([[maybe_unused]] std::size_t bytes) {
#if !defined(__SANITIZE_ADDRESS__)
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_DATA, &limit);
#endif
}

Guarded::~Guarded() {
  if (!region_) return;
  ASAN_UNPOISON_MEMORY_REGION(region_, capacity_);
  munmap(region_ - page, capacity_ + 2 * page);
}

void Guarded::map(std::size_t capacity) {
  if (region_) {
    ASAN_UNPOISON_MEMORY_REGION(region_, capacity_);
    munmap(region_ - page, capacity_ + 2 * page);
  }
  capacity_ = (capacity + page - 1) / page * page;
  void* all = mmap(nullptr, capacity_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED || mprotect(static_cast<char*>(all) + page, capacity_, PROT_READ | PROT_WRITE) != 0) {
    std::perror("mmap");
    std::abort();
  }
  region_ = static_cast<unsigned char*>(all) + page;
}

void Guarded::set_guards([[maybe_unused]] bool armed) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(region_, capacity_);
  if (!armed) return;
  ASAN_POISON_MEMORY_REGION(region_, std::size_t(data_ - region_));
  ASAN_POISON_MEMORY_REGION(data_ + bytes_, std::size_t(region_ + capacity_ - data_ - bytes_));
#endif
}

void Guarded::reset(std::size_t bytes, Flush flush, std::size_t offset, std::size_t alignment) {
  if (region_) set_guards(false);
  if (!region_ || capacity_ < bytes + 2 * slack) map(2 * bytes + 2 * slack);
  bytes_ = bytes;
  if (flush == Flush::front) {
    data_ = region_ + offset;
  } else {
    data_ = region_ + capacity_ - bytes;
    data_ -= reinterpret_cast<std::uintptr_t>(data_) % alignment;
  }
  unsigned char* first = std::max(region_, data_ - std::min<std::size_t>(slack, std::size_t(data_ - region_)));
  unsigned char* last = std::min(region_ + capacity_, data_ + bytes + slack);
  std::memset(first, poison, std::size_t(last - first));
  set_guards(true);
}

bool Guarded::intact() {
  set_guards(false);
  const unsigned char* first = data_ - std::min<std::size_t>(slack, std::size_t(data_ - region_));
  const unsigned char* last = std::min(region_ + capacity_, data_ + bytes_ + slack);
  const auto clean = [](unsigned char byte) { return byte == poison; };
  return std::all_of(first, const_cast<const unsigned char*>(data_), clean) &&
         std::all_of(const_cast<const unsigned char*>(data_ + bytes_), last, clean);
}

}  // namespace upconv::test
