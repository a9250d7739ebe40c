// An NVRTC that compiles for the CPU: translates the program and its headers, runs the C++ compiler and hands its
// shared object out as a cubin, which driver.cpp loads. UPCONV_NVRTC names the library that this is a part of.
//   UPCONV_EMULATOR_CXX    the compiler, else the one that built this
//   UPCONV_EMULATOR_KERNELS  a folder whose files replace those of kernels/ that the library brought (use it without a
//                            disk cache: the library does not know of it)
//   UPCONV_EMULATOR_KEEP   a folder where translated programs stay, for a debugger or a reader
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "emulator/image.hpp"
#include "emulator/translate.hpp"

#define NVRTC extern "C" __attribute__((visibility("default")))

namespace {

namespace fs = std::filesystem;

constexpr int ok = 0, invalid_input = 3, compilation = 6;

// Undefined behaviour that shows a wrong index traps; what is never assigned is a pattern, not zero.
constexpr const char* flags =
    " -std=c++17 -Og -g0 -fPIC -shared -fno-threadsafe-statics -fno-strict-aliasing -ftrivial-auto-var-init=pattern"
    " -fsanitize=bounds,alignment,shift-exponent,integer-divide-by-zero -fsanitize-undefined-trap-on-error -w"
    " -fno-exceptions -fno-rtti -fvisibility=hidden";

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Program {
  std::string text, name;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string log, image;
};

/// Where this process writes; removed at its end unless the user named it.
struct Folder {
  fs::path path;
  bool keep = false;
  int used = 0;
  Folder() {
    if (const char* kept = std::getenv("UPCONV_EMULATOR_KEEP"); kept && *kept) {
      path = kept;
      keep = true;
      fs::create_directories(path);
    } else {
      std::string pattern = (fs::temp_directory_path() / "upconv-emulator-XXXXXX").string();
      if (mkdtemp(pattern.data())) path = pattern;
    }
  }
  ~Folder() {
    std::error_code ignored;
    if (!keep && !path.empty()) fs::remove_all(path, ignored);
  }
};
Folder& folder() {
  static Folder f;
  return f;
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string compiler() {
  const char* named = std::getenv("UPCONV_EMULATOR_CXX");
  return named && *named ? named : UPCONV_EMULATOR_COMPILER;
}

/// Of everything here that decides what a program becomes: it stands in NVRTC's version, and so in the cache's keys.
unsigned fingerprint() {
  std::uint64_t h = 1469598103934665603ull;
  const auto add = [&](const std::string& s) {
    for (const char c : s) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  };
  const fs::path sources = fs::path(UPCONV_EMULATOR_SOURCES) / "emulator";
  for (const char* file : {"cuda.hpp", "translate.cpp", "ptx.cpp", "ptx_words.cpp", "ptx_background.cpp", "nvrtc.cpp"})
    add(text_of(sources / file));
  add(compiler());
  return static_cast<unsigned>(h % 1000000007u);
}

std::string own_library() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&fingerprint), &info);
  return fs::absolute(info.dli_fname).string();
}

int compile(Program& p, const std::string& architecture) {
  Folder& f = folder();
  const std::string base = "program-" + std::to_string(getpid()) + "-" + std::to_string(++f.used);
  const fs::path at = f.path / base, include = at / "include";
  for (const auto& [name, text] : p.headers) write(include / name, emulator::translate(text, "kernels/" + name));
  write(at / "program.cpp", emulator::translate(p.text, p.name));
  const std::string command = compiler() + flags + " -D__CUDA_ARCH__=" + architecture + " -I" + include.string() +
                              " -I" UPCONV_EMULATOR_SOURCES " -include emulator/cuda.hpp " +
                              (at / "program.cpp").string() + " -o " + (at / "program.so").string() + " " +
                              own_library() + " > " + (at / "log").string() + " 2>&1";
  const int status = std::system(command.c_str());
  p.log = text_of(at / "log");
  if (status == 0) p.image = emulator::wrap(text_of(at / "program.so"));
  if (!f.keep) {
    std::error_code ignored;
    fs::remove_all(at, ignored);
  }
  return status == 0 ? ok : compilation;
}

}  // namespace

NVRTC int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = static_cast<int>(fingerprint()), ok; }
NVRTC const char* nvrtcGetErrorString(int error) {
  return error == ok ? "no error" : error == compilation ? "the C++ compiler failed" : "an error of the emulator";
}
NVRTC int nvrtcGetNumSupportedArchs(int* count) { return *count = 4, ok; }
NVRTC int nvrtcGetSupportedArchs(int* to) {
  int i = 0;
  for (const int a : {80, 89, 90, 100}) to[i++] = a;
  return ok;
}
NVRTC int nvrtcCreateProgram(void** handle, const char* text, const char* name, int count, const char* const* headers,
                             const char* const* names) {
  auto* p = new Program{text, name ? name : "program.cu", {}, {}, {}};
  const char* replaced = std::getenv("UPCONV_EMULATOR_KERNELS");
  for (int i = 0; i < count; ++i) {
    std::error_code ignored;
    const fs::path other = fs::path(replaced ? replaced : "") / names[i];
    const bool take = replaced && *replaced && fs::is_regular_file(other, ignored);
    p->headers.emplace_back(names[i], take ? text_of(other) : headers[i]);
  }
  return *handle = p, ok;
}
NVRTC int nvrtcDestroyProgram(void** handle) {
  delete static_cast<Program*>(*handle);
  return *handle = nullptr, ok;
}
NVRTC int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  std::string architecture;
  for (int i = 0; i < count; ++i)
    if (const std::string option = options[i]; option.rfind("--gpu-architecture=sm_", 0) == 0)
      architecture =
          std::to_string(std::atoi(option.c_str() + 22) * 10) +
          (option.back() == 'a' ? " -D__CUDA_ARCH_FEAT_SM" + option.substr(22, option.size() - 23) + "_ALL" : "");
  if (architecture.empty()) return invalid_input;
  return compile(*static_cast<Program*>(handle), architecture);
}
NVRTC int nvrtcGetProgramLogSize(void* handle, std::size_t* n) {
  return *n = static_cast<Program*>(handle)->log.size() + 1, ok;
}
NVRTC int nvrtcGetProgramLog(void* handle, char* to) {
  return std::strcpy(to, static_cast<Program*>(handle)->log.c_str()), ok;
}
NVRTC int nvrtcGetCUBINSize(void* handle, std::size_t* n) {
  return *n = static_cast<Program*>(handle)->image.size(), ok;
}
NVRTC int nvrtcGetCUBIN(void* handle, char* to) {
  const std::string& image = static_cast<Program*>(handle)->image;
  return std::memcpy(to, image.data(), image.size()), ok;
}
NVRTC int nvrtcGetPTXSize(void*, std::size_t*) { return invalid_input; }
NVRTC int nvrtcGetPTX(void*, char*) { return invalid_input; }
