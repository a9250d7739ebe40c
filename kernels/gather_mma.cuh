// forward and dx of dense and grouped problems on tensor cores: a gather of shifted source positions times weights.
//   out[n, column, position] = sum over entries (plane, reach) and depth k of source[n, k, position shifted] * w
// One block computes a tile of positions x NB columns for all its phases. Shared memory holds weights (all of the
// depth, or two chunks), two chunks of source words, and what split depth needs to be added up. See
// mma/gather_shape.cuh for the tile, mma/operand.cuh for the arithmetic. Floor: bytes of source and output once, or the
// products.
#pragma once

#include "mma/gather_shape.cuh"
#include "mma/gather_stage.cuh"
#include "mma/gather_store.cuh"
#include "ptx/dependents.cuh"

namespace upconv::gather {

// Dimensions whose taps are looped at run time (bit 0: D, 1: H, 2: W); all others are written out.
constexpr bool looped(int index) { return LOOP >> index & 1; }
constexpr int inner_entries(Dimension d, int index) { return looped(index) ? 1 : entries(d, FORWARD); }
constexpr int entries_d = inner_entries(DIM_D, 0), entries_h = inner_entries(DIM_H, 1),
              entries_w = inner_entries(DIM_W, 2);
constexpr int loops_d = looped(0) ? taps_d : 1, loops_h = looped(1) ? taps_h : 1, loops_w = looped(2) ? taps_w : 1;
constexpr int loop_words(Dimension d, int pitch) { return taps(d) > 1 ? reach(d, 1) * pitch * (FORWARD ? -1 : 1) : 0; }

constexpr int UNITS = entries_d * entries_h * entries_w * KSW;  // unrolled (entry, k-step) pairs
constexpr int LOOPS = loops_d * loops_h * loops_w;
constexpr int PIECES = ASYNC ? async_pieces(UNITS * LOOPS) : piece_count(UNITS * LOOPS);
constexpr int SHARES = (PIECES + LOOPS - 1) / LOOPS;  // pieces brought in during one run of the written-out units

constexpr int SLOTS = LOOPS == 1                                          ? least(UNITS, 2 * PIECES)
                      : UNITS * LOOPS >= 2 * PIECES && LOOPS < 2 * PIECES ? UNITS
                                                                          : 1;

/// Words from a position to what the i-th entry of a dimension reads of it.
constexpr int entry_shift(Dimension d, int index, int e) {
  const int r = looped(index) ? 0 : reach(d, entry_first(d, FORWARD, e));
  return FORWARD ? span(d) - r : r;
}
constexpr int entry_plane(Dimension d, int e) { return FORWARD ? 0 : residues_below(d, residue(d, e)); }

/// One entry, one k-step: the fragments of A once, for every (phase, tap) pair that reads them.
/// `x` is this lane's shared address in the source chunk, `b` in the weights.
template <int U>
__device__ __forceinline__ void multiply(u32 x, u32 b, Accumulators& acc) {
  constexpr int ks = U % KSW, e = U / KSW, ew = e % entries_w, eh = e / entries_w % entries_h,
                ed = e / (entries_w * entries_h);
  constexpr int shift =
      entry_shift(DIM_D, 0, ed) * pitch_d + entry_shift(DIM_H, 1, eh) * pitch_h + entry_shift(DIM_W, 2, ew) +
      ((looped(0) ? 0 : entry_plane(DIM_D, ed)) * planes_h * planes_w +
       (looped(1) ? 0 : entry_plane(DIM_H, eh)) * planes_w + (looped(2) ? 0 : entry_plane(DIM_W, ew))) *
          pitch_plane +
      ks * 8 * KPITCH;
  u32 a[PARTS][MT][4];
#pragma unroll
  for (int p = 0; p < PARTS; ++p)
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a[p][mt][i] =
            load_shared(x + 4 * (shift + p * XPART + i / 2 * 4 * KPITCH + position_word(row_position(mt, i % 2, 0))));
  if constexpr (X_RAW)
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[0][mt][i] = round_tf32(a[0][mt][i]);

  constexpr int list_d = looped(0) ? 1 : entry_size(DIM_D, FORWARD, ed),
                list_h = looped(1) ? 1 : entry_size(DIM_H, FORWARD, eh),
                list_w = looped(2) ? 1 : entry_size(DIM_W, FORWARD, ew);
  static_for<0, list_d * list_h * list_w>([&](auto index) {
    constexpr int l = decltype(index)::value;
    constexpr int td = (looped(0) ? 0 : entry_first(DIM_D, FORWARD, ed)) + l / (list_h * list_w),
                  th = (looped(1) ? 0 : entry_first(DIM_H, FORWARD, eh)) + l / list_w % list_h,
                  tw = (looped(2) ? 0 : entry_first(DIM_W, FORWARD, ew)) + l % list_w;
    constexpr int phase =
        !FORWARD ? 0
                 : (residues_below(DIM_D, residue(DIM_D, td)) * phases_h + residues_below(DIM_H, residue(DIM_H, th))) *
                           phases_w +
                       residues_below(DIM_W, residue(DIM_W, tw));
    const u32 tap = b + 4 * (((td * taps_h + th) * taps_w + tw) * TAP_PITCH + ks * (NB / 8) * NTILE_PITCH);
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      if constexpr (MODE == Mode::tf32x3) __syncwarp();  // else the assembler runs ahead with loads until it spills
      u32 w[PARTS][2];
#pragma unroll
      for (int p = 0; p < PARTS; ++p) load_shared2(tap + 4 * (p * BPART + nt * NTILE_PITCH), w[p][0], w[p][1]);
      if constexpr (W_RAW) {
        w[0][0] = round_tf32(w[0][0]);
        w[0][1] = round_tf32(w[0][1]);
      }
      constexpr Products P = products_of(MODE);
      if constexpr (MODE == Mode::tf32x3) {  // few truncated sums in a row, then a rounded one
#pragma unroll
        for (int mt = 0; mt < MT; ++mt) {
          float sum[4] = {0, 0, 0, 0};
          mma<P>(sum, a[PARTS - 1][mt], w[0][0], w[0][1]);
          mma<P>(sum, a[0][mt], w[PARTS - 1][0], w[PARTS - 1][1]);
          mma<P>(sum, a[0][mt], w[0][0], w[0][1]);
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[phase][mt][nt][i] += sum[i];
        }
      } else {
        if constexpr (MODE == Mode::bf16x3) {
#pragma unroll
          for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[PARTS - 1][mt], w[0][0], w[0][1]);
#pragma unroll
          for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[0][mt], w[PARTS - 1][0], w[PARTS - 1][1]);
        }
#pragma unroll
        for (int mt = 0; mt < MT; ++mt) mma<P>(acc[phase][mt][nt], a[0][mt], w[0][0], w[0][1]);
      }
    }
  });
}

