// cuda_positions_weight: dw of problems with few channels a group, by fp32 multiply-adds at memory speed.
//
//   dw[ci, co, t] = sum over n and i of x[n, ci, i] * dy[n, co, S*i + D*t - P]
//
// A thread holds the sums of CIT x COT channels and of RD x RH rows of taps, and walks over input positions: UH rows of
// one column at a time, whose windows of dy overlap. Lanes lie along the line, or along the groups (channels last with
// one or few channels a group). Blocks share the positions: `splits` blocks each write their sums to
// parts[split][element of dw], which ordered_sum adds up in order. Nothing is multiplied outside the tensors: an
// infinite x never meets a missing dy. Floor: x and dy once through memory.
#include "arguments/positions_weight.cuh"
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

/// Loads without a branch, so that many are in flight: zero where `ok` is zero.
__device__ __forceinline__ float load(const float* at, u32 ok) {
  float r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.f32 %0, 0f00000000;\n@p ld.global.f32 %0, [%1];\n}"
      : "=f"(r)
      : "l"(at), "r"(ok));
  return r;
}
__device__ __forceinline__ u16 load_bits(const void* at, u32 ok) {
  u16 r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.b16 %0, 0;\n@p ld.global.b16 %0, [%1];\n}"
      : "=h"(r)
      : "l"(at), "r"(ok));
  return r;
}
__device__ __forceinline__ float load(const f16* at, u32 ok) {
  f16 r;
  r.bits = load_bits(at, ok);
  return to_float(r);
}
__device__ __forceinline__ float load(const bf16* at, u32 ok) {
  return __uint_as_float(static_cast<u32>(load_bits(at, ok)) << 16);
}

typedef arguments::PositionsWeight WeightShape;

using config::CIT;
using config::COT;
using config::RD;
using config::RH;
using config::THREADS;
using config::UH;
constexpr int KW = config::KW;
constexpr int LANES = config::GROUP_LANES ? 32 : 1;
constexpr int WH = config::SH * (UH - 1) + config::DH * (RH - 1) + 1;  ///< rows of dy that UH positions touch
constexpr int SUMS = CIT * COT * RD * RH * KW;
constexpr int WARPS = THREADS / 32;
constexpr int CHUNK = 16;  ///< sums that cross the block at a time
static_assert(RD == 1 || RD == config::KD, "a block has one plane of taps or all");
static_assert(RH == 1 || RH == config::KH, "a block has one row of taps or all");
static_assert(KW <= 32, "a row of taps has one bit a column in a mask");

struct Sums {
  float v[CIT][COT][RD][RH][KW];
};

