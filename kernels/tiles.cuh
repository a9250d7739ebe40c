// Dense gathers on Hopper's warpgroup tensor cores (sm_90a) with weights streamed beside the source: forward and dx of
// any kernel, stride and dilation.
//
//   out[n, c, position] = sum over source channels k and taps t of src[n, k, source(position, t)] * B[t][k][c]
//
// A block computes a tile of the phase grid: TILE_ROWS x TILE_COLUMNS positions q, all their phases, NB channels. The
// sum runs in chunks of 8 words of channels (8 channels in TF32, 16 in 16-bit types) times one depth tap. Producer
// warps bring a chunk into shared memory, rounded or split on the way: the source as words [k][plane][row][column],
// where a plane holds the positions of one residue of the stride (dx; forward has one plane), and the weights in the
// layout that wgmma reads. Positions are the M operand: a warp reads 16 columns into registers, which is why plain
// NCHW needs no transpose, and each fragment feeds every accumulator that UPCONV_PRODUCTS lists for it. Consumer
// warpgroups keep all accumulators in registers and write them through bias and epilogue. They share a tile, or, with
// TURNS, each computes every other tile alone, so that one writes while the other multiplies.
//
// The host (src/cuda/tiles.cpp) writes namespace config, wgmma() and UPCONV_PRODUCTS.
#include "arguments/tiles.cuh"
#include "epilogue/operands.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

using namespace config;

constexpr int warpgroup = 128;
constexpr int words_k = 8;                   // of a chunk
constexpr int channels_k = tf32 ? 8 : 16;    // of a chunk
constexpr int tap_words = NB * words_k + 4;  // 4: neighbouring taps start in other banks
constexpr int weight_words = TAPS_HW * PARTS * tap_words;
constexpr int source_words = PARTS * words_k * PLANE_PITCH;  // PLANE_PITCH: all planes of one word, 8 or 24 mod 32
constexpr int chunks_k = (K + channels_k - 1) / channels_k;
// Resident weights lie before the stages, all chunks of them; streamed ones in every stage before its source.
constexpr int resident_words = RESIDENT ? KD * chunks_k * weight_words : 0;
constexpr int stage_words = (RESIDENT ? 0 : weight_words) + source_words;
// Where a warp turns a row of sums into lines of the result: 8 channels of all its columns.
constexpr int line = (WARPS_DOWN ? SEGMENTS : 1) * 16 * PHASES_W;
constexpr int line_pitch = line + (PHASES_W % 2 == 1 ? 4 : 8);
constexpr int blocks = (N + NB - 1) / NB;  // of result channels

using arguments::Strides;
typedef arguments::Tiles<Element> Arguments;

__device__ __forceinline__ u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

/// Core matrices of 8 x 16 bytes without swizzle: NB * 16 bytes between neighbours in k, 128 between neighbours in n.
__device__ __forceinline__ unsigned long long descriptor(u32 address) {
  constexpr unsigned long long leading = NB * 16, stride = 128;
  return static_cast<unsigned long long>((address & 0x3ffff) >> 4) | (leading >> 4) << 16 | (stride >> 4) << 32;
}
__device__ __forceinline__ void mma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ void barrier_init(u32 b, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(b), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u32 b) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(b) : "memory");
}
__device__ __forceinline__ void barrier_wait(u32 b, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:}" ::"r"(b),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ u32 round_tf32(float v) {
  u32 r;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ u32 pack_bf16(float first, float second) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}

/// What a word holds before it is written to shared memory: one channel in TF32, else two.
struct Raw {
  Element first, second;
};
__device__ __forceinline__ void clear(float& v) { v = 0.f; }
template <class Half>
__device__ __forceinline__ void clear(Half& v) {
  v.bits = 0;
}

/// Writes a word (and its low part, `low` words further) the way the tensor cores want it.
__device__ __forceinline__ void write_word(u32* to, int low, float first, float second) {
  if constexpr (tf32) {
    *to = round_tf32(first);
  } else {
    const u32 high = pack_bf16(first, second);
    to[0] = high;
    to[low] = pack_bf16(first - __uint_as_float(high << 16), second - __uint_as_float(high & 0xffff0000u));
  }
}
template <class Half>
__device__ __forceinline__ void write_word(u32* to, int, Half first, Half second) {
  *to = u32(first.bits) | u32(second.bits) << 16;
}

