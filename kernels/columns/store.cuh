// From the sums of columns.cuh to y: 32 positions at a time are put into lines in shared memory, every line the columns
// of one channel and row of y with all phases side by side, which warps then write from their first word to their last.
#pragma once

#include "columns/multiply.cuh"

namespace upconv {

/// What a position writes: its sample (-1: nothing), and where its phase 0 lies in y.
struct Place {
  int n, d, h, w;
};

/// The places of a warpgroup's positions.
__device__ __forceinline__ void find_places(const Arguments& a, int position0, Place* places, int thread) {
#pragma unroll 1
  for (int i = thread; i < POSITIONS; i += warpgroup) {
    const int at = position0 + i;
    const bool real = at < a.positions;
    const Position p(a, real ? at : 0);
    places[i] = {real ? p.n : -1, (p.d + a.first_d) * SD - PD, (p.h + a.first_h) * SH - PH, p.w * SW - PW};
  }
}

/// Element i of a line, whose words are skewed so that a warp's stores meet no bank twice.
__device__ __forceinline__ constexpr int in_line(int i) { return i + i * element_bytes / 128 * LINE_SKEW; }

template <int count>
__device__ __forceinline__ void write(float* to, const float (&v)[count]) {
  if constexpr (count == 4)
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  else if constexpr (count == 2)
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  else
    *to = v[0];
}
template <int count, class Half>
__device__ __forceinline__ void write(Half* to, const float (&v)[count]) {
  const auto two = [&](int i) {
    return u32(from_float<Half>(v[i]).bits) | u32(from_float<Half>(v[(i + 1) % count]).bits) << 16;
  };
  if constexpr (count == 4)
    *reinterpret_cast<uint2*>(to) = make_uint2(two(0), two(2));
  else if constexpr (count == 2)
    *reinterpret_cast<u32*>(to) = two(0);
  else
    *to = from_float<Half>(v[0]);
}

/// What the rows of a fragment add, and where they lie among lines and phases.
struct Rows {
  int line[2], phase[2];
  float bias[2];
};

/// Puts eight positions of a warpgroup's sums into lines. `sums` of one row block, or of a unit's SW.
template <int count>
__device__ __forceinline__ void put(const float (&sums)[count][POSITIONS / 2], int block, int j, const Rows& r,
                                    Element* to, int lane) {
  const auto value = [&](int b, int half, int odd) {
    return epilogue(sums[block + b][j * 4 + half * 2 + odd] + r.bias[half]);
  };
  const int position = j % (slice / 8) * 8 + lane % 4 * 2;
  const auto at = [&](int half, int p, int phase) {
    return to + r.line[half] * LINE_PITCH + in_line(p * SW + phase);
  };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (!SEPARATE && r.line[half] >= lines) continue;
    if constexpr (SW == 1) {
      write<2>(at(half, position, 0), {value(0, half, 0), value(0, half, 1)});
    } else if constexpr (SEPARATE && SW == 2) {
      write<4>(at(half, position, 0), {value(0, half, 0), value(1, half, 0), value(0, half, 1), value(1, half, 1)});
    } else if constexpr (SEPARATE) {
#pragma unroll
      for (int phase = 0; phase < SW; ++phase)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) write<1>(at(half, position + odd, phase), {value(phase, half, odd)});
    } else if constexpr (PAIRS && SW == 2) {
      if (half == 0)
        write<4>(at(0, position, 0), {value(0, 0, 0), value(0, 1, 0), value(0, 0, 1), value(0, 1, 1)});
    } else if constexpr (PAIRS && SW % 2 == 0) {
      if (half == 0)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd)
          write<2>(at(0, position + odd, r.phase[0]), {value(0, 0, odd), value(0, 1, odd)});
    } else {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) write<1>(at(half, position + odd, r.phase[half]), {value(0, half, odd)});
    }
  }
}

/// Writes a slice's lines to y. `row` is the first of this warpgroup, `phase` that of a unit's lines (SEPARATE).
__device__ __forceinline__ void drain(const Arguments& a, const Tile& t, const Element* from, const Place* places,
                                      int first, int row, int row_end, int phase, int warp, int lane) {
#pragma unroll
  for (int i = 0; i < line / 32; ++i) {
    const int at = i * 32 + lane, position = first + at / SW;
    if (POSITIONS % slice != 0 && position >= POSITIONS) continue;
    const Place p = places[position];
    const int w = p.w + at % SW;
    if (p.n < 0 || w < 0 || w >= a.out_w) continue;
    Element* base = a.y + p.n * a.y_strides.n + w * a.y_strides.w;
#pragma unroll 4
    for (int l = warp; l < lines; l += warpgroup / 32) {
      const int m = row + (SEPARATE ? l : l * SW);
      if (m >= row_end) break;
      const int r = SEPARATE ? phase : m % phases, d = p.d + r / (SH * SW), h = p.h + r / SW % SH;
      if (RANK > 1 && (h < 0 || h >= a.out_h)) continue;
      if (RANK > 2 && (d < 0 || d >= a.out_d)) continue;
      i64 offset = (i64(t.group) * CO + m / row_phases) * a.y_strides.c;
      if (RANK > 1) offset += h * a.y_strides.h;
      if (RANK > 2) offset += d * a.y_strides.d;
      base[offset] = from[l * LINE_PITCH + in_line(at)];
    }
  }
}

/// Everything that a warpgroup has computed of a tile. `row0`, `position0`: its part of the tile.
template <int kind>
__device__ __forceinline__ void store_tile(const Arguments& a, const Tile& t,
                                           const float (&sums)[ROW_BLOCKS][POSITIONS / 2], int row0, char* buffers,
                                           const Place* places, int thread, int barrier) {
  const int lane = thread % 32, warp = thread / 32;
  const int row_end = min(CO * row_phases, t.row + BLOCK_ROWS);
  Rows r;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp * 16 + lane / 4 * row_g + half * row_half, m = t.row + row0 + row;
    r.line[half] = SEPARATE ? row : row / SW;
    r.phase[half] = SEPARATE ? 0 : row % SW;
    r.bias[half] = has_bias && m < row_end ? to_float(a.bias[t.group * CO + m / row_phases]) : 0.f;
  }
  constexpr int units = ROW_BLOCKS / (SEPARATE ? SW : 1);
#pragma unroll
  for (int unit = 0; unit < units; ++unit)
#pragma unroll
    for (int s = 0; s < slices; ++s) {
      const int turn = (unit * slices + s) % LINE_BUFFERS;
      Element* lines_at = reinterpret_cast<Element*>(buffers + turn * buffer_bytes);
#pragma unroll
      for (int j = s * (slice / 8); j < POSITIONS / 8 && j < (s + 1) * (slice / 8); ++j)
        put(sums, unit * SW * SEPARATE, j, r, lines_at, lane);
      barrier_sync(barrier, warpgroup);
      drain(a, t, lines_at, places, s * slice, t.row + row0, row_end, (kind == 0 ? units_0 : units_1)[unit], warp, lane);
      if (LINE_BUFFERS == 1 || (unit + 1 == units && s + 1 == slices)) barrier_sync(barrier, warpgroup);
    }
}

}  // namespace upconv
