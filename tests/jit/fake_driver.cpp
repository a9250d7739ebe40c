// See fake_driver.hpp. Built as a library of its own, loaded through UPCONV_CUDA_DRIVER.
#include "jit/fake_driver.hpp"

#include <elf.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#define FAKE extern "C" __attribute__((visibility("default"))) int
extern "C" __attribute__((visibility("default"))) FakeCuda fake_cuda;
FakeCuda fake_cuda;

namespace {

constexpr int ok = 0, invalid_value = 1, invalid_image = 200, not_found = 500, invalid_context = 201;

struct Module {
  int device;
  std::set<std::string> entries;
  bool ptx;
};
struct Function {
  Module* module;
};

thread_local std::vector<std::intptr_t> current;  // contexts are device numbers from 1 on
thread_local int capture_mode = 0;

int current_device() { return current.empty() ? -1 : static_cast<int>(current.back()) - 1; }

std::set<std::string> functions_of(const char* elf) {
  std::set<std::string> names;
  Elf64_Ehdr head;
  std::memcpy(&head, elf, sizeof head);
  std::vector<Elf64_Shdr> sections(head.e_shnum);
  std::memcpy(sections.data(), elf + head.e_shoff, sizeof(Elf64_Shdr) * head.e_shnum);
  for (const Elf64_Shdr& s : sections) {
    if (s.sh_type != SHT_SYMTAB) continue;
    for (std::size_t at = 0; at < s.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, elf + s.sh_offset + at, sizeof symbol);
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) names.insert(elf + sections[s.sh_link].sh_offset + symbol.st_name);
    }
  }
  return names;
}

}  // namespace

FAKE cuInit(unsigned) { return ok; }
FAKE cuDriverGetVersion(int* version) { return *version = 13000, ok; }
FAKE cuGetErrorString(int error, const char** words) {
  *words = error == 2 ? "out of memory" : "an error of the fake driver";
  return ok;
}
FAKE cuDeviceGetCount(int* count) { return *count = fake_cuda.device_count, ok; }
FAKE cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal >= fake_cuda.device_count) return 101;
  return *device = ordinal, ok;
}
FAKE cuDeviceGetName(char* name, int size, int) {
  std::strncpy(name, "a device of the fake driver", static_cast<std::size_t>(size));
  return ok;
}
FAKE cuDeviceGetAttribute(int* value, int attribute, int device) {
  const auto at = static_cast<std::size_t>(device);
  switch (attribute) {  // an H200's, but for its capability
    case 75:
      return *value = fake_cuda.major[at], ok;
    case 76:
      return *value = fake_cuda.minor[at], ok;
    case 16:  // multiprocessors
      return *value = 132, ok;
    case 81:  // shared memory of one
      return *value = 233472, ok;
    case 97:  // of a block
      return *value = 232448, ok;
    case 82:  // registers
      return *value = 65536, ok;
    case 38:  // L2
      return *value = 50 << 20, ok;
    case 36:  // memory clock, kHz
      return *value = 3201000, ok;
    case 37:  // bus, bits
      return *value = 6016, ok;
    default:
      return *value = 1, ok;
  }
}
FAKE cuDevicePrimaryCtxRetain(void** context, int device) {
  return *context = reinterpret_cast<void*>(std::intptr_t{device} + 1), ok;
}
FAKE cuCtxGetCurrent(void** context) {
  return *context = reinterpret_cast<void*>(current.empty() ? 0 : current.back()), ok;
}
FAKE cuCtxPushCurrent_v2(void* context) { return current.push_back(reinterpret_cast<std::intptr_t>(context)), ok; }
FAKE cuCtxPopCurrent_v2(void** context) {
  if (current.empty()) return invalid_context;
  *context = reinterpret_cast<void*>(current.back());
  return current.pop_back(), ok;
}
FAKE cuModuleLoadData(void** module, const void* image) {
  if (fake_cuda.refuse_load != 0) return fake_cuda.refuse_load;
  if (current_device() < 0) return invalid_context;
  const auto* text = static_cast<const char*>(image);
  auto* m = new Module{current_device(), {}, false};
  if (std::memcmp(text, ELFMAG, SELFMAG) == 0) {
    m->entries = functions_of(text);
  } else if (std::strstr(text, ".version")) {
    m->ptx = true;
    for (const char* at = text; (at = std::strstr(at, ".entry ")); at += 7)
      m->entries.insert(std::string(at + 7, std::strcspn(at + 7, "(\n ")));
  } else {
    delete m;
    return invalid_image;
  }
  ++fake_cuda.modules_loaded;
  fake_cuda.context_of_load = m->device;
  fake_cuda.loaded_ptx = m->ptx;
  fake_cuda.mode_at_load = capture_mode;
  return *module = m, ok;
}
FAKE cuModuleUnload(void* module) { return delete static_cast<Module*>(module), ok; }
FAKE cuModuleGetFunction(void** function, void* module, const char* name) {
  auto* m = static_cast<Module*>(module);
  if (!m->entries.contains(name)) return not_found;
  ++fake_cuda.functions_found;
  return *function = new Function{m}, ok;
}
FAKE cuFuncGetAttribute(int* value, int, void*) { return *value = 7, ok; }
FAKE cuFuncSetAttribute(void*, int attribute, int value) {
  if (attribute == 8) fake_cuda.shared_limit = value;
  ++fake_cuda.attributes_set;
  return ok;
}

struct Attribute {
  int id;
  char pad[4];
  unsigned values[16];
};
struct Config {
  unsigned grid_block_shared[7];
  void* stream;
  Attribute* attributes;
  unsigned attribute_count;
};

FAKE cuLaunchKernelEx(const Config* config, void* function, void** arguments, void**) {
  if (fake_cuda.refuse_launch != 0) return fake_cuda.refuse_launch;
  const int device = static_cast<Function*>(function)->module->device;
  if (current_device() != device) return invalid_context;
  ++fake_cuda.launches;
  if (fake_cuda.argument_bytes == 0) return ok;  // a launch that is only timed
  std::memcpy(fake_cuda.grid_block_shared.data(), config->grid_block_shared, sizeof config->grid_block_shared);
  fake_cuda.cluster = {};
  fake_cuda.overlaps = false;
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const Attribute& a = config->attributes[i];
    if (a.id == 4) std::memcpy(fake_cuda.cluster.data(), a.values, 12);
    if (a.id == 6) fake_cuda.overlaps = a.values[0] == 1;
  }
  fake_cuda.stream = config->stream;
  fake_cuda.device = device;
  if (fake_cuda.argument_bytes > 64 || fake_cuda.argument_count > 16) return invalid_value;
  for (std::size_t i = 0; i < fake_cuda.argument_count; ++i)
    std::memcpy(fake_cuda.arguments[i].data(), arguments[i], fake_cuda.argument_bytes);
  return ok;
}
FAKE cuStreamIsCapturing(void* stream, int* capturing) {
  return *capturing = stream && stream == fake_cuda.capturing ? 1 : 0, ok;
}
FAKE cuThreadExchangeStreamCaptureMode(int* mode) { return std::swap(*mode, capture_mode), ok; }
