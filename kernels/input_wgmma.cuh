// dx[n, ci, i] = sum over co, t of w[ci, co, t] * dy[n, co, s*i + d*t - p] on Hopper's warpgroup tensor cores (sm_90a),
// for layers of many channels. Host side: src/cuda/input_wgmma.cpp, which writes `namespace config` and wgmma().
//
// M = positions i, N = ci, K = pairs (co, tap) in w's own order, so that w needs no preparing: rows of it come by bulk
// copies, which round to TF32 and swizzle, as the B operand. Lines of dy lie in shared memory as in the tensor: a
// position at a pair is one word, `the position's place + the pair's reach`, and lanes read A from there, whatever
// stride, dilation and rank.
//
// A tile is one box of positions (64 * MT * WGS of them) x NB input channels; blocks take tiles in turn. A stage is KS
// pairs: KS elements of NB rows of w, and the lines of dy of the CC output channels that these pairs may meet. WGS
// warpgroups multiply, one more brings. Where KS is no multiple of the taps, stages begin at PHASES different taps.
// Few tiles: the SPLIT blocks of a cluster share the pairs of one tile, leave their sums in their own shared memory,
// and each adds up those of some channels, always in the order of the blocks. Floor: max(bytes of w, dy and dx, 2 *
// positions * ci * co * taps at the tensor cores' rate).
#include "arguments/input_wgmma.cuh"
#include "mma/weight_box.cuh"
#include "mma/weight_element.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/weight_words.cuh"
#include "ptx/words.cuh"

namespace upconv {

typedef arguments::InputWgmma Arguments;

constexpr bool tf32 = element == 0;
constexpr int element_bytes = tf32 ? 4 : 2;
constexpr int warpgroup = 128, multiplying = WGS * warpgroup, threads = multiplying + warpgroup;
/// 16-bit elements whose pairs are neighbours in dy too, at even places: two taps of a row under an even stride.
constexpr bool words = !tf32 && KW % 2 == 0 && DW == 1 && SW % 2 == 0 && LEAD % 2 == 0;
constexpr int quad = 16 / element_bytes, step = 2 * quad, steps = KS / step;
constexpr int row_elements = 128 / element_bytes;  ///< Of w that one copy brings of a row.
constexpr int taps = KD * KH * KW, pairs = CO * taps, chunks = (pairs + KS - 1) / KS;
constexpr int w_bytes = NB * KS * element_bytes;
constexpr int y_bytes = (CC * YC * element_bytes + 1023) / 1024 * 1024;
constexpr int stage_bytes = w_bytes + y_bytes;
constexpr int lines = LD * LH;
/// Sets of A's registers that are used by turns: of small products several run at once.
constexpr int turns = MT * NB <= 128 && steps * MT >= 8 && steps * MT % 4 == 0 ? 4 : 2;
static_assert(chunks >= SPLIT && (SPLIT == 1 || MT * NB * multiplying * 2 <= STAGES * stage_bytes), "sums fit");
static_assert(BD * BH * BW == 64 * MT * WGS && KS % row_elements == 0, "a position a row, whole copies");

/// Bytes from the start of a stage to pair `k` of its row `channel` of w: as bulk copies leave it and products read it.
__device__ constexpr int w_place(int channel, int k) {
  return k / row_elements * (NB * 128) + channel * 128 + ((k % row_elements / quad) ^ (channel & 7)) * 16 +
         k % quad * element_bytes;
}

/// The chunks that this block adds up: all, or its share of a cluster.
struct Share {
  int first, end;
  __device__ __forceinline__ explicit Share(int rank)
      : first(rank * chunks / SPLIT), end((rank + 1) * chunks / SPLIT) {}
};

/// One tile of the work. Boxes run fastest: neighbours share w in the L2.
struct Place {
  Box box;
  int ci0, group;
  __device__ __forceinline__ Place(const Arguments& p, int tile) {
    constexpr int parts = (CI + NB - 1) / NB;
    box.start(tile % p.all_boxes, p);
    const int rest = tile / p.all_boxes;
    ci0 = rest % parts * NB, group = rest / parts;
  }
};

// ---- bringing -------------------------------------------------------------------------------------------------------

/// Whether the channels of dy of every stage exist.
constexpr bool whole_stages = PHASES == 1 && pairs % KS == 0;

/// Copies the lines of dy of a stage, V elements at a time. Where threads share out what is copied of a channel evenly
/// (`regular`), or a thread's copies are few, it finds their places once a tile.
template <int V>
struct Copier {
  static constexpr int columns = SPAN_READ / V, spots = lines * columns, all = CC * spots;
  static constexpr int items = (all + warpgroup - 1) / warpgroup;
  static constexpr bool regular = (spots % warpgroup == 0 && spots / warpgroup <= 8) || warpgroup % spots == 0;
  static constexpr int spots_each = spots > warpgroup ? spots / warpgroup : 1;  ///< Of a channel, where regular.
  static constexpr int at_once = spots > warpgroup ? 1 : warpgroup / spots;     ///< Channels.
  static constexpr int count = regular ? spots_each : items;
  static constexpr bool held = count <= 8;

