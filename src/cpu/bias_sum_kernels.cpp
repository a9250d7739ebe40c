// db = sum of dy over everything but the channel, at the speed memory is read: short sums in vectors of the compute
// type (at most 128 terms a lane), added up in double. Compiled once per instruction set.
#include "cpu/bias_sum.hpp"

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

constexpr std::int64_t block = 2048;

template <class T>
static inline double sum_block(const T* p, std::int64_t n) {
  constexpr int L = lanes<T>;
  Vec<T> a{}, b{}, c{}, d{};
  std::int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a += load(p + i), b += load(p + i + L), c += load(p + i + 2 * L), d += load(p + i + 3 * L);
  }
  for (; i + L <= n; i += L) a += load(p + i);
  const Vec<T> v = (a + b) + (c + d);
  double total = 0.0;
  for (int k = 0; k < L; ++k) total += double(v[k]);
  for (; i < n; ++i) total += double(p[i]);
  return total;
}

template <class S>
static inline double sum_row(const S* p, std::int64_t n) {
  typedef typename Compute<S>::type T;
  double total = 0.0;
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t m = n - i < block ? n - i : block;
    if constexpr (sizeof(S) == sizeof(T)) {
      total += sum_block<T>(p + i, m);
    } else {
      T wide[block];
      widen_row(p + i, wide, m);
      total += sum_block<T>(wide, m);
    }
  }
  return total;
}

template <class S>
void planes(const BiasSumJob& job, const void* dy, double* partial, std::int64_t slot, std::int64_t first, std::int64_t end) {
  const std::int64_t items = job.batch * job.pieces;
  for (std::int64_t c = first; c < end; ++c) {
    double total = 0.0;
    for (std::int64_t i = items * slot / job.slots; i < items * (slot + 1) / job.slots; ++i) {
      const std::int64_t n = i / job.pieces, piece = i % job.pieces;
      const std::int64_t begin = job.volume * piece / job.pieces, stop = job.volume * (piece + 1) / job.pieces;
      total += sum_row(static_cast<const S*>(dy) + (n * job.channels + c) * job.volume + begin, stop - begin);
    }
    partial[slot * job.channels + c] = total;
  }
}

template <class S>
void rows(const BiasSumJob& job, const void* dy, double* partial, std::int64_t slot, void* scratch) {
  typedef typename Compute<S>::type T;
  constexpr int L = lanes<T>;
  const std::int64_t total = job.batch * job.volume, channels = job.channels;
  T *acc = static_cast<T*>(scratch), *wide = acc + channels;
  double* out = partial + slot * channels;
  for (std::int64_t c = 0; c < channels; ++c) out[c] = 0.0, acc[c] = T(0);
  std::int64_t held = 0;
  for (std::int64_t r = total * slot / job.slots, stop = total * (slot + 1) / job.slots; r < stop; ++r) {
    const S* source = static_cast<const S*>(dy) + r * channels;
    const T* row;
    if constexpr (sizeof(S) == sizeof(T)) {
      row = source;
    } else {
      widen_row(source, wide, channels);
      row = wide;
    }
    std::int64_t c = 0;
    for (; c + L <= channels; c += L) store(acc + c, load(acc + c) + load(row + c));
    for (; c < channels; ++c) acc[c] += row[c];
    if (++held < 128 && r + 1 < stop) continue;
    for (c = 0; c < channels; ++c) out[c] += double(acc[c]), acc[c] = T(0);
    held = 0;
  }
}

template <class S>
void reduce(const BiasSumJob& job, const double* partial, void* db, std::int64_t first, std::int64_t end) {
  typedef typename Compute<S>::type T;
  for (std::int64_t c = first; c < end; ++c) {
    double total = 0.0;
    for (std::int64_t s = 0; s < job.slots; ++s) total += partial[s * job.channels + c];
    narrow(T(total), static_cast<S*>(db)[c]);
  }
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const BiasSumKernels bias_sum_kernels[4];
const BiasSumKernels bias_sum_kernels[4] = {{planes<float>, rows<float>, reduce<float>},
                                            {planes<double>, rows<double>, reduce<double>},
                                            {planes<Half>, rows<Half>, reduce<Half>},
                                            {planes<BFloat>, rows<BFloat>, reduce<BFloat>}};

}  // namespace upconv::UPCONV_ISA