/// One tile of the work: which sample, group, block of result channels, output depth and corner of the phase grid.
struct Tile {
  int n, group, column0, od, q_row, q_column;

  __device__ __forceinline__ Tile(const Arguments& a, int index) {
    // Blocks of channels first, so that those which read the same source run at the same time.
    const int share = RESIDENT ? blockIdx.x % (a.groups * blocks) : index % (a.groups * blocks);
    if constexpr (!RESIDENT) index /= a.groups * blocks;
    column0 = share % blocks * NB;
    group = share / blocks;
    q_column = a.first_column + index % a.tiles_column * TILE_COLUMNS;
    index /= a.tiles_column;
    q_row = a.first_row + index % a.tiles_row * TILE_ROWS;
    index /= a.tiles_row;
    od = index % a.out_d;
    n = index / a.out_d;
  }
};

/// Source depth of an output depth and a depth tap; false when the tap does not reach it.
__device__ __forceinline__ bool source_depth(const Arguments& a, int od, int kd, int& depth) {
  if constexpr (backward) {
    depth = od * SD - PD + kd * DD;
  } else {
    const int at = od + PD - kd * DD;
    depth = at / SD;
    if (at < 0 || depth * SD != at) return false;
  }
  return depth >= 0 && depth < a.src_d;
}

/// The tiles of this block: first_tile, then every tile_step-th.
__device__ __forceinline__ int first_tile(const Arguments& a) {
  return RESIDENT ? blockIdx.x / (a.groups * blocks) : blockIdx.x;
}
__device__ __forceinline__ int tile_step(const Arguments& a) {
  return RESIDENT ? gridDim.x / (a.groups * blocks) : gridDim.x;
}

/// Where the producers are: a tile, a depth tap that reaches it, a chunk of channels.
struct Cursor {
  int index, kd = -1, chunk = chunks_k - 1, depth = 0;
  Tile tile;

  __device__ __forceinline__ explicit Cursor(const Arguments& a) : index(first_tile(a)), tile(a, index) {}
  /// To the next chunk; false when the work is over.
  __device__ __forceinline__ bool next(const Arguments& a) {
    if (++chunk < chunks_k) return true;
    chunk = 0;
    for (;;) {
      if (++kd == KD) {
        kd = 0;
        index += tile_step(a);
        if (index < a.tiles) tile = Tile(a, index);
      }
      if (index >= a.tiles) return false;
      if (source_depth(a, tile.od, kd, depth)) return true;
    }
  }
};

__device__ __forceinline__ void copy_word(u32 to, const Element* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(inside ? 4 : 0) : "memory");
}

/// Entry `plane` of a table of residues, without a memory access: the table is known to the compiler.
template <int count>
__device__ __forceinline__ int residue(const int (&table)[count], int plane) {
  int r = table[0];
#pragma unroll
  for (int i = 1; i < count; ++i) r = plane == i ? table[i] : r;
  return r;
}

/// The source of one chunk by copies of several words; its rows are contiguous in memory and start aligned.
template <int words>
__device__ __forceinline__ void produce_source_by(const Arguments& a, const Cursor& at, u32* shared, int thread) {
  constexpr int pieces = PLANE_COLUMNS / words, count = PLANES_H * PLANE_ROWS * pieces;
  const Tile& t = at.tile;
  const int k0 = at.chunk * channels_k;
  const Element* base =
      a.src + t.n * a.src_strides.n + (i64(t.group) * K + k0) * a.src_strides.c + at.depth * a.src_strides.d;
#pragma unroll 2
  for (int piece = thread; piece < count; piece += PRODUCERS) {
    const int line = piece / pieces, column = piece % pieces * words;
    const int h = (t.q_row + FIRST_H + line % PLANE_ROWS) * SOURCE_SH + residue(residue_h, line / PLANE_ROWS);
    const int w = t.q_column + FIRST_W + column;
    const bool inside = h >= 0 && h < a.src_h && w >= 0 && w < a.src_w;
    const Element* from = inside ? base + h * a.src_strides.h + w : a.src;
    const i64 step = inside ? a.src_strides.c : 0;
    const u32 to = shared_address(shared + line * PLANE_COLUMNS + column);
#pragma unroll
    for (int c = 0; c < channels_k; ++c) {
      const int word = tf32 ? c : c / 2 + (c & 1) * words_k;
      const bool take = inside && (K % channels_k == 0 || k0 + c < K);
      if constexpr (words == 4)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to + word * PLANE_PITCH * 4),
                     "l"(from + c * step), "r"(take ? 16 : 0)
                     : "memory");
      else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to + word * PLANE_PITCH * 4),
                     "l"(from + c * step), "r"(take ? 8 : 0)
                     : "memory");
    }
  }
}

