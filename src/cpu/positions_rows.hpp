// Rows between tensors and local tiles: a strided row of a tensor to a contiguous row of the compute type, and the
// phases of an output row back into one contiguous line. Compiled once per instruction set.
#pragma once

#include "cpu/simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

/// Elements first + step*i of the 2L or 3L values a, b, c laid end to end: two shuffles for three sources.
template <class V, int... I>
static inline V pick_third(V a, V b, V c, int residue, Indices<I...>) {
  constexpr int L = int(sizeof...(I));
  constexpr auto two = [](int at, int) { return at < 2 * L ? at : 0; };
  constexpr auto three = [](int at, int lane) { return at < 2 * L ? lane : at - L; };
  if (residue == 0) return __builtin_shufflevector(__builtin_shufflevector(a, b, two(3 * I, I)...), c, three(3 * I, I)...);
  if (residue == 1)
    return __builtin_shufflevector(__builtin_shufflevector(a, b, two(3 * I + 1, I)...), c, three(3 * I + 1, I)...);
  return __builtin_shufflevector(__builtin_shufflevector(a, b, two(3 * I + 2, I)...), c, three(3 * I + 2, I)...);
}
/// Vector `part` of the line that interleaves a, b, c.
template <int part, class V, int... I>
static inline V weave_third(V a, V b, V c, Indices<I...>) {
  constexpr int L = int(sizeof...(I));
  constexpr auto two = [](int at) { return at % 3 < 2 ? at % 3 * L + at / 3 : 0; };
  constexpr auto three = [](int at, int lane) { return at % 3 < 2 ? lane : L + at / 3; };
  return __builtin_shufflevector(__builtin_shufflevector(a, b, two(part * L + I)...), c, three(part * L + I, I)...);
}

template <class T>
static inline void zero_row(T* row, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) store(row + i, Vec<T>{});
  for (; i < n; ++i) {
    row[i] = T(0);
    asm volatile("" ::: "memory");  // a handful of elements: not worth the call of memset this loop would become
  }
}

/// Zeros before `begin` and from `end` on in a row of `width` values; may clear values between, which come afterwards.
template <class T>
static inline void zero_edges(T* row, std::int64_t begin, std::int64_t end, std::int64_t width) {
  constexpr int L = lanes<T>;
  if (begin > L || width - end > L || width < L) {
    zero_row(row, begin);
    zero_row(row + end, width - end);
    return;
  }
  if (begin > 0) store(row, Vec<T>{});
  if (end < width) store(row + width - L, Vec<T>{});
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

/// dst[i] = src[i * stride], widened.
template <class S, class T>
static inline void gather_row(const S* src, std::int64_t stride, T* dst, std::int64_t n) {
  if (stride == 1) return widen_row(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = widen(src[i * stride]);
}

template <class T>
static inline void split_two(const T* src, T* even, T* odd, std::int64_t n) {
  constexpr int L = lanes<T>;
  if (n < L) {
    for (std::int64_t i = 0; i < n; ++i) even[i] = src[2 * i], odd[i] = src[2 * i + 1];
    return;
  }
  for (std::int64_t i = 0;; i = i + 2 * L <= n ? i + L : n - L) {  // the last step overlaps the one before
    const Vec<T> a = load(src + 2 * i), b = load(src + 2 * i + L);
    store(even + i, shuffle_even(a, b, LaneIndices<T>{}));
    store(odd + i, shuffle_odd(a, b, LaneIndices<T>{}));
    if (i + L == n) return;
  }
}
template <class T>
static inline void split_three(const T* src, T* const* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> a = load(src + 3 * i), b = load(src + 3 * i + L), c = load(src + 3 * i + 2 * L);
    store(out[0] + i, pick_third(a, b, c, 0, LaneIndices<T>{}));
    store(out[1] + i, pick_third(a, b, c, 1, LaneIndices<T>{}));
    store(out[2] + i, pick_third(a, b, c, 2, LaneIndices<T>{}));
  }
  for (; i < n; ++i)
    for (int r = 0; r < 3; ++r) out[r][i] = src[3 * i + r];
}
template <class T>
static inline void split_four(const T* src, T* const* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  constexpr LaneIndices<T> lane{};
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> a = load(src + 4 * i), b = load(src + 4 * i + L);
    const Vec<T> c = load(src + 4 * i + 2 * L), d = load(src + 4 * i + 3 * L);
    const Vec<T> e = shuffle_even(a, b, lane), f = shuffle_even(c, d, lane);
    const Vec<T> o = shuffle_odd(a, b, lane), p = shuffle_odd(c, d, lane);
    store(out[0] + i, shuffle_even(e, f, lane));
    store(out[1] + i, shuffle_even(o, p, lane));
    store(out[2] + i, shuffle_odd(e, f, lane));
    store(out[3] + i, shuffle_odd(o, p, lane));
  }
  for (; i < n; ++i)
    for (int r = 0; r < 4; ++r) out[r][i] = src[4 * i + r];
}
/// out[r][i] = src[step*i + r]; a null out[r] is left out.
template <class T>
static inline void split_row(const T* src, std::int64_t step, T* const* out, std::int64_t n) {
  if (step == 1) return copy_same(src, out[0], n);
  if (step <= 4) {
    bool all = true;
    for (std::int64_t r = 0; r < step; ++r) all &= out[r] != nullptr;
    if (all) return step == 2 ? split_two(src, out[0], out[1], n) : step == 3 ? split_three(src, out, n) : split_four(src, out, n);
  }
  if (step < 8) {
    for (std::int64_t r = 0; r < step; ++r)
      if (out[r])
        for (std::int64_t i = 0; i < n; ++i) out[r][i] = src[step * i + r];
    return;
  }
  for (std::int64_t r = 0; r < step; r += 8)  // eight residues at a time: whole source lines, few written lines
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = r; k < (r + 8 < step ? r + 8 : step); ++k)
        if (out[k]) out[k][i] = src[step * i + k];
}

