// Which lanes hand a stage back, in kernels whose preamble has EVERY_LANE (src/cuda/wgmma_text.hpp).
#pragma once

namespace upconv {

/// Lanes of a warp that say at a barrier that it has read a stage, behind __syncwarp(): one, for all that met there,
/// or, for tools which do not see that these have met, every one.
constexpr int arriving = config::EVERY_LANE ? 32 : 1;

}  // namespace upconv
