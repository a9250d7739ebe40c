// From the sums of columns.cuh to y: with their bias, some positions at a time go into lines in shared memory, every
// line what they write of one channel and row of y, which leaves it 16 bytes a lane where y allows. Where an element
// lies relative to a position, and a line's channel relative to the first, is worked out once a tile. The epilogue
// comes after the lines, in a loop over them; before, where lines hold 16-bit elements and it reads no operands.
//
// Phases that padding splits: of the phases of W the first `rotated` belong to the position before, so that what a
// position writes begins at a multiple of SW in y.
#pragma once

#include "columns/multiply.cuh"
#include "ptx/words.cuh"

namespace upconv {

constexpr int rotated = PW % SW;

/// Positions that a warpgroup stores: all that it computes, or its block's share of a cluster; and those it has sums
/// of.
constexpr int share_positions = (POSITIONS / 8 + SPLIT - 1) / SPLIT * 8;
constexpr int stored_positions = SPLIT > 1 ? share_positions : POSITIONS;
constexpr int held_positions = stored_positions + (SPLIT > 1 && rotated > 0 ? 8 : 0);
constexpr int slices = (stored_positions + SLICE - 1) / SLICE;
constexpr int places_count = (SPLIT - 1) * share_positions + slices * SLICE;

/// Lines are put together by a team of warps whose rows are whole lines: one warp, or all four.
constexpr int line_rows = SEPARATE ? 1 : SW;
constexpr int team = 16 % line_rows == 0 ? 1 : 4, teams = 4 / team;
constexpr int lines = team == 1 ? 16 / line_rows : GROUP_ROWS / line_rows;
constexpr int slice_elements = SLICE * SW;
constexpr int buffer_bytes = lines * LINE_PITCH * element_bytes;
static_assert(buffer_bytes % 16 == 0 && slice_elements * element_bytes % 16 == 0, "lines are stored 16 bytes at once");

/// What a position writes: its sample (-1: nothing), and where its first phases lie in y.
struct __align__(16) Place {
  int n, d, h, w;
};
/// Whether numbers of y wait in their lines for the epilogue, as they were added up.
constexpr bool finished_late = has_epilogue && sizeof(Element) == 4 && !config::short_epilogue;
static_assert(OPERANDS == 0 || finished_late || config::short_epilogue, "what reads operands must know the element");

/// One line of y: where its channel and its phases of D and H begin, in bytes, and these phases. `d`: its channel in
/// the bits above, where operands are read.
struct __align__(16) Line {  // as drain() loads it
  i64 at;
  int d, h;
};
constexpr int phase_bits = OPERANDS > 0 ? 9 : 0;
static_assert(OPERANDS == 0 || SD <= 1 << phase_bits, "a phase of D fits below the channel");
constexpr int no_line = -1610612736;  // as a phase of H: outside for every position

/// Where a position's place lies: lanes that write 16 bytes read every eighth, and meet no bank.
__device__ __forceinline__ constexpr int place_at(int i) { return i + i / 8; }
constexpr int places_bytes = 16 * place_at(places_count), lists_bytes = 16 * teams * lines;
constexpr int group_bytes = 2 * (places_bytes + lists_bytes) + teams * buffer_bytes;
constexpr int partial_bytes = SPLIT > 1 ? ROW_BLOCKS*(POSITIONS / 8) * consumers* warpgroup * 16 : 0;
static_assert(partial_bytes <= STAGES * stage_bytes, "sums to be added up lie where the stages were");
static_assert(tables_end + consumers * group_bytes <= SHARED_BYTES, "the host reserves what is used");

/// Places and lines of one tile, by all threads of a warpgroup. `row0`, `position0`: its part of the tile.
__device__ __forceinline__ void find_places(const Arguments& a, const Tile& t, int row0, int position0, Place* places,
                                            Line* list, int thread) {
  // Those that drain() reads: of the first position of what a lane writes at once.
  const int at_once = a.store_bytes / (element_bytes * SW),
            apart = at_once * SW * element_bytes == a.store_bytes ? at_once : 1;
#pragma unroll 1
  for (int i = thread * apart; i < places_count; i += warpgroup * apart) {
    const u32 at = t.position + position0 + i;
    const bool real = i < a.own && at < static_cast<u32>(a.positions);
    const u32 n = divide(real ? at : 0, a.sample), in_sample = (real ? at : 0) - n * a.sample.divisor;
    u32 d = 0, h = 0, w = in_sample;
    if (RANK > 1) h = divide(in_sample, a.grid_w), w = in_sample - h * a.grid_w.divisor;
    if (RANK > 2) d = divide(h, a.grid_h), h -= d * a.grid_h.divisor;
    places[place_at(i)] = {real ? static_cast<int>(n) : -1, (static_cast<int>(d) + a.first_d) * SD - PD,
                           (static_cast<int>(h) + a.first_h) * SH - PH, (static_cast<int>(w) - PW / SW) * SW};
  }
  if (thread < teams * lines) {
    const int row_end = min(CO * row_phases, t.row + BLOCK_ROWS);
    const int in_team = thread % lines * line_rows, row = row0 + thread / lines * 16 + in_team, m = t.row + row;
    const bool real = thread / lines * 16 + in_team < GROUP_ROWS && m < row_end;
    const int channel = m / row_phases, phase = SEPARATE ? 0 : m % phases, d = phase / (SH * SW), h = phase / SW % SH;
    i64 offset = (i64(t.group) * CO + channel) * a.y_strides.c;
    if (RANK > 1) offset += h * a.y_strides.h;
    if (RANK > 2) offset += d * a.y_strides.d;
    const int above = OPERANDS > 0 && real ? (t.group * CO + channel) << phase_bits : 0;
    list[thread] = {offset * element_bytes, above | d, real ? h : no_line};
  }
}

/// Element i of a line, whose words are skewed so that a warp's stores meet no bank twice.
__device__ __forceinline__ constexpr int in_line(int i) { return i + i * element_bytes / 128 * LINE_SKEW; }

// ---- two neighbours as they lie in memory
// -----------------------------------------------------------------------------

template <class T>
struct TwoOf {
  typedef u32 Type;
};
template <>
struct TwoOf<float> {
  typedef float2 Type;
};
typedef TwoOf<Element>::Type Two;

template <class T>
__device__ __forceinline__ typename TwoOf<T>::Type two(float first, float second) {
  if constexpr (sizeof(T) == 4)
    return make_float2(first, second);
  else
    return u32(from_float<T>(first).bits) | u32(from_float<T>(second).bits) << 16;
}
/// The second of `a` and the first of `b`.
__device__ __forceinline__ float2 across(float2 a, float2 b) { return make_float2(a.y, b.x); }
__device__ __forceinline__ u32 across(u32 a, u32 b) { return __byte_perm(a, b, 0x5432); }
/// Another lane's; of floats only the first.
__device__ __forceinline__ float2 from_lane(float2 v, int lane) {
  return make_float2(__shfl_sync(~0u, v.x, lane), 0.f);
}
__device__ __forceinline__ u32 from_lane(u32 v, int lane) { return __shfl_sync(~0u, v, lane); }

__device__ __forceinline__ void write_four(float* to, float2 a, float2 b) {
  *reinterpret_cast<float4*>(to) = make_float4(a.x, a.y, b.x, b.y);
}
template <class Half>
__device__ __forceinline__ void write_four(Half* to, u32 a, u32 b) {
  *reinterpret_cast<uint2*>(to) = make_uint2(a, b);
}

// ---- sums to lines
// ------------------------------------------------------------------------------------------------------

/// The sums of a lane as numbers of y.
template <int held>
struct Values {
  const float (&sums)[ROW_BLOCKS][held / 2];
  const float (&bias)[2];
  const OfChannel (&of_channel)[2];

