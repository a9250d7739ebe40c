// See tensor_map.hpp.
#include "jit/tensor_map.hpp"

#include "jit/driver.hpp"

namespace upconv::jit {

Result<arguments::TensorMap> encode_tensor_map(int device, const launch::TensorBoxes& boxes) {
  if (const char* why = launch::refusal_of(boxes)) return invalid_argument(why);
  const auto& loaded = driver();
  if (!loaded.ok()) return loaded.status();
  const Driver& d = **loaded;
  if (!d.cuTensorMapEncodeTiled)
    return Status(Code::unavailable, d.path + " makes no tensor maps: a driver for CUDA 12 or later does");
  CurrentContext context(d, device);
  if (!context.status().ok()) return context.status();
  arguments::TensorMap map;
  constexpr int no_interleave = 0, zeros_outside = 0;
  const CuResult r =
      d.cuTensorMapEncodeTiled(&map, static_cast<int>(boxes.element), static_cast<unsigned>(boxes.rank),
                               const_cast<void*>(boxes.base), boxes.sizes, boxes.strides, boxes.box, boxes.steps,
                               no_interleave, static_cast<int>(boxes.swizzle), boxes.promotion, zeros_outside);
  if (r != 0) return driver_error(d, r, "cuTensorMapEncodeTiled");
  return map;
}

}  // namespace upconv::jit
