// How many clusters of thread blocks a GPU runs at once. Plans choose tiles by it (src/plan/target.cpp), launches the
// number of blocks that share one (launch/weight_mma.hpp).
#pragma once

#include "launch/sizes.hpp"

namespace upconv::launch {

/// Clusters of `blocks` blocks that run at once where a block takes a multiprocessor. They lie within a GPC each, of 16
/// multiprocessors or 18 but for one that has fewer. Measured on an H200: 30 of 4 blocks and 15 of 8; 5, 6 and 7 leave
/// more of a GPC over.
inline Int clusters_at_once(Int blocks, int processors) {
  return blocks <= 2 ? processors / blocks : processors * 10 / 11 * (16 / blocks) / 16;
}

}  // namespace upconv::launch