/// out[2i] = a[i], out[2i + 1] = b[i].
template <class T>
static inline void interleave_two(const T* a, const T* b, T* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  if (n < L) {
    for (std::int64_t i = 0; i < n; ++i) out[2 * i] = a[i], out[2 * i + 1] = b[i];
    return;
  }
  for (std::int64_t i = 0;; i = i + 2 * L <= n ? i + L : n - L) {
    const Vec<T> u = load(a + i), v = load(b + i);
    store(out + 2 * i, shuffle_low(u, v, LaneIndices<T>{}));
    store(out + 2 * i + L, shuffle_high(u, v, LaneIndices<T>{}));
    if (i + L == n) return;
  }
}
template <class T>
static inline void interleave_three(const T* const* row, std::int64_t begin, T* out, std::int64_t n) {
  constexpr int L = lanes<T>;
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> a = load(row[0] + begin + i), b = load(row[1] + begin + i), c = load(row[2] + begin + i);
    store(out + 3 * i, weave_third<0>(a, b, c, LaneIndices<T>{}));
    store(out + 3 * i + L, weave_third<1>(a, b, c, LaneIndices<T>{}));
    store(out + 3 * i + 2 * L, weave_third<2>(a, b, c, LaneIndices<T>{}));
  }
  for (; i < n; ++i)
    for (int r = 0; r < 3; ++r) out[3 * i + r] = row[r][begin + i];
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

/// `n` elements of the line whose element k is phase (k mod step), position k / step, from position p of phase r on.
/// row[r] is where phase r starts.
template <class T>
static inline void merge_phases(const T* const* row, std::int64_t step, std::int64_t p, std::int64_t r, std::int64_t n, T* out) {
  if (step == 1) return copy_same(row[0] + p, out, n);
  for (; r != 0 && n > 0; --n) {
    *out++ = row[r][p];
    if (++r == step) r = 0, ++p;
  }
  if (step == 2) {
    interleave_two(row[0] + p, row[1] + p, out, n / 2);
    if (n % 2 != 0) out[n - 1] = row[0][p + n / 2];
    return;
  }
  const std::int64_t whole = n / step;
  if (step == 3) {
    interleave_three(row, p, out, whole);
  } else if (step == 4) {
    interleave_four(row, p, out, whole);
  } else if (step < 8) {
    for (std::int64_t s = 0; s < step; ++s)
      for (std::int64_t i = 0; i < whole; ++i) out[i * step + s] = row[s][p + i];
  } else {
    for (std::int64_t i = 0; i < whole; ++i)
      for (std::int64_t s = 0; s < step; ++s) out[i * step + s] = row[s][p + i];
  }
  for (std::int64_t k = whole * step; k < n; ++k) out[k] = row[r++][p + whole];
}

/// A copy that leaves the caches alone, for results larger than they are; the caller fences.
template <class T>
static inline void stream_row(const T* src, T* dst, std::int64_t n) {
#if defined(__x86_64__)
  constexpr int L = lanes<T>;
  for (; n > 0 && (reinterpret_cast<std::uintptr_t>(dst) & (sizeof(Vec<T>) - 1)) != 0; --n) *dst++ = *src++;
  for (; n >= L; n -= L, src += L, dst += L) {
#if defined(__clang__)
    __builtin_nontemporal_store(load(src), reinterpret_cast<Vec<T>*>(dst));
#elif UPCONV_VECTOR_BYTES == 64 && defined(__AVX512F__)
    _mm512_stream_ps(reinterpret_cast<float*>(dst), (__m512)load(src));
#elif UPCONV_VECTOR_BYTES == 32
    _mm256_stream_ps(reinterpret_cast<float*>(dst), (__m256)load(src));
#elif UPCONV_VECTOR_BYTES == 16
    _mm_stream_ps(reinterpret_cast<float*>(dst), (__m128)load(src));
#else
    store(dst, load(src));
#endif
  }
#endif
  copy_same(src, dst, n);
}
static inline void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/// n contiguous values to a tensor row of any element stride.
template <class T, class S>
static inline void scatter_row(const T* src, S* dst, std::int64_t stride, std::int64_t n) {
  if (stride == 1) return narrow_row(src, dst, n);
  for (std::int64_t i = 0; i < n; ++i) narrow(src[i], dst[i * stride]);
}

}  // namespace upconv::UPCONV_ISA
