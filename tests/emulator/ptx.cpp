// PTX statements as C++ (see translate.hpp): a line-by-line translation of the few dozen instructions that the kernels
// use. Each becomes a call of what cuda.hpp declares.
#include <cstdlib>
#include <set>

#include "emulator/ptx_words.hpp"
#include "emulator/translate.hpp"

namespace emulator {
namespace {

using namespace ptx;

std::string memory(const Words& op, const Words& arguments, std::string_view whole) {
  const bool load = op[0] == "ld";
  const std::string space = has(op, "global")                             ? "global"
                            : has(op, "shared") || has(op, "shared::cta") ? "shared"
                            : has(op, "shared::cluster")                  ? "cluster"
                                                                          : "";
  const int bytes = bytes_of(op.back());
  if (space.empty() || bytes == 0 || arguments.size() != 2) return unknown(whole);
  const Words values = operands_of(arguments[load ? 0 : 1]);
  const std::size_t count = has(op, "v2") ? 2 : has(op, "v4") ? 4 : 1;
  if (values.size() != count) return unknown(whole);
  return std::string("::emu::") + (load ? "load_" : "store_") + space + "<" + std::to_string(bytes) + ">(" +
         address(arguments[load ? 1 : 0]) + ", " + listed(values) + ");";
}

/// Words of depth and type of a product of shape "m16n8k8" in operands of `type`; false where there is none.
bool product_of(std::string_view shape, std::string_view type, int& n, int& words, int& number) {
  number = type == "tf32" ? 0 : type == "f16" ? 1 : type == "bf16" ? 2 : -1;
  const auto at_n = shape.find('n'), at_k = shape.find('k');
  if (number < 0 || at_n == std::string_view::npos || at_k == std::string_view::npos) return false;
  n = std::atoi(std::string(shape.substr(at_n + 1)).c_str());
  words = std::atoi(std::string(shape.substr(at_k + 1)).c_str()) / (number == 0 ? 1 : 2);
  return words == 8 || words == 4;
}

std::string mma_sync(const Words& op, const Words& arguments, std::string_view whole) {
  // mma.sync.aligned.SHAPE.row.col.f32.TYPE.TYPE.f32
  int n = 0, words = 0, type = 0;
  if (op.size() != 10 || op[1] != "sync" || op[4] != "row" || op[5] != "col" || op[6] != "f32" || op[7] != op[8] ||
      op[9] != "f32" || op[3].rfind("m16n8k", 0) != 0 || arguments.size() != 4 ||
      !product_of(op[3], op[7], n, words, type))
    return unknown(whole);
  const Words d = operands_of(arguments[0]), a = operands_of(arguments[1]), b = operands_of(arguments[2]),
              c = operands_of(arguments[3]);
  if (d.size() != 4 || c.size() != 4 || a.size() != static_cast<std::size_t>(words / 2) ||
      b.size() != static_cast<std::size_t>(words / 4))
    return unknown(whole);
  return "{ float* const d_[] = {" + listed(d, "&") + "}; const unsigned a_[] = {" + listed(a) + "}, b_[] = {" +
         listed(b) + "}; const float c_[] = {" + listed(c) + "}; ::emu::mma<" + std::to_string(words) + ", " +
         std::to_string(type) + ">(d_, a_, b_, c_); }";
}

std::string wgmma(const Words& op, const Words& arguments, std::string_view whole) {
  if (op[1] == "fence") return "emu_wgmma_fence();";
  if (op[1] == "commit_group") return "emu_wgmma_commit();";
  if (op[1] == "wait_group" && arguments.size() == 1)
    return "emu_wgmma_wait(static_cast<int>(" + operand(arguments[0]) + "));";
  // wgmma.mma_async.sync.aligned.SHAPE.f32.TYPE.TYPE sums, a, descriptor, keep, sign, sign[, transposed...], where a is
  // four registers or a descriptor, and 16-bit operands in memory may be transposed.
  int n = 0, words = 0, type = 0;
  if (op.size() != 8 || op[1] != "mma_async" || op[4].rfind("m64n", 0) != 0 || op[5] != "f32" || op[6] != op[7] ||
      !product_of(op[4], op[6], n, words, type) || words != 8 || arguments.size() < 6 || arguments[4] != "1" ||
      arguments[5] != "1")
    return unknown(whole);
  const Words d = operands_of(arguments[0]), a = operands_of(arguments[1]);
  const std::size_t flags = type == 0 ? 0 : a.size() == 1 ? 2 : 1;
  if ((a.size() != 4 && a.size() != 1) || d.size() != static_cast<std::size_t>(n / 2) || a[0][0] != '_' ||
      arguments.size() != 6 + flags)
    return unknown(whole);
  // The last flag is that of b, the one before it that of a.
  int turned = 0;
  for (std::size_t i = 6; i < arguments.size(); ++i) {
    if (arguments[i] != "0" && arguments[i] != "1") return unknown(whole);
    if (arguments[i] == "1") turned |= i + 1 == arguments.size() ? 1 : 2;
  }
  const std::string sums = "{ float* const d_[] = {" + listed(d, "&") + "}; ",
                    call = "emu_wgmma(" + std::to_string(n) + ", " + std::to_string(type) + ", d_, ",
                    rest =
                        operand(arguments[2]) + ", " + operand(arguments[3]) + ", " + std::to_string(turned) + "); }";
  if (a.size() == 1) return sums + call + "nullptr, nullptr, " + a[0] + ", " + rest;
  Words places;
  for (const std::string& w : a) places.push_back("_at" + w);
  return sums + "const unsigned* const at_[] = {" + listed(places) + "}; const unsigned a_[] = {" + listed(a) + "}; " +
         call + "at_, a_, 0, " + rest;
}

std::string conversion(const Words& op, const Words& arguments, std::string_view whole) {
  const bool nearest = has(op, "rn"), away = has(op, "rna");
  const Words v = [&] {
    Words all;
    for (const std::string& a : arguments) all.push_back(operand(a));
    return all;
  }();
  const std::string to = op.size() >= 3 ? op[op.size() - 2] : "", from = op.back();
  const auto set = [&](const std::string& value) { return "::emu::set(" + v[0] + ", " + value + ");"; };
  if (from == "f32" && v.size() == 2) {
    if (to == "tf32" && nearest) return set("::emu::tf32_rn(" + v[1] + ")");
    if (to == "tf32" && away) return set("::emu::tf32_rna(" + v[1] + ")");
    if (to == "bf16" && nearest) return set("::emu::bf16_of(" + v[1] + ")");
    if (to == "f16" && nearest) return set("emu_f16_of(" + v[1] + ")");
  }
  if (from == "f32" && v.size() == 3 && nearest) {
    if (to == "bf16x2") return set("::emu::bf16x2_of(" + v[1] + ", " + v[2] + ")");
    if (to == "f16x2") return set("::emu::f16x2_of(" + v[1] + ", " + v[2] + ")");
  }
  if (to == "f32" && from == "f16" && v.size() == 2) return set("emu_f16_value(" + v[1] + ")");
  return unknown(whole);
}

std::string instruction(const std::string& statement) {
  std::string s = statement, condition;
  if (s[0] == '@') {
    const auto end = s.find_first_of(" \t\n");
    const std::string p = s.substr(1, end - 1);
    condition = p[0] == '!' ? "if (!_r_" + p.substr(1) + ") " : "if (_r_" + p + ") ";
    s = trimmed(s.substr(end));
  }
  const auto end = s.find_first_of(" \t\n");
  const std::string code = s.substr(0, end);
  const Words op = split(code, '.'), a = split(end == std::string::npos ? "" : s.substr(end), ',');
  const auto is = [&](std::string_view prefix) { return code.rfind(prefix, 0) == 0; };
  std::string r;
  if (op[0] == "mov" && a.size() == 2) {
    if (a[1][0] == '{') {
      const Words parts = operands_of(a[1]);
      r = parts.size() == 2 && op[1] == "b64" ? "::emu::set(" + operand(a[0]) + ", ::emu::pair(" + listed(parts) + "));"
                                              : unknown(statement);
    } else if (a[0][0] == '{') {
      const Words parts = operands_of(a[0]);
      r = parts.size() == 2 && op[1] == "b64" ? "::emu::split(" + operand(a[1]) + ", " + listed(parts) + ");"
                                              : unknown(statement);
    } else {
      r = "::emu::set(" + operand(a[0]) + ", " + operand(a[1]) + ");";
    }
  } else if (op[0] == "setp" && a.size() == 3) {
    const char* sign = op[1] == "ne" ? "!=" : op[1] == "eq" ? "==" : nullptr;
    r = sign ? operand(a[0]) + " = " + operand(a[1]) + " " + sign + " " + operand(a[2]) + ";" : unknown(statement);
  } else if (op[0] == "selp" && a.size() == 4) {
    r = "::emu::set(" + operand(a[0]) + ", " + operand(a[3]) + " ? " + operand(a[1]) + " : " + operand(a[2]) + ");";
  } else if (const std::string other = background(op, a, statement); !other.empty()) {
    r = other;
  } else if (op[0] == "ld" || op[0] == "st") {
    r = memory(op, a, statement);
  } else if (is("mma.sync.")) {
    r = mma_sync(op, a, statement);
  } else if (op[0] == "wgmma") {
    r = wgmma(op, a, statement);
  } else if ((code == "rcp.approx.ftz.f32" || code == "ex2.approx.ftz.f32") && a.size() == 2) {
    const std::string v = "::emu::flushed(" + operand(a[1]) + ")";
    r = "::emu::set(" + operand(a[0]) + ", ::emu::flushed(" + (op[0] == "rcp" ? "1.0f / " + v : "exp2f(" + v + ")") +
        "));";
  } else if ((code == "max.NaN.f32" || code == "min.NaN.f32") && a.size() == 3) {
    r = "::emu::set(" + operand(a[0]) + ", ::emu::extreme(" + operand(a[1]) + ", " + operand(a[2]) + ", " +
        (op[0] == "max" ? "true" : "false") + "));";
  } else if (op[0] == "cvt") {
    r = conversion(op, a, statement);
  } else if (is("ldmatrix.sync.aligned.m8n8.") && code.size() > 4 && a.size() == 2 && op.back() == "b16") {
    const Words d = operands_of(a[0]);
    r = "{ unsigned* const d_[] = {" + listed(d, "&") + "}; emu_ldmatrix(" + std::to_string(d.size()) + ", " +
        (has(op, "trans") ? "1" : "0") + ", d_, " + address(a[1]) + "); }";
  } else if (is("stmatrix.sync.aligned.m8n8.") && a.size() == 2 && op.back() == "b16") {
    const Words d = operands_of(a[1]);
    r = "{ const unsigned d_[] = {" + listed(d) + "}; emu_stmatrix(" + std::to_string(d.size()) + ", " +
        (has(op, "trans") ? "1" : "0") + ", " + address(a[0]) + ", d_); }";
  } else if ((is("cp.async.ca.shared") || is("cp.async.cg.shared")) && a.size() >= 3) {
    r = "emu_copy_async(static_cast<int>(" + operand(a[2]) + "), " + address(a[0]) +
        ", reinterpret_cast<const void*>(" + address(a[1]) + "), static_cast<unsigned>(" +
        operand(a.size() > 3 ? a[3] : a[2]) + "));";
  } else if (code == "cp.async.commit_group") {
    r = "emu_copy_commit();";
  } else if (code == "cp.async.wait_group" && a.size() == 1) {
    r = "emu_copy_wait(static_cast<int>(" + operand(a[0]) + "));";
  } else if (code == "cp.async.wait_all") {
    r = "emu_copy_wait(-1);";
  } else if (op[0] == "bra" && a.size() == 1) {
    r = "goto L_" + a[0] + ";";
  } else {
    r = unknown(statement);
  }
  return condition + r;
}

std::string declaration(std::string_view statement) {
  // .reg .TYPE a, b
  const std::string s = trimmed(statement.substr(4));
  const auto end = s.find_first_of(" \t");
  const std::string type = s.substr(1, end - 1), names = s.substr(end);
  const int bytes = bytes_of(type);
  std::string r = type == "pred"  ? "bool "
                  : type == "f32" ? "float "
                  : bytes == 2    ? "unsigned short "
                  : bytes == 4    ? "unsigned "
                  : bytes == 8    ? "unsigned long long "
                                  : "";
  if (r.empty()) return unknown(statement);
  std::string list;
  for (const std::string& name : split(names, ',')) list += (list.empty() ? "_r_" : ", _r_") + name;
  return r + list + ";";
}

}  // namespace

std::string translate_ptx(std::string_view text) {
  std::string body, statement;
  std::set<std::string> labels;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool fresh = trimmed(statement).empty();
    if (c == '/' && i + 1 < text.size() && text[i + 1] == '/') {
      while (i < text.size() && text[i] != '\n') ++i;
    } else if (fresh && (c == '{' || c == '}')) {
      body += c == '}' && !body.empty() && body.back() == ':' ? ";}" : std::string(1, c);
      statement.clear();
    } else if (c == ':' && statement.find_first_of(".[@ ") == std::string::npos && !fresh &&
               !(i + 1 < text.size() && text[i + 1] == ':')) {
      const std::string label = trimmed(statement);
      labels.insert(label);
      body += " L_" + label + ":";
      statement.clear();
    } else if (c == ';') {
      const std::string s = trimmed(statement);
      if (!s.empty()) body += " " + (s.rfind(".reg", 0) == 0 ? declaration(s) : instruction(s));
      statement.clear();
    } else {
      if (!(fresh && (c == ' ' || c == '\n' || c == '\t'))) statement += c;
    }
  }
  if (const std::string rest = trimmed(statement); !rest.empty()) body += unknown(rest + " (no semicolon)");
  std::string declared;
  for (const std::string& label : labels) declared += (declared.empty() ? "__label__ L_" : ", L_") + label;
  if (!declared.empty()) body = "{" + declared + "; " + body + "}";
  return body;
}

}  // namespace emulator
