// cuda_residues: forward where every output phase has the same number of taps (kernel a multiple of the stride, no
// dilation) and few output channels, on the tensor cores: phases and produced channels together are one matrix side.
//
// With o = S*q + r - (P mod S) and t = r + S*j in every dimension,
//   y[n, co, o] = sum over ci and j of w[ci, co, r + S*j] * x[n, ci, q + P/S - j],
// a product of A (rows m = (co, r), columns k = (ci, j)) and B (rows k, columns positions q). Every pair of a residue
// and an offset is a tap, so nothing is multiplied that the definition does not pair. C = y's tile, [m][q].
//
// A block makes MB rows x NB = QH*QW positions. KR rows of 32-bit words of x (with its halo) and of w lie in shared
// memory per stage, two stages: fp32 rounded to TF32 when it arrives (and its remainder, for three products), or
// pairs of channels of fp16 or bf16. Rows are 8 words apart modulo 32, so fragment reads are free of bank conflicts.
// WM x WN x WK warps share the tile; those along K add up in order at the end, when the tile passes through shared
// memory and leaves line by line, residues interleaved.
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

template <int dtype>
struct ElementOf {
  typedef float T;
};
template <>
struct ElementOf<1> {
  typedef f16 T;
};
template <>
struct ElementOf<2> {
  typedef bf16 T;
};
typedef ElementOf<config::DTYPE>::T Element;

/// What a launch passes by value; the host's struct Shape of residues.cpp mirrors it.
struct ResidueShape {
  int in_d, in_h, in_w;
  int out_d, out_h, out_w;
  int tiles_d, tiles_h, tiles_w;  ///< of positions, a sample
  int groups;
};

using config::CI;
using config::MB;
using config::MT;
using config::NT;
using config::QH;
using config::QW;
using config::THREADS;
constexpr bool HALF = config::DTYPE != 0;
constexpr int PLANES = config::PRODUCTS == 3 ? 2 : 1;  ///< high and low parts
constexpr int JD = config::JD, JH = config::JH, JW = config::JW, J = JD * JH * JW;
constexpr int M = config::CO * config::SD * config::SH * config::SW;
constexpr int NB = QH * QW;
constexpr int KR = 8 * config::WK;        ///< rows of words a stage
constexpr int STEP = HALF ? 2 * KR : KR;  ///< channels a stage
constexpr int XH = QH + JH - 1, XW = QW + JW - 1, XPOS = JD * XH * XW;
constexpr int XP = (XPOS + 23) / 32 * 32 + 8;  ///< pitch of x rows, 8 modulo 32
constexpr int MP = MB + 8;                     ///< pitch of w rows
static_assert(XP >= XPOS && XP % 32 == 8, "x rows need their pitch");
constexpr int XWORDS = KR * XP, WWORDS = J * KR * MP;
constexpr int STAGE = PLANES * (XWORDS + WWORDS);
constexpr int XI = (XWORDS + THREADS - 1) / THREADS;
constexpr int WI = (J * KR * MB + THREADS - 1) / THREADS;
constexpr int CP = NB + config::C_PAD;  ///< pitch of the tile on its way out
static_assert(THREADS == 32 * config::WM * config::WN * config::WK, "one thread a lane of every warp");
static_assert(MB == 16 * MT * config::WM && NB == 8 * NT * config::WN, "the warps cover the tile");
static_assert(THREADS % MB == 0, "a thread loads weights of one row of A");
static_assert(XI <= 32, "one bit a loaded word in a mask");

__device__ __forceinline__ u32 load_word(const float* at, u32 ok) {
  u32 r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.b32 %0, 0;\n@p ld.global.b32 %0, [%1];\n}"
      : "=r"(r)
      : "l"(at), "r"(ok));
  return r;
}
template <class T>
__device__ __forceinline__ u32 load_word(const T* at, u32 ok) {
  u16 r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.b16 %0, 0;\n@p ld.global.b16 %0, [%1];\n}"
      : "=h"(r)
      : "l"(at), "r"(ok));
  return r;
}

