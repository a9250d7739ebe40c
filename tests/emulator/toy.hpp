// Small kernels for the tests of the emulator itself: compiled by its NVRTC, loaded and launched by its driver.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

extern "C" {
int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcDestroyProgram(void**);
int nvrtcCompileProgram(void*, int, const char* const*);
int nvrtcGetProgramLogSize(void*, std::size_t*);
int nvrtcGetProgramLog(void*, char*);
int nvrtcGetCUBINSize(void*, std::size_t*);
int nvrtcGetCUBIN(void*, char*);
int cuCtxPushCurrent_v2(void*);
int cuModuleLoadData(void**, const void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int);
int cuGetErrorString(int, const char**);
struct EmulatedAttribute {
  int id, pad;
  unsigned values[16];
};
struct EmulatedConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  const EmulatedAttribute* attributes;
  unsigned attribute_count;
};
int cuTensorMapEncodeTiled(void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*,
                           const std::uint32_t*, const std::uint32_t*, int, int, int, int);
int cuLaunchKernelEx(const EmulatedConfig*, void*, void**, void**);
void emu_set_seed(unsigned long long);
unsigned short emu_f16_of(float);
}

namespace upconv::test {

/// A text with one kernel, `kernel`.
class Toy {
 public:
  /// UPCONV_TOYS names a folder where the texts go: what is right in them, the real compiler takes as well.
  explicit Toy(const std::string& text) {
    if (const char* folder = std::getenv("UPCONV_TOYS"); folder && *folder) {
      static int number = 0;
      std::ofstream(folder + ("/" + std::to_string(++number)) + ".cu") << text;
    }
    void* program = nullptr;
    nvrtcCreateProgram(&program, text.c_str(), "toy.cu", 0, nullptr, nullptr);
    const char* option = "--gpu-architecture=sm_90a";
    const int result = nvrtcCompileProgram(program, 1, &option);
    std::size_t size = 0;
    nvrtcGetProgramLogSize(program, &size);
    log.resize(size);
    nvrtcGetProgramLog(program, log.data());
    if (result == 0) {
      nvrtcGetCUBINSize(program, &size);
      std::string image(size, '\0');
      nvrtcGetCUBIN(program, image.data());
      void* module = nullptr;
      cuCtxPushCurrent_v2(nullptr);
      EXPECT_EQ(cuModuleLoadData(&module, image.data()), 0);
      EXPECT_EQ(cuModuleGetFunction(&function_, module, "kernel"), 0);
    }
    nvrtcDestroyProgram(&program);
  }

  /// The words of the failure, or "".
  std::string launch(unsigned threads, std::vector<void*> arguments, unsigned shared_bytes = 0, unsigned blocks = 1,
                     unsigned long long seed = 1, unsigned cluster = 0, bool early = false) {
    if (!function_) return "not compiled: " + log;
    emu_set_seed(seed);
    const EmulatedAttribute attributes[] = {{6, 0, {early}}, {4, 0, {cluster, 1, 1}}};
    const EmulatedConfig config{{blocks, 1, 1}, {threads, 1, 1}, shared_bytes, nullptr, attributes, cluster ? 2u : 1u};
    const int error = cuLaunchKernelEx(&config, function_, arguments.data(), nullptr);
    if (error == 0) return {};
    const char* words = "";
    cuGetErrorString(error, &words);
    return words;
  }

  std::string log;

 private:
  void* function_ = nullptr;
};

/// In how many orders of its threads a kernel is tried.
inline constexpr unsigned long long orders = 12;

}  // namespace upconv::test