/// Starts bringing the source of one chunk: words [k][plane][row][column], zero outside. fp32 is copied as it is, two
/// channels of a split word to the places of its high and low part; 16-bit words are complete when this returns.
__device__ __forceinline__ void produce_source(const Arguments& a, const Cursor& at, u32* shared, int thread) {
  constexpr int plane = PLANE_ROWS * PLANE_COLUMNS, positions = PLANES_H * PLANES_W * plane;
  const Tile& t = at.tile;
  const int k0 = at.chunk * channels_k;
  if constexpr (source_vectors) {
    if (a.vector == 4) return produce_source_by<4>(a, at, shared, thread);
    if (a.vector == 2) return produce_source_by<2>(a, at, shared, thread);
  }
  const Element* base =
      a.src + t.n * a.src_strides.n + (i64(t.group) * K + k0) * a.src_strides.c + at.depth * a.src_strides.d;
#pragma unroll 2
  for (int position = thread; position < positions; position += PRODUCERS) {
    const int p = position / plane, row = position % plane / PLANE_COLUMNS, column = position % PLANE_COLUMNS;
    const int h = (t.q_row + FIRST_H + row) * SOURCE_SH + residue(residue_h, p / PLANES_W);
    const int w = (t.q_column + FIRST_W + column) * SOURCE_SW + residue(residue_w, p % PLANES_W);
    const bool inside = h >= 0 && h < a.src_h && w >= 0 && w < a.src_w;
    const Element* from = inside ? base + h * a.src_strides.h + w * a.src_strides.w : a.src;
    const i64 step = inside ? a.src_strides.c : 0;
    if constexpr (sizeof(Element) == 4) {
      const u32 to = shared_address(shared + position);
#pragma unroll
      for (int c = 0; c < channels_k; ++c) {
        const int word = tf32 ? c : c / 2 + (c & 1) * words_k;  // second channels lie where low parts will
        copy_word(to + word * PLANE_PITCH * 4, from + c * step, inside && (K % channels_k == 0 || k0 + c < K));
      }
    } else {
      Element v[channels_k];
#pragma unroll
      for (int c = 0; c < channels_k; ++c) {
        clear(v[c]);
        if (inside && (K % channels_k == 0 || k0 + c < K)) v[c] = from[c * step];
      }
#pragma unroll
      for (int word = 0; word < words_k; ++word)
        write_word(shared + word * PLANE_PITCH + position, 0, v[2 * word], v[2 * word + (tf32 ? 0 : 1)]);
    }
  }
}

/// Starts bringing the weights of one chunk and depth tap, by tap, to the places where wgmma reads them; as above.
__device__ __forceinline__ void produce_weights(const Arguments& a, const Cursor& at, u32* shared, int thread) {
  constexpr int columns = NB * TAPS_HW;
  const Tile& t = at.tile;
  const int k0 = at.chunk * channels_k;
  const Element* base = a.w + t.group * a.w_group + i64(at.kd) * TAPS_HW * a.w_tap + k0 * a.w_k;
#pragma unroll 2
  for (int column = thread; column < columns; column += PRODUCERS) {
    const int n = column / TAPS_HW, tap = column % TAPS_HW;
    const bool inside = N % NB == 0 || t.column0 + n < N;
    const Element* from = inside ? base + (t.column0 + n) * a.w_n + tap * a.w_tap : a.w;
    const i64 step = inside ? a.w_k : 0;
    u32* to = shared + tap * (PARTS * tap_words) + n / 8 * 32 + n % 8 * 4;
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int c = 0; c < channels_k; ++c) {
        const int word = tf32 ? c : c / 2;
        copy_word(shared_address(to) + (word / 4 * (NB / 8) * 32 + word % 4 + (tf32 ? 0 : (c & 1) * tap_words)) * 4,
                  from + c * step, inside && (K % channels_k == 0 || k0 + c < K));
      }
    } else {
      Element v[channels_k];
#pragma unroll
      for (int c = 0; c < channels_k; ++c) {
        clear(v[c]);
        if (inside && (K % channels_k == 0 || k0 + c < K)) v[c] = from[c * step];
      }
#pragma unroll
      for (int word = 0; word < words_k; ++word)
        write_word(to + word / 4 * (NB / 8) * 32 + word % 4, 0, v[2 * word], v[2 * word + (tf32 ? 0 : 1)]);
    }
  }
}