/// To TF32, nearest even.
__device__ __forceinline__ u32 round_tf32(u32 bits) {
#if __CUDA_ARCH__ >= 900
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
  return r;
#else
  return (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
#endif
}

/// Puts one arrived word where the fragments will read it.
__device__ __forceinline__ void put(u32* shared, int at, int plane_pitch, u32 word) {
  if constexpr (HALF) {
    shared[at] = word;
  } else {
    const u32 high = round_tf32(word);
    shared[at] = high;
    if constexpr (PLANES == 2) {
      const float h = __uint_as_float(high), low = __uint_as_float(word) - h;
      shared[at + plane_pitch] = (high & 0x7f800000u) == 0x7f800000u ? 0u : round_tf32(__float_as_uint(low));
    }
  }
}

struct A {
  u32 v[4];
};
struct B {
  u32 v[2];
};

__device__ __forceinline__ void multiply(float (&c)[4], const A& a, const B& b) {
  if constexpr (config::DTYPE == 0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[0]), "r"(b.v[1]));
  } else if constexpr (config::DTYPE == 1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[0]), "r"(b.v[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[0]), "r"(b.v[1]));
  }
}

/// The words of one stage on their way from memory.
struct Arriving {
  u32 x[XI], w[WI];
};

/// What a thread loads: fixed words of x's rows, and one row of A.
struct Source {
  const Element* x;  ///< this sample's and group's first channel
  const Element* w;  ///< this thread's row of A, first channel, first tap
  int x_offset[XI];  ///< of each word, from x
  u32 x_mask;        ///< which of them exist
  bool w_exists;
  i64 x_channel;  ///< elements between channels of x
};

/// Row of words and offset of a thread's i-th weight: constants as far as the tile allows.
constexpr int TOGETHER = THREADS / MB;  ///< (offset, row) pairs that the block loads at once
static_assert(KR % TOGETHER == 0 || TOGETHER % KR == 0, "pairs come in whole rows or whole offsets");
__device__ __forceinline__ int weight_channel(int i) {
  if constexpr (TOGETHER < KR) return threadIdx.x / MB + i % (KR / TOGETHER) * TOGETHER;
  return threadIdx.x / MB % KR;
}
__device__ __forceinline__ int weight_offset(int i) {
  if constexpr (TOGETHER < KR) return i / (KR / TOGETHER);
  return threadIdx.x / MB / KR + i * (TOGETHER / KR);
}

__device__ __forceinline__ void load_stage(Arriving& a, const Source& s, int ci) {
  const Element* x = s.x + ci * s.x_channel;
  const Element* w = s.w + static_cast<i64>(ci) * config::W_IN;
  const bool whole = ci + STEP <= CI;
#pragma unroll
  for (int i = 0; i < XI; ++i) {
    const int k = (threadIdx.x + THREADS * i) / XP;
    u32 ok = s.x_mask & (1u << i);
    if constexpr (HALF) {
      const u32 first = whole || ci + 2 * k < CI ? ok : 0u, second = whole || ci + 2 * k + 1 < CI ? ok : 0u;
      a.x[i] = load_word(x + s.x_offset[i], first) | load_word(x + s.x_offset[i] + s.x_channel, second) << 16;
    } else {
      if (!whole && ci + k >= CI) ok = 0;
      a.x[i] = load_word(x + s.x_offset[i], ok);
    }
  }
#pragma unroll
  for (int i = 0; i < WI; ++i) {
    const int k = weight_channel(i), j = weight_offset(i);
    const int jw = j % JW, jh = j / JW % JH, jd = j / JW / JH;
    const int tap =
        jd * (config::SD * config::W_TD) + jh * (config::SH * config::W_TH) + jw * (config::SW * config::W_TW);
    const bool ok = s.w_exists && j < J;
    if constexpr (HALF) {
      a.w[i] = load_word(w + 2 * k * config::W_IN + tap, ok && ci + 2 * k < CI) |
               load_word(w + (2 * k + 1) * config::W_IN + tap, ok && ci + 2 * k + 1 < CI) << 16;
    } else {
      a.w[i] = load_word(w + k * config::W_IN + tap, ok && ci + k < CI);
    }
  }
}

__device__ __forceinline__ void store_stage(const Arriving& a, u32* stage) {
#pragma unroll
  for (int i = 0; i < XI; ++i) {
    const int e = threadIdx.x + THREADS * i;
    if (XWORDS % THREADS == 0 || e < XWORDS) put(stage, e, XWORDS, a.x[i]);
  }
  u32* w = stage + PLANES * XWORDS;
#pragma unroll
  for (int i = 0; i < WI; ++i) {
    const int kj = weight_offset(i) * KR + weight_channel(i);
    if (J * KR % TOGETHER == 0 || kj < J * KR) put(w, kj * MP + threadIdx.x % MB, WWORDS, a.w[i]);
  }
}

