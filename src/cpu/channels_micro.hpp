// The register tile of the `cpu_channels` family: MR positions x NV vectors of channels, A broadcast from a
// channels-last tile, B read from a packed panel. Compiled once per instruction set.
#pragma once

#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {

#if defined(__AVX512F__)
inline constexpr int block_m = 12;  // 24 of 32 registers accumulate
#else
inline constexpr int block_m = 6;  // 12 of 16 registers accumulate
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
