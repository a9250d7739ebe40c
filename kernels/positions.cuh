// cuda_positions: forward and dx of problems with few channels a group, by fp32 multiply-adds at memory speed.
//
// A thread computes U positions of the coarse grid, for all of their output phases, for COT produced channels:
//   out[n, c, PHASES*u + e - SHIFT] = sum over summed channels and taps t that reach phase e of
//                                     in[n, ci, STEP*u + offset(e, t)] * w[ci, c, t].
// Forward: PHASES = stride, STEP = 1, in = x, out = y. dx: PHASES = 1, STEP = stride, in = dy, out = dx.
// Phases, taps and offsets are compile-time constants; a phase without taps costs its store. The block's weights lie
// in shared memory as fp32, read by all lanes at once; each tap's weight is read once for the thread's U positions.
//
// Two mappings: lanes along the line (channels first, or dense channels last), or lanes along the groups (channels
// last with one or few channels a group). With little work `slices` parts of a block share the summed channels of the
// same positions and add up in order through shared memory.
//
// Shared memory, in floats: weights [CI][taps][COT] ([..][32] with lanes along groups); at STAGE_AT a staging line a
// warp, through which phases are interleaved when a thread's outputs cannot be stored as one vector; at SLICES_AT the
// slices' sums. Floor: each tensor once through memory, or the products over the FFMA rate.
#include "positions/phases.cuh"
#include "ptx/dependents.cuh"

namespace upconv {

/// The weights of one summed channel, [tap][COT], as a thread walks through them: four to a read, the same for all
/// lanes (or one a lane). Every index is a constant once the loops over taps are unrolled.
struct Weights {
  const float* at;
  float v[4];

