// The candidate "cpu_weight_rows": dx of dense layers, with the weights used in the order in which they lie. Decides
// the blocking of a problem; the kernels are in weight_rows_kernels.cpp.
#include "cpu/weight_rows.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cpu/candidates.hpp"
#include "cpu/per_isa.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::WeightRowsKernels, weight_rows_kernels)

namespace upconv::cpu {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// Measured in docs/measured.md.
constexpr std::int64_t most_positions = 640;           // of a box: its weights are copied once for all of them
constexpr std::int64_t panel_bytes = 768 << 10;        // dy of a box, for the channels of a piece of k
constexpr std::int64_t most_rows_at_once = 260;        // 280 KB of weights
constexpr std::int64_t fewest_rows = 96;               // of a task: each task gathers dy anew
constexpr std::int64_t weights_per_position = 1000;    // from here on packing the weights costs more than this
constexpr double least_inside = 0.85;                  // of the products: those outside dy are multiplied with zeros
constexpr std::int64_t most_scratch_bytes = 64 << 20;  // of one worker

class WeightRows final : public PassKernel {
 public:
  explicit WeightRows(const Request& r) : kernels_(UPCONV_PER_ISA(weight_rows_kernels)[int(r.problem.dtype)]) {
    const Geometry& g = r.geometry;
    element_ = r.problem.dtype == DType::f64 ? 8 : 4;
    j_.dtype = r.problem.dtype;
    j_.batch = g.batch, j_.groups = g.groups, j_.ci = g.ci, j_.co = g.co;
    j_.taps = g.taps();
    for (int d = 0; d < 3; ++d) make_dim(g, d);
    const std::int64_t most_channels = std::max<std::int64_t>(kernels_.most_k / j_.taps, 1);
    j_.channels_at_once = ceil_div(g.co, ceil_div(g.co, most_channels));
    choose_box();
    choose_rows();
    make_taps(g);
  }

  std::size_t workspace_bytes(int workers) const override {
    return static_cast<std::size_t>(workers) * scratch_bytes();
  }

