// Bringing a chunk into shared memory, cut into PIECES (of its words) that alternate with products. Two ways:
//   ASYNC (fp32, channels first)  copied in the background during the first half of the products, then made into words
//                                 in place by the thread that copied them during the second half
//   else                          global -> registers, some products, registers -> words
// A thread keeps its places in source and weights ("slots"); only the channel moves.
#pragma once

#include "mma/gather_shape.cuh"

namespace upconv::gather {

constexpr int least(int a, int b) { return a < b ? a : b; }
constexpr int most(int a, int b) { return a > b ? a : b; }
constexpr int up(int a, int b) { return (a + b - 1) / b; }

constexpr int X_POSITIONS = TN * PLANES * LD * LH * LW_USED;
constexpr int X_SLOTS = SOURCE_LAST ? 1 : up(X_POSITIONS, THREADS);       // positions of a thread, all channels
constexpr int X_ITEMS = SOURCE_LAST ? up(X_POSITIONS * KW, THREADS) : 0;  // words of a thread, channels fastest
constexpr int W_SLOTS = up(NB * TAPS, THREADS);                           // (column, tap) pairs of a thread

constexpr int fetch_words = ((SOURCE_LAST ? X_ITEMS : X_SLOTS * KW) + (RESIDENT ? 0 : W_SLOTS * KW)) * PACK;
/// Pieces of a chunk, at most `slots` of them: a power of two that divides the words of a chunk.
constexpr int piece_count(int slots) {
  int n = 1;
  while (n * FETCH_REGISTERS < fetch_words && 2 * n <= slots && KW % (2 * n) == 0) n *= 2;
  return n;
}

/// One thread's registers of a piece.
template <int PIECES>
struct Piece {
  static constexpr int words = KW / PIECES, items = up(X_ITEMS, PIECES);
  u32 x[(SOURCE_LAST ? items : X_SLOTS * words) * PACK];
  u32 w[RESIDENT ? 1 : W_SLOTS * words * PACK];
};

constexpr bool ASYNC = BYTES == 4 && !SOURCE_LAST;
/// Pieces of a chunk that comes in the background while `slots` products are computed: two slots a piece.
constexpr int async_pieces(int slots) {
  int n = 1;
  while (n < 8 && 4 * n <= slots && KW % (2 * n) == 0) n *= 2;
  return n;
}

// TF32 words may also stay as they come and be rounded as fragments are loaded: cheaper where few fragments share them.
#if __CUDA_ARCH__ >= 900
constexpr bool X_RAW = ASYNC && MODE == Mode::tf32 && RAW_SOURCE,
               W_RAW = ASYNC && MODE == Mode::tf32 && !RESIDENT && RAW_WEIGHT;
#else
constexpr bool X_RAW = false, W_RAW = false;
#endif

constexpr bool deferred_d = !FORWARD && DIM_D.merged, deferred_h = !FORWARD && DIM_H.merged,
               deferred_w = !FORWARD && DIM_W.merged;  // bounds depend on the channel's residue

/// The chunk being brought in, and where this thread's slots lie in its tile. Where channels are not merged with
/// residues the pointers run along the channels, piece by piece.
struct Fetch {
  bool active;
  int chunk;
  Place place;
  const char* base;   ///< The tile's first source element: tile coordinate 0, channel 0 of the group, residue 0.
  u32 word[X_SLOTS];  ///< Bytes into a chunk's words, row 0; ~0u: no position.
  const char* pointer[X_SLOTS];
  bool inside[X_SLOTS];
  int d[X_SLOTS], h[X_SLOTS], w[X_SLOTS];
};
constexpr bool running = FORWARD || merged_volume == 1;

/// A source position by its number in the tile.
struct Spot {
  int n, plane, d, h, w;
};
__device__ __forceinline__ Spot spot_of(int i) {
  Spot s;
  s.w = i % LW_USED;
  i /= LW_USED;
  s.h = i % LH;
  i /= LH;
  s.d = i % LD;
  i /= LD;
  s.plane = i % PLANES;
  s.n = i / PLANES;
  return s;
}
__device__ __forceinline__ int spot_word(const Spot& s) {
  return s.n * pitch_n + s.plane * pitch_plane + s.d * pitch_d + s.h * pitch_h + s.w;
}

/// Source coordinate of tile coordinate 0 (residue 0), and how far tile coordinate c lies from it.
template <int DIM>
__device__ __forceinline__ int origin(const Arguments& a, Dimension dim, int place) {
  return FORWARD ? place - span(dim) : dim.stride * place - a.padding[DIM];
}
__device__ __forceinline__ int distance(Dimension dim, int c, int plane) {
  return FORWARD ? c : dim.stride * c + (dim.merged ? 0 : used_residue(dim, plane));
}

/// Where the slots lie in shared memory, in any tile.
__device__ __forceinline__ void find_slots(Fetch& f) {
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      const int i = fresh_thread() + s * THREADS;
      f.word[s] = i < X_POSITIONS ? 4 * spot_word(spot_of(i)) : ~0u;
    }
  }
}

