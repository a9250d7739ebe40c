// The phase algebra of one dimension as constants, branchless loads, and the store of a thread's output phases: what
// cuda_positions and cuda_scatter share. A thread has the sums of U positions, all phases of each, COT channels.
#pragma once

#include "arguments/positions.cuh"
#include "epilogue/operands.cuh"
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

typedef arguments::Positions PositionsShape;

/// The algebra of one dimension, entirely constant.
template <int kernel, int stride, int padding, int dilation, int shift, bool dx>
struct Axis {
  static constexpr int taps = kernel;
  static constexpr int phases = dx ? 1 : stride;
  static constexpr int step = dx ? stride : 1;
  /// The phase that tap t reaches (forward), and the input position it reads for position u, less step*u.
  static constexpr __device__ int phase(int t) {
    return dx ? 0 : ((shift - padding + dilation * t) % stride + stride) % stride;
  }
  static constexpr __device__ int offset(int t) {
    return dx ? dilation * t - padding : (phase(t) - shift + padding - dilation * t) / stride;
  }
  static constexpr __device__ int lowest() {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = offset(t) < r ? offset(t) : r;
    return r;
  }
  static constexpr __device__ int highest() {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = offset(t) > r ? offset(t) : r;
    return r;
  }
  static constexpr int low = lowest();
  static constexpr int reach = highest() - lowest() + 1;  ///< inputs one position spans
  static constexpr __device__ int window(int positions) { return step * (positions - 1) + reach; }
};

typedef Axis<config::KD, config::SD, config::PD, config::DD, config::SHIFT_D, config::DX> AxisD;
typedef Axis<config::KH, config::SH, config::PH, config::DH, config::SHIFT_H, config::DX> AxisH;
typedef Axis<config::KW, config::SW, config::PW, config::DW, config::SHIFT_W, config::DX> AxisW;

using config::CI;
using config::COT;
using config::THREADS;
using config::UH;
using config::UW;
constexpr int U = UH * UW;
constexpr int TAPS = config::KD * config::KH * config::KW;
constexpr int PHASES = AxisD::phases * AxisH::phases * AxisW::phases;
constexpr int WD = AxisD::reach, WH = AxisH::window(UH), WW = AxisW::reach;
constexpr bool GROUP_LANES = config::GROUP_LANES;
constexpr int LANES = GROUP_LANES ? 32 : 1;  ///< weights apart by lane
static_assert(UH == 1 || UW == 1, "positions of a thread lie along one dimension");
static_assert(WW <= 32, "a row of the window has one bit a column in a mask");

constexpr int LINE_BYTES = AxisW::phases * int(sizeof(Element));
constexpr bool CAN_PACK =
    !config::OUT_CL && (LINE_BYTES == 4 || LINE_BYTES == 8 || LINE_BYTES == 16) && AxisW::phases > 1;
/// A thread's outputs of one line, stored as one vector.
struct __align__(CAN_PACK ? LINE_BYTES : 4) Pack {
  Element v[AxisW::phases];
};
constexpr bool STAGED = !config::OUT_CL && AxisW::phases > 1;

/// Where a thread's rows lie, and which of them exist.
struct Place {
  int n, ud, uh, uw;
  bool active;
};

struct Sums {
  float v[U][PHASES][COT];
};

/// Stores without a branch: nothing where `ok` is zero.
__device__ __forceinline__ void put(float* at, float v, u32 ok) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}" ::"l"(at), "f"(v), "r"(ok));
}
template <class T>
__device__ __forceinline__ void put(T* at, T v, u32 ok) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.b16 [%0], %1;\n}" ::"l"(at), "h"(v.bits),
               "r"(ok));
}

/// Where the epilogue of a thread's own sums reads operands: `channel` is the tile's first, of all groups, and `at` its
/// element of the first sample in y.
struct OwnPlace {
  const config::Operands& operands;
  int channel;
  i64 at;
};