  const char* base;
  int d0, h0, w0, size_d;
  u32 from[held ? count : 1];  ///< 0 where that is outside of dy.
  u32 inside = 0;

  /// Elements from the tile's first channel to what item `e` copies; false where that is outside of dy.
  __device__ __forceinline__ bool find(const Arguments& p, int e, u32& offset) const {
    const int spot = e % spots, line = spot / columns;
    const int d = d0 + SD * (line / LH) + d_origin(line / LH), h = h0 + SH * (line % LH) + h_origin(line % LH);
    const int w = w0 + spot % columns * V;
    offset = static_cast<u32>(e / spots) * static_cast<u32>(p.ys.c) + static_cast<u32>(d) * static_cast<u32>(p.ys.d) +
             static_cast<u32>(h) * static_cast<u32>(p.ys.h) + static_cast<u32>(w);
    return static_cast<u32>(d) < static_cast<u32>(size_d) && static_cast<u32>(h) < static_cast<u32>(p.out_h) &&
           static_cast<u32>(w) < static_cast<u32>(p.out_w);
  }
  __device__ __forceinline__ void begin(const Arguments& p, const Place& at, int thread) {
    base = p.dy + (at.box.n * p.ys.n + static_cast<i64>(at.group) * CO * p.ys.c) * element_bytes;
    d0 = SD * at.box.d * BD - PD, h0 = SH * at.box.h * BH - PH, w0 = SW * at.box.w * BW - PW - LEAD, size_d = p.out_d;
    if (folded) {  // samples lie further apart than 32 bits count
      base += at.box.d * BD * p.ys.d * element_bytes;
      d0 = 0, size_d -= at.box.d * BD;
    }
    inside = 0;
    if constexpr (held)
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if (find(p, thread + i * warpgroup, from[i]))
          inside |= 1u << i;
        else
          from[i] = 0;
      }
  }
  /// From `source`, if `exists`, to `slot`.
  static __device__ __forceinline__ void copy(u32 slot, const char* source, bool exists) {
    if constexpr (V * element_bytes >= 4)
      copy_async<V * element_bytes>(slot, source, exists);
    else
      store_bits16(slot, exists ? load_bits16(source) : u16(0));
  }
  static __device__ __forceinline__ u32 slot_of(int thread, int item) {
    const u32 e = (thread & (warpgroup - 1)) + item * warpgroup;  // as the compiler should know
    return (e / spots * YC + e % spots / columns * SPAN + e % columns * V) * element_bytes;
  }
  /// Of the channels from `co0` on.
  __device__ __forceinline__ void bring(const Arguments& p, u32 to, int co0, int thread) const {
    const char* corner = base + co0 * p.ys.c * element_bytes;
    if constexpr (regular) {
      const i64 step = at_once * p.ys.c * element_bytes;
#pragma unroll
      for (int i = 0; i < spots_each; ++i) {
        const char* source = corner + static_cast<i64>(from[i]) * element_bytes;
        const u32 slot = to + slot_of(thread, i);
        const bool real = inside >> i & 1;
#pragma unroll(CC / at_once <= 64 ? CC : 8)
        for (int c = 0; c < CC; c += at_once) {
          const int channel = c + thread / spots;  // of which threads of one warpgroup have `at_once`
          if (CC % at_once != 0 && channel >= CC) continue;
          const bool exists = real && (whole_stages || co0 + (at_once > 1 ? channel : c) < CO);
          copy(slot + c * (YC * element_bytes), exists || whole_stages ? source : p.dy, exists);
          source += step;
        }
      }
      return;
    }
    const auto item = [&](int i) {
      const int e = thread + i * warpgroup;
      if (all % warpgroup != 0 && e >= all) return;
      u32 offset;
      bool ok;
      if constexpr (held)
        offset = from[i], ok = inside >> i & 1;
      else
        ok = find(p, e, offset);
      ok = ok && (whole_stages || co0 + e / spots < CO);
      const char* source = ok || (held && whole_stages) ? corner + static_cast<i64>(offset) * element_bytes : p.dy;
      copy(to + slot_of(thread, i), source, ok);
    };
    if constexpr (held) {
#pragma unroll
      for (int i = 0; i < items; ++i) item(i);
    } else {
#pragma unroll 2
      for (int i = 0; i < items; ++i) item(i);
    }
  }
};