/// Places the slots of `tile`.
__device__ __forceinline__ void aim(const Arguments& a, Fetch& f, int group, int tile) {
  f.place = place_of(a, tile);
  const int d0 = origin<0>(a, DIM_D, f.place.d), h0 = origin<1>(a, DIM_H, f.place.h),
            w0 = origin<2>(a, DIM_W, f.place.w);
  f.base = static_cast<const char*>(a.source) +
           (f.place.n * a.source_n + i64(group) * (DEPTH / (FORWARD ? 1 : merged_volume)) * a.source_c +
            d0 * a.source_d + h0 * a.source_h + w0 * a.source_w) *
               BYTES;
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      const int i = fresh_thread() + s * THREADS;
      const Spot at = spot_of(i);
      const int d = distance(DIM_D, at.d, at.plane / (planes_h * planes_w)),
                h = distance(DIM_H, at.h, at.plane / planes_w % planes_h),
                w = distance(DIM_W, at.w, at.plane % planes_w);
      const bool ok = i < X_POSITIONS && f.place.n + at.n < a.batch &&
                      (deferred_d || unsigned(d0 + d) < unsigned(a.source_size[0])) &&
                      (deferred_h || unsigned(h0 + h) < unsigned(a.source_size[1])) &&
                      (deferred_w || unsigned(w0 + w) < unsigned(a.source_size[2]));
      const int offset = at.n * int(a.source_n) + d * int(a.source_d) + h * int(a.source_h) + w;
      f.pointer[s] = f.base + i64(offset) * BYTES;
      f.inside[s] = ok;
      f.d[s] = d0 + d;
      f.h[s] = h0 + h;
      f.w[s] = w0 + w;
    }
  }
}

/// The merged residues of a channel of depth (dx): which channel, and its step from residue 0.
struct Channel {
  int channel, d, h, w;
};
__device__ __forceinline__ Channel channel_of(int k) {
  if (FORWARD) return {k, 0, 0, 0};
  constexpr int sh = merged_stride(DIM_H), sw = merged_stride(DIM_W);
  const int r = k % merged_volume;
  return {k / merged_volume, r / (sh * sw), r / sw % sh, r % sw};
}

/// Bytes from channel 0, residue 0 to the channel of depth `k`.
__device__ __forceinline__ i64 source_step(const Arguments& a, int k) {
  if (FORWARD || merged_volume == 1) return k * a.source_c * BYTES;
  const Channel c = channel_of(k);
  return (c.channel * a.source_c + c.d * a.source_d + c.h * a.source_h + c.w * a.source_w) * BYTES;
}

