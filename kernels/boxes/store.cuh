// From a warpgroup's sums to the result: some channels at a time go through shared memory, where the phases of W
// interleave, and leave as lines that are contiguous in memory, through bias and epilogue. What an element's place is
// relative to its box is the same for all boxes and channels: it is worked out once, and what of it lies inside once a
// box. Where boxes are rows of positions (LINE), they overlap by less than a sector of 32 bytes, and of each row and
// channel those columns are written that make whole sectors. OVERLAPPED: what goes through shared memory are the
// products with each tap of W, which are added up where a lane reads them. Part of boxes.cuh.
#pragma once

#include "boxes/source.cuh"
#include "boxes/weights.cuh"

namespace upconv {

constexpr int positions = 64 * SEGMENTS;              ///< Of a warpgroup.
constexpr int row_sets = ROWS * USED_D * USED_H;      ///< Rows of the result that positions of one row lead to,
constexpr int all_sets = ROWS * PHASES_D * PHASES_H;  ///< and those without taps too.
constexpr int rows_in_d = rows_d * PHASES_D, rows_in_h = rows_h * PHASES_H;  ///< Of the result, of one position.
constexpr int at_once = sizeof(Element) == 2 ? 2 : 1;                        ///< Elements that a lane writes together.
/// Of a warp over the elements of one row set.
constexpr int rounds = ((OVERLAPPED ? ROOM : positions) * PHASES_W + 32 * at_once - 1) / (32 * at_once);
constexpr int set_elements = rounds * 32 * at_once;
constexpr int all_spots = set_elements / PHASES_W;  ///< Places of a row set's first phases.
/// Of a row set as it is staged: elements, or every tap's products, of ROOM source elements.
constexpr int set_words = OVERLAPPED ? TAPS_W * ROOM : positions * PHASES_W;
static_assert(!OVERLAPPED || PHASES_W == 1, "results of a tap lie as close as the source's elements");
/// Channels that are put together: of 8 neighbours every other one, a warp each, or all where they lie side by side in
/// the result. TOGETHER times as many are staged between two meetings.
constexpr int staged = result_last ? 8 : 4;
constexpr int channel_room = 8;  ///< Words at the end of a channel that nobody writes, at least.
/// What the lanes of a warp write at once lies in different banks: 8 (16) words apart.
constexpr int channel_pitch =
    result_last ? (row_sets * set_words + 7) / 8 * 8 + 4 : (row_sets * set_words + 15) / 16 * 16 + channel_room;
constexpr int place_words = TOGETHER * staged * channel_pitch,
              staging_words = 2 * place_words;  ///< Two places, written and read by turns.
constexpr int store_steps = NB / staged / TOGETHER;
static_assert(LINE || rounds * at_once <= 32, "a word of bits says which elements of a row set are inside");
constexpr int sets_of_word = LINE ? 1 : 32 / (rounds * at_once);  ///< Row sets whose bits are in one word.
constexpr int words_of_box = LINE ? 0 : (all_sets + sets_of_word - 1) / sets_of_word * 32;
constexpr int inside_words = 3 * words_of_box;  ///< Of a box that ends nowhere, and by turns of those that do.
static_assert(NB % (staged * TOGETHER) == 0, "steps of equal size");

/// Where the first phases of a position lie in the result, from those of the box's first position. `at` < 0: nowhere.
struct Spot {
  int at, w, h, dn;  ///< dn: 65536 * d + n.
};

__device__ __forceinline__ void find_spots(const Arguments& a, Spot* spots, int thread, int threads) {
  const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3];
  for (int i = thread; i < all_spots; i += threads) {
    const int w = i % a.extent[3] * PHASES_W, line = i / a.extent[3], h = line % a.extent[2] * rows_in_h;
    const int plane = line / a.extent[2], d = plane % a.extent[1] * rows_in_d, n = plane / a.extent[1];
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

/// Few of them are written out in the code of each step; many are looked up.

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

/// A bit for each element of a box that a lane writes, in words of some row sets; each warp finds a byte of every word.
/// `inside`: of (row set, position, phase of W).
template <class Inside>
__device__ __forceinline__ void find_bits(Inside&& inside, u32* words, int warp, int lane) {
  constexpr int of_set = rounds * at_once;
#pragma unroll 1
  for (int word = 0; word < words_of_box / 32; ++word) {
    u32 bits = 0;
#pragma unroll 4
    for (int i = 0; i < 8; ++i) {
      const int bit = warp * 8 + i, set = word * sets_of_word + bit / of_set, r = bit % of_set;
      if (bit >= sets_of_word * of_set || set >= all_sets) break;
      const int element = (r / at_once * 32 + lane) * at_once + r % at_once;
      bits |= static_cast<u32>(inside(set, element / PHASES_W, element % PHASES_W)) << i;
    }
    reinterpret_cast<unsigned char*>(words + word * 32 + lane)[warp] = static_cast<unsigned char>(bits);
  }
}

/// Whether all of a box is inside the result.
__device__ __forceinline__ bool ends_nowhere(const Arguments& a, const Corner& c) {
  return c.w >= 0 && c.w + a.extent[3] * PHASES_W <= a.out_size[2] && c.h >= 0 &&
         c.h + a.extent[2] * rows_in_h <= a.out_size[1] && c.d >= 0 && c.d + a.extent[1] * rows_in_d <= a.out_size[0] &&
         c.n + a.extent[0] <= a.samples;
}

/// Where a lane's products are staged, OVERLAPPED: rows lane / 4 and 8 more of each segment; -1: rows of no element.
struct Puts {
  int at[SEGMENTS][2];

  __device__ __forceinline__ Puts(const Arguments& a, int warp, int lane) {
    if constexpr (OVERLAPPED) {
      const int count = a.extent[0] * a.extent[1] * a.extent[2] * a.columns;
#pragma unroll
      for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
          at[segment][half] = row < count ? a.put_from + row / a.columns * a.line_room + row % a.columns : -1;
        }
    }
  }
};

/// Where the products are staged that make up a lane's elements of a row set, OVERLAPPED.
struct Overlaps {
  int at[rounds][at_once];

