// Depthwise layers with channels last (depthwise.hpp). Per position: the list of taps that reach it, then 4 vectors of
// channels at a time through the list. Two loads per multiply-add: half the FMA peak from the first-level cache, and
// bound by memory for the kernels in use (4 to 9 taps a position). Compiled once per instruction set.
#include "cpu/depthwise.hpp"
#include "cpu/simd.hpp"
#include "epilogue/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using namespace upconv::cpu;

template <class S>
static inline auto load_wide(const S* p) {
  typedef typename Compute<S>::type T;
  if constexpr (sizeof(S) == sizeof(T)) {
    return load(p);
  } else {
    T wide[lanes<T>];
    widen_row(p, wide, lanes<T>);
    return load(wide);
  }
}

template <class S>
void pack(const DepthwiseJob& job, const void* w, void* packed) {
  typedef typename Compute<S>::type T;
  T* out = static_cast<T*>(packed);
  for (std::int64_t a = 0; a < job.kernel[0]; ++a)
    for (std::int64_t b = 0; b < job.kernel[1]; ++b)
      for (std::int64_t c = 0; c < job.kernel[2]; ++c) {
        const S* from = static_cast<const S*>(w) + a * job.w_tap[0] + b * job.w_tap[1] + c * job.w_tap[2];
        for (std::int64_t k = 0; k < job.channels; ++k) *out++ = widen(from[k * job.w_channel]);
      }
}

/// A tap that reaches the position being computed.
template <class S>
struct Term {
  const S* source;
  const typename Compute<S>::type* weight;
};

template <class S, int N>
static inline void sum_terms(const Term<S>* term, std::int64_t terms, const S* bias, std::int64_t c,
                             typename Compute<S>::type* out) {
  typedef typename Compute<S>::type T;
  constexpr int L = lanes<T>;
  Vec<T> acc[N];
  for (int v = 0; v < N; ++v) acc[v] = bias ? load_wide(bias + c + v * L) : Vec<T>{};
  for (std::int64_t i = 0; i < terms; ++i)
    for (int v = 0; v < N; ++v) acc[v] += load_wide(term[i].source + c + v * L) * load(term[i].weight + c + v * L);
  for (int v = 0; v < N; ++v) store(out + c + v * L, acc[v]);
}

template <class S>
void row(const DepthwiseJob& job, const void* source_, const void* packed, const void* bias_, void* destination_,
         const Operand* operands, std::int64_t index, void* scratch) {
  typedef typename Compute<S>::type T;
  constexpr int L = lanes<T>;
  const std::int64_t C = job.channels, *size = job.destination, *from = job.source;
  const S *source = static_cast<const S*>(source_), *bias = static_cast<const S*>(bias_);
  const std::int64_t u[2] = {index / size[1] % size[0], index % size[1]}, n = index / size[1] / size[0];
  std::int64_t q[3], r[3];
  for (int d = 0; d < 2; ++d) {
    q[d] = (u[d] + job.padding[d]) / job.destination_step[d];
    r[d] = (u[d] + job.padding[d]) % job.destination_step[d];
  }
  q[2] = job.padding[2] / job.destination_step[2], r[2] = job.padding[2] % job.destination_step[2];
  T* line = static_cast<T*>(scratch);
  auto* terms = reinterpret_cast<Term<S>*>(line + (C + 15) / 16 * 16);
  S* out = static_cast<S*>(destination_) + index * size[2] * C;
  for (std::int64_t w = 0; w < size[2]; ++w, out += C) {
    std::int64_t count = 0;
    for (std::int32_t a = job.first_tap[0][r[0]]; a < job.first_tap[0][r[0] + 1]; ++a) {
      const DepthwiseTap& td = job.taps[0][a];
      const std::int64_t sd = job.source_step[0] * q[0] + td.shift;
      if (sd < 0 || sd >= from[0]) continue;
      for (std::int32_t b = job.first_tap[1][r[1]]; b < job.first_tap[1][r[1] + 1]; ++b) {
        const DepthwiseTap& th = job.taps[1][b];
        const std::int64_t sh = job.source_step[1] * q[1] + th.shift;
        if (sh < 0 || sh >= from[1]) continue;
        const S* line_of = source + ((n * from[0] + sd) * from[1] + sh) * from[2] * C;
        const T* weight_of = static_cast<const T*>(packed) + (td.tap * job.kernel[1] + th.tap) * job.kernel[2] * C;
        for (std::int32_t c = job.first_tap[2][r[2]]; c < job.first_tap[2][r[2] + 1]; ++c) {
          const DepthwiseTap& tw = job.taps[2][c];
          const std::int64_t sw = job.source_step[2] * q[2] + tw.shift;
          if (sw >= 0 && sw < from[2]) terms[count++] = {line_of + sw * C, weight_of + tw.tap * C};
        }
      }
    }
    T* to = line;
    if constexpr (sizeof(S) == sizeof(T)) to = out;
    std::int64_t c = 0;
    for (; c + 4 * L <= C; c += 4 * L) sum_terms<S, 4>(terms, count, bias, c, to);
    for (; c + L <= C; c += L) sum_terms<S, 1>(terms, count, bias, c, to);
    for (; c < C; ++c) {
      T acc = bias ? widen(bias[c]) : T(0);
      for (std::int64_t i = 0; i < count; ++i) acc += widen(terms[i].source[c]) * terms[i].weight[c];
      to[c] = acc;
    }
    if (job.epilogue.count > 0) apply_epilogue<S>(job.epilogue, operands, {n, 0, u[0], u[1], w, true}, to, C);
    if constexpr (sizeof(S) != sizeof(T)) narrow_row(line, out, C);
    if (++r[2] == job.destination_step[2]) r[2] = 0, ++q[2];
  }
}