/// Rounds fp32 words in place, or turns pairs of channels into high and low parts; `low` words lie between the two.
__device__ __forceinline__ void convert(u32* words, int low) {
  float4* first = reinterpret_cast<float4*>(words);
  const float4 a = *first;
  uint4 high;
  if constexpr (tf32) {
    high = make_uint4(round_tf32(a.x), round_tf32(a.y), round_tf32(a.z), round_tf32(a.w));
  } else {
    float4* second = reinterpret_cast<float4*>(words + low);
    const float4 b = *second;
    const auto rest = [](float x, float y, u32 h) {
      return pack_bf16(x - __uint_as_float(h << 16), y - __uint_as_float(h & 0xffff0000u));
    };
    high = make_uint4(pack_bf16(a.x, b.x), pack_bf16(a.y, b.y), pack_bf16(a.z, b.z), pack_bf16(a.w, b.w));
    *reinterpret_cast<uint4*>(second) =
        make_uint4(rest(a.x, b.x, high.x), rest(a.y, b.y, high.y), rest(a.z, b.z, high.z), rest(a.w, b.w, high.w));
  }
  *reinterpret_cast<uint4*>(first) = high;
}

/// What is left to do to a chunk of fp32 once its copies have arrived. (TF32 sources are rounded by the consumers.)
__device__ __forceinline__ void convert_source(u32* source, int thread) {
  if constexpr (sizeof(Element) == 4 && !tf32) {
#pragma unroll 4
    for (int i = thread; i < words_k * PLANE_PITCH / 4; i += PRODUCERS) convert(source + 4 * i, words_k * PLANE_PITCH);
  }
}
__device__ __forceinline__ void convert_weights(u32* weights, int count, int thread) {
  if constexpr (sizeof(Element) == 4) {
#pragma unroll 4
    for (int i = thread; i < count * TAPS_HW * (tap_words / 4); i += PRODUCERS)
      convert(weights + i / (tap_words / 4) * (PARTS * tap_words) + i % (tap_words / 4) * 4, tap_words);
  }
}

/// TF32 sources are rounded here; the other kinds of words lie ready in shared memory.
__device__ __forceinline__ u32 as_operand(u32 word) {
  if constexpr (tf32) return round_tf32(__uint_as_float(word));
  return word;
}

/// The fragment of 16 columns x one chunk of channels that starts at `at`: four words a lane.
__device__ __forceinline__ void load_fragment(u32 (&f)[PARTS][4], const u32* at) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    const u32* p = at + part * (words_k * PLANE_PITCH);
    f[part][0] = as_operand(p[0]);
    f[part][1] = as_operand(p[8]);
    f[part][2] = as_operand(p[4 * PLANE_PITCH]);
    f[part][3] = as_operand(p[4 * PLANE_PITCH + 8]);
  }
}

__device__ __forceinline__ void product(float (&sum)[NB / 2], const u32 (&f)[PARTS][4], u32 weights, int tap) {
  const u32 b = weights + tap * (PARTS * tap_words * 4);
  wgmma(sum, f[0], descriptor(b));
  if constexpr (PARTS == 2) {
    wgmma(sum, f[0], descriptor(b + tap_words * 4));
    wgmma(sum, f[PARTS - 1], descriptor(b));
  }
}