  __device__ __forceinline__ Overlaps(const Arguments& a, int lane) {
    if constexpr (OVERLAPPED) {
#pragma unroll
      for (int e = 0; e < at_once; ++e) {
#pragma unroll
        for (int r = 0; r < rounds; ++r) {
          int place = (r * 32 + lane) * at_once + e;
          if (place >= a.extent[0] * a.extent[1] * a.extent[2] * a.extent[3]) place = 0;
          at[r][e] = a.read_from + place / a.extent[3] * a.line_room + place % a.extent[3];
        }
      }
    }
  }
  /// Of the element whose number is `e` in round `r`, of the row set at `from`. No load waits for a branch.
  __device__ __forceinline__ float sum(const float* from, int r, int e) const {
    float all = from[at[r][e] + overlap_at[0]];
#pragma unroll
    for (int t = 1; t < TAPS_W; ++t) all += from[at[r][e] + overlap_at[t]];
    return all;
  }
};

/// Puts the channels of a step into the staging, [channel][row set][position][phase of W], or, OVERLAPPED,
/// [channel][row set][tap][source element].
template <int step>
__device__ __forceinline__ void put(const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Puts& puts, int warp,
                                    int lane) {
  constexpr int j = result_last ? step : step / 2;  // columns 8 j to 8 j + 7 of the sums
#pragma unroll
  for (int set = 0; set < row_sets; ++set)
#pragma unroll
    for (int segment = 0; segment < SEGMENTS; ++segment)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int both = 0; both < staged / 4; ++both) {
          const int odd = result_last ? both : step % 2;
          const int position = (segment * 4 + warp) * 16 + half * 8 + lane / 4;
          float* to = staging + (result_last ? lane % 4 * 2 + odd : lane % 4) * channel_pitch + set * set_words +
                      (OVERLAPPED ? puts.at[segment][half] : position * PHASES_W);
          if constexpr (OVERLAPPED) {
#pragma unroll
            for (int tap = 0; tap < TAPS_W; ++tap)
              if (puts.at[segment][half] >= 0)
                to[tap * ROOM] = acc[(segment * (row_sets * USED_W) + block_of[set * USED_W + tap]) * (NB / 2) + j * 4 +
                                     half * 2 + odd];
            continue;
          }
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

__device__ __forceinline__ float bias_of(const Arguments& a, const Place& p, int channel) {
  return has_bias ? to_float(a.bias[i64(p.group) * N + channel]) : 0.f;
}

__device__ __forceinline__ Element* corner_of(const Arguments& a, const Place& p, const Corner& c, int channel) {
  return a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c + c.d * a.out_strides.d +
         c.h * a.out_strides.h + c.w * a.out_strides.w;
}

/// What the sums of one channel become.
struct Finish {
  const Arguments& a;
  const Operands& operands;
  float bias;
  int channel;  ///< Of all groups.
  OfChannel of_channel;

  __device__ __forceinline__ Finish(const Arguments& of, const Operands& by, const Place& p, int number)
      : a(of),
        operands(by),
        bias(bias_of(of, p, number)),
        channel(p.group * N + number),
        of_channel(config::of_channel(by, channel)) {}
  /// What the element at `to` of sample n is made with, whether it exists or not.
  __device__ __forceinline__ OfElement read(bool exists, int n, const Element* to) const {
    return of_element(operands, exists, n, channel, to - a.out);
  }
  __device__ __forceinline__ Element operator()(float sum, const OfElement& with) const {
    return from_float<Element>(epilogue(has_bias ? sum + bias : sum, of_channel, with));
  }
};

__device__ __forceinline__ constexpr int largest_divisor(int of, int most) {
  while (of % most != 0) --most;
  return most;
}
/// An epilogue that is worth a loop.
constexpr bool long_epilogue = has_epilogue && !config::short_epilogue;
/// Elements that a lane finishes together, of one row set and of how many: with a long epilogue, one that finished one
/// after the other would wait for each, and so with sums of several loads.
constexpr int row_elements = rounds * at_once;
constexpr int finished_at_once = long_epilogue || OVERLAPPED ? at_once * largest_divisor(rounds, 8 / at_once) : at_once;
constexpr int sets_at_once = long_epilogue ? largest_divisor(all_sets, 8 / finished_at_once) : 1;
/// Written out, row sets and steps cost fewer instructions. A long epilogue is there once: what follows it, and more
/// than this of row sets, would no longer fit where instructions are kept.
constexpr bool sets_written_out =
    !long_epilogue &&
    all_sets * rounds * (NB / staged) * (has_epilogue ? 2 : 1) * (OVERLAPPED ? 1 + TAPS_W / 4 : 1) <= 192;
constexpr bool steps_written_out = !long_epilogue;

/// One channel by one warp, all row sets. `at`: bytes from the box's corner to the elements of a lane.
__device__ __forceinline__ void write_rows(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* staging, const Spot* spots, const RowSet* sets,
                                           const u32* inside, const u32 (&at)[rounds][at_once],
                                           const Overlaps& overlaps, int channel, int lane) {
  if (channel >= N) return;
  Element* corner = corner_of(a, p, c, channel);
  const u32 bytes_d = static_cast<u32>(a.out_strides.d) * sizeof(Element),
            bytes_h = static_cast<u32>(a.out_strides.h) * sizeof(Element);
  const Finish finish(a, operands, p, channel);
  constexpr int each = finished_at_once;
#pragma unroll(sets_written_out ? all_sets : 1)
  for (int i = 0; i < all_sets; i += sets_at_once) {
    Element* row[sets_at_once];
    const float* from[sets_at_once];
    u32 bits[sets_at_once];
#pragma unroll
    for (int k = 0; k < sets_at_once; ++k) {
      const RowSet set = sets_written_out ? row_set(i + k) : sets[i + k];
      row[k] = reinterpret_cast<Element*>(reinterpret_cast<char*>(corner) + (set.d * bytes_d + set.h * bytes_h));
      bits[k] = inside[(i + k) / sets_of_word * 32 + lane] >> (i + k) % sets_of_word * (rounds * at_once);
      from[k] = set.staged < 0 ? nullptr : staging + set.staged * set_words + (OVERLAPPED ? 0 : lane * at_once);
    }
#pragma unroll
    for (int first = 0; first < row_elements; first += each) {
      Element value[sets_at_once][each];
      float sum[sets_at_once][each];
      OfElement with[sets_at_once][each];
      const auto in = [&](int k, int e) { return (bits[k] >> (first + e) & 1) != 0; };
      const auto to = [&](int k, int e) {
        return reinterpret_cast<Element*>(reinterpret_cast<char*>(row[k]) +
                                          at[(first + e) / at_once][(first + e) % at_once]);
      };
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) {
          const int r = (first + e) / at_once, element = (r * 32 + lane) * at_once + (first + e) % at_once;
          if constexpr (OVERLAPPED)
            sum[k][e] = from[k] == nullptr ? 0.f : overlaps.sum(from[k], r, (first + e) % at_once);
          else
            sum[k][e] = from[k] == nullptr ? 0.f : from[k][r * 32 * at_once + (first + e) % at_once];
          if constexpr (OPERANDS > 0)
            with[k][e] = finish.read(in(k, e), c.n + (spots[element / PHASES_W].dn & 0xffff), to(k, e));
        }
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) value[k][e] = finish(sum[k][e], with[k][e]);
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; e += at_once) {
          Element* first_to = to(k, e);
          if constexpr (at_once == 2) {
            if (in(k, e) && in(k, e + 1) && to(k, e + 1) == first_to + 1 &&
                (reinterpret_cast<u64>(first_to) & 3) == 0) {
              *reinterpret_cast<u32*>(first_to) = bits_of(value[k][e]) | bits_of(value[k][e + 1]) << 16;
            } else {
              if (in(k, e)) *first_to = value[k][e];
              if (in(k, e + 1)) *to(k, e + 1) = value[k][e + 1];
            }
          } else {
            if (in(k, e)) *first_to = value[k][e];
          }
        }
    }
  }
}

