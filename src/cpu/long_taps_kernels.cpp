// dw[ci, t .. t + 3L) = sum over n, i of x[n, ci, i] * dy[n, stride*i - padding + t ..]: register tiles of 4 input
// channels by 3 vectors of taps, the windows of dy packed once for all input channels of a task.
// dx[ci, i] = sum over co, t of w[ci, co, t] * dy[co, stride*i - padding + t]: 4 input channels (8 with AVX-512) by 3
// positions, straight from the tensors, summed across lanes once per 4 KB of taps. Floor: 12 multiply-adds per 7 loads
// (24 per 11), FMA bound.
// Compiled once per instruction set.
#include "cpu/lane_sums.hpp"
#include "cpu/long_taps.hpp"
#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using namespace upconv::cpu;

template <class T, int R>
static inline void accumulate(const T* const* x, const T* window, std::int64_t positions, T* out) {
  constexpr int L = lanes<T>, width = 3 * L;
  Vec<T> acc[R][3];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) acc[r][v] = load(out + r * width + v * L);
#pragma GCC unroll 1
  for (std::int64_t i = 0; i < positions; ++i, window += width) {
    const Vec<T> a = load_held(window), b = load_held(window + L), c = load_held(window + 2 * L);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> v = broadcast(x[r][i]);
      acc[r][0] += a * v, acc[r][1] += b * v, acc[r][2] += c * v;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) store(out + r * width + v * L, acc[r][v]);
}

/// Input positions taken at once: their windows of dy, 3 vectors each, are three quarters of a first-level cache.
constexpr std::int64_t dw_positions = (24 << 10) / (3 * UPCONV_VECTOR_BYTES);

template <class S>
std::int64_t scratch_elements(const LongTapsJob& job) {
  return (job.channels * job.blocks_at_once + dw_positions) * job.width + 4 * dw_positions;
}

/// One element by its definition: a zero beside dy met an infinity, or the data hold a NaN.
template <class S>
typename Compute<S>::type exact(const LongTapsJob& job, const S* x, const S* dy, std::int64_t ic, std::int64_t oc,
                                std::int64_t t) {
  typename Compute<S>::type total = 0;
  for (std::int64_t n = 0; n < job.batch; ++n)
    for (std::int64_t i = 0; i < job.in; ++i) {
      const std::int64_t o = job.stride * i + t - job.padding;
      if (o < 0 || o >= job.out) continue;
      total += widen(x[(n * job.groups * job.ci + ic) * job.in + i]) *
               widen(dy[(n * job.groups * job.co + oc) * job.out + o]);
    }
  return total;
}

/// What one dw task sums: blocks [b0, b1) of taps for input channels [c0, c1) of a group, and its memory.
template <class T>
struct WeightTask {
  std::int64_t group, oc, c0, c1, b0, b1;
  T *sums, *window, *wide;  ///< sums of [block][channel][width]

  WeightTask(const LongTapsJob& job, std::int64_t task, void* scratch) {
    b0 = task % job.ranges * job.blocks_at_once;
    b1 = b0 + job.blocks_at_once < job.blocks ? b0 + job.blocks_at_once : job.blocks;
    c0 = task / job.ranges % job.parts * job.channels;
    c1 = c0 + job.channels < job.ci ? c0 + job.channels : job.ci;
    oc = task / job.ranges / job.parts;
    group = oc / job.co;
    sums = static_cast<T*>(scratch);
    window = sums + job.blocks_at_once * job.channels * job.width;
    wide = window + dw_positions * job.width;
  }
  T* sums_of(const LongTapsJob& job, std::int64_t block, std::int64_t c) const {
    return sums + ((block - b0) * job.channels + c - c0) * job.width;
  }
};

/// Windows that are asked for before they are copied: a stride apart, no hardware prefetcher follows them.
constexpr std::int64_t windows_ahead = 12;

/// Taps [t0, t0 + taps) of dy at `count` positions from i0 on, `width` elements each, zeros outside dy.
template <class S, class T>
void pack_windows(const LongTapsJob& job, const S* dy, std::int64_t i0, std::int64_t count, std::int64_t t0,
                  std::int64_t taps, T* row) {
  for (std::int64_t i = i0; i < i0 + count; ++i, row += job.width) {
    const std::int64_t o = i * job.stride + t0 - job.padding;
    if (taps == job.width && o >= 0 && o + taps <= job.out) {
      if (o + windows_ahead * job.stride + taps <= job.out) fetch_ahead<0>(dy + o + windows_ahead * job.stride, taps);
      if constexpr (sizeof(S) == sizeof(T)) {
        const T* from = reinterpret_cast<const T*>(dy) + o;
        for (int v = 0; v < 3; ++v) store(row + v * lanes<T>, load(from + v * lanes<T>));
      } else {
        widen_row(dy + o, row, taps);
      }
      continue;
    }
    const std::int64_t a = o >= 0 ? 0 : -o < taps ? -o : taps, left = job.out - o;
    const std::int64_t b = left < a ? a : left < taps ? left : taps;
    zero_row(row, job.width);
    widen_row(dy + o + a, row + a, b - a);
  }
}

