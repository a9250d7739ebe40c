// How the blocks of weight_mma.cuh and weight_wgmma.cuh bring an operand of a box to shared memory. A `Tile` says what:
//   channels, all_channels    of the block, of the group
//   lines_d, lines_h, span    lines of the tile, elements that a line of a plane needs; `planes` of them interleave in
//   W d(), h(), w()             where a line, and a place of a plane, lie from the tile's corner in the tensor
//   place_bytes(), channel_bytes()   and in shared memory: of a channel's place, and between channels that are a
//                                    multiple of `even` apart
//   needed()                  whether a place is read at all
//   last, most, fours         channels last; most elements that one copy may take; whether four may go at once too
//   threads, thread(), copy() who copies, and how: a kernel's own asynchronous copy
#pragma once

#include "arguments/strides.cuh"
#include "mma/weight_element.cuh"
#include "ptx/weight_words.cuh"

namespace upconv {

constexpr int element_bytes = config::element == 0 ? 4 : 2;
typedef arguments::Strides WeightStrides;

/// Channels copied side by side so that few threads idle: `group * spots` is little under a multiple of `threads`.
__device__ constexpr int best_group(int threads, int channels, int spots, int multiple) {
  int best = channels;
  long long best_cost = -1;
  for (int g = multiple; g <= channels; g += multiple) {
    if (channels % g != 0) continue;
    const long long slots = (g * spots + threads - 1) / threads;
    const long long cost = slots * (channels / g) * 4 + slots * 40;
    if (best_cost < 0 || cost < best_cost) best = g, best_cost = cost;
  }
  return best;
}

/// The host declines strides of 2^32 elements and more.
__device__ __forceinline__ i64 times(int a, i64 stride) {
  return static_cast<i64>(static_cast<unsigned long long>(static_cast<u32>(a)) * static_cast<u32>(stride));
}

/// Copies one operand of one box, `V` elements at a time. (d, h, w) is the tensor coordinate of the tile's corner.
template <class Tile, int V>
__device__ __forceinline__ void stage_by(u32 to, const char* tensor, i64 channel_base, int first_channel,
                                         const WeightStrides& s, int d0, int h0, int w0, int size_d, int size_h,
                                         int size_w) {
  constexpr int columns = Tile::planes * Tile::span / V;
  constexpr int spots = Tile::lines_d * Tile::lines_h * columns;
  constexpr int group = best_group(Tile::threads, Tile::channels, spots, Tile::last ? 8 : Tile::even);
  constexpr int slots = (group * spots + Tile::threads - 1) / Tile::threads, rounds = Tile::channels / group;
  constexpr int together = slots < 4 ? slots : 4;  // independent slots hide one another's latency
  const i64 round_bytes = s.c * (group * element_bytes);
  const char* const corner = tensor + (channel_base + d0 * s.d + h0 * s.h + w0 * s.w) * element_bytes;
#pragma unroll together
  for (int k = 0; k < slots; ++k) {
    const int e = Tile::thread() + k * Tile::threads;
    if (group * spots % Tile::threads != 0 && e >= group * spots) continue;
    const int channel = Tile::last ? e % 8 + e / 8 / spots * 8 : e / spots;
    const int spot = Tile::last ? e / 8 % spots : e % spots;
    const int column = spot % columns, line = spot / columns;
    const int line_h = line % Tile::lines_h, line_d = line / Tile::lines_h;
    const int plane = column % Tile::planes, position = column / Tile::planes * V;
    if (!Tile::needed(position, plane)) continue;
    const int d = Tile::d(line_d), h = Tile::h(line_h), w = Tile::w(position, plane);  // from the corner, none negative
    const bool inside = static_cast<u32>(d0 + d) < static_cast<u32>(size_d) &&
                        static_cast<u32>(h0 + h) < static_cast<u32>(size_h) &&
                        static_cast<u32>(w0 + w) < static_cast<u32>(size_w);
    const i64 distance = times(channel, s.c) + times(d, s.d) + times(h, s.h) + times(w, s.w);
    const char* from = inside ? corner + distance * element_bytes : tensor;
    const i64 step = inside ? round_bytes : 0;
    const u32 slot = to + Tile::place_bytes(channel, line, plane, position);
    const auto valid = [&](int r) {
      return inside &&
             (Tile::all_channels % Tile::channels == 0 || first_channel + channel + r * group < Tile::all_channels);
    };
    if constexpr (V * element_bytes >= 4) {
#pragma unroll
      for (int r = 0; r < rounds; ++r) {
        const bool whole = Tile::all_channels % Tile::channels == 0, ok = valid(r);
        Tile::template copy<V * element_bytes>(slot + Tile::channel_bytes(r * group), whole || ok ? from : tensor, ok);
        from += step;
        asm volatile("" : "+l"(from));  // two additions; left alone it becomes a product for each copy
      }
    } else {
      // Loads that are under way together: what registers allow, and no batch much smaller than another.
      constexpr int batches = (rounds + 11) / 12, batch = (rounds + batches - 1) / batches;
#pragma unroll 1
      for (int r0 = 0; r0 < rounds; r0 += batch) {
        u16 bits[batch];
#pragma unroll
        for (int r = 0; r < batch; ++r) {
          bits[r] = r0 + r < rounds && valid(r0 + r) ? load_bits16(from) : u16(0);
          from += step;
        }
#pragma unroll
        for (int r = 0; r < batch; ++r)
          if (r0 + r < rounds) store_bits16(slot + Tile::channel_bytes((r0 + r) * group), bits[r]);
      }
    }
  }
}

template <class Tile, class... Arguments>
__device__ __forceinline__ void stage(int vector, Arguments... arguments) {
  if constexpr (!Tile::last && Tile::most > 1) {
    if (vector >= Tile::most) return stage_by<Tile, Tile::most>(arguments...);
    if constexpr (Tile::fours && Tile::most > 4)
      if (vector >= 4) return stage_by<Tile, 4>(arguments...);
    if (vector >= 2) return stage_by<Tile, 2>(arguments...);
  }
  stage_by<Tile, 1>(arguments...);
}

}  // namespace upconv
