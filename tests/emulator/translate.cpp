// See translate.hpp. Works on the text between comments and literals; knows of C++ only what it needs to find the end
// of a statement.
#include "emulator/translate.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <vector>

namespace emulator {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// The end of the comment or literal that begins at `at`, or `at` where none does.
std::size_t skip_quiet(std::string_view s, std::size_t at) {
  const auto starts = [&](std::string_view what) { return s.substr(at, what.size()) == what; };
  const auto past = [&](std::string_view what, std::size_t from) {
    const auto end = s.find(what, from);
    return end == std::string_view::npos ? s.size() : end + what.size();
  };
  if (starts("//")) return past("\n", at);
  if (starts("/*")) return past("*/", at + 2);
  if (starts("R\"") && (at == 0 || !is_word(s[at - 1]))) {
    const auto open = s.find('(', at);
    return past(")" + std::string(s.substr(at + 2, open - at - 2)) + "\"", open);
  }
  if (s[at] == '"' || (s[at] == '\'' && (at == 0 || !is_word(s[at - 1])))) {
    std::size_t i = at + 1;
    for (; i < s.size() && s[i] != s[at]; ++i)
      if (s[i] == '\\') ++i;
    return std::min(i + 1, s.size());
  }
  return at;
}

std::size_t skip_space(std::string_view s, std::size_t at) {
  while (at < s.size()) {
    if (std::isspace(static_cast<unsigned char>(s[at])) || s[at] == '\\') {
      ++at;
    } else if (s[at] == '/' && skip_quiet(s, at) != at) {
      at = skip_quiet(s, at);
    } else {
      break;
    }
  }
  return at;
}

/// Behind the bracket that closes the one at `at`.
std::size_t skip_brackets(std::string_view s, std::size_t at) {
  int depth = 0;
  while (at < s.size()) {
    if (const std::size_t end = skip_quiet(s, at); end != at) {
      at = end;
      continue;
    }
    const char c = s[at++];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if ((c == ')' || c == ']' || c == '}') && --depth == 0) return at;
  }
  return at;
}

/// The parts of `s` between `separator`s outside of brackets and literals.
std::vector<std::string> split(std::string_view s, char separator) {
  std::vector<std::string> parts(1);
  for (std::size_t at = 0; at < s.size();) {
    std::size_t end = skip_quiet(s, at);
    if (end == at) end = s[at] == '(' || s[at] == '[' || s[at] == '{' ? skip_brackets(s, at) : at + 1;
    if (end == at + 1 && s[at] == separator)
      parts.emplace_back();
    else if (s.substr(at, 2) != "//" && s.substr(at, 2) != "/*")
      parts.back() += s.substr(at, end - at);
    at = end;
  }
  return parts;
}

std::string trimmed(std::string_view s) {
  const auto a = s.find_first_not_of(" \t\n\r\\");
  if (a == std::string_view::npos) return {};
  return std::string(s.substr(a, s.find_last_not_of(" \t\n\r\\") - a + 1));
}

/// The text of adjacent string literals.
std::string joined_literals(std::string_view s) {
  std::string text;
  for (std::size_t at = skip_space(s, 0); at < s.size(); at = skip_space(s, at)) {
    const std::size_t end = skip_quiet(s, at);
    if (end == at) break;
    for (std::size_t i = at + 1; i + 1 < end; ++i) {
      if (s[i] != '\\') {
        text += s[i];
        continue;
      }
      ++i;
      if (s[i] != '\n') text += s[i] == 'n' ? '\n' : s[i] == 't' ? '\t' : s[i];
    }
    at = end;
  }
  // "%%tid.x" is "%tid.x" to the assembler.
  for (std::size_t i = text.find("%%"); i != std::string::npos; i = text.find("%%", i + 1)) text.erase(i, 1);
  return text;
}

/// An asm statement's inside: "text" : outputs : inputs : clobbers.
std::string asm_as_calls(std::string_view inside) {
  const std::vector<std::string> sections = split(inside, ':');
  const std::string ptx = joined_literals(sections[0]);
  const bool late = ptx.find("wgmma.mma_async") != std::string::npos;
  if (trimmed(ptx).empty()) return "{}";
  std::string s = "{ ";
  int number = 0;
  for (std::size_t section = 1; section < std::min<std::size_t>(sections.size(), 3); ++section) {
    if (trimmed(sections[section]).empty()) continue;
    for (const std::string& part : split(sections[section], ',')) {
      const auto open = part.find('"'), close = part.find('"', open + 1), bracket = part.find('(', close);
      const std::string kind = part.substr(open + 1, close - open - 1),
                        expression = part.substr(bracket, part.rfind(')') - bracket + 1);
      const std::string i = std::to_string(number++);
      if (section == 1) {
        s += "auto& _" + i + " = ::emu::result" + expression + "; ";
      } else {
        s += "const auto _" + i + " = ::emu::operand<'" + kind + "'>" + expression + "; ";
        if (late && kind == "r")
          s += "const auto _at_" + i + " = ::emu::place" + expression + "; (void)_at_" + i + "; ";
      }
    }
  }
  return s + translate_ptx(ptx) + " }";
}

/// `__shared__` declarations from `begin` (of "extern" or "__shared__") to the semicolon.
std::string shared_as_memory(std::string_view declaration, int number) {
  std::string s(declaration);
  const bool dynamic = s.find("extern") != std::string::npos && s.find("extern") < s.find("__shared__");
  std::string alignment;
  const auto drop = [&](std::string_view word) {
    if (const auto at = s.find(word); at != std::string::npos) s.erase(at, word.size());
  };
  drop("extern");
  drop("static");
  drop("__shared__");
  for (const char* word : {"__align__", "alignas"})
    if (const auto at = s.find(word); at != std::string::npos) {
      const std::size_t open = s.find('(', at), end = skip_brackets(s, open);
      alignment = "alignas" + s.substr(open, end - open) + " ";
      s.erase(at, end - at);
    }
  const auto bracket = s.find('[');
  std::size_t end = bracket == std::string::npos ? s.size() : bracket;
  while (end > 0 && !is_word(s[end - 1])) --end;
  std::size_t begin = end;
  while (begin > 0 && is_word(s[begin - 1])) --begin;
  const std::string name = s.substr(begin, end - begin), type = trimmed(s.substr(0, begin));
  if (dynamic) return type + "* const " + name + " = reinterpret_cast<" + type + "*>(emu_dynamic_shared);";
  const std::string holder = "emu_shared_" + std::to_string(number);
  return "struct " + holder + " { " + alignment + type + " " + s.substr(begin) + "; }; auto& " + name +
         " = ::emu::static_shared<" + holder + ">()->" + name + ";";
}

std::string line_breaks(std::string_view s) {
  std::string breaks;
  for (std::size_t i = 0; i < s.size(); ++i)
    if (s[i] == '\n') breaks += i > 0 && s[i - 1] == '\\' ? "\\\n" : "\n";
  return breaks;
}

/// The word before `at` in already translated text, and where it begins.
std::string word_before(const std::string& s, std::size_t& at) {
  while (at > 0 && std::isspace(static_cast<unsigned char>(s[at - 1]))) --at;
  const std::size_t end = at;
  while (at > 0 && is_word(s[at - 1])) --at;
  return s.substr(at, end - at);
}

/// Where the parameter that goes on at `at` ends.
std::size_t end_of_parameter(std::string_view s, std::size_t at) {
  int angles = 0;
  while (at < s.size()) {
    const char c = s[at];
    if (c == '<') ++angles;
    if (c == '>') --angles;
    if (c == ')' || (c == ',' && angles == 0)) break;
    at = c == '(' || c == '[' || c == '{' ? skip_brackets(s, at) : at + 1;
  }
  return at;
}

/// Whether a declaration whose words have come so far belongs to a template.
bool follows_template(const std::string& before) {
  std::size_t at = before.size();
  for (;;) {
    const std::size_t here = at;
    const std::string word = word_before(before, at);
    if (word == "static" || word == "inline" || word == "extern") continue;
    if (word.empty() && here > 2 && at > 2 && before[at - 1] == '"') {  // extern "C"
      at -= 3;
      continue;
    }
    return word.empty() && at > 0 && before[at - 1] == '>';
  }
}

}  // namespace