// Weights: a thread's (column, tap) pairs.
struct WeightSlots {
  const char* pointer[W_SLOTS];  ///< At depth 0; it runs along the depth where nothing is merged with it.
  bool inside[W_SLOTS];          ///< There is such a column.
  u32 word[W_SLOTS];             ///< Bytes into a chunk's weights, word 0; ~0u: no slot.
};
__device__ __forceinline__ WeightSlots weight_slots(const Arguments& a, int group, int column0) {
  WeightSlots slots;
  const char* base = static_cast<const char*>(a.weight) + group * a.weight_group * BYTES;
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s) {
    const int i = fresh_thread() + s * THREADS;
    const int n = WEIGHT_LAST && FORWARD ? i % NB : i / TAPS, t = WEIGHT_LAST && FORWARD ? i / NB : i % TAPS;
    const int column = column0 + n;
    constexpr int sh = merged_stride(DIM_H), sw = merged_stride(DIM_W);
    const int r = FORWARD ? column % merged_volume : 0, wide = FORWARD ? column / merged_volume : column;
    int td = t / (taps_h * taps_w), th = t / taps_w % taps_h, tw = t % taps_w;
    if (DIM_D.merged) td = td * DIM_D.stride + r / (sh * sw);
    if (DIM_H.merged) th = th * DIM_H.stride + r / sw % sh;
    if (DIM_W.merged) tw = tw * DIM_W.stride + r % sw;
    slots.pointer[s] = base + (i64(wide) * W_WIDE + td * W_D + th * W_H + tw * W_W) * BYTES;
    slots.inside[s] = COLUMNS % NB == 0 || column < COLUMNS;
    slots.word[s] = i < NB * TAPS ? 4 * (t * TAP_PITCH + fragment_word(0, n)) : ~0u;
  }
  return slots;
}
/// Bytes from depth 0 of the weights to depth `k`.
__device__ __forceinline__ i64 weight_step(int k) {
  if (FORWARD || merged_volume == 1) return i64(k) * (W_DEEP * BYTES);
  const Channel c = channel_of(k);
  return (i64(c.channel) * W_DEEP + c.d * W_D + c.h * W_H + c.w * W_W) * BYTES;
}
/// The part of slot `s` that every thread has.
constexpr bool every_thread(int s, int slots) { return (s + 1) * THREADS <= slots; }

/// copy(j, s, address, inside, mine) for the numbers j of words [first, first + WORDS) of `chunk`, and every slot s.
template <int WORDS, class Copy>
__device__ __forceinline__ void walk_weights(WeightSlots& slots, int chunk, int first, Copy&& copy) {
#pragma unroll
  for (int j = 0; j < WORDS * PACK; ++j) {
    const int k = chunk * KC + first * PACK + j;
    const bool deep = DEPTH % KC == 0 || k < DEPTH;
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s)
      copy(j, s, slots.pointer[s] + (running ? i64(j) * (W_DEEP * BYTES) : weight_step(k)), deep && slots.inside[s],
           every_thread(s, NB * TAPS) || slots.word[s] != ~0u);
  }
  if (running)
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s) slots.pointer[s] += i64(WORDS * PACK) * (W_DEEP * BYTES);
}
/// Back to depth 0 after all chunks.
__device__ __forceinline__ void rewind(WeightSlots& slots) {
  if (running)
#pragma unroll
    for (int s = 0; s < W_SLOTS; ++s) slots.pointer[s] -= i64(CHUNKS * KC) * (W_DEEP * BYTES);
}
template <int WORDS>
__device__ __forceinline__ void store_weights(const WeightSlots& slots, int first, u32 b, const u32* raw) {
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s)
    if (every_thread(s, NB * TAPS) || slots.word[s] != ~0u)
#pragma unroll
      for (int j = 0; j < WORDS; ++j) {
        u32 word[PARTS];
        to_words<MODE>(raw + (s * WORDS + j) * PACK, word);
#pragma unroll
        for (int p = 0; p < PARTS; ++p)
          store_shared(b + slots.word[s] + 4 * (p * BPART + fragment_word(first + j, 0)), word[p]);
      }
}

