// cpu_channels, backward_weight: one task sums, over a slot of tiles, the products of two local channels-last
// tiles for a range of channels and taps; the slots are then added up in order. Compiled once per instruction
// set; channels_weight.cpp plans and drives it. The pass mapping is in channels.hpp.
#include "cpu/channels_tile.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using cpu::WeightConfig;
using cpu::WeightDim;

constexpr int weight_block_n = 2;
#if defined(__AVX512F__)
constexpr int weight_block_m = 12;
#else
constexpr int weight_block_m = 6;
#endif

/// Taps of a share at most: choose_ranges() sees to it.
constexpr std::int64_t most_taps = 128;

std::int64_t minimum(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t maximum(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Lines of positions that a product runs over: line i reads A from a[i] on and B from b[i] on.
struct Lines {
  const std::int32_t* a;
  const std::int32_t* b;
  std::int64_t count, length;
  std::int64_t a_step, b_step;  ///< elements from one position to the next
};

/// sum[m][n] += sum over positions of A[pos][m] * B[pos][n].
template <class T, int MR, int NV>
void accumulate(const T* a, const T* b, const Lines& lines, T* sum) {
  constexpr int VL = lanes<T>;
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) acc[m][n] = Vec<T>{};
  for (std::int64_t i = 0; i < lines.count; ++i) {
    const T* pa = a + lines.a[i];
    const T* pb = b + lines.b[i];
    for (std::int64_t k = 0; k < lines.length; ++k, pa += lines.a_step, pb += lines.b_step) {
      Vec<T> bv[NV];
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) bv[n] = load(pb + n * VL);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const Vec<T> av = broadcast(pa[m]);
#pragma GCC unroll 4
        for (int n = 0; n < NV; ++n) acc[m][n] += av * bv[n];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < NV; ++n) store(sum + (m * NV + n) * VL, load(sum + (m * NV + n) * VL) + acc[m][n]);
}

template <class T>
using AccumulateFn = void (*)(const T*, const T*, const Lines&, T*);

/// accumulate<T, rows, NV> for 1 <= rows <= MR.
template <class T, int MR, int NV>
AccumulateFn<T> accumulate_rows(int rows) {
  if constexpr (MR == 1)
    return accumulate<T, 1, NV>;
  else
    return rows == MR ? accumulate<T, MR, NV> : accumulate_rows<T, MR - 1, NV>(rows);
}

template <class T>
AccumulateFn<T> accumulate_of(int rows, int vectors) {
  return vectors == 1 ? accumulate_rows<T, weight_block_m, 1>(rows) : accumulate_rows<T, weight_block_m, 2>(rows);
}

/// Rows of block i when `channels` are shared evenly between blocks of at most weight_block_m.
struct Rows {
  std::int64_t begin, end;
};
std::int64_t row_blocks(std::int64_t channels) { return (channels + weight_block_m - 1) / weight_block_m; }
Rows row_block(std::int64_t channels, std::int64_t i) {
  const std::int64_t n = row_blocks(channels);
  return {channels * i / n, channels * (i + 1) / n};
}

/// The share of a task: channels of A and B, taps, a group and a slot of tiles.
struct Share {
  std::int64_t group, slot, a0, a1, b0, b1, t0, t1;
};

Share share_of(const WeightConfig& c, std::int64_t task) {
  Share s;
  const std::int64_t taps = c.dim[0].kernel * c.dim[1].kernel * c.dim[2].kernel;
  s.slot = task % c.slots;
  task /= c.slots;
  s.t0 = task % c.tap_ranges * c.tap_range;
  s.t1 = minimum(s.t0 + c.tap_range, taps);
  task /= c.tap_ranges;
  s.b0 = task % c.b_ranges * c.b_range;
  s.b1 = minimum(s.b0 + c.b_range, c.b);
  task /= c.b_ranges;
  s.a0 = task % c.a_ranges * c.a_range;
  s.a1 = minimum(s.a0 + c.a_range, c.a);
  s.group = task / c.a_ranges;
  return s;
}

/// A tile: first sample and input position, and how many.
struct Tile {
  std::int64_t n0, n1;
  std::int64_t i0[3], i1[3];
};

Tile tile_of(const WeightConfig& c, std::int64_t index) {
  Tile t;
  for (int d = 2; d >= 0; --d) {
    t.i0[d] = index % c.dim[d].tiles * c.dim[d].tile;
    t.i1[d] = minimum(t.i0[d] + c.dim[d].tile, c.dim[d].in_size);
    index /= c.dim[d].tiles;
  }
  t.n0 = index * c.tile_batch;
  t.n1 = minimum(t.n0 + c.tile_batch, c.batch);
  return t;
}

template <class S, class T>
void read_x(const WeightConfig& c, const Tile& t, const S* x, std::int64_t channels, T* to) {
  LineReader<S, T, Even> reader(c.x, channels, t.i1[2] - t.i0[2], Even{c.x_pitch});
  for (std::int64_t n = t.n0; n < t.n1; ++n)
    for (std::int64_t d = t.i0[0]; d < t.i1[0]; ++d)
      for (std::int64_t h = t.i0[1]; h < t.i1[1]; ++h) {
        const std::int64_t line = ((n - t.n0) * c.dim[0].tile + d - t.i0[0]) * c.dim[1].tile + h - t.i0[1];
        reader.add(x + n * c.x.n + d * c.x.d + h * c.x.h + t.i0[2] * c.x.w, to + line * c.dim[2].tile * c.x_pitch);
      }
  reader.flush();
}

/// First output position of the tile in dimension d, if there were no edges.
std::int64_t out_origin(const WeightDim& d, std::int64_t i0) { return d.stride * i0 - d.padding; }

/// Whether output line o of dimension d meets an input position through one of the share's taps.
bool line_used(const WeightConfig& c, const Share& s, int d, std::int64_t o) {
  const WeightDim& dim = c.dim[d];
  if (dim.stride == 1) return true;
  const std::int64_t inner = d == 0 ? c.dim[1].kernel * c.dim[2].kernel : c.dim[2].kernel;
  for (std::int64_t i = s.t0 / inner; i <= (s.t1 - 1) / inner; ++i)
    if ((o + dim.padding - dim.dilation * (i % dim.kernel)) % dim.stride == 0) return true;
  return false;
}

/// Only what lies inside the tensor is read; the products never touch the rest.
template <class S, class T>
void read_dy(const WeightConfig& c, const Share& s, const Tile& t, const S* dy, std::int64_t channels, T* to) {
  std::int64_t o0[3], lo[3], hi[3];
  for (int d = 0; d < 3; ++d) {
    o0[d] = out_origin(c.dim[d], t.i0[d]);
    lo[d] = maximum(o0[d], 0);
    hi[d] = minimum(o0[d] + c.dim[d].tile_out, c.dim[d].out_size);
  }
  if (lo[2] >= hi[2]) return;
  LineReader<S, T, Table> reader(c.dy, channels, hi[2] - lo[2], Table{c.dy_offset + lo[2] - o0[2]});
  for (std::int64_t n = t.n0; n < t.n1; ++n)
    for (std::int64_t d = lo[0]; d < hi[0]; ++d) {
      if (!line_used(c, s, 0, d)) continue;
      for (std::int64_t h = lo[1]; h < hi[1]; ++h) {
        if (!line_used(c, s, 1, h)) continue;
        const std::int64_t line = ((n - t.n0) * c.dim[0].tile_out + d - o0[0]) * c.dim[1].tile_out + h - o0[1];
        reader.add(dy + n * c.dy.n + d * c.dy.d + h * c.dy.h + lo[2] * c.dy.w, to + line * c.dy_line);
      }
    }
  reader.flush();
}

/// The lines of a tile whose positions meet the output through tap (kd, kh, kw).
Lines lines_of(const WeightConfig& c, const Tile& t, const std::int64_t* tap, std::int32_t* xs, std::int32_t* ys) {
  std::int64_t lo[3], hi[3], shift[3];
  for (int d = 0; d < 3; ++d) {
    const WeightDim& dim = c.dim[d];
    shift[d] = dim.dilation * tap[d];  // from the tile's first output position
    lo[d] = t.i0[d];
    hi[d] = t.i1[d];
    while (lo[d] < hi[d] && dim.stride * lo[d] + shift[d] - dim.padding < 0) ++lo[d];
    while (lo[d] < hi[d] && dim.stride * (hi[d] - 1) + shift[d] - dim.padding >= dim.out_size) --hi[d];
  }
  Lines lines{nullptr, nullptr, 0, hi[2] - lo[2], c.x_pitch, c.dy_step};
  if (lines.length > 0)
    for (std::int64_t n = t.n0; n < t.n1; ++n)
      for (std::int64_t d = lo[0]; d < hi[0]; ++d)
        for (std::int64_t h = lo[1]; h < hi[1]; ++h) {
          const std::int64_t id = d - t.i0[0], ih = h - t.i0[1], iw = lo[2] - t.i0[2];
          const std::int64_t od = c.dim[0].stride * id + shift[0], oh = c.dim[1].stride * ih + shift[1],
                             ow = c.dim[2].stride * iw + shift[2];
          xs[lines.count] =
              std::int32_t(((((n - t.n0) * c.dim[0].tile + id) * c.dim[1].tile + ih) * c.dim[2].tile + iw) * c.x_pitch);
          ys[lines.count] = std::int32_t((((n - t.n0) * c.dim[0].tile_out + od) * c.dim[1].tile_out + oh) * c.dy_line +
                                         c.dy_offset[ow]);
          ++lines.count;
        }
  lines.a = c.x_is_a ? xs : ys;
  lines.b = c.x_is_a ? ys : xs;
  if (!c.x_is_a) {
    const std::int64_t step = lines.a_step;
    lines.a_step = lines.b_step;
    lines.b_step = step;
  }
  return lines;
}

/// Elements of the sums of one tap over a share: every register tile padded to whole vectors.
template <class T>
std::int64_t padded_b(std::int64_t b) {
  return (b + lanes<T> - 1) / lanes<T> * lanes<T>;
}

template <class T>
void multiply_tile(const WeightConfig& c, const Share& s, const Tile& t, const T* a, const T* b, std::int32_t* xs,
                   std::int32_t* ys, T* sums) {
  const std::int64_t na = s.a1 - s.a0, nb = s.b1 - s.b0, width = padded_b<T>(nb);
  for (std::int64_t tap = s.t0; tap < s.t1; ++tap, sums += na * width) {
    const std::int64_t at[3] = {tap / (c.dim[1].kernel * c.dim[2].kernel), tap / c.dim[2].kernel % c.dim[1].kernel,
                                tap % c.dim[2].kernel};
    const Lines lines = lines_of(c, t, at, xs, ys);
    if (lines.count == 0 || lines.length <= 0) continue;
    for (std::int64_t i = 0; i < row_blocks(na); ++i) {
      const Rows rows = row_block(na, i);
      for (std::int64_t j = 0; j < width; j += weight_block_n * lanes<T>) {
        const int vectors = width - j > lanes<T> ? 2 : 1;
        accumulate_of<T>(int(rows.end - rows.begin), vectors)(a + rows.begin, b + j, lines,
                                                              sums + rows.begin * width + j * (rows.end - rows.begin));
      }
    }
  }
}

template <class S, class T>
void weight_task(const WeightConfig& c, const S* x, const S* dy, T* partials, void* scratch, std::int64_t task) {
  const Share s = share_of(c, task);
  T* xt = static_cast<T*>(scratch);
  T* yt = xt + c.x_elements;
  std::int32_t* xs = reinterpret_cast<std::int32_t*>(yt + c.dy_elements);
  std::int32_t* ys = xs + c.rows;
  T* sums = partials + task * c.sum_elements;
  std::memset(sums, 0, std::size_t(c.sum_elements) * sizeof(T));
  const std::int64_t x0 = c.x_is_a ? s.a0 : s.b0, x1 = c.x_is_a ? s.a1 : s.b1;
  const std::int64_t y0 = c.x_is_a ? s.b0 : s.a0, y1 = c.x_is_a ? s.b1 : s.a1;
  const std::int64_t tiles = c.batch_tiles * c.dim[0].tiles * c.dim[1].tiles * c.dim[2].tiles;
  for (std::int64_t i = tiles * s.slot / c.slots; i < tiles * (s.slot + 1) / c.slots; ++i) {
    const Tile t = tile_of(c, i);
    read_x(c, t, x + (s.group * c.ci + x0) * c.x.c, x1 - x0, xt);
    read_dy(c, s, t, dy + (s.group * c.co + y0) * c.dy.c, y1 - y0, yt);
    multiply_tile(c, s, t, c.x_is_a ? xt : yt, c.x_is_a ? yt : xt, xs, ys, sums);
  }
}

// ---- adding up -----------------------------------------------------------------------------------------------

/// A row of sums for one channel of A: taps x `width` channels of B, the slots added in order, as [tap][b].
template <class T>
void add_slots(const WeightConfig& c, const T* from, std::int64_t tap_step, std::int64_t taps, std::int64_t width,
               T* to) {
  for (std::int64_t t = 0; t < taps; ++t, from += tap_step, to += width)
    for (std::int64_t b = 0; b < width; b += lanes<T>) {
      Vec<T> sum = load(from + b);
      for (std::int64_t slot = 1; slot < c.slots; ++slot) sum += load(from + slot * c.sum_elements + b);
      store(to + b, sum);
    }
}

/// Stores [tap][b] sums of channel block b0 .. b0 + n into dw: to[b * w_b + tap].
template <class S, class T>
void store_taps(const WeightConfig& c, const Share& s, const T* sums, std::int64_t width, std::int64_t n, S* to,
                std::int64_t w_b) {
  const std::int64_t taps = s.t1 - s.t0;
  const bool dense = c.w_tap[2] == 1;  // then all taps of a pair of channels are contiguous
  if constexpr (sizeof(S) == sizeof(T)) {
    if (dense) return transpose(sums, width, reinterpret_cast<T*>(to) + s.t0, w_b, taps, n);
  } else if (dense) {
    T turned[most_taps * weight_block_n * lanes<T>];
    transpose(sums, width, turned, taps, taps, n);
    if (w_b == taps) return narrow_row(turned, to, n * taps);  // all taps of the kernel: one run
    for (std::int64_t b = 0; b < n; ++b) narrow_row(turned + b * taps, to + b * w_b + s.t0, taps);
    return;
  }
  for (std::int64_t t = 0; t < taps; ++t) {
    const std::int64_t tap = s.t0 + t, kw = tap % c.dim[2].kernel, kh = tap / c.dim[2].kernel % c.dim[1].kernel,
                       kd = tap / c.dim[2].kernel / c.dim[1].kernel;
    S* at = to + kd * c.w_tap[0] + kh * c.w_tap[1] + kw * c.w_tap[2];
    for (std::int64_t b = 0; b < n; ++b) narrow(sums[t * width + b], at[b * w_b]);
  }
}

/// Writes the part of dw that one share holds.
template <class S, class T>
void reduce_share(const WeightConfig& c, const T* partials, S* dw, std::int64_t share) {
  constexpr std::int64_t block = weight_block_n * lanes<T>;
  T sums[most_taps * block];
  const Share s = share_of(c, share * c.slots);
  const T* from = partials + share * c.slots * c.sum_elements;
  const std::int64_t na = s.a1 - s.a0, nb = s.b1 - s.b0, width = padded_b<T>(nb);
  const std::int64_t w_a = c.x_is_a ? c.w_ci : c.w_co, w_b = c.x_is_a ? c.w_co : c.w_ci;
  for (std::int64_t i = 0; i < row_blocks(na); ++i) {
    const Rows rows = row_block(na, i);
    for (std::int64_t a = rows.begin; a < rows.end; ++a)
      for (std::int64_t j = 0; j < nb; j += block) {
        const std::int64_t lanes_here = width - j > lanes<T> ? block : lanes<T>;
        const T* at = from + rows.begin * width + j * (rows.end - rows.begin) + (a - rows.begin) * lanes_here;
        add_slots(c, at, na * width, s.t1 - s.t0, lanes_here, sums);
        store_taps(c, s, sums, lanes_here, minimum(lanes_here, nb - j),
                   dw + s.group * c.w_group + (s.a0 + a) * w_a + (s.b0 + j) * w_b, w_b);
      }
  }
}

template <class S, class T>
void weight_as(const WeightConfig& c, const void* x, const void* dy, void* partials, void* scratch, std::int64_t task) {
  weight_task<S, T>(c, static_cast<const S*>(x), static_cast<const S*>(dy), static_cast<T*>(partials), scratch, task);
}

void weight(const WeightConfig& c, const void* x, const void* dy, void* partials, void* scratch, std::int64_t task) {
  switch (c.x.dtype) {
    case DType::f32:
      weight_as<float, float>(c, x, dy, partials, scratch, task);
      break;
    case DType::f64:
      weight_as<double, double>(c, x, dy, partials, scratch, task);
      break;
    case DType::f16:
      weight_as<Half, float>(c, x, dy, partials, scratch, task);
      break;
    case DType::bf16:
      weight_as<BFloat, float>(c, x, dy, partials, scratch, task);
      break;
  }
}

void reduce(const WeightConfig& c, const void* partials, void* dw, std::int64_t share) {
  switch (c.x.dtype) {
    case DType::f32:
      reduce_share(c, static_cast<const float*>(partials), static_cast<float*>(dw), share);
      break;
    case DType::f64:
      reduce_share(c, static_cast<const double*>(partials), static_cast<double*>(dw), share);
      break;
    case DType::f16:
      reduce_share(c, static_cast<const float*>(partials), static_cast<Half*>(dw), share);
      break;
    case DType::bf16:
      reduce_share(c, static_cast<const float*>(partials), static_cast<BFloat*>(dw), share);
      break;
  }
}

}  // namespace

extern const cpu::WeightIsa weight_isa;
const cpu::WeightIsa weight_isa = {lanes<float>, lanes<double>, weight_block_m, weight_block_n, weight, reduce};

}  // namespace upconv::UPCONV_ISA
