// See driver.hpp. UPCONV_CUDA_DRIVER names another library.
#include "jit/driver.hpp"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstdlib>

namespace upconv::jit {
namespace {

template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

Result<const Driver*> load() {
  const char* chosen = std::getenv("UPCONV_CUDA_DRIVER");
  const char* name = chosen && *chosen ? chosen : "libcuda.so.1";
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    return Status(Code::unavailable, std::string("no CUDA driver: ") + (why ? why : name));
  }
  auto* d = new Driver;  // never freed: kernels may outlive static destructors
  d->path = name;
  Dl_info info{};
  if (void* symbol = dlsym(library, "cuInit"); symbol && dladdr(symbol, &info) && info.dli_fname)
    d->path = info.dli_fname;
  const char* missing = nullptr;
#define UPCONV_FIND(member, symbol) \
  if (!find(library, symbol, d->member)) missing = symbol
  UPCONV_FIND(cuInit, "cuInit");
  UPCONV_FIND(cuDriverGetVersion, "cuDriverGetVersion");
  UPCONV_FIND(cuGetErrorString, "cuGetErrorString");
  UPCONV_FIND(cuDeviceGetCount, "cuDeviceGetCount");
  UPCONV_FIND(cuDeviceGet, "cuDeviceGet");
  UPCONV_FIND(cuDeviceGetName, "cuDeviceGetName");
  UPCONV_FIND(cuDeviceGetAttribute, "cuDeviceGetAttribute");
  UPCONV_FIND(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
  UPCONV_FIND(cuCtxGetCurrent, "cuCtxGetCurrent");
  UPCONV_FIND(cuCtxPushCurrent, "cuCtxPushCurrent_v2");
  UPCONV_FIND(cuCtxPopCurrent, "cuCtxPopCurrent_v2");
  UPCONV_FIND(cuModuleLoadData, "cuModuleLoadData");
  UPCONV_FIND(cuModuleUnload, "cuModuleUnload");
  UPCONV_FIND(cuModuleGetFunction, "cuModuleGetFunction");
  UPCONV_FIND(cuFuncGetAttribute, "cuFuncGetAttribute");
  UPCONV_FIND(cuFuncSetAttribute, "cuFuncSetAttribute");
  UPCONV_FIND(cuLaunchKernelEx, "cuLaunchKernelEx");
  UPCONV_FIND(cuStreamIsCapturing, "cuStreamIsCapturing");
#undef UPCONV_FIND
  if (missing)
    return Status(Code::unavailable, d->path + " has no " + missing + ": upconv needs a driver for CUDA 12 or later");
  find(library, "cuThreadExchangeStreamCaptureMode", d->cuThreadExchangeStreamCaptureMode);
  find(library, "cuTensorMapEncodeTiled", d->cuTensorMapEncodeTiled);
  if (const CuResult r = d->cuInit(0); r != 0) return driver_error(*d, r, "cuInit");
  return d;
}

constexpr int most_devices = 64;

/// A device's primary context, retained once and for the life of the process, as torch does.
CuContext primary_context(const Driver& driver, int device, Status& status) {
  static std::array<std::atomic<CuContext>, most_devices> contexts{};
  if (device < 0 || device >= most_devices) {
    status = invalid_argument("no CUDA device number " + std::to_string(device));
    return nullptr;
  }
  if (CuContext c = contexts[device].load(std::memory_order_acquire)) return c;
  CuDevice handle = 0;
  CuContext context = nullptr;
  CuResult r = driver.cuDeviceGet(&handle, device);
  if (r == 0) r = driver.cuDevicePrimaryCtxRetain(&context, handle);
  if (r != 0) {
    status = driver_error(driver, r, "the context of CUDA device " + std::to_string(device));
    return nullptr;
  }
  contexts[device].store(context, std::memory_order_release);
  return context;
}

}  // namespace

const Result<const Driver*>& driver() {
  static const auto* loaded = new Result<const Driver*>(load());
  return *loaded;
}

std::string architecture_name(int major, int minor) {
  return "sm_" + std::to_string(10 * major + minor) + (major == 9 || major == 10 ? "a" : "");
}

Result<std::string> architecture_of(const Driver& driver, int device) {
  CuDevice handle = 0;
  int major = 0, minor = 0;
  CuResult r = driver.cuDeviceGet(&handle, device);
  if (r == 0) r = driver.cuDeviceGetAttribute(&major, static_cast<int>(CuDeviceAttribute::major), handle);
  if (r == 0) r = driver.cuDeviceGetAttribute(&minor, static_cast<int>(CuDeviceAttribute::minor), handle);
  if (r != 0) return driver_error(driver, r, "CUDA device " + std::to_string(device));
  return architecture_name(major, minor);
}

Status driver_error(const Driver& driver, CuResult result, const std::string& what) {
  const char* words = nullptr;
  if (driver.cuGetErrorString) driver.cuGetErrorString(result, &words);
  return {Code::unavailable,
          what + ": " + (words ? words : "error") + " (CUDA driver error " + std::to_string(result) + ")"};
}

CurrentContext::CurrentContext(const Driver& driver, int device) : driver_(driver) {
  CuContext wanted = primary_context(driver, device, status_);
  if (!wanted) return;
  CuContext current = nullptr;
  if (driver.cuCtxGetCurrent(&current) == 0 && current == wanted) return;
  if (const CuResult r = driver.cuCtxPushCurrent(wanted); r != 0)
    status_ = driver_error(driver, r, "cuCtxPushCurrent");
  else
    pushed_ = true;
}

CurrentContext::~CurrentContext() {
  CuContext popped = nullptr;
  if (pushed_) driver_.cuCtxPopCurrent(&popped);
}

}  // namespace upconv::jit
