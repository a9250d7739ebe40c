// From accumulators to the output: bias, epilogue, and one of two ways out. Empty phases receive the bias.
// STAGED: a warp interleaves the phases of its positions in shared memory and stores whole lines, 32 elements at once.
// else: runs of consecutive elements straight from the fragments, in as wide pieces as their address allows.
#pragma once

#include "epilogue/operands.cuh"
#include "mma/gather_shape.cuh"

namespace upconv::gather {

typedef Element Out;

template <class T>
__device__ __forceinline__ u32 pair_bits(float a, float b) {
  return u32(from_float<T>(a).bits) | u32(from_float<T>(b).bits) << 16;
}

/// Stores v[0..L) at elements [at, at + L) of `line`, those inside [0, size).
template <int L, class T>
__device__ __forceinline__ void store_run(T* line, int at, int size, const float (&v)[L]) {
  T* p = line + at;
  if (L > 1 && at >= 0 && at + L <= size) {
    const u32 address = static_cast<u32>(reinterpret_cast<unsigned long long>(p));
    if constexpr (sizeof(T) == 4) {
      if constexpr (L % 4 == 0) {
        if (address % 16 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 4)
            asm volatile("st.global.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(p + i), "f"(v[i]), "f"(v[i + 1]), "f"(v[i + 2]),
                         "f"(v[i + 3])
                         : "memory");
          return;
        }
      }
      if constexpr (L % 2 == 0) {
        if (address % 8 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 2)
            asm volatile("st.global.v2.f32 [%0], {%1,%2};" ::"l"(p + i), "f"(v[i]), "f"(v[i + 1]) : "memory");
          return;
        }
      }
    } else {
      if constexpr (L % 4 == 0) {
        if (address % 8 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 4)
            asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(p + i), "r"(pair_bits<T>(v[i], v[i + 1])),
                         "r"(pair_bits<T>(v[i + 2], v[i + 3]))
                         : "memory");
          return;
        }
      }
      if constexpr (L % 2 == 0) {
        if (address % 4 == 0) {
#pragma unroll
          for (int i = 0; i < L; i += 2)
            asm volatile("st.global.b32 [%0], %1;" ::"l"(p + i), "r"(pair_bits<T>(v[i], v[i + 1])) : "memory");
          return;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < L; ++i)
    if (unsigned(at + i) < unsigned(size)) p[i] = from_float<T>(v[i]);
}

typedef float Accumulators[PHASES][MT][NT][4];

__device__ __forceinline__ float with_bias(float v, float bias) { return HAS_BIAS ? v + bias : v; }

/// The epilogue of column `column` of the result's group, whose element `to` exists.
__device__ __forceinline__ float finish(const Arguments& a, const config::Operands& operands, float v, int n, int group,
                                        int column, const Out* to) {
  constexpr int merged = FORWARD ? merged_volume : 1;
  return config::epilogue(v, operands, n, group * (COLUMNS / merged) + column / merged,
                          to - static_cast<const Out*>(a.out));
}

__device__ __forceinline__ float bias_of(const Arguments& a, int group, int column) {
  if (!HAS_BIAS || column >= COLUMNS) return 0.0f;
  return to_float(static_cast<const Out*>(a.bias)[group * (COLUMNS / merged_volume) + column / merged_volume]);
}

