// The register tile of the `cpu_channels` family: MR positions x NV vectors of channels, A broadcast from a
// channels-last tile, B read from a packed panel. Compiled once per instruction set.
#pragma once

#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {

#if defined(__AVX512F__)
inline constexpr int block_m = 12;  // 24 of 32 registers accumulate
#else
inline constexpr int block_m = 6;   // 12 of 16 registers accumulate
#endif
inline constexpr int block_n = 2;
/// Where the channels fill three vectors and no more, fewer positions by three vectors.
inline constexpr int block_m3 = block_m * 2 / 3;

/// Runs of the k dimension, each contiguous in A and in B.
struct KRuns {
  const std::int64_t* source;  ///< element offset of each run in the A tile
  const std::int64_t* panel;   ///< k offset of each run in the B panel
  std::int64_t count;
  std::int64_t begin, length;  ///< within each run
};

/// C[m][n] (+)= sum over k of A[m][k] * B[k][n] for MR rows, each at its own place in A and C.
template <class T, int MR, int NV>
static void multiply(const T* a, const std::int32_t* a_offset, const KRuns& runs, const T* b, T* c,
                     const std::int32_t* c_offset, bool accumulate) {
  constexpr int VL = lanes<T>;
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) acc[m][n] = accumulate ? load(c + c_offset[m] + n * VL) : Vec<T>{};
  for (std::int64_t r = 0; r < runs.count; ++r) {
    const T* p[MR];
    const T* q = b + (runs.panel[r] + runs.begin) * (NV * VL);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) p[m] = a + a_offset[m] + runs.source[r] + runs.begin;
#pragma GCC unroll 4
    for (std::int64_t k = 0; k < runs.length; ++k) {
      Vec<T> bv[NV];
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) bv[n] = load(q + n * VL);
      q += NV * VL;
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const Vec<T> av = broadcast(p[m][k]);
#pragma GCC unroll 4
        for (int n = 0; n < NV; ++n) acc[m][n] += av * bv[n];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) store(c + c_offset[m] + n * VL, acc[m][n]);
}

/// Rows of a tile with one vector of channels where both positions and taps are neighbours, so that an element of A is
/// read once for several taps: any line of at least tap_rows can be cut into such tiles.
#if defined(__AVX512F__)
inline constexpr int tap_rows = 8;
#else
inline constexpr int tap_rows = 6;  // 11 of 16 registers accumulate, beside three taps and an element
#endif
inline constexpr int most_tap_rows = 2 * tap_rows - 1;
inline constexpr int most_taps = 3;  // of a group; two and three make up any number

/// Groups of two or three taps that are neighbours, each tap with a run of the k dimension.
struct TapGroups {
  const std::int64_t* source;  ///< element offset of each group's first tap in the A tile
  const std::int64_t* panel;   ///< k offset of each group's first tap in the B panel
  const std::int64_t* taps;    ///< their number
  std::int64_t count;
  std::int64_t begin, length;  ///< within each tap
  std::int64_t pitch;          ///< from a position, and from a tap, to the next in the A tile
  std::int64_t tap_panel;      ///< from a tap to the next in the B panel, in k
};

/// acc[m] += sum over k and taps of A[m + tap][k] * B[tap][k]: an element of A is read once for all taps.
template <int TAPS, class T, int MR>
static inline void add_taps(const T* a, std::int64_t pitch, const T* b, std::int64_t tap_panel, std::int64_t length,
                            Vec<T> (&acc)[MR]) {
  constexpr int VL = lanes<T>;
  for (std::int64_t k = 0; k < length; ++k) {
    Vec<T> bv[TAPS];
#pragma GCC unroll 4
    for (int t = 0; t < TAPS; ++t) bv[t] = load_held(b + (t * tap_panel + k) * VL);
#pragma GCC unroll 32
    for (int i = 0; i < MR + TAPS - 1; ++i) {
      const Vec<T> av = held(broadcast(a[i * pitch + k]));
#pragma GCC unroll 4
      for (int t = 0; t < TAPS; ++t)
        if (i >= t && i - t < MR) acc[i - t] += av * bv[t];
    }
  }
}

/// C[m] (+)= the products of all groups for MR positions of a line and one vector of channels.
template <class T, int MR>
static void multiply_taps(const T* a, const TapGroups& groups, const T* b, T* c, std::int64_t c_step, bool accumulate) {
  constexpr int VL = lanes<T>;
  Vec<T> acc[MR];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) acc[m] = accumulate ? load(c + m * c_step) : Vec<T>{};
  for (std::int64_t g = 0; g < groups.count; ++g) {
    const T* p = a + groups.source[g] + groups.begin;
    const T* q = b + (groups.panel[g] + groups.begin) * VL;
    if (groups.taps[g] == 2)
      add_taps<2>(p, groups.pitch, q, groups.tap_panel, groups.length, acc);
    else
      add_taps<most_taps>(p, groups.pitch, q, groups.tap_panel, groups.length, acc);
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) store(c + m * c_step, acc[m]);
}

template <class T>
using MultiplyTapsFn = void (*)(const T*, const TapGroups&, const T*, T*, std::int64_t, bool);

/// multiply_taps<T, rows> for tap_rows <= rows <= most_tap_rows.
template <class T, int MR = most_tap_rows>
static MultiplyTapsFn<T> multiply_taps_of(int rows) {
  if constexpr (MR == tap_rows)
    return multiply_taps<T, MR>;
  else
    return rows == MR ? multiply_taps<T, MR> : multiply_taps_of<T, MR - 1>(rows);
}

template <class T>
using MultiplyFn = void (*)(const T*, const std::int32_t*, const KRuns&, const T*, T*, const std::int32_t*, bool);

/// multiply<T, rows, NV> for 1 <= rows <= MR.
template <class T, int MR, int NV>
static MultiplyFn<T> multiply_rows(int rows) {
  if constexpr (MR == 1)
    return multiply<T, 1, NV>;
  else
    return rows == MR ? multiply<T, MR, NV> : multiply_rows<T, MR - 1, NV>(rows);
}

/// multiply<T, rows, vectors> for rows = 1..block_m and vectors = 1, 2; rows = 1..block_m3 and vectors = 3.
template <class T>
static MultiplyFn<T> multiply_of(int rows, int vectors) {
  return vectors == 1   ? multiply_rows<T, block_m, 1>(rows)
         : vectors == 2 ? multiply_rows<T, block_m, 2>(rows)
                        : multiply_rows<T, block_m3, 3>(rows);
}

}  // namespace upconv::UPCONV_ISA
