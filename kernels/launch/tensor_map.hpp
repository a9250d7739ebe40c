// What a tensor map is made from: a tensor in global memory and the box of it that one bulk copy moves. A launch fills
// a TensorBoxes for its tensors and gives it to `encode_map(start, map, boxes)`, which whoever starts kernels defines
// beside its Start (src/cuda/launching.hpp; exported files, export/text/tensor_map.cu).
#pragma once

#include "arguments/tensor_map.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// Of CUtensorMapDataType. tf32 rounds fp32 to the nearest, ties to even (measured on an H200).
enum class MapElement : int { u8 = 0, u16 = 1, f16 = 6, f32 = 7, f64 = 8, bf16 = 9, tf32 = 11 };
inline Int bytes_of(MapElement e) {
  return e == MapElement::u8 ? 1 : e == MapElement::f64 ? 8 : e == MapElement::f32 || e == MapElement::tf32 ? 4 : 2;
}

/// Of CUtensorMapSwizzle: which 16 bytes of a box change places, within so many bytes.
enum class MapSwizzle : int { none = 0, bytes_32 = 1, bytes_64 = 2, bytes_128 = 3 };

/// Dimensions from the innermost on; what a box reaches outside of the tensor is zero.
struct TensorBoxes {
  const void* base = nullptr;
  MapElement element = MapElement::f32;
  MapSwizzle swizzle = MapSwizzle::none;
  int promotion = 2;  ///< What L2 fetches at once, of CUtensorMapL2promotion: 128 bytes.
  int rank = 0;
  unsigned long long sizes[5] = {}, strides[4] = {};  ///< Elements; bytes, of all dimensions but the innermost.
  unsigned box[5] = {}, steps[5] = {};
  Int bytes = 0;  ///< Of the box in shared memory.

  /// One more dimension: `count` elements of it in a box, every `step`-th. The innermost has no stride and no step.
  TensorBoxes& dimension(Int size, Int stride_bytes, Int count, Int step = 1) {
    if (rank == 5) {
      rank = 6;  // refused
      return *this;
    }
    sizes[rank] = static_cast<unsigned long long>(size);
    if (rank > 0) strides[rank - 1] = static_cast<unsigned long long>(stride_bytes);
    box[rank] = static_cast<unsigned>((count - 1) * step + 1);
    steps[rank] = static_cast<unsigned>(step);
    bytes = (rank == 0 ? bytes_of(element) : bytes) * count;
    ++rank;
    return *this;
  }
};

/// Why there is no such map, or null. The rules are those of cuTensorMapEncodeTiled (and one of the kernels: no more
/// in a box than shared memory holds).
inline const char* refusal_of(const TensorBoxes& b) {
  if (b.rank < 1 || b.rank > 5) return "a tensor map has one to five dimensions";
  if (!b.base || !aligned(b.base, 16)) return "a tensor that does not begin at a multiple of 16 bytes";
  for (int i = 0; i < b.rank; ++i) {
    if (b.sizes[i] < 1 || b.sizes[i] > 1ull << 32) return "a dimension of a tensor map that is empty or beyond 2^32";
    if (b.box[i] < 1 || b.box[i] > 256) return "a box of more than 256 elements in one dimension";
    if (b.steps[i] < 1 || b.steps[i] > 8) return "a box with steps beyond 8";
    if (i > 0 && (b.strides[i - 1] % 16 != 0 || b.strides[i - 1] >= 1ull << 40))
      return "a stride that is no multiple of 16 bytes below 2^40";
  }
  const Int inner = Int(b.box[0]) * bytes_of(b.element);
  if (b.steps[0] != 1) return "steps in the innermost dimension, which a bulk copy does not know";
  if (inner % 16 != 0) return "rows of a box that are no multiple of 16 bytes";
  if (b.swizzle != MapSwizzle::none && inner > Int(16) << int(b.swizzle)) return "rows of a box wider than the swizzle";
  if (b.bytes > 232448) return "a box beyond shared memory";
  return nullptr;
}

}  // namespace upconv::launch
