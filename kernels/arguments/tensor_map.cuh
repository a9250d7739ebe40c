// What a bulk copy of a tensor is told of it: the driver's 128 bytes. A kernel takes one by value, alone or in a
// struct, as a `const __grid_constant__` parameter, and gives its address to the instruction. launch/tensor_map.hpp
// describes what they are made from.
#pragma once

namespace upconv::arguments {

struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

}  // namespace upconv::arguments