/// Stores the sums of one thread. `out` is the first sample's first channel of the tile. A row here is a position and
/// its outer phases; of each row the thread stores PIECES elements: its own phases (at once when they are `packed`)
/// or, staged, elements lane + 32*k of the warp's run, which belong to lane (lane + 32*k) / phases.
__device__ __forceinline__ void store(const Sums& sums, Element* out, const Element* bias, int channels, const Place& p,
                                      const PositionsShape& s, float* line, const OwnPlace& own) {
  constexpr int PIECES = AxisW::phases, ROWS = U * AxisD::phases * AxisH::phases;
  static_assert(ROWS <= 32, "one bit a row in a mask");
  const int lane = threadIdx.x & 31;
  const i64 volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 sample_pitch = volume * s.groups * config::CO, channel_pitch = config::OUT_CL ? 1 : volume;
  const bool packed = CAN_PACK && s.vectors;
  const int row_pitch = s.out_w * config::OUT_COLUMN, plane_pitch = s.out_h * row_pitch;
  Element* to[PIECES];
  u32 exists[PIECES];  ///< bit r: this piece of row r lies inside the output
#pragma unroll
  for (int k = 0; k < PIECES; ++k) {
    int n = p.n, ud = p.ud, uh = p.uh, uw = p.uw, e = k;
    bool active = p.active;
    if (STAGED && !packed) {
      const int owner = (lane + 32 * k) / PIECES;
      e = (lane + 32 * k) % PIECES;
      active = __shfl_sync(0xffffffffu, int(p.active), owner);
      n = __shfl_sync(0xffffffffu, n, owner);
      ud = __shfl_sync(0xffffffffu, ud, owner);
      uh = __shfl_sync(0xffffffffu, uh, owner);
      uw = __shfl_sync(0xffffffffu, uw, owner);
    }
    const int d0 = AxisD::phases * ud - config::SHIFT_D, h0 = AxisH::phases * UH * uh - config::SHIFT_H;
    const int w0 = AxisW::phases * uw + e - config::SHIFT_W;
    to[k] = out + n * sample_pitch + (static_cast<i64>(d0 * s.out_h + h0) * s.out_w + w0) * config::OUT_COLUMN;
    exists[k] = 0;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int eh = r % AxisH::phases, ed = r / AxisH::phases % AxisD::phases, u = r / AxisH::phases / AxisD::phases;
      const int dh = (UH > 1 ? AxisH::phases * u : 0) + eh, dw = UW > 1 ? AxisW::phases * 32 * u : 0;
      if (active && static_cast<u32>(d0 + ed) < static_cast<u32>(s.out_d) &&
          static_cast<u32>(h0 + dh) < static_cast<u32>(s.out_h) &&
          static_cast<u32>(w0 + dw) < static_cast<u32>(s.out_w))
        exists[k] |= 1u << r;
    }
  }
#pragma unroll
  for (int c = 0; c < COT; ++c) {
    if (c >= channels) continue;
    float b = 0.0f;
    if constexpr (config::BIAS) b = load(bias + c, p.active);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int eh = r % AxisH::phases, ed = r / AxisH::phases % AxisD::phases, u = r / AxisH::phases / AxisD::phases;
      const int dh = (UH > 1 ? AxisH::phases * u : 0) + eh, dw = UW > 1 ? AxisW::phases * 32 * u : 0;
      const int offset = ed * plane_pitch + dh * row_pitch + dw * config::OUT_COLUMN;
      Pack pack;
#pragma unroll
      for (int ew = 0; ew < AxisW::phases; ++ew) {
        float v = sums.v[u][(ed * AxisH::phases + eh) * AxisW::phases + ew][c];
        if constexpr (config::BIAS) v += b;
        if constexpr (config::OPERANDS > 0) {
          const int od = AxisD::phases * p.ud - config::SHIFT_D + ed;
          const int oh = AxisH::phases * UH * p.uh - config::SHIFT_H + dh;
          const int ow = AxisW::phases * p.uw - config::SHIFT_W + dw + ew;
          const bool inside = p.active && static_cast<u32>(od) < static_cast<u32>(s.out_d) &&
                              static_cast<u32>(oh) < static_cast<u32>(s.out_h) &&
                              static_cast<u32>(ow) < static_cast<u32>(s.out_w);
          const i64 place = (static_cast<i64>(od * s.out_h + oh) * s.out_w + ow) * config::OUT_COLUMN;
          if (inside)
            v = config::epilogue(v, own.operands, p.n, own.channel + c,
                                 own.at + p.n * sample_pitch + c * channel_pitch + place);
        } else {
          v = config::epilogue(v, own.operands, 0, 0, 0);
        }
        pack.v[ew] = from_float<Element>(v);
      }
      if constexpr (!STAGED) {
#pragma unroll
        for (int k = 0; k < PIECES; ++k) put(to[k] + offset, pack.v[k], exists[k] & (1u << r));
      } else if (packed) {
        if (exists[0] & (1u << r)) *reinterpret_cast<Pack*>(to[0] + offset) = pack;
      } else {
        Element* run = reinterpret_cast<Element*>(line);
        if constexpr (CAN_PACK) {
          *reinterpret_cast<Pack*>(run + lane * PIECES) = pack;
        } else {
#pragma unroll
          for (int ew = 0; ew < PIECES; ++ew) run[lane * PIECES + ew] = pack.v[ew];
        }
        __syncwarp();
#pragma unroll
        for (int k = 0; k < PIECES; ++k) put(to[k] + offset, run[lane + 32 * k], exists[k] & (1u << r));
        __syncwarp();
      }
    }
#pragma unroll
    for (int k = 0; k < PIECES; ++k) to[k] += channel_pitch;
  }
}

}  // namespace upconv
