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
    // Some at a time, so that none waits for its words alone.
    constexpr int units_each = units_of_chunk / turn_shares, all = SEGMENTS * units_each * positions_each;
    constexpr int words_each = tf32 ? 4 : 8, at_once = tf32 ? 6 : 3;
#pragma unroll
    for (int first = 0; first < all; first += at_once) {
      float v[at_once][words_each];
#pragma unroll
      for (int j = 0; j < at_once && first + j < all; ++j) {
        const int i = (first + j) % positions_each, u = (first + j) / positions_each % units_each;
        const int s = (first + j) / (positions_each * units_each);
        const u32* from = words + (s * CHANNELS + u * turn_shares * unit_channels) * RAW_PITCH + at[i];
#pragma unroll
        for (int c = 0; c < words_each; ++c) v[j][c] = __uint_as_float(from[c * RAW_PITCH]);
      }
#pragma unroll
      for (int j = 0; j < at_once && first + j < all; ++j) {
        const int i = (first + j) % positions_each, u = (first + j) / positions_each % units_each;
        const int s = (first + j) / (positions_each * units_each);
        if (STAGED % turn_columns != 0 && column + i * turn_columns >= STAGED) continue;
        uint4* place = reinterpret_cast<uint4*>(to + u * turn_shares * unit_bytes +
                                                (s * segment_positions + i * turn_columns) * 16);
        if constexpr (tf32) {
          *place = make_uint4(round_tf32(v[j][0]), round_tf32(v[j][1]), round_tf32(v[j][2]), round_tf32(v[j][3]));
        } else {
          u32 high[4], low[4];
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const float one = v[j][2 * c % words_each], two = v[j][(2 * c + 1) % words_each];
            high[c] = pack_bf16(one, two);
            low[c] = pack_rest(one, two, high[c]);
          }
          *place = make_uint4(high[0], high[1], high[2], high[3]);
          place[part_bytes / 16] = make_uint4(low[0], low[1], low[2], low[3]);
        }
      }
    }
  }
};

// ---- 16-bit types ---------------------------------------------------------------------------------------------------

/// Eight positions at eight channels are a matrix: of four at once so many have other channels, the others positions.
constexpr int matrices_k = units_of_chunk % 4 == 0 ? 4 : 2, matrices_n = 4 / matrices_k;
constexpr int turning_warps = turners / 32, at_once_n = turning_warps * matrices_n;
constexpr int blocks_each = (RAW_PITCH / 8 + at_once_n - 1) / at_once_n;

/// What a warp turns: blocks of eight positions as they were brought.
struct Matrices {
  u16 to[blocks_each];  // a lane's position of each block, among the staged
  u32 zeros;            // which of this thread's staged positions (every 64th) are zeros
  int count;            // blocks
  // Where rows are brought by the words that they lie in (bring_x_shifted): whether channel 0 lies one element further
  // on at the position that this lane has of each block after turning; whether every other channel differs from it.
  u32 further[(blocks_each * matrices_n + 31) / 32];
  bool shifted, channels_differ;
  u32 segments_differ;  // which segments differ from the first position's row

  static __device__ __forceinline__ void prepare(char*, int) {}

  static __device__ __forceinline__ int first_block(int thread, int i) {
    return (thread / 32 + turning_warps * i) * matrices_n;
  }
  static __device__ __forceinline__ int block_of(int thread, int i) {
    return first_block(thread, i) + thread % 32 / 8 / matrices_k;
  }

  __device__ __forceinline__ Matrices(const Arguments& a, const Tile& t, int thread) {
    const Window w(a, t);
    const int lane = thread % 32, of_row = a.row_pieces.divisor;
    count = ((w.pieces(a) << a.vector_bits) + 7) / 8;
#pragma unroll
    for (int i = 0; i < blocks_each; ++i) {
      const u32 element = block_of(thread, i) * 8 + lane % 8, piece = (element >> a.vector_bits) + w.piece;
      const u32 down = divide(piece, a.row_pieces);
      const int in_row = static_cast<int>((piece - down * of_row) << a.vector_bits) +
                         static_cast<int>(element & ((1u << a.vector_bits) - 1));
      const int staged = (w.row + static_cast<int>(down)) * static_cast<int>(a.row_pitch.divisor) + in_row - w.position;
      // The last piece of a row may reach beyond it (bring_x_shifted).
      to[i] = static_cast<u16>(staged >= 0 && staged < a.used && in_row < a.in_w ? staged : STAGED + lane % 8);
    }
    zeros = 0;
#pragma unroll
    for (int i = 0; i < (STAGED + turners - 1) / turners; ++i) {
      const int staged = thread + i * turners;
      if (staged < STAGED && (staged >= a.used || brought_at(a, w, w.position + staged) < 0)) zeros |= 1u << i;
    }
    shifted = a.shifted;
    if (shifted) find_further(a, t, w, thread);
  }