/// Whether some position's row of taps reads row h of the window.
constexpr __device__ bool used(int h) {
  for (int u = 0; u < UH; ++u) {
    const int t = h - config::SH * u;
    if (t >= 0 && t % config::DH == 0 && t / config::DH < RH) return true;
  }
  return false;
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(config::THREADS, config::BLOCKS)
    upconv_positions_weight(const upconv::Element* x, const upconv::Element* dy, float* __restrict__ parts,
                            const upconv::WeightShape s) {
  using namespace upconv;
  let_next_begin();
  __shared__ float shared[WARPS * CHUNK * LANES];
  constexpr int CI_TILES = (config::CI + CIT - 1) / CIT, CO_TILES = (config::CO + COT - 1) / COT;
  constexpr int D_TILES = config::KD / RD, H_TILES = config::KH / RH;
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  int block = blockIdx.x;
  const int co0 = block % CO_TILES * COT;
  block /= CO_TILES;
  const int ci0 = block % CI_TILES * CIT;
  block /= CI_TILES;
  const int th0 = block % H_TILES * RH;
  block /= H_TILES;
  const int td0 = block % D_TILES * RD;
  block /= D_TILES;
  const int split = block % s.splits;
  const int first_group = block / s.splits * LANES;
  const int group = first_group + (LANES > 1 ? lane : 0);
  const bool group_ok = group < s.groups;
  after_previous(x, dy);

  const i64 in_volume = static_cast<i64>(s.in_d) * s.in_h * s.in_w;
  const i64 out_volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 x_channel = config::X_CL ? 1 : in_volume, y_channel = config::Y_CL ? 1 : out_volume;
  const Element* x0 = x + (static_cast<i64>(group) * config::CI + ci0) * x_channel;
  const Element* y0 = dy + (static_cast<i64>(group) * config::CO + co0) * y_channel;
  const i64 x_sample = in_volume * (static_cast<i64>(s.groups) * config::CI);
  const i64 y_sample = out_volume * (static_cast<i64>(s.groups) * config::CO);
  const int x_row = s.in_w * config::X_COLUMN, y_row = s.out_w * config::Y_COLUMN, y_plane = s.out_h * y_row;

  Sums sums;
#pragma unroll
  for (int i = 0; i < SUMS; ++i) (&sums.v[0][0][0][0][0])[i] = 0.0f;

  const int workers = LANES > 1 ? WARPS : THREADS, worker = LANES > 1 ? warp : threadIdx.x;
#pragma unroll 1
  for (int index = split * workers + worker; index < s.total; index += s.splits * workers) {
    const u32 n = static_cast<u32>(index) / static_cast<u32>(s.positions);
    const u32 rest = index - n * s.positions;
    const u32 row = rest / static_cast<u32>(s.in_w), iw = rest - row * s.in_w;
    const u32 id = config::FLAT ? 0 : row / static_cast<u32>(s.rows), ih = (row - id * s.rows) * UH;
    const int d0 = config::SD * int(id) + config::DD * td0 - config::PD;
    const int h0 = config::SH * int(ih) + config::DH * th0 - config::PH;
    const int w0 = config::SW * int(iw) - config::PW;
    u32 columns = 0;
#pragma unroll
    for (int t = 0; t < KW; ++t)
      if (static_cast<u32>(w0 + config::DW * t) < static_cast<u32>(s.out_w)) columns |= 1u << t;
    if (!group_ok) columns = 0;

    float xs[CIT][UH];
    const Element* xp = x0 + n * x_sample + (static_cast<i64>(id * s.in_h + ih) * s.in_w + iw) * config::X_COLUMN;
#pragma unroll
    for (int c = 0; c < CIT; ++c)
#pragma unroll
      for (int u = 0; u < UH; ++u)
        xs[c][u] =
            load(xp + c * x_channel + u * x_row, group_ok && ih + u < static_cast<u32>(s.in_h) && ci0 + c < config::CI);
    const Element* yp = y0 + n * y_sample + (static_cast<i64>(d0 * s.out_h + h0) * s.out_w + w0) * config::Y_COLUMN;
#pragma unroll
    for (int co = 0; co < COT; ++co)
#pragma unroll
      for (int td = 0; td < RD; ++td) {
        const bool plane = static_cast<u32>(d0 + config::DD * td) < static_cast<u32>(s.out_d) && co0 + co < config::CO;
#pragma unroll
        for (int h = 0; h < WH; ++h) {
          if (!used(h)) continue;
          const u32 row_columns = plane && static_cast<u32>(h0 + h) < static_cast<u32>(s.out_h) ? columns : 0u;
          float ys[KW];
#pragma unroll
          for (int t = 0; t < KW; ++t)
            ys[t] =
                load(yp + co * y_channel + config::DD * td * y_plane + h * y_row + config::DW * t * config::Y_COLUMN,
                     row_columns & (1u << t));
#pragma unroll
          for (int u = 0; u < UH; ++u) {
            const int th = (h - config::SH * u) / config::DH;
            if (h < config::SH * u || (h - config::SH * u) % config::DH != 0 || th >= RH) continue;
            const u32 pairs = UH == 1 || ih + u < static_cast<u32>(s.in_h) ? row_columns : 0u;
#pragma unroll
            for (int t = 0; t < KW; ++t) {
              const bool ok = pairs & (1u << t);
              const float yv = UH == 1 || ok ? ys[t] : 0.0f;
#pragma unroll
              for (int c = 0; c < CIT; ++c) sums.v[c][co][td][th][t] += (ok ? xs[c][u] : 0.0f) * yv;
            }
          }
        }
      }
  }

  // Across lanes, then across the block's warps, CHUNK sums at a time.
#pragma unroll
  for (int first = 0; first < SUMS; first += CHUNK) {
#pragma unroll
    for (int a = 0; a < CHUNK; ++a) {
      if (first + a >= SUMS) continue;
      float v = (&sums.v[0][0][0][0][0])[first + a];
      if constexpr (LANES == 1) {
#pragma unroll
        for (int step = 16; step >= 1; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
        if (lane == 0) shared[warp * CHUNK + a] = v;
      } else {
        shared[(warp * CHUNK + a) * 32 + lane] = v;
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * LANES; i += THREADS) {
      const int a = first + i / LANES, g = first_group + i % LANES;
      const int t = a % KW, th = a / KW % RH, td = a / KW / RH % RD, co = a / KW / RH / RD % COT,
                ci = a / KW / RH / RD / COT;
      if (a < SUMS && g < s.groups && ci0 + ci < config::CI && co0 + co < config::CO) {
        float v = 0.0f;
#pragma unroll
        for (int k = 0; k < WARPS; ++k) v += shared[k * CHUNK * LANES + i];
        parts[split * s.elements + (static_cast<i64>(g) * config::CI + ci0 + ci) * config::W_CI +
              (co0 + co) * config::W_CO + (td0 + td) * config::W_TD + (th0 + th) * config::W_TH + t * config::W_TW] = v;
      }
    }
    __syncthreads();
  }
}
