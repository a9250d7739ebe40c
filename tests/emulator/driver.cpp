// A CUDA driver whose device is the CPU: memory is the host's, a launch runs the kernel before it returns
// (runtime.cpp). UPCONV_CUDA_DRIVER names the library that this is a part of.
//   UPCONV_EMULATOR_DEVICE      sm_90 (an H200, the default) or sm_80 (an A100)
//   UPCONV_EMULATOR_PROCESSORS  multiprocessors, else the device's own: few of them make persistent grids take turns
//   UPCONV_EMULATOR_SEED        of the order in which blocks and threads run (default 1)
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "emulator/image.hpp"
#include "emulator/runtime.hpp"
#include "emulator/tensor_map.hpp"

#define CUDA extern "C" __attribute__((visibility("default"))) int

namespace {

constexpr int ok = 0, invalid_value = 1, invalid_image = 200, not_found = 500, invalid_context = 201,
              not_supported = 801;

struct Device {
  const char* name;
  int major, minor, processors, shared_per_block, l2_bytes, clock_khz, bus_bits;
};
const Device& device() {
  static const Device d = [] {
    const char* named = std::getenv("UPCONV_EMULATOR_DEVICE");
    Device chosen = named && std::string_view(named) == "sm_80"
                        ? Device{"an emulated A100", 8, 0, 108, 166912, 40 << 20, 1215000, 5120}
                        : Device{"an emulated H200", 9, 0, 132, 232448, 50 << 20, 3201000, 6144};
    if (const char* count = std::getenv("UPCONV_EMULATOR_PROCESSORS"); count && std::atoi(count) > 0)
      chosen.processors = std::atoi(count);
    return chosen;
  }();
  return d;
}

thread_local int contexts = 0;

/// A loaded shared object; closed with its module.
struct Module {
  void* library;
};
using Function = emulator::Kernel;

}  // namespace

/// For the program that drives the tests.
extern "C" __attribute__((visibility("default"))) void emu_set_seed(unsigned long long seed) {
  emulator::order().seed = seed;
}

CUDA cuInit(unsigned) {
  if (const char* seed = std::getenv("UPCONV_EMULATOR_SEED"); seed && *seed)
    emulator::order().seed = std::strtoull(seed, nullptr, 0);
  return ok;
}
CUDA cuDriverGetVersion(int* version) { return *version = 13000, ok; }
CUDA cuGetErrorString(int error, const char** words) {
  return *words = error == invalid_image ? "the emulator cannot load the image" : emu_last_error(), ok;
}
CUDA cuDeviceGetCount(int* count) { return *count = 1, ok; }
CUDA cuDeviceGet(int* to, int ordinal) { return *to = ordinal, ordinal == 0 ? ok : 101; }
CUDA cuDeviceGetName(char* to, int size, int) {
  return std::snprintf(to, static_cast<std::size_t>(size), "%s", device().name), ok;
}
CUDA cuDeviceGetAttribute(int* value, int attribute, int) {
  const Device& d = device();
  switch (attribute) {
    case 16:
      return *value = d.processors, ok;
    case 81:
      return *value = d.shared_per_block + 1024, ok;
    case 82:
      return *value = 65536, ok;
    case 75:
      return *value = d.major, ok;
    case 76:
      return *value = d.minor, ok;
    case 38:
      return *value = d.l2_bytes, ok;
    case 36:
      return *value = d.clock_khz, ok;
    case 37:
      return *value = d.bus_bits, ok;
    case 97:
      return *value = d.shared_per_block, ok;
    default:
      return invalid_value;
  }
}
CUDA cuDevicePrimaryCtxRetain(void** context, int) { return *context = &contexts, ok; }
CUDA cuCtxGetCurrent(void** context) { return *context = contexts ? &contexts : nullptr, ok; }
CUDA cuCtxPushCurrent_v2(void*) { return ++contexts, ok; }
CUDA cuCtxPopCurrent_v2(void** context) {
  if (contexts == 0) return invalid_context;
  --contexts;
  return *context = &contexts, ok;
}