/// All products of one chunk. `lane_source` is the first word of this lane's fragments. Products of the chunk before
/// may still run when this begins; `release` is called once they have ended, and this chunk's run on when it returns.
template <class Release>
__device__ __forceinline__ void multiply(float (&acc)[ACCUMULATORS][NB / 2], u32 (&fragment)[3][PARTS][4],
                                         const u32* lane_source, u32 weights, Release&& release) {
  // pending: how many groups of products may run on while the fragment's registers are written.
#define FRAGMENT(index, offset, pending)                      \
  if (index > 0) mma_commit();                                \
  mma_wait<pending>();                                        \
  if (index == 2) release();                                  \
  load_fragment(fragment[index % 3], lane_source + (offset)); \
  mma_fence();
#define PRODUCT(index, sum, tap) product(acc[sum], fragment[index % 3], weights, tap);
  UPCONV_PRODUCTS
  mma_commit();
  if constexpr (FRAGMENTS < 3) {
    mma_wait<0>();
    release();
  }
#undef FRAGMENT
#undef PRODUCT
}

/// The value for column w of the line at `corner`.
__device__ __forceinline__ float with_bias(const Arguments& a, const Operands& operands, const Tile& t, int channel,
                                           float sum, const Element* corner, int w) {
  return epilogue(sum + (has_bias ? to_float(a.bias[i64(t.group) * N + channel]) : 0.f), operands, t.n,
                  t.group * N + channel, corner - a.out + channel * a.out_strides.c + w * a.out_strides.w);
}

/// Eight channels of a line of the result, from `lines` of this warp.
__device__ __forceinline__ void write_lines(const Arguments& a, const Operands& operands, const Tile& t,
                                            Element* corner, const float* lines, int channel0, int w0, int lane) {
  if constexpr (sizeof(Element) == 4 && !result_last && line % 2 == 0) {
    if (a.pairs && (w0 & 1) == 0) {
#pragma unroll
      for (int i = lane; i < 4 * line; i += 32) {
        const int c = i / (line / 2), column = i % (line / 2) * 2, channel = channel0 + c, w = w0 + column;
        if (channel >= N || w < 0 || w >= a.out_w) continue;
        const float2 v = *reinterpret_cast<const float2*>(lines + c * line_pitch + column);
        *reinterpret_cast<float2*>(corner + channel * a.out_strides.c + w) = make_float2(
            with_bias(a, operands, t, channel, v.x, corner, w), with_bias(a, operands, t, channel, v.y, corner, w + 1));
      }
      return;
    }
  }
#pragma unroll
  for (int i = lane; i < 8 * line; i += 32) {
    const int c = result_last ? i % 8 : i / line, column = result_last ? i / 8 : i % line;
    const int channel = channel0 + c, w = w0 + column;
    if (channel >= N || w < 0 || w >= a.out_w) continue;
    corner[channel * a.out_strides.c + w * a.out_strides.w] =
        from_float<Element>(with_bias(a, operands, t, channel, lines[c * line_pitch + column], corner, w));
  }
}

/// Whether any phase of a row has taps.
__device__ __forceinline__ constexpr bool row_has_sums(int ph) {
  for (int pw = 0; pw < PHASES_W; ++pw)
    if (accumulator[ph * PHASES_W + pw] >= 0) return true;
  return false;
}

/// A line of the result that no tap reaches, all channels of the block.
__device__ __forceinline__ void fill_line(const Arguments& a, const Operands& operands, const Tile& t, Element* corner,
                                          int w0, int lane) {
#pragma unroll 8
  for (int i = lane; i < NB * line; i += 32) {
    const int c = result_last ? i % NB : i / line, column = result_last ? i / NB : i % line;
    const int channel = t.column0 + c, w = w0 + column;
    if (channel >= N || w < 0 || w >= a.out_w) continue;
    corner[channel * a.out_strides.c + w * a.out_strides.w] =
        from_float<Element>(with_bias(a, operands, t, channel, 0.f, corner, w));
  }
}