/// sum[c] += x[i][c] * dy[i * step][c] over n positions, N vectors of channels.
template <class S, int N>
static inline void sum_products(const S* x, const S* dy, std::int64_t channels, std::int64_t step, std::int64_t n,
                                typename Compute<S>::type* sum) {
  typedef typename Compute<S>::type T;
  constexpr int L = lanes<T>;
  Vec<T> acc[N];
  for (int v = 0; v < N; ++v) acc[v] = load(sum + v * L);
  for (std::int64_t i = 0; i < n; ++i, x += channels, dy += step * channels)
    for (int v = 0; v < N; ++v) acc[v] += load_wide(x + v * L) * load_wide(dy + v * L);
  for (int v = 0; v < N; ++v) store(sum + v * L, acc[v]);
}

template <class S>
void weight_rows(const DepthwiseJob& job, const void* x_, const void* dy_, void* partial_, std::int64_t first,
                 std::int64_t end, void*) {
  typedef typename Compute<S>::type T;
  constexpr int L = lanes<T>;
  const std::int64_t C = job.channels, *in = job.destination, *out = job.source, *k = job.kernel;
  T* partial = static_cast<T*>(partial_);
  for (std::int64_t i = 0; i < k[0] * k[1] * k[2] * C; ++i) partial[i] = T(0);
  for (std::int64_t index = first; index < end; ++index) {
    const std::int64_t d = index / in[1] % in[0], h = index % in[1], n = index / in[1] / in[0];
    const S* x = static_cast<const S*>(x_) + index * in[2] * C;
    for (std::int64_t a = 0; a < k[0]; ++a) {
      const std::int64_t od = job.source_step[0] * d + job.taps[0][a].shift;
      if (od < 0 || od >= out[0]) continue;
      for (std::int64_t b = 0; b < k[1]; ++b) {
        const std::int64_t oh = job.source_step[1] * h + job.taps[1][b].shift;
        if (oh < 0 || oh >= out[1]) continue;
        const S* dy = static_cast<const S*>(dy_) + ((n * out[0] + od) * out[1] + oh) * out[2] * C;
        for (std::int64_t t = 0; t < k[2]; ++t) {
          const std::int64_t shift = job.taps[2][t].shift, step = job.source_step[2];
          const std::int64_t i0 = shift >= 0 ? 0 : (-shift + step - 1) / step;
          std::int64_t i1 = out[2] - shift <= 0 ? 0 : (out[2] - shift + step - 1) / step;
          if (i1 > in[2]) i1 = in[2];
          if (i0 >= i1) continue;
          const S *xs = x + i0 * C, *dys = dy + (step * i0 + shift) * C;
          T* sum = partial + ((a * k[1] + b) * k[2] + t) * C;
          std::int64_t c = 0;
          for (; c + 4 * L <= C; c += 4 * L) sum_products<S, 4>(xs + c, dys + c, C, step, i1 - i0, sum + c);
          for (; c + L <= C; c += L) sum_products<S, 1>(xs + c, dys + c, C, step, i1 - i0, sum + c);
          for (; c < C; ++c) {
            T total = sum[c];
            for (std::int64_t i = 0; i < i1 - i0; ++i) total += widen(xs[i * C + c]) * widen(dys[i * step * C + c]);
            sum[c] = total;
          }
        }
      }
    }
  }
}

template <class S>
void weight_reduce(const DepthwiseJob& job, const void* partials, void* dw) {
  typedef typename Compute<S>::type T;
  const std::int64_t C = job.channels, taps = job.kernel[0] * job.kernel[1] * job.kernel[2];
  std::int64_t tap = 0;
  for (std::int64_t a = 0; a < job.kernel[0]; ++a)
    for (std::int64_t b = 0; b < job.kernel[1]; ++b)
      for (std::int64_t t = 0; t < job.kernel[2]; ++t, ++tap)
        for (std::int64_t c = 0; c < C; ++c) {
          T total = T(0);
          for (std::int64_t s = 0; s < job.slots; ++s)
            total += static_cast<const T*>(partials)[(s * taps + tap) * C + c];
          narrow(total,
                 static_cast<S*>(dw)[c * job.w_channel + a * job.w_tap[0] + b * job.w_tap[1] + t * job.w_tap[2]]);
        }
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const DepthwiseKernels depthwise_kernels[4];
const DepthwiseKernels depthwise_kernels[4] = {{pack<float>, row<float>, weight_rows<float>, weight_reduce<float>},
                                               {pack<double>, row<double>, weight_rows<double>, weight_reduce<double>},
                                               {pack<Half>, row<Half>, weight_rows<Half>, weight_reduce<Half>},
                                               {pack<BFloat>, row<BFloat>, weight_rows<BFloat>, weight_reduce<BFloat>}};

}  // namespace upconv::UPCONV_ISA
