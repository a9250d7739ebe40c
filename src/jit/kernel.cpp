// See kernel.hpp.
#include "jit/kernel.hpp"

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>

#include "jit/driver.hpp"
#include "jit/image.hpp"

namespace upconv::jit {
namespace {

/// One program on one device: compiled and loaded by whoever comes first, while others that want it wait.
struct Loaded {
  std::mutex building;
  CuFunction function = nullptr;
  unsigned shared_bytes = 0;  ///< Dynamic shared memory that the function was allowed; it only grows.
  bool wide_clusters = false;
  Status refused;  ///< Why it does not compile: trying again would take as long and say the same.
};

/// The code of one program for one architecture, kept only where a second device may ask for it.
struct Shared {
  std::mutex building;
  std::shared_ptr<const Image> image;
};

/// An object of this process for every key, made when first asked for and never destroyed.
template <class Value, class Key>
Value& the(const Key& key) {
  static std::mutex mutex;
  static auto* all = new std::map<Key, std::unique_ptr<Value>>;
  std::lock_guard lock(mutex);
  auto& slot = (*all)[key];
  if (!slot) slot = std::make_unique<Value>();
  return *slot;
}

Result<std::shared_ptr<const Image>> image_for(const Program& program, const std::string& architecture) {
  auto made = build(program, architecture);
  if (!made.ok()) return made.status();
  return std::make_shared<const Image>(std::move(made->image));
}

/// The same, asked of the disk or the compiler once however many devices there are.
Result<std::shared_ptr<const Image>> image_for_devices(const Program& program, const std::string& architecture) {
  auto& shared = the<Shared>(std::make_tuple(architecture, program.file, program.entry, program.preamble));
  std::lock_guard lock(shared.building);
  if (!shared.image) {
    auto made = image_for(program, architecture);
    if (!made.ok()) return made;
    shared.image = *made;
  }
  return shared.image;
}

/// Lets this thread load modules while another thread captures a CUDA graph.
class RelaxedCapture {
 public:
  explicit RelaxedCapture(const Driver& driver) : driver_(driver) { exchange(); }
  ~RelaxedCapture() { exchange(); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  void exchange() {
    if (driver_.cuThreadExchangeStreamCaptureMode) driver_.cuThreadExchangeStreamCaptureMode(&mode_);
  }
  const Driver& driver_;
  int mode_ = cu_capture_relaxed;
};

Status load(const Driver& driver, const Program& program, int device, Loaded& loaded) {
  const auto architecture = architecture_of(driver, device);
  if (!architecture.ok()) return architecture.status();
  int devices = 1;
  driver.cuDeviceGetCount(&devices);
  const auto image = devices > 1 ? image_for_devices(program, *architecture) : image_for(program, *architecture);
  if (!image.ok()) {
    if (image.status().code() == Code::internal) loaded.refused = image.status();
    return image.status();
  }
  CurrentContext context(driver, device);
  if (!context.status().ok()) return context.status();
  const RelaxedCapture relaxed(driver);
  CuModule module = nullptr;
  if (const CuResult r = driver.cuModuleLoadData(&module, (*image)->code.c_str()); r != 0)
    return driver_error(driver, r,
                        "loading " + program.entry + " of kernels/" + program.file + " for " + *architecture);
  CuFunction function = nullptr;
  if (const CuResult r = driver.cuModuleGetFunction(&function, module, program.entry.c_str()); r != 0) {
    driver.cuModuleUnload(module);
    return driver_error(driver, r, "kernels/" + program.file + " has no entry " + program.entry);
  }
  loaded.function = function;
  return {};
}

Loaded& loaded_of(const Program& program, int device) {
  return the<Loaded>(std::make_tuple(device, program.file, program.entry, program.preamble));
}

/// Whether some plan has run `program` on `device` before.
bool is_loaded(const Program& program, int device) {
  Loaded& loaded = loaded_of(program, device);
  std::lock_guard lock(loaded.building);
  return loaded.function != nullptr;
}

/// The function of `program` on `device`, able to take `shared_bytes` of dynamic shared memory and, if asked for, to
/// run in clusters of more than 8 blocks.
Result<CuFunction> obtain(const Driver& driver, const Program& program, int device, unsigned shared_bytes,
                          bool wide_clusters) {
  Loaded& loaded = loaded_of(program, device);
  std::lock_guard lock(loaded.building);
  if (!loaded.refused.ok()) return loaded.refused;
  if (!loaded.function)
    if (Status s = load(driver, program, device, loaded); !s.ok()) return s;
  const auto allow = [&](CuFunctionAttribute what, int value, const std::string& words) -> Status {
    CurrentContext context(driver, device);
    if (!context.status().ok()) return context.status();
    const CuResult r = driver.cuFuncSetAttribute(loaded.function, static_cast<int>(what), value);
    return r == 0 ? Status() : driver_error(driver, r, program.entry + " with " + words);
  };
  // Asked for even where 48 KiB would do: that limit counts the kernel's static shared memory as well.
  if (shared_bytes > loaded.shared_bytes) {
    if (Status s = allow(CuFunctionAttribute::max_dynamic_shared, static_cast<int>(shared_bytes),
                         std::to_string(shared_bytes) + " bytes shared");
        !s.ok())
      return s;
    loaded.shared_bytes = shared_bytes;
  }
  if (wide_clusters && !loaded.wide_clusters) {
    if (Status s = allow(CuFunctionAttribute::wide_clusters, 1, "clusters of more than 8 blocks"); !s.ok()) return s;
    loaded.wide_clusters = true;
  }
  return loaded.function;
}

/// Whether kernels may begin beside the end of those before them. Drivers before 12.3 capture no such launch.
bool may_overlap(const Driver& driver, int device) {
  const char* wish = std::getenv("UPCONV_OVERLAP");
  if (wish && std::string_view(wish) == "0") return false;
  CuDevice handle = 0;
  int version = 0, major = 0;
  return driver.cuDriverGetVersion(&version) == 0 && version >= 12030 && driver.cuDeviceGet(&handle, device) == 0 &&
         driver.cuDeviceGetAttribute(&major, static_cast<int>(CuDeviceAttribute::major), handle) == 0 && major >= 9;
}

/// The same, asked once for each of `most_devices`.
template <int most_devices>
bool overlaps(const Driver& driver, int device) {
  enum : signed char { unknown, no, yes };
  static std::array<std::atomic<signed char>, most_devices> answers{};
  signed char answer = answers[device].load(std::memory_order_relaxed);
  if (answer == unknown) {
    answer = may_overlap(driver, device) ? yes : no;
    answers[device].store(answer, std::memory_order_relaxed);
  }
  return answer == yes;
}

}  // namespace

Kernel::Kernel(Program program, unsigned max_shared_bytes, bool wide_clusters)
    : program_(std::move(program)), max_shared_bytes_(max_shared_bytes), wide_clusters_(wide_clusters) {}

Kernel::~Kernel() = default;

Status Kernel::prepare(int device) const {
  if (device < 0 || device >= most_devices) return invalid_argument("no CUDA device number " + std::to_string(device));
  if (functions_[device].load(std::memory_order_acquire)) return {};
  const auto d = driver();
  if (!d.ok()) return d.status();
  const auto function = obtain(**d, program_, device, max_shared_bytes_, wide_clusters_);
  if (!function.ok()) return function.status();
  functions_[device].store(*function, std::memory_order_release);
  return {};
}

Status Kernel::launch(int device, void* stream, const LaunchShape& shape, void** arguments) const {
  const auto& loaded = driver();
  if (!loaded.ok()) return loaded.status();
  const Driver& d = **loaded;
  if (device < 0 || device >= most_devices) return invalid_argument("no CUDA device number " + std::to_string(device));
  CuFunction function = functions_[device].load(std::memory_order_acquire);
  if (!function) {
    int capturing = 0;
    if (d.cuStreamIsCapturing(stream, &capturing) == 0 && capturing != 0 && !is_loaded(program_, device))
      return {Code::unavailable,
              "upconv has no kernel yet for this problem, and none can be loaded while a CUDA graph "
              "is being captured: run it once before the capture"};
    if (Status s = prepare(device); !s.ok()) return s;
    function = functions_[device].load(std::memory_order_acquire);
  }
  CurrentContext context(d, device);
  if (!context.status().ok()) return context.status();
  CuLaunchAttribute attributes[2]{};
  CuLaunchConfig config{shape.grid.x,  shape.grid.y,       shape.grid.z, shape.block.x, shape.block.y,
                        shape.block.z, shape.shared_bytes, stream,       attributes,    0};
  if (shape.cluster.x * shape.cluster.y * shape.cluster.z > 1) {
    CuLaunchAttribute& cluster = attributes[config.attribute_count++];
    cluster.id = cu_attribute_cluster;
    cluster.cluster = {shape.cluster.x, shape.cluster.y, shape.cluster.z};
  }
  if (overlaps<most_devices>(d, device)) {
    CuLaunchAttribute& overlap = attributes[config.attribute_count++];
    overlap.id = cu_attribute_programmatic_launch;
    overlap.value = 1;
  }
  if (const CuResult r = d.cuLaunchKernelEx(&config, function, arguments, nullptr); r != 0)
    return driver_error(d, r, "launching " + program_.entry);
  return {};
}

Result<Resources> Kernel::resources(int device) const {
  if (Status s = prepare(device); !s.ok()) return s;
  const Driver& d = **driver();
  CurrentContext context(d, device);
  if (!context.status().ok()) return context.status();
  Resources r;
  CuFunction f = functions_[device].load(std::memory_order_acquire);
  d.cuFuncGetAttribute(&r.registers, static_cast<int>(CuFunctionAttribute::registers), f);
  d.cuFuncGetAttribute(&r.static_shared_bytes, static_cast<int>(CuFunctionAttribute::static_shared), f);
  d.cuFuncGetAttribute(&r.local_bytes, static_cast<int>(CuFunctionAttribute::local_bytes), f);
  return r;
}

}  // namespace upconv::jit
