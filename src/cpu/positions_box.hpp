// One box of positions of one group: its place in the tensors, its scratch, and the copy of the source into the local
// tile, split by residues. Shared by the kernels of all passes; compiled once per instruction set.
#pragma once

#include "cpu/positions.hpp"
#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using namespace upconv::cpu;

/// What is asked for ahead of its use: half of a first-level cache.
constexpr std::int64_t most_ahead_bytes = 16 << 10;

/// Where the box of one task lies, where its scratch is.
template <class S>
struct Box {
  typedef typename Compute<S>::type T;
  const PositionsJob& job;
  const S* source;
  const S* bias;
  S* destination;
  std::int64_t group, sample, origin[3];  ///< first sample and first position of the box
  bool stream;
  T *init, *tile, *result, *line;
  const T** phase;  ///< of the line being written
  T** part;         ///< of the row being read

  Box(const PositionsJob& j, const void* src, const void* b, void* dst, std::int64_t index, void* scratch)
      : job(j), source(static_cast<const S*>(src)), bias(static_cast<const S*>(b)), destination(static_cast<S*>(dst)) {
    const PositionsTile& t = job.tile;
    std::int64_t at[3];
    for (int d = 2; d >= 0; --d) at[d] = index % t.count[d + 1], index /= t.count[d + 1];
    group = index % job.groups;
    sample = index / job.groups * t.size[0];
    for (int d = 0; d < 3; ++d) origin[d] = t.begin[d] + at[d] * t.size[d + 1];
    constexpr std::int64_t unit = 64 / sizeof(T);
    const auto aligned = [](std::int64_t n) { return (n + unit - 1) / unit * unit; };
    stream = job.stream && reinterpret_cast<std::uintptr_t>(dst) % 64 == 0;
    phase = static_cast<const T**>(scratch);
    part = static_cast<T**>(scratch);
    const std::int64_t step =
        job.destination.step[2] > job.source.step[2] ? job.destination.step[2] : job.source.step[2];
    init = reinterpret_cast<T*>(static_cast<char*>(scratch) + (step * 8 + 63) / 64 * 64);
    result = init + aligned(job.rows);
    line = result + job.rows * t.destination_pitch + unit;
    tile = line + aligned(t.extent[2] * step);
  }