/// Copies whole lines of dy, where they begin and end at multiples of 16 bytes: one bulk copy each, a thread's found
/// once a tile. What of them lies outside of dy is stored as zeros.
struct LineCopier {
  static constexpr int all = CC * lines, items = (all + warpgroup - 1) / warpgroup;
  static constexpr int units = SPAN_READ * element_bytes / 16;  ///< Of a line.

  const char* base;
  int d0, h0, first, size_d, size_h;
  int before, inside;  ///< Units of a line before dy begins, and of dy.
  bool edge;           ///< Some line is not of dy altogether.
  u32 from[items];     ///< Elements from the tile's first channel.

  /// Distance of the furthest line from the tile's corner. (Lines are grouped by residues of the stride: it need not be
  /// the last one.)
  __device__ static constexpr int furthest_d() {
    int most = 0;
    for (int i = 0; i < LD; ++i) most = SD * i + d_origin(i) > most ? SD * i + d_origin(i) : most;
    return most;
  }
  __device__ static constexpr int furthest_h() {
    int most = 0;
    for (int i = 0; i < LH; ++i) most = SH * i + h_origin(i) > most ? SH * i + h_origin(i) : most;
    return most;
  }
  /// Warps take lines by turns: each issues its copies one after the other.
  __device__ __forceinline__ static int line_of(int thread, int item) {
    return thread % 32 * 4 + thread / 32 + item * warpgroup;
  }
  __device__ __forceinline__ int d_of(int line) const { return d0 + SD * (line / LH) + d_origin(line / LH); }
  __device__ __forceinline__ int h_of(int line) const { return h0 + SH * (line % LH) + h_origin(line % LH); }
  /// Units of dy in a line of a channel.
  __device__ __forceinline__ int units_of_dy(int line) const {
    return static_cast<u32>(d_of(line)) < static_cast<u32>(size_d) &&
                   static_cast<u32>(h_of(line)) < static_cast<u32>(size_h)
               ? inside
               : 0;
  }
  __device__ __forceinline__ void begin(const Arguments& p, const Place& at, int thread) {
    base = p.dy + (at.box.n * p.ys.n + static_cast<i64>(at.group) * CO * p.ys.c) * element_bytes;
    d0 = SD * at.box.d * BD - PD, h0 = SH * at.box.h * BH - PH, size_d = p.out_d, size_h = p.out_h;
    if (folded) {
      base += at.box.d * BD * p.ys.d * element_bytes;
      d0 = 0, size_d -= at.box.d * BD;
    }
    const int w0 = SW * at.box.w * BW - PW - LEAD, end = min(w0 + SPAN_READ, p.out_w);
    first = max(w0, 0);
    before = (first - w0) * element_bytes / 16, inside = max(end - first, 0) * element_bytes / 16;
    constexpr int last_d = furthest_d(), last_h = furthest_h();
    edge = inside < units || d0 < 0 || d0 + last_d >= size_d || h0 < 0 || h0 + last_h >= size_h;
#pragma unroll
    for (int i = 0; i < items; ++i) {
      const int e = line_of(thread, i), line = e % lines;
      from[i] = static_cast<u32>(e / lines) * static_cast<u32>(p.ys.c) +
                static_cast<u32>(d_of(line)) * static_cast<u32>(p.ys.d) +
                static_cast<u32>(h_of(line)) * static_cast<u32>(p.ys.h) + static_cast<u32>(first);
    }
  }
  /// Of the channels from `co0` on; `landed` waits for them. `fresh`: the stage has held nothing of this tile.
  __device__ __forceinline__ void bring(const Arguments& p, u32 to, int co0, u32 landed, bool fresh, int thread) const {
    const char* corner = base + co0 * p.ys.c * element_bytes;
#pragma unroll
    for (int i = 0; i < items; ++i) {
      const int e = line_of(thread, i);
      if (all % warpgroup != 0 && e >= all) continue;
      const int bytes = co0 + e / lines < CO ? units_of_dy(e % lines) * 16 : 0;
      if (bytes == 0) continue;
      barrier_expect_only(landed, bytes);
      copy_bytes(to + (e / lines * YC + e % lines * SPAN) * element_bytes + before * 16,
                 corner + static_cast<i64>(from[i]) * element_bytes, bytes, landed);
    }
    // Zeros stay: copies write between them.
    if ((edge && fresh) || co0 + CC > CO) {
#pragma unroll 1
      for (int i = thread; i < all * units; i += warpgroup) {
        const int e = i / units, unit = i % units;
        const int count = co0 + e / lines < CO ? units_of_dy(e % lines) : 0;
        if (unit < before || unit >= before + count || count == 0)
          store_zero_quad(to + (e / lines * YC + e % lines * SPAN) * element_bytes + unit * 16);
      }
      fence_shared();  // before a later bulk copy to that place
    }
  }
};

