// cpu_weight_rows: one task computes a box of positions of dx for a range of input channels. Compiled once per
// instruction set; weight_rows.cpp plans and drives it, weight_rows.hpp says which tensor is A, B and C.
//
// A piece of k at a time: the weights of some rows are copied, as they lie, into blocks that stay in the second-level
// cache; 16 positions of all k (32 with AVX-512) are gathered into the first-level cache and meet all these rows.
#include "cpu/channels_tile.hpp"
#include "cpu/simd.hpp"
#include "cpu/weight_rows.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using cpu::WeightRowsDim;
using cpu::WeightRowsJob;
using cpu::WeightRowsTap;

#if defined(__AVX512F__)
constexpr int tile_rows = 12;
#else
constexpr int tile_rows = 6;
#endif
constexpr int tile_vectors = 2;
template <class T>
constexpr std::int64_t tile_positions = tile_vectors* lanes<T>;
/// k of a piece, and elements between rows of a copied block: an odd number of cache lines.
template <class T>
constexpr std::int64_t most_k = 1024 / std::int64_t(sizeof(T));
template <class T>
constexpr std::int64_t row_pitch = 1088 / std::int64_t(sizeof(T));

std::int64_t minimum(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t maximum(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// ---- the product ---------------------------------------------------------------------------------------------

/// k between two prefetches: a cache line of the weights.
template <class T>
constexpr std::int64_t line_k = 64 / std::int64_t(sizeof(T));

/// C[m][n] (+)= sum over k of A[m][k] * B[k][n] for MR rows and NV vectors. `ahead` points to weights that come soon:
/// rows of w are short and far apart, so that no hardware prefetcher sees them coming.
template <class T, int MR, int NV>
void product(const T* a, const T* b, std::int64_t count, T* c, bool accumulate, const T* ahead) {
  constexpr int VL = lanes<T>;
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
    __builtin_prefetch(c + m * tile_positions<T>, 1);
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) acc[m][n] = Vec<T>{};
  }
  while (count > 0) {
    const std::int64_t n_here = count < line_k<T> ? count : line_k<T>;
    __builtin_prefetch(ahead, 0, 2);
    count -= n_here, ahead += n_here;
#pragma GCC unroll 4
    for (std::int64_t k = 0; k < n_here; ++k, ++a, b += tile_positions<T>) {
      Vec<T> bv[NV];
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) bv[n] = load(b + n * VL);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const Vec<T> av = broadcast(a[m * row_pitch<T>]);
#pragma GCC unroll 4
        for (int n = 0; n < NV; ++n) acc[m][n] += av * bv[n];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) {
      T* to = c + m * tile_positions<T> + n * VL;
      store(to, accumulate ? load(to) + acc[m][n] : acc[m][n]);
    }
}

template <class T>
using ProductFn = void (*)(const T*, const T*, std::int64_t, T*, bool, const T*);

/// product<T, rows, NV> for 1 <= rows <= MR.
template <class T, int MR, int NV>
ProductFn<T> product_rows(int rows) {
  if constexpr (MR == 1)
    return product<T, 1, NV>;
  else
    return rows == MR ? product<T, MR, NV> : product_rows<T, MR - 1, NV>(rows);
}

template <class T>
ProductFn<T> product_of(std::int64_t rows, std::int64_t positions) {
  return positions > lanes<T> ? product_rows<T, tile_rows, 2>(int(rows)) : product_rows<T, tile_rows, 1>(int(rows));
}

// ---- the box -------------------------------------------------------------------------------------------------

/// Where a task works.
struct Box {
  std::int64_t group, row0, row1;
  std::int64_t n0, n1;
  std::int64_t q0[3], q1[3];
  std::int64_t positions;
};