/// `tile` is the place of the block's tile, `position0` the warp's first position in it, `column0` its first column.
__device__ __forceinline__ void store_tile(const Arguments& a, const config::Operands& operands, const Place& tile,
                                           int group, int position0, int column0, const Accumulators& acc) {
  constexpr int open_d = FORWARD ? open_stride(DIM_D) : 1, open_h = FORWARD ? open_stride(DIM_H) : 1,
                open_w = FORWARD ? open_stride(DIM_W) : 1;
  constexpr int RUNS = 2 * MT / J;  // runs of J positions a lane holds
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int run = 0; run < RUNS; ++run) {
    const int mt0 = J == 4 ? run * 2 : J == 2 ? run : run / 2, half0 = J == 1 ? run % 2 : 0;
    const int p = position0 + row_position(mt0, half0, lane / 4);
    const int qw = tile.w + p % TW, qh = tile.h + p / TW % TH, qd = tile.d + p / (TW * TH) % TD;
    const int n = tile.n + p / (TW * TH * TD);
    if (n >= a.batch) continue;
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      const int column = column0 + nt * 8 + lane % 4 * 2;
      const float bias[2] = {bias_of(a, group, column), bias_of(a, group, column + 1)};
#pragma unroll
      for (int pd = 0; pd < open_d; ++pd) {
#pragma unroll
        for (int ph = 0; ph < open_h; ++ph) {
          const bool line_filled =
              !FORWARD || (residue_used(DIM_D, DIM_D.merged ? 0 : pd) && residue_used(DIM_H, DIM_H.merged ? 0 : ph));
          const int row_phase = FORWARD ? (residues_below(DIM_D, pd) * phases_h + residues_below(DIM_H, ph)) : 0;
          // The value for element o of `line`; where operands are read it is not computed outside of the line.
          const auto value = [&](int pw, int j, int e, const Out* line, int o) {
            const bool filled = line_filled && (!FORWARD || residue_used(DIM_W, DIM_W.merged ? 0 : pw));
            const int phase = FORWARD ? row_phase * phases_w + residues_below(DIM_W, pw) : 0;
            const int mt = J == 4 ? mt0 + j / 2 : mt0, half = J == 1 ? half0 : j % 2;
            const float v = with_bias(filled ? acc[phase][mt][nt][half * 2 + e] : 0.0f, bias[e]);
            if (config::OPERANDS > 0 && unsigned(o) >= unsigned(a.out_size[2])) return v;
            return finish(a, operands, v, n, group, column + e, line + o * a.out_w);
          };
          const auto line_of = [&](int col, bool& ok) {
            const int r = col % merged_volume;
            const int channel =
                group * (COLUMNS / (FORWARD ? merged_volume : 1)) + (FORWARD ? col / merged_volume : col);
            int od = qd, oh = qh;
            if (FORWARD) {
              od = DIM_D.stride * qd - a.padding[0] +
                   (DIM_D.merged ? r / (merged_stride(DIM_H) * merged_stride(DIM_W)) : pd);
              oh = DIM_H.stride * qh - a.padding[1] +
                   (DIM_H.merged ? r / merged_stride(DIM_W) % merged_stride(DIM_H) : ph);
            }
            ok = col < COLUMNS && unsigned(od) < unsigned(a.out_size[0]) && unsigned(oh) < unsigned(a.out_size[1]);
            return static_cast<Out*>(a.out) + n * a.out_n + channel * a.out_c + od * a.out_d + oh * a.out_h;
          };
          const int ow = FORWARD ? DIM_W.stride * qw - a.padding[2] : qw;
          constexpr int merged_w = FORWARD ? merged_stride(DIM_W) : 1;
          if constexpr (OUT_LAST) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
              const int rw = (column + e) % merged_w;
#pragma unroll
              for (int j = 0; j < J; ++j)
#pragma unroll
                for (int pw = 0; pw < open_w; ++pw) {
                  const int o = ow + j * (FORWARD ? DIM_W.stride : 1) + rw + pw;
                  if (ok && unsigned(o) < unsigned(a.out_size[2]))
                    line[o * a.out_w] = from_float<Out>(value(pw, j, e, line, o));
                }
            }
          } else if constexpr (merged_w % 2 == 0) {  // the two columns are neighbours in w
            bool ok;
            Out* line = line_of(column, ok);
            if (!ok) continue;
            if constexpr (merged_w == 2) {
              float v[2 * J];
#pragma unroll
              for (int j = 0; j < J; ++j)
                v[2 * j] = value(0, j, 0, line, ow + 2 * j), v[2 * j + 1] = value(0, j, 1, line, ow + 2 * j + 1);
              store_run<2 * J>(line, ow, a.out_size[2], v);
            } else {
#pragma unroll
              for (int j = 0; j < J; ++j) {
                const int o = ow + j * merged_w + column % merged_w;
                float v[2] = {value(0, j, 0, line, o), value(0, j, 1, line, o + 1)};
                store_run<2>(line, o, a.out_size[2], v);
              }
            }
          } else if constexpr (merged_w > 1) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
#pragma unroll
              for (int j = 0; j < J; ++j) {
                const int o = ow + j * merged_w + (column + e) % merged_w;
                if (ok && unsigned(o) < unsigned(a.out_size[2])) line[o] = from_float<Out>(value(0, j, e, line, o));
              }
            }
          } else {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              bool ok;
              Out* line = line_of(column + e, ok);
              if (!ok) continue;
              float v[J * open_w];
#pragma unroll
              for (int j = 0; j < J; ++j)
#pragma unroll
                for (int pw = 0; pw < open_w; ++pw) v[j * open_w + pw] = value(pw, j, e, line, ow + j * open_w + pw);
              store_run<J * open_w>(line, ow, a.out_size[2], v);
            }
          }
        }
      }
    }
  }
}