  std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text, "%s, register tile %dx%d, box %lldx%lldx%lldx%lld, %lld channels at once",
                  to_string(active_isa()).c_str(), kernels_.rows, kernels_.positions, (long long)j_.tile_batch,
                  (long long)j_.dim[0].tile, (long long)j_.dim[1].tile, (long long)j_.dim[2].tile,
                  (long long)j_.rows_at_once);
    return text;
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    Job job{this, job_for(executor.workers()), &t, static_cast<char*>(workspace), 0, {}};
    job.tasks = boxes() * job.of.row_tasks;
    if (job.tasks > 0)
      executor.run(static_cast<int>(std::min<std::int64_t>(executor.workers(), job.tasks)), Job::work, &job);
  }

  /// Positions that a whole box computes.
  std::int64_t box_positions() const { return j_.tile_batch * j_.dim[0].tile * j_.dim[1].tile * j_.dim[2].tile; }

 private:
  struct Job {
    const WeightRows* pass;
    WeightRowsJob of;
    const PassTensors* t;
    char* scratch;
    std::int64_t tasks;
    std::atomic<std::int64_t> next;

    static void work(void* context, int worker) {
      Job& j = *static_cast<Job*>(context);
      char* scratch = j.scratch + static_cast<std::size_t>(worker) * j.pass->scratch_bytes();
      for (std::int64_t i; (i = j.next.fetch_add(1)) < j.tasks;)
        j.pass->kernels_.run(j.of, j.t->dy, j.t->w, j.t->dx, scratch, i);
    }
  };

  std::int64_t boxes() const {
    return j_.groups * j_.batch_tiles * j_.dim[0].tiles * j_.dim[1].tiles * j_.dim[2].tiles;
  }
  std::size_t scratch_bytes() const { return static_cast<std::size_t>(round_up(kernels_.scratch_bytes(j_), 4096)); }

  void make_dim(const Geometry& g, int d) {
    WeightRowsDim& dim = j_.dim[d];
    dim.in = g.in[d], dim.out = g.out[d], dim.stride = g.stride[d];
    dim.tile = dim.tiles = 1;
    std::int64_t low = 0, high = 0;
    for (std::int64_t t = 0; t < g.kernel[d]; ++t) {
      const std::int64_t at = g.dilation[d] * t - g.padding[d], shift = floor_div(at, g.stride[d]);
      low = t == 0 ? shift : std::min(low, shift);
      high = t == 0 ? shift : std::max(high, shift);
      residues_[d].push_back(at - shift * g.stride[d]);
      j_.reads_zeros |= at < 0 || g.stride[d] * (g.in[d] - 1) + at >= g.out[d];
    }
    std::sort(residues_[d].begin(), residues_[d].end());
    residues_[d].erase(std::unique(residues_[d].begin(), residues_[d].end()), residues_[d].end());
    dim.residue = residues_[d].data();
    dim.residues = static_cast<std::int64_t>(residues_[d].size());
    dim.shift_min = low;
    dim.extent = high - low;  // of no positions; set_extents() adds the tile
    reach_[d] = high - low;
  }

  /// Elements of one channel's panel for the present box.
  std::int64_t panel_of_channel() const {
    std::int64_t elements = j_.tile_batch;
    for (int d = 0; d < 3; ++d) elements *= j_.dim[d].residues * (j_.dim[d].tile + reach_[d]);
    return elements;
  }

  /// Full lines where they fit, then lines, planes and samples until there are enough positions.
  void choose_box() {
    j_.tile_batch = 1;
    const auto grow = [&](std::int64_t& tile, std::int64_t all, std::int64_t unit) {
      const auto fits = [&](std::int64_t n) {
        const std::int64_t old = tile;
        tile = n;
        const bool ok =
            box_positions() <= most_positions && panel_of_channel() * j_.channels_at_once * element_ <= panel_bytes;
        if (!ok) tile = old;
        return ok;
      };
      std::int64_t pieces = ceil_div(std::max<std::int64_t>(all, 1), most_positions);
      all = std::max<std::int64_t>(all, 1);
      while (!fits(std::min(all, round_up(ceil_div(all, pieces), unit))) && pieces < all) pieces += 1 + pieces / 8;
    };
    grow(j_.dim[2].tile, j_.dim[2].in, kernels_.positions);
    if (j_.dim[2].tile == j_.dim[2].in) {
      grow(j_.dim[1].tile, j_.dim[1].in, 1);
      if (j_.dim[1].tile == j_.dim[1].in) {
        grow(j_.dim[0].tile, j_.dim[0].in, 1);
        if (j_.dim[0].tile == j_.dim[0].in) grow(j_.tile_batch, j_.batch, 1);
      }
    }
    j_.batch_tiles = ceil_div(j_.batch, j_.tile_batch);
    j_.sample_pitch = panel_of_channel() / j_.tile_batch;
    j_.channel_pitch = panel_of_channel();
    for (int d = 0; d < 3; ++d) {
      WeightRowsDim& dim = j_.dim[d];
      dim.tiles = ceil_div(dim.in, dim.tile);
      dim.extent = dim.tile + reach_[d];
    }
    j_.panel = round_up(j_.channel_pitch * j_.channels_at_once, 16);
    j_.offsets = round_up(box_positions(), 16);
  }

  /// A worker alone does all input channels of a box at once; more workers share them out (see job_for).
  void choose_rows() {
    j_.rows = j_.ci;
    const std::int64_t pieces = ceil_div(j_.rows, most_rows_at_once);
    j_.rows_at_once = round_up(ceil_div(j_.rows, pieces), kernels_.rows);
    j_.result = round_up(round_up(box_positions(), kernels_.positions) * j_.rows, 16);
  }

  /// The job for so many workers. Sums do not depend on which task makes them: results are the same for any number.
  WeightRowsJob job_for(int workers) const {
    WeightRowsJob j = j_;
    const std::int64_t most = std::max<std::int64_t>(j.ci / fewest_rows, 1);
    std::int64_t splits = 1;
    const auto enough = [&] {
      const std::int64_t tasks = boxes() * splits;
      return tasks >= 8 * workers || tasks % workers == 0;
    };
    while (splits < most && !enough()) ++splits;
    j.rows = round_up(ceil_div(j.ci, splits), kernels_.rows);
    j.row_tasks = ceil_div(j.ci, j.rows);
    return j;
  }

  void make_taps(const Geometry& g) {
    const auto place = [&](int d, std::int64_t at, std::int64_t& shift) {
      shift = floor_div(at, g.stride[d]);
      const auto& of = residues_[d];
      const std::int64_t r = std::lower_bound(of.begin(), of.end(), at - shift * g.stride[d]) - of.begin();
      shift -= j_.dim[d].shift_min;
      return r;
    };
    const std::int64_t part = j_.dim[0].extent * j_.dim[1].extent * j_.dim[2].extent;
    for (std::int64_t t = 0; t < j_.taps; ++t) {
      const std::int64_t tap[3] = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1], t % g.kernel[2]};
      WeightRowsTap entry{};
      std::int64_t residue = 0, shifted = 0;
      for (int d = 0; d < 3; ++d) {
        entry.coordinate[d] = g.dilation[d] * tap[d] - g.padding[d];
        std::int64_t shift;
        residue = residue * j_.dim[d].residues + place(d, entry.coordinate[d], shift);
        shifted = shifted * j_.dim[d].extent + shift;
      }
      entry.offset = static_cast<std::int32_t>(residue * part + shifted);
      taps_.push_back(entry);
    }
    j_.tap = taps_.data();
  }

  const WeightRowsKernels& kernels_;
  WeightRowsJob j_{};
  std::int64_t element_, reach_[3] = {};
  std::vector<std::int64_t> residues_[3];
  std::vector<WeightRowsTap> taps_;
};