/// Adds `count` positions of x, from `x` on, of all channels of the task to the sums of one block.
template <class S, class T>
void add_block(const LongTapsJob& job, const WeightTask<T>& t, const S* x, std::int64_t count, std::int64_t block) {
  for (std::int64_t c = t.c0; c < t.c1; c += 4) {
    const std::int64_t rows = t.c1 - c < 4 ? t.c1 - c : 4;
    const T* row[4] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      const S* from = x + (c + r) * job.in;
      if (c + 4 + r < t.c1) fetch_ahead<0>(from + 4 * job.in, count);
      if constexpr (sizeof(S) == sizeof(T)) {
        row[r] = from;
      } else {
        widen_row(from, t.wide + r * dw_positions, count);
        row[r] = t.wide + r * dw_positions;
      }
    }
    T* out = t.sums_of(job, block, c);
    switch (rows) {
      case 1:
        accumulate<T, 1>(row, t.window, count, out);
        break;
      case 2:
        accumulate<T, 2>(row, t.window, count, out);
        break;
      case 3:
        accumulate<T, 3>(row, t.window, count, out);
        break;
      default:
        accumulate<T, 4>(row, t.window, count, out);
    }
  }
}

/// Whether no value of 3 vectors is infinite or NaN.
template <class T>
bool all_finite(const T* row) {
  constexpr int L = lanes<T>;
  const Vec<T> zero = load(row) * T(0) + load(row + L) * T(0) + load(row + 2 * L) * T(0);
  T sums[4];
  sum_lanes(zero, zero, zero, zero, sums);
  return sums[0] == T(0);
}

template <class S>
void run(const LongTapsJob& job, const void* x_, const void* dy_, void* dw_, std::int64_t task, void* scratch) {
  typedef typename Compute<S>::type T;
  const WeightTask<T> t(job, task, scratch);
  const S *x = static_cast<const S*>(x_), *dy = static_cast<const S*>(dy_);
  const auto taps_of = [&](std::int64_t block) {
    return job.kernel - block * job.width < job.width ? job.kernel - block * job.width : job.width;
  };
  zero_row(t.sums, job.blocks_at_once * job.channels * job.width);
  for (std::int64_t n = 0; n < job.batch; ++n)
    for (std::int64_t i = 0; i < job.in; i += dw_positions) {
      const std::int64_t count = job.in - i < dw_positions ? job.in - i : dw_positions;
      for (std::int64_t block = t.b0; block < t.b1; ++block) {
        pack_windows(job, dy + (n * job.groups * job.co + t.oc) * job.out, i, count, block * job.width, taps_of(block),
                     t.window);
        add_block(job, t, x + (n * job.groups + t.group) * job.ci * job.in + i, count, block);
      }
    }
  S* dw = static_cast<S*>(dw_) + t.group * job.w_group + t.oc % job.co * job.w_co;
  for (std::int64_t c = t.c0; c < t.c1; ++c)
    for (std::int64_t block = t.b0; block < t.b1; ++block) {
      T* sums = t.sums_of(job, block, c);
      const std::int64_t taps = taps_of(block), t0 = block * job.width;
      S* to = dw + c * job.w_ci + t0 * job.w_tap;
      if (!all_finite(sums))
        for (std::int64_t i = 0; i < taps; ++i)
          if (!(sums[i] - sums[i] == T(0))) sums[i] = exact<S>(job, x, dy, t.group * job.ci + c, t.oc, t0 + i);
      if (job.w_tap == 1)
        narrow_row(sums, to, taps);
      else
        for (std::int64_t i = 0; i < taps; ++i) narrow(sums[i], to[i * job.w_tap]);
    }
}

/// Most input channels, by 3 positions, of a register tile of dx.
#if defined(__AVX512F__)
constexpr int most_dx_rows = 8;  // 24 of 32 registers accumulate
#else
constexpr int most_dx_rows = 4;  // 12 of 16
#endif

/// out[r][k] += dot of w[r] and dy[k] over n taps.
template <class T, int R, int K>
static inline void dots(const T* const* w, const T* const* dy, std::int64_t n, T* const* out) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][K]{};
  std::int64_t t = 0;
#pragma GCC unroll 1
  for (; t + L <= n; t += L) {
    Vec<T> b[K];
#pragma GCC unroll 3
    for (int k = 0; k < K; ++k) b[k] = load_held(dy[k] + t);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> a = load_held(w[r] + t);
#pragma GCC unroll 3
      for (int k = 0; k < K; ++k) acc[r][k] += a * b[k];
    }
  }
  T sums[(R * K + 3) / 4 * 4];
  sum_lanes(acc, sums);
  for (; t < n; ++t)
    for (int r = 0; r < R; ++r)
      for (int k = 0; k < K; ++k) sums[r * K + k] += w[r][t] * dy[k][t];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < K; ++k) out[r][k] += sums[r * K + k];
}
template <class T, int K, int R = most_dx_rows>
static inline void dots_of(std::int64_t rows, const T* const* w, const T* const* dy, std::int64_t n, T* const* out) {
  if constexpr (R > 1)
    if (rows < R) return dots_of<T, K, R - 1>(rows, w, dy, n, out);
  dots<T, R, K>(w, dy, n, out);
}

