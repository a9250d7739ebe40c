// Prepares the weights for boxes.cuh: [group][share of the result channels][tap of the depth loop][product's channels]
// of what boxes/weights.cuh describes, so that each block's come by bulk copies. Floor: a launch; the bytes are few.
// Host side: src/cuda/boxes.cpp, which writes namespace config.
#include "ptx/dependents.cuh"
#include "ptx/warpgroup.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

}  // namespace upconv

#include "boxes/weights.cuh"

namespace upconv {

/// A thread a unit. Strides of w are in elements: source channel, result channel, tap, group. Lanes run along 8
/// columns, then along taps: neighbouring lanes write neighbouring units and read from few lines.
extern "C" __global__ void __launch_bounds__(256)
    boxes_prepare(const Element* w, u32* prepared, i64 w_k, i64 w_n, i64 w_tap, i64 w_group, i64 count) {
  let_next_begin();
  const i64 index = i64(blockIdx.x) * 256 + threadIdx.x;
  after_previous();
  if (index >= count) return;
  const int i = static_cast<int>(index % units), low = i % 8, t = i / 8 % SLOTS, block = i / 8 / SLOTS;
  const int n = block % (NB / 8) * 8 + low, half = block / (NB / 8);
  const i64 of = index / units;  // share, tap, step
  const int step = static_cast<int>(of % steps), tap = static_cast<int>(of / steps % LOOP_TAPS);
  const int share = static_cast<int>(of / steps / LOOP_TAPS), column = share % shares_of_group * NB + n;
  const Element* from = w + i64(share / shares_of_group) * w_group + i64(step) * channels_k * w_k + i64(column) * w_n +
                        i64(tap * SLOTS + t) * w_tap;
  u32* unit = prepared + of * weight_words + (half * (SLOTS * NB) + slot_of_tap[t] * NB + n) * 4;
  const auto value = [&](int c) { return column < N && step * channels_k + c < K ? from[c * w_k] : Element{}; };
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const int c = channel_of(half, word);
    if constexpr (tf32) {
      unit[word] = round_tf32(to_float(value(c)));
    } else if constexpr (PARTS == 2) {
      const float first = to_float(value(c)), second = to_float(value(c + 4));
      unit[word] = pack_bf16(first, second);
      unit[part_bytes / 4 + word] = pack_rest(first, second, unit[word]);
    } else {
      unit[word] = bits_of(value(c)) | bits_of(value(c + 4)) << 16;
    }
  }
}

}  // namespace upconv
