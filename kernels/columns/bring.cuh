// The warps of columns.cuh that bring x and weights into shared memory, by copies in the background: as many chunks
// ahead as there are stages. What no copy takes (odd sizes and addresses) it moves element by element.
#pragma once

#include "columns/shape.cuh"

namespace upconv {

constexpr u32 nowhere = ~0u;

// ---- x ------------------------------------------------------------------------------------------------------------

/// So many threads bring one channel of x, so many channels are brought at once.
constexpr int x_columns = STAGED / widest <= 40 ? 32 : STAGED / widest <= 80 || bringers == 64 ? 64 : 128;
constexpr int x_rows = bringers / x_columns;
static_assert(CHANNELS % x_rows == 0, "threads share out the channels evenly");

/// The pieces of x of one tile: where each lies from `x` on, in elements, or nowhere.
struct Pieces {
  const Element* x;
  const u32* list;
  int count;

  /// By all threads, which meet afterwards.
  __device__ __forceinline__ Pieces(const Arguments& a, const Tile& t, u32* to, int thread) : list(to) {
    const Window w(a, t);
    int last_row;
    const int of_row = a.row_pieces.divisor, column = Window::row_of(a, w.position + a.used - 1, last_row);
    count = (last_row - w.row) * of_row + min((column >> a.vector_bits) + (a.shifted ? 2 : 1), of_row) - w.piece;
    const int n0 = divide(max(w.row, 0), a.rows);
    x = a.x + n0 * a.x_strides.n + i64(t.group) * K * a.x_strides.c;
#pragma unroll 1
    for (int i = thread; i < count; i += bringers) {
      const u32 at = i + w.piece, down = divide(at, a.row_pieces);
      const int row = w.row + static_cast<int>(down), first = static_cast<int>(at - down * of_row) << a.vector_bits;
      const u32 n = divide(max(row, 0), a.rows), in_sample = max(row, 0) - n * a.rows.divisor;
      const u32 d0 = RANK > 2 ? divide(in_sample, a.rows_h) : 0, h0 = in_sample - d0 * a.rows_h.divisor;
      const bool real = row >= 0 && n < static_cast<u32>(a.batch) && first < a.in_w;
      const u32 base = static_cast<u32>((static_cast<int>(n) - n0) * a.x_strides.n) + first;
#pragma unroll
      for (int s = 0; s < SEGMENTS; ++s) {
        const int d = RANK > 2 ? static_cast<int>(d0) + a.first_d - segment_d[s] : 0;
        const int h = RANK > 1 ? static_cast<int>(h0) + a.first_h - segment_h[s] : 0;
        const bool inside = real && (RANK < 2 || (h >= 0 && h < a.in_h)) && (RANK < 3 || (d >= 0 && d < a.in_d));
        u32 offset = base;
        if (RANK > 1) offset += static_cast<u32>(h * a.x_strides.h);
        if (RANK > 2) offset += static_cast<u32>(d * a.x_strides.d);
        to[s * most_pieces + i] = inside ? offset : nowhere;
      }
    }
  }
};

/// Where piece `i` of channel 0 goes, in bytes, and how far the channels lie apart.
__device__ __forceinline__ u32 piece_place(const Arguments& a, int segment, int i) {
  const int element = i << a.vector_bits;
  if (TURNED) return (segment * (CHANNELS * RAW_PITCH) + element) * element_bytes;
  return segment * segment_bytes + element / 8 * block_bytes + element % 8 * 2;
}
constexpr u32 x_channel_bytes = TURNED ? RAW_PITCH * element_bytes : 16;

/// x of one chunk in pieces of `bytes`.
template <int bytes>
__device__ __forceinline__ void bring_x(const Arguments& a, const Pieces& p, u32 to, int chunk, int thread) {
  const int share = thread / x_columns, k0 = chunk * CHANNELS + share;
  const Element* x = p.x + k0 * a.x_strides.c;
  const i64 step = x_rows * a.x_strides.c;
#pragma unroll
  for (int s = 0; s < SEGMENTS; ++s)
#pragma unroll 1
    for (int i = thread % x_columns; i < p.count; i += x_columns) {
      const u32 at = p.list[s * most_pieces + i];
      const bool inside = at != nowhere;
      const Element* from = inside ? x + at : a.x;
      u32 place = to + piece_place(a, s, i) + share * x_channel_bytes;
#pragma unroll
      for (int k = 0; k < CHANNELS; k += x_rows) {
        const bool real = inside && (K % CHANNELS == 0 || k0 + k < K);
        if constexpr (bytes >= 4) {
          copy_async<bytes>(place, from, real);
        } else {
          const u16 v = real ? *reinterpret_cast<const u16*>(from) : u16(0);
          asm volatile("st.shared.u16 [%0], %1;" ::"r"(place), "h"(v) : "memory");
        }
        from += step, place += x_rows * x_channel_bytes;
      }
    }
}

/// The same where rows of 16-bit x begin between two words: by the words that they lie in. Where a row's first element
/// is the second half of its word, all of the row lies one element further on; turn.cuh moves it back.
__device__ __forceinline__ void bring_x_shifted(const Arguments& a, const Pieces& p, u32 to, int chunk, int thread) {
  const int share = thread / x_columns, k0 = chunk * CHANNELS + share;
  const u64 end = reinterpret_cast<u64>(a.x + a.batch * a.x_strides.n);
  const u64 last = end % 4 != 0 ? end - 2 : 0;  // a word of which half is x
  const i64 step = x_rows * a.x_strides.c;
#pragma unroll
  for (int s = 0; s < SEGMENTS; ++s)
#pragma unroll 1
    for (int i = thread % x_columns; i < p.count; i += x_columns) {
      const u32 at = p.list[s * most_pieces + i];
      const bool inside = at != nowhere;
      const Element* from = inside ? p.x + at + k0 * a.x_strides.c : a.x;
      u32 place = to + piece_place(a, s, i) + share * x_channel_bytes;
#pragma unroll
      for (int k = 0; k < CHANNELS; k += x_rows) {
        const bool real = inside && (K % CHANNELS == 0 || k0 + k < K);
        const u64 word = reinterpret_cast<u64>(from) & ~u64(3);
        copy_word_async(place, reinterpret_cast<const void*>(word), !real ? 0 : word == last ? 2 : 4);
        from += step, place += x_rows * x_channel_bytes;
      }
    }
}

__device__ __forceinline__ bool x_by_elements(const Arguments& a) { return halves && a.vector_bits == 0; }

__device__ __forceinline__ void bring_x(const Arguments& a, const Pieces& p, u32 to, int chunk, int thread) {
  const int bytes = element_bytes << a.vector_bits;
  if (halves && TURNED && a.shifted)
    bring_x_shifted(a, p, to, chunk, thread);
  else if (bytes == 16)
    bring_x<16>(a, p, to, chunk, thread);
  else if (bytes == 8)
    bring_x<8>(a, p, to, chunk, thread);
  else if (bytes == 4)
    bring_x<4>(a, p, to, chunk, thread);
  else if constexpr (halves)
    bring_x<2>(a, p, to, chunk, thread);
}

// ---- weights ------------------------------------------------------------------------------------------------------

/// Where the i-th weight that a tile takes of one channel of x lies in a stage, in bytes; they are counted as they lie
/// in memory, by channel of y, then tap.
__device__ __forceinline__ constexpr int place_of(int i) {
  int shift = 0, row = i;
  if (PARTED) {
    const int channel = i / TAPS, tap = i % TAPS;
    const int d = tap / (KH * KW), h = tap / KW % KH, w = tap % KW;
    shift = (d / SD * (KH / SH) + h / SH) * (KW / SW) + w / SW;
    row = channel * phases + (d % SD * SH + h % SH) * SW + w % SW;
  }
  if (A_SHARED) return shift * part_rows_bytes + row / 8 * block_bytes + row % 8 * 2;
  return (shift * SPAN + row) * element_bytes;
}
constexpr int w_channel_bytes = A_SHARED ? 16 : W_PITCH * element_bytes;

/// How far the tile's first weight lies behind that of its group.
__device__ __forceinline__ int first_weight(const Tile& t) { return t.row * (TAPS / row_phases); }
/// Whether the tile's i-th weight exists: the last tile of a group may have rows too many.
__device__ __forceinline__ bool weight_exists(const Tile& t, int i) {
  if constexpr (CO * row_phases % BLOCK_ROWS == 0) return true;
  return first_weight(t) + i < weights_of_channel;
}

/// This thread's copies of one chunk: pieces of PIECE bytes in columns, all rows of them or every so many.
struct Weights {
  static constexpr int elements = PIECE > 0 ? PIECE / element_bytes : 1, pieces = W_RUN / elements;
  static constexpr int rows = pieces >= bringers ? 1 : bringers / pieces;  // at once
  static constexpr int columns = pieces >= bringers ? (pieces + bringers - 1) / bringers : 1;
  const Element* from[columns];  // null: no piece
  u32 to[columns];
  int row;

