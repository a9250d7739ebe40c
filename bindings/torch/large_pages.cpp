// See large_pages.hpp. Writing 400 MB for the first time took 270 ms in 4 KiB pages and 52 ms in 2 MiB pages where
// it was measured (docs/measured.md); a large transposed convolution may take less than that.
#include "large_pages.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace upconv::binding {
namespace {

constexpr std::size_t least_bytes = std::size_t{32} << 20;
constexpr std::uintptr_t page = 4096;

bool enabled() {
  static const bool on = [] {
    const char* value = std::getenv("UPCONV_LARGE_PAGES");
    return value == nullptr || std::strcmp(value, "0") != 0;
  }();
  return on;
}

}  // namespace

void prefer_large_pages(void* memory, std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
  if (bytes < least_bytes || !enabled()) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) & ~(page - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) & ~(page - 1);
  if (begin < end)
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: failure changes nothing
#else
  (void)memory;
  (void)bytes;
#endif
}

}  // namespace upconv::binding