CUDA cuModuleLoadData(void** module, const void* image) {
  const std::string_view object = emulator::unwrap(image);
  if (object.empty()) return invalid_image;
  std::string path = (std::filesystem::temp_directory_path() / "upconv-kernel-XXXXXX").string();
  const int file = mkstemp(path.data());
  const bool written = file >= 0 && write(file, object.data(), object.size()) == static_cast<ssize_t>(object.size());
  void* library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (written && !library) std::fprintf(stderr, "emulator: %s\n", dlerror());
  if (file >= 0) close(file), unlink(path.c_str());
  if (!library) return invalid_image;
  return *module = new Module{library}, ok;
}
CUDA cuModuleUnload(void* module) {
  auto* m = static_cast<Module*>(module);
  dlclose(m->library);
  return delete m, ok;
}
CUDA cuModuleGetFunction(void** function, void* module, const char* name) {
  void* entry = dlsym(static_cast<Module*>(module)->library, (std::string("emu_entry_") + name).c_str());
  if (!entry) return not_found;
  const emulator::Kernel* kernel = emulator::kernel_of(reinterpret_cast<void (*)(void**)>(entry));
  if (!kernel) return not_found;
  return *function = new Function(*kernel), ok;
}
CUDA cuFuncGetAttribute(int* value, int attribute, void*) {
  return *value = attribute == 4 ? 1 : 0, ok;  // one register, no local memory: nothing is known of either
}
CUDA cuFuncSetAttribute(void* function, int attribute, int value) {
  if (attribute == 14 && value) static_cast<Function*>(function)->most_ranks = 16;
  if (attribute != 8) return ok;
  if (value > device().shared_per_block) return invalid_value;
  static_cast<Function*>(function)->allowed = static_cast<std::size_t>(value);
  return ok;
}
CUDA cuStreamIsCapturing(void*, int* capturing) { return *capturing = 0, ok; }

/// CUlaunchConfig and CUlaunchAttribute of the driver's ABI.
struct Attribute {
  int id;
  char pad[4];
  unsigned values[16];
};
struct Config {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  const Attribute* attributes;
  unsigned attribute_count;
};
CUDA cuLaunchKernelEx(const Config* c, void* function, void** arguments, void**) {
  constexpr int cluster_dimension = 4, programmatic_launch = 6;
  if (contexts == 0) return invalid_context;
  dim3 cluster(0, 0, 0);
  bool early = false;
  for (unsigned i = 0; i < c->attribute_count; ++i) {
    const Attribute& a = c->attributes[i];
    if (a.id == cluster_dimension)
      cluster = dim3(a.values[0], a.values[1], a.values[2]);
    else if (a.id == programmatic_launch)
      early = a.values[0] != 0;
    else
      return invalid_value;
  }
  const auto& f = *static_cast<Function*>(function);
  if ((cluster.x || f.cluster.x || early) && device().major < 9) return invalid_value;
  const dim3 grid(c->grid[0], c->grid[1], c->grid[2]), block(c->block[0], c->block[1], c->block[2]);
  return emulator::launch(f, grid, block, cluster, arguments, c->shared_bytes, early);
}

CUDA cuTensorMapEncodeTiled(void* map, int element, unsigned rank, void* base, const std::uint64_t* sizes,
                            const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* steps,
                            int interleave, int swizzle, int promotion, int fill) {
  if (device().major < 9) return not_supported;
  const std::string wrong = emulator::encode(*static_cast<emulator::TensorMap*>(map), element, rank, base, sizes,
                                             strides, box, steps, interleave, swizzle, promotion, fill);
  if (wrong.empty()) return ok;
  emulator::set_last_error("cuTensorMapEncodeTiled: " + wrong);
  return invalid_value;
}

extern "C" void* emu_driver_symbol(const char* name) {
  return std::string_view(name) == "cuTensorMapEncodeTiled" ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled)
                                                            : nullptr;
}
