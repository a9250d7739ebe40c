// From a warpgroup's sums to the result. The warpgroup puts some channels at a time into shared memory, where the phases of
// W interleave, and goes on; a warp of its own, the writer, takes them from there through bias and epilogue to memory, as
// lines that are contiguous there. Where boxes are rows of positions (LINE), they overlap by less than a sector of 32
// bytes, and of each row and channel those columns are written that make whole sectors. Part of boxes.cuh.
#pragma once

namespace upconv {

constexpr int positions = 64 * SEGMENTS;              ///< Of a warpgroup.
constexpr int row_sets = ROWS * USED_D * USED_H;      ///< Rows of the result that positions of one row lead to,
constexpr int all_sets = ROWS * PHASES_D * PHASES_H;  ///< and those without taps too.
constexpr int set_elements = positions * PHASES_W;
constexpr int staged = 8;  ///< Channels that are put together; TOGETHER times as many make a step.
/// What the lanes of a warp put at once lies in different banks: every other channel 8 or 24 words apart.
constexpr int channel_pitch = (row_sets * set_elements + 7) / 8 * 8 + 4;
constexpr int step_channels = TOGETHER * staged, place_words = step_channels * channel_pitch;
constexpr int store_steps = NB / step_channels;
constexpr int at_once = sizeof(Element) == 2 ? 2 : 1;    ///< Elements that a lane writes together.
constexpr int rounds = set_elements / (32 * at_once);    ///< Of a warp over the elements of one row set.
/// Rounds of the writer whose elements it finds together, and channels whose loads are under way together.
constexpr int rounds_at_once = rounds % 4 == 0 ? 4 : rounds % 3 == 0 ? 3 : rounds % 2 == 0 ? 2 : rounds % 5 == 0 ? 5 : 1;
constexpr int channels_at_once = rounds_at_once >= 4 ? 2 : 4;
static_assert(NB % step_channels == 0, "steps of equal size");

/// Where the first phases of a position lie in the result, from those of the box's first position. `at` < 0: nowhere.
struct Spot {
  int at, w, h, dn;  ///< dn: 65536 * d + n.
};

__device__ __forceinline__ void find_spots(const Arguments& a, Spot* spots, int thread, int threads) {
  const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3];
  for (int i = thread; i < positions; i += threads) {
    const int w = i % a.extent[3] * PHASES_W, line = i / a.extent[3], h = line % a.extent[2] * PHASES_H;
    const int plane = line / a.extent[2], d = plane % a.extent[1] * PHASES_D, n = plane / a.extent[1];
    const i64 at = n * a.out_strides.n + d * a.out_strides.d + h * a.out_strides.h + w * a.out_strides.w;
    spots[i] = {i < count ? static_cast<int>(at) : -1, w, h, d << 16 | n};
  }
}

/// A row set: rows and phases of D and H.
struct RowSet {
  int d, h;    ///< Of the result, from a box's first row.
  int staged;  ///< Its number in the staging, -1: no tap reaches it.
};
__device__ __forceinline__ constexpr RowSet row_set(int set) {
  // Rows that follow each other in memory have neighbouring numbers.
  const int row = MERGE == 1 ? set / PHASES_H % ROWS : set / (PHASES_D * PHASES_H), ph = set % PHASES_H;
  const int pd = MERGE == 1 ? set / (PHASES_H * ROWS) : set / PHASES_H % PHASES_D;
  return {(MERGE == 0 ? row * PHASES_D : 0) + pd, (MERGE == 1 ? row * PHASES_H : 0) + ph,
          used_d[pd] < 0 || used_h[ph] < 0 ? -1 : (row * USED_D + used_d[pd]) * USED_H + used_h[ph]};
}

__device__ __forceinline__ void find_sets(RowSet* sets, int thread) {
  if (thread < all_sets) sets[thread] = row_set(thread);
}

/// The result's coordinates of a box's first position and first phases.
struct Corner {
  int n, d, h, w;

  __device__ __forceinline__ explicit Corner(const Place& p)
      : n(p.n),
        d(backward || depth_loop ? p.q[0] : p.q[0] * PHASES_D - PADDING_D),
        h(backward ? p.q[1] : p.q[1] * PHASES_H - PADDING_H),
        w(backward ? p.q[2] : p.q[2] * PHASES_W - PADDING_W) {}
};

__device__ __forceinline__ bool is_inside(const Arguments& a, const Corner& c, const RowSet& set, const Spot& spot,
                                          int pw) {
  const int w = c.w + spot.w + pw, h = c.h + set.h + spot.h, d = c.d + set.d + (spot.dn >> 16);
  return spot.at >= 0 && w >= 0 && w < a.out_size[2] && h >= 0 && h < a.out_size[1] && d >= 0 && d < a.out_size[0] &&
         c.n + (spot.dn & 0xffff) < a.samples;
}