Box box_of(const WeightRowsJob& j, std::int64_t task) {
  Box box;
  box.row0 = task % j.row_tasks * j.rows;
  box.row1 = minimum(box.row0 + j.rows, j.ci);
  task /= j.row_tasks;
  box.positions = 1;
  for (int d = 2; d >= 0; --d) {
    box.q0[d] = task % j.dim[d].tiles * j.dim[d].tile;
    box.q1[d] = minimum(box.q0[d] + j.dim[d].tile, j.dim[d].in);
    box.positions *= box.q1[d] - box.q0[d];
    task /= j.dim[d].tiles;
  }
  box.n0 = task % j.batch_tiles * j.tile_batch;
  box.n1 = minimum(box.n0 + j.tile_batch, j.batch);
  box.positions *= box.n1 - box.n0;
  box.group = task / j.batch_tiles;
  return box;
}

/// Calls body(position, n, d, h, w) for all positions of the box, in order; coordinates are those of dx.
template <class F>
void for_positions(const Box& box, F&& body) {
  std::int64_t at = 0;
  for (std::int64_t n = box.n0; n < box.n1; ++n)
    for (std::int64_t d = box.q0[0]; d < box.q1[0]; ++d)
      for (std::int64_t h = box.q0[1]; h < box.q1[1]; ++h)
        for (std::int64_t w = box.q0[2]; w < box.q1[2]; ++w) body(at++, n, d, h, w);
}

/// The place of each position in a channel's panel.
void list_offsets(const WeightRowsJob& j, const Box& box, std::int32_t* offset) {
  for_positions(box, [&](std::int64_t at, std::int64_t n, std::int64_t d, std::int64_t h, std::int64_t w) {
    offset[at] = std::int32_t((n - box.n0) * j.sample_pitch +
                              ((d - box.q0[0]) * j.dim[1].extent + h - box.q0[1]) * j.dim[2].extent + w - box.q0[2]);
  });
}

// ---- the panel: dy by residues ---------------------------------------------------------------------------------

