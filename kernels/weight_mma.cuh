// dw[ci, co, t] = sum over n, i of x[n, ci, i] * dy[n, co, s*i + d*t - p] on tensor cores (mma.sync, sm_80 and up).
// Host side: src/cuda/weight_mma.cpp, which writes `namespace config`.
//
// A block owns MB input channels x NB output channels x a set of taps and sums over boxes of positions i. Of each box
// it copies x as [ci][position] and dy as [co][D line][H line][W residue][W place] to shared memory. In D, H and, where
// IW == 1, in W the outputs of one residue mod the stride lie side by side: tap t at position i is dy's element at i +
// a constant. Where IW is the stride of W, rows of dy are whole and it is the element at IW*i + a constant. The copies
// of the next boxes run during the products. M = ci, N = co, K = positions: both operands are read along K, which is
// how NCHW lies. Lane 4*row + column takes, of each run of 16 words, the 4 of its column: one 16-byte load of x and a
// window of dy serve 4 K steps for every tap of a row, and a shift along W is another register of the window. Tensor
// cores truncate as they accumulate, so a chain of products ends after those 4 steps and is added up in fp32 registers.
// Pairs (position, tap) whose output is cropped meet zeros; a box that holds an infinity or a NaN masks them. Floor:
// max(bytes of x and dy, 2 * positions * ci * co * taps at the mma.sync rate).
#include "mma/weight_atoms.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_stage.cuh"
#include "ptx/dependents.cuh"
#include "ptx/weight_copy.cuh"

