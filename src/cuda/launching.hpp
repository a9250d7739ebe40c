// The library's side of kernels/launch: a geometry as its Sizes, the function that puts its kernels on a stream, and
// the text with which an exported file repeats a launch.
#pragma once

#include <array>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "jit/kernel.hpp"
#include "jit/tensor_map.hpp"
#include "launch/sizes.hpp"
#include "problem/geometry.hpp"

namespace upconv::cuda {

inline launch::Sizes sizes_of(const Geometry& g) {
  return {g.batch, {g.in[0], g.in[1], g.in[2]}, {g.out[0], g.out[1], g.out[2]}};
}

/// `Start` of kernels/launch: puts the kernel of that number on a stream.
template <std::size_t count>
class Start {
 public:
  Start(int device, void* stream, const std::array<const jit::Kernel*, count>& kernels)
      : device_(device), stream_(stream), kernels_(kernels) {}

  bool operator()(int kernel, const launch::Shape& s, void** arguments) {
    status = kernels_[static_cast<std::size_t>(kernel)]->launch(device_, stream_, {{s.grid}, {s.block}, s.shared_bytes},
                                                                arguments);
    return status.ok();
  }

  /// False, and why in `status`, where the driver makes no such map.
  friend bool encode_map(Start& start, arguments::TensorMap& map, const launch::TensorBoxes& boxes) {
    const auto made = jit::encode_tensor_map(start.device_, boxes);
    if (made.ok())
      map = *made;
    else
      start.status = made.status();
    return made.ok();
  }

  Status status;

 private:
  int device_;
  void* stream_;
  std::array<const jit::Kernel*, count> kernels_;
};

/// What an exported file needs to run one pass for any batch and size: the kernels by their number, the header under
/// kernels/launch, and the statements that fill its struct `type`, named `f`.
struct LaunchText {
  std::vector<jit::Program> programs;
  std::string header, type, fields;
};

template <class Fixed>
LaunchText launch_text(std::vector<jit::Program> programs, std::string header, std::string type, Fixed fixed) {
  LaunchText text{std::move(programs), std::move(header), std::move(type), {}};
  Fixed plain;
  std::vector<std::string> defaults;
  const auto write = [](auto value) -> std::string {
    if constexpr (std::is_same_v<decltype(value), bool>) return value ? "true" : "false";
    if constexpr (std::is_same_v<decltype(value), double>) {
      char digits[40];
      std::snprintf(digits, sizeof digits, "%.17g", value);
      return digits;
    } else {
      return std::to_string(value);
    }
  };
  plain.visit([&](const char*, auto& value) { defaults.push_back(write(value)); });
  std::size_t at = 0;
  fixed.visit([&](const char* name, auto& value) {
    const std::string number = write(value);
    if (number != defaults[at++]) text.fields += std::string("f.") + name + " = " + number + ";\n";
  });
  return text;
}

}  // namespace upconv::cuda
