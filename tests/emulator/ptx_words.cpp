// See ptx_words.hpp.
#include "emulator/ptx_words.hpp"

#include <cctype>
#include <cstdlib>

namespace emulator::ptx {

std::string trimmed(std::string_view s) {
  const auto space = " \t\n\r";
  const auto a = s.find_first_not_of(space);
  if (a == std::string_view::npos) return {};
  return std::string(s.substr(a, s.find_last_not_of(space) - a + 1));
}

Words split(std::string_view s, char separator) {
  Words parts;
  int depth = 0;
  std::string part;
  for (const char c : s) {
    if (c == '{' || c == '[' || c == '(') ++depth;
    if (c == '}' || c == ']' || c == ')') --depth;
    if (c == separator && depth == 0) {
      parts.push_back(trimmed(part));
      part.clear();
    } else {
      part += c;
    }
  }
  if (const std::string last = trimmed(part); !last.empty() || !parts.empty()) parts.push_back(last);
  return parts;
}

bool has(const Words& words, std::string_view word) {
  for (const std::string& w : words)
    if (w == word) return true;
  return false;
}

std::string unknown(std::string_view what) {
  std::string quoted;
  for (const char c : what) quoted += c == '"' || c == '\\' || c == '\n' ? ' ' : c;
  return "static_assert(sizeof(int) == 0, \"the emulator does not know this PTX: " + quoted + "\");";
}

int bytes_of(std::string_view type) {
  if (type.size() < 2 || std::string_view("busf").find(type[0]) == std::string_view::npos) return 0;
  const int bits = std::atoi(std::string(type.substr(1)).c_str());
  return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? bits / 8 : 0;
}

std::string operand(std::string_view text) {
  const std::string s = trimmed(text);
  if (s.empty()) return "0";
  if (s[0] == '%') {
    if (s.size() > 1 && (std::isdigit(static_cast<unsigned char>(s[1])) != 0)) return "_" + s.substr(1);
    const Words w = split(std::string_view(s).substr(1), '.');
    const std::string axis = w.size() > 1 ? w[1] : "";
    if (w[0] == "tid") return "threadIdx." + axis;
    if (w[0] == "ntid") return "blockDim." + axis;
    if (w[0] == "ctaid") return "blockIdx." + axis;
    if (w[0] == "nctaid") return "gridDim." + axis;
    if (w[0] == "cluster_ctaid") return "emu_self->in_cluster." + axis;
    if (w[0] == "cluster_nctaid") return "emu_self->cluster." + axis;
    if (w[0] == "cluster_ctarank") return "emu_self->rank";
    if (w[0] == "cluster_nctarank") return "(emu_self->cluster.x * emu_self->cluster.y * emu_self->cluster.z)";
    if (w[0] == "clusterid") return "(blockIdx." + axis + " / emu_self->cluster." + axis + ")";
    if (w[0] == "nclusterid") return "(gridDim." + axis + " / emu_self->cluster." + axis + ")";
    if (w[0] == "laneid") return "static_cast<unsigned>(emu_self->lane)";
    return "unknown_special_register_" + w[0];
  }
  if (s.size() > 2 && s[0] == '0' && (s[1] == 'f' || s[1] == 'F')) return "::emu::bits<float>(0x" + s.substr(2) + "u)";
  if (std::isdigit(static_cast<unsigned char>(s[0])) || s[0] == '-') return s;
  return "_r_" + s;
}

Words operands_of(std::string_view text) {
  std::string s = trimmed(text);
  if (!s.empty() && s.front() == '{') s = s.substr(1, s.size() - 2);
  Words all;
  for (const std::string& part : split(s, ',')) all.push_back(operand(part));
  return all;
}

std::string listed(const Words& words, const char* before) {
  std::string s;
  for (const std::string& w : words) s += (s.empty() ? "" : ", ") + (before + w);
  return s;
}

std::string address(std::string_view text) {
  std::string s = trimmed(text);
  if (s.size() > 1 && s.front() == '[') s = s.substr(1, s.size() - 2);
  const auto plus = s.find('+');
  if (plus == std::string::npos) return operand(s);
  return operand(s.substr(0, plus)) + " + " + trimmed(s.substr(plus + 1));
}

}  // namespace emulator::ptx