/// Lines of whole operands of a place on their way into the cache, a warp's elements at a time: before its products, so
/// that the epilogue after them finds them there.
__device__ __forceinline__ void ask_for_operands(const Arguments& a, const Operands& operands, const Place& p,
                                                 const Spot* spots, const RowSet* sets, int thread) {
  const Corner c(p);
#pragma unroll 1
  for (int i = thread; i < NB * all_sets * rounds; i += 128) {
    const int r = i % rounds, set = i / rounds % all_sets, channel = p.column0 + i / (rounds * all_sets);
    const int element = r * 32 * at_once;
    const Spot spot = spots[element / PHASES_W];
    const RowSet rows = sets[set];
    if (channel >= N || !is_inside(a, c, rows, spot, element % PHASES_W)) continue;
    const Element* at = corner_of(a, p, c, channel) + rows.d * a.out_strides.d + rows.h * a.out_strides.h + spot.at +
                        element % PHASES_W * a.out_strides.w;
    ask_for_elements(operands, at - a.out);
  }
}

/// The columns of `row` that a LINE writes whose first result is at column `w`.
struct Columns {
  int begin, end;
};
__device__ __forceinline__ Columns columns_of(const Arguments& a, const Element* row, int w) {
  constexpr int sector = 32 / static_cast<int>(sizeof(Element));
  const int from_sector = static_cast<int>(reinterpret_cast<u64>(row + w) / sizeof(Element)) & (sector - 1);
  const int whole = w + (-from_sector & (sector - 1));
  return {w > 0 ? whole : 0, whole + a.line < a.out_size[2] ? whole + a.line : a.out_size[2]};
}