// Staging: 8 columns (an n-tile) of BATCH positions, as LINES lines (columns, or columns / merged stride) of their
// rows.
constexpr int spread_w = FORWARD ? DIM_W.stride : 1, merged_w = FORWARD ? merged_stride(DIM_W) : 1,
              open_d = FORWARD ? open_stride(DIM_D) : 1, open_h = FORWARD ? open_stride(DIM_H) : 1,
              open_w = FORWARD ? open_stride(DIM_W) : 1;
constexpr int BATCH_TILES = J == 4 ? 2 : spread_w == 1 ? (MT < 4 ? MT : 4) : spread_w == 2 ? (MT < 2 ? MT : 2) : 1;
constexpr int BATCH = 16 * BATCH_TILES, LINES = 8 / merged_w;
static_assert(!STAGED || 8 % merged_w == 0, "an n-tile holds whole lines");
constexpr int LINE_PITCH = BATCH * spread_w + (merged_w == 1 && spread_w == 1 ? 4 : 1);
constexpr int STAGE_WORDS = STAGED ? (LINES * LINE_PITCH + 3) / 4 * 4 : 0;  // of a warp
constexpr int ROW_POSITIONS = TW < BATCH ? TW : BATCH;                      // neighbours in w
constexpr int ROW_WORDS = ROW_POSITIONS * spread_w, ROWS = BATCH / ROW_POSITIONS;
constexpr int ROWS_AT_ONCE = ROW_WORDS < 32 ? 32 / ROW_WORDS : 1;  // by a warp; rows under 32 words fill it together
constexpr int ROW_STEPS = (ROW_WORDS + 31) / 32;
constexpr int used_lanes = ROW_WORDS < 32 ? ROWS_AT_ONCE * ROW_WORDS : 32;

/// Stores the LINES lines of `batch`'s positions at columns [column, column + 8), row phase (pd, ph): from `stage`, or
/// where that is 0, what an empty phase holds. An epilogue that reads operands is applied here, where neighbouring
/// lanes have neighbouring elements; any other when the stage is filled.
__device__ __forceinline__ void store_lines(const Arguments& a, const config::Operands& operands, const Place& tile,
                                            int group, int first_position, int column, int pd, int ph, u32 stage) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int row0 = 0; row0 < ROWS; row0 += ROWS_AT_ONCE) {
    const int row = row0 + (ROWS_AT_ONCE > 1 ? lane / ROW_WORDS : 0);
    const int p = first_position + row * ROW_POSITIONS;
    const int n = tile.n + p / (TW * TH * TD);
    const int od = (FORWARD ? DIM_D.stride : 1) * (tile.d + p / (TW * TH) % TD) - (FORWARD ? a.padding[0] - pd : 0);
    const int oh = (FORWARD ? DIM_H.stride : 1) * (tile.h + p / TW % TH) - (FORWARD ? a.padding[1] - ph : 0);
    const int ow = spread_w * (tile.w + p % TW) - (FORWARD ? a.padding[2] : 0);
    const bool row_ok = row < ROWS && lane < used_lanes && n < a.batch;
    Out* base = static_cast<Out*>(a.out) + n * a.out_n + od * a.out_d + oh * a.out_h + ow;
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
      const int c = column + line * merged_w, r = c % merged_volume;
      const int rd = FORWARD && DIM_D.merged ? r / (merged_stride(DIM_H) * merged_stride(DIM_W)) : 0,
                rh = FORWARD && DIM_H.merged ? r / merged_stride(DIM_W) % merged_stride(DIM_H) : 0;
      const int channel = group * (COLUMNS / (FORWARD ? merged_volume : 1)) + (FORWARD ? c / merged_volume : c);
      const bool ok = row_ok && c < COLUMNS && unsigned(od + rd) < unsigned(a.out_size[0]) &&
                      unsigned(oh + rh) < unsigned(a.out_size[1]);
      Out* out = base + channel * a.out_c + rd * a.out_d + rh * a.out_h;
      float empty = stage ? 0.0f : with_bias(0.0f, bias_of(a, group, c));
      if (config::OPERANDS == 0 && !stage) empty = finish(a, operands, empty, n, group, c, out);
#pragma unroll
      for (int step = 0; step < ROW_STEPS; ++step) {
        const int word = (ROWS_AT_ONCE > 1 ? lane % ROW_WORDS : lane) + step * 32;
        const bool inside =
            (ROW_WORDS % 32 == 0 || word < ROW_WORDS) && ((ROWS % ROWS_AT_ONCE == 0 && used_lanes == 32) || row < ROWS);
        const u32 spot = line * LINE_PITCH + (inside ? row * ROW_WORDS + word : 0);
        float v = stage ? __uint_as_float(load_shared(stage + 4 * spot)) : empty;
        if (ok && inside && unsigned(ow + word) < unsigned(a.out_size[2])) {
          if constexpr (config::OPERANDS > 0) v = finish(a, operands, v, n, group, c, out + word);
          out[word] = from_float<Out>(v);
        }
      }
    }
  }
}

