// Brings the lines of dy of a stage of input_wgmma.cuh, in the background: some
// elements a copy, or whole lines by bulk copies.
#pragma once

#include "input_wgmma/shape.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/weight_words.cuh"

namespace upconv {

/// Whether the channels of dy of every stage exist.
constexpr bool whole_stages = PHASES == 1 && pairs % KS == 0;

/// Copies the lines of dy of a stage, V elements at a time. Where threads share
/// out what is copied of a channel evenly
/// (`regular`), or a thread's copies are few, it finds their places once a
/// tile.
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

  /// Elements from the tile's first channel to what item `e` copies; false
  /// where that is outside of dy.
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

/// Copies whole lines of dy, where they begin and end at multiples of 16 bytes:
/// one bulk copy each, a thread's found once a tile. What of them lies outside
/// of dy is stored as zeros.
struct LineCopier {
  static constexpr int all = CC * lines, items = (all + warpgroup - 1) / warpgroup;
  static constexpr int units = SPAN_READ * element_bytes / 16;  ///< Of a line.

  const char* base;
  int d0, h0, first, size_d, size_h;
  int before, inside;  ///< Units of a line before dy begins, and of dy.
  bool edge;           ///< Some line is not of dy altogether.
  u32 from[items];     ///< Elements from the tile's first channel.

  /// Distance of the furthest line from the tile's corner. (Lines are grouped
  /// by residues of the stride: it need not be the last one.)
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
  /// Of the channels from `co0` on; `landed` waits for them. `fresh`: the stage
  /// has held nothing of this tile.
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

template <int V>
struct CopierOf {
  typedef Copier<V> Type;
};
template <>
struct CopierOf<0> {
  typedef LineCopier Type;
};

}  // namespace upconv