/// The same of a row of positions: whole sectors, but at the row's ends.
__device__ __forceinline__ void write_line(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* staging, const RowSet* sets, int channel,
                                           int lane) {
  if (channel >= N) return;
  constexpr int each = finished_at_once;
  // A row's first element lies less than a sector, or a position, from where its set begins.
  constexpr bool reads_all = 32 / sizeof(Element) - 1 <= channel_room && PHASES_W - 1 <= channel_room;
  Element* plane = a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c;
  const Finish finish(a, operands, p, channel);
#pragma unroll(sets_written_out ? all_sets : 1)
  for (int i = 0; i < all_sets; i += sets_at_once) {
    // A lane's first element, and how many elements of the row are left from there on.
    Element* row[sets_at_once];
    const float* from[sets_at_once];
    int left[sets_at_once];
#pragma unroll
    for (int k = 0; k < sets_at_once; ++k) {
      const RowSet set = sets_written_out ? row_set(i + k) : sets[i + k];
      const int h = c.h + set.h, d = c.d + set.d;
      const bool inside = c.n < a.samples && h >= 0 && h < a.out_size[1] && d >= 0 && d < a.out_size[0];
      Element* whole = plane + d * a.out_strides.d + h * a.out_strides.h;
      const Columns of = columns_of(a, whole, c.w);
      const int first = of.begin + lane * at_once;
      row[k] = whole + first;
      left[k] = inside ? of.end - first : 0;
      from[k] = set.staged < 0 ? nullptr : staging + set.staged * set_words - c.w + first;
    }
#pragma unroll
    for (int first = 0; first < row_elements; first += each) {
      Element value[sets_at_once][each];
      float sum[sets_at_once][each];
      OfElement with[sets_at_once][each];
      const auto from_first = [&](int e) { return (first + e) / at_once * 32 * at_once + (first + e) % at_once; };
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) {
          // What is not written may be read, as far as nobody else writes there.
          sum[k][e] = from[k] != nullptr && (reads_all || from_first(e) < left[k]) ? from[k][from_first(e)] : 0.f;
          if constexpr (OPERANDS > 0) with[k][e] = finish.read(from_first(e) < left[k], c.n, row[k] + from_first(e));
        }
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; ++e) value[k][e] = finish(sum[k][e], with[k][e]);
#pragma unroll
      for (int k = 0; k < sets_at_once; ++k)
#pragma unroll
        for (int e = 0; e < each; e += at_once) {
          Element* to = row[k] + from_first(e);
          if constexpr (at_once == 2) {
            if (from_first(e) + 1 < left[k] && (reinterpret_cast<u64>(to) & 3) == 0) {
              *reinterpret_cast<u32*>(to) = bits_of(value[k][e]) | bits_of(value[k][e + 1]) << 16;
            } else {
              if (from_first(e) < left[k]) to[0] = value[k][e];
              if (from_first(e) + 1 < left[k]) to[1] = value[k][e + 1];
            }
          } else {
            if (from_first(e) < left[k]) *to = value[k][e];
          }
        }
    }
  }
}