/// Rows of w element by element: where they do not begin at multiples of 16 bytes.
__device__ __forceinline__ void bring_plain(const Arguments& p, const Place& at, u32 to, int first, int thread) {
#pragma unroll 1
  for (int i = thread; i < NB * KS; i += warpgroup) {
    const int channel = i / KS, k = i % KS;
    const bool ok = at.ci0 + channel < CI && first + k < pairs;
    const char* source =
        p.w + ((static_cast<i64>(at.group) * CI + at.ci0 + channel) * pairs + first + k) * element_bytes;
    const u32 slot = to + w_place(channel, k);
    if constexpr (tf32)
      store_word(slot, ok ? round_tf32(*reinterpret_cast<const float*>(source)) : 0u);
    else
      store_bits16(slot, ok ? load_bits16(source) : u16(0));
  }
}

template <int V>
struct CopierOf {
  typedef Copier<V> Type;
};
template <>
struct CopierOf<0> {
  typedef LineCopier Type;
};

/// Barriers of the stages: everything has landed, products have ended.
struct Barriers {
  u32 landed, empty;
};

/// V: elements of dy that a copy takes, 0 for whole lines.
template <int V>
__device__ __forceinline__ void bring_all(const Arguments& p, u32 stages, const Barriers& barriers,
                                          const Share& share) {
  int thread = static_cast<int>(threadIdx.x) - multiplying;
  asm volatile("" : "+r"(thread));  // else the places of all copies are worked out before the first tile
  int to = 0, parity = 1;
#pragma unroll 1
  for (int tile = blockIdx.x / SPLIT; tile < p.tiles; tile += gridDim.x / SPLIT) {
    const Place at(p, tile);
    typename CopierOf<V>::Type lines_of_dy;
    lines_of_dy.begin(p, at, thread);
#pragma unroll 1
    for (int first = share.first * KS; first < share.end * KS; first += KS) {
      const u32 stage = stages + to * stage_bytes, landed = barriers.landed + 8 * to;
      barrier_wait(barriers.empty + 8 * to, parity);
      if (!p.w_bulk) {
        bring_plain(p, at, stage, first, thread);
        fence_shared();
      } else if (thread == 0) {
        barrier_expect_only(landed, w_bytes);
#pragma unroll 1
        for (int k = 0; k < KS; k += row_elements)
          copy_box(stage + w_place(0, k), &p.w_map, landed, first + k, at.group * CI + at.ci0, 0, 0, 0);
      }
      if constexpr (V == 0) {
        lines_of_dy.bring(p, stage + w_bytes, first / taps, landed, first < (share.first + STAGES) * KS, thread);
      } else {
        lines_of_dy.bring(p, stage + w_bytes, first / taps, thread);
        barrier_arrive_after_copies(landed);
      }
      barrier_arrive(landed);  // what was stored, not copied
      if (++to == STAGES) to = 0, parity ^= 1;
    }
  }
}