  /// Source channels [first, first + count) of the group, in memory order, every row split into its residues, zeros
  /// outside the tensor and wherever else a vector may reach (dw multiplies those zeros by zeros of x).
  void copy_source(std::int64_t first, std::int64_t count) const {
    const PositionsTile& t = job.tile;
    const PositionsTensor& x = job.source;
    const std::int64_t start[3] = {origin[0] + t.low[0], origin[1] + t.low[1], origin[2] + t.low[2]};
    const RowShape shape = row_shape(start[2]);
    // While a plane is read the next one is asked for: the rows of a box are short, and no hardware prefetcher follows
    // from one plane to another.
    const std::int64_t plane_bytes = t.extent[1] * x.step[1] * shape.elements * std::int64_t(sizeof(S));
    const bool ahead = x.d[2] == 1 && plane_bytes <= most_ahead_bytes;
    const std::int64_t first_d = start[0] * x.step[0] > 0 ? start[0] * x.step[0] : 0;
    const std::int64_t end_d = (start[0] + t.extent[0]) * x.step[0];
    const std::int64_t stop_d = !ahead ? 0 : end_d < x.size[0] ? end_d : x.size[0], prefetched = ahead ? count : 0;
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t n = 0; n < t.size[0]; ++n) {
        T* out = tile + c * t.channel_pitch + n * t.source_run[0];
        if (sample + n >= job.batch) {
          for (std::int64_t r = 0; r < job.residues; ++r) zero_row(out + r * t.residue_pitch, t.source_run[0]);
          continue;
        }
        const S* from = source + (sample + n) * x.n + (group * x.channels + first + c) * x.c;
        for (std::int64_t d = 0; d < t.extent[0]; ++d)
          for (std::int64_t rd = 0; rd < x.step[0]; ++rd) {
            const std::int64_t at_d = (start[0] + d) * x.step[0] + rd;
            const S* next = at_d + 1 < stop_d    ? from + (at_d + 1) * x.d[0] + shape.skip
                            : c + 1 < prefetched ? from + x.c + first_d * x.d[0] + shape.skip
                                                 : nullptr;
            for (std::int64_t h = 0; h < t.extent[1]; ++h)
              for (std::int64_t rh = 0; rh < x.step[1]; ++rh) {
                const std::int32_t* planes = job.residue_plane + (rd * x.step[1] + rh) * x.step[2];
                const std::int64_t at_h = (start[1] + h) * x.step[1] + rh;
                const bool inside = at_d >= 0 && at_d < x.size[0] && at_h >= 0 && at_h < x.size[1];
                if (inside && next) fetch_ahead<0>(next + at_h * x.d[1], shape.elements);
                copy_row(inside ? from + at_d * x.d[0] + at_h * x.d[1] : nullptr, shape, planes,
                         out + d * t.source_run[1] + h * t.source_run[2]);
              }
          }
      }
    zero_row(tile + count * t.channel_pitch, t.source_elements - job.channel_block * t.channel_pitch);
  }

  /// What all rows of the box have in common: local positions [a, b) hold a value of every residue, `more` residues
  /// have one after that; `elements` values from element `skip` of the row cover them.
  struct RowShape {
    std::int64_t a, b, more, elements, skip;
  };
  RowShape row_shape(std::int64_t start) const {
    const PositionsTensor& x = job.source;
    const std::int64_t width = job.tile.extent[2], step = x.step[2];
    const std::int64_t whole = step == 1 ? x.size[2] : x.size[2] / step, rest = x.size[2] - whole * step;
    RowShape s;
    s.a = start >= 0 ? 0 : -start < width ? -start : width;
    s.b = whole - start < s.a ? s.a : whole - start < width ? whole - start : width;
    s.more = s.a < width && s.b < width && start + s.b == whole ? rest : 0;
    s.elements = (s.b - s.a) * step + s.more;
    s.skip = (start + s.a) * step * x.d[2];
    return s;
  }

  /// One source row (null: all zero) to its residue planes.
  void copy_row(const S* from, const RowShape& s, const std::int32_t* planes, T* out) const {
    const PositionsTensor& x = job.source;
    const std::int64_t width = job.tile.extent[2], step = x.step[2];
    if constexpr (sizeof(S) == sizeof(T)) {  // the common case without its loops: short rows feel them
      if (step == 2 && x.d[2] == 1 && planes[0] >= 0 && planes[1] >= 0 && from) {
        T *even = out + planes[0] * job.tile.residue_pitch, *odd = out + planes[1] * job.tile.residue_pitch;
        const std::int64_t n = s.b - s.a;
        zero_edges(even, s.a, s.b + s.more, width);
        zero_edges(odd, s.a, s.b, width);
        if (s.more) even[s.b] = from[s.skip + 2 * n];
        return split_two(from + s.skip, even + s.a, odd + s.a, n);
      }
    }
    bool used = false;
    for (std::int64_t r = 0; r < step; ++r) {
      part[r] = planes[r] < 0 ? nullptr : out + planes[r] * job.tile.residue_pitch;
      used |= planes[r] >= 0;
    }
    if (!used) return;
    if (!from) {
      for (std::int64_t r = 0; r < step; ++r)
        if (part[r]) zero_row(part[r], width);
      return;
    }
    const S* row = from + s.skip;
    const T* values;
    if constexpr (sizeof(S) == sizeof(T)) values = row;
    if (sizeof(S) != sizeof(T) || x.d[2] != 1) {
      gather_row(row, x.d[2], line, s.elements);
      values = line;
    }
    for (std::int64_t r = 0; r < step; ++r) {
      if (!part[r]) continue;
      zero_edges(part[r], s.a, r < s.more ? s.b + 1 : s.b, width);
      if (r < s.more) part[r][s.b] = values[(s.b - s.a) * step + r];
      part[r] += s.a;
    }
    split_row(values, step, part, s.b - s.a);
  }
};

}  // namespace
}  // namespace upconv::UPCONV_ISA