  __device__ __forceinline__ Weights(const Arguments& a, const Tile& t, int thread) {
    row = rows == 1 ? 0 : thread / pieces;
    const Element* group = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll
    for (int i = 0; i < columns; ++i) {
      const int piece = rows == 1 ? thread + i * bringers : thread % pieces, first = piece * elements;
      const bool exists = (rows == 1 ? piece < pieces : row < rows) && weight_exists(t, first);
      from[i] = exists ? group + first + row * weights_of_channel : nullptr;
      to[i] = row * w_channel_bytes + place_of(first);
    }
  }

  __device__ __forceinline__ void copy(u32 stage, int chunk) const {
    const i64 k0 = i64(chunk) * CHANNELS;
#pragma unroll
    for (int i = 0; i < columns; ++i) {
      if (!from[i]) continue;
      const Element* base = from[i] + k0 * weights_of_channel;
#pragma unroll
      for (int k = 0; k < CHANNELS; k += rows) {
        if (CHANNELS % rows != 0 && k + row >= CHANNELS) continue;
        const bool real = K % CHANNELS == 0 || k0 + k + row < K;
        copy_async<PIECE == 0 ? 4 : PIECE>(stage + to[i] + k * w_channel_bytes,
                                           real ? base + k * weights_of_channel : from[i], real && PIECE > 0);
      }
    }
  }
};

/// The same, one weight after the other.
__device__ __forceinline__ void bring_weights(const Arguments& a, const Tile& t, char* stage, int chunk, int thread) {
  const Element* base = a.w + t.group * (i64(K) * weights_of_channel) + first_weight(t);
#pragma unroll 4
  for (int at = thread; at < CHANNELS * W_RUN; at += bringers) {
    const int k = at / W_RUN, i = at % W_RUN;
    const i64 channel = i64(chunk) * CHANNELS + k;
    Element v = from_float<Element>(0.f);
    if ((K % CHANNELS == 0 || channel < K) && weight_exists(t, i)) v = base[channel * weights_of_channel + i];
    *reinterpret_cast<Element*>(stage + k * w_channel_bytes + place_of(i)) = v;
  }
}

// ---- both ---------------------------------------------------------------------------------------------------------

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
};