  /// Of row block `block`, positions 8 j to 8 j + 7.
  __device__ __forceinline__ float of(int block, int j, int half, int odd) const {
    const float sum = sums[block][j * 4 + half * 2 + odd], v = has_bias ? sum + bias[half] : sum;
    if constexpr (finished_late)
      return v;  // drain() does the rest
    else
      return epilogue(v, of_channel[half], OfElement());
  }
};

/// Whether a lane has, or gets from its neighbour, two phases of W that lie side by side in y.
constexpr bool by_pairs = !SEPARATE && SW % 2 == 0 && (PAIRS || A_SHARED);
/// Lines of a lane whose four neighbours it has (SW = 2): of each half's row, or of its two phases.
constexpr int sets = SEPARATE ? 2 : 1;

/// Rows g and g + 8 here, g + 1 and g + 9 in the neighbour: each lane keeps one pair of neighbours. `upper`, `lower`:
/// positions p and p + 1 of the first and the second.
template <class T>
__device__ __forceinline__ void exchange(T upper, T lower, int lane, T& p, T& next) {
  const bool odd = (lane & 4) != 0;
  const T got = __shfl_xor_sync(~0u, odd ? upper : lower, 4);
  const T first = odd ? got : upper, second = odd ? lower : got;
  p = __byte_perm(first, second, 0x5410), next = __byte_perm(first, second, 0x7632);
}
__device__ __forceinline__ void exchange(float2, float2, int, float2&, float2&) {}  // 4-byte types have PAIRS

/// Two neighbouring phases of positions p and p + 1, of row pair pair_of(lane).
template <int held>
__device__ __forceinline__ void phases_of(const Values<held>& v, int block, int set, int j, int lane, Two& p,
                                          Two& next) {
  if constexpr (SEPARATE) {
    p = two<Element>(v.of(block, j, set, 0), v.of(block + 1, j, set, 0));
    next = two<Element>(v.of(block, j, set, 1), v.of(block + 1, j, set, 1));
  } else if constexpr (PAIRS) {
    p = two<Element>(v.of(block, j, 0, 0), v.of(block, j, 1, 0));
    next = two<Element>(v.of(block, j, 0, 1), v.of(block, j, 1, 1));
  } else {
    exchange(two<Element>(v.of(block, j, 0, 0), v.of(block, j, 0, 1)),
             two<Element>(v.of(block, j, 1, 0), v.of(block, j, 1, 1)), lane, p, next);
  }
}
__device__ __forceinline__ int pair_of(int lane) { return PAIRS ? lane / 4 : lane / 8 + (lane & 4); }

/// What each lane stores of positions 8 j to 8 j + 7 goes into lines; `in_slice` is their first position's number in
/// the slice. `extra`: only what belongs to the position before.
template <int held>
__device__ __forceinline__ void put(const Values<held>& v, int block, int j, int in_slice, bool extra, Element* to,
                                    int warp, int lane) {
  const int first_row = team == 1 ? 0 : warp * 16;
  const auto line_at = [&](int line, int element) { return to + line * LINE_PITCH + in_line(element); };
  if constexpr (SW == 1) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int line = lane / 4 * row_g + half * row_half;
      const Two both = two<Element>(v.of(block, j, half, 0), v.of(block, j, half, 1));
      *reinterpret_cast<Two*>(line_at(line, in_slice + lane % 4 * 2)) = both;
    }
  } else if constexpr (by_pairs && rotated % 2 == 0) {
    Two p, next;
    phases_of(v, block, 0, j, lane, p, next);
    const int row = first_row + pair_of(lane) * 2, phase = row % SW;
    const int element = (in_slice + lane % 4 * 2) * SW + phase - rotated;
    if (team == 4 && row >= GROUP_ROWS) return;
    const bool before = phase < rotated;
    if (extra ? lane % 4 == 0 && before : !(before && in_slice == 0 && lane % 4 == 0))
      *reinterpret_cast<Two*>(line_at(row / SW, element)) = p;
    if (!extra) *reinterpret_cast<Two*>(line_at(row / SW, element + SW)) = next;
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        if (extra && (odd == 1 || lane % 4 != 0)) continue;
        const int position = in_slice + lane % 4 * 2 + odd, row = first_row + lane / 4 * row_g + half * row_half;
        if (team == 4 && row >= GROUP_ROWS) continue;
#pragma unroll
        for (int i = 0; i < (SEPARATE ? SW : 1); ++i) {
          const int phase = SEPARATE ? i : row % SW, element = position * SW + phase - rotated;
          if (extra ? phase < rotated : element >= 0)
            *line_at(row / line_rows, element) = from_float<Element>(v.of(block + i, j, half, odd));
        }
      }
  }
}

