// SHA-256, for naming and checking what the disk cache keeps. Called by compiler.cpp and cache.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace upconv::jit {

using Digest = std::array<std::uint8_t, 32>;

/// Feeds bytes piece by piece. `field` adds a piece together with its length, so that two lists of
/// fields have one digest only when they are the same list.
class Sha256 {
 public:
  Sha256& bytes(std::string_view text);
  Sha256& field(std::string_view text);
  [[nodiscard]] Digest digest();

 private:
  void block(const std::uint8_t* data);

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> pending_{};
  std::uint64_t length_ = 0;  ///< Bytes fed so far.
};

Digest sha256(std::string_view text);

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Digest& digest);

}  // namespace upconv::jit
