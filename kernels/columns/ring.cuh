// Rings of stages in shared memory, which the roles of columns.cuh fill and empty by turns, and their barriers.
#pragma once

#include "columns/shape.cuh"

namespace upconv {

/// Arrives when what this thread has brought is there: copies later, plain writes now.
__device__ __forceinline__ void arrive_with(u32 barrier, bool written) {
  if (written) {
    wait_for_copies();
    fence_shared();
    barrier_arrive(barrier);
  } else {
    barrier_arrive_after_copies(barrier);
  }
}

struct Barriers {
  u32 full, empty, raw_full, raw_empty;  // the first of each ring, 8 bytes a stage or slot
  u32 read;                              // of a block with one tile: all its stages have been read
};

/// Where a ring stands: filled and emptied by turns.
template <int count>
struct Ring {
  int at = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++at == count) at = 0, parity ^= 1;
  }
};

}  // namespace upconv