struct Sums {
  float v[MT][NT][4];
};

/// Offsets whose fragments may be under way together, as registers allow: three products need sums of their own.
constexpr int OFFSETS_UNROLLED = PLANES == 2 || MT * NT >= 32 ? 1 : J > 8 ? (HALF ? 1 : 3) : J;

/// One stage's products of this warp: 8 rows of words, every offset j.
__device__ __forceinline__ void multiply_stage(Sums& c, const u32* stage, int warp_m, int warp_n, int warp_k) {
  const int lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
  const u32* x = stage + (8 * warp_k + t) * XP + g;
  const u32* w = stage + PLANES * XWORDS + (8 * warp_k + t) * MP + 16 * MT * warp_m + g;
#pragma unroll(OFFSETS_UNROLLED)
  for (int j = 0; j < J; ++j) {
    const int jw = j % JW, jh = j / JW % JH, jd = j / JW / JH;
    A a[PLANES][MT];
#pragma unroll
    for (int p = 0; p < PLANES; ++p)
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        const u32* at = w + p * WWORDS + j * KR * MP + 16 * m;
        a[p][m].v[0] = at[0];
        a[p][m].v[1] = at[8];
        a[p][m].v[2] = at[4 * MP];
        a[p][m].v[3] = at[4 * MP + 8];
      }
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const int q = (warp_n * NT + n) * 8, qh = q / QW, qw = q % QW;
      B b[PLANES];
#pragma unroll
      for (int p = 0; p < PLANES; ++p) {
        const u32* at = x + p * XWORDS + ((JD - 1 - jd) * XH + qh + JH - 1 - jh) * XW + qw + JW - 1 - jw;
        b[p].v[0] = at[0];
        b[p].v[1] = at[4 * XP];
      }
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        if constexpr (PLANES == 2) {  // the tensor cores cut what they add up: few sums in a row, then a rounded one
          float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
          multiply(sum, a[1][m], b[0]);
          multiply(sum, a[0][m], b[1]);
          multiply(sum, a[0][m], b[0]);
#pragma unroll
          for (int i = 0; i < 4; ++i) c.v[m][n][i] += sum[i];
        } else {
          multiply(c.v[m][n], a[0][m], b[0]);
        }
      }
    }
  }
}

/// Where a block's tile lies.
struct Tile {
  int n, group, m0;
  int qd, qh, qw;  ///< first position
};