/// even[i] = from[2 * i], odd[i] = from[2 * i + 1].
template <class T>
void split_pairs(const T* from, std::int64_t count, T* even, T* odd) {
  std::int64_t i = 0;
#if UPCONV_VECTOR_BYTES >= 32
  if constexpr (sizeof(T) == 4)
    for (; i + 8 <= count; i += 8) {
      const Oct a = *(const OctU*)(from + 2 * i), b = *(const OctU*)(from + 2 * i + 8);
      const Oct low = UPCONV_SHUFFLE8(a, b, 0, 1, 2, 3, 8, 9, 10, 11),
                high = UPCONV_SHUFFLE8(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
      *(OctU*)(even + i) = UPCONV_SHUFFLE8(low, high, 0, 2, 8, 10, 4, 6, 12, 14);
      *(OctU*)(odd + i) = UPCONV_SHUFFLE8(low, high, 1, 3, 9, 11, 5, 7, 13, 15);
    }
#endif
  for (; i < count; ++i) even[i] = from[2 * i], odd[i] = from[2 * i + 1];
}

/// to[r * pitch + i] = from[stride * i + r] for r < stride, i < count.
template <class T>
void split_residues_of(const T* from, std::int64_t stride, std::int64_t count, T* to, std::int64_t pitch) {
  if (stride == 2) return split_pairs(from, count, to, to + pitch);
  if (stride >= 8) return transpose_at(from, stride, to, Even{pitch}, count, stride);
  if constexpr (sizeof(T) == 4)
    if (stride == 4) {
      std::int64_t i = 0;
      for (; i + 4 <= count; i += 4) transpose4(from + 4 * i, 4, to + i, Even{pitch}, 0);
      from += 4 * i, to += i, count -= i;
    }
  for (std::int64_t r = 0; r < stride; ++r)
    for (std::int64_t i = 0; i < count; ++i) to[r * pitch + i] = from[stride * i + r];
}
template <class S, class T>
void split_residues(const S* from, std::int64_t stride, std::int64_t count, T* to, std::int64_t pitch) {
  if constexpr (sizeof(S) == sizeof(T)) {
    split_residues_of(reinterpret_cast<const T*>(from), stride, count, to, pitch);
  } else {
    T row[512];
    const std::int64_t most = maximum(1, 512 / stride);
    for (std::int64_t i = 0; i < count; i += most) {
      const std::int64_t n = minimum(most, count - i);
      if (stride > 512) {
        for (std::int64_t r = 0; r < stride; ++r) to[r * pitch + i] = widen(from[i * stride + r]);
        continue;
      }
      widen_row(from + i * stride, row, n * stride);
      split_residues_of(row, stride, n, to + i, pitch);
    }
  }
}

/// The line `from` of dy, for the box's positions along w: each residue at its pitch, zeros outside.
template <class S, class T>
void read_residues(const WeightRowsDim& w, const S* from, std::int64_t q0, T* to, std::int64_t pitch) {
  const std::int64_t first = q0 + w.shift_min;  // element i of residue r is from[stride * (first + i) + r]
  const auto inside = [&](std::int64_t r, std::int64_t& lo, std::int64_t& hi) {  // lo <= i < hi
    lo = minimum(maximum(0, -first), w.extent);
    hi = maximum(lo, minimum(w.extent, (w.out - r + w.stride - 1) / w.stride - first));
  };
  if (w.stride == 1 || w.residues < w.stride) {
    for (std::int64_t i = 0; i < w.residues; ++i, to += pitch) {
      const std::int64_t r = w.residue[i];
      std::int64_t lo, hi;
      inside(r, lo, hi);
      for (std::int64_t e = 0; e < lo; ++e) to[e] = T(0);
      for (std::int64_t e = hi; e < w.extent; ++e) to[e] = T(0);
      const S* at = from + w.stride * first + r;
      if (w.stride == 1)
        widen_row(at + lo, to + lo, hi - lo);
      else
        for (std::int64_t e = lo; e < hi; ++e) to[e] = widen(at[w.stride * e]);
    }
    return;
  }
  std::int64_t lo, all;  // elements lo <= i < all lie inside for every residue
  inside(w.stride - 1, lo, all);
  for (std::int64_t r = 0; r < w.stride; ++r) {
    std::int64_t begin, end;
    inside(r, begin, end);
    T* row = to + r * pitch;
    for (std::int64_t e = 0; e < begin; ++e) row[e] = T(0);
    for (std::int64_t e = all; e < end; ++e) row[e] = widen(from[w.stride * (first + e) + r]);
    for (std::int64_t e = end; e < w.extent; ++e) row[e] = T(0);
  }
  if (all > lo) split_residues(from + w.stride * (first + lo), w.stride, all - lo, to + lo, pitch);
}

/// Channels [c0, c1) of the group.
template <class S, class T>
void make_panel(const WeightRowsJob& j, const Box& box, const S* dy, std::int64_t c0, std::int64_t c1, T* panel) {
  const WeightRowsDim &dd = j.dim[0], &dh = j.dim[1], &dw = j.dim[2];
  const std::int64_t part = dd.extent * dh.extent * dw.extent, plane = dh.out * dw.out, volume = dd.out * plane;
  for (std::int64_t c = c0; c < c1; ++c)
    for (std::int64_t n = box.n0; n < box.n1; ++n) {
      const S* from = dy + ((n * j.groups + box.group) * j.co + c) * volume;
      T* sample = panel + (c - c0) * j.channel_pitch + (n - box.n0) * j.sample_pitch;
      for (std::int64_t rd = 0; rd < dd.residues; ++rd)
        for (std::int64_t rh = 0; rh < dh.residues; ++rh)
          for (std::int64_t ud = 0; ud < dd.extent; ++ud)
            for (std::int64_t uh = 0; uh < dh.extent; ++uh) {
              const std::int64_t d = dd.stride * (box.q0[0] + dd.shift_min + ud) + dd.residue[rd];
              const std::int64_t h = dh.stride * (box.q0[1] + dh.shift_min + uh) + dh.residue[rh];
              T* to = sample + (rd * dh.residues + rh) * dw.residues * part + (ud * dh.extent + uh) * dw.extent;
              if (d < 0 || d >= dd.out || h < 0 || h >= dh.out)
                for (std::int64_t r = 0; r < dw.residues; ++r)
                  std::memset(to + r * part, 0, std::size_t(dw.extent) * sizeof(T));
              else
                read_residues(dw, from + d * plane + h * dw.out, box.q0[2], to, part);
            }
    }
}

/// B: `count` positions (at most a register tile) of k [k0, k1), which count from the panel's first channel on.
template <class T>
void gather_positions(const WeightRowsJob& j, const T* panel, const std::int32_t* offset, std::int64_t count,
                      std::int64_t k0, std::int64_t k1, T* b) {
  constexpr std::int64_t VL = lanes<T>;
  std::int64_t channel = k0 / j.taps, tap = k0 % j.taps;
  const std::int64_t vectors = (count + VL - 1) / VL;
  bool whole[tile_vectors];
  for (std::int64_t v = 0; v < vectors; ++v)
    whole[v] = (v + 1) * VL <= count && offset[(v + 1) * VL - 1] - offset[v * VL] == VL - 1;
  const bool all = vectors == tile_vectors && whole[0] && whole[tile_vectors - 1];
  for (std::int64_t k = k0; k < k1; ++k, b += tile_positions<T>) {
    const T* from = panel + channel * j.channel_pitch + j.tap[tap].offset;
    if (++tap == j.taps) tap = 0, ++channel;
    if (all) {
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) store(b + v * VL, load(from + offset[v * VL]));
      continue;
    }
    for (std::int64_t v = 0; v < vectors; ++v) {
      if (whole[v]) {
        store(b + v * VL, load(from + offset[v * VL]));
      } else {
        for (std::int64_t i = v * VL; i < (v + 1) * VL; ++i) b[i] = i < count ? from[offset[i]] : T(0);
      }
    }
  }
}