namespace upconv {

constexpr int threads = 256;
constexpr int per_word = 4 / element_bytes;
constexpr int quad = 4 * per_word;  ///< Positions of one 16-byte load.
constexpr int box_positions = BD * BH * BW;
constexpr int quad_steps = box_positions / (8 * quad);
/// x lies in rows of positions, 16 (mod 32) words between channels so that the 16-byte loads of eight lanes meet no
/// bank twice.
constexpr int x_pitch = (box_positions / per_word + 15) / 32 * 32 + 16;
constexpr int x_words = MB * x_pitch;
constexpr int stage_words = x_words + NB * YP;
constexpr int taps_of_block = TD * TH * TW;
constexpr int rows_of_taps = TD * TH;
static_assert(quad_steps % WK == 0 && quad_steps * 8 * quad == box_positions, "whole K steps for every warp");
static_assert(WM * WN * WK == threads / 32 && MB == WM * MT * 16 && NB == WN * NT * 8, "the warps tile the block");

struct Copier {
  static constexpr int threads = upconv::threads, even = 1;
  static constexpr bool fours = false;
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  template <int bytes>
  __device__ __forceinline__ static void copy(u32 to, const char* from, bool inside) {
    copy_async<bytes>(to, from, inside);
  }
};
struct XTile : Copier {
  static constexpr int channels = MB, all_channels = CI, lines_d = BD, lines_h = BH, span = BW, planes = 1;
  static constexpr bool last = x_last != 0;
  static constexpr int most = 16 / element_bytes;
  __device__ static int d(int line) { return line; }
  __device__ static int h(int line) { return line; }
  __device__ static int w(int position, int) { return position; }
  __device__ static bool needed(int, int) { return true; }
  __device__ static int channel_bytes(int channel) { return channel * x_pitch * 4; }
  __device__ static int place_bytes(int channel, int line, int, int position) {
    return channel_bytes(channel) + (line * BW + position) * element_bytes;
  }
};
struct YTile : Copier {
  static constexpr int channels = NB, all_channels = CO, lines_d = LD, lines_h = LH, span = SPAN, planes = PLANES;
  static constexpr bool last = y_last != 0;
  static constexpr int most = SW == IW ? 16 / element_bytes : 1;
  __device__ static int d(int line) { return SD * line + d_origin(line); }
  __device__ static int h(int line) { return SH * line + h_origin(line); }
  __device__ static int w(int position, int plane) { return SW / IW * position + plane_residue(plane); }
  __device__ static int channel_bytes(int channel) { return channel * YP * 4; }
  __device__ static int place_bytes(int channel, int line, int plane, int position) {
    return channel_bytes(channel) + (line * (PLANES * SPAN) + plane * SPAN + position) * element_bytes;
  }
  __device__ static bool needed(int position, int plane) { return PLANES == 1 || position < plane_needed(plane); }
};

typedef float Sums[taps_of_block][NT][MT][4];

constexpr int k_steps = mode == 1 ? 2 : 4;  ///< MMA steps of a quad.

/// The 32-bit word of a window that holds element `at` (and, where a word is a pair, element `at` + IW).
template <int Words>
__device__ __forceinline__ u32 window_word(const u32 (&v)[Words], int at) {
  if (element == 0) return v[at];
  if (IW == 1) return at % 2 == 0 ? v[at / 2] : __funnelshift_r(v[at / 2], v[at / 2 + 1], 16);
  const int next = at + IW;
  return __byte_perm(v[at / 2], v[next / 2], (at % 2 ? 0x32 : 0x10) | (next % 2 ? 0x7600 : 0x5400));
}

/// Whether this thread's share of a stage holds an infinity or a NaN: words whose exponent is all ones.
__device__ __forceinline__ bool not_finite(u32 stage) {
  constexpr u32 exponent = element == 0 ? 0x7f800000u : element == 1 ? 0x7c007c00u : 0x7f807f80u;
  constexpr u32 one = element == 0 ? 0x00800000u : element == 1 ? 0x04000400u : 0x00800080u;
  u32 carried = 0;
#pragma unroll 4
  for (int i = threadIdx.x * 4; i < stage_words; i += threads * 4) {
    u32 v[4];
    load_quad(v, stage + i * 4);
#pragma unroll
    for (int j = 0; j < 4; ++j) carried |= (v[j] & exponent) + one;
  }
  return (carried & (element == 0 ? 0x80000000u : 0x80008000u)) != 0;
}

/// Every bit a copy of bit `bit`.
__device__ __forceinline__ u32 all_or_none(u32 bits, int bit) {
  return static_cast<u32>(static_cast<int>(bits << (31 - bit)) >> 31);
}

/// All products of one box into `sums`.
template <bool Masked>
__device__ __forceinline__ void multiply(Sums& sums, u32 xs, u32 ys, const Box& box, const Shift& c,
                                         const WeightParams& p) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  const int wm = warp % WM, wn = warp / WM % WN, wk = warp / (WM * WN);
  const u32 xa = xs + ((wm * MT * 16 + row) * x_pitch + column * 4) * 4;
  const u32 ya = ys + (wn * NT * 8 + row) * YP * 4;
  constexpr int line_quads = BW / quad, rows_and_planes = rows_of_taps * PLANES;
  // Fragments are loaded one use ahead: x for the next run of words, dy for the next row of taps.
  u32 next_a[MT][4][4];  // [tile][fragment register][word]
  u32 next_b[NT][2][WQ * 4], yq[2];
  const auto load_a = [&](int q) {
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        load_quad(next_a[m][r], xa + (m * 16 + r % 2 * 8) * x_pitch * 4 + q * 128 + r / 2 * 64);
  };
  const auto place_b = [&](int q) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int index = q * 8 + half * 4 + column;
      const int qw = index % line_quads, line = index / line_quads, lh = line % BH, ld = line / BH;
      yq[half] = ya + ((ld * LH + lh) * (PLANES * SPAN) + qw * quad * IW) * element_bytes;
    }
  };
  const auto load_b = [&](int row_and_plane) {
    const int offset = (row_offset(row_and_plane / PLANES) + row_and_plane % PLANES * SPAN) * element_bytes;
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int i = 0; i < WQ; ++i) {
          u32 v[4];
          load_quad(v, yq[half] + (n * 8 * YP + i * 4) * 4 + offset);
#pragma unroll
          for (int j = 0; j < 4; ++j) next_b[n][half][i * 4 + j] = v[j];
        }
  };
  load_a(wk);
  place_b(wk);
  load_b(0);
