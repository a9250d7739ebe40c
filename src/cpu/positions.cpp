// The candidate "cpu_positions": decides whether it is the right one, and runs its kernels over the workers.
// Tasks write disjoint parts of the result and do not depend on the number of workers, so neither do the bits.
#include <algorithm>

#include "cpu/candidates.hpp"
#include "cpu/long_taps.hpp"
#include "cpu/per_isa.hpp"
#include "cpu/positions_plan.hpp"
#include "cpu/share_out.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::PositionsKernels, positions_kernels)
UPCONV_DECLARE_PER_ISA(upconv::cpu::PositionsWeightKernels, positions_weight_kernels)
UPCONV_DECLARE_PER_ISA(upconv::cpu::LongTapsKernels, long_taps_kernels)

namespace upconv::cpu {
namespace {

std::size_t round_up(std::size_t n) { return (n + 63) / 64 * 64; }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class Positions final : public PassKernel {
 public:
  explicit Positions(const Request& r)
      : forward_(r.pass == Pass::forward),
        operations_(flop(r.problem)),
        kernels_(&UPCONV_PER_ISA(positions_kernels)[static_cast<int>(r.problem.dtype)]) {
    build_positions(r, tables_);
  }

  std::size_t workspace_bytes(int workers) const override {
    return panel_bytes() + flag_bytes() + static_cast<std::size_t>(workers) * scratch_bytes();
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    const PositionsJob& job = tables_.job;
    char* panels = static_cast<char*>(workspace);
    auto* finite = reinterpret_cast<unsigned char*>(panels + panel_bytes());
    char* scratch = panels + panel_bytes() + flag_bytes();
    const std::int64_t blocks = job.groups * job.blocks;
    share_out(executor, blocks, double(job.groups * job.panel) * 8.0, [&](std::int64_t i, std::int64_t end, int) {
      for (; i < end; ++i) finite[i] = kernels_->pack(job, t.w, panels, i / job.blocks, i % job.blocks);
    });
    share_out(executor, job.groups * boxes_of(job), operations_, [&](std::int64_t i, std::int64_t end, int worker) {
      for (; i < end; ++i)
        kernels_->run(job, forward_ ? t.x : t.dy, panels, finite, forward_ ? t.b : nullptr, forward_ ? t.y : t.dx,
                      t.operands, i, scratch + static_cast<std::size_t>(worker) * scratch_bytes());
    });
  }

  std::string detail() const override {
    const PositionsTile& t = tables_.job.tile;
    std::string s = to_string(active_isa()) + ", tile ";
    for (int i = 0; i < 4; ++i) s += (i ? "x" : "") + std::to_string(t.size[i]);
    return s + " of n, d, h, w, runs of " + std::to_string(t.run_length) + " positions, " +
           std::to_string(tables_.job.rows) + " rows in " + std::to_string(tables_.job.blocks) + " blocks, " +
           std::to_string(tables_.job.channel_block) + " source channels at a time";
  }

 private:
  std::size_t panel_bytes() const {
    return round_up(static_cast<std::size_t>(tables_.job.groups * tables_.job.panel * tables_.compute_size));
  }
  std::size_t flag_bytes() const { return round_up(static_cast<std::size_t>(tables_.job.groups * tables_.job.blocks)); }
  std::size_t scratch_bytes() const { return static_cast<std::size_t>(tables_.scratch_bytes); }

  bool forward_;
  double operations_;
  const PositionsKernels* kernels_;
  PositionsTables tables_;
};

class PositionsWeight final : public PassKernel {
 public:
  explicit PositionsWeight(const Request& r)
      : operations_(flop(r.problem)),
        kernels_(&UPCONV_PER_ISA(positions_weight_kernels)[static_cast<int>(r.problem.dtype)]) {
    build_positions(r, tables_);
  }

  std::size_t workspace_bytes(int workers) const override {
    return partial_bytes() + static_cast<std::size_t>(workers) * static_cast<std::size_t>(tables_.scratch_bytes);
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    const PositionsJob& job = tables_.job;
    char* scratch = static_cast<char*>(workspace) + partial_bytes();
    share_out(executor, job.groups * job.row_parts * job.slots, operations_,
              [&](std::int64_t i, std::int64_t end, int worker) {
                for (; i < end; ++i)
                  kernels_->run(job, t.x, t.dy, workspace, i, scratch + worker * tables_.scratch_bytes);
              });
    share_out(executor, job.groups * job.rows, double(partial_bytes()), [&](std::int64_t i, std::int64_t end, int) {
      for (; i < end; ++i) kernels_->reduce(job, workspace, t.dw, i);
    });
  }

  std::string detail() const override {
    const PositionsTile& t = tables_.job.tile;
    std::string s = to_string(active_isa()) + ", tile ";
    for (int i = 0; i < 4; ++i) s += (i ? "x" : "") + std::to_string(t.size[i]);
    return s + " of n, d, h, w, runs of " + std::to_string(t.run_length) + " positions, " +
           std::to_string(tables_.job.row_parts) + " parts of a group's input channels, " +
           std::to_string(tables_.job.slots) + " partial sums";
  }

 private:
  std::size_t partial_bytes() const {
    const PositionsJob& job = tables_.job;
    return round_up(static_cast<std::size_t>(job.slots * job.groups * job.rows * job.source.channels * job.steps *
                                             tables_.compute_size));
  }

