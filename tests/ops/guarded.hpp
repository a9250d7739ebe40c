// A buffer that betrays whoever leaves it: unmapped pages around it, NaN bytes in the slack beside it (checked
// afterwards), and NaN bytes inside it before use, so that nothing unwritten passes for a result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace upconv::test {

enum class Flush {
  front,  ///< The first byte lies `offset` bytes after an unmapped page.
  back,   ///< The last byte lies right before an unmapped page.
};

class Guarded {
 public:
  Guarded() = default;
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded();

  /// `bytes` bytes, all 0xff (a NaN in every format). With Flush::back the address is a multiple of `alignment`
  /// and the end as near to the unmapped page as that allows.
  void reset(std::size_t bytes, Flush flush, std::size_t offset, std::size_t alignment);
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// False when a byte of the slack was written.
  [[nodiscard]] bool intact();

 private:
  void map(std::size_t capacity);
  void set_guards(bool armed);

  unsigned char *region_ = nullptr, *data_ = nullptr;
  std::size_t capacity_ = 0, bytes_ = 0;
};

/// Prints `text` if the process dies of a signal or a sanitizer's report from here on. Not copied: must outlive it.
void on_crash_print(const char* text);

/// Allocations beyond `bytes` in all fail from here on (not under AddressSanitizer, whose shadow is larger).
void limit_memory(std::size_t bytes);

}  // namespace upconv::test
