// A tensor map (CUtensorMap) as a kernel takes it, by value: what bulk tensor copies know of a tensor.
#pragma once

namespace upconv::arguments {

struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

}  // namespace upconv::arguments
