// See compiler.hpp.
#include "jit/compiler.hpp"

#include <locale.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "jit/cache.hpp"
#include "jit/sources.hpp"

namespace upconv::jit {
namespace {

/// Puts the thread's locale back: the NVRTC of CUDA 12.1 leaves its own, and the caller would read files as ASCII.
struct KeepLocale {
  locale_t before = uselocale(nullptr);
  ~KeepLocale() { uselocale(before); }
};

std::string main_text(const Program& program) { return program.preamble + "\n#include \"" + program.file + "\"\n"; }

const Source* find_source(std::string_view name) {
  for (const Source& s : sources())
    if (s.name == name) return &s;
  return nullptr;
}

/// Calls `text(line)` for each line that is no include of an embedded source, `include(source)` for each that is.
template <class Text, class Include>
void scan(std::string_view content, Text text, Include include) {
  while (!content.empty()) {
    const auto end = std::min(content.find('\n'), content.size() - 1);
    const std::string_view line = content.substr(0, end + 1);
    content.remove_prefix(end + 1);
    const auto hash = line.find_first_not_of(" \t");
    const Source* source = nullptr;
    if (hash != std::string_view::npos && line[hash] == '#' && line.find("include") != std::string_view::npos) {
      const auto open = line.find('"'), close = line.rfind('"');
      if (open < close && close != std::string_view::npos)
        source = find_source(line.substr(open + 1, close - open - 1));
    }
    if (source)
      include(*source);
    else
      text(line);
  }
}

/// Every embedded source that `content` includes, by name, directly or not.
void reach(std::string_view content, std::map<std::string_view, std::string_view>& found) {
  scan(
      content, [](std::string_view) {},
      [&](const Source& s) {
        if (found.emplace(s.name, s.text).second) reach(s.text, found);
      });
}

/// Digest of a file of kernels/ and of all that it includes. The sources never change, so each is hashed once.
Digest digest_of_file(const std::string& file) {
  static std::mutex mutex;
  static auto* known = new std::map<std::string, Digest>;
  std::lock_guard lock(mutex);
  if (const auto it = known->find(file); it != known->end()) return it->second;
  std::map<std::string_view, std::string_view> found;
  reach("#include \"" + file + "\"\n", found);
  Sha256 sum;
  for (const auto& [name, text] : found) sum.field(name).field(text);
  return known->emplace(file, sum.digest()).first->second;
}

std::string as_field(const Digest& digest) { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }

std::string joined(const std::vector<std::string>& words) {
  std::string s;
  for (const std::string& w : words) s += (s.empty() ? "" : " ") + w;
  return s;
}

std::string log_of(const Nvrtc& n, NvrtcProgram handle) {
  std::size_t size = 0;
  if (n.nvrtcGetProgramLogSize(handle, &size) != 0 || size <= 1) return {};
  std::string log(size, '\0');
  n.nvrtcGetProgramLog(handle, log.data());
  log.resize(size - 1);
  return log;
}

/// The assembler's remarks on performance in a log of NVRTC, "(C7510) Potential Performance Loss: ...", as one line.
std::string notes_in(std::string_view log) {
  std::string notes;
  while (!log.empty()) {
    const auto end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    const auto at = line.find("(C7");
    if (at != std::string_view::npos && line.find("ptxas info") != std::string_view::npos)
      notes += (notes.empty() ? "" : "; ") + std::string(line.substr(at));
  }
  return notes;
}

/// Processor time of this thread: NVRTC compiles on its caller's.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// "sm_90a" as 90 and 'a'.
bool parse_architecture(std::string_view name, int& number, bool& own_instructions) {
  if (!name.starts_with("sm_")) return false;
  number = 0;
  std::size_t i = 3;
  for (; i < name.size() && name[i] >= '0' && name[i] <= '9'; ++i) number = 10 * number + (name[i] - '0');
  own_instructions = i + 1 == name.size() && name[i] == 'a';
  return number > 0 && (i == name.size() || own_instructions);
}

}  // namespace

Result<Aim> aim_for(const std::string& wanted, std::span<const int> architectures) {
  int number = 0;
  bool own = false;
  if (!parse_architecture(wanted, number, own)) return invalid_argument("'" + wanted + "' is no architecture");
  int same_major = 0, newest = 0;
  for (const int a : architectures) {
    if (a == number) return Aim{wanted, false, true};
    if (a > number) continue;
    newest = std::max(newest, a);
    if (a / 10 == number / 10) same_major = std::max(same_major, a);
  }
  if (same_major) return Aim{"sm_" + std::to_string(same_major), false, false};
  if (newest) return Aim{"compute_" + std::to_string(newest), true, false};
  return Status(Code::unavailable, "this NVRTC no longer compiles for " + wanted);
}

std::vector<std::string> compile_options(const Aim& aim) {
  return {"--gpu-architecture=" + aim.name, "--std=c++17", "--extra-device-vectorization", "-default-device"};
}

Digest key_of(const Program& program, const Nvrtc& compiler, const Aim& aim) {
  Sha256 sum;
  sum.field("upconv kernel, form 1").field(as_field(digest_of_file(program.file)));
  sum.field(program.file).field(program.entry).field(program.preamble);
  std::map<std::string_view, std::string_view> included;  // by the preamble itself
  reach(program.preamble, included);
  for (const auto& [name, text] : included) sum.field(name).field(text);
  for (const std::string& option : compile_options(aim)) sum.field(option);
  sum.field(std::to_string(compiler.major) + "." + std::to_string(compiler.minor));
  return sum.digest();
}

std::string flat_source(const Program& program) {
  std::string flat;
  std::set<std::string_view> written;
  const auto write = [&](const auto& self, std::string_view content) -> void {
    scan(
        content,
        [&](std::string_view line) {
          if (line.find("#pragma once") == std::string_view::npos) flat += line;
        },
        [&](const Source& s) {
          if (!written.insert(s.name).second) return;
          flat += "// kernels/" + std::string(s.name) + "\n";
          self(self, s.text);
          flat += "\n";
        });
  };
  write(write, main_text(program));
  return flat;
}

Result<Image> compile(const Program& program, const Nvrtc& n, const Aim& aim) {
  const KeepLocale locale;
  std::vector<std::string> names, texts;  // NVRTC wants terminated strings
  for (const Source& s : sources()) {
    names.emplace_back(s.name);
    texts.emplace_back(s.text);
  }
  std::vector<const char*> name_pointers, text_pointers, option_pointers;
  for (const std::string& s : names) name_pointers.push_back(s.c_str());
  for (const std::string& s : texts) text_pointers.push_back(s.c_str());
  const std::vector<std::string> options = compile_options(aim);
  for (const std::string& s : options) option_pointers.push_back(s.c_str());

  const std::string what = "entry " + program.entry + " of kernels/" + program.file;
  const std::string title = program.file + "." + program.entry + ".cu";
  NvrtcProgram handle = nullptr;
  int r = n.nvrtcCreateProgram(&handle, main_text(program).c_str(), title.c_str(), static_cast<int>(names.size()),
                               text_pointers.data(), name_pointers.data());
  if (r != 0)
    return Status(Code::internal, "NVRTC could not begin " + what + ": " + std::string(n.nvrtcGetErrorString(r)));
  const double begin = thread_seconds();
  r = n.nvrtcCompileProgram(handle, static_cast<int>(options.size()), option_pointers.data());
  Image image{{}, aim.ptx, thread_seconds() - begin, {}};
  Status status;
  if (r != 0) {
    const std::string saved =
        save_source(program.entry + "-" + to_hex(key_of(program, n, aim)).substr(0, 16), flat_source(program));
    status = Status(Code::internal,
                    "NVRTC " + std::to_string(n.major) + "." + std::to_string(n.minor) + " could not compile " + what +
                        " for " + aim.name + ": " + n.nvrtcGetErrorString(r) + "\noptions: " + joined(options) +
                        "\nsource: " + (saved.empty() ? "could not be saved" : saved) + "\n" + log_of(n, handle));
  } else {
    image.notes = notes_in(log_of(n, handle));
    std::size_t size = 0;
    r = aim.ptx ? n.nvrtcGetPTXSize(handle, &size) : n.nvrtcGetCUBINSize(handle, &size);
    if (r == 0 && size > 0) {
      image.code.resize(size);
      r = aim.ptx ? n.nvrtcGetPTX(handle, image.code.data()) : n.nvrtcGetCUBIN(handle, image.code.data());
    }
    if (r != 0 || size == 0) status = Status(Code::internal, "NVRTC made nothing of " + what + " for " + aim.name);
  }
  n.nvrtcDestroyProgram(&handle);
  if (!status.ok()) return status;
  return image;
}

}  // namespace upconv::jit
