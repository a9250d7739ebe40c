// Local channels-last tiles: copying a box of a tensor in (widened to the compute type, zero outside the tensor)
// and copying a tile out as whole lines, with bias and epilogue. Compiled once per instruction set.
#pragma once

#include "cpu/channels.hpp"
#include "cpu/simd.hpp"
#include "epilogue/simd.hpp"

namespace upconv::UPCONV_ISA {

using cpu::TensorView;

typedef float Quad __attribute__((vector_size(16)));
typedef float QuadU __attribute__((vector_size(16), aligned(4), may_alias));
typedef int QuadI __attribute__((vector_size(16)));

#if defined(__clang__)
#define UPCONV_SHUFFLE(a, b, i0, i1, i2, i3) __builtin_shufflevector(a, b, i0, i1, i2, i3)
#else
#define UPCONV_SHUFFLE(a, b, i0, i1, i2, i3) __builtin_shuffle(a, b, (QuadI){i0, i1, i2, i3})
#endif

/// Where position i of a line lies in a tile: evenly spaced, or from a table.
struct Even {
  std::int64_t pitch;
  std::int64_t operator()(std::int64_t i) const { return i * pitch; }
};
struct Table {
  const std::int32_t* offset;
  std::int64_t operator()(std::int64_t i) const { return offset[i]; }
};

/// out[at(c + j) + r] = in[r * in_pitch + j] for a 4x4 block.
template <class At>
static inline void transpose4(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t c0) {
  const Quad r0 = *(const QuadU*)in, r1 = *(const QuadU*)(in + in_pitch), r2 = *(const QuadU*)(in + 2 * in_pitch),
             r3 = *(const QuadU*)(in + 3 * in_pitch);
  const Quad a = UPCONV_SHUFFLE(r0, r1, 0, 4, 1, 5), b = UPCONV_SHUFFLE(r0, r1, 2, 6, 3, 7);
  const Quad c = UPCONV_SHUFFLE(r2, r3, 0, 4, 1, 5), d = UPCONV_SHUFFLE(r2, r3, 2, 6, 3, 7);
  *(QuadU*)(out + at(c0)) = UPCONV_SHUFFLE(a, c, 0, 1, 4, 5);
  *(QuadU*)(out + at(c0 + 1)) = UPCONV_SHUFFLE(a, c, 2, 3, 6, 7);
  *(QuadU*)(out + at(c0 + 2)) = UPCONV_SHUFFLE(b, d, 0, 1, 4, 5);
  *(QuadU*)(out + at(c0 + 3)) = UPCONV_SHUFFLE(b, d, 2, 3, 6, 7);
}

#if UPCONV_VECTOR_BYTES >= 32
typedef float Oct __attribute__((vector_size(32)));
typedef float OctU __attribute__((vector_size(32), aligned(4), may_alias));
typedef int OctI __attribute__((vector_size(32)));

#if defined(__clang__)
#define UPCONV_SHUFFLE8(a, b, i0, i1, i2, i3, i4, i5, i6, i7) \
  __builtin_shufflevector(a, b, i0, i1, i2, i3, i4, i5, i6, i7)
#else
#define UPCONV_SHUFFLE8(a, b, i0, i1, i2, i3, i4, i5, i6, i7) \
  __builtin_shuffle(a, b, (OctI){i0, i1, i2, i3, i4, i5, i6, i7})
#endif

/// The same for an 8x8 block: pairs interleaved within 128-bit halves, then halves exchanged.
template <class At>
static inline void transpose8(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t c0) {
  Oct r[8], s[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = *(const OctU*)(in + i * in_pitch);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    s[i] = UPCONV_SHUFFLE8(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = UPCONV_SHUFFLE8(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = UPCONV_SHUFFLE8(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = UPCONV_SHUFFLE8(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = UPCONV_SHUFFLE8(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = UPCONV_SHUFFLE8(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    *(OctU*)(out + at(c0 + i)) = UPCONV_SHUFFLE8(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *(OctU*)(out + at(c0 + i + 4)) = UPCONV_SHUFFLE8(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}
inline constexpr std::int64_t transpose_block = 8;
template <class At>
static inline void transpose_square(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t c0) {
  transpose8(in, in_pitch, out, at, c0);
}
#else
inline constexpr std::int64_t transpose_block = 4;
template <class At>
static inline void transpose_square(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t c0) {
  transpose4(in, in_pitch, out, at, c0);
}
#endif

/// A few rows interleaved, without gaps; the compiler vectorises each count.
template <int Rows, class T>
static inline void interleave(const T* in, std::int64_t in_pitch, T* out, std::int64_t cols) {
  for (std::int64_t c = 0; c < cols; ++c)
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) out[c * Rows + r] = in[r * in_pitch + c];
}

/// Columns of `Rows` rows, a block of as many columns at a time. The last block overlaps the one before it: whole lines
/// are rarely a multiple of a block, and an element by itself costs as much as eight in a block.
template <int Rows, class At>
static inline void transpose_rows(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t cols) {
  if (cols < Rows) {
    for (std::int64_t c = 0; c < cols; ++c)
      for (int i = 0; i < Rows; ++i) out[at(c) + i] = in[i * in_pitch + c];
    return;
  }
  for (std::int64_t c = 0;; c = c + 2 * Rows <= cols ? c + Rows : cols - Rows) {
    if constexpr (Rows == 4)
      transpose4(in + c, in_pitch, out, at, c);
    else
      transpose_square(in + c, in_pitch, out, at, c);
    if (c + Rows == cols) return;
  }
}

/// out[at(c) + r] = in[r][c] for `rows` x `cols` elements.
template <class At>
static inline void transpose_at(const float* in, std::int64_t in_pitch, float* out, At at, std::int64_t rows,
                                std::int64_t cols) {
  std::int64_t r = 0;
  if (cols >= transpose_block)
    for (; r + transpose_block <= rows; r += transpose_block)
      transpose_rows<int(transpose_block)>(in + r * in_pitch, in_pitch, out + r, at, cols);
  for (; r + 4 <= rows; r += 4) transpose_rows<4>(in + r * in_pitch, in_pitch, out + r, at, cols);
  if (r < rows && rows >= 4) {
    r = rows - 4;
    transpose_rows<4>(in + r * in_pitch, in_pitch, out + r, at, cols);
    return;
  }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) out[at(c) + r] = in[r * in_pitch + c];
}
template <class At>
static inline void transpose_at(const double* in, std::int64_t in_pitch, double* out, At at, std::int64_t rows,
                                std::int64_t cols) {
  for (std::int64_t c = 0; c < cols; ++c)
    for (std::int64_t r = 0; r < rows; ++r) out[at(c) + r] = in[r * in_pitch + c];
}

/// out[c * out_pitch + r] = in[r * in_pitch + c] for `rows` x `cols` elements.
template <class T>
static inline void transpose(const T* in, std::int64_t in_pitch, T* out, std::int64_t out_pitch, std::int64_t rows,
                             std::int64_t cols) {
  if (rows == out_pitch && rows < 4) {
    if (rows == 1) std::memcpy(out, in, std::size_t(cols) * sizeof(T));
    if (rows == 2) interleave<2>(in, in_pitch, out, cols);
    if (rows == 3) interleave<3>(in, in_pitch, out, cols);
    return;
  }
  transpose_at(in, in_pitch, out, Even{out_pitch}, rows, cols);
}
template <class T>
static inline void transpose_tile(const T* in, std::int64_t in_pitch, T* out, Even at, std::int64_t rows,
                                  std::int64_t cols) {
  transpose(in, in_pitch, out, at.pitch, rows, cols);
}
template <class T>
static inline void transpose_tile(const T* in, std::int64_t in_pitch, T* out, Table at, std::int64_t rows,
                                  std::int64_t cols) {
  transpose_at(in, in_pitch, out, at, rows, cols);
}

inline constexpr std::int64_t line_chunk = 64;  // positions handled at a time when a line needs a temporary

/// Lines of `count` positions and `channels` channels each on their way into a tile:
/// tile[at(i) + c] = src[i * view.w + c * view.c], widened. Eight channels of some lines are read while the next eight
/// of them are asked for: of one short line alone they would not arrive in time.
template <class S, class T, class At>
class LineReader {
 public:
  LineReader(const TensorView& view, std::int64_t channels, std::int64_t count, At at)
      : view_(view), channels_(channels), count_(count), at_(at), most_(line_group / (count > 0 ? count : 1)) {
    most_ = most_ < 1 ? 1 : most_ > most_lines ? most_lines : most_;
  }
  void add(const S* src, T* tile) {
    if (view_.w != 1) {  // channels_last: channels are contiguous
      for (std::int64_t i = 0; i < count_; ++i) widen_row(src + i * view_.w, tile + at_(i), channels_);
      return;
    }
    src_[lines_] = src, tile_[lines_] = tile;
    if (++lines_ == most_) flush();
  }
  /// Reads what was added.
  void flush() {
    for (std::int64_t c = 0; c < channels_; c += 8)
      for (std::int64_t l = 0; l < lines_; ++l) {
        const S* src = src_[l] + c * view_.c;
        for (std::int64_t j = 8; j < 16 && c + j < channels_; ++j) fetch_ahead<0>(src + j * view_.c, count_);
        read(src, tile_[l] + c, channels_ - c < 8 ? channels_ - c : 8);
      }
    lines_ = 0;
  }

 private:
  void read(const S* src, T* tile, std::int64_t n) const {
    if constexpr (sizeof(S) == sizeof(T)) {
      transpose_tile(reinterpret_cast<const T*>(src), view_.c, tile, at_, n, count_);
    } else {
      T rows[8 * line_chunk];
      for (std::int64_t i = 0; i < count_; i += line_chunk) {
        const std::int64_t m = count_ - i < line_chunk ? count_ - i : line_chunk;
        for (std::int64_t j = 0; j < n; ++j) widen_row(src + j * view_.c + i, rows + j * line_chunk, m);
        transpose_at(
            rows, line_chunk, tile, [&](std::int64_t k) { return at_(i + k); }, n, m);
      }
    }
  }

  static constexpr std::int64_t line_group = 128;  // positions: eight channels of them are 4 KB
  static constexpr std::int64_t most_lines = 16;
  const TensorView& view_;
  std::int64_t channels_, count_;
  At at_;
  std::int64_t most_, lines_ = 0;
  const S* src_[most_lines];
  T* tile_[most_lines];
};

/// Bias and epilogue of one channel over a row of positions, in place.
template <class S, class T>
static inline void finish_row(T* row, std::int64_t n, T bias, const EpilogueSteps& steps, const Operand* operands,
                              const RowPlace& place) {
  for (std::int64_t i = 0; i < n; ++i) row[i] += bias;
  if (steps.count > 0) apply_epilogue<S>(steps, operands, place, row, n);
}

/// `count` positions of a line that all hold values[c] in channel c.
template <class S, class T>
static inline void fill_line(S* dst, const TensorView& view, std::int64_t channels, std::int64_t count,
                             const T* values) {
  for (std::int64_t c = 0; c < channels; ++c) {
    S value;
    narrow(values[c], value);
    if (view.w == 1)
      for (std::int64_t i = 0; i < count; ++i) dst[c * view.c + i] = value;
    else
      for (std::int64_t i = 0; i < count; ++i) dst[i * view.w + c] = value;
  }
}

/// The reverse for results: dst gets bias[c] + tile, through the epilogue, narrowed.
/// The line begins at `place`; bias may be null. `tile` is scratch afterwards.
template <class S, class T>
static inline void write_line(S* dst, const TensorView& view, std::int64_t channels, std::int64_t count, T* tile,
                              std::int64_t pitch, const T* bias, const EpilogueSteps& steps, const Operand* operands,
                              const RowPlace& place) {
  if (view.w != 1) {  // channels_last: channels are contiguous
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = tile + i * pitch;
      if (bias)
        for (std::int64_t c = 0; c < channels; ++c) row[c] += bias[c];
      if (steps.count > 0)
        apply_epilogue<S>(steps, operands, {place.n, place.c, place.d, place.h, place.w + i, true}, row, channels);
      narrow_row(row, dst + i * view.w, channels);
    }
    return;
  }
  if constexpr (sizeof(S) == sizeof(T)) {
    for (std::int64_t c = 0; c < channels; c += 8) {
      const std::int64_t n = channels - c < 8 ? channels - c : 8;
      T* to = reinterpret_cast<T*>(dst) + c * view.c;
      for (std::int64_t j = c + 8; j < c + 16 && j < channels; ++j) fetch_ahead<1>(dst + j * view.c, count);
      transpose(tile + c, pitch, to, view.c, count, n);
      if (bias || steps.count > 0)  // in place: the rows have just been written to the first-level cache
        for (std::int64_t j = 0; j < n; ++j)
          finish_row<S>(to + j * view.c, count, bias ? bias[c + j] : T(0), steps, operands,
                        {place.n, place.c + c + j, place.d, place.h, place.w});
    }
    return;
  }
  T rows[8 * line_chunk];
  for (std::int64_t c = 0; c < channels; c += 8) {
    for (std::int64_t j = c + 8; j < c + 16 && j < channels; ++j) fetch_ahead<1>(dst + j * view.c, count);
    const std::int64_t n = channels - c < 8 ? channels - c : 8;
    for (std::int64_t i = 0; i < count; i += line_chunk) {
      const std::int64_t m = count - i < line_chunk ? count - i : line_chunk;
      transpose(tile + i * pitch + c, pitch, rows, line_chunk, m, n);
      for (std::int64_t j = 0; j < n; ++j) {
        finish_row<S>(rows + j * line_chunk, m, bias ? bias[c + j] : T(0), steps, operands,
                      {place.n, place.c + c + j, place.d, place.h, place.w + i});
        narrow_row(rows + j * line_chunk, dst + (c + j) * view.c + i, m);
      }
    }
  }
}

}  // namespace upconv::UPCONV_ISA
