// cuda_scatter: forward with few output channels, by one tensor-core product and an overlap-add in shared memory.
//
//   P[(co, t), i] = sum over ci of w[ci, co, t] * x[n, ci, i]      every tap of every input position, once
//   y[n, co, o]   = sum of P[(co, t), i] over the pairs S*i + D*t - P = o
//
// Any kernel, stride and dilation: nothing is padded, so an infinite x reaches only outputs that use it. A block owns
// XC = 32*WC columns of x and marches down its rows, WR rows a step, one warp 32 positions. B (x) comes straight from
// memory as fragments: a lane takes 4 consecutive positions of its rows of channels, one for each of 4 tiles of 8. A
// (w) lies in shared memory as fragments. P stays in a ring of rows in shared memory; positions whose taps are all
// there leave by the store of positions/phases.cuh. The planes of a volume are read once per tap plane.
//
// Shared memory, in words: A [planes][KD][steps][m tiles][32 lanes][4]; P [KD*ROWS][PP]; staging lines.
// Floor: x and y once through memory.
#include "positions/phases.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

using config::WC;
using config::WR;
constexpr bool HALF = config::DTYPE != 0;
constexpr int PLANES = config::PRODUCTS == 3 ? 2 : 1;  ///< high and low parts of A and B
constexpr int XC = 32 * WC;
constexpr int ROWS = config::CO * config::KH * config::KW;  ///< of A, for one plane of taps
constexpr int M_TILES = (ROWS + 15) / 16;
constexpr int MT = config::MT, CHUNKS = (M_TILES + MT - 1) / MT;
constexpr int STEP = HALF ? 16 : 8;  ///< channels a product
constexpr int STEPS = (CI + STEP - 1) / STEP;
constexpr int RING = AxisH::reach - 1 + WR;
constexpr int PP = RING * XC + 4;  ///< pitch of P: 4 modulo 32, so that fragments are stored without conflicts
constexpr int A_WORDS = config::KD * STEPS * M_TILES * 128;
constexpr int P_WORDS = config::KD * ROWS * PP;
static_assert(THREADS == 32 * WC * WR && U == 1, "one warp for every 32 positions");

/// What a launch passes by value beside the shape; the host's struct Strips of scatter.cpp mirrors it.
struct Strips {
  int count, pitch;  ///< strips of a line, columns from one to the next
  int chunks, rows;  ///< chunks of a plane, rows of positions in each
  int aligned;       ///< x may be read 4 positions at a time
};

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
/// What TF32 leaves of a value.
__device__ __forceinline__ u32 remainder_tf32(u32 bits, u32 high) {
  const float low = __uint_as_float(bits) - __uint_as_float(high);
  return (high & 0x7f800000u) == 0x7f800000u ? 0u : round_tf32(__float_as_uint(low));
}

__device__ __forceinline__ void multiply(float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  if constexpr (config::DTYPE == 0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  } else if constexpr (config::DTYPE == 1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
}

/// Four consecutive positions of one channel, zero where bit i of `mask` is not set.
struct Four {
  u32 v[4];
};
__device__ __forceinline__ Four load_four(const float* at, u32 mask, bool aligned) {
  Four r;
  if (aligned) {
    asm("{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
        "@p ld.global.v4.b32 {%0,%1,%2,%3}, [%4];\n}"
        : "=r"(r.v[0]), "=r"(r.v[1]), "=r"(r.v[2]), "=r"(r.v[3])
        : "l"(at), "r"(mask));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) r.v[i] = __float_as_uint(load(at + i, mask & (1u << i)));
  }
  return r;
}
/// The same for two channels of 16 bits, paired.
template <class T>
__device__ __forceinline__ Four load_four_pairs(const T* first, const T* second, u32 mask0, u32 mask1, bool aligned) {
  Four r;
  if (aligned) {
    u32 a0, a1, b0, b1;
    asm("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\n"
        "@p ld.global.v2.b32 {%0,%1}, [%2];\n}"
        : "=r"(a0), "=r"(a1)
        : "l"(first), "r"(mask0));
    asm("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\n"
        "@p ld.global.v2.b32 {%0,%1}, [%2];\n}"
        : "=r"(b0), "=r"(b1)
        : "l"(second), "r"(mask1));
    r.v[0] = __byte_perm(a0, b0, 0x5410), r.v[1] = __byte_perm(a0, b0, 0x7632);
    r.v[2] = __byte_perm(a1, b1, 0x5410), r.v[3] = __byte_perm(a1, b1, 0x7632);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      r.v[i] = load_bits(first + i, mask0 & (1u << i)) | static_cast<u32>(load_bits(second + i, mask1 & (1u << i)))
                                                             << 16;
  }
  return r;
}

