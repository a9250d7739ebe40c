// The candidate "cpu_depthwise": layers of one channel a group whose activations have the channels last, in place.
#include "cpu/depthwise.hpp"

#include <algorithm>
#include <vector>

#include "cpu/candidates.hpp"
#include "cpu/per_isa.hpp"
#include "cpu/share_out.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::DepthwiseKernels, depthwise_kernels)

namespace upconv::cpu {
namespace {

std::size_t round_up(std::size_t n) { return (n + 63) / 64 * 64; }

class Depthwise final : public PassKernel {
 public:
  explicit Depthwise(const Request& r)
      : pass_(r.pass),
        operations_(flop(r.problem)),
        compute_size_(r.problem.dtype == DType::f64 ? 8 : 4),
        kernels_(&UPCONV_PER_ISA(depthwise_kernels)[static_cast<int>(r.problem.dtype)]) {
    const Geometry& g = r.geometry;
    const bool forward = pass_ == Pass::forward;
    const WeightStrides ws = weight_strides(r.problem, g);
    job_.batch = g.batch, job_.channels = g.groups, job_.w_channel = ws.ci;
    for (int d = 0; d < 3; ++d) {
      job_.source[d] = forward ? g.in[d] : g.out[d];
      job_.destination[d] = forward ? g.out[d] : g.in[d];
      job_.kernel[d] = g.kernel[d], job_.w_tap[d] = ws.tap[d];
      first_[d].push_back(0);
      if (forward) {
        job_.destination_step[d] = g.stride[d], job_.padding[d] = g.padding[d];
        for (const Phase& phase : make_phases(g, d)) {
          for (const PhaseTap& t : phase.taps) add(d, t.tap, -t.offset);
          first_[d].push_back(static_cast<std::int32_t>(taps_[d].size()));
        }
      } else {
        job_.source_step[d] = g.stride[d];
        for (std::int64_t t = 0; t < g.kernel[d]; ++t) add(d, t, g.dilation[d] * t - g.padding[d]);
        first_[d].push_back(static_cast<std::int32_t>(taps_[d].size()));
      }
      job_.taps[d] = taps_[d].data(), job_.first_tap[d] = first_[d].data();
    }
    job_.epilogue = flatten(r.epilogue);
    rows_ = g.batch * job_.destination[0] * job_.destination[1];
    if (pass_ == Pass::backward_weight) {
      const std::int64_t most = std::max<std::int64_t>(1, (4 << 20) / static_cast<std::int64_t>(packed_bytes()));
      job_.slots = std::clamp<std::int64_t>(rows_, 1, std::min<std::int64_t>(16, most));
    }
  }

  std::size_t workspace_bytes(int workers) const override {
    return pass_ == Pass::backward_weight
               ? static_cast<std::size_t>(job_.slots) * packed_bytes()
               : round_up(packed_bytes()) + static_cast<std::size_t>(workers) * scratch_bytes();
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    if (pass_ == Pass::backward_weight) {
      char* partial = static_cast<char*>(workspace);
      share_out(executor, job_.slots, operations_, [&](std::int64_t s, std::int64_t end, int) {
        for (; s < end; ++s)
          kernels_->weight_rows(job_, t.x, t.dy, partial + static_cast<std::size_t>(s) * packed_bytes(),
                                rows_ * s / job_.slots, rows_ * (s + 1) / job_.slots, nullptr);
      });
      kernels_->weight_reduce(job_, partial, t.dw);
      return;
    }
    const bool forward = pass_ == Pass::forward;
    char* scratch = static_cast<char*>(workspace) + round_up(packed_bytes());
    kernels_->pack(job_, t.w, workspace);
    share_out(executor, rows_, operations_, [&](std::int64_t i, std::int64_t end, int worker) {
      for (; i < end; ++i)
        kernels_->row(job_, forward ? t.x : t.dy, workspace, forward ? t.b : nullptr, forward ? t.y : t.dx, t.operands,
                      i, scratch + static_cast<std::size_t>(worker) * scratch_bytes());
    });
  }

  std::string detail() const override {
    return to_string(active_isa()) + ", vectors across " + std::to_string(job_.channels) + " channels, in place";
  }

 private:
  void add(int d, std::int64_t tap, std::int64_t shift) {
    taps_[d].push_back({static_cast<std::int32_t>(tap), static_cast<std::int32_t>(shift)});
  }
  std::size_t packed_bytes() const {
    return static_cast<std::size_t>(job_.kernel[0] * job_.kernel[1] * job_.kernel[2] * job_.channels) * compute_size_;
  }
  /// A line of channels and the terms of one position.
  std::size_t scratch_bytes() const {
    return round_up(static_cast<std::size_t>((job_.channels + 15) / 16 * 16) * compute_size_ +
                    static_cast<std::size_t>(job_.kernel[0] * job_.kernel[1] * job_.kernel[2]) * 16);
  }

  DepthwiseJob job_;
  std::vector<DepthwiseTap> taps_[3];
  std::vector<std::int32_t> first_[3];
  Pass pass_;
  std::int64_t rows_ = 0;
  double operations_;
  std::size_t compute_size_;
  const DepthwiseKernels* kernels_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_depthwise(const Request& r) {
  const Geometry& g = r.geometry;
  if (r.pass == Pass::backward_bias) return unsupported("no kernel for this pass");
  if (g.ci != 1 || g.co != 1)
    return unsupported(std::to_string(g.ci) + " -> " + std::to_string(g.co) +
                       " channels a group, but depthwise has 1 -> 1");
  if (r.problem.x_layout != Layout::channels_last || r.problem.y_layout != Layout::channels_last)
    return unsupported("needs x and y with the channels last");
  if (g.batch == 0) return unsupported("an empty batch: nothing to vectorise");
  for (int d = 0; d < 3; ++d)
    if (g.kernel[d] > 1 << 10 || g.stride[d] > 1 << 16 || g.dilation[d] > 1 << 16 || g.padding[d] > 1 << 28)
      return unsupported("kernel above 1024, or stride or dilation above 65536");
  if (!r.forced && g.groups < 8) return unsupported(std::to_string(g.groups) + " channels fill no vector");
  return std::unique_ptr<PassKernel>(new Depthwise(r));
}

}  // namespace upconv::cpu
