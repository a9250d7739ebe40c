// See target.hpp.
#include "plan/target.hpp"

#include <array>
#include <atomic>
#include <mutex>

#include "jit/driver.hpp"
#include "launch/clusters.hpp"

namespace upconv {
namespace {

/// Rates of one multiprocessor and the memory behind each byte of bus, by architecture: the H200's are measured
/// (docs/measured.md), the others scaled from data sheets.
struct Rates {
  int capability;
  double tf32_per_processor, half_per_processor, fp32_per_processor, fp64_per_processor;
};
constexpr Rates rates[] = {
    {80, 1.2e12, 2.4e12, 0.17e12, 0.09e12},   {86, 0.45e12, 0.9e12, 0.25e12, 0.004e12},
    {89, 0.6e12, 1.2e12, 0.5e12, 0.009e12},   {90, 2.76e12, 5.96e12, 0.39e12, 0.45e12},
    {100, 6.0e12, 12.0e12, 0.45e12, 0.25e12}, {120, 1.0e12, 2.0e12, 0.55e12, 0.009e12},
};

void set_rates(CudaTarget& t) {
  const Rates* best = &rates[0];
  for (const Rates& r : rates)
    if (r.capability <= t.capability()) best = &r;
  t.tf32_flops = best->tf32_per_processor * t.processors;
  t.half_flops = best->half_per_processor * t.processors;
  t.fp32_flops = best->fp32_per_processor * t.processors;
  t.fp64_flops = best->fp64_per_processor * t.processors;
}

Result<const CudaTarget*> ask(int device) {
  const auto& loaded = jit::driver();
  if (!loaded.ok()) return loaded.status();
  const jit::Driver& d = **loaded;
  int count = 0;
  if (const int r = d.cuDeviceGetCount(&count); r != 0) return jit::driver_error(d, r, "counting CUDA devices");
  if (device < 0 || device >= count)
    return Status(Code::unavailable,
                  "no CUDA device number " + std::to_string(device) + " among " + std::to_string(count));
  jit::CuDevice handle = 0;
  if (const int r = d.cuDeviceGet(&handle, device); r != 0) return jit::driver_error(d, r, "a CUDA device");
  auto* t = new CudaTarget;
  t->device = device;
  std::array<char, 128> name{};
  d.cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, handle);
  t->name = name.data();
  const auto get = [&](jit::CuDeviceAttribute attribute) {
    int value = 0;
    d.cuDeviceGetAttribute(&value, static_cast<int>(attribute), handle);
    return value;
  };
  using enum jit::CuDeviceAttribute;
  t->major = get(major);
  t->minor = get(minor);
  t->processors = get(processors);
  t->shared_per_block = get(shared_per_block_optin);
  t->shared_per_processor = get(shared_per_processor);
  t->registers_per_processor = get(registers_per_processor);
  t->l2_bytes = get(l2_bytes);
  // Two transfers a clock; a copy reaches nine tenths of that (4.28 of 4.8 TB/s on an H200).
  const double sheet = 2.0 * get(memory_clock_khz) * 1e3 * get(bus_width_bits) / 8.0;
  if (sheet > 0.0) t->bytes_per_second = 0.89 * sheet;
  set_rates(*t);
  return t;
}

CudaTarget model(const char* name, int major, int minor, int processors, int shared, int l2, double bytes) {
  CudaTarget t;
  t.name = name;
  t.major = major;
  t.minor = minor;
  t.processors = processors;
  t.shared_per_block = shared;
  t.shared_per_processor = shared + 1024;
  t.l2_bytes = l2 << 20;
  t.bytes_per_second = bytes;
  set_rates(t);
  return t;
}

}  // namespace

std::string CudaTarget::architecture() const { return jit::architecture_name(major, minor); }

int CudaTarget::clusters(int blocks) const { return static_cast<int>(launch::clusters_at_once(blocks, processors)); }

Result<const CudaTarget*> cuda_target(int device) {
  static std::array<std::atomic<const CudaTarget*>, 64> known{};
  static std::mutex asking;
  if (device >= 0 && device < 64)
    if (const CudaTarget* t = known[device].load(std::memory_order_acquire)) return t;
  std::lock_guard lock(asking);
  auto asked = ask(device);
  if (asked.ok() && device < 64) known[device].store(*asked, std::memory_order_release);
  return asked;
}

Result<const CudaTarget*> cuda_target_model(int architecture) {
  static const std::array models = {
      model("a model of an A100", 8, 0, 108, 166912, 40, 1.8e12),
      model("a model of an RTX 4090", 8, 9, 128, 101376, 72, 0.9e12),
      model("a model of an H200", 9, 0, 132, 232448, 50, 4.28e12),
      model("a model of a B200", 10, 0, 148, 232448, 126, 7.1e12),
      model("a model of an RTX 5090", 12, 0, 170, 101376, 96, 1.6e12),
  };
  for (const CudaTarget& t : models)
    if (t.capability() == architecture) return &t;
  return Status(Code::unavailable,
                "no model of architecture " + std::to_string(architecture) + "; there are 80, 89, 90, 100 and 120");
}

}  // namespace upconv
