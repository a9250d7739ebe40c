// What stands in for a cubin between nvrtc.cpp and driver.cpp: a mark, the length, a shared object.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace emulator {

inline constexpr std::string_view image_mark = "upconv emulator\n";

inline std::string wrap(const std::string& object) {
  const std::uint64_t n = object.size();
  std::string s(image_mark);
  s.append(reinterpret_cast<const char*>(&n), sizeof n);
  return s + object;
}

/// Empty: no such image.
inline std::string_view unwrap(const void* image) {
  const auto* at = static_cast<const char*>(image);
  if (std::memcmp(at, image_mark.data(), image_mark.size()) != 0) return {};
  std::uint64_t n = 0;
  std::memcpy(&n, at + image_mark.size(), sizeof n);
  return {at + image_mark.size() + sizeof n, n};
}

}  // namespace emulator