/// All products of a chunk, while the next one is brought in.
__device__ __forceinline__ void work(const Arguments& a, Fetch& next, WeightSlots& weights, u32 x, u32 b, u32 next_x,
                                     u32 next_b, Accumulators& acc) {
  Piece<PIECES> regs;
  int first = 0;  // the slot: run of the written-out units, times SHARES
#pragma unroll 1
  for (int d = 0; d < loops_d; ++d)
#pragma unroll 1
    for (int h = 0; h < loops_h; ++h)
#pragma unroll 1
      for (int w = 0; w < loops_w; ++w, first += SHARES) {
        const u32 xs =
            x + 4 * (d * loop_words(DIM_D, pitch_d) + h * loop_words(DIM_H, pitch_h) + w * loop_words(DIM_W, 1));
        const u32 bs = b + 4 * ((d * taps_h + h) * taps_w + w) * TAP_PITCH;
        if constexpr (ASYNC) {
          // Copies begin in the first slots and are finished in the last.
          static_for<0, SLOTS>([&](auto index) {
            constexpr int slot = decltype(index)::value;
            const int now = first / SHARES * SLOTS + slot, finish = LOOPS * SLOTS - PIECES;
            if (now < PIECES) begin_piece<PIECES>(a, next, weights, now, next_x, next_b);
            static_for<slot * UNITS / SLOTS, (slot + 1) * UNITS / SLOTS>(
                [&](auto unit) { multiply<decltype(unit)::value>(xs, bs, acc); });
            if constexpr (X_RAW && (RESIDENT || W_RAW)) {
              if (now == LOOPS * SLOTS - 1) wait_copies();
            } else if (now >= finish) {
              if (now == finish) wait_copies();
              finish_piece<PIECES>(next, weights, now - finish, next_x, next_b);
            }
          });
          continue;
        }
        static_for<0, SHARES>([&](auto index) {
          constexpr int share = decltype(index)::value;
          if (LOOPS == 1 || first + share < PIECES) load_piece<PIECES>(a, next, weights, first + share, regs);
          static_for<share * UNITS / SHARES, (share + 1) * UNITS / SHARES>(
              [&](auto unit) { multiply<decltype(unit)::value>(xs, bs, acc); });
          if (LOOPS == 1 || first + share < PIECES)
            store_piece<PIECES>(next, weights, first + share, next_x, next_b, regs);
        });
      }
}

}  // namespace upconv::gather