/// Channels first, a lane's two words of a step are channels t and t + 4 (pairs of channels of 16 bits) of four
/// positions; channels last, they lie side by side, so that one read of 8 bytes brings both.
constexpr __device__ int channel_of(int step, int k) {
  if (!config::IN_CL) return step * STEP + (HALF ? 2 * k : k);
  return step * STEP + (HALF ? 4 * (k % 4) + 2 * (k / 4) : 2 * (k % 4) + k / 4);
}

/// Two words of one position, channels last.
__device__ __forceinline__ void load_two(const float* at, int ci, u32 ok, bool aligned, u32& first, u32& second) {
  if (aligned) {
    asm("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\n"
        "@p ld.global.v2.b32 {%0,%1}, [%2];\n}"
        : "=r"(first), "=r"(second)
        : "l"(at), "r"(ci < CI ? ok : 0u));
  } else {
    first = __float_as_uint(load(at, ci < CI ? ok : 0u));
    second = __float_as_uint(load(at + 1, ci + 1 < CI ? ok : 0u));
  }
}
template <class T>
__device__ __forceinline__ void load_two(const T* at, int ci, u32 ok, bool aligned, u32& first, u32& second) {
  if (aligned) {
    load_two(reinterpret_cast<const float*>(at), 0, ci < CI ? ok : 0u, true, first, second);
  } else {
    u32 v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = load_bits(at + i, ci + i < CI ? ok : 0u);
    first = v[0] | v[1] << 16;
    second = v[2] | v[3] << 16;
  }
}

/// Four consecutive positions of two rows of B.
struct Fragment {
  Four b[2];
};
/// `x`: this lane's positions in channel 0 of the row; `mask`: which of them exist.
__device__ __forceinline__ Fragment load_fragment(const Element* x, i64 channel, int step, u32 mask, bool aligned) {
  const int t = threadIdx.x % 4;
  Fragment f;
  if constexpr (config::IN_CL) {
    const int ci = channel_of(step, t);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      load_two(x + i * config::IN_COLUMN + ci, ci, mask & (1u << i), aligned, f.b[0].v[i], f.b[1].v[i]);
    return f;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if constexpr (HALF) {
      const int ci = step * STEP + 2 * t + 8 * half;
      const bool whole = CI % STEP == 0;
      f.b[half] = load_four_pairs(x + ci * channel, x + (ci + 1) * channel, whole || ci < CI ? mask : 0u,
                                  whole || ci + 1 < CI ? mask : 0u, aligned);
    } else {
      const int ci = step * STEP + t + 4 * half;
      f.b[half] =
          load_four(reinterpret_cast<const float*>(x + ci * channel), CI % STEP == 0 || ci < CI ? mask : 0u, aligned);
    }
  }
  return f;
}

/// Each of the STEPS * 3 sums in a row costs 1.2e-8 of the result (measured, H200): up to here that is below 9e-7.
constexpr bool FRESH_SUMS = PLANES == 2 && STEPS > 24;

/// P of one warp's 32 positions and MT tiles of rows.
struct Products {
  float v[MT][4][4];
};

__device__ __forceinline__ void multiply_step(Products& c, const Fragment& f, const uint4* a) {
  const int lane = threadIdx.x & 31;
  Four high[2], low[2];
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      high[h].v[i] = HALF ? f.b[h].v[i] : round_tf32(f.b[h].v[i]);
      low[h].v[i] = PLANES == 2 ? remainder_tf32(f.b[h].v[i], high[h].v[i]) : 0u;
    }
#pragma unroll
  for (int m = 0; m < MT; ++m) {
    const uint4 a0 = a[m * 32 + lane];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (FRESH_SUMS) {  // the tensor cores cut what they add up: few sums in a row, then a rounded one
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        multiply(sum, a[A_WORDS / 4 + m * 32 + lane], high[0].v[i], high[1].v[i]);
        multiply(sum, a0, low[0].v[i], low[1].v[i]);
        multiply(sum, a0, high[0].v[i], high[1].v[i]);
#pragma unroll
        for (int k = 0; k < 4; ++k) c.v[m][i][k] += sum[k];
      } else {
        if constexpr (PLANES == 2) {
          multiply(c.v[m][i], a[A_WORDS / 4 + m * 32 + lane], high[0].v[i], high[1].v[i]);
          multiply(c.v[m][i], a0, low[0].v[i], low[1].v[i]);
        }
        multiply(c.v[m][i], a0, high[0].v[i], high[1].v[i]);
      }
    }
  }
}