/// Whether a slot's channel, with its residue, lies inside the source.
__device__ __forceinline__ bool slot_inside(const Arguments& a, const Fetch& f, int s, const Channel& c) {
  bool ok = f.inside[s];
  if (deferred_d) ok = ok && unsigned(f.d[s] + c.d) < unsigned(a.source_size[0]);
  if (deferred_h) ok = ok && unsigned(f.h[s] + c.h) < unsigned(a.source_size[1]);
  if (deferred_w) ok = ok && unsigned(f.w[s] + c.w) < unsigned(a.source_size[2]);
  return ok;
}

/// copy(j, s, address, inside, mine) for the numbers j of words [first, first + WORDS) of the chunk, and every slot s.
template <int WORDS, class Copy>
__device__ __forceinline__ void walk_source(const Arguments& a, Fetch& f, int first, Copy&& copy) {
  const i64 channel_bytes = a.source_c * BYTES;
#pragma unroll
  for (int j = 0; j < WORDS * PACK; ++j) {
    const int k = f.chunk * KC + first * PACK + j;
    const bool deep = DEPTH % KC == 0 || k < DEPTH;
    const Channel c = channel_of(k);
    const i64 step = running ? 0 : source_step(a, k);
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      copy(j, s, f.pointer[s] + step, deep && slot_inside(a, f, s, c),
           every_thread(s, X_POSITIONS) || f.word[s] != ~0u);
      if (running) f.pointer[s] += channel_bytes;
    }
  }
}