extern "C" __global__ void __launch_bounds__(upconv::gather::THREADS, config::BLOCKS)
    gather_mma(const upconv::Arguments a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::gather;
  let_next_begin();
  extern __shared__ __align__(16) u32 memory[];
  const u32 weights = shared_address(memory), sources = weights + 4 * B_WORDS;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M, warp_k = warp / (WARPS_N * WARPS_M);

  const int all_columns = a.groups * a.column_blocks;
  const int group = blockIdx.x % all_columns / a.column_blocks, column0 = blockIdx.x % a.column_blocks * NB;
  const int tiles = a.tiles_n * a.tiles_d * a.tiles_h * a.tiles_w, step = gridDim.x / all_columns;
  int tile = blockIdx.x / all_columns;

  // This lane's place in a source chunk and in the weights.
  const int position0 = warp_m * MT * 16, kq = lane % 4;
  const int lane_position = J == 4 ? lane / 4 * 4 : J == 2 ? lane / 4 * 2 : lane / 4;
  const u32 lane_x = 4 * (kq * KPITCH + SKEW * (kq >> 1) + position_word(lane_position) + position_word(position0) +
                          warp_k * KSW * 8 * KPITCH);
  const u32 lane_b = 4 * ((warp_k * KSW * (NB / 8) + warp_n * NT) * NTILE_PITCH + lane * 2);

  Fetch fetch;
  fetch.active = true;
  fetch.chunk = 0;
  find_slots(fetch);
  aim(a, fetch, group, tile);
  WeightSlots slots = weight_slots(a, group, column0);
  after_previous();
  if (tile >= tiles) return;
  if constexpr (RESIDENT && BYTES == 4) {
#pragma unroll 1
    for (int word = 0; word < CHUNKS * KW; ++word)
      begin_weights<1>(slots, word / KW, word % KW, weights + 4 * (word / KW) * BBUFFER);
    wait_copies();
#pragma unroll 1
    for (int word = 0; word < CHUNKS * KW; ++word)
      finish_weights<1>(slots, word % KW, weights + 4 * (word / KW) * BBUFFER);
  } else if constexpr (RESIDENT) {
    constexpr int WORDS = W_SLOTS * PACK > 8 ? 1 : W_SLOTS * PACK > 4 ? 2 : 4;
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; ++chunk)
#pragma unroll 1
      for (int word = 0; word < KW; word += WORDS) {
        u32 raw[W_SLOTS * WORDS * PACK];
#pragma unroll
        for (int i = 0; i < W_SLOTS * WORDS * PACK; ++i) raw[i] = 0;
        walk_weights<WORDS>(slots, chunk, word, [&](int j, int s, const char* p, bool inside, bool mine) {
          raw[(s * WORDS + j / PACK) * PACK + j % PACK] = load_or_zero<BYTES>(p, inside && mine);
        });
        store_weights<WORDS>(slots, word, weights + 4 * chunk * BBUFFER, raw);
      }
  }
  if constexpr (ASYNC) {
#pragma unroll 1
    for (int word = 0; word < KW; ++word) begin_piece<KW>(a, fetch, slots, word, sources, weights);
    wait_copies();
#pragma unroll 1
    for (int word = 0; word < KW; ++word) finish_piece<KW>(fetch, slots, word, sources, weights);
  } else
#pragma unroll 1
    for (int piece = 0; piece < PIECES; ++piece) {
      Piece<PIECES> regs;
      load_piece<PIECES>(a, fetch, slots, piece, regs);
      store_piece<PIECES>(fetch, slots, piece, sources, weights, regs);
    }
  block_barrier();

  int buffer = 0;
#pragma unroll 1
  for (; tile < tiles; tile += step) {
    const Place place = fetch.place;
    Accumulators acc;
#pragma unroll
    for (int p = 0; p < PHASES; ++p)
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[p][m][n][i] = 0.0f;
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      fetch.chunk = chunk + 1;
      if (fetch.chunk == CHUNKS) {
        fetch.chunk = 0;
        if (!RESIDENT) rewind(slots);
        fetch.active = tile + step < tiles;
        if (fetch.active) aim(a, fetch, group, tile + step);
      }
      work(a, fetch, slots, sources + 4 * buffer * XBUFFER + lane_x,
           weights + 4 * (RESIDENT ? chunk : buffer) * BBUFFER + lane_b, sources + 4 * (buffer ^ 1) * XBUFFER,
           weights + 4 * (buffer ^ 1) * BBUFFER, acc);
      block_barrier();
      buffer ^= 1;
    }
    if constexpr (WARPS_K > 1) {  // add up the warps' shares of the depth, in order
      const u32 sums = sources + 4 * 2 * XBUFFER;
      constexpr int SHARE = PHASES * MT * NT * 4;
      const u32 mine = sums + 4 * (((warp_m * WARPS_N + warp_n) * SHARE) * 32 + lane);
      constexpr int STRIDE = 4 * WARPS_M * WARPS_N * SHARE * 32;
      float* v = &acc[0][0][0][0];
      if (warp_k > 0)
#pragma unroll
        for (int i = 0; i < SHARE; ++i) store_shared(mine + (warp_k - 1) * STRIDE + 4 * 32 * i, __float_as_uint(v[i]));
      block_barrier();
      if (warp_k == 0) {
#pragma unroll
        for (int i = 0; i < SHARE; ++i)
#pragma unroll
          for (int k = 0; k < WARPS_K - 1; ++k) v[i] += __uint_as_float(load_shared(mine + k * STRIDE + 4 * 32 * i));
      }
    }
    if (warp_k == 0) {
      if constexpr (STAGED)
        store_tile_staged(a, operands, place, group, position0, column0 + warp_n * NT * 8,
                          sources + 4 * (2 * XBUFFER + REDUCE_WORDS + warp * STAGE_WORDS), acc);
      else
        store_tile(a, operands, place, group, position0, column0 + warp_n * NT * 8, acc);
    }
    if constexpr (WARPS_K > 1) block_barrier();
  }
}