/// A to shared memory as fragments: word (td, step, tile, lane, r) is row 16*tile + g + 8*(r%2), column t + 4*(r/2).
__device__ __forceinline__ void load_weights(u32* shared, const Element* w) {
  for (int i = threadIdx.x; i < A_WORDS; i += THREADS) {
    const int r = i % 4, lane = i / 4 % 32, tile = i / 128 % M_TILES, step = i / 128 / M_TILES % STEPS,
              td = i / 128 / M_TILES / STEPS;
    const int row = 16 * tile + lane / 4 + r % 2 * 8, k = lane % 4 + r / 2 * 4;
    const int tw = row % config::KW, th = row / config::KW % config::KH, co = row / config::KW / config::KH;
    const Element* at = w + co * config::W_OUT + td * config::W_TD + th * config::W_TH + tw * config::W_TW;
    if constexpr (HALF) {
      const int ci = channel_of(step, k);
      const u32 first = load_bits(at + static_cast<i64>(ci) * config::W_IN, row < ROWS && ci < CI);
      const u32 second = load_bits(at + static_cast<i64>(ci + 1) * config::W_IN, row < ROWS && ci + 1 < CI);
      shared[i] = first | second << 16;
    } else {
      const int ci = channel_of(step, k);
      const u32 bits = __float_as_uint(load(at + static_cast<i64>(ci) * config::W_IN, row < ROWS && ci < CI));
      const u32 high = round_tf32(bits);
      shared[i] = high;
      if constexpr (PLANES == 2) shared[A_WORDS + i] = remainder_tf32(bits, high);
    }
  }
}