// ---- the weights -----------------------------------------------------------------------------------------------

/// What stands for a weight that is not finite where a position at the border multiplies it with a zero from outside:
/// products inside stay inf or NaN once add_special() has been there, and get no sign of their own from this.
template <class T>
T ordinary(T w) {
  return w - w == T(0) ? w : w < T(0) ? T(-1) : T(1);
}

/// A vector of T from storage elements.
template <class T, class S>
Vec<T> load_widened(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load(reinterpret_cast<const T*>(from));
  } else {
    T values[lanes<T>];
    widen_row(from, values, lanes<T>);
    return load(values);
  }
}

/// A: rows [r0, r1) of w, `count` of k each. Returns whether all were finite; then they are as they were.
template <class S, class T>
bool copy_weights(const S* w, std::int64_t w_row, std::int64_t rows, std::int64_t count, T* a) {
  bool finite = true;
  for (std::int64_t r = 0; r < rows; ++r, w += w_row, a += row_pitch<T>) {
    Vec<T> probe{};  // 0 * value summed: NaN as soon as one value is not finite
    std::int64_t k = 0;
    for (; k + lanes<T> <= count; k += lanes<T>) {
      const Vec<T> values = load_widened<T>(w + k);
      store(a + k, values);
      probe += values * T(0);
    }
    widen_row(w + k, a + k, count - k);
    T sum = T(0);
    for (int i = 0; i < lanes<T>; ++i) sum += probe[i];
    for (; k < count; ++k) sum += a[k] * T(0);
    if (sum == T(0)) continue;
    finite = false;
    for (k = 0; k < count; ++k) a[k] = ordinary(a[k]);
  }
  return finite;
}