  double operations_;
  const PositionsWeightKernels* kernels_;
  PositionsTables tables_;
};

/// dw and dx with the taps in the vectors, for one-dimensional layers with long kernels.
class LongTaps final : public PassKernel {
 public:
  static bool takes(const Request& r) {
    const Geometry& g = r.geometry;
    if (r.pass == Pass::forward) return false;
    if (r.pass == Pass::backward_input && (r.problem.w_layout != Layout::channels_first ||
                                           (r.problem.dtype != DType::f32 && r.problem.dtype != DType::f64)))
      return false;
    return g.in[0] * g.in[1] * g.out[0] * g.out[1] * g.kernel[0] * g.kernel[1] == 1 && g.dilation[2] == 1 &&
           g.kernel[2] >= 64 && r.problem.x_layout == Layout::channels_first &&
           r.problem.y_layout == Layout::channels_first;
  }
  explicit LongTaps(const Request& r)
      : weight_(r.pass == Pass::backward_weight),
        operations_(flop(r.problem)),
        compute_size_(r.problem.dtype == DType::f64 ? 8 : 4),
        kernels_(&UPCONV_PER_ISA(long_taps_kernels)[static_cast<int>(r.problem.dtype)]) {
    const Geometry& g = r.geometry;
    const WeightStrides ws = weight_strides(r.problem, g);
    job_.batch = g.batch, job_.groups = g.groups, job_.ci = g.ci, job_.co = g.co, job_.in = g.in[2];
    job_.out = g.out[2], job_.kernel = g.kernel[2], job_.stride = g.stride[2], job_.padding = g.padding[2];
    job_.w_group = g.ci * ws.ci, job_.w_ci = ws.ci, job_.w_co = ws.co, job_.w_tap = ws.tap[2];
    job_.width = kernels_->width;
    job_.parts = ceil_div(job_.ci, long_taps_dw_channels);
    job_.channels = ceil_div(ceil_div(job_.ci, job_.parts), 4) * 4;
    job_.parts = ceil_div(job_.ci, job_.channels);
    job_.blocks = ceil_div(job_.kernel, job_.width);
    job_.ranges = ceil_div(job_.blocks, long_taps_dw_blocks);
    job_.blocks_at_once = ceil_div(job_.blocks, job_.ranges);
    job_.ranges = ceil_div(job_.blocks, job_.blocks_at_once);
  }
  std::size_t workspace_bytes(int workers) const override {
    return weight_ ? static_cast<std::size_t>(workers) * scratch_bytes() : 0;
  }
  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    if (!weight_) {
      const std::int64_t parts = (job_.ci + long_taps_channels - 1) / long_taps_channels;
      share_out(executor, job_.batch * job_.groups * parts, operations_, [&](std::int64_t i, std::int64_t end, int) {
        for (; i < end; ++i) kernels_->run_dx(job_, t.dy, t.w, t.dx, i);
      });
      return;
    }
    share_out(executor, job_.groups * job_.co * job_.parts * job_.ranges, operations_,
              [&](std::int64_t i, std::int64_t end, int worker) {
                for (; i < end; ++i)
                  kernels_->run(job_, t.x, t.dy, t.dw, i,
                                static_cast<char*>(workspace) + static_cast<std::size_t>(worker) * scratch_bytes());
              });
  }
  std::string detail() const override {
    return to_string(active_isa()) + ", vectors across taps, " +
           (weight_ ? std::to_string(job_.channels) + " channels and " +
                          std::to_string(job_.blocks_at_once * job_.width) + " taps a task"
                    : std::to_string(long_taps_channels) + " channels a task");
  }

 private:
  std::size_t scratch_bytes() const {
    return round_up(static_cast<std::size_t>(kernels_->scratch_elements(job_)) * compute_size_);
  }
  LongTapsJob job_;
  bool weight_;
  double operations_;
  std::size_t compute_size_;
  const LongTapsKernels* kernels_;
};

/// Where vectors across positions beat vectors across channels (docs/measured-positions.md).
bool preferred(const Request& r) {
  const Geometry& g = r.geometry;
  switch (r.pass) {
    case Pass::forward:
      return g.co <= 8;
    case Pass::backward_input:
      return g.ci <= 8 || g.co < 8;
    default:
      return g.co <= 8 || (g.ci >= 4 && g.ci <= 8);
  }
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_positions(const Request& r) {
  const Geometry& g = r.geometry;
  if (r.pass == Pass::backward_bias) return unsupported("no kernel for this pass");
  if (g.batch == 0) return unsupported("an empty batch: nothing to vectorise");
  // The tables and the local tile grow with taps and with the dilated kernel: leave absurd sizes to the plain loops.
  std::int64_t reach = 1, taps = 1, phases = 1;
  for (int d = 0; d < 3; ++d) {
    if (g.kernel[d] > 1 << 16 || g.stride[d] > 1 << 16 || g.dilation[d] > 1 << 16)
      return unsupported("kernel, stride or dilation above 65536");
    const std::int64_t planes = r.pass == Pass::forward ? 1 : std::min(g.stride[d], g.kernel[d]);
    reach *= (g.dilation[d] * (g.kernel[d] - 1) / g.stride[d] + 2) * planes;
    taps *= g.kernel[d], phases *= g.stride[d];
    if (reach > 1 << 20 || taps > 1 << 22 || phases > 1 << 20)
      return unsupported("a tile's halo of " + std::to_string(reach) + " positions does not fit the cache");
  }
  if (!r.forced && !preferred(r))
    return unsupported(std::to_string(g.ci) + " -> " + std::to_string(g.co) +
                       " channels a group fill the vectors of cpu_channels");
  if (LongTaps::takes(r)) return std::unique_ptr<PassKernel>(new LongTaps(r));
  if (r.pass == Pass::backward_weight) return std::unique_ptr<PassKernel>(new PositionsWeight(r));
  return std::unique_ptr<PassKernel>(new Positions(r));
}

}  // namespace upconv::cpu