  __device__ __forceinline__ void find_further(const Arguments& a, const Tile& t, const Window& w, int thread) {
    const u32 of_n = a.x_strides.n, of_d = a.x_strides.d, of_h = a.x_strides.h, of_c = a.x_strides.c;
    channels_differ = of_c % 2 != 0;
    segments_differ = 0;
#pragma unroll
    for (int s = 0; s < SEGMENTS; ++s)
      segments_differ |= ((RANK > 2 ? segment_d[s] * of_d : 0) + (RANK > 1 ? segment_h[s] * of_h : 0)) % 2 << s;
#pragma unroll
    for (u32& bits : further) bits = 0;
#pragma unroll
    for (int i = 0; i < blocks_each; ++i)
#pragma unroll
      for (int n = 0; n < matrices_n; ++n) {
        const u32 element = (first_block(thread, i) + n) * 8 + thread % 32 / 4;
        const u32 down = divide((element >> a.vector_bits) + w.piece, a.row_pieces);
        const u32 row = max(w.row + static_cast<int>(down), 0), sample = divide(row, a.rows);
        const u32 in_sample = row - sample * a.rows.divisor, d = RANK > 2 ? divide(in_sample, a.rows_h) : 0;
        u32 at = sample * of_n + t.group * K * of_c;
        if (RANK > 1) at += (in_sample - d * a.rows_h.divisor + a.first_h) * of_h;
        if (RANK > 2) at += (d + a.first_d) * of_d;
        further[(i * matrices_n + n) / 32] |= at % 2 << (i * matrices_n + n) % 32;
      }
  }

  /// Matrices of a block in which some rows lie one element further on, put right: `behind` are those of the next eight
  /// positions.
  __device__ __forceinline__ void move_back(u32 (&v)[4], const u32 (&behind)[4], int i, int segment, int lane) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int bit = i * matrices_n + r / matrices_k;
      const bool even = ((further[bit / 32] >> bit % 32) ^ (segments_differ >> segment)) & 1;
      const bool odd = even != channels_differ;
      const u32 next = __shfl_sync(~0u, lane < 4 ? behind[r] : v[r], (lane + 4) % 32);
      v[r] = __byte_perm(v[r], next, (even ? 0x0054 : 0x0010) | (odd ? 0x7600 : 0x3200));
    }
  }

  __device__ __forceinline__ void turn(const char* from, char* stage, bool fresh, int thread) const {
    const int lane = thread % 32, k0 = lane / 8 % matrices_k;
    const u32 raw = shared_address(from) + (k0 * 8 + lane % 8) * (RAW_PITCH * 2);
    const u32 to_stage = shared_address(stage) + k0 * unit_bytes;
    // Some at a time, so that none waits for its words alone.
    constexpr int units_each = units_of_chunk / matrices_k, all = SEGMENTS * units_each * blocks_each, at_once = 4;
#pragma unroll
    for (int first = 0; first < all; first += at_once) {
      u32 v[at_once][4];
#pragma unroll
      for (int j = 0; j < at_once && first + j < all; ++j) {
        const int i = (first + j) / units_each % blocks_each, u = (first + j) % units_each;
        const int s = (first + j) / (units_each * blocks_each);
        if (first_block(thread, i) < count) {
          const u32 channel = raw + (s * CHANNELS + u * matrices_k * 8) * (RAW_PITCH * 2);
          const int block = block_of(thread, i);
          load_turned(channel + block * 16, v[j]);
          if (shifted) {
            u32 behind[4];
            load_turned(channel + (block + (block + 1 < count ? 1 : 0)) * 16, behind);
            move_back(v[j], behind, i, s, lane);
          }
        }
      }
#pragma unroll
      for (int j = 0; j < at_once && first + j < all; ++j) {
        const int i = (first + j) / units_each % blocks_each, u = (first + j) % units_each;
        const int s = (first + j) / (units_each * blocks_each);
        if (first_block(thread, i) < count)
          store_matrices(to_stage + u * matrices_k * unit_bytes + (s * segment_positions + to[i]) * 16, v[j]);
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

__device__ __forceinline__ void turn_all(const Arguments& a, char* shared, const Barriers& b, Chunks chunks,
                                         int thread) {
  char* slots = shared + STAGES * stage_bytes;
  Work::prepare(slots, thread);
  Ring<STAGES> stage;
  Ring<RAW_SLOTS> slot;
#pragma unroll 1
  for (int index = first_tile(); index < a.tiles; index += tiles_apart()) {
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