/// Puts 8 channels into the staging, [channel][row set][position][phase of W].
template <int j>
__device__ __forceinline__ void put(const float (&acc)[BLOCKS * (NB / 2)], float* staging, int warp, int lane) {
#pragma unroll
  for (int set = 0; set < row_sets; ++set)
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
          const int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
          float* to = staging + (lane % 4 * 2 + odd) * channel_pitch + (set * positions + position) * PHASES_W;
          const auto sum = [&](int pw) {
            const int used = used_w[pw];
            return used < 0 ? 0.f
                            : acc[(segment * (row_sets * USED_W) + block_of[set * USED_W + used]) * (NB / 2) + j * 4 +
                                  half * 2 + odd];
          };
          if constexpr (PHASES_W % 4 == 0) {
#pragma unroll
            for (int pw = 0; pw < PHASES_W; pw += 4)
              *reinterpret_cast<float4*>(to + pw) = make_float4(sum(pw), sum(pw + 1), sum(pw + 2), sum(pw + 3));
          } else if constexpr (PHASES_W == 2) {
            *reinterpret_cast<float2*>(to) = make_float2(sum(0), sum(1));
          } else {
#pragma unroll
            for (int pw = 0; pw < PHASES_W; ++pw) to[pw] = sum(pw);
          }
        }
}

/// The two places of a warpgroup's staging, in turns: barriers say that one is full or empty.
struct Staging {
  float* words;
  u32 full, empty;  ///< Addresses of two barriers each.
  int turn = 0;

  __device__ __forceinline__ float* place() const { return words + (turn & 1) * place_words; }
  __device__ __forceinline__ void wait_empty() const { barrier_wait(empty + 8 * (turn & 1), ~turn >> 1 & 1); }
  __device__ __forceinline__ void wait_full() const { barrier_wait(full + 8 * (turn & 1), turn >> 1 & 1); }
  __device__ __forceinline__ void pass_on(u32 barrier, int lane) {
    __syncwarp();
    if (lane == 0) barrier_arrive(barrier + 8 * (turn & 1));
    ++turn;
  }
};

template <int j, int part>
__device__ __forceinline__ void put_together(const float (&acc)[BLOCKS * (NB / 2)], float* place, int warp, int lane) {
  put<j + part>(acc, place + part * (staged * channel_pitch), warp, lane);
  if constexpr (part + 1 < TOGETHER) put_together<j, part + 1>(acc, place, warp, lane);
}

/// All sums of a place, by its warpgroup.
template <int step = 0>
__device__ __forceinline__ void hand_over(const float (&acc)[BLOCKS * (NB / 2)], Staging& staging, int warp, int lane) {
  staging.wait_empty();
  put_together<step * TOGETHER, 0>(acc, staging.place(), warp, lane);
  staging.pass_on(staging.full, lane);
  if constexpr (step + 1 < store_steps) hand_over<step + 1>(acc, staging, warp, lane);
}

__device__ __forceinline__ float bias_of(const Arguments& a, const Place& p, int channel) {
  return has_bias ? to_float(a.bias[i64(p.group) * N + channel]) : 0.f;
}

__device__ __forceinline__ Element* corner_of(const Arguments& a, const Place& p, const Corner& c, int channel) {
  return a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c + c.d * a.out_strides.d +
         c.h * a.out_strides.h + c.w * a.out_strides.w;
}

/// One or two neighbouring elements of a row, if they are inside.
template <class Value>
__device__ __forceinline__ void write_elements(Element* to, bool first, bool second, bool together, Value&& value) {
  if constexpr (at_once == 2) {
    if (first && second && together && (reinterpret_cast<u64>(to) & 3) == 0) {
      *reinterpret_cast<u32*>(to) = bits_of(value(0)) | bits_of(value(1)) << 16;
      return;
    }
    if (second && together) to[1] = value(1);
  }
  if (first) *to = value(0);
}

/// A step's channels, all row sets. `bias` is in shared memory, by column.
__device__ __forceinline__ void write_rows(const Arguments& a, const Place& p, const Corner& c, const float* staging,
                                           const Spot* spots, const RowSet* sets, const float* bias, int column, int lane) {
  const int channel0 = p.column0 + column, count = N % NB == 0 ? step_channels : N - channel0;
  Element* corner = corner_of(a, p, c, channel0);
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    Element* row = corner + set.d * a.out_strides.d + set.h * a.out_strides.h;
    const float* from = staging + (set.staged < 0 ? 0 : set.staged * set_elements) + lane * at_once;
#pragma unroll 1
    for (int r0 = 0; r0 < rounds; r0 += rounds_at_once) {
      int at[rounds_at_once][at_once];
      bool inside[rounds_at_once][at_once];
#pragma unroll
      for (int r = 0; r < rounds_at_once; ++r)
#pragma unroll
        for (int e = 0; e < at_once; ++e) {
          const int element = ((r0 + r) * 32 + lane) * at_once + e;
          const Spot spot = spots[element / PHASES_W];
          inside[r][e] = is_inside(a, c, set, spot, element % PHASES_W);
          at[r][e] = spot.at + element % PHASES_W;
        }
#pragma unroll(channels_at_once)
      for (int k = 0; k < step_channels; ++k) {
        if (N % NB != 0 && k >= count) break;
        const float b = has_bias ? bias[column + k] : 0.f;
        Element* to = row + k * a.out_strides.c;
        const float* word = from + k * channel_pitch + r0 * 32 * at_once;
#pragma unroll
        for (int r = 0; r < rounds_at_once; ++r) {
          const auto value = [&](int e) {
            return from_float<Element>(epilogue(set.staged < 0 ? b : word[r * 32 * at_once + e] + b));
          };
          const bool together = at_once == 2 && at[r][at_once - 1] == at[r][0] + 1;
          write_elements(to + at[r][0], inside[r][0], inside[r][at_once - 1], together, value);
          if constexpr (at_once == 2)
            if (!together && inside[r][1]) to[at[r][1]] = value(1);
        }
      }
    }
  }
}

