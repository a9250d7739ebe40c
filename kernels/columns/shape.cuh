// What columns.cuh computes where: the constants that follow from namespace config, shared memory, and a tile.
#pragma once

#include "arguments/columns.cuh"
#include "ptx/hopper.cuh"

namespace upconv {

using namespace config;
using namespace hopper;

typedef arguments::Columns<Element> Arguments;

constexpr int warpgroup = 128, consumers = 2;  // two warpgroups multiply, a third fetches
constexpr int element_bytes = sizeof(Element);
constexpr int unit_channels = tf32 ? 4 : 8;       // of 16 bytes of a position
constexpr int step_channels = 2 * unit_channels;  // of a product
constexpr int chunks_k = (K + CHANNELS - 1) / CHANNELS;

// A stage: CHANNELS rows of weights as they lie in memory (or parted by shifts), then x as wgmma reads it, units of 16
// bytes [part][unit of channels][segment][position].
constexpr int weight_bytes = CHANNELS * W_PITCH * element_bytes;
constexpr int unit_bytes = SEGMENTS * STAGED * 16;
constexpr int part_bytes = CHANNELS / unit_channels * unit_bytes;
constexpr int stage_bytes = weight_bytes + PARTS * part_bytes;
static_assert(weight_bytes % 16 == 0 && CHANNELS % step_channels == 0, "a stage holds whole units and steps");

// Behind the stages: where sums become lines of y, and what each position of a warpgroup writes.
constexpr int slice = 32;                  // positions that are put together at once
constexpr int line = slice * SW;           // elements of a line of y that a slice gives
constexpr int lines = SEPARATE ? 64 : GROUP_ROWS / SW;  // of a warpgroup and unit
constexpr int slices = (POSITIONS + slice - 1) / slice;
constexpr int place_bytes = 16 * POSITIONS;
constexpr int buffer_bytes = lines * LINE_PITCH * element_bytes;
static_assert(buffer_bytes % 16 == 0 || LINE_BUFFERS == 1, "buffers begin aligned");
constexpr int group_bytes = 2 * place_bytes + LINE_BUFFERS * buffer_bytes;
static_assert(STAGES * stage_bytes + consumers * group_bytes <= SHARED_BYTES, "the host reserves what is used");

constexpr int tile_positions = POSITIONS * GROUPS_ACROSS;
constexpr int phases = SD * SH * SW;
constexpr int row_phases = SEPARATE ? 1 : phases;  // rows of a channel of y
constexpr i64 weights_of_channel = i64(CO) * TAPS;  // of x

/// One tile of the work: a group of channels, rows of it (channel of y and phase), positions from `position` on.
struct Tile {
  int group, row, position;

  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    const int in_band = a.band * a.position_tiles, band = index / in_band, rest = index - band * in_band;
    const int rows = min(a.band, a.row_tiles - band * a.band);
    const int block = band * a.band + rest % rows;
    constexpr int blocks = (CO * row_phases + BLOCK_ROWS - 1) / BLOCK_ROWS;
    group = block / blocks;
    row = block % blocks * BLOCK_ROWS;
    position = rest / rows * tile_positions;
  }
};

/// A position of the grid: which sample, where in depth and height (from first_d and first_h on), which column.
struct Position {
  int n, d, h, w;

  __device__ __forceinline__ Position(const Arguments& a, int index) {
    const u32 at = index;
    const u32 row = at / u32(a.grid_w);
    w = at - row * u32(a.grid_w);
    if constexpr (RANK == 1) {
      n = row, d = 0, h = 0;
    } else {
      const u32 plane = row / u32(a.grid_h);
      h = row - plane * u32(a.grid_h);
      if constexpr (RANK == 2) {
        n = plane, d = 0;
      } else {
        n = plane / u32(a.grid_d);
        d = plane - n * u32(a.grid_d);
      }
    }
  }
};

}  // namespace upconv