std::string translate(std::string_view s, std::string_view name) {
  std::string out;
  int shared = 0;
  struct Entry {
    std::size_t at;  ///< Of the body's end.
    std::string text;
  };
  std::vector<Entry> entries;
  std::size_t head_end = 0;  // of the last kernel's
  for (std::size_t at = 0; at < s.size();) {
    while (!entries.empty() && at >= entries.back().at) {
      out += entries.back().text;
      entries.pop_back();
    }
    if (const std::size_t end = skip_quiet(s, at); end != at) {
      out += s.substr(at, end - at);
      at = end;
      continue;
    }
    if (!is_word(s[at])) {
      out += s[at++];
      continue;
    }
    std::size_t end = at;
    while (end < s.size() && is_word(s[end])) ++end;
    const std::string_view word = s.substr(at, end - at);
    if (word == "asm" || word == "__asm__") {
      std::size_t open = skip_space(s, end);
      for (const std::string_view v : {"volatile", "__volatile__"})
        if (s.substr(open, v.size()) == v) open = skip_space(s, open + v.size());
      const std::size_t close = skip_brackets(s, open), semicolon = skip_space(s, close);
      out += asm_as_calls(s.substr(open + 1, close - open - 2)) + line_breaks(s.substr(at, semicolon - at));
      at = semicolon + 1;
      continue;
    }
    if (word == "__shared__") {
      std::size_t begin = out.size();
      const std::string before = word_before(out, begin);
      std::string head;
      if (before == "extern" || before == "static") {
        head = before + " ";
        out.resize(begin);
      }
      std::size_t semicolon = at;
      while (semicolon < s.size() && s[semicolon] != ';')
        semicolon = s[semicolon] == '(' || s[semicolon] == '[' ? skip_brackets(s, semicolon) : semicolon + 1;
      const std::string_view declaration = s.substr(at, semicolon - at);
      out += shared_as_memory(head + std::string(declaration), ++shared) + line_breaks(declaration);
      at = semicolon + 1;
      continue;
    }
    if (word == "__global__") {
      std::size_t open = end;
      std::string function, cluster;
      while (open < s.size()) {
        open = skip_space(s, open);
        if (s[open] == '(') {
          if (function != "__launch_bounds__" && function != "__maxnreg__" && function != "__cluster_dims__") break;
          const std::size_t close = skip_brackets(s, open);
          if (function == "__cluster_dims__") cluster = ", " + std::string(s.substr(open + 1, close - open - 2));
          open = close;
          continue;
        }
        std::size_t word_end = open;
        while (word_end < s.size() && is_word(s[word_end])) ++word_end;
        if (word_end == open) {
          ++open;
          continue;
        }
        function = s.substr(open, word_end - open);
        open = word_end;
      }
      head_end = skip_brackets(s, open);
      const std::size_t body = skip_space(s, head_end);
      if (body < s.size() && s[body] == '{' && !follows_template(out)) {
        const std::string entry = "emu_entry_" + function;
        entries.push_back({skip_brackets(s, body), " extern \"C\" __attribute__((visibility(\"default\"))) void " +
                                                       entry + "(void** a) { ::emu::invoke(&" + function +
                                                       ", a); } static const ::emu::Registered emu_registered_" +
                                                       function + "(reinterpret_cast<const void*>(&" + function +
                                                       "), \"" + function + "\", " + entry + cluster + ");"});
      }
    }
    if (word == "__cluster_dims__" && at >= head_end) {
      out += "the_emulator_wants___cluster_dims___behind___global__ ";
      at = end;
      continue;
    }
    if (word == "__grid_constant__") {  // stays where the launch put it: a reference
      const std::size_t parameter_end = end_of_parameter(s, end);
      std::size_t name = parameter_end;
      while (name > end && !is_word(s[name - 1])) --name;
      while (name > end && is_word(s[name - 1])) --name;
      out += std::string(s.substr(end, name - end)) + "& " + std::string(s.substr(name, parameter_end - name));
      at = parameter_end;
      continue;
    }
    out += word;
    at = end;
  }
  for (; !entries.empty(); entries.pop_back()) out += entries.back().text;
  return "#line 1 \"" + std::string(name) + "\"\n" + out;
}

}  // namespace emulator