/// The products of a chunk of rows to P. A lane has 8 consecutive positions of rows g and g + 8.
__device__ __forceinline__ void keep(const Products& c, float* p, int first_row) {
  const int g = (threadIdx.x & 31) / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + 16 * m + g + 8 * h;
      if (row < ROWS) {
        float4* to = reinterpret_cast<float4*>(p + row * PP + 8 * t);
        to[0] = make_float4(c.v[m][0][2 * h], c.v[m][1][2 * h], c.v[m][2][2 * h], c.v[m][3][2 * h]);
        to[1] = make_float4(c.v[m][0][2 * h + 1], c.v[m][1][2 * h + 1], c.v[m][2][2 * h + 1], c.v[m][3][2 * h + 1]);
      }
    }
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(config::THREADS, config::BLOCKS)
    upconv_scatter(const upconv::Element* x, const upconv::Element* w, const upconv::Element* bias,
                   upconv::Element* __restrict__ y, const upconv::PositionsShape s, const upconv::Strips strips,
                   const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  extern __shared__ __align__(16) u32 shared[];
  float* p = reinterpret_cast<float*>(shared + PLANES * A_WORDS);
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane / 4;
  const int wr = warp / WC, wc = warp % WC;
  float* line = p + P_WORDS + warp * (32 * AxisW::phases);

  int block = blockIdx.x;
  const int strip = block % strips.count;
  block /= strips.count;
  const int chunk = block % strips.chunks;
  block /= strips.chunks;
  const int ud = block % s.positions;  // planes of positions
  block /= s.positions;
  const int group = block % s.groups, n = block / s.groups;

  after_previous(x, w, bias);
  load_weights(shared, w + static_cast<i64>(group) * config::W_GROUP);
  __syncthreads();

  const int c0 = strip * strips.pitch;
  const int u_begin = strip == 0 ? 0 : c0 - strips.pitch + XC - (AxisW::low + AxisW::reach - 1);
  const int u_end = strip + 1 == strips.count ? s.columns : c0 + XC - (AxisW::low + AxisW::reach - 1);
  const int h_begin = chunk * strips.rows;
  const int h_end = h_begin + strips.rows < s.rows ? h_begin + strips.rows : s.rows;
  const int first_row = h_begin + AxisH::low;
  const int steps = (h_end - h_begin + AxisH::reach - 1 + WR - 1) / WR;

  const i64 volume = static_cast<i64>(s.in_d) * s.in_h * s.in_w;
  const Element* from =
      x + static_cast<i64>(n) * s.groups * CI * volume + static_cast<i64>(group) * CI * (config::IN_CL ? 1 : volume);
  const int column = c0 + 32 * wc + 4 * g;  // this lane's four positions
  u32 columns = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (column + i < s.in_w) columns |= 1u << i;
  Element* to =
      y + static_cast<i64>(group) * config::CO * (config::OUT_CL ? 1 : static_cast<i64>(s.out_d) * s.out_h * s.out_w);

#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int row = first_row + step * WR + wr, slot = (step * WR + wr) % RING;
#pragma unroll 1
    for (int td = 0; td < config::KD; ++td) {
      const int plane = ud + AxisD::offset(td);
      const bool exists =
          static_cast<u32>(row) < static_cast<u32>(s.in_h) && static_cast<u32>(plane) < static_cast<u32>(s.in_d);
      const Element* at = from + ((static_cast<i64>(plane) * s.in_h + row) * s.in_w + column) * config::IN_COLUMN;
      const u32 mask = exists ? columns : 0u;
#pragma unroll 1
      for (int m = 0; m < CHUNKS; ++m) {
        Products c;
#pragma unroll
        for (int i = 0; i < MT * 16; ++i) (&c.v[0][0][0])[i] = 0.0f;
        const uint4* a = reinterpret_cast<const uint4*>(shared) + (td * STEPS * M_TILES + m * MT) * 32;
        constexpr int BATCH = config::BATCH;
#pragma unroll 1
        for (int k = 0; k < STEPS; k += BATCH) {
          Fragment f[BATCH];
#pragma unroll
          for (int b = 0; b < BATCH; ++b)
            f[b] = load_fragment(at, volume, k + b, STEPS % BATCH == 0 || k + b < STEPS ? mask : 0u, strips.aligned);
#pragma unroll
          for (int b = 0; b < BATCH; ++b)
            if (STEPS % BATCH == 0 || k + b < STEPS) multiply_step(c, f[b], a + (k + b) * M_TILES * 32);
        }
        if (m == 0 && td == 0) __syncthreads();  // the last step's positions have left
        keep(c, p + td * ROWS * PP + slot * XC + 32 * wc, m * MT * 16);
      }
    }
    __syncthreads();
    // The positions of this warp's columns whose last row is the one it has just made.
    Place place;
    place.n = n;
    place.ud = ud;
    place.uh = row - (AxisH::low + AxisH::reach - 1);
    const int segment = 32 * wc + lane;
    // Columns of positions start where the strip's do; the last strip may have a few more than XC.
#pragma unroll 1
    for (int extra = 0; extra < 2; ++extra) {
      const int local = segment + extra * XC;  // position u_begin + local
      place.uw = u_begin + local;
      place.active = place.uw < u_end && place.uh >= h_begin && place.uh < h_end;
      if (extra == 1 && u_end - u_begin <= XC) break;
      Sums sums;
#pragma unroll
      for (int co0 = 0; co0 < config::CO; co0 += COT) {
#pragma unroll
        for (int e = 0; e < PHASES; ++e)
#pragma unroll
          for (int c = 0; c < COT; ++c) sums.v[0][e][c] = 0.0f;
#pragma unroll
        for (int th = 0; th < config::KH; ++th) {
          const int ring = (step * WR + wr + RING + AxisH::offset(th) - (AxisH::low + AxisH::reach - 1)) % RING;
#pragma unroll
          for (int tw = 0; tw < config::KW; ++tw) {
            const int col = place.uw + AxisW::offset(tw) - c0;
            const bool inside = static_cast<u32>(col) < static_cast<u32>(XC) && place.active;
#pragma unroll
            for (int td = 0; td < config::KD; ++td)
#pragma unroll
              for (int c = 0; c < COT; ++c) {
                const int phase =
                    (AxisD::phase(td) * AxisH::phases + AxisH::phase(th)) * AxisW::phases + AxisW::phase(tw);
                if (co0 + c < config::CO && inside)
                  sums.v[0][phase][c] +=
                      p[(td * ROWS + ((co0 + c) * config::KH + th) * config::KW + tw) * PP + ring * XC + col];
              }
          }
        }
        Element* first = to + co0 * (config::OUT_CL ? 1 : static_cast<i64>(s.out_d) * s.out_h * s.out_w);
        store(sums, first, bias + group * config::CO + co0, config::CO - co0, place, s, line,
              {operands, group * config::CO + co0, first - y});
      }
    }
  }
}