#pragma unroll 1
  for (int q = wk; q < p.quad_steps; q += WK) {
    const int next_q = q + WK < quad_steps ? q + WK : wk;
    u32 rows_valid[2], columns_valid[2][(TW * quad + 31) / 32];  // bits: (position, tap) that meet an output
    if (Masked)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int index = q * 8 + half * 4 + column;
        const int qw = index % line_quads, line = index / line_quads, lh = line % BH, ld = line / BH;
        const int d = box.d * BD + ld, h = box.h * BH + lh, w = box.w * BW + qw * quad;
        rows_valid[half] = 0;
        if (d < p.in_d && h < p.in_h)
#pragma unroll
          for (int r = 0; r < rows_of_taps; ++r)
            if (static_cast<u32>(SD * d + c.d + DD * (r / TH)) < static_cast<u32>(p.out_d) &&
                static_cast<u32>(SH * h + c.h + DH * (r % TH)) < static_cast<u32>(p.out_h))
              rows_valid[half] |= 1u << r;
#pragma unroll
        for (int i = 0; i < (TW * quad + 31) / 32; ++i) columns_valid[half][i] = 0;
#pragma unroll
        for (int i = 0; i < TW * quad; ++i)
          if (w + i % quad < p.in_w &&
              static_cast<u32>(SW * (w + i % quad) + c.w + DW * (i / quad)) < static_cast<u32>(p.out_w))
            columns_valid[half][i / 32] |= 1u << (i % 32);
      }
    u32 a[MT][4][4];  // [tile][word][fragment register]
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const u32(&v)[4] = next_a[m][r];
        if (mode == 1) {  // words 0, 1: the high halves of both steps; 2, 3: the rests
          const float v0 = __uint_as_float(v[0]), v1 = __uint_as_float(v[1]);
          const float v2 = __uint_as_float(v[2]), v3 = __uint_as_float(v[3]);
          a[m][0][r] = pack_bf16(v0, v1), a[m][1][r] = pack_bf16(v2, v3);
          a[m][2][r] = pack_rest(v0, v1, a[m][0][r]), a[m][3][r] = pack_rest(v2, v3, a[m][1][r]);
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[m][i][r] = mode == 0 ? round_tf32(v[i]) : v[i];
        }
      }
#pragma unroll
    for (int t_row = 0; t_row < rows_of_taps; ++t_row) {
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane) {
        float chain[PLANE_TAPS][NT][MT][4];
        u32 b[NT][2][WQ * 4];
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int i = 0; i < WQ * 4; ++i)
              b[n][half][i] = mode == 0 ? round_tf32(next_b[n][half][i]) : next_b[n][half][i];
        const int use = t_row * PLANES + plane;
        if (use + 1 == rows_and_planes) place_b(next_q);
        load_b(use + 1 == rows_and_planes ? 0 : use + 1);
        if (use == 0) load_a(next_q);
#pragma unroll
        for (int step = 0; step < k_steps; ++step) {
#pragma unroll
          for (int k = 0; k < PLANE_TAPS; ++k) {
            if (k >= plane_taps(plane)) continue;
            const int tw = plane_tap(plane, k);
            u32 keep[2] = {~0u, ~0u};
            if (Masked)
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                constexpr int positions = mode == 0 || mode == 2 ? 1 : 2;
                const int bit = tw * quad + step * positions;
                keep[half] = all_or_none(columns_valid[half][bit / 32], bit % 32);
                if (positions == 2)
                  keep[half] = (keep[half] & 0xffffu) |
                               (all_or_none(columns_valid[half][(bit + 1) / 32], (bit + 1) % 32) & 0xffff0000u);
                keep[half] &= all_or_none(rows_valid[half], t_row);
              }
            const Pair keep_b = pair_of(keep[0], keep[1]);
            const auto fragment = [&](u32(&to)[4], int m, int word) {
#pragma unroll
              for (int r = 0; r < 4; ++r) to[r] = Masked ? a[m][word][r] & keep[r / 2] : a[m][word][r];
            };
            const int at = plane_shift(plane, k);
#pragma unroll
            for (int n = 0; n < NT; ++n) {
              Pair high, rest;
              if (mode == 0 || mode == 3) {
                const int first = at + IW * (mode == 0 ? step : 2 * step);
                high = pair_of(window_word(b[n][0], first), window_word(b[n][1], first));
              } else if (mode == 1) {
                u32 h[2], r[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                  const float v0 = __uint_as_float(b[n][half][at + IW * 2 * step]);
                  const float v1 = __uint_as_float(b[n][half][at + IW * (2 * step + 1)]);
                  h[half] = pack_bf16(v0, v1);
                  r[half] = pack_rest(v0, v1, h[half]);
                }
                high = pair_of(h[0], h[1]), rest = pair_of(r[0], r[1]);
              } else {
                u32 h[2], r[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) split_tf32(b[n][half][at + IW * step], h[half], r[half]);
                high = pair_of(h[0], h[1]), rest = pair_of(r[0], r[1]);
              }
              if (Masked) {
                high &= keep_b;
                if (mode == 1 || mode == 2) rest &= keep_b;
              }
#pragma unroll
              for (int m = 0; m < MT; ++m) {
                u32 af[4];
                fragment(af, m, step);
                if (mode == 0) mma_tf32(chain[k][n][m], af, high, step == 0);
                if (mode == 3 && element == 1) mma_f16(chain[k][n][m], af, high, step == 0);
                if (mode == 3 && element == 2) mma_bf16(chain[k][n][m], af, high, step == 0);
                if (mode == 1) {
                  u32 ar[4];
                  fragment(ar, m, step + 2);
                  mma_bf16(chain[k][n][m], ar, high, step == 0);
                  mma_bf16(chain[k][n][m], af, rest, false);
                  mma_bf16(chain[k][n][m], af, high, false);
                }
                if (mode == 2) {
                  u32 ah[4], ar[4];
#pragma unroll
                  for (int r = 0; r < 4; ++r) split_tf32(af[r], ah[r], ar[r]);
                  mma_tf32(chain[k][n][m], ar, high, step == 0);
                  mma_tf32(chain[k][n][m], ah, rest, false);
                  mma_tf32(chain[k][n][m], ah, high, false);
                }
              }
            }
          }
        }
