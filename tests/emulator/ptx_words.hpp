// What the translations of single PTX instructions (ptx.cpp, ptx_background.cpp) are made with: the words of an
// instruction, and its operands as C++ expressions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace emulator::ptx {

using Words = std::vector<std::string>;

std::string trimmed(std::string_view s);
/// At `separator` outside of braces and brackets.
Words split(std::string_view s, char separator);
bool has(const Words& words, std::string_view word);
/// A static_assert that fails and names the instruction.
std::string unknown(std::string_view what);
/// Bytes of "b32", "u16", "f32", ...; 0 where it is no type.
int bytes_of(std::string_view type);

std::string operand(std::string_view text);
/// The members of "{a, b}", or the one operand.
Words operands_of(std::string_view text);
/// Separated by commas, each behind `before`.
std::string listed(const Words& words, const char* before = "");
/// "[%0 + 16]" as an expression.
std::string address(std::string_view text);

/// Bulk copies, mbarriers, clusters and fences: the instruction `op` with its arguments; empty where it is none of
/// them.
std::string background(const Words& op, const Words& arguments, std::string_view whole);

}  // namespace emulator::ptx
