// The warps of columns.cuh that turn x: from positions side by side, as it lies in memory, to channels side by side,
// four (8 of 16 bits) in each 16 bytes that wgmma reads, rounded or split on the way.
#pragma once

#include "columns/bring.cuh"

namespace upconv {

/// Position `position` of a tile's window among what was brought of one channel; < 0: beyond the end of its row.
__device__ __forceinline__ int brought_at(const Arguments& a, const Window& w, int position) {
  int row;
  const int column = Window::row_of(a, position, row);
  if (column >= a.in_w) return -1;
  return (((row - w.row) * static_cast<int>(a.row_pieces.divisor) - w.piece) << a.vector_bits) + column;
}

// ---- 4-byte types ---------------------------------------------------------------------------------------------------

constexpr int units_of_chunk = CHANNELS / unit_channels;
constexpr int turn_shares = 2;  // threads of a position
static_assert(units_of_chunk % turn_shares == 0, "a chunk has two units of channels or more");
constexpr int turn_columns = turners / turn_shares;
constexpr int positions_each = (STAGED + turn_columns - 1) / turn_columns;

/// What a thread turns: some positions, every so many units of channels.
struct Words {
  int at[positions_each];

  /// Once, before any copy: the zeros behind every channel.
  static __device__ __forceinline__ void prepare(char* raw, int thread) {
    for (int i = thread; i < RAW_SLOTS * SEGMENTS * CHANNELS; i += turners)
      *reinterpret_cast<u32*>(raw + (i * RAW_PITCH + raw_zero) * 4) = 0;
    meet(5, turners);
  }

  __device__ __forceinline__ Words(const Arguments& a, const Tile& t, int thread) {
    const Window w(a, t);
#pragma unroll
    for (int i = 0; i < positions_each; ++i) {
      const int staged = thread % turn_columns + i * turn_columns;
      const int from = staged < a.used ? brought_at(a, w, w.position + staged) : -1;
      at[i] = from < 0 ? raw_zero : from;
    }
  }

  /// `fresh`: a stage that held another tile's x.
  __device__ __forceinline__ void turn(const char* raw, char* to, bool, int thread) const {
    const int column = thread % turn_columns, share = thread / turn_columns;
    const u32* words = reinterpret_cast<const u32*>(raw) + share * (unit_channels * RAW_PITCH);
    to += share * unit_bytes + column * 16;
#pragma unroll
    for (int s = 0; s < SEGMENTS; ++s)
#pragma unroll
      for (int u = 0; u < units_of_chunk / turn_shares; ++u)
#pragma unroll
        for (int i = 0; i < positions_each; ++i) {
          if (STAGED % turn_columns != 0 && column + i * turn_columns >= STAGED) continue;
          const u32* from = words + (s * CHANNELS + u * turn_shares * unit_channels) * RAW_PITCH + at[i];
          const auto number = [&](int c) { return __uint_as_float(from[c * RAW_PITCH]); };
          uint4* place =
              reinterpret_cast<uint4*>(to + u * turn_shares * unit_bytes + (s * segment_positions + i * turn_columns) * 16);
          if constexpr (tf32) {
            *place = make_uint4(round_tf32(number(0)), round_tf32(number(1)), round_tf32(number(2)), round_tf32(number(3)));
          } else {
            u32 high[4], low[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              const float first = number(2 * c), second = number(2 * c + 1);
              high[c] = pack_bf16(first, second);
              low[c] = pack_rest(first, second, high[c]);
            }
            *place = make_uint4(high[0], high[1], high[2], high[3]);
            place[part_bytes / 16] = make_uint4(low[0], low[1], low[2], low[3]);
          }
        }
  }
};

// ---- 16-bit types ---------------------------------------------------------------------------------------------------

constexpr int turning_warps = turners / 32, blocks_each = (RAW_PITCH / 8 + turning_warps - 1) / turning_warps;

/// What a warp turns: blocks of eight positions as they were brought, 32 channels at a time.
struct Matrices {
  u16 to[blocks_each];  // a lane's position of each block, among the staged
  u32 zeros;            // which of this thread's staged positions (every 64th) are zeros
  int count;            // blocks

  static __device__ __forceinline__ void prepare(char*, int) {}