/// The same where channels are neighbours in memory: 8 of them at each element.
__device__ __forceinline__ void write_channels(const Arguments& a, const Operands& operands, const Place& p,
                                               const Corner& c, const float* staging, const Spot* spots,
                                               const RowSet* sets, int channel0, int warp, int lane) {
  const int channel = channel0 + lane % 8;
  if (channel >= N) return;
  Element* corner = corner_of(a, p, c, channel);
  const Finish finish(a, operands, p, channel);
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    Element* row = corner + set.d * a.out_strides.d + set.h * a.out_strides.h;
    const float* from = staging + lane % 8 * channel_pitch + (set.staged < 0 ? 0 : set.staged * set_words);
#pragma unroll 2
    for (int element = warp * 4 + lane / 8; element < set_elements; element += 16) {
      const Spot spot = spots[element / PHASES_W];
      if (!is_inside(a, c, set, spot, element % PHASES_W)) continue;
      Element* to = row + spot.at + element % PHASES_W * a.out_strides.w;
      *to = finish(set.staged < 0 ? 0.f : from[element], finish.read(true, c.n + (spot.dn & 0xffff), to));
    }
  }
}

/// A step's channels into the staging.
template <int step, int part = 0>
__device__ __forceinline__ void put_together(const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Puts& puts,
                                             int warp, int lane) {
  put<step * TOGETHER + part>(acc, staging + part * (staged * channel_pitch), puts, warp, lane);
  if constexpr (part + 1 < TOGETHER) put_together<step, part + 1>(acc, staging, puts, warp, lane);
}