  __device__ __forceinline__ float next(int index) {
    if constexpr (LANES > 1) {
      return at[index * LANES];
    } else {
      if (index % 4 == 0) {
        const float4 q = *reinterpret_cast<const float4*>(at + index);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
      }
      return v[index % 4];
    }
  }
};
constexpr int CHANNEL_WEIGHTS = (TAPS * COT + 3) / 4 * 4 * LANES;

struct Inputs {
  const Element* at;        ///< the window's first element of the first summed channel; may lie outside the tensor
  u32 columns[UW][WD][WH];  ///< bit c: column c of that row may be read
  int row_pitch, plane_pitch;
};

__device__ __forceinline__ Inputs locate(const Element* in, const Place& p, const PositionsShape& s) {
  Inputs r;
  const int d0 = AxisD::step * p.ud + AxisD::low, h0 = AxisH::step * (p.uh * UH) + AxisH::low;
  const int w0 = AxisW::step * p.uw + AxisW::low;
  r.at = in + (static_cast<i64>(d0 * s.in_h + h0) * s.in_w + w0) * config::IN_COLUMN;
  r.row_pitch = s.in_w * config::IN_COLUMN;
  r.plane_pitch = s.in_h * r.row_pitch;
#pragma unroll
  for (int j = 0; j < UW; ++j) {
    u32 columns = 0;
#pragma unroll
    for (int c = 0; c < WW; ++c)
      if (static_cast<u32>(w0 + AxisW::step * 32 * j + c) < static_cast<u32>(s.in_w)) columns |= 1u << c;
#pragma unroll
    for (int d = 0; d < WD; ++d)
#pragma unroll
      for (int h = 0; h < WH; ++h) {
        const bool ok = p.active && static_cast<u32>(d0 + d) < static_cast<u32>(s.in_d) &&
                        static_cast<u32>(h0 + h) < static_cast<u32>(s.in_h);
        r.columns[j][d][h] = ok ? columns : 0u;
      }
  }
  return r;
}

struct Window {
  float v[UW][WD][WH][WW];
};

__device__ __forceinline__ float read(const Inputs& in, const Element* at, int j, int d, int h, int w) {
  return load(at + d * in.plane_pitch + h * in.row_pitch + (AxisW::step * 32 * j + w) * config::IN_COLUMN,
              in.columns[j][d][h] & (1u << w));
}

__device__ __forceinline__ void read_window(Window& x, const Inputs& in, const Element* at) {
#pragma unroll
  for (int d = 0; d < WD; ++d)
#pragma unroll
    for (int h = 0; h < WH; ++h)
#pragma unroll
      for (int j = 0; j < UW; ++j)
#pragma unroll
        for (int w = 0; w < WW; ++w) x.v[j][d][h][w] = read(in, at, j, d, h, w);
}

constexpr __device__ int phase_of(int td, int th, int tw) {
  return (AxisD::phase(td) * AxisH::phases + AxisH::phase(th)) * AxisW::phases + AxisW::phase(tw);
}

/// One summed channel: every tap with the window value it pairs with.
__device__ __forceinline__ void add_channel(Sums& sums, const Window& x, const float* shared, int ci) {
  Weights weights{shared + ci * CHANNEL_WEIGHTS};
#pragma unroll
  for (int td = 0; td < config::KD; ++td)
#pragma unroll
    for (int th = 0; th < config::KH; ++th)
#pragma unroll
      for (int tw = 0; tw < config::KW; ++tw) {
        float w[COT];
#pragma unroll
        for (int c = 0; c < COT; ++c) w[c] = weights.next(((td * config::KH + th) * config::KW + tw) * COT + c);
#pragma unroll
        for (int u = 0; u < U; ++u) {
          const float v =
              x.v[UW > 1 ? u : 0][AxisD::offset(td) - AxisD::low]
                 [AxisH::offset(th) - AxisH::low + (UH > 1 ? AxisH::step * u : 0)][AxisW::offset(tw) - AxisW::low];
#pragma unroll
          for (int c = 0; c < COT; ++c) sums.v[u][phase_of(td, th, tw)][c] += v * w[c];
        }
      }
}

/// The same with rows read as the taps need them, for windows too large for registers (UH = 1).
__device__ __forceinline__ void add_channel_by_rows(Sums& sums, const Inputs& in, const Element* at,
                                                    const float* shared, int ci) {
  Weights weights{shared + ci * CHANNEL_WEIGHTS};
#pragma unroll
  for (int td = 0; td < config::KD; ++td)
#pragma unroll
    for (int th = 0; th < config::KH; ++th) {
      float x[UW][WW];
#pragma unroll
      for (int j = 0; j < UW; ++j)
#pragma unroll
        for (int w = 0; w < WW; ++w)
          x[j][w] = read(in, at, j, AxisD::offset(td) - AxisD::low, AxisH::offset(th) - AxisH::low, w);
#pragma unroll
      for (int tw = 0; tw < config::KW; ++tw) {
        float w[COT];
#pragma unroll
        for (int c = 0; c < COT; ++c) w[c] = weights.next(((td * config::KH + th) * config::KW + tw) * COT + c);
#pragma unroll
        for (int j = 0; j < UW; ++j)
#pragma unroll
          for (int c = 0; c < COT; ++c)
            sums.v[j][phase_of(td, th, tw)][c] += x[j][AxisW::offset(tw) - AxisW::low] * w[c];
      }
    }
}

/// Adds the slices' sums into slice 0's, in the order of a fixed tree.
__device__ __forceinline__ void add_slices(Sums& sums, float* shared, int slice, int slices, int thread, int per) {
  constexpr int count = U * PHASES * COT;
  float* mine = &sums.v[0][0][0];
  for (int half = slices / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (slice >= half && slice < 2 * half) {
      float* to = shared + ((slice - half) * count) * per + thread;
#pragma unroll
      for (int a = 0; a < count; ++a) to[a * per] = mine[a];
    }
    __syncthreads();
    if (slice < half) {
      const float* from = shared + (slice * count) * per + thread;
#pragma unroll
      for (int a = 0; a < count; ++a) mine[a] += from[a * per];
    }
  }
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(config::THREADS, config::BLOCKS)
    upconv_positions(const upconv::Element* in, const upconv::Element* w, const upconv::Element* bias,
                     upconv::Element* __restrict__ out, const upconv::PositionsShape s,
                     const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  extern __shared__ __align__(16) float shared[];
  constexpr int TILES = (config::CO + COT - 1) / COT;
  const int lane = threadIdx.x & 31;
  int block = blockIdx.x;
  const int tile = block % TILES;
  block /= TILES;
  const int part = block % s.blocks;
  block /= s.blocks;
  const int first_group = block * LANES;
  const int group = first_group + (GROUP_LANES ? lane : 0);
  const int c0 = tile * COT;
  after_previous(in, bias);

  // Weights to shared memory: [CI][CHANNEL_WEIGHTS / LANES][LANES].
  for (int i = threadIdx.x; i < CI * CHANNEL_WEIGHTS; i += THREADS) {
    const int l = i % LANES, flat = i / LANES % (CHANNEL_WEIGHTS / LANES), ci = i / CHANNEL_WEIGHTS;
    const int c = flat % COT, tap = flat / COT;
    const int tw = tap % config::KW, th = tap / config::KW % config::KH, td = tap / config::KW / config::KH;
    float v = 0.0f;
    if (tap < TAPS && c0 + c < config::CO && first_group + l < s.groups)
      v = to_float(w[static_cast<i64>(first_group + l) * config::W_GROUP + ci * config::W_IN +
                     (c0 + c) * config::W_OUT + td * config::W_TD + th * config::W_TH + tw * config::W_TW]);
    shared[i] = v;
  }
  __syncthreads();

  const int per_slice = THREADS / s.slices;  // a multiple of 32
  const int slice = threadIdx.x / per_slice, thread = threadIdx.x % per_slice;
  const int per = GROUP_LANES ? per_slice / 32 : per_slice;
  const int local = GROUP_LANES ? thread / 32 : thread;
  const int chunk = (CI + s.slices - 1) / s.slices;
  const int ci_begin = slice * chunk, ci_end = ci_begin + chunk < CI ? ci_begin + chunk : CI;

  const i64 in_volume = static_cast<i64>(s.in_d) * s.in_h * s.in_w;
  const i64 out_volume = static_cast<i64>(s.out_d) * s.out_h * s.out_w;
  const i64 in_channel = static_cast<i64>(group) * CI, out_channel = static_cast<i64>(group) * config::CO + c0;
  const Element* from = in + (config::IN_CL ? in_channel : in_channel * in_volume);
  Element* to = out + (config::OUT_CL ? out_channel : out_channel * out_volume);
  const i64 in_sample = in_volume * (static_cast<i64>(s.groups) * CI);
  const i64 ci_pitch = config::IN_CL ? 1 : in_volume;
  float* line = shared + config::STAGE_AT + (threadIdx.x / 32) * (32 * AxisW::phases);

  for (int step = 0; step < s.steps; ++step) {
    const int index = (part * s.steps + step) * per + local;
    Place p;
    p.active = index < s.total && group < s.groups;
    p.n = static_cast<u32>(index) / static_cast<u32>(s.positions);
    const u32 rest = index - p.n * s.positions;
    const u32 row = rest / static_cast<u32>(s.columns), column = rest - row * s.columns;
    p.uw = UW > 1 ? column / 32 * (32 * UW) + column % 32 : column;
    p.ud = config::FLAT ? 0 : row / static_cast<u32>(s.rows);
    p.uh = row - p.ud * s.rows;
    const Inputs inputs = locate(from + p.n * in_sample, p, s);
    Sums sums;
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int e = 0; e < PHASES; ++e)
#pragma unroll
        for (int c = 0; c < COT; ++c) sums.v[u][e][c] = 0.0f;
    if constexpr (!config::WHOLE) {
#pragma unroll 1
      for (int ci = ci_begin; ci < ci_end; ++ci)
        add_channel_by_rows(sums, inputs, inputs.at + ci * ci_pitch, shared + (GROUP_LANES ? lane : 0), ci);
    } else if constexpr (CI == 1) {
      Window x;
      read_window(x, inputs, inputs.at);
      add_channel(sums, x, shared + (GROUP_LANES ? lane : 0), 0);
    } else if (ci_begin < ci_end) {
      Window x;
      const Element* at = inputs.at + ci_begin * ci_pitch;
      read_window(x, inputs, at);
#pragma unroll 1
      for (int ci = ci_begin; ci < ci_end; ++ci) {
        Window next;
        at += ci_pitch;
        if (ci + 1 < ci_end) read_window(next, inputs, at);
        add_channel(sums, x, shared + (GROUP_LANES ? lane : 0), ci);
        x = next;
      }
    }
    if (s.slices > 1) add_slices(sums, shared + config::SLICES_AT, slice, s.slices, thread, per_slice);
    if (slice == 0)
      store(sums, to, bias + out_channel, config::CO - c0, p, s, line, {operands, int(out_channel), to - out});
  }
}