/// Input channels of a register tile. Rows of w and windows of dy that lie multiples of 4 KB apart share a set of the
/// first-level cache, which has 8 lines: 4 + 3 fit, 8 + 3 do not.
template <class T>
std::int64_t dx_rows(const LongTapsJob& job) {
  const std::int64_t page = 4096 / std::int64_t(sizeof(T));
  return job.w_ci % page == 0 && job.stride % page == 0 ? 4 : most_dx_rows;
}

/// Taps of dx taken at once: 4 rows of them are half of a first-level cache (8 rows fill one), 32 rows with the
/// positions' part of dy a part of the second-level one.
template <class T>
constexpr std::int64_t dx_taps = 4096 / std::int64_t(sizeof(T));
constexpr std::int64_t dx_dy_bytes = 128 << 10;

/// Adds taps [t0, t1) of output channel oc to channels [c0, c1) of dx at positions [i0, i1).
template <class T>
void add_dx(const LongTapsJob& job, const T* dy, const T* w, T* dx, std::int64_t c0, std::int64_t c1, std::int64_t i0,
            std::int64_t i1, std::int64_t t0, std::int64_t t1) {
  // Positions [first, last) see all these taps.
  const std::int64_t before = job.padding - t0, after = job.out + job.padding - t1;
  const std::int64_t first = before > 0 ? (before + job.stride - 1) / job.stride : 0;
  const std::int64_t last = after < 0 ? 0 : after / job.stride + 1;
  const std::int64_t most = dx_rows<T>(job);
  for (std::int64_t c = c0; c < c1; c += most) {
    const std::int64_t rows = c1 - c < most ? c1 - c : most;
    for (std::int64_t i = i0; i < i1;) {
      const std::int64_t columns = i >= first && i + 3 <= last && i + 3 <= i1 ? 3 : 1;
      const std::int64_t o = i * job.stride - job.padding;
      const std::int64_t a = -o > t0 ? -o : t0, b = job.out - o < t1 ? job.out - o : t1;
      if (a < b) {
        const T *ws[most_dx_rows], *dys[3];
        T* out[most_dx_rows];
        for (std::int64_t r = 0; r < rows; ++r) ws[r] = w + (c + r) * job.w_ci + a, out[r] = dx + (c + r) * job.in + i;
        for (std::int64_t k = 0; k < columns; ++k) dys[k] = dy + o + a + k * job.stride;
        if (columns == 3)
          dots_of<T, 3>(rows, ws, dys, b - a, out);
        else
          dots_of<T, 1>(rows, ws, dys, b - a, out);
      }
      i += columns;
    }
  }
}

template <class T>
void run_dx(const LongTapsJob& job, const void* dy_, const void* w_, void* dx_, std::int64_t task) {
  const std::int64_t parts = (job.ci + long_taps_channels - 1) / long_taps_channels, part = task % parts;
  const std::int64_t group = task / parts % job.groups, n = task / parts / job.groups;
  const T* dy = static_cast<const T*>(dy_) + (n * job.groups + group) * job.co * job.out;
  const T* w = static_cast<const T*>(w_) + group * job.w_group;
  T* dx = static_cast<T*>(dx_) + (n * job.groups + group) * job.ci * job.in;
  const std::int64_t begin = part * long_taps_channels;
  const std::int64_t end = begin + long_taps_channels < job.ci ? begin + long_taps_channels : job.ci;
  std::int64_t positions = dx_dy_bytes / std::int64_t(sizeof(T)) / job.stride / 3 * 3;
  if (positions < 3) positions = 3;
  zero_row(dx + begin * job.in, (end - begin) * job.in);
  for (std::int64_t oc = 0; oc < job.co; ++oc)
    for (std::int64_t t = 0; t < job.kernel; t += dx_taps<T>)
      for (std::int64_t i = 0; i < job.in; i += positions)
        add_dx(job, dy + oc * job.out, w + oc * job.w_co, dx, begin, end, i,
               i + positions < job.in ? i + positions : job.in, t,
               t + dx_taps<T> < job.kernel ? t + dx_taps<T> : job.kernel);
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const LongTapsKernels long_taps_kernels[4];
const LongTapsKernels long_taps_kernels[4] = {
    {scratch_elements<float>, 3 * lanes<float>, run<float>, run_dx<float>},
    {scratch_elements<double>, 3 * lanes<double>, run<double>, run_dx<double>},
    {scratch_elements<Half>, 3 * lanes<float>, run<Half>, nullptr},
    {scratch_elements<BFloat>, 3 * lanes<float>, run<BFloat>, nullptr}};

}  // namespace upconv::UPCONV_ISA
