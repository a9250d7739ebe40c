// The candidate "cpu_bias_sum": db of any problem, bound by reading dy once.
#include "cpu/bias_sum.hpp"

#include <algorithm>

#include "cpu/candidates.hpp"
#include "cpu/per_isa.hpp"
#include "cpu/share_out.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::BiasSumKernels, bias_sum_kernels)

namespace upconv::cpu {
namespace {

class BiasSum final : public PassKernel {
 public:
  explicit BiasSum(const Request& r)
      : last_(r.problem.y_layout == Layout::channels_last),
        compute_size_(r.problem.dtype == DType::f64 ? 8 : 4),
        kernels_(&UPCONV_PER_ISA(bias_sum_kernels)[static_cast<int>(r.problem.dtype)]) {
    const Geometry& g = r.geometry;
    job_.batch = g.batch, job_.channels = g.out_channels(), job_.volume = g.out_volume();
    // Slots of at least 32 thousand elements, and enough of them for any number of workers.
    const std::int64_t elements = g.batch * job_.channels * job_.volume;
    if (last_) {
      job_.slots = std::clamp<std::int64_t>(elements / 32768, 1, std::clamp<std::int64_t>(g.batch * job_.volume, 1, 64));
    } else {
      job_.pieces = std::max<std::int64_t>(1, job_.volume / 32768);
      const std::int64_t items = std::max<std::int64_t>(1, g.batch * job_.pieces);
      job_.slots = std::min({items, std::max<std::int64_t>(1, 64 / job_.channels), std::max<std::int64_t>(1, elements / 32768)});
    }
  }

  std::size_t workspace_bytes(int workers) const override {
    return partial_bytes() + static_cast<std::size_t>(workers) * row_bytes();
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    auto* partial = static_cast<double*>(workspace);
    char* scratch = static_cast<char*>(workspace) + partial_bytes();
    const double elements = double(job_.batch) * double(job_.channels) * double(job_.volume);
    if (last_) {
      share_out(executor, job_.slots, elements, [&](std::int64_t s, std::int64_t end, int worker) {
        for (; s < end; ++s) kernels_->rows(job_, t.dy, partial, s, scratch + static_cast<std::size_t>(worker) * row_bytes());
      });
    } else {
      share_out(executor, job_.slots * job_.channels, elements, [&](std::int64_t i, std::int64_t end, int) {
        while (i < end) {
          const std::int64_t slot = i / job_.channels, first = i % job_.channels;
          const std::int64_t stop = std::min(job_.channels, first + end - i);
          kernels_->planes(job_, t.dy, partial, slot, first, stop);
          i += stop - first;
        }
      });
    }
    kernels_->reduce(job_, partial, t.db, 0, job_.channels);
  }

  std::string detail() const override {
    return to_string(active_isa()) + ", " + std::to_string(job_.slots) + " partial sums in double";
  }

 private:
  std::size_t partial_bytes() const { return (static_cast<std::size_t>(job_.slots * job_.channels) * 8 + 63) / 64 * 64; }
  std::size_t row_bytes() const {
    return last_ ? (static_cast<std::size_t>(2 * job_.channels) * compute_size_ + 63) / 64 * 64 : 0;
  }

  BiasSumJob job_;
  bool last_;
  std::size_t compute_size_;
  const BiasSumKernels* kernels_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_bias_sum(const Request& r) {
  if (r.pass != Pass::backward_bias) return unsupported("sums dy only");
  return std::unique_ptr<PassKernel>(new BiasSum(r));
}

}  // namespace upconv::cpu