// ---- multiplying ----------------------------------------------------------------------------------------------------

typedef float Sums[MT][NB / 2];
/// Of a step: loads of a fragment, and of which pairs (of `words`, the first of two).
constexpr int raw_words = tf32 || words ? 4 : 8, lane_pairs = tf32 || words ? 2 : 4;

/// Row `half` * 8 + lane / 4 of this warp's fragment `mt`, as a position of the box.
__device__ __forceinline__ int row_of(int mt, int half) {
  const int thread = threadIdx.x % warpgroup, group = threadIdx.x / warpgroup;
  return (group * MT + mt) * 64 + thread / 32 * 16 + half * 8 + thread % 32 / 4;
}
/// Bytes from the start of dy in a stage to what tap 0 of its first channel reads at a position of the box.
__device__ __forceinline__ int position_place(int at) {
  return ((at / (BW * BH) * LH + at / BW % BH) * SPAN + at % BW * SW + LEAD) * element_bytes;
}
/// Bytes further on for pair `k` of a stage of that phase.
__device__ __forceinline__ int reach_of(int phase, int k) {
  const int pair = phase * KS % taps + k, tap = pair % taps;
  return (pair / taps * YC + row_offset(tap / KW) + tap % KW * DW) * element_bytes;
}

/// The reaches of the pairs that this lane multiplies: of all steps where there is one phase, else of one step.
struct Reaches {
  static constexpr bool held = PHASES == 1;
  u32 of[held ? steps : 1][lane_pairs];
  u32 table;

  __device__ __forceinline__ static int pair(int k, int i) {
    const int c = threadIdx.x % 4;
    return k * step + (tf32 ? c + 4 * i : words ? 2 * c + 8 * i : 2 * c + i % 2 + 8 * (i / 2));
  }
  __device__ __forceinline__ explicit Reaches(u32 first) : table(first) {
    if constexpr (held)
#pragma unroll
      for (int k = 0; k < steps; ++k)
#pragma unroll
        for (int i = 0; i < lane_pairs; ++i) of[k][i] = load_word(table + pair(k, i) * 4);
  }
  __device__ __forceinline__ u32 at(int phase, int k, int i) const {
    if constexpr (held) return of[k][i];
    return load_word(table + (phase * KS + pair(k, i)) * 4);
  }
};

/// Starts loading a fragment: of both rows the pairs of one step that this lane multiplies.
__device__ __forceinline__ void load_fragment(u32 (&raw)[raw_words], const u32 (&row)[2], const Reaches& reaches,
                                              int phase, int k) {
#pragma unroll
  for (int i = 0; i < lane_pairs; ++i) {
    const u32 reach = reaches.at(phase, k, i);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (tf32 || words)
        raw[2 * i + half] = load_word(row[half] + reach);
      else
        raw[4 * (i / 2) + 2 * half + i % 2] = load_half(row[half] + reach);
    }
  }
}
__device__ __forceinline__ void convert(u32 (&f)[4], const u32 (&raw)[raw_words]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    f[i] = tf32    ? round_tf32(__uint_as_float(raw[i]))
           : words ? raw[i]
                   : raw[2 * i % raw_words] | raw[(2 * i + 1) % raw_words] << 16;
}