template <int PIECES>
__device__ __forceinline__ void load_piece(const Arguments& a, Fetch& f, WeightSlots& weights, int piece,
                                           Piece<PIECES>& regs) {
  typedef Piece<PIECES> P;
  if (!f.active) return;
  if constexpr (!SOURCE_LAST) {
    walk_source<P::words>(a, f, piece * P::words, [&](int j, int s, const char* p, bool inside, bool mine) {
      regs.x[(s * P::words + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
    });
  } else {
    const int tid = fresh_thread();
#pragma unroll
    for (int i = 0; i < P::items; ++i) {
      const int item = (piece * P::items + i) * THREADS + tid;
      const Spot at = spot_of(item / KW);
      const int d = distance(DIM_D, at.d, at.plane / (planes_h * planes_w)),
                h = distance(DIM_H, at.h, at.plane / planes_w % planes_h),
                w = distance(DIM_W, at.w, at.plane % planes_w);
#pragma unroll
      for (int j = 0; j < PACK; ++j) {
        const int k = f.chunk * KC + item % KW * PACK + j;
        const Channel c = channel_of(k);
        const bool ok = f.active && item < X_POSITIONS * KW && k < DEPTH && f.place.n + at.n < a.batch &&
                        unsigned(origin<0>(a, DIM_D, f.place.d) + d + c.d) < unsigned(a.source_size[0]) &&
                        unsigned(origin<1>(a, DIM_H, f.place.h) + h + c.h) < unsigned(a.source_size[1]) &&
                        unsigned(origin<2>(a, DIM_W, f.place.w) + w + c.w) < unsigned(a.source_size[2]);
        const i64 offset = at.n * a.source_n + d * a.source_d + h * a.source_h + w * a.source_w;
        regs.x[i * PACK + j] = load_or_zero<BYTES>(f.base + source_step(a, k) + offset * BYTES, ok);
      }
    }
  }
  if constexpr (!RESIDENT)
    walk_weights<P::words>(
        weights, f.chunk, piece * P::words, [&](int j, int s, const char* p, bool inside, bool mine) {
          regs.w[(s * P::words + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
        });
}

/// `x` and `b` are the shared addresses of the buffers being filled.
template <int PIECES>
__device__ __forceinline__ void store_piece(const Fetch& f, const WeightSlots& weights, int piece, u32 x, u32 b,
                                            const Piece<PIECES>& regs) {
  typedef Piece<PIECES> P;
  if (!f.active) return;
  const int tid = fresh_thread();
  if constexpr (!SOURCE_LAST) {
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s) {
      if (every_thread(s, X_POSITIONS) || f.word[s] != ~0u) {
        const u32 spot = x + f.word[s];
#pragma unroll
        for (int j = 0; j < P::words; ++j) {
          u32 word[PARTS];
          to_words<MODE>(regs.x + (s * P::words + j) * PACK, word);
#pragma unroll
          for (int p = 0; p < PARTS; ++p)
            store_shared(spot + 4 * (word_row(piece * P::words + j) + p * XPART), word[p]);
        }
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < P::items; ++i) {
      const int item = (piece * P::items + i) * THREADS + tid;
      if (item < X_POSITIONS * KW) {
        const u32 at = x + 4 * (spot_word(spot_of(item / KW)) + word_row(item % KW));
        u32 word[PARTS];
        to_words<MODE>(regs.x + i * PACK, word);
#pragma unroll
        for (int p = 0; p < PARTS; ++p) store_shared(at + 4 * p * XPART, word[p]);
      }
    }
  }
  if constexpr (!RESIDENT) store_weights<P::words>(weights, piece * P::words, b, regs.w);
}

/// Begins the copies of words [first, first + WORDS) of a chunk's weights to `b`. The second number of a pair waits in
/// the second part.
template <int WORDS>
__device__ __forceinline__ void begin_weights(WeightSlots& slots, int chunk, int first, u32 b) {
  walk_weights<WORDS>(slots, chunk, first, [&](int j, int s, const char* p, bool inside, bool mine) {
    if (mine) copy_or_zero(b + slots.word[s] + 4 * (fragment_word(first + j / PACK, 0) + j % PACK * BPART), p, inside);
  });
}

/// Begins the copies of a piece into the buffers at `x` and `b`.
template <int PIECES>
__device__ __forceinline__ void begin_piece(const Arguments& a, Fetch& f, WeightSlots& weights, int piece, u32 x,
                                            u32 b) {
  constexpr int WORDS = KW / PIECES;
  if (!f.active) return;
  walk_source<WORDS>(a, f, piece * WORDS, [&](int j, int s, const char* p, bool inside, bool mine) {
    if (mine) copy_or_zero(x + f.word[s] + 4 * (word_row(piece * WORDS + j / PACK) + j % PACK * XPART), p, inside);
  });
  if constexpr (!RESIDENT) begin_weights<WORDS>(weights, f.chunk, piece * WORDS, b);
}

__device__ __forceinline__ void convert_in_place(u32 at, int part_words) {
  u32 raw[PACK], word[PARTS];
#pragma unroll
  for (int i = 0; i < PACK; ++i) raw[i] = load_shared(at + 4 * i * part_words);
  to_words<MODE>(raw, word);
#pragma unroll
  for (int i = 0; i < PARTS; ++i) store_shared(at + 4 * i * part_words, word[i]);
}

/// Makes words of what arrived.
template <int WORDS>
__device__ __forceinline__ void finish_weights(const WeightSlots& slots, int first, u32 b) {
#pragma unroll
  for (int s = 0; s < W_SLOTS; ++s)
    if (every_thread(s, NB * TAPS) || slots.word[s] != ~0u)
#pragma unroll
      for (int j = 0; j < WORDS; ++j) convert_in_place(b + slots.word[s] + 4 * fragment_word(first + j, 0), BPART);
}

template <int PIECES>
__device__ __forceinline__ void finish_piece(const Fetch& f, const WeightSlots& weights, int piece, u32 x, u32 b) {
  constexpr int WORDS = KW / PIECES;
  if (!f.active) return;
  if constexpr (!X_RAW)
#pragma unroll
    for (int s = 0; s < X_SLOTS; ++s)
      if (every_thread(s, X_POSITIONS) || f.word[s] != ~0u)
#pragma unroll
        for (int j = 0; j < WORDS; ++j) convert_in_place(x + f.word[s] + 4 * word_row(piece * WORDS + j), XPART);
  if constexpr (!RESIDENT && !W_RAW) finish_weights<WORDS>(weights, piece * WORDS, b);
}

}  // namespace upconv::gather