/// The same of rows of positions: whole sectors, but at the ends of the result's rows.
__device__ __forceinline__ void write_lines(const Arguments& a, const Place& p, const Corner& c, const float* staging,
                                            const RowSet* sets, const float* bias, int column, int lane) {
  constexpr int sector = 32 / static_cast<int>(sizeof(Element));
  const int channel0 = p.column0 + column, count = N % NB == 0 ? step_channels : N - channel0;
  Element* plane = a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel0) * a.out_strides.c;
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    const int h = c.h + set.h, d = c.d + set.d;
    if (h < 0 || h >= a.out_size[1] || d < 0 || d >= a.out_size[0]) continue;
    Element* row0 = plane + d * a.out_strides.d + h * a.out_strides.h;
    const float* from = staging + (set.staged < 0 ? 0 : set.staged * set_elements) - c.w;
#pragma unroll(channels_at_once)
    for (int k = 0; k < step_channels; ++k) {
      if (N % NB != 0 && k >= count) break;
      const float b = has_bias ? bias[column + k] : 0.f;
      Element* row = row0 + k * a.out_strides.c;
      const int begin = static_cast<int>(reinterpret_cast<u64>(row + c.w) / sizeof(Element)) & (sector - 1);
      const int whole = c.w + (-begin & (sector - 1));
      const int first = (c.w > 0 ? whole : 0) + lane * at_once, last = whole + a.line;
      const int end = last < a.out_size[2] ? last : a.out_size[2];
      const float* word = from + k * channel_pitch + first;
      Element* to = row + first;
#pragma unroll
      for (int r = 0; r < rounds; ++r) {
        const int at = r * 32 * at_once;
        write_elements(to + at, first + at < end, first + at + at_once - 1 < end, true, [&](int e) {
          return from_float<Element>(epilogue(set.staged < 0 ? b : word[at + e] + b));
        });
      }
    }
  }
}

/// The same where channels are neighbours in memory: 8 of them at each element.
__device__ __forceinline__ void write_channels(const Arguments& a, const Place& p, const Corner& c, const float* staging,
                                               const Spot* spots, const RowSet* sets, const float* bias, int column,
                                               int lane) {
  Element* corner = corner_of(a, p, c, p.column0 + column + lane % 8);
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    Element* row = corner + set.d * a.out_strides.d + set.h * a.out_strides.h;
    const float* from = staging + lane % 8 * channel_pitch + (set.staged < 0 ? 0 : set.staged * set_elements);
#pragma unroll 4
    for (int element = lane / 8; element < set_elements; element += 4) {
      const Spot spot = spots[element / PHASES_W];
      if (!is_inside(a, c, set, spot, element % PHASES_W)) continue;
      Element* to = row + spot.at + element % PHASES_W * a.out_strides.w;
#pragma unroll
      for (int part = 0; part < TOGETHER; ++part) {
        const int k = part * staged, of = column + k + lane % 8;
        if (N % NB != 0 && p.column0 + of >= N) break;
        const float b = has_bias ? bias[of] : 0.f;
        to[k] = from_float<Element>(epilogue(set.staged < 0 ? b : from[k * channel_pitch + element] + b));
      }
    }
  }
}

/// All that a warpgroup hands over for one box, by the writer.
__device__ __forceinline__ void write_box(const Arguments& a, const Place& p, Staging& staging, const Spot* spots,
                                          const RowSet* sets, const float* bias, int lane) {
  const Corner c(p);
#pragma unroll 1
  for (int column = 0; column < NB; column += step_channels) {
    staging.wait_full();
    if (N % NB == 0 || p.column0 + column < N) {
      if constexpr (result_last)
        write_channels(a, p, c, staging.place(), spots, sets, bias, column, lane);
      else if constexpr (LINE)
        write_lines(a, p, c, staging.place(), sets, bias, column, lane);
      else
        write_rows(a, p, c, staging.place(), spots, sets, bias, column, lane);
    }
    staging.pass_on(staging.empty, lane);
  }
}

}  // namespace upconv