/// As store_tile; `stage` is the warp's shared address of STAGE_WORDS.
__device__ __forceinline__ void store_tile_staged(const Arguments& a, const config::Operands& operands,
                                                  const Place& tile, int group, int position0, int column0, u32 stage,
                                                  const Accumulators& acc) {
  const int lane = threadIdx.x % 32;
  constexpr int rows_d = FORWARD ? residues(DIM_D) : 1, rows_h = FORWARD ? residues(DIM_H) : 1;
#pragma unroll
  for (int batch = 0; batch < MT / BATCH_TILES; ++batch) {
#pragma unroll
    for (int nt = 0; nt < NT; ++nt) {
      const int column = column0 + nt * 8;
      const float bias[2] = {bias_of(a, group, column + lane % 4 * 2), bias_of(a, group, column + lane % 4 * 2 + 1)};
      static_for<0, rows_d * rows_h>([&](auto row_index) {
        constexpr int row = decltype(row_index)::value;
        __syncwarp();
        static_for<0, open_w>([&](auto residue_index) {
          constexpr int pw = decltype(residue_index)::value;
          constexpr int phase = FORWARD ? row * phases_w + residues_below(DIM_W, pw) : 0;
          constexpr bool here = !FORWARD || DIM_W.merged || residue_used(DIM_W, pw);
#pragma unroll
          for (int m = 0; m < BATCH_TILES; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              float sum = 0.0f;
              if constexpr (here) sum = acc[phase][batch * BATCH_TILES + m][nt][i];
              const int p = row_position(m, i / 2, lane / 4), c = lane % 4 * 2 + i % 2;
              float v = with_bias(sum, bias[i % 2]);
              if constexpr (config::OPERANDS == 0) v = finish(a, operands, v, 0, 0, 0, nullptr);
              store_shared(stage + 4 * (c / merged_w * LINE_PITCH + p * spread_w + (DIM_W.merged ? c % merged_w : pw)),
                           __float_as_uint(v));
            }
        });
        __syncwarp();
        store_lines(a, operands, tile, group, position0 + batch * BATCH, column,
                    FORWARD && !DIM_D.merged ? used_residue(DIM_D, row / rows_h) : 0,
                    FORWARD && !DIM_H.merged ? used_residue(DIM_H, row % rows_h) : 0, stage);
      });
    }
  }
  if constexpr (rows_d * rows_h < open_d * open_h) {
#pragma unroll 1
    for (int row = 0; row < open_d * open_h; ++row) {
      const int pd = row / open_h, ph = row % open_h;
      if (residue_used(DIM_D, pd) && residue_used(DIM_H, ph)) continue;
#pragma unroll 1
      for (int i = 0; i < MT / BATCH_TILES * NT; ++i)
        store_lines(a, operands, tile, group, position0 + i / NT * BATCH, column0 + i % NT * 8, pd, ph, 0);
    }
  }
}

}  // namespace upconv::gather
