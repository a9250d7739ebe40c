// Plan::create: validate, then the engine's own plan.
#include "upconv/plan.hpp"

#include "plan/engine_plan.hpp"

namespace upconv {
namespace {

// Models reach k = 4096, s = 1024 (an inverse STFT) and dilations of a few hundred.
constexpr std::int64_t widest_stride = 4096, widest_reach = 65536;

}  // namespace

Status within_bounds(const Geometry& g) {
  for (int d = 0; d < 3; ++d) {
    const std::int64_t reach = g.dilation[d] * (g.kernel[d] - 1);
    if (g.stride[d] > widest_stride)
      return unsupported("stride " + std::to_string(g.stride[d]) + " is above " + std::to_string(widest_stride));
    if (reach > widest_reach)
      return unsupported("dilation * (kernel - 1) = " + std::to_string(reach) + " is above " +
                         std::to_string(widest_reach));
  }
  return {};
}

Result<std::shared_ptr<const Plan>> Plan::create(const Problem& problem, Device device, const Epilogue& epilogue,
                                                 const std::string& only) {
  if (Status s = validate(problem); !s.ok()) return s;
  if (Status s = validate(epilogue); !s.ok()) return s;
  if (device.kind == Device::Kind::cpu) return make_cpu_plan(problem, epilogue, only);
  return make_cuda_plan(problem, device, epilogue, only);
}

}  // namespace upconv