  __device__ __forceinline__ Matrices(const Arguments& a, const Tile& t, int thread) {
    const Window w(a, t);
    const int lane = thread % 32, warp = thread / 32, of_row = a.row_pieces.divisor;
    int last_row;
    const int column = Window::row_of(a, w.position + a.used - 1, last_row);
    const int pieces = (last_row - w.row) * of_row + min((column >> a.vector_bits) + 1, of_row) - w.piece;
    count = ((pieces << a.vector_bits) + 7) / 8;
#pragma unroll
    for (int i = 0; i < blocks_each; ++i) {
      const u32 element = (warp + turning_warps * i) * 8 + lane % 8, piece = (element >> a.vector_bits) + w.piece;
      const u32 down = divide(piece, a.row_pieces);
      const int in_row = static_cast<int>((piece - down * of_row) << a.vector_bits) +
                         static_cast<int>(element & ((1u << a.vector_bits) - 1));
      const int staged = (w.row + static_cast<int>(down)) * static_cast<int>(a.row_pitch.divisor) + in_row - w.position;
      to[i] = static_cast<u16>(staged >= 0 && staged < STAGED ? staged : STAGED + lane % 8);
    }
    zeros = 0;
#pragma unroll
    for (int i = 0; i < (STAGED + turners - 1) / turners; ++i) {
      const int staged = thread + i * turners;
      if (staged < STAGED && (staged >= a.used || brought_at(a, w, w.position + staged) < 0)) zeros |= 1u << i;
    }
  }

  __device__ __forceinline__ void turn(const char* from, char* stage, bool fresh, int thread) const {
    const u32 raw = shared_address(from), to_stage = shared_address(stage);
    const int lane = thread % 32, warp = thread / 32;
#pragma unroll
    for (int s = 0; s < SEGMENTS; ++s)
#pragma unroll
      for (int i = 0; i < blocks_each; ++i) {
        if (warp + turning_warps * i >= count) continue;
#pragma unroll
        for (int k = 0; k < CHANNELS / 32; ++k) {
          u32 v[4];
          load_turned(raw + ((s * CHANNELS + k * 32 + lane) * RAW_PITCH + (warp + turning_warps * i) * 8) * 2, v);
          store_matrices(to_stage + (k * 4 + lane / 8) * unit_bytes + (s * segment_positions + to[i]) * 16, v);
        }
      }
    if (!fresh) return;
#pragma unroll
    for (int i = 0; i < (STAGED + turners - 1) / turners; ++i) {
      if (!(zeros >> i & 1)) continue;
#pragma unroll
      for (int s = 0; s < SEGMENTS; ++s)
#pragma unroll
        for (int u = 0; u < units_of_chunk; ++u)
          *reinterpret_cast<uint4*>(stage + u * unit_bytes + (s * segment_positions + thread + i * turners) * 16) =
              make_uint4(0, 0, 0, 0);
    }
  }
};

// ---- both ---------------------------------------------------------------------------------------------------------

template <bool halves_too>
struct WorkOf {
  typedef Words Type;
};
template <>
struct WorkOf<true> {
  typedef Matrices Type;
};
typedef WorkOf<halves>::Type Work;

__device__ __forceinline__ void turn_all(const Arguments& a, char* shared, const Barriers& b, int first, int by,
                                         Chunks chunks, int thread) {
  static_assert(!TURNED || !halves || CHANNELS % 32 == 0, "16-bit channels are turned 32 at a time");
  char* slots = shared + STAGES * stage_bytes;
  Work::prepare(slots, thread);
  Ring<STAGES> stage;
  Ring<RAW_SLOTS> slot;
#pragma unroll 1
  for (int index = first; index < a.tiles; index += by) {
    const Tile t(a, index);
    const Work work(a, t, thread);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks.count; ++chunk) {
      barrier_wait(b.raw_full + 8 * slot.at, slot.parity);
      barrier_wait(b.empty + 8 * stage.at, stage.parity ^ 1);
      work.turn(slots + slot.at * raw_bytes, shared + stage.at * stage_bytes + weight_bytes, chunk < STAGES, thread);
      fence_shared();
      __syncwarp();
      if (thread % 32 == 0) {
        barrier_arrive(b.full + 8 * stage.at);
        barrier_arrive(b.raw_empty + 8 * slot.at);
      }
      stage.next(), slot.next();
    }
  }
}

}  // namespace upconv