/// The same of step `wanted`.
template <int step = 0>
__device__ __forceinline__ void put_wanted(int wanted, const float (&acc)[BLOCKS * (NB / 2)], float* staging,
                                           const Puts& puts, int warp, int lane) {
  if (wanted == step)
    put_together<step>(acc, staging, puts, warp, lane);
  else if constexpr (step + 1 < store_steps)
    put_wanted<step + 1>(wanted, acc, staging, puts, warp, lane);
}

/// What was staged for the channels of a step at `from` on.
__device__ __forceinline__ void write_step(const Arguments& a, const Operands& operands, const Place& p,
                                           const Corner& c, const float* from, const Spot* spots, const RowSet* sets,
                                           const u32* inside, const u32 (&at)[rounds][at_once],
                                           const Overlaps& overlaps, int step, int warp, int lane) {
#pragma unroll(steps_written_out ? TOGETHER : 1)
  for (int part = 0; part < TOGETHER; ++part, from += staged * channel_pitch) {
    const int number = step * TOGETHER + part;
    if constexpr (result_last) {
      write_channels(a, operands, p, c, from, spots, sets, p.column0 + number * 8, warp, lane);
    } else {
      const int channel = p.column0 + number / 2 * 8 + warp * 2 + number % 2;
      if constexpr (LINE)
        write_line(a, operands, p, c, from + warp * channel_pitch, sets, channel, lane);
      else
        write_rows(a, operands, p, c, from + warp * channel_pitch, spots, sets, inside, at, overlaps, channel, lane);
    }
  }
}

/// All sums of a place. `turn` and `inside_turn` are kept from place to place: what a slow warp may still read is not
/// written again.
__device__ __forceinline__ void store_box(const Arguments& a, const Operands& operands, const Place& p,
                                          const float (&acc)[BLOCKS * (NB / 2)], float* staging, const Spot* spots,
                                          const RowSet* sets, u32* inside, int group, int thread, int& turn,
                                          int& inside_turn) {
  const int lane = thread % 32;
  const Corner c(p);
  const u32* mine = inside;
  u32 at[rounds][at_once];
  if constexpr (!result_last && !LINE) {
    if (!ends_nowhere(a, c)) {
      u32* words = inside + (1 + inside_turn) * words_of_box;
      find_bits([&](int set, int position, int pw) { return is_inside(a, c, sets[set], spots[position], pw); }, words,
                thread / 32, lane);
      mine = words;
    }
#pragma unroll
    for (int r = 0; r < rounds; ++r)
#pragma unroll
      for (int e = 0; e < at_once; ++e) {
        const int element = (r * 32 + lane) * at_once + e;
        at[r][e] = static_cast<u32>(spots[element / PHASES_W].at + element % PHASES_W) * sizeof(Element);
      }
  }
  // What was staged for a step is written while the next is staged.
  const int warp = thread / 32;
  const auto place = [&](int step) { return staging + ((turn + step) & 1) * place_words; };
  const Puts puts(a, warp, lane);
  const Overlaps overlaps(a, lane);
  put_together<0>(acc, place(0), puts, warp, lane);
#pragma unroll(steps_written_out ? store_steps : 1)
  for (int step = 0; step < store_steps; ++step) {
    meet(1 + group, 128);
    if (step + 1 < store_steps) put_wanted(step + 1, acc, place(step + 1), puts, warp, lane);
    write_step(a, operands, p, c, place(step), spots, sets, mine, at, overlaps, step, warp, lane);
  }
  turn += store_steps;
  inside_turn ^= 1;
}

}  // namespace upconv
