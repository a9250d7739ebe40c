// Rows between tensors and local tiles: a strided row of a tensor to a contiguous row of the compute type, and the
// phases of an output row back into one contiguous line. Compiled once per instruction set.
#pragma once

#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  typedef Indices<I...> type;
};
template <class T>
using LaneIndices = typename MakeIndices<lanes<T>>::type;

template <class V, int... I>
static inline V shuffle_even(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...);
}
template <class V, int... I>
static inline V shuffle_odd(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + 1)...);
}
template <class V, int... I>
static inline V shuffle_low(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (I % 2 * int(sizeof...(I)) + I / 2)...);
}
template <class V, int... I>
static inline V shuffle_high(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (I % 2 * int(sizeof...(I)) + int(sizeof...(I)) / 2 + I / 2)...);
}

template <class T>
static inline void zero_row(T* row, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) store(row + i, Vec<T>{});
  for (; i < n; ++i) row[i] = T(0);
}

/// dst[i] = src[i * stride], widened.
template <class S, class T>
static inline void gather_row(const S* src, std::int64_t stride, T* dst, std::int64_t n) {
  if (stride == 1) return widen_row(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = widen(src[i * stride]);
}
template <class T>
static inline void copy_same(const T* src, T* dst, std::int64_t n) {
  constexpr int L = lanes<T>;
  if (n < L) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = src[i];
    return;
  }
  for (std::int64_t i = 0; i + L <= n; i += L) store(dst + i, load(src + i));
  store(dst + n - L, load(src + n - L));
}
/// Every other element, by whole vectors; reads no further than src[2n - 2].
template <class T>
static inline void gather_pairs(const T* src, T* dst, std::int64_t n) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L < n; i += L) store(dst + i, shuffle_even(load(src + 2 * i), load(src + 2 * i + L), LaneIndices<T>{}));
  for (; i < n; ++i) dst[i] = src[2 * i];
}
static inline void gather_row(const float* src, std::int64_t stride, float* dst, std::int64_t n) {
  if (stride == 1) return copy_same(src, dst, n);
  if (stride == 2) return gather_pairs(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = src[i * stride];
}
static inline void gather_row(const double* src, std::int64_t stride, double* dst, std::int64_t n) {
  if (stride == 1) return copy_same(src, dst, n);
  if (stride == 2) return gather_pairs(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = src[i * stride];
}

/// out[2i] = a[i], out[2i + 1] = b[i].
template <class T>
static inline void interleave_two(const T* a, const T* b, T* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> u = load(a + i), v = load(b + i);
    store(out + 2 * i, shuffle_low(u, v, LaneIndices<T>{}));
    store(out + 2 * i + L, shuffle_high(u, v, LaneIndices<T>{}));
  }
  for (; i < n; ++i) out[2 * i] = a[i], out[2 * i + 1] = b[i];
}
/// out[4i + r] = row_r[i].
template <class T>
static inline void interleave_four(const T* const* row, std::int64_t begin, T* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  constexpr LaneIndices<T> lane{};
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> a = load(row[0] + begin + i), b = load(row[1] + begin + i);
    const Vec<T> c = load(row[2] + begin + i), d = load(row[3] + begin + i);
    const Vec<T> ac = shuffle_low(a, c, lane), bd = shuffle_low(b, d, lane);
    const Vec<T> ac2 = shuffle_high(a, c, lane), bd2 = shuffle_high(b, d, lane);
    store(out + 4 * i, shuffle_low(ac, bd, lane));
    store(out + 4 * i + L, shuffle_high(ac, bd, lane));
    store(out + 4 * i + 2 * L, shuffle_low(ac2, bd2, lane));
    store(out + 4 * i + 3 * L, shuffle_high(ac2, bd2, lane));
  }
  for (; i < n; ++i)
    for (int r = 0; r < 4; ++r) out[4 * i + r] = row[r][begin + i];
}

/// Element k of the line is phase (k mod step), position k / step; writes elements [begin, end) to out[0..].
/// row[r] is where phase r starts.
template <class T>
static inline void merge_phases(const T* const* row, std::int64_t step, std::int64_t begin, std::int64_t end, T* out) {
  if (step == 1) return copy_same(row[0] + begin, out, end - begin);
  std::int64_t p = begin / step, r = begin % step, k = begin;
  for (; r != 0 && k < end; ++k) {
    *out++ = row[r][p];
    if (++r == step) r = 0, ++p;
  }
  const std::int64_t whole = (end - k) / step;
  if (step == 2) {
    interleave_two(row[0] + p, row[1] + p, out, whole);
  } else if (step == 4) {
    interleave_four(row, p, out, whole);
  } else if (step < 8) {
    for (std::int64_t s = 0; s < step; ++s)
      for (std::int64_t i = 0; i < whole; ++i) out[i * step + s] = row[s][p + i];
  } else {
    for (std::int64_t i = 0; i < whole; ++i)
      for (std::int64_t s = 0; s < step; ++s) out[i * step + s] = row[s][p + i];
  }
  out += whole * step;
  for (k += whole * step, p += whole; k < end; ++k) *out++ = row[r++][p];
}

/// n contiguous values to a tensor row of any element stride.
template <class T, class S>
static inline void scatter_row(const T* src, S* dst, std::int64_t stride, std::int64_t n) {
  if (stride == 1) return narrow_row(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) narrow(src[i], dst[i * stride]);
}

}  // namespace upconv::UPCONV_ISA
