// The preamble of a closing kernel (kernels/closing/value.cuh says what it defines).
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "cuda/closing.hpp"

namespace upconv::cuda {

/// `namespace config` of a preamble, line by line.
class PreambleText {
 public:
  void constant(const char* name, std::int64_t value) {
    text_ += std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
  }
  void flag(const char* name, bool value) {
    text_ += std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
  }
  void number(const char* name, double value) {
    char digits[96];
    std::snprintf(digits, sizeof digits, "constexpr double %s = %a;\n", name, value);
    text_ += digits;
  }
  void add(const std::string& s) { text_ += s; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// What the preambles of all kernels of closing/ begin with, and a pooling window.
void begin_config(PreambleText& text, bool gradient);
void add_window(PreambleText& text, const std::string& prefix, const ClosingWindow& window);
/// Steps whose operands lie over the values named `values`, in a scope of their own.
std::string scoped_steps(const Epilogue& steps, const std::string& values);
std::string items_text(const std::vector<ClosingItem>& items);
/// The number of a plane's set, and a norm's vector at the channel.
std::string set_of(const ClosingItem& norm);
std::string channel_operand(int number);

/// The longest column whose values a thread of closing/columns.cuh and its neighbours keep in registers.
inline constexpr std::int64_t closing_most_held = 512;

std::string closing_text(const ClosingPass& pass, DType element, const launch::ClosingFixed& fixed, bool finishes);

}  // namespace upconv::cuda
