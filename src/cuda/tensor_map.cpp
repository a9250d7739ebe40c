// Tensor maps by the driver: see launching.hpp.
#include "cuda/launching.hpp"
#include "jit/driver.hpp"

namespace upconv::cuda {

Status encode_tensor_map(const void* base, launch::Int element_bytes, const launch::Int (&size)[5],
                         const launch::Int (&stride)[4], const launch::Int (&box)[5], arguments::TensorMap* map) {
  const auto& loaded = jit::driver();
  if (!loaded.ok()) return loaded.status();
  const jit::Driver& driver = **loaded;
  if (!driver.cuTensorMapEncodeTiled) return {Code::unavailable, driver.path + " has no cuTensorMapEncodeTiled"};
  constexpr int u16 = 1, f32 = 7, promote_256 = 3;
  unsigned long long sizes[5], strides[4];
  unsigned boxes[5], steps[5];
  for (int d = 0; d < 5; ++d) {
    sizes[d] = static_cast<unsigned long long>(size[d]);
    boxes[d] = static_cast<unsigned>(box[d]);
    steps[d] = 1;
    if (d < 4) strides[d] = static_cast<unsigned long long>(stride[d]);
  }
  const jit::CuResult r =
      driver.cuTensorMapEncodeTiled(map, element_bytes == 4 ? f32 : u16, 5, const_cast<void*>(base), sizes, strides,
                                    boxes, steps, 0, 0, promote_256, 0);
  if (r != 0) return jit::driver_error(driver, r, "cuTensorMapEncodeTiled");
  return {};
}

}  // namespace upconv::cuda