/// Where a ring stands: filled and emptied by turns.
template <int count>
struct Ring {
  int at = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++at == count) at = 0, parity ^= 1;
  }
};

__device__ __forceinline__ void bring_all(const Arguments& a, char* shared, const Barriers& b, Chunks chunks,
                                          int thread) {
  Ring<STAGES> stage;
  Ring<RAW_SLOTS> slot;
  const bool plain_weights = PIECE == 0 || !a.copy_weights;
  int turn = 0;
#pragma unroll 1
  for (int index = first_tile(); index < a.tiles; index += tiles_apart()) {
    const Tile t(a, index);
    const Pieces pieces(a, t, reinterpret_cast<u32*>(shared + x_end + turn * piece_bytes), thread);
    turn ^= 1;
    meet(4, bringers);
    const Weights weights(a, t, thread);
#pragma unroll 1
    for (int chunk = chunks.first; chunk < chunks.first + chunks.count; ++chunk) {
      if constexpr (TURNED) {
        barrier_wait(b.raw_empty + 8 * slot.at, slot.parity ^ 1);
        bring_x(a, pieces, shared_address(shared) + STAGES * stage_bytes + slot.at * raw_bytes, chunk, thread);
        arrive_with(b.raw_full + 8 * slot.at, x_by_elements(a));
        slot.next();
      }
      barrier_wait(b.empty + 8 * stage.at, stage.parity ^ 1);
      char* to = shared + stage.at * stage_bytes;
      if (!plain_weights)
        weights.copy(shared_address(to), chunk);
      else
        bring_weights(a, t, to, chunk, thread);
      if constexpr (!TURNED) bring_x(a, pieces, shared_address(to) + weight_bytes, chunk, thread);
      arrive_with(b.full + 8 * stage.at, plain_weights || (!TURNED && x_by_elements(a)));
      stage.next();
    }
  }
}

}  // namespace upconv