/// Every phase of this warp's part of the tile. Phases without taps have no accumulator: they are bias alone. Sums go
/// through `lines` of this warp, so that neighbouring lanes write neighbouring columns.
__device__ __forceinline__ void store_tile(const Arguments& a, const Operands& operands, const Tile& t,
                                           const float (&acc)[ACCUMULATORS][NB / 2], float* lines, int row0,
                                           int column0, int lane) {
  constexpr int together = WARPS_DOWN ? SEGMENTS : 1;  // segments of one line
#pragma unroll
  for (int row = 0; row < ROWS; ++row)
#pragma unroll
    for (int ph = 0; ph < PHASES_H; ++ph) {
      const int h = (t.q_row + row0 + row) * PHASES_H + ph - (backward ? 0 : PH);
      if (h < 0 || h >= a.out_h) continue;
#pragma unroll
      for (int first = 0; first < SEGMENTS; first += together) {
        const int w0 = (t.q_column + column0 + first * SEGMENT_STEP) * PHASES_W - (backward ? 0 : PW);
        if (w0 >= a.out_w) continue;
        Element* corner = a.out + t.n * a.out_strides.n + i64(t.group) * N * a.out_strides.c + t.od * a.out_strides.d +
                          h * a.out_strides.h;
        if (!row_has_sums(ph)) {
          fill_line(a, operands, t, corner, w0, lane);
          continue;
        }
        // Lines of 8 channels, by turns in two places: while one is written out the next is put together.
        const auto put = [&](int j) {
#pragma unroll
          for (int segment = 0; segment < together; ++segment)
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
              for (int odd = 0; odd < 2; ++odd)
#pragma unroll
                for (int pw = 0; pw < PHASES_W; ++pw) {
                  const int at = accumulator[ph * PHASES_W + pw];
                  const int sum = ((first + segment) * ROWS + row) * USED_PHASES + (at < 0 ? 0 : at);
                  lines[((j & 1) * 8 + lane % 4 * 2 + odd) * line_pitch +
                        (segment * 16 + lane / 4 + half * 8) * PHASES_W + pw] =
                      at < 0 ? 0.f : acc[sum][j * 4 + half * 2 + odd];
                }
          __syncwarp();
        };
        put(0);
#pragma unroll
        for (int j = 0; j < NB / 8; ++j) {
          if (j + 1 < NB / 8) put(j + 1);
          write_lines(a, operands, t, corner, lines + (j & 1) * 8 * line_pitch, t.column0 + j * 8, w0, lane);
          __syncwarp();
        }
      }
    }
}

/// Moves on over the stages of a tile that the other warpgroup computes.
__device__ __forceinline__ void skip_stages(const Arguments& a, const Tile& t, int& stage, int& parity) {
  for (int kd = 0; kd < KD; ++kd) {
    int depth;
    if (!source_depth(a, t.od, kd, depth)) continue;
    stage += chunks_k;
    parity ^= stage / STAGES & 1;
    stage %= STAGES;
  }
}

