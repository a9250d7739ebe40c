// The warps of columns.cuh that bring x and weights into shared memory, by copies in the background: as many chunks
// ahead as there are stages. What no copy takes (odd sizes and addresses) it moves element by element.
#pragma once

#include "columns/ring.cuh"
#include "columns/weights.cuh"

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
    if (SWIZZLED && a.bulk) return;
    const Window w(a, t);
    const int of_row = a.row_pieces.divisor;
    count = w.pieces(a);
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
  if (SWIZZLED) return segment * segment_bytes + element / 64 * swizzled_bytes + element % 8 * 2;
  return segment * segment_bytes + element / 8 * block_bytes + element % 8 * 2;
}
constexpr u32 x_channel_bytes = TURNED ? RAW_PITCH * element_bytes : SWIZZLED ? 128 : 16;

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
      // Which of its row's eight pieces of 16 bytes, before it changes places with another: share is below x_rows.
      const u32 eighth = SWIZZLED ? ((i << a.vector_bits) / 8 ^ share) % 8 : 0;
#pragma unroll
      for (int k = 0; k < CHANNELS; k += x_rows) {
        const bool real = inside && (K % CHANNELS == 0 || k0 + k < K);
        const u32 at = SWIZZLED ? place + (eighth ^ k % 8) * 16 : place;
        if constexpr (bytes == 16 && !TURNED && !SWIZZLED) {
          copy_async_cached(at, from, real);  // neighbours go to places apart
        } else if constexpr (bytes >= 4) {
          copy_async<bytes>(at, from, real);
        } else {
          const u16 v = real ? *reinterpret_cast<const u16*>(from) : u16(0);
          asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"(v) : "memory");
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

/// x of one chunk by bulk copies, which swizzle; `full` waits for them, and for this arrival. By one thread.
__device__ __forceinline__ void bring_boxes(const Arguments& a, const Tile& t, u32 to, int chunk, u32 full) {
  const int n = divide(t.position, a.sample), first = t.position - n * a.sample.divisor;
  barrier_expect(full, segment_bytes);
#pragma unroll 1
  for (int i = 0; i < STAGED / 64; ++i)
    copy_box(to + i * swizzled_bytes, &a.map, full, first + i * 64, 0, 0, t.group * K + chunk * CHANNELS, n);
}

// ---- both ---------------------------------------------------------------------------------------------------------

constexpr bool keeps_weights = SPLIT == 1 && STAGES % chunks_k == 0;

__device__ __forceinline__ void bring_all(const Arguments& a, char* shared, const Barriers& b, Chunks chunks,
                                          int thread) {
  Ring<STAGES> stage;
  Ring<RAW_SLOTS> slot;
  const bool plain_weights = PIECE == 0 || !a.copy_weights;
  int turn = 0;
  const bool bulk = SWIZZLED && a.bulk;
  int group = -1, row = 0, brought = 0;  // whose weights the stages hold, and how many chunks of them were brought
#pragma unroll 1
  for (int index = first_tile(); index < a.tiles; index += tiles_apart()) {
    const Tile t(a, index);
    const Pieces pieces(a, t, reinterpret_cast<u32*>(shared + x_end + turn * piece_bytes), thread);
    turn ^= 1;
    if (!bulk) meet(4, bringers);
    // Weights that a stage still holds stay: of the same rows, where it gets the same chunk every time.
    if (t.group != group || t.row != row) brought = 0;
    group = t.group, row = t.row;
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
      const u32 full = b.full + 8 * stage.at;
      const bool kept = keeps_weights && brought >= STAGES;
      ++brought;
      if constexpr (!TURNED) {
        if (!bulk)
          bring_x(a, pieces, shared_address(to) + weight_bytes, chunk, thread);
        else if (thread == 0)
          bring_boxes(a, t, shared_address(to) + weight_bytes, chunk, full);
      }
      if (!kept && !plain_weights)
        weights.copy(shared_address(to), chunk);
      else if (!kept)
        bring_weights(a, t, to, chunk, thread);
      arrive_with(full, (plain_weights && !kept) || (!TURNED && !bulk && x_by_elements(a)));
      stage.next();
    }
  }
}

}  // namespace upconv