/// All products of one stage. `f`: fragments whose products may still run when this begins, and when it ends. `held`:
/// the stage of those products.
__device__ __forceinline__ void multiply(Sums& sums, u32 (&f)[turns][4], const u32 (&place)[MT][2],
                                         const Reaches& reaches, int phase, u32 stage, u32 empty, int& held, int now) {
  constexpr int fragments = steps * MT;
  const u64 b = u64(1) << 62 | descriptor(16, 8 * 128) | units_of(stage);
  u32 row[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) row[mt][half] = stage + w_bytes + place[mt][half];
  u32 raw[2][raw_words];
#pragma unroll
  for (int i = 0; i < 2; ++i) load_fragment(raw[i], row[i % MT], reaches, phase, i / MT);
#pragma unroll
  for (int i = 0; i < fragments; ++i) {
    // Registers are used by turns: the products before these may run on. No branch may lie between a fragment and its
    // product, else ptxas serialises them all (C7513).
    mma_wait<turns - 1>();
    if (i == turns - 1) {
      __syncwarp();
      barrier_arrive_if(held >= 0 && threadIdx.x % 32 < arriving, empty + 8 * (held < 0 ? 0 : held));
      held = -1;
    }
    convert(f[i % turns], raw[i % 2]);
    hold(f[i % turns]);
    if (i + 2 < fragments) load_fragment(raw[i % 2], row[(i + 2) % MT], reaches, phase, (i + 2) / MT);
    mma_fence();
    wgmma(sums[i % MT], f[i % turns], b + w_place(0, i / MT * step) / 16);
    mma_commit();
  }
  held = now;
}
static_assert(steps * MT % turns == 0, "a stage begins with the registers that the one before began with");

/// Writes the sums of `count` groups of 8 channels from group `from` of a tile on.
template <int count>
__device__ __forceinline__ void leave(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                      int from) {
  const int first = at.ci0 + 8 * from + threadIdx.x % 4 * 2;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = row_of(mt, half);
      const int d = at.box.d * BD + m / (BW * BH), h = at.box.h * BH + m / BW % BH, w = at.box.w * BW + m % BW;
      if (d >= p.in_d || h >= p.in_h || w >= p.in_w) continue;
      Element* to = static_cast<Element*>(p.dx) + at.box.n * p.xs.n + (at.group * CI + first) * p.xs.c + d * p.xs.d +
                    h * p.xs.h + w;
#pragma unroll
      for (int j = 0; j < count; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if ((CI % NB == 0 || first + 8 * j + i < CI) && (NB / 8 % count == 0 || from + j < NB / 8))
            to[(8 * j + i) * p.xs.c] = from_float<Element>(sums[mt][4 * j + 2 * half + i]);
    }
}

// Where rows of dx allow it, sums leave through shared memory, so that a lane writes neighbouring positions: by a
// warpgroup, 64 positions of some channels at a time.
constexpr int left_groups = 4 / element_bytes;            ///< Of 8 channels, at a time.
constexpr int left_pitch = element_bytes == 4 ? 68 : 72;  ///< Elements from channel to channel: few banks twice.
constexpr int left_bytes = left_groups * 8 * left_pitch * element_bytes;  ///< One of two buffers of a warpgroup.
static_assert(left_bytes % 16 == 0 && 4 * left_bytes <= LEFT_BYTES, "the host reserves what is used");

