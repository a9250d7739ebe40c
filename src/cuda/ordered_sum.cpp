// Host side of kernels/ordered_sum.cuh.
#include "cuda/ordered_sum.hpp"

#include <algorithm>

#include "cuda/element.hpp"

namespace upconv::cuda {

OrderedSum::OrderedSum(DType dtype)
    : kernel_({"ordered_sum.cuh", "ordered_sum",
               "#include \"types.cuh\"\nnamespace config {\ntypedef " + std::string(device_type(dtype)) +
                   " Element;\n}\n"}) {}

Status OrderedSum::launch(int device, void* stream, const void* parts, void* result, std::int64_t count,
                          std::int64_t rows, std::int64_t inner) const {
  if (count == 0) return {};
  const std::int64_t columns = inner == 1 ? count : inner;
  int lanes = 1;
  // Eight neighbours fill a sector of memory; more would leave a small `count` to few blocks.
  const int most = inner == 1 && count < 1024 ? 8 : 32;
  while (lanes < most && lanes < columns) lanes *= 2;
  const std::int64_t results = inner == 1 ? lanes : 1, blocks = (count + results - 1) / results;
  jit::LaunchShape shape;
  shape.grid.x = static_cast<unsigned>(std::min<std::int64_t>(blocks, 1 << 20));
  shape.block.x = 512;
  void* arguments[] = {&parts, &result, &count, &rows, &inner, &lanes};
  return kernel_.launch(device, stream, shape, arguments);
}

}  // namespace upconv::cuda
