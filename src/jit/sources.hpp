// The device code of kernels/ and how it is launched, embedded at build time (cmake/UpconvEmbed.cmake).
#pragma once

#include <span>
#include <string_view>

namespace upconv::jit {

struct Source {
  std::string_view name;  ///< Path under kernels/, with forward slashes.
  std::string_view text;
};

std::span<const Source> sources();

}  // namespace upconv::jit