/// The same where a lane has four neighbours in y, of positions p and p + 1 (one phase later where padding is odd):
/// `now` and `then` are phases_of() j and j + 1.
__device__ __forceinline__ void put_four(const Two (&now)[2], Two then, int in_slice, Element* line, int lane) {
  Element* to = line + in_line((in_slice + lane % 4 * 2) * 2);
  if constexpr (rotated == 0) {
    write_four(to, now[0], now[1]);
  } else {
    const Two next = from_lane(lane % 4 == 0 ? then : now[0], (lane & ~3) | ((lane + 1) & 3));
    write_four(to, across(now[0], now[1]), across(now[1], next));
  }
}

// ---- lines to y
// ---------------------------------------------------------------------------------------------------------

/// Where the lines of a unit lie from those of the list on: its phases of D and H.
struct Unit {
  int d, h;
};

/// The epilogue of neighbours in a line, some at once (epilogue/operands.cuh says why). `at`: the number of the first
/// in y.
template <int each, class Words>
__device__ __forceinline__ void finish(Words& words, const Operands& operands, bool exists, int n, int channel,
                                       i64 at) {
  static_assert(sizeof(Words) == each * 4, "lines hold floats");
  u32* number = reinterpret_cast<u32*>(&words);
  const OfChannel of_channel = config::of_channel(operands, channel);
  OfElement with[each];
  if constexpr (OPERANDS > 0)
#pragma unroll
    for (int e = 0; e < each; ++e) with[e] = of_element(operands, exists, n, channel, at + e);
#pragma unroll
  for (int e = 0; e < each; ++e) number[e] = __float_as_uint(epilogue(__uint_as_float(number[e]), of_channel, with[e]));
}