/// Share of the products (position of dx, tap) that read inside dy.
double products_inside(const Geometry& g) {
  double share = 1;
  for (int d = 0; d < 3; ++d) {
    std::int64_t inside = 0;
    for (std::int64_t t = 0; t < g.kernel[d]; ++t) {
      const Range r = tap_inputs(g, d, t);
      inside += r.end - r.begin;
    }
    share *= double(inside) / double(std::max<std::int64_t>(g.kernel[d] * g.in[d], 1));
  }
  return share;
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_weight_rows(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  if (r.pass != Pass::backward_input) return unsupported("computes backward_input");
  const auto last = [](Layout l) { return l == Layout::channels_last; };
  if (last(p.x_layout) || last(p.y_layout) || last(p.w_layout))
    return unsupported("needs x, w and y with the channels first");
  auto pass = std::make_unique<WeightRows>(r);
  if (pass->workspace_bytes(1) > static_cast<std::size_t>(most_scratch_bytes))
    return unsupported("a box would take " + std::to_string(pass->workspace_bytes(1) >> 20) + " MB");
  if (r.forced) return std::unique_ptr<PassKernel>(std::move(pass));
  const std::int64_t positions = g.batch * g.in_volume(), weights = g.ci * g.co * g.taps();
  if (weights < weights_per_position * positions)
    return unsupported("faster from " + std::to_string(weights_per_position) + " weights a position on, here " +
                       std::to_string(weights / std::max<std::int64_t>(positions, 1)));
  if (g.ci < 128)
    return unsupported(std::to_string(g.ci) + " channels a group share what is gathered, but it wants 128");
  if (g.taps() < 2 * g.stride[0] * g.stride[1] * g.stride[2])
    return unsupported("an output meets fewer than two taps: nothing that was gathered is used twice");
  if (const double inside = products_inside(g); inside < least_inside)
    return unsupported(std::to_string(int(100 * inside)) + "% of the products lie inside, but it computes them all");
  return std::unique_ptr<PassKernel>(std::move(pass));
}

}  // namespace upconv::cpu
