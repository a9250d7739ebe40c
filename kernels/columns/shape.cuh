// What columns.cuh computes where: the constants that follow from namespace config, shared memory, and a tile.
#pragma once

#include "arguments/columns.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv {

using namespace config;

typedef arguments::Columns<Element> Arguments;

constexpr int warpgroup = 128, consumers = 2;  // two warpgroups multiply
constexpr int threads = (consumers + 1) * warpgroup;
constexpr int bringers = TURNED ? 64 : 128, turners = 64;  // the third brings copies; where x is turned, half of it
constexpr int element_bytes = sizeof(Element);
constexpr bool halves = element_bytes == 2;
constexpr int unit_channels = tf32 ? 4 : 8;       // of 16 bytes of a position
constexpr int step_channels = 2 * unit_channels;  // of a product
constexpr int steps_k = CHANNELS / step_channels;
constexpr int chunks_k = (K + CHANNELS - 1) / CHANNELS;  // channels beyond K are zeros
static_assert(CHANNELS % step_channels == 0, "a chunk is whole steps");
static_assert(TURNED || halves, "wgmma reads contiguous positions of 16-bit types only");
static_assert(!A_SHARED || halves, "and contiguous rows");

// A stage: CHANNELS channels of weights, then of x.
//
// Weights that lanes load lie as in memory: [channel][W_PITCH] (or parted by shifts). Those that wgmma reads
// (A_SHARED): [shift][8 rows][channel][row], 16 bytes for eight rows of a channel.
// x that was turned: units of 16 bytes, [part][unit of channels][segment][position]. Else as in memory: in rows of 64
// positions of a channel, swizzled (SWIZZLED: [segment][64 positions][channel][position], so that copies fill whole
// rows of banks), or, where products begin at other positions, in blocks of eight: [segment][8 positions][channel]
// [position].
constexpr int block_bytes = CHANNELS * 16 + 16;  // of eight rows or positions; neighbours meet no bank
constexpr int row_blocks_8 = (BLOCK_ROWS + 7) / 8;
constexpr int part_rows_bytes = row_blocks_8 * block_bytes;  // of the rows of one shift
constexpr int weights_end =
    A_SHARED ? (PARTED ? TAPS / (SD * SH * SW) : 1) * part_rows_bytes : CHANNELS * W_PITCH * element_bytes;
constexpr int weight_bytes = SWIZZLED ? (weights_end + 1023) / 1024 * 1024 : weights_end;  // swizzles repeat so often
constexpr int swizzled_bytes = CHANNELS * 128;                                             // of 64 positions
/// Where what is not wanted of x goes: eight positions behind each segment's.
constexpr int spare = TURNED && halves ? 8 : 0;
constexpr int segment_positions = STAGED + spare;
constexpr int unit_bytes = SEGMENTS * segment_positions * 16;
constexpr int part_bytes = CHANNELS / unit_channels * unit_bytes;
constexpr int segment_bytes = SWIZZLED ? STAGED / 64 * swizzled_bytes : STAGED / 8 * block_bytes;  // not turned
constexpr int x_bytes = TURNED ? PARTS * part_bytes : SEGMENTS * segment_bytes;
constexpr int stage_bytes = weight_bytes + x_bytes;
static_assert(weight_bytes % 16 == 0 && STAGED % 8 == 0, "descriptors count in 16 bytes");
static_assert(!SWIZZLED || (!TURNED && GROUPS_ACROSS == 1 && !MERGED_H && STAGED % 64 == 0 && stage_bytes % 1024 == 0),
              "products begin with a row of 64 positions");

// Behind the stages, x as it lies in memory before it is turned: RAW_SLOTS times [segment][channel][RAW_PITCH]. The
// element after the last that copies write is zero (4-byte types): what lies beyond rows of x is read there.
constexpr int widest = 16 / element_bytes;  // elements of a copy
constexpr int raw_zero = STAGED + widest;
constexpr int RAW_PITCH = STAGED + (halves ? 8 : 2 * widest);  // of 16-bit types an odd multiple of 16 bytes
static_assert(!halves || STAGED % 16 == 0, "rows that ldmatrix reads meet no bank twice");
constexpr int raw_bytes = TURNED ? SEGMENTS * CHANNELS * RAW_PITCH * element_bytes : 0;

// Behind those: which pieces of x a tile needs, for two tiles by turns.
constexpr int most_pieces = (STAGED + 4) / 4 * 4;
constexpr int piece_bytes = SEGMENTS * most_pieces * 4;
constexpr int x_end = STAGES * stage_bytes + (TURNED ? RAW_SLOTS : 0) * raw_bytes, tables_end = x_end + 2 * piece_bytes;

constexpr int phases = SD * SH * SW;
constexpr int row_phases = SEPARATE ? 1 : phases;  // rows of a channel of y
constexpr int tile_rows = BLOCK_ROWS;
constexpr i64 weights_of_channel = i64(CO) * TAPS;  // of x

__device__ __forceinline__ u32 divide(u32 v, const arguments::Divider& d) {
  return (__umulhi(v, d.multiplier) + v) >> d.shift;
}

/// One tile of the work: a group of channels, rows of it (channel of y and phase), positions from `position` on.
struct Tile {
  int group, row, position;

  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    const int band = divide(index, a.in_band), rest = index - band * a.in_band.divisor;
    const bool last = (band + 1) * a.band > a.row_tiles;
    const u32 rows = last ? a.of_last.divisor : a.of_band.divisor;
    const int along = last ? divide(rest, a.of_last) : divide(rest, a.of_band);
    const int block = band * a.band + rest - along * rows;
    constexpr int blocks = (CO * row_phases + BLOCK_ROWS - 1) / BLOCK_ROWS;
    group = block / blocks;
    row = block % blocks * BLOCK_ROWS;
    position = a.first + along * a.step;
  }
};

/// The tiles of this block: the first, and how far they lie apart. (Read by every role itself: a value that all need
/// from the start on costs the warps that multiply a register.)
__device__ __forceinline__ int first_tile() {
  u32 block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
  return block / SPLIT;
}
__device__ __forceinline__ int tiles_apart() { return gridDim.x / SPLIT; }

/// Where the x of a tile begins: position, row among all rows of x, copy of that row.
struct Window {
  int position, row, piece;

  __device__ __forceinline__ Window(const Arguments& a, const Tile& t) {
    position = t.position - a.lead;
    const int column = row_of(a, position, row);
    piece = min(column >> a.vector_bits, static_cast<int>(a.row_pieces.divisor));
  }
  /// Copies that its rows take.
  __device__ __forceinline__ int pieces(const Arguments& a) const {
    int last_row;
    const int of_row = a.row_pieces.divisor, column = row_of(a, position + a.used - 1, last_row);
    return (last_row - row) * of_row + min((column >> a.vector_bits) + (a.shifted ? 2 : 1), of_row) - piece;
  }
  /// The row of a position, and its column as the result.
  static __device__ __forceinline__ int row_of(const Arguments& a, int position, int& row) {
    const u32 at = position + a.ahead * a.row_pitch.divisor;
    const u32 r = divide(at, a.row_pitch);
    row = static_cast<int>(r) - a.ahead;
    return at - r * a.row_pitch.divisor;
  }
};

/// The chunks that this block adds up: all, or its share of a cluster.
struct Chunks {
  int first, count;

  __device__ __forceinline__ Chunks(int rank) : first(0), count(chunks_k) {
    if (SPLIT > 1) {
      first = rank * chunks_k / SPLIT;
      count = (rank + 1) * chunks_k / SPLIT - first;
    }
  }
};

}  // namespace upconv
