// The same for boxes that are rows of positions (LINE), channels first: each row of the result is written in whole sectors of 32
// bytes. What is left at a box's end, less than a sector of every row and channel, is carried in shared memory to the box
// that follows in W, or, where rows lie without a gap (`chain`), to the next row. A channel's rows are always written
// by the same warp, so what is carried needs no barrier. Part of boxes.cuh.
#pragma once

namespace upconv {

constexpr int most_sector = 32 / static_cast<int>(sizeof(Element));
constexpr int carried_words = NB * all_sets * most_sector;  ///< Of one warpgroup: [channel][row set][element].

/// One channel by one warp.
__device__ __forceinline__ void write_channel(const Arguments& a, const Place& p, const Corner& c, const float* staging,
                                              const RowSet* sets, float* carried, int channel, int lane) {
  if (channel >= N) return;
  Element* plane = a.out + c.n * a.out_strides.n + (i64(p.group) * N + channel) * a.out_strides.c;
  const float bias = bias_of(a, p, channel);
  // Columns of this box; those before it, in a row's start, come from what was carried.
  const int w0 = c.w, w1 = w0 + a.extent[3] * PHASES_W, out_w = a.out_size[2];
  const int end = w1 < out_w ? w1 : out_w, low = w0 > 0 ? w0 : 0;
  const bool begins = p.along == 0, ends = p.along == p.last;
  bool held = !begins;  // whether the start of the row's first sector was carried
#pragma unroll 1
  for (int i = 0; i < all_sets; ++i) {
    const RowSet set = sets[i];
    const int h = c.h + set.h, d = c.d + set.d;
    if (begins && a.chain && set.h == 0) held = false;  // another depth
    if (h < 0 || h >= a.out_size[1] || d < 0 || d >= a.out_size[0]) continue;
    Element* row = plane + d * a.out_strides.d + h * a.out_strides.h;
    const int sector = a.sector - 1, base = static_cast<int>(reinterpret_cast<u64>(row) / sizeof(Element)) & sector;
    const bool more = a.chain && ends && set.h + 1 < rows_in_h && h + 1 < a.out_size[1];
    // From `start` on lanes write whole sectors, from `first` on elements exist, up to `whole` sectors are complete.
    const int first = held ? low - (base + low & sector) : low, start = low - (base + low & sector);
    const int whole = ends && !more ? end : end - (base + end & sector);
    const float* from = set.staged < 0 ? nullptr : staging + set.staged * set_elements - w0;
    const float* before = carried + (a.chain ? i - 1 : i) * most_sector - start;
    float* after = carried + i * most_sector - whole;
    const auto sum = [&](int column) {
      return column < low ? (held ? before[column] : 0.f) : from ? from[column] : 0.f;
    };
    const auto finish = [&](int column, float v) {
      if (column >= whole) {
        if (column < end) after[column] = v;
      } else if (column >= first) {
        row[column] = from_float<Element>(epilogue(v + bias));
      }
    };
#pragma unroll 2
    for (int column = start + lane * at_once; column < end; column += 32 * at_once) {
      if constexpr (at_once == 2) {
        const float v = sum(column), u = sum(column + 1);
        if (column >= first && column + 1 < whole && (reinterpret_cast<u64>(row + column) & 3) == 0) {
          *reinterpret_cast<u32*>(row + column) = bits_of(from_float<Element>(epilogue(v + bias))) |
                                                  bits_of(from_float<Element>(epilogue(u + bias))) << 16;
        } else {
          finish(column, v);
          finish(column + 1, u);
        }
      } else {
        finish(column, sum(column));
      }
    }
    held = a.chain ? more : held;
  }
}

template <int step>
__device__ __forceinline__ void store_lines_from(const Arguments& a, const Place& p, const Corner& c,
                                                 const float (&acc)[BLOCKS * (NB / 2)], float* staging,
                                                 const RowSet* sets, float* carried, int group, int thread, int turn) {
  if constexpr (step < store_steps) {
    const int warp = thread / 32, lane = thread % 32;
    const auto place = [&](int of) { return staging + ((turn + of) & 1) * (staged * channel_pitch); };
    meet(1 + group, 128);
    if constexpr (step + 1 < store_steps) put<step + 1>(acc, place(step + 1), warp, lane);
    const int column = step / 2 * 8 + warp * 2 + step % 2;
    write_channel(a, p, c, place(step) + warp * channel_pitch, sets, carried + column * (all_sets * most_sector),
                  p.column0 + column, lane);
    store_lines_from<step + 1>(a, p, c, acc, staging, sets, carried, group, thread, turn);
  }
}

/// All sums of a place.
__device__ __forceinline__ void store_lines(const Arguments& a, const Place& p, const float (&acc)[BLOCKS * (NB / 2)],
                                            float* staging, const RowSet* sets, float* carried, int group, int thread,
                                            int& turn) {
  put<0>(acc, staging + (turn & 1) * (staged * channel_pitch), thread / 32, thread % 32);
  store_lines_from<0>(a, p, Corner(p), acc, staging, sets, carried, group, thread, turn);
  turn += store_steps;
}

}  // namespace upconv