/// The same as leave(), `bytes` a lane at once; `buffers` are the warpgroup's.
template <int bytes, int count>
__device__ __forceinline__ void leave_words(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                            int from, char* buffers) {
  typedef typename WordsOf<bytes>::Type Words;
  constexpr int each = bytes / element_bytes, of_line = 64 / each, lines_at_once = warpgroup / of_line;
  const int thread = threadIdx.x % warpgroup, group = threadIdx.x / warpgroup, lane = thread % 32;
  const int line = thread / of_line, position = thread % of_line * each;
  int turn = 0;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
    const int m = (group * MT + mt) * 64 + position;
    const int d = at.box.d * BD + m / (BW * BH), h = at.box.h * BH + m / BW % BH, w = at.box.w * BW + m % BW;
    const bool inside = d < p.in_d && h < p.in_h && w < p.in_w;
    Element* corner = static_cast<Element*>(p.dx) + at.box.n * p.xs.n + (at.group * CI + at.ci0) * p.xs.c + d * p.xs.d +
                      h * p.xs.h + w;
#pragma unroll
    for (int first = 0; first < count; first += left_groups) {
      Element* buffer = reinterpret_cast<Element*>(buffers + turn * left_bytes);
      turn ^= 1;
#pragma unroll
      for (int j = 0; j < left_groups && first + j < count; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          buffer[(8 * j + lane % 4 * 2 + i % 2) * left_pitch + thread / 32 * 16 + i / 2 * 8 + lane / 4] =
              from_float<Element>(sums[mt][4 * (first + j) + i]);
      meet(2 + group, warpgroup);  // what was read from the other buffer is read, too
#pragma unroll
      for (int j = 0; j < left_groups * 8; j += lines_at_once) {
        const int channel = j + line, of_tile = 8 * (from + first) + channel;
        const bool exists = (count % left_groups == 0 || first + channel / 8 < count) &&
                            (CI % NB == 0 || at.ci0 + of_tile < CI) && (NB / 8 % count == 0 || of_tile < NB);
        if (inside && exists && channel < left_groups * 8)
          *reinterpret_cast<Words*>(corner + of_tile * p.xs.c) =
              *reinterpret_cast<const Words*>(buffer + channel * left_pitch + position);
      }
    }
  }
  meet(2 + group, warpgroup);  // the first buffer is read before it is written again
}

/// The sums of `count` groups of 8 channels from group `from` of a tile on, as wide as rows of dx allow.
template <int count>
__device__ __forceinline__ void leave_tile(const float (&sums)[MT][4 * count], const Arguments& p, const Place& at,
                                           int from, char* buffers) {
  if (p.store_bytes == 16)
    leave_words<16, count>(sums, p, at, from, buffers);
  else if (!tf32 && p.store_bytes == 8)
    leave_words<8, count>(sums, p, at, from, buffers);
  else if (!tf32 && p.store_bytes == 4)
    leave_words<4, count>(sums, p, at, from, buffers);
  else
    leave<count>(sums, p, at, from);
}

/// Adds up what the blocks of the cluster have of this block's share of the channels, and writes it.
__device__ __forceinline__ void leave_shared(const Sums& sums, const Arguments& p, const Place& at, u32 to, int rank,
                                             char* buffers) {
  constexpr int count = (NB / 8 + SPLIT - 1) / SPLIT;
  const auto place = [to](int mt, int j) { return to + ((mt * (NB / 8) + j) * multiplying + threadIdx.x) * 16; };
  meet(1, multiplying);  // nobody reads stages any more
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int j = 0; j < NB / 8; ++j)
      store_quad(place(mt, j), __float_as_uint(sums[mt][4 * j]), __float_as_uint(sums[mt][4 * j + 1]),
                 __float_as_uint(sums[mt][4 * j + 2]), __float_as_uint(sums[mt][4 * j + 3]));
  meet_cluster();
  const int from = rank * count;
  if (from < NB / 8) {
    float share[MT][4 * count];
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const u32 mine = place(mt, min(from + j, NB / 8 - 1));
        const float4 sum = add_quads_in_cluster<SPLIT>(mine);
        share[mt][4 * j] = sum.x, share[mt][4 * j + 1] = sum.y, share[mt][4 * j + 2] = sum.z;
        share[mt][4 * j + 3] = sum.w;
      }
    leave_tile<count>(share, p, at, from, buffers);
  }
  meet_cluster();  // other blocks read from this one
}

__device__ __forceinline__ void multiply_all(const Arguments& p, u32 stages, u32 table, const Barriers& barriers,
                                             int rank, char* buffers) {
  const Share share(rank);
  const Reaches reaches(table);
  u32 place[MT][2];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt)
