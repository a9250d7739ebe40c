// Lines of dy that come in pieces of 16 bytes (Y_PIECES of weight_wgmma.cuh): where they lie, and whether their ends
// are cleared. Read by who brings them and by who clears.
#pragma once

#include "weight_wgmma/shape.cuh"

namespace upconv {

/// A line of dy's tile, from the tile's corner.
struct LineOfY {
  u32 distance;  ///< Elements in the tensor.
  int place;     ///< Elements in shared memory.
  int d, h;      ///< Coordinates.
};
constexpr int y_lines = Y_PIECES ? COB * LD * LH : 1, y_pieces = (SPAN_READ + 2 * quad - 2) / quad;

/// Elements at either end of a tile's lines that are cleared, at most, after pieces came whole. Where there are more,
/// pieces hold zeros as they come.
constexpr int most_cleared = 2 * quad;
/// How many elements of a tile's lines lie before dy's lines or, if that is more, behind them. The tile begins at
/// element `w` of these.
__device__ __forceinline__ int elements_beyond(const Arguments& p, int w) {
  const int behind = w + SPAN_READ - p.out_w;
  return -w > behind ? -w : behind;
}

}  // namespace upconv
