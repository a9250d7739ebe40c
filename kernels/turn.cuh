// Tensors with their channels brought from first to last or from last to first: [sample][row][column] to
// [sample][column][row], elements of 2 or 4 bytes, two tensors in one launch. Host side: src/cuda/turning.hpp.
//
// A block turns 128 bytes of rows by 32 columns. A thread loads 16 bytes of a row (of two rows in 16 bits, paired to
// words) where these begin at multiples of 16 bytes, and after the exchange stores 16 bytes of a column. Floor: the
// tensors read and written once.
#include "arguments/turn.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

typedef arguments::Turns Turns;
using config::ELEMENT_BYTES;

/// Rows of a word, elements of 16 bytes, columns and words of a block.
constexpr int of_word = 4 / ELEMENT_BYTES, each = 16 / ELEMENT_BYTES, side = 32, words = 32;
constexpr int turn_threads = words * side / each;

template <int bytes>
struct Loaded {
  typedef u32 Type;
};
template <>
struct Loaded<2> {
  typedef u16 Type;
};
typedef Loaded<ELEMENT_BYTES>::Type Bits;

/// Elements [0, each) at `from`, zeros from `count` on.
__device__ __forceinline__ void load_run(const Bits* from, int count, bool wide, u32 (&v)[each]) {
  if (wide && count >= each) {
    const uint4 q = *reinterpret_cast<const uint4*>(from);
    const u32 loaded[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int i = 0; i < each; ++i) v[i] = of_word == 1 ? loaded[i] : loaded[i / 2] >> i % 2 * 16 & 0xffffu;
    return;
  }
#pragma unroll
  for (int i = 0; i < each; ++i) v[i] = i < count ? from[i] : 0;
}

extern "C" __global__ void __launch_bounds__(turn_threads) turn(const __grid_constant__ Turns turns) {
  __shared__ u32 turned[side][words + 1];
  let_next_begin();
  after_previous();
  u32 block = blockIdx.x;
  const bool second = block >= turns.of[0].blocks;
  const arguments::Turn& t = turns.of[second];
  if (second) block -= turns.of[0].blocks;
  constexpr int rows_of_block = words * of_word;
  const u32 of_rows = (t.rows + rows_of_block - 1) / rows_of_block, of_columns = (t.columns + side - 1) / side;
  const int row0 = static_cast<int>(block % of_rows) * rows_of_block;
  block /= of_rows;
  const int column0 = static_cast<int>(block % of_columns) * side;
  const i64 sample = static_cast<i64>(block / of_columns) * t.rows * t.columns;
  {
    const int word = threadIdx.x / (side / each), column = threadIdx.x % (side / each) * each;
    const int row = row0 + word * of_word, left = t.columns - column0 - column, count = left < 0 ? 0 : left;
    const Bits* const from =
        reinterpret_cast<const Bits*>(t.from) + sample + static_cast<i64>(row) * t.columns + column0 + column;
    u32 v[each];
    load_run(from, row < t.rows ? count : 0, t.wide_from, v);
    if constexpr (of_word == 2) {
      u32 next[each];
      load_run(from + t.columns, row + 1 < t.rows ? count : 0, t.wide_from, next);
#pragma unroll
      for (int i = 0; i < each; ++i) v[i] |= next[i] << 16;
    }
#pragma unroll
    for (int i = 0; i < each; ++i) turned[column + i][word] = v[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = threadIdx.x; i < side * words / 4; i += turn_threads) {
    const int piece = i % (words / 4), column = i / (words / 4), row = row0 + piece * each;
    if (column0 + column >= t.columns || row >= t.rows) continue;
    const u32* const w = turned[column] + piece * 4;
    Bits* const to = reinterpret_cast<Bits*>(t.to) + sample + static_cast<i64>(column0 + column) * t.rows + row;
    if (t.wide_to) {
      *reinterpret_cast<uint4*>(to) = make_uint4(w[0], w[1], w[2], w[3]);
    } else {
#pragma unroll
      for (int e = 0; e < each; ++e)
        if (row + e < t.rows) to[e] = static_cast<Bits>(of_word == 1 ? w[e] : w[e / 2] >> e % 2 * 16);
    }
  }
}

}  // namespace upconv