#pragma unroll
    for (int half = 0; half < 2; ++half) place[mt][half] = position_place(row_of(mt, half));
  u32 f[turns][4];
  int now = 0, parity = 0, held = -1;
#pragma unroll 1
  for (int tile = blockIdx.x / SPLIT; tile < p.tiles; tile += gridDim.x / SPLIT) {
    Sums sums;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt)
#pragma unroll
      for (int i = 0; i < NB / 2; ++i) sums[mt][i] = 0.0f;
    int phase = SPLIT > 1 ? share.first % PHASES : 0;
#pragma unroll 1
    for (int chunk = share.first; chunk < share.end; ++chunk) {
      barrier_wait(barriers.landed + 8 * now, parity);
      multiply(sums, f, place, reaches, phase, stages + now * stage_bytes, barriers.empty, held, now);
      if (++now == STAGES) now = 0, parity ^= 1;
      if (PHASES > 1 && ++phase == PHASES) phase = 0;
    }
    mma_wait<0>();
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) hold(sums[mt]);
    __syncwarp();
    if (threadIdx.x % 32 < arriving) barrier_arrive(barriers.empty + 8 * held);
    held = -1;
    if constexpr (SPLIT > 1)
      leave_shared(sums, p, Place(p, tile), stages, rank, buffers);
    else
      leave_tile<NB / 8>(sums, p, Place(p, tile), 0, buffers);
  }
}

__device__ __forceinline__ void run(const Arguments& p) {
  extern __shared__ __align__(128) char shared[];
  __shared__ unsigned long long words[2 * STAGES];
  __shared__ int reaches[PHASES * KS];
  const u32 stages = (shared_address(shared) + 1023) & ~1023u;  // the swizzle counts from multiples of 1024
  const bool by_lines = LINE_COPIES && p.lines;
  const int rank = SPLIT > 1 ? rank_in_cluster() : 0;
  const Barriers barriers{shared_address(words), shared_address(words + STAGES)};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(barriers.landed + 8 * s, by_lines ? warpgroup : 2 * warpgroup);
      barrier_init(barriers.empty + 8 * s, multiplying / 32 * arriving);
    }
    barriers_ready();
  }
  for (int i = threadIdx.x; i < PHASES * KS; i += threads) reaches[i] = reach_of(i / KS, i % KS);
  __syncthreads();
  if (threadIdx.x / warpgroup == WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(BRING_REGISTERS));
    const Share share(rank);
    bool done = false;
    if constexpr (LINE_COPIES)
      if (by_lines) bring_all<0>(p, stages, barriers, share), done = true;
    if (done) {
    } else if (quad > 1 && VECTOR >= quad && p.vector >= quad) {
      bring_all<quad>(p, stages, barriers, share);
    } else if (quad > 4 && VECTOR >= 4 && p.vector >= 4) {
      bring_all<4>(p, stages, barriers, share);
    } else if (VECTOR >= 2 && p.vector >= 2) {
      bring_all<2>(p, stages, barriers, share);
    } else {
      bring_all<1>(p, stages, barriers, share);
    }
    if constexpr (SPLIT > 1) {
      __syncwarp();
      meet_cluster();
      meet_cluster();
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTE_REGISTERS));
    // Behind the stages, wherever they begin.
    char* buffers =
        shared + (stages - shared_address(shared)) + STAGES * stage_bytes + threadIdx.x / warpgroup * (2 * left_bytes);
    multiply_all(p, stages, shared_address(reaches), barriers, rank, buffers);
  }
}

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void input_wgmma(const Arguments) {}
#else
#if UPCONV_SPLIT > 1
extern "C" __global__ void __cluster_dims__(UPCONV_SPLIT, 1, 1) __launch_bounds__(threads, 1)
    input_wgmma(const __grid_constant__ Arguments p) {
  run(p);
}
#else
extern "C" __global__ void __launch_bounds__(threads, 1) input_wgmma(const __grid_constant__ Arguments p) { run(p); }
#endif
#endif

}  // namespace upconv
