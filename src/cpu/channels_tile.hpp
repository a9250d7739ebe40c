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

/// rows[r][0..3] -> columns: out[c * out_pitch + r] = in[r * in_pitch + c] for a 4x4 block, plus add[r] (or add[c]).
static inline void transpose4(const float* in, std::int64_t in_pitch, float* out, std::int64_t out_pitch) {
  const Quad r0 = *(const QuadU*)in, r1 = *(const QuadU*)(in + in_pitch), r2 = *(const QuadU*)(in + 2 * in_pitch),
             r3 = *(const QuadU*)(in + 3 * in_pitch);
  const Quad a = UPCONV_SHUFFLE(r0, r1, 0, 4, 1, 5), b = UPCONV_SHUFFLE(r0, r1, 2, 6, 3, 7);
  const Quad c = UPCONV_SHUFFLE(r2, r3, 0, 4, 1, 5), d = UPCONV_SHUFFLE(r2, r3, 2, 6, 3, 7);
  *(QuadU*)out = UPCONV_SHUFFLE(a, c, 0, 1, 4, 5);
  *(QuadU*)(out + out_pitch) = UPCONV_SHUFFLE(a, c, 2, 3, 6, 7);
  *(QuadU*)(out + 2 * out_pitch) = UPCONV_SHUFFLE(b, d, 0, 1, 4, 5);
  *(QuadU*)(out + 3 * out_pitch) = UPCONV_SHUFFLE(b, d, 2, 3, 6, 7);
}

/// out[c][r] = in[r][c] for `rows` x `cols` elements.
static inline void transpose(const float* in, std::int64_t in_pitch, float* out, std::int64_t out_pitch,
                             std::int64_t rows, std::int64_t cols) {
  std::int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    std::int64_t c = 0;
    for (; c + 4 <= cols; c += 4) transpose4(in + r * in_pitch + c, in_pitch, out + c * out_pitch + r, out_pitch);
    for (; c < cols; ++c)
      for (int i = 0; i < 4; ++i) out[c * out_pitch + r + i] = in[(r + i) * in_pitch + c];
  }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) out[c * out_pitch + r] = in[r * in_pitch + c];
}
static inline void transpose(const double* in, std::int64_t in_pitch, double* out, std::int64_t out_pitch,
                             std::int64_t rows, std::int64_t cols) {
  for (std::int64_t c = 0; c < cols; ++c)
    for (std::int64_t r = 0; r < rows; ++r) out[c * out_pitch + r] = in[r * in_pitch + c];
}

inline constexpr std::int64_t line_chunk = 64;  // positions handled at a time when a line needs a temporary

/// `count` positions of one line, `channels` channels: tile[i * pitch + c] = src[i * view.w + c * view.c], widened.
template <class S, class T>
static inline void read_line(const S* src, const TensorView& view, std::int64_t channels, std::int64_t count, T* tile,
                             std::int64_t pitch) {
  if (view.w != 1) {  // channels_last: channels are contiguous
    for (std::int64_t i = 0; i < count; ++i) widen_row(src + i * view.w, tile + i * pitch, channels);
    return;
  }
  if constexpr (sizeof(S) == sizeof(T)) {
    transpose(reinterpret_cast<const T*>(src), view.c, tile, pitch, channels, count);
  } else {
    T rows[4 * line_chunk];
    for (std::int64_t c = 0; c < channels; c += 4) {
      const std::int64_t n = channels - c < 4 ? channels - c : 4;
      for (std::int64_t i = 0; i < count; i += line_chunk) {
        const std::int64_t m = count - i < line_chunk ? count - i : line_chunk;
        for (std::int64_t j = 0; j < n; ++j) widen_row(src + (c + j) * view.c + i, rows + j * line_chunk, m);
        transpose(rows, line_chunk, tile + i * pitch + c, pitch, n, m);
      }
    }
  }
}

/// Bias and epilogue of one channel over a row of positions, in place.
template <class T>
static inline void finish_row(T* row, std::int64_t n, T bias, const EpilogueSteps& steps) {
  for (std::int64_t i = 0; i < n; ++i) row[i] += bias;
  if (steps.count > 0) apply_epilogue(steps, row, n);
}

/// The reverse of read_line for results: dst gets bias[c] + tile, through the epilogue, narrowed.
/// bias may be null. `tile` is scratch afterwards.
template <class S, class T>
static inline void write_line(S* dst, const TensorView& view, std::int64_t channels, std::int64_t count, T* tile,
                              std::int64_t pitch, const T* bias, const EpilogueSteps& steps) {
  if (view.w != 1) {  // channels_last: channels are contiguous
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = tile + i * pitch;
      if (bias)
        for (std::int64_t c = 0; c < channels; ++c) row[c] += bias[c];
      if (steps.count > 0) apply_epilogue(steps, row, channels);
      narrow_row(row, dst + i * view.w, channels);
    }
    return;
  }
  if constexpr (sizeof(S) == sizeof(T)) {
    if (!bias && steps.count == 0) {
      transpose(tile, pitch, reinterpret_cast<T*>(dst), view.c, count, channels);
      return;
    }
  }
  T rows[4 * line_chunk];
  for (std::int64_t c = 0; c < channels; c += 4) {
    const std::int64_t n = channels - c < 4 ? channels - c : 4;
    for (std::int64_t i = 0; i < count; i += line_chunk) {
      const std::int64_t m = count - i < line_chunk ? count - i : line_chunk;
      transpose(tile + i * pitch + c, pitch, rows, line_chunk, m, n);
      for (std::int64_t j = 0; j < n; ++j) {
        finish_row(rows + j * line_chunk, m, bias ? bias[c + j] : T(0), steps);
        narrow_row(rows + j * line_chunk, dst + (c + j) * view.c + i, m);
      }
    }
  }
}

}  // namespace upconv::UPCONV_ISA