#pragma unroll
        for (int k = 0; k < PLANE_TAPS; ++k) {
          if (k >= plane_taps(plane)) continue;
          const int t = t_row * TW + plane_tap(plane, k);
#pragma unroll
          for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int m = 0; m < MT; ++m)
#pragma unroll
              for (int i = 0; i < 4; ++i) sums[t][n][m][i] += chain[k][n][m][i];
        }
      }
    }
  }
}

/// Index in the shared tile of sums, in dw's own order.
__device__ __forceinline__ int tile_index(int m, int n, int t) {
  return w_last ? (m * taps_of_block + t) * NB + n : (m * NB + n) * taps_of_block + t;
}

extern "C" __global__ void __launch_bounds__(threads, OCCUPANCY) weight_mma(const WeightParams p) {
  let_next_begin();
  extern __shared__ __align__(128) char shared[];
  const u32 stages = shared_address(shared);
  constexpr int tiles_m = (CI + MB - 1) / MB, tiles_n = (CO + NB - 1) / NB;
  u32 id = blockIdx.x;
  const auto take = [&](u32 size) {
    const u32 r = id % size;
    id /= size;
    return static_cast<int>(r);
  };
  const int ci0 = take(tiles_m) * MB, co0 = take(tiles_n) * NB;
  const int tw0 = take(GW) * TW, th0 = take(GH) * TH, td0 = take(GD) * TD, group = take(GROUPS);
  const i64 split = id;
  const Shift c = {DD * td0 - PD, DH * th0 - PH, DW * tw0 - PW};
  const i64 x_channels = (static_cast<i64>(group) * CI + ci0) * p.xs.c;
  const i64 y_channels = (static_cast<i64>(group) * CO + co0) * p.ys.c;

  const auto load = [&](const Box& b, int stage_index) {
    const u32 to = stages + stage_index * (stage_words * 4);
    stage<XTile>(p.x_vector, to, p.x, x_channels + b.n * p.xs.n, ci0, p.xs, b.d * BD, b.h * BH, b.w * BW, p.in_d,
                 p.in_h, p.in_w);
    stage<YTile>(p.y_vector, to + x_words * 4, p.dy, y_channels + b.n * p.ys.n, co0, p.ys, SD * b.d * BD + c.d,
                 SH * b.h * BH + c.h, SW * b.w * BW + c.w - LEAD, p.out_d, p.out_h, p.out_w);
  };

  Sums sums;
#pragma unroll
  for (int t = 0; t < taps_of_block; ++t)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[t][n][m][i] = 0.0f;

          // What no copy writes is read by not_finite() alone.
#pragma unroll 4
  for (int i = threadIdx.x * 4; i < STAGES * stage_words; i += threads * 4) store_zero_quad(stages + i * 4);
  __syncthreads();
  after_previous();

  Box ahead, now, step;
  ahead.start(split, p);
  step.start(p.splits, p);
  now = ahead;
  i64 loaded = split;
  int load_stage = 0, use_stage = 0;
  const auto load_next = [&] {
    if (loaded < p.boxes) {
      load(ahead, load_stage);
      ahead.advance(step, p);
      loaded += p.splits;
    }
    copies_commit();
    load_stage = load_stage + 1 == STAGES ? 0 : load_stage + 1;
  };
#pragma unroll 1
  for (int i = 0; i < STAGES - 1; ++i) load_next();
  // With a stage to spare, half of the warps copies before its products and half after: on every scheduler one warp
  // keeps the tensor core busy while the other computes addresses.
  const int copy_turn = STAGES > 2 && threadIdx.x >= threads / 2 ? 1 : 0;
#pragma unroll 1
  for (i64 b = split; b < p.boxes; b += p.splits) {
    copies_wait<STAGES - 2>();
    __syncthreads();
#pragma unroll 1
    for (int turn = 0; turn < 2; ++turn) {
      if (turn == copy_turn) {
        load_next();
      } else {
        const u32 xs = stages + use_stage * (stage_words * 4), ys = xs + x_words * 4;
        // Where every operand is finite, the zeros outside the tensors make their products zero by themselves.
        if (interior(now, c, p) || !__syncthreads_or(not_finite(xs)))
          multiply<false>(sums, xs, ys, now, c, p);
        else
          multiply<true>(sums, xs, ys, now, c, p);
      }
    }
    now.advance(step, p);
    use_stage = use_stage + 1 == STAGES ? 0 : use_stage + 1;
  }
  copies_wait<0>();
  __syncthreads();

  // The warps that shared the positions add up in turn, then the tile leaves in dw's order.
  float* const tile = reinterpret_cast<float*>(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int m0 = warp % WM * MT * 16 + lane / 4, n0 = warp / WM % WN * NT * 8 + lane % 4 * 2, wk = warp / (WM * WN);
#pragma unroll 1
  for (int turn = 0; turn < WK; ++turn) {
    if (turn == wk)
#pragma unroll
      for (int t = 0; t < taps_of_block; ++t)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              float& to = tile[tile_index(m0 + m * 16 + i / 2 * 8, n0 + n * 8 + i % 2, t)];
              to = turn == 0 ? sums[t][n][m][i] : to + sums[t][n][m][i];
            }
    __syncthreads();
  }
  if constexpr (!w_last && taps_of_block == KD * KH * KW) {  // whole runs of (co, tap): a warp a channel
    constexpr int run = NB * taps_of_block;
    const int length = (CO - co0 < NB ? CO - co0 : NB) * taps_of_block;
#pragma unroll 1
    for (int m = warp; m < MB && ci0 + m < CI; m += threads / 32) {
      const i64 at = (static_cast<i64>(group) * CI + ci0 + m) * W_CI + co0 * W_CO;
#pragma unroll 4
      for (int e = lane; e < length; e += 32) {
        if (p.partial)
          static_cast<float*>(p.out)[split * p.dw_size + at + e] = tile[m * run + e];
        else
          static_cast<Element*>(p.out)[at + e] = from_float<Element>(tile[m * run + e]);
      }
    }
  } else {
#pragma unroll 4
    for (int e = threadIdx.x; e < MB * NB * taps_of_block; e += threads) {
      int m, n, t;
      if (w_last)
        n = e % NB, t = e / NB % taps_of_block, m = e / (NB * taps_of_block);
      else
        t = e % taps_of_block, n = e / taps_of_block % NB, m = e / (NB * taps_of_block);
      const int tw = tw0 + t % TW, th = th0 + t / TW % TH, td = td0 + t / (TW * TH);
      if (ci0 + m >= CI || co0 + n >= CO || tw >= KW || th >= KH || td >= KD) continue;
      const i64 at =
          (static_cast<i64>(group) * CI + ci0 + m) * W_CI + (co0 + n) * W_CO + td * W_D + th * W_H + tw * W_W;
      if (p.partial)
        static_cast<float*>(p.out)[split * p.dw_size + at] = tile[e];
      else
        static_cast<Element*>(p.out)[at] = from_float<Element>(tile[e]);
    }
  }
}

}  // namespace upconv