/// Writes a slice's lines to y, `bytes` a lane at once: of its first `count` positions, as those after them may be
/// another block's. `warp` is its number in the team.
template <int bytes>
__device__ __forceinline__ void drain(const Arguments& a, const Operands& operands, const Element* from,
                                      const Place* places, int count, const Line* list, Unit unit, int warp, int lane) {
  typedef typename WordsOf<bytes>::Type Words;
  constexpr int each = bytes / element_bytes, of_line = slice_elements / each;
  constexpr bool shares = of_line < 32;  // a warp writes several lines at once
  constexpr int at_once = shares ? 32 / of_line : 1, rounds = shares ? 1 : (of_line + 31) / 32;
  constexpr int turns = (lines + team * at_once - 1) / (team * at_once);
  // Some lines at a time: all is loaded before the first is stored, and nothing branches.
  constexpr int most = finished_late && each == 4 ? 2 : 4, batch = turns < most ? turns : most;
#pragma unroll 1
  for (int r = 0; r < rounds; ++r) {
    const int piece = shares ? lane % of_line : r * 32 + lane, among = shares ? lane / of_line : 0;
    bool real = shares ? among < at_once : piece < of_line;
    const int element = real ? piece * each : 0;
    const Place p = places[place_at(element / SW)];
    const int w = p.w + element % SW;
    real = real && p.n >= 0 && w >= 0 && w < a.out_w;
    if (SPLIT > 1 && stored_positions % SLICE != 0) real = real && element / SW < count;
    i64 at = p.n * a.y_strides.n + w;
    if (RANK > 1) at += (p.h + unit.h) * a.y_strides.h;
    if (RANK > 2) at += (p.d + unit.d) * a.y_strides.d;
    char* base = reinterpret_cast<char*>(a.y) + at * element_bytes;
    // Read once, not by each line under its conditions.
    u32 out_d = a.out_d, out_h = a.out_h;
    asm volatile("" : "+r"(out_d), "+r"(out_h));
    const u32 staged = shared_address(from + in_line(element)), lines_at = shared_address(list);
#pragma unroll 1
    for (int turn = 0; turn < turns; turn += batch) {
      uint4 to[batch];  // Lines
      Words words[batch];
      bool inside[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        const int line = (warp + (turn + i) * team) * at_once + among;
        const bool exists = (turns % batch == 0 && lines % (team * at_once) == 0 && 32 % of_line == 0) || line < lines;
        load(lines_at + (exists ? line : 0) * 16, to[i]);
        load(staged + (exists ? line : 0) * (LINE_PITCH * element_bytes), words[i]);
        const u32 h = exists ? to[i].w : static_cast<u32>(no_line);
        const u32 depth = OPERANDS > 0 ? to[i].z & ((1u << phase_bits) - 1) : to[i].z;
        inside[i] = real & (p.h + unit.h + h < out_h) & (RANK < 3 || p.d + unit.d + depth < out_d);
      }
      const auto from_base = [&](int i) { return static_cast<i64>(u64(to[i].y) << 32 | to[i].x); };
      if constexpr (finished_late)
#pragma unroll
        for (int i = 0; i < batch; ++i)
          finish<each>(words[i], operands, inside[i], p.n, static_cast<int>(to[i].z >> phase_bits),
                       at + from_base(i) / element_bytes);
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (inside[i]) *reinterpret_cast<Words*>(base + from_base(i)) = words[i];
    }
  }
}

__device__ __forceinline__ void team_meets(int barrier) {
  if (team == 1)
    __syncwarp();
  else
    meet(barrier, warpgroup);
}

/// The bias of a lane's two rows, asked for before a tile's products.
__device__ __forceinline__ void load_bias(const Arguments& a, const Tile& t, int row0, float (&bias)[2], int thread) {
  const int row_end = min(CO * row_phases, t.row + BLOCK_ROWS);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = t.row + row0 + thread / 32 * 16 + thread % 32 / 4 * row_g + half * row_half;
    bias[half] = has_bias && m < row_end ? to_float(a.bias[t.group * CO + m / row_phases]) : 0.f;
  }
}

