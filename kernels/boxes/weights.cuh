// How the weights of one product's channels get into shared memory: rounded or split, as the B operand of products, which is
// units of 16 bytes [half of k][slot][column]. A slot is a tap; taps whose products are done in one instruction have
// neighbouring slots. Part of boxes.cuh.
#pragma once

namespace upconv {

constexpr int units = 2 * SLOTS * NB;       ///< Of 16 bytes, of one part.
constexpr int weight_words = PARTS * units * 4;  ///< Of one product's channels and tap of the depth loop.
constexpr u32 part_bytes = units * 16, half_bytes = SLOTS * NB * 16;

/// The channel that word `word` of half `half` begins with; where a word is a pair, the second is 4 further.
__device__ constexpr int channel_of(int half, int word) { return (tf32 ? 4 : 8) * half + word; }

/// Lanes run along 8 columns, then along taps: neighbouring lanes write neighbouring units and read from few lines.
__device__ __forceinline__ void bring_weights(const Arguments& a, int group, int column0, int tap, int step, u32 to,
                                              int thread, int threads) {
  const Element* base = a.w + i64(group) * a.w_group + i64(step) * channels_k * a.w_k;
  const int left = K - step * channels_k;
#pragma unroll (RESIDENT ? 2 : 4)
  for (int i = thread; i < units; i += threads) {
    const int low = i % 8, rest = i / 8, t = rest % SLOTS, block = rest / SLOTS;
    const int n = block % (NB / 8) * 8 + low, half = block / (NB / 8);
    const bool column = N % NB == 0 || column0 + n < N;
    const Element* from = base + i64(column0 + n) * a.w_n + i64(tap * SLOTS + t) * a.w_tap;
    const u32 unit = to + (half * (SLOTS * NB) + slot_of_tap[t] * NB + n) * 16;
    const auto value = [&](int c) {
      const bool inside = column && (K % channels == 0 || c < left);
      return inside ? from[c * a.w_k] : Element{};
    };
    u32 v[4];
    if constexpr (tf32) {
#pragma unroll
      for (int word = 0; word < 4; ++word) v[word] = round_tf32(to_float(value(channel_of(half, word))));
    } else if constexpr (PARTS == 2) {
      u32 rest_of[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const float first = to_float(value(channel_of(half, word))), second = to_float(value(channel_of(half, word) + 4));
        v[word] = pack_bf16(first, second);
        rest_of[word] = pack_rest(first, second, v[word]);
      }
      store_quad(unit + part_bytes, rest_of);
    } else {
#pragma unroll
      for (int word = 0; word < 4; ++word)
        v[word] = bits_of(value(channel_of(half, word))) | bits_of(value(channel_of(half, word) + 4)) << 16;
    }
    store_quad(unit, v);
  }
}

}  // namespace upconv
