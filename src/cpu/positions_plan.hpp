// Builds the tables of cpu_positions for one pass: phases and classes, rows, blocks, offsets, and the tile.
#pragma once

#include <vector>

#include "cpu/positions.hpp"
#include "plan/candidate.hpp"

namespace upconv::cpu {

/// A job and the tables it points into. Not copied once built.
struct PositionsTables {
  PositionsJob job;
  std::vector<PositionsBlock> blocks;
  std::vector<PositionsRow> rows;
  std::vector<std::int32_t> offsets, step_position, residues, residue_plane, phase_row;
  std::vector<std::int64_t> taps;
  std::int64_t compute_size = 4;   ///< bytes of the accumulator type
  std::int64_t scratch_bytes = 0;  ///< per worker
};

/// Any pass but db. Expects at least one batch.
void build_positions(const Request& request, PositionsTables& tables);

/// The activation tensors of a problem; `step` and `shift` are left at 1 and 0.
PositionsTensor positions_tensor(const Geometry& geometry, Layout layout, bool of_output);

}  // namespace upconv::cpu