/// What the epilogue has in common for a lane's two rows.
__device__ __forceinline__ void load_of_channel(const Operands& operands, const Tile& t, int row0,
                                                OfChannel (&of_channel)[2], int thread) {
  const int row_end = min(CO * row_phases, t.row + BLOCK_ROWS);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = t.row + row0 + thread / 32 * 16 + thread % 32 / 4 * row_g + half * row_half;
    of_channel[half] = config::of_channel(operands, m < row_end ? t.group * CO + m / row_phases : 0);
  }
}

/// Everything of a warpgroup's part of a tile. `places` begins with the first position of `sums`.
template <int kind, int held>
__device__ __forceinline__ void store_tile(const Arguments& a, const Operands& operands,
                                           const float (&sums)[ROW_BLOCKS][held / 2], const float (&bias)[2],
                                           const OfChannel (&of_channel)[2], char* buffers, const Place* places,
                                           const Line* list, int thread, int barrier) {
  const int lane = thread % 32, warp = thread / 32, in_team = team == 1 ? 0 : warp;
  const Values<held> v{sums, bias, of_channel};
  Element* to = reinterpret_cast<Element*>(buffers + (team == 1 ? warp * buffer_bytes : 0));
  const Line* mine = list + (team == 1 ? warp * lines : 0);
  constexpr int units = SEPARATE ? ROW_BLOCKS / SW : 1, blocks_of_8 = stored_positions / 8, has_8 = held / 8;
  // An epilogue is long: it is there once, where a lane has registers for all sums while it is at work.
  constexpr bool written_out = !finished_late || ROW_BLOCKS * held / 2 > 80;
#pragma unroll
  for (int u = 0; u < units; ++u) {
    constexpr int phase_blocks = SEPARATE ? SW : 1;
    const int block = u * phase_blocks, phase = SEPARATE ? (kind == 0 ? units_0 : units_1)[u] : 0;
    const Unit unit{phase / (SH * SW), phase / SW % SH};
    Two now[sets][2], then[sets][2];
    if constexpr (SW == 2 && (SEPARATE || by_pairs))
#pragma unroll
      for (int s = 0; s < sets; ++s) phases_of(v, block, s, 0, lane, then[s][0], then[s][1]);
#pragma unroll(written_out ? slices : 1)
    for (int turn = 0; turn < slices; ++turn) {
#pragma unroll
      for (int slice = written_out ? turn : 0; slice < (written_out ? turn + 1 : slices); ++slice) {
        if (slice != turn) continue;
#pragma unroll
        for (int j = slice * (SLICE / 8); j < blocks_of_8 && j < (slice + 1) * (SLICE / 8); ++j) {
          const int in_slice = j * 8 - slice * SLICE;
          if constexpr (SW == 2 && (SEPARATE || by_pairs)) {
#pragma unroll
            for (int s = 0; s < sets; ++s) {
              now[s][0] = then[s][0], now[s][1] = then[s][1];
              if (j + 1 < has_8) phases_of(v, block, s, j + 1, lane, then[s][0], then[s][1]);
              const int line = SEPARATE ? lane / 4 + 8 * s : pair_of(lane);
              put_four(now[s], then[s][0], in_slice, to + line * LINE_PITCH, lane);
            }
          } else {
            put(v, block, j, in_slice, false, to, warp, lane);
          }
        }
        const int next = (slice + 1) * (SLICE / 8), after = next < blocks_of_8 ? next : blocks_of_8;
        if constexpr (rotated > 0 && !(SW == 2 && (SEPARATE || by_pairs)))
          if (after < has_8) put(v, block, after, after * 8 - slice * SLICE, true, to, warp, lane);
      }
      team_meets(barrier);
      const Place* of_slice = places + place_at(turn * SLICE);
      const int count = stored_positions - turn * SLICE;
      if (a.store_bytes == 16)
        drain<16>(a, operands, to, of_slice, count, mine, unit, in_team, lane);
      else if (halves && a.store_bytes == 8)
        drain<8>(a, operands, to, of_slice, count, mine, unit, in_team, lane);
      else if (a.store_bytes == 2 * element_bytes)
        drain<2 * element_bytes>(a, operands, to, of_slice, count, mine, unit, in_team, lane);
      else
        drain<element_bytes>(a, operands, to, of_slice, count, mine, unit, in_team, lane);
      team_meets(barrier);
    }
  }
}

}  // namespace upconv
