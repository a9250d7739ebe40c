// The candidate "cpu_positions": decides whether it is the right one, and runs its kernels over the workers.
// Tasks write disjoint parts of the result and do not depend on the number of workers, so neither do the bits.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/candidates.hpp"
#include "cpu/per_isa.hpp"
#include "cpu/positions_plan.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::PositionsKernels, positions_kernels)
UPCONV_DECLARE_PER_ISA(upconv::cpu::PositionsWeightKernels, positions_weight_kernels)

namespace upconv::cpu {
namespace {

std::size_t round_up(std::size_t n) { return (n + 63) / 64 * 64; }

/// Calls body(first, end, worker) over shares of [0, n), handed out as workers become free. Work too small for a
/// thread to be woken stays on this one.
template <class F>
void share_out(Executor& executor, std::int64_t n, double operations, F&& body) {
  const int workers = operations < 2e5 ? 1 : static_cast<int>(std::min<std::int64_t>(executor.workers(), n));
  if (workers <= 1) {
    if (n > 0) body(0, n, 0);
    return;
  }
  struct Shared {
    F& body;
    std::int64_t n, grain;
    std::atomic<std::int64_t> next{0};
  } shared{body, n, std::max<std::int64_t>(1, n / (workers * 8))};
  executor.run(workers, [](void* context, int worker) {
    Shared& s = *static_cast<Shared*>(context);
    for (;;) {
      const std::int64_t first = s.next.fetch_add(s.grain, std::memory_order_relaxed);
      if (first >= s.n) return;
      s.body(first, std::min(s.n, first + s.grain), worker);
    }
  }, &shared);
}

class Positions final : public PassKernel {
 public:
  explicit Positions(const Request& r)
      : forward_(r.pass == Pass::forward), operations_(flop(r.problem)),
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
    share_out(executor, job.groups * boxes_of(job), operations_,
              [&](std::int64_t i, std::int64_t end, int worker) {
                for (; i < end; ++i)
                  kernels_->run(job, forward_ ? t.x : t.dy, panels, finite, forward_ ? t.b : nullptr,
                                forward_ ? t.y : t.dx, i, scratch + static_cast<std::size_t>(worker) * scratch_bytes());
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
      : operations_(flop(r.problem)), kernels_(&UPCONV_PER_ISA(positions_weight_kernels)[static_cast<int>(r.problem.dtype)]) {
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
                for (; i < end; ++i) kernels_->run(job, t.x, t.dy, workspace, i, scratch + worker * tables_.scratch_bytes);
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
  const std::int64_t rows = r.pass == Pass::forward ? g.co : g.ci;
  if (!r.forced && rows > 8)
    return unsupported(std::to_string(rows) + " channels a group to compute fill the vectors of cpu_channels");
  if (r.pass == Pass::backward_weight) return std::unique_ptr<PassKernel>(new PositionsWeight(r));
  return std::unique_ptr<PassKernel>(new Positions(r));
}

}  // namespace upconv::cpu