/// Adds the products of the weights in rows [r0, r1) and k [k0, k1) of the group that are not finite, at the positions
/// inside dy alone. `result` holds the box for all rows of the task, r0 counts from the task's first.
template <class S, class T>
void add_special(const WeightRowsJob& j, const Box& box, const S* w, const T* panel, const std::int32_t* offset,
                 std::int64_t r0, std::int64_t r1, std::int64_t channel0, std::int64_t k0, std::int64_t k1, T* result) {
  const std::int64_t rows = box.row1 - box.row0;
  for (std::int64_t r = r0; r < r1; ++r)
    for (std::int64_t t = 0; t < j.taps; ++t) {
      const WeightRowsTap& tap = j.tap[t];
      bool nan = false;  // a position that has met a NaN needs no second one
      for (std::int64_t k = (k0 + j.taps - 1 - t) / j.taps * j.taps + t; k < k1; k += j.taps) {
        const T value = widen(w[(box.group * j.ci + box.row0 + r) * j.co * j.taps + k]);
        if (value - value == T(0) || (value != value && nan)) continue;
        nan |= value != value;
        const T* from = panel + (k / j.taps - channel0) * j.channel_pitch + tap.offset;
        for_positions(box, [&](std::int64_t at, std::int64_t, std::int64_t d, std::int64_t h, std::int64_t q) {
          const std::int64_t position[3] = {d, h, q};
          for (int i = 0; i < 3; ++i) {
            const std::int64_t o = j.dim[i].stride * position[i] + tap.coordinate[i];
            if (o < 0 || o >= j.dim[i].out) return;
          }
          const std::int64_t block = at / tile_positions<T>, lane = at % tile_positions<T>;
          result[(block * rows + r) * tile_positions<T> + lane] += value * from[offset[at]];
        });
      }
    }
}

// ---- one task --------------------------------------------------------------------------------------------------

/// A worker's memory.
template <class T>
struct Scratch {
  T *panel, *result, *a, *b;
  std::int32_t* offset;
};

template <class T>
std::int64_t weights_elements(const WeightRowsJob& j) {
  return j.rows_at_once * row_pitch<T>;
}

/// Multiplies k [k0, k1) of the group with all rows of the task; the panel begins with channel0.
template <class S, class T>
void multiply_piece(const WeightRowsJob& j, const Box& box, const S* w, std::int64_t channel0, std::int64_t k0,
                    std::int64_t k1, const Scratch<T>& s) {
  constexpr std::int64_t width = tile_positions<T>;
  const std::int64_t w_row = j.co * j.taps, rows = box.row1 - box.row0, first_k = channel0 * j.taps;
  for (std::int64_t r0 = 0; r0 < rows; r0 += j.rows_at_once) {
    const std::int64_t r1 = minimum(r0 + j.rows_at_once, rows), blocks = (r1 - r0 + tile_rows - 1) / tile_rows;
    const S* from = w + (box.group * j.ci + box.row0 + r0) * w_row + k0;
    const bool finite = copy_weights(from, w_row, r1 - r0, k1 - k0, s.a);
    // Each product asks for one row of the next piece.
    const S* next = r1 < rows ? from + (r1 - r0) * w_row : from - r0 * w_row + (k1 - k0);
    std::int64_t left = r1 < rows ? minimum(rows - r1, j.rows_at_once) : k1 < w_row ? minimum(rows, j.rows_at_once) : 0;
    for (std::int64_t p = 0; p < box.positions; p += width) {
      const std::int64_t count = minimum(width, box.positions - p);
      gather_positions(j, s.panel, s.offset + p, count, k0 - first_k, k1 - first_k, s.b);
      T* result = s.result + p * rows;
      for (std::int64_t i = 0; i < blocks; ++i) {
        const std::int64_t begin = (r1 - r0) * i / blocks, end = (r1 - r0) * (i + 1) / blocks;
        product_of<T>(end - begin, count)(s.a + begin * row_pitch<T>, s.b, k1 - k0, result + (r0 + begin) * width,
                                          k0 > 0, left > 0 ? reinterpret_cast<const T*>(next) : s.a);
        next += w_row, --left;
      }
    }
    if (!finite) add_special<S>(j, box, w, s.panel, s.offset, r0, r1, channel0, k0, k1, s.result);
  }
}

