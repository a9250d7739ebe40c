// An NVRTC of the tests: the real one, named by UPCONV_TEST_NVRTC, with its compiles counted, and made slow or old on
// demand. Built as a library of its own, loaded through UPCONV_NVRTC.
#include "jit/counting_nvrtc.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#define COUNTING extern "C" __attribute__((visibility("default")))
COUNTING CountingNvrtc counting_nvrtc;
CountingNvrtc counting_nvrtc;

namespace {

template <class F>
F real(const char* name) {
  static void* library = [] {
    // As upconv does for an NVRTC that it loads itself (src/jit/nvrtc.cpp).
    const std::filesystem::path path = std::getenv("UPCONV_TEST_NVRTC");
    for (const auto& file : std::filesystem::directory_iterator(path.parent_path()))
      if (file.path().filename().string().starts_with("libnvrtc-builtins.so."))
        dlopen(file.path().c_str(), RTLD_NOW | RTLD_LOCAL);
    return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  }();
  return reinterpret_cast<F>(dlsym(library, name));
}

std::vector<int> architectures() {
  int count = 0;
  real<int (*)(int*)>("nvrtcGetNumSupportedArchs")(&count);
  std::vector<int> all(static_cast<std::size_t>(count));
  real<int (*)(int*)>("nvrtcGetSupportedArchs")(all.data());
  std::erase_if(all, [](int a) { return a > counting_nvrtc.newest; });
  return all;
}

}  // namespace

#define FORWARD(name, parameters, ...) \
  COUNTING int name parameters { return real<int(*) parameters>(#name)(__VA_ARGS__); }
using Program = void*;
FORWARD(nvrtcVersion, (int* major, int* minor), major, minor)
FORWARD(nvrtcDestroyProgram, (Program * p), p)
FORWARD(nvrtcGetProgramLogSize, (Program p, std::size_t* n), p, n)
FORWARD(nvrtcGetProgramLog, (Program p, char* to), p, to)
FORWARD(nvrtcGetCUBINSize, (Program p, std::size_t* n), p, n)
FORWARD(nvrtcGetCUBIN, (Program p, char* to), p, to)
FORWARD(nvrtcGetPTXSize, (Program p, std::size_t* n), p, n)
FORWARD(nvrtcGetPTX, (Program p, char* to), p, to)
FORWARD(nvrtcCreateProgram,
        (Program * p, const char* text, const char* name, int n, const char* const* headers, const char* const* names),
        p, text, name, n, headers, names)

COUNTING const char* nvrtcGetErrorString(int error) { return real<const char* (*)(int)>("nvrtcGetErrorString")(error); }
COUNTING int nvrtcGetNumSupportedArchs(int* count) { return *count = static_cast<int>(architectures().size()), 0; }
COUNTING int nvrtcGetSupportedArchs(int* to) {
  const auto all = architectures();
  std::copy(all.begin(), all.end(), to);
  return 0;
}
COUNTING int nvrtcCompileProgram(Program p, int count, const char* const* options) {
  ++counting_nvrtc.compiles;
  std::this_thread::sleep_for(std::chrono::milliseconds(counting_nvrtc.delay_ms));
  return real<int (*)(Program, int, const char* const*)>("nvrtcCompileProgram")(p, count, options);
}
