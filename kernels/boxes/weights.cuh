// The weights of boxes.cuh, as boxes_prepare.cuh prepares them: rounded or split, as the B operand of products, which
// is units of 16 bytes [half of k][slot][column]. A slot is a tap; taps whose products are done in one instruction have
// neighbouring slots. FOLDED: the source's high and low parts are the halves of k, so that both halves of B are the
// same 8 channels, and one of them is there. Part of both.
#pragma once

namespace upconv {

/// A 16-bit element as it lies in a word.
template <class Half>
__device__ __forceinline__ u32 bits_of(Half v) {
  return v.bits;
}
__device__ __forceinline__ u32 bits_of(float) { return 0; }

constexpr int halves = FOLDED ? 1 : 2;
constexpr int units = halves * SLOTS * NB;       ///< Of 16 bytes, of one part.
constexpr int weight_words = PARTS * units * 4;  ///< Of one product's channels and tap of the depth loop.
constexpr u32 part_bytes = units * 16, half_bytes = FOLDED ? 0 : SLOTS * NB * 16;

constexpr int channels_k = tf32 || FOLDED ? 8 : 16;  ///< Of a product.
constexpr int channels = channels_k * STEPS_K;       ///< Of a stage: a chunk.
constexpr int chunks = (K + channels - 1) / channels;
constexpr int steps = chunks * STEPS_K;  ///< Products over all channels.
/// The channel that word `word` of half `half` begins with; where a word is a pair, the second is 4 further.
__device__ constexpr int channel_of(int half, int word) { return (tf32 ? 4 : 8) * half + word; }

constexpr int shares_of_group = (N + NB - 1) / NB;

/// Of this block's share of the result channels, from `first` in the order [tap of the depth loop][product's channels],
/// `count` of them. By one thread; the barrier has been told of the bytes.
__device__ __forceinline__ void bring_weights(const u32* prepared, int share, int first, int count, u32 to,
                                              u32 barrier) {
  copy_bytes(to, prepared + (i64(share) * (LOOP_TAPS * steps) + first) * weight_words, count * (weight_words * 4),
             barrier);
}

}  // namespace upconv
