// Launch of ordered_sum.cuh: result[c] = the sum over row < rows and i < inner of parts[row * count * inner + c * inner
// + i], c < count.
#pragma once

#include "launch/sizes.hpp"

namespace upconv::launch {

/// `start(kernel, shape, arguments)` puts a kernel on the stream and says whether it could.
template <class Start>
bool run_ordered_sum(Start&& start, int kernel, const void* parts, void* result, Int count, Int rows, Int inner = 1) {
  if (count == 0) return true;
  const Int columns = inner == 1 ? count : inner;
  int lanes = 1;
  // Eight neighbours fill a sector of memory; more would leave a small `count` to few blocks.
  const int widest = inner == 1 && count < 1024 ? 8 : 32;
  while (lanes < widest && lanes < columns) lanes *= 2;
  const Int results = inner == 1 ? lanes : 1, blocks = (count + results - 1) / results;
  void* list[] = {&parts, &result, &count, &rows, &inner, &lanes};
  return start(kernel, Shape{static_cast<unsigned>(least(blocks, 1 << 20)), 512, 0}, list);
}

}  // namespace upconv::launch