extern "C" __global__ void __launch_bounds__(CONSUMERS* warpgroup + PRODUCERS, 1)
    tiles(const Arguments a, const Operands operands) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)  // elsewhere an empty kernel, which nobody launches
  let_next_begin();
  extern __shared__ __align__(1024) u32 shared[];
  __shared__ unsigned long long barriers[2 * STAGES + (TURNS ? CONSUMERS : 0)];
  const u32 full = shared_address(barriers), empty = full + 8 * STAGES, turns = empty + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(full + 8 * s, PRODUCERS);
      barrier_init(empty + 8 * s, (TURNS ? 1 : CONSUMERS) * warpgroup);
    }
    if (TURNS)
      for (int g = 0; g < CONSUMERS; ++g) barrier_init(turns + 8 * g, warpgroup);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  after_previous();

  int stage = 0, parity = 0;
  const auto next_stage = [&] {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  };
  if (threadIdx.x >= CONSUMERS * warpgroup) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
    const int thread = threadIdx.x - CONSUMERS * warpgroup;
    Cursor ahead(a);
    if constexpr (RESIDENT) {
      Cursor all(a);
      for (all.kd = 0; all.kd < KD; ++all.kd)
        for (all.chunk = 0; all.chunk < chunks_k; ++all.chunk)
          produce_weights(a, all, shared + (all.kd * chunks_k + all.chunk) * weight_words, thread);
      asm volatile("cp.async.commit_group;" ::: "memory");
    }
    // Copies run STAGES - 1 chunks ahead of the conversion that completes a chunk.
    bool more = true;
    int filled = 0, filled_parity = 0;
    const auto fill = [&] {
      more = more && ahead.next(a);
      if (more) {
        barrier_wait(empty + 8 * filled, filled_parity ^ 1);
        u32* to = shared + resident_words + filled * stage_words;
        if constexpr (!RESIDENT) {
          produce_weights(a, ahead, to, thread);
          to += weight_words;
        }
        produce_source(a, ahead, to, thread);
        if (++filled == STAGES) filled = 0, filled_parity ^= 1;
      }
      asm volatile("cp.async.commit_group;" ::: "memory");
      return more;
    };
    int pending = 0;
    for (int s = 0; s < STAGES - 1; ++s) pending += fill();
    if constexpr (RESIDENT) {
      asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
      asm volatile("bar.sync 1, %0;" ::"n"(PRODUCERS) : "memory");
      convert_weights(shared, KD * chunks_k, thread);
    }
    while (pending > 0) {
      asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
      asm volatile("bar.sync 1, %0;" ::"n"(PRODUCERS) : "memory");
      u32* words = shared + resident_words + stage * stage_words;
      if constexpr (!RESIDENT) {
        convert_weights(words, 1, thread);
        words += weight_words;
      }
      convert_source(words, thread);
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
      barrier_arrive(full + 8 * stage);
      next_stage();
      --pending;
      pending += fill();
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
    const int group = threadIdx.x / warpgroup, warp = threadIdx.x % warpgroup / 32, lane = threadIdx.x % 32;
    const int wg = TURNS ? 0 : group;
    const int row0 = wg / GROUPS_ACROSS * (WARPS_DOWN ? 4 * ROWS : ROWS) + (WARPS_DOWN ? warp * ROWS : 0);
    const int column0 = wg % GROUPS_ACROSS * GROUP_COLUMNS + (WARPS_DOWN ? 0 : warp * 16);
    const int lane_offset =
        (RESIDENT ? 0 : weight_words) + lane % 4 * PLANE_PITCH + row0 * PLANE_COLUMNS + column0 + lane / 4;
    float* lines =
        reinterpret_cast<float*>(shared + resident_words + STAGES * stage_words) + threadIdx.x / 32 * (16 * line_pitch);
    // Whose tile it is. A warpgroup begins when the one before it has seen all its stages filled: a parity tells only
    // one filling of a stage from the next. The first begins at once.
    int turn = 0, turn_parity = group == 0 ? 1 : 0;
    for (int index = first_tile(a); index < a.tiles; index += tile_step(a)) {
      const Tile t(a, index);
      if (TURNS) {
        const bool mine = turn == group;
        if (++turn == CONSUMERS) turn = 0;
        if (!mine) {
          skip_stages(a, t, stage, parity);
          continue;
        }
        barrier_wait(turns + 8 * group, turn_parity);
        turn_parity ^= 1;
      }
      float acc[ACCUMULATORS][NB / 2];
      u32 fragment[3][PARTS][4];
      int held = -1;  // the stage whose products may still run
#pragma unroll
      for (int i = 0; i < ACCUMULATORS; ++i)
#pragma unroll
        for (int j = 0; j < NB / 2; ++j) acc[i][j] = 0.f;
      for (int kd = 0; kd < KD; ++kd) {
        int depth;
        if (!source_depth(a, t.od, kd, depth)) continue;
        for (int chunk = 0; chunk < chunks_k; ++chunk) {
          barrier_wait(full + 8 * stage, parity);
          const u32* from = shared + resident_words + stage * stage_words;
          multiply(acc, fragment, from + lane_offset,
                   shared_address(RESIDENT ? shared + (kd * chunks_k + chunk) * weight_words : from), [&] {
                     if (held >= 0) barrier_arrive(empty + 8 * held);
                     held = FRAGMENTS < 3 ? -1 : stage;
                     if constexpr (FRAGMENTS < 3) barrier_arrive(empty + 8 * stage);
                   });
          next_stage();
        }
      }
      if (TURNS) barrier_arrive(turns + 8 * (group + 1 == CONSUMERS ? 0 : group + 1));
      mma_wait<0>();
      if (held >= 0) barrier_arrive(empty + 8 * held);
      store_tile(a, operands, t, acc, lines, row0, column0, lane);
    }
  }
#endif
}

}  // namespace upconv