/// Stores the box: runs of positions that are contiguous in dx.
template <class S, class T>
void write_box(const WeightRowsJob& j, const Box& box, const T* result, S* dx) {
  constexpr std::int64_t width = tile_positions<T>;
  std::int64_t size[3], runs[3], run = 1;
  for (int d = 0; d < 3; ++d) size[d] = box.q1[d] - box.q0[d];
  bool dense = true;
  for (int d = 2; d >= 0; --d) {
    runs[d] = dense ? 1 : size[d];
    if (dense) run *= size[d];
    dense = dense && size[d] == j.dim[d].in;
  }
  const std::int64_t rows = box.row1 - box.row0;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t at = 0;
    for (std::int64_t n = box.n0; n < box.n1; ++n)
      for (std::int64_t d = 0; d < runs[0]; ++d)
        for (std::int64_t h = 0; h < runs[1]; ++h) {
          const std::int64_t channel = (n * j.groups + box.group) * j.ci + box.row0 + r;
          S* to =
              dx + ((channel * j.dim[0].in + box.q0[0] + d) * j.dim[1].in + box.q0[1] + h) * j.dim[2].in + box.q0[2];
          for (const std::int64_t end = at + run; at < end;) {
            const std::int64_t lane = at % width, n_here = minimum(width - lane, end - at);
            const T* from = result + (at / width * rows + r) * width + lane;
            if (n_here == width)
              narrow_row(from, to, width);
            else
              narrow_row(from, to, n_here);
            to += n_here, at += n_here;
          }
        }
  }
}

template <class S>
void run_task(const WeightRowsJob& j, const void* dy, const void* w, void* dx, void* scratch, std::int64_t task) {
  typedef typename Compute<S>::type T;
  const Box box = box_of(j, task);
  Scratch<T> s;
  s.b = static_cast<T*>(scratch);
  s.a = s.b + most_k<T> * tile_positions<T>;
  s.result = s.a + weights_elements<T>(j);
  s.panel = s.result + j.result;
  s.offset = reinterpret_cast<std::int32_t*>(s.panel + j.panel);
  list_offsets(j, box, s.offset);
  for (std::int64_t c0 = 0; c0 < j.co; c0 += j.channels_at_once) {
    const std::int64_t c1 = minimum(c0 + j.channels_at_once, j.co), k_end = c1 * j.taps;
    make_panel(j, box, static_cast<const S*>(dy), c0, c1, s.panel);
    const std::int64_t pieces = ((c1 - c0) * j.taps + most_k<T> - 1) / most_k<T>;
    const std::int64_t length = ((c1 - c0) * j.taps + pieces - 1) / pieces;
    for (std::int64_t k = c0 * j.taps; k < k_end; k += length)
      multiply_piece(j, box, static_cast<const S*>(w), c0, k, minimum(k + length, k_end), s);
  }
  write_box(j, box, s.result, static_cast<S*>(dx));
}

template <class T>
std::int64_t scratch_bytes(const WeightRowsJob& j) {
  return (most_k<T> * tile_positions<T> + weights_elements<T>(j) + j.result + j.panel) * std::int64_t(sizeof(T)) +
         j.offsets * 4;
}

template <class S>
constexpr cpu::WeightRowsKernels kernels() {
  typedef typename Compute<S>::type T;
  return {tile_rows, int(tile_positions<T>), most_k<T>, scratch_bytes<T>, run_task<S>};
}

}  // namespace

extern const cpu::WeightRowsKernels weight_rows_kernels[4];
const cpu::WeightRowsKernels weight_rows_kernels[4] = {kernels<float>(), kernels<double>(), kernels<Half>(),
                                                       kernels<BFloat>()};

}  // namespace upconv::UPCONV_ISA
