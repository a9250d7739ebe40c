// dw[ci, t .. t + 3L) = sum over n, i of x[n, ci, i] * dy[n, stride*i - padding + t ..]: register tiles of 4 input
// channels by 3 vectors of taps, the windows of dy packed once for all input channels.
// dx[ci, i] = sum over co, t of w[ci, co, t] * dy[co, stride*i - padding + t]: 4 input channels by 3 positions, straight
// from the tensors, summed across lanes once per kernel.
// Floor: 12 multiply-adds per 7 loads, FMA bound. Compiled once per instruction set.
#include "cpu/long_taps.hpp"

#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using namespace upconv::cpu;

template <class S>
struct Compute {
  typedef float type;
};
template <>
struct Compute<double> {
  typedef double type;
};

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
    const Vec<T> a = load(window), b = load(window + L), c = load(window + 2 * L);
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

template <class S>
std::int64_t scratch_elements(const LongTapsJob& job) {
  return (job.ci + long_taps_positions) * job.width + 4 * long_taps_positions;
}

/// One element by its definition: a zero beside dy met an infinity, or the data hold a NaN.
template <class S>
typename Compute<S>::type exact(const LongTapsJob& job, const S* x, const S* dy, std::int64_t ic, std::int64_t oc, std::int64_t t) {
  typename Compute<S>::type total = 0;
  for (std::int64_t n = 0; n < job.batch; ++n)
    for (std::int64_t i = 0; i < job.in; ++i) {
      const std::int64_t o = job.stride * i + t - job.padding;
      if (o < 0 || o >= job.out) continue;
      total += widen(x[(n * job.groups * job.ci + ic) * job.in + i]) * widen(dy[(n * job.groups * job.co + oc) * job.out + o]);
    }
  return total;
}

template <class S>
void run(const LongTapsJob& job, const void* x_, const void* dy_, void* dw_, std::int64_t task, void* scratch) {
  typedef typename Compute<S>::type T;
  const std::int64_t width = job.width, block = task % job.blocks, oc = task / job.blocks, group = oc / job.co;
  const std::int64_t t0 = block * width, taps = job.kernel - t0 < width ? job.kernel - t0 : width;
  const S *x = static_cast<const S*>(x_), *dy = static_cast<const S*>(dy_);
  T *sums = static_cast<T*>(scratch), *window = sums + job.ci * width, *wide = window + long_taps_positions * width;
  zero_row(sums, job.ci * width);
  for (std::int64_t n = 0; n < job.batch; ++n)
    for (std::int64_t i0 = 0; i0 < job.in; i0 += long_taps_positions) {
      const std::int64_t count = job.in - i0 < long_taps_positions ? job.in - i0 : long_taps_positions;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t o = (i0 + i) * job.stride + t0 - job.padding;
        const std::int64_t a = o >= 0 ? 0 : -o < taps ? -o : taps, left = job.out - o;
        const std::int64_t b = left < a ? a : left < taps ? left : taps;
        T* row = window + i * width;
        zero_row(row, width);
        gather_row(dy + (n * job.groups * job.co + oc) * job.out + o + a, 1, row + a, b - a);
      }
      for (std::int64_t c = 0; c < job.ci; c += 4) {
        const std::int64_t rows = job.ci - c < 4 ? job.ci - c : 4;
        const T* row[4] = {};
        for (std::int64_t r = 0; r < rows; ++r) {
          const S* from = x + ((n * job.groups + group) * job.ci + c + r) * job.in + i0;
          if constexpr (sizeof(S) == sizeof(T)) {
            row[r] = from;
          } else {
            widen_row(from, wide + r * long_taps_positions, count);
            row[r] = wide + r * long_taps_positions;
          }
        }
        T* out = sums + c * width;
        switch (rows) {
          case 1: accumulate<T, 1>(row, window, count, out); break;
          case 2: accumulate<T, 2>(row, window, count, out); break;
          case 3: accumulate<T, 3>(row, window, count, out); break;
          default: accumulate<T, 4>(row, window, count, out);
        }
      }
    }
  S* dw = static_cast<S*>(dw_) + group * job.w_group + oc % job.co * job.w_co;
  for (std::int64_t c = 0; c < job.ci; ++c)
    for (std::int64_t t = 0; t < taps; ++t) {
      T v = sums[c * width + t];
      if (!(v - v == T(0))) v = exact<S>(job, x, dy, group * job.ci + c, oc, t0 + t);
      narrow(v, dw[c * job.w_ci + (t0 + t) * job.w_tap]);
    }
}

