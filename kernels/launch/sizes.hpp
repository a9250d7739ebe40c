// What a launch is computed from: batch and spatial sizes, tensors, and the integer arithmetic for it. The headers of
// this folder turn them into arguments and a grid for a kernel whose specialisation is fixed. They are plain C++17
// without a library: src/cuda includes them, and exported files hold them as text (docs/exporting.md).
#pragma once

#include "arguments/strides.cuh"

namespace upconv::launch {

typedef long long Int;

/// Of one transposed convolution, in D, H, W; missing outer dimensions are 1.
struct Sizes {
  Int batch;
  Int in[3], out[3];
};

/// forward: x, w, bias, y. dx: dy, w, -, dx. dw: x, dy, -, dw. db: dy, -, -, db.
struct Tensors {
  const void* a;
  const void* b;
  const void* bias;
  void* out;
  const void* operands = nullptr;  ///< The kernel's last argument where an epilogue reads operands.
};

/// Grid, block and dynamic shared memory of one kernel.
struct Shape {
  unsigned grid, block, shared_bytes;
};

inline Int least(Int a, Int b) { return a < b ? a : b; }
inline Int most(Int a, Int b) { return a > b ? a : b; }
inline Int floor_div(Int a, Int b) { return a / b - (a % b < 0 ? 1 : 0); }
inline Int ceil_div(Int a, Int b) { return -floor_div(-a, b); }
inline Int volume(const Int (&size)[3]) { return size[0] * size[1] * size[2]; }
/// The last argument of a kernel that has an epilogue (epilogue/operands.cuh).
inline void* operands_of(const Tensors& t) {
  static char nothing;
  return t.operands ? const_cast<void*>(t.operands) : &nothing;
}
inline bool aligned(const void* p, Int bytes) { return reinterpret_cast<unsigned long long>(p) % bytes == 0; }

/// Element strides of a dense tensor, channels first or last.
inline arguments::Strides dense_strides(bool last, Int channels, const Int (&size)[3]) {
  const Int all = volume(size);
  if (last) return {all * channels, 1, size[1] * size[2] * channels, size[2] * channels, channels};
  return {all * channels, all, size[1] * size[2], size[2], 1};
}

}  // namespace upconv::launch
