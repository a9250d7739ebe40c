// See report.hpp.
#include "jit/report.hpp"

#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "jit/cache.hpp"
#include "jit/compiler.hpp"
#include "jit/driver.hpp"
#include "jit/nvrtc.hpp"

namespace upconv::jit {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// "NVIDIA H200, sm_90a", and what NVRTC makes for it when that is something else.
std::string device_text(const Driver& d, int device) {
  std::array<char, 128> name{};
  CuDevice handle = 0;
  if (d.cuDeviceGet(&handle, device) == 0) d.cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, handle);
  const auto architecture = architecture_of(d, device);
  if (!architecture.ok()) return architecture.status().message();
  std::string text = std::string(name.data()) + ", " + *architecture;
  if (const auto& n = nvrtc(); n.ok()) {
    const auto aim = aim_for(*architecture, (*n)->architectures);
    if (!aim.ok())
      text += ": " + aim.status().message();
    else if (!aim->exact)
      text += ": this NVRTC is older than the GPU, so kernels are compiled for " + aim->name +
              (aim->ptx ? " and finished by the driver" : "") + "; a newer one would use all its instructions";
  }
  return text;
}

std::string cache_text() {
  const Cache& cache = user_cache();
  if (cache.folder().empty()) return "none: kernels are compiled anew in each process (set UPCONV_CACHE_DIR or HOME)";
  std::uint64_t bytes = 0;
  const auto entries = cache.entries();
  for (const CacheEntry& e : entries) bytes += e.bytes;
  char size[64];
  std::snprintf(size, sizeof size, ", %zu kernels, %.1f MB", entries.size(), static_cast<double>(bytes) * 1e-6);
  std::error_code error;
  std::filesystem::path existing = cache.folder();
  while (!existing.empty() && existing != existing.root_path() && !std::filesystem::exists(existing, error))
    existing = existing.parent_path();
  const bool writable = access(existing.c_str(), W_OK | X_OK) == 0;
  return cache.folder() + size + (writable ? "" : ": not writable, so new kernels are not kept");
}

}  // namespace

Report report() {
  Report r;
  int driver_version = 0, devices = 0;
  const auto& d = driver();
  if (d.ok()) {
    (*d)->cuDriverGetVersion(&driver_version);
    (*d)->cuDeviceGetCount(&devices);
    r.findings.push_back({"cuda driver", (*d)->path + ", for CUDA " + version_text(driver_version)});
  } else {
    r.findings.push_back({"cuda driver", d.status().message()});
    r.obstacle = "no CUDA driver";
  }
  const auto& n = nvrtc();
  if (n.ok()) {
    std::string text = (*n)->path + ", " + std::to_string((*n)->major) + "." + std::to_string((*n)->minor);
    if (driver_version > 0 && (*n)->major > driver_version / 1000)
      text += ": newer than the driver, which may not load what it makes";
    r.findings.push_back({"nvrtc", text});
  } else {
    r.findings.push_back({"nvrtc", n.status().message()});
    if (r.obstacle.empty()) r.obstacle = "no NVRTC";
  }
  if (d.ok()) {
    for (int i = 0; i < devices; ++i) r.findings.push_back({"gpu " + std::to_string(i), device_text(**d, i)});
    if (devices == 0) {
      r.findings.push_back({"gpu", "none"});
      if (r.obstacle.empty()) r.obstacle = "no GPU";
    }
  }
  r.findings.push_back({"kernel cache", cache_text()});
  return r;
}

}  // namespace upconv::jit
