// See nvrtc.hpp. UPCONV_NVRTC names another library, which is then the only place.
#include "jit/nvrtc.hpp"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "jit/driver.hpp"

namespace upconv::jit {
namespace {

std::string soname(int major) { return "libnvrtc.so." + std::to_string(major); }

/// NVRTC opens a second library by its bare name, which pip's packages, without a run path, do not let it find:
/// loaded from beside NVRTC first, the name is known. Where it lies elsewhere, NVRTC's own search goes on.
void load_builtins(const Nvrtc& n) {
  const auto slash = n.path.rfind('/');
  if (slash == std::string::npos) return;
  const std::string name = "libnvrtc-builtins.so." + std::to_string(n.major) + "." + std::to_string(n.minor);
  dlopen((n.path.substr(0, slash + 1) + name).c_str(), RTLD_NOW | RTLD_LOCAL);
}

Result<const Nvrtc*> adopt(void* library, const std::string& name) {
  auto* n = new Nvrtc{};  // never freed: compiling threads may outlive static destructors
  const char* missing = nullptr;
#define UPCONV_FIND(symbol)                                                   \
  n->symbol = reinterpret_cast<decltype(n->symbol)>(dlsym(library, #symbol)); \
  if (!n->symbol) missing = #symbol
  UPCONV_FIND(nvrtcVersion);
  UPCONV_FIND(nvrtcGetErrorString);
  UPCONV_FIND(nvrtcGetNumSupportedArchs);
  UPCONV_FIND(nvrtcGetSupportedArchs);
  UPCONV_FIND(nvrtcCreateProgram);
  UPCONV_FIND(nvrtcDestroyProgram);
  UPCONV_FIND(nvrtcCompileProgram);
  UPCONV_FIND(nvrtcGetProgramLogSize);
  UPCONV_FIND(nvrtcGetProgramLog);
  UPCONV_FIND(nvrtcGetCUBINSize);
  UPCONV_FIND(nvrtcGetCUBIN);
  UPCONV_FIND(nvrtcGetPTXSize);
  UPCONV_FIND(nvrtcGetPTX);
#undef UPCONV_FIND
  std::string problem;
  if (missing) {
    problem = name + " has no " + missing;
  } else if (n->nvrtcVersion(&n->major, &n->minor) != 0 || n->major < 12) {
    problem = name + " is NVRTC " + std::to_string(n->major) + "." + std::to_string(n->minor);
  } else {
    n->path = name;
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(n->nvrtcVersion), &info) && info.dli_fname) n->path = info.dli_fname;
    load_builtins(*n);
    int count = 0;
    if (n->nvrtcGetNumSupportedArchs(&count) == 0 && count > 0) {
      n->architectures.resize(static_cast<std::size_t>(count));
      if (n->nvrtcGetSupportedArchs(n->architectures.data()) != 0) n->architectures.clear();
      std::sort(n->architectures.begin(), n->architectures.end());
    }
    return n;
  }
  delete n;
  return Status(Code::unavailable, problem + "; upconv needs NVRTC of CUDA 12 or later");
}

/// 13 before 12, unless the driver is of CUDA 12: it may not load what a newer compiler makes.
std::vector<int> majors_for_driver() {
  int version = 0;
  if (const auto& d = driver(); d.ok()) (*d)->cuDriverGetVersion(&version);
  if (version > 0 && version < 13000) return {12, 13};
  return {13, 12};
}

Result<const Nvrtc*> search() {
  if (const char* chosen = std::getenv("UPCONV_NVRTC"); chosen && *chosen) return load_nvrtc(chosen);
  const std::vector<int> majors = majors_for_driver();
  for (const int major : majors)
    if (void* loaded = dlopen(soname(major).c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD))
      if (auto n = adopt(loaded, soname(major)); n.ok()) return n;
  std::string tried;
  for (const std::string& place : nvrtc_places(package_folders(), majors)) {
    auto n = load_nvrtc(place);
    if (n.ok()) return n;
    tried += (tried.empty() ? "" : ", ") + place;
    if (place.front() == '/' && access(place.c_str(), F_OK) == 0) tried += " (" + n.status().message() + ")";
  }
  return Status(Code::unavailable,
                "upconv compiles its CUDA kernels with NVRTC, and found none of CUDA 12 or 13 (pip install "
                "nvidia-cuda-nvrtc brings it, UPCONV_NVRTC names one); looked for " +
                    tried);
}

}  // namespace

Result<const Nvrtc*> load_nvrtc(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    return Status(Code::unavailable, why ? why : path);
  }
  return adopt(library, path);
}

std::vector<std::string> nvrtc_places(std::span<const std::string> packages, std::span<const int> majors) {
  std::vector<std::string> places;
  for (const int major : majors)
    for (const std::string& folder : packages) {  // pip's packages of CUDA 13 and of CUDA 12
      places.push_back(folder + "/nvidia/cu" + std::to_string(major) + "/lib/" + soname(major));
      places.push_back(folder + "/nvidia/cuda_nvrtc/lib/" + soname(major));
    }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX"}) {
    const char* home = std::getenv(variable);
    if (!home || !*home) continue;
    for (const int major : majors)
      for (const char* lib : {"/lib64/", "/lib/"}) places.push_back(home + (lib + soname(major)));
  }
  for (const int major : majors) places.push_back(soname(major));  // ld.so's own search
  for (const int major : majors) places.push_back("/usr/local/cuda/lib64/" + soname(major));
  places.emplace_back("libnvrtc.so");
  return places;
}

std::vector<std::string> package_folders() {
  std::vector<std::string> folders;
  const auto visit = [](dl_phdr_info* info, std::size_t, void* context) {
    auto& found = *static_cast<std::vector<std::string>*>(context);
    const std::string_view path = info->dlpi_name ? info->dlpi_name : "";
    for (const std::string_view name : {"/site-packages/", "/dist-packages/"}) {
      const auto at = path.rfind(name);
      if (at == std::string_view::npos) continue;
      std::string folder(path.substr(0, at + name.size() - 1));
      if (std::find(found.begin(), found.end(), folder) == found.end()) found.push_back(std::move(folder));
    }
    return 0;
  };
  dl_iterate_phdr(visit, &folders);
  return folders;
}

const Result<const Nvrtc*>& nvrtc() {
  static const auto* found = new Result<const Nvrtc*>(search());
  return *found;
}

}  // namespace upconv::jit