/// The tile, whole in shared memory, to y: residues of a line fastest, so that lines leave in runs.
__device__ __forceinline__ void store_tile(const float* c, const Element* bias, Element* y, const Tile& tile,
                                           const ResidueShape& s, const config::Operands& operands) {
  constexpr int RUN = config::SW < MB ? config::SW : MB;  ///< residues of a line that the block has
  constexpr int ROWS = (M < MB ? M : MB) / RUN;           ///< (co, rd, rh) that the block has
  const i64 volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 out_channels = static_cast<i64>(s.groups) * config::CO;
  Element* base = y + tile.n * volume * out_channels;
#pragma unroll(MT* NT >= 32 ? 1 : 4)
  for (int e = threadIdx.x; e < ROWS * NB * RUN; e += THREADS) {
    int q, row, r;
    if constexpr (config::OUT_CL) {
      row = e % ROWS, r = e / ROWS % RUN, q = e / ROWS / RUN;
    } else {
      r = e % RUN, q = e / RUN % NB, row = e / RUN / NB;
    }
    const int m = tile.m0 + row * RUN + r;
    const int rw = m % config::SW, rh = m / config::SW % config::SH, rd = m / config::SW / config::SH % config::SD,
              co = m / config::SW / config::SH / config::SD;
    const int ow = config::SW * (tile.qw + q % QW) + rw - config::PW % config::SW;
    const int oh = config::SH * (tile.qh + q / QW) + rh - config::PH % config::SH;
    const int od = config::SD * tile.qd + rd - config::PD % config::SD;
    if (m >= M || static_cast<u32>(ow) >= static_cast<u32>(s.out_w) ||
        static_cast<u32>(oh) >= static_cast<u32>(s.out_h) || static_cast<u32>(od) >= static_cast<u32>(s.out_d))
      continue;
    float v = 0.0f;
#pragma unroll
    for (int k = 0; k < config::WK; ++k) v += c[(k * MB + row * RUN + r) * CP + q];
    const i64 channel = static_cast<i64>(tile.group) * config::CO + co;
    if constexpr (config::BIAS) v += to_float(bias[channel]);
    const i64 spatial = static_cast<i64>(od * s.out_h + oh) * s.out_w + ow;
    Element* to = base + (config::OUT_CL ? spatial * out_channels + channel : channel * volume + spatial);
    *to = from_float<Element>(config::epilogue(v, operands, tile.n, int(channel), to - y));
  }
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(config::THREADS, config::BLOCKS)
    upconv_residues(const upconv::Element* x, const upconv::Element* w, const upconv::Element* bias,
                    upconv::Element* __restrict__ y, const upconv::ResidueShape s, const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  extern __shared__ __align__(16) u32 shared[];
  constexpr int M_TILES = (M + MB - 1) / MB;
  Tile tile;
  int block = blockIdx.x;
  tile.m0 = block % M_TILES * MB;
  block /= M_TILES;
  tile.qw = block % s.tiles_w * QW;
  block /= s.tiles_w;
  tile.qh = block % s.tiles_h * QH;
  block /= s.tiles_h;
  tile.qd = block % s.tiles_d;
  block /= s.tiles_d;
  tile.group = block % s.groups;
  tile.n = block / s.groups;

  Source source;
  const i64 in_volume = static_cast<i64>(s.in_d) * s.in_h * s.in_w;
  source.x_channel = config::IN_CL ? 1 : in_volume;
  source.x =
      x + tile.n * in_volume * (static_cast<i64>(s.groups) * CI) + static_cast<i64>(tile.group) * CI * source.x_channel;
  source.x_mask = 0;
#pragma unroll
  for (int i = 0; i < XI; ++i) {
    const int e = threadIdx.x + THREADS * i, k = e / XP, at = e % XP;
    const int iw = tile.qw + config::PW / config::SW - (JW - 1) + at % XW;
    const int ih = tile.qh + config::PH / config::SH - (JH - 1) + at / XW % XH;
    const int id = tile.qd + config::PD / config::SD - (JD - 1) + at / XW / XH;
    if (e < XWORDS && at < XPOS && static_cast<u32>(iw) < static_cast<u32>(s.in_w) &&
        static_cast<u32>(ih) < static_cast<u32>(s.in_h) && static_cast<u32>(id) < static_cast<u32>(s.in_d))
      source.x_mask |= 1u << i;
    source.x_offset[i] = static_cast<int>(k * (HALF ? 2 : 1) * source.x_channel) +
                         ((id * s.in_h + ih) * s.in_w + iw) * config::IN_COLUMN;
  }
  {
    const int m = tile.m0 + threadIdx.x % MB;
    const int rw = m % config::SW, rh = m / config::SW % config::SH, rd = m / config::SW / config::SH % config::SD,
              co = m / config::SW / config::SH / config::SD;
    source.w_exists = m < M;
    source.w = w + static_cast<i64>(tile.group) * config::W_GROUP + co * config::W_OUT + rd * config::W_TD +
               rh * config::W_TH + rw * config::W_TW;
  }

  const int warp = threadIdx.x / 32;
  const int warp_k = warp % config::WK, warp_n = warp / config::WK % config::WN,
            warp_m = warp / config::WK / config::WN;
  Sums c;
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) c.v[m][n][i] = 0.0f;

  after_previous(source.x, source.w);
  Arriving arriving;
  load_stage(arriving, source, 0);
  constexpr int STAGES = (CI + STEP - 1) / STEP;
#pragma unroll 1
  for (int stage = 0; stage < STAGES; ++stage) {
    u32* at = shared + stage % 2 * STAGE;
    store_stage(arriving, at);
    __syncthreads();
    if (stage + 1 < STAGES) load_stage(arriving, source, (stage + 1) * STEP);
    multiply_stage(c, at, warp_m, warp_n, warp_k);
  }
  __syncthreads();

  float* out = reinterpret_cast<float*>(shared);
  const int lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        out[(warp_k * MB + 16 * (MT * warp_m + m) + g + i / 2 * 8) * CP + 8 * (NT * warp_n + n) + 2 * t + i % 2] =
            c.v[m][n][i];
  __syncthreads();
  store_tile(out, bias, y, tile, s, operands);
}
