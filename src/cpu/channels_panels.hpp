// The weight panels of the `cpu_channels` family's gather pass: [block of channels][phase][tap][k][channel of the
// block], each block padded to whole vectors. channels_gather_kernels.cpp packs all of them first, or a task its own.
#pragma once

#include "cpu/channels_tile.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using cpu::GatherConfig;
using cpu::GatherPhase;

std::int64_t minimum(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t maximum(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Channels of the vector block that begins at v: a full block, or one vector where no more are left.
template <class T>
std::int64_t block_width(const GatherConfig& c, std::int64_t v) {
  return c.v - v > lanes<T> ? c.block : lanes<T>;
}

/// Source channels [begin, end) of a group: all of them, or a piece.
struct Piece {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

/// Copies `valid` of `width` channels to the panel line `to`, zeros beyond, and adds 0 * each to the probe.
template <class S, class T>
void pack_line(const S* from, std::int64_t step, std::int64_t valid, std::int64_t width, T* to, Vec<T>& probe) {
  if (step == 1)
    widen_row(from, to, valid);
  else
    for (std::int64_t v = 0; v < valid; ++v) to[v] = widen(from[v * step]);
  for (std::int64_t v = valid; v < width; ++v) to[v] = T(0);
  for (std::int64_t v = 0; v < width; v += lanes<T>) probe += load(to + v) * T(0);
}

/// The same for a line that is already contiguous and padded.
template <class T>
void copy_line(const T* from, std::int64_t width, T* to, Vec<T>& probe) {
  for (std::int64_t v = 0; v < width; v += lanes<T>) {
    const Vec<T> values = load(from + v);
    store(to + v, values);
    probe += values * T(0);
  }
}

/// Panel lines (of one k and one tap) that are transposed at a time, when the taps lie dense in w. Enough that each
/// tap's part of the panel is then written in runs of some lines.
inline constexpr std::int64_t turned_lines = 256;

/// turned[c * width + r] = from[r * pitch + c] for `rows` x `cols` elements, widened on the way; at most turned_lines
/// columns.
template <class S, class T>
void turn_rows(const S* from, std::int64_t pitch, std::int64_t rows, std::int64_t cols, std::int64_t width, T* turned) {
  if constexpr (sizeof(S) == sizeof(T)) {
    transpose(reinterpret_cast<const T*>(from), pitch, turned, width, rows, cols);
  } else {
    T wide[turned_lines * 3 * lanes<T>];
    if (pitch == cols)
      widen_row(from, wide, rows * cols);
    else
      for (std::int64_t r = 0; r < rows; ++r) widen_row(from + r * pitch, wide + r * cols, cols);
    transpose(wide, cols, turned, width, rows, cols);
  }
}

/// `count` values of k of one block, as [k][tap][width] (dense in w along taps): turned so that channels are
/// contiguous.
template <class S, class T>
void turn_block(const GatherConfig& c, const S* from, std::int64_t k_count, std::int64_t valid, std::int64_t width,
                T* turned) {
  if (c.w_k == c.taps) {  // (k, tap) contiguous for a channel
    for (std::int64_t v = 0; v < valid; ++v) fetch_ahead<0>(from + v * c.w_v + k_count * c.taps, k_count * c.taps);
    turn_rows(from, c.w_v, valid, k_count * c.taps, width, turned);
  } else {
    for (std::int64_t k = 0; k < k_count; ++k) {
      fetch_ahead<0>(from + (k + k_count) * c.w_k, valid * c.taps);
      turn_rows(from + k * c.w_k, c.w_v, valid, c.taps, width, turned + k * c.taps * width);
    }
  }
}

template <class T>
bool is_zero(Vec<T> probe) {
  bool zero = true;
  for (int i = 0; i < lanes<T>; ++i) zero &= probe[i] == T(0);
  return zero;
}

/// Packs all phases of the block of channels [v0, v0 + width) of a group, whose weights begin at `from`, for taps that
/// lie dense in w: [phase][tap][k][width]. Returns whether all its weights are finite.
template <class S, class T>
bool pack_turned(const GatherConfig& c, const S* from, const Piece& piece, std::int64_t v0, T* panel) {
  constexpr std::int64_t widest = 3 * lanes<T>;
  const std::int64_t width = block_width<T>(c, v0), valid = minimum(width, c.v - v0);
  Vec<T> probe{};  // 0 * value summed: NaN as soon as one value is not finite
  const std::int64_t k_step = maximum(1, turned_lines / c.taps);
  T turned[turned_lines * widest];
  std::memset(turned, 0, sizeof turned);  // channels beyond the last stay zero
  for (std::int64_t k0 = piece.begin; k0 < piece.end; k0 += k_step) {
    const std::int64_t k1 = minimum(k0 + k_step, piece.end);
    turn_block(c, from + k0 * c.w_k, k1 - k0, valid, width, turned);
    T* to = panel;
    for (std::int64_t p = 0; p < c.n_phases; ++p) {
      const GatherPhase& phase = c.phases[p];
      for (std::int64_t t = 0; t < phase.n_taps; ++t, to += piece.size() * width)
        for (std::int64_t k = k0; k < k1; ++k)
          copy_line(turned + ((k - k0) * c.taps + phase.tap_weight[t]) * width, width, to + (k - piece.begin) * width,
                    probe);
    }
  }
  return is_zero<T>(probe);
}

/// The same for the blocks of channels from v0 to v1, and taps anywhere: all blocks' part of a tap is copied before the
/// next, as it may lie pages away.
template <class S, class T>
bool pack_lines(const GatherConfig& c, const S* from, const Piece& piece, std::int64_t v0, std::int64_t v1, T* panel) {
  Vec<T> probe{};
  for (std::int64_t k = piece.begin; k < piece.end; ++k) {
    std::int64_t tap = 0;  // of all phases
    for (std::int64_t p = 0; p < c.n_phases; ++p)
      for (std::int64_t t = 0; t < c.phases[p].n_taps; ++t, ++tap) {
        const S* line = from + k * c.w_k + c.phases[p].tap_weight[t];
        for (std::int64_t v = v0, width; v < v1; v += width) {
          width = block_width<T>(c, v);
          T* to = panel + ((v - v0) * c.all_taps + tap * width) * piece.size() + (k - piece.begin) * width;
          pack_line(line + (v - v0) * c.w_v, c.w_v, minimum(width, c.v - v), width, to, probe);
        }
      }
  }
  return is_zero<T>(probe);
}

/// Packs a piece of the blocks of channels from v0 to v1 of a group.
template <class S, class T>
bool pack_blocks(const GatherConfig& c, const S* w, std::int64_t group, const Piece& piece, std::int64_t v0,
                 std::int64_t v1, T* panel) {
  const S* from = w + group * c.w_group + v0 * c.w_v;
  if (!c.dense_taps || c.taps > turned_lines) return pack_lines(c, from, piece, v0, v1, panel);
  bool finite = true;
  for (std::int64_t v = v0; v < v1; v += c.block)
    finite &= pack_turned(c, from + (v - v0) * c.w_v, piece, v, panel + (v - v0) * c.all_taps * piece.size());
  return finite;
}

/// Where the panels of a block of channels begin when all are packed.
std::int64_t panel_at(const GatherConfig& c, std::int64_t group, std::int64_t v0) {
  return (group * c.v_padded + v0) * c.all_taps * c.k;
}

template <class S, class T>
bool pack_part(const GatherConfig& c, const S* w, T* panels, std::int64_t part) {
  const std::int64_t step = c.block * c.pack_blocks, parts = (c.v + step - 1) / step;
  const std::int64_t group = part / parts, v0 = part % parts * step;
  return pack_blocks(c, w, group, {0, c.k}, v0, minimum(v0 + step, c.v), panels + panel_at(c, group, v0));
}

}  // namespace
}  // namespace upconv::UPCONV_ISA
