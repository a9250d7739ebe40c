// Sums across the lanes of vectors, four vectors at a time, in registers: what products with positions or taps in the
// lanes end with (positions_weight_kernels.cpp, long_taps_kernels.cpp). Through memory, a vector of 64 bytes that is
// stored and loaded again by halves waits for the store each time. Compiled once per instruction set.
#pragma once

#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {

template <class T>
struct LanesOf16 {
  typedef T type __attribute__((vector_size(16)));
};

template <class V, int... I>
static inline auto add_halves(V v, Indices<I...>) {
  return __builtin_shufflevector(v, v, I...) + __builtin_shufflevector(v, v, (I + int(sizeof...(I)))...);
}
/// Halves added to halves until 16 bytes are left.
template <class T, class V>
static inline typename LanesOf16<T>::type fold(V v) {
  if constexpr (sizeof(V) == 16)
    return v;
  else
    return fold<T>(add_halves(v, typename MakeIndices<int(sizeof(V) / sizeof(T)) / 2>::type{}));
}

/// out[i] = the sum of vector i of four.
static inline void sum_lanes(Vec<float> a, Vec<float> b, Vec<float> c, Vec<float> d, float* out) {
  typedef LanesOf16<float>::type Quad4;
  const Quad4 p = fold<float>(a), q = fold<float>(b), r = fold<float>(c), s = fold<float>(d);
  const Quad4 pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
  const Quad4 rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
  const Quad4 sums = __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
  std::memcpy(out, &sums, sizeof sums);
}
static inline void sum_lanes(Vec<double> a, Vec<double> b, Vec<double> c, Vec<double> d, double* out) {
  typedef LanesOf16<double>::type Pair;
  const Pair p = fold<double>(a), q = fold<double>(b), r = fold<double>(c), s = fold<double>(d);
  const Pair pq = __builtin_shufflevector(p, q, 0, 2) + __builtin_shufflevector(p, q, 1, 3);
  const Pair rs = __builtin_shufflevector(r, s, 0, 2) + __builtin_shufflevector(r, s, 1, 3);
  std::memcpy(out, &pq, sizeof pq);
  std::memcpy(out + 2, &rs, sizeof rs);
}

/// out[r * K + k] = the sum of acc[r][k]. `out` has room for a multiple of four.
template <class T, int R, int K>
static inline void sum_lanes(const Vec<T> (&acc)[R][K], T* out) {
  const auto at = [&](int i) { return i < R * K ? acc[i / K][i % K] : Vec<T>{}; };
#pragma GCC unroll 8
  for (int i = 0; i < R * K; i += 4) sum_lanes(at(i), at(i + 1), at(i + 2), at(i + 3), out + i);
}

}  // namespace upconv::UPCONV_ISA