/// out[r * 3 + k] += dot of w[r] and dy[k] over n taps.
template <class T, int R, int K>
static inline void dots(const T* const* w, const T* const* dy, std::int64_t n, T* out) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][K]{};
  std::int64_t t = 0;
#pragma GCC unroll 1
  for (; t + L <= n; t += L) {
    Vec<T> b[K];
#pragma GCC unroll 3
    for (int k = 0; k < K; ++k) b[k] = load(dy[k] + t);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> a = load(w[r] + t);
#pragma GCC unroll 3
      for (int k = 0; k < K; ++k) acc[r][k] += a * b[k];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int k = 0; k < K; ++k) {
      T lane[L];
      store(lane, acc[r][k]);
      for (int half = L / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
      T total = lane[0];
      for (std::int64_t i = t; i < n; ++i) total += w[r][i] * dy[k][i];
      out[r * 3 + k] += total;
    }
}

template <class T>
void run_dx(const LongTapsJob& job, const void* dy_, const void* w_, void* dx_, std::int64_t task) {
  const std::int64_t parts = (job.ci + long_taps_channels - 1) / long_taps_channels, part = task % parts;
  const std::int64_t group = task / parts % job.groups, n = task / parts / job.groups;
  const T* dy = static_cast<const T*>(dy_) + (n * job.groups + group) * job.co * job.out;
  const T* w = static_cast<const T*>(w_) + group * job.w_group;
  T* dx = static_cast<T*>(dx_) + (n * job.groups + group) * job.ci * job.in;
  const std::int64_t end = (part + 1) * long_taps_channels < job.ci ? (part + 1) * long_taps_channels : job.ci;
  // Positions [first, last) see the whole kernel.
  std::int64_t first = (job.padding + job.stride - 1) / job.stride;
  std::int64_t last = job.out + job.padding < job.kernel ? 0 : (job.out + job.padding - job.kernel) / job.stride + 1;
  if (last > job.in) last = job.in;
  if (first > last) first = last;
  for (std::int64_t c = part * long_taps_channels; c < end; c += 4) {
    const std::int64_t rows = end - c < 4 ? end - c : 4;
    for (std::int64_t i = 0; i < job.in;) {
      const bool whole = i >= first && i < last;
      const std::int64_t columns = whole && rows == 4 && i + 3 <= last ? 3 : 1;
      const std::int64_t o = i * job.stride - job.padding;
      const std::int64_t a = o < 0 ? -o : 0, b = job.out - o < job.kernel ? job.out - o : job.kernel;
      T out[12] = {};
      for (std::int64_t oc = 0; oc < job.co && a < b; ++oc) {
        const T *ws[4] = {}, *dys[3];
        for (std::int64_t r = 0; r < rows; ++r) ws[r] = w + (c + r) * job.w_ci + oc * job.w_co + a;
        for (std::int64_t k = 0; k < columns; ++k) dys[k] = dy + oc * job.out + o + a + k * job.stride;
        if (columns == 3) {
          dots<T, 4, 3>(ws, dys, b - a, out);
        } else if (rows == 4) {
          dots<T, 4, 1>(ws, dys, b - a, out);
        } else {
          for (std::int64_t r = 0; r < rows; ++r) dots<T, 1, 1>(ws + r, dys, b - a, out + r * 3);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t k = 0; k < columns; ++k) dx[(c + r) * job.in + i + k] = out[r * 3 + k];
      i += columns;
    }
  }
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const LongTapsKernels long_taps_kernels[4];
const LongTapsKernels long_taps_kernels[4] = {{scratch_elements<float>, 3 * lanes<float>, run<float>, run_dx<float>},
                                              {scratch_elements<double>, 3 * lanes<double>, run<double>, run_dx<double>},
                                              {scratch_elements<Half>, 3 * lanes<float>, run<Half>, nullptr},
                                              {scratch_elements<BFloat>, 3 * lanes<float>, run<BFloat>, nullptr}};

}  // namespace upconv::UPCONV_ISA
