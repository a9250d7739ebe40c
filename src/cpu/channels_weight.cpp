// cpu_channels, backward_weight: decides the blocking of a problem and drives its tasks.
// The kernels are in channels_weight_kernels.cpp.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cpu/candidates.hpp"
#include "cpu/channels.hpp"
#include "cpu/isa.hpp"

namespace upconv {

namespace base {
extern const cpu::WeightIsa weight_isa;
}
#if defined(__x86_64__)
namespace v3 {
extern const cpu::WeightIsa weight_isa;
}
namespace v4 {
extern const cpu::WeightIsa weight_isa;
}
#endif

namespace cpu {

const WeightIsa& weight_isa() {
#if defined(__x86_64__)
  if (active_isa() == Isa::v4) return v4::weight_isa;
  if (active_isa() == Isa::v3) return v3::weight_isa;
#endif
  return base::weight_isa;
}

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

constexpr std::int64_t sums_bytes = 320 << 10;     // of a task, in the second-level cache
constexpr std::int64_t partials_bytes = 32 << 20;  // of all slots together, unless the weights alone are more
constexpr std::int64_t tile_bytes = 384 << 10;     // x and dy together
constexpr std::int64_t enough_positions = 192;     // per tile: two lines a position fill the first-level cache
constexpr std::int64_t enough_tasks = 16;
constexpr std::size_t most_scratch_bytes = 128 << 20;  // of one worker
constexpr std::int64_t most_taps = 128;  // per task: reduce_share() holds a block of channels of all of them

class WeightPass final : public PassKernel {
 public:
  explicit WeightPass(const Request& r) : isa_(weight_isa()) {
    const Geometry& g = r.geometry;
    const Problem& p = r.problem;
    element_ = p.dtype == DType::f64 ? 8 : 4;
    lanes_ = p.dtype == DType::f64 ? isa_.vector_f64 : isa_.vector_f32;
    c_.x = view_of(p.dtype, p.x_layout, g.in_channels(), g.in);
    c_.dy = view_of(p.dtype, p.y_layout, g.out_channels(), g.out);
    c_.batch = g.batch;
    c_.groups = g.groups;
    c_.ci = g.ci;
    c_.co = g.co;
    c_.x_is_a = fill(g.ci, g.co) >= fill(g.co, g.ci);
    c_.a = c_.x_is_a ? g.ci : g.co;
    c_.b = c_.x_is_a ? g.co : g.ci;
    const WeightStrides ws = weight_strides(p, g);
    c_.w_group = g.ci * ws.ci;
    c_.w_ci = ws.ci;
    c_.w_co = ws.co;
    for (int d = 0; d < 3; ++d) {
      c_.w_tap[d] = ws.tap[d];
      c_.dim[d] = {g.in[d], g.out[d], g.stride[d], g.dilation[d], g.padding[d], g.kernel[d], 1, 1, 1};
    }
    choose_ranges(g.taps());
    choose_tiles();
    choose_slots(g.taps());
  }

  std::size_t workspace_bytes(int workers) const override {
    return partials_size() + static_cast<std::size_t>(workers) * scratch_bytes();
  }

  std::string detail() const override {
    char text[240];
    std::snprintf(text, sizeof text,
                  "%s, %s in vectors, register tile %dx%d, tile %lldx%lldx%lldx%lld, %lldx%lld channels x %lld taps a "
                  "task, %lld slots",
                  to_string(active_isa()).c_str(), c_.x_is_a ? "dy" : "x", isa_.block_m, int(lanes_) * isa_.block_n,
                  (long long)c_.tile_batch, (long long)c_.dim[0].tile, (long long)c_.dim[1].tile,
                  (long long)c_.dim[2].tile, (long long)c_.a_range, (long long)c_.b_range, (long long)c_.tap_range,
                  (long long)c_.slots);
    return text;
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    Job job{this, &t, workspace, static_cast<char*>(workspace) + partials_size(), shares() * c_.slots, {}};
    const auto workers = [&](std::int64_t n) {
      return static_cast<int>(std::min<std::int64_t>(executor.workers(), n));
    };
    executor.run(workers(job.count), Job::work, &job);
    job.next = 0;
    job.count = shares();
    executor.run(workers(job.count), Job::reduce, &job);
  }

 private:
  struct Job {
    const WeightPass* pass;
    const PassTensors* t;
    void* partials;
    char* scratch;
    std::int64_t count;
    std::atomic<std::int64_t> next;

    static void work(void* context, int worker) {
      Job& j = *static_cast<Job*>(context);
      char* scratch = j.scratch + static_cast<std::size_t>(worker) * j.pass->scratch_bytes();
      for (std::int64_t i; (i = j.next.fetch_add(1)) < j.count;)
        j.pass->isa_.run(j.pass->c_, j.t->x, j.t->dy, j.partials, scratch, i);
    }
    static void reduce(void* context, int) {
      Job& j = *static_cast<Job*>(context);
      for (std::int64_t i; (i = j.next.fetch_add(1)) < j.count;)
        j.pass->isa_.reduce(j.pass->c_, j.partials, j.t->dw, i);
    }
  };

  std::int64_t shares() const { return c_.groups * c_.a_ranges * c_.b_ranges * c_.tap_ranges; }
  std::size_t partials_size() const {
    return static_cast<std::size_t>(round_up(shares() * c_.slots * c_.sum_elements * element_, 4096));
  }
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(round_up((c_.x_elements + c_.dy_elements) * element_ + 8 * c_.rows, 4096));
  }

  /// Share of the register tile's products that are wanted, with `a` channels broadcast and `b` in vectors.
  double fill(std::int64_t a, std::int64_t b) const {
    const double rows = double(a) / double(ceil_div(a, isa_.block_m) * isa_.block_m);
    return rows * double(b) / double(round_up(b, lanes_));
  }

  /// Channels and taps of a task: its sums stay in the second-level cache, and what it copies into tiles is little
  /// against its products.
  void choose_ranges(std::int64_t taps) {
    const WeightDim* d = c_.dim;
    const std::int64_t block = lanes_ * isa_.block_n;
    double best = 0;
    for (std::int64_t tap_range : {taps, d[1].kernel * d[2].kernel, d[2].kernel, std::int64_t{16}, std::int64_t{4}}) {
      if (tap_range > std::min<std::int64_t>(taps, most_taps)) continue;
      // dy positions copied for each x position: the phases that these taps meet.
      const bool plane = tap_range <= d[1].kernel * d[2].kernel, line = tap_range <= d[2].kernel;
      const double copied = double(std::min(d[0].stride, plane ? 1 : d[0].kernel)) *
                            double(std::min(d[1].stride, line ? 1 : d[1].kernel)) * double(d[2].stride);
      for (std::int64_t a = c_.a;; a = ceil_div(a, 2)) {
        for (std::int64_t b = c_.b;; b = round_up(ceil_div(b, 2), block)) {
          const double x = double(c_.x_is_a ? a : b), dy = double(c_.x_is_a ? b : a) * copied;
          // A copied element costs about as much as 8 products, lines of sums are read and written once a tile.
          const double cost = 1 + 8 * (x + dy) / (double(a) * double(b) * double(tap_range));
          const bool fits = a * round_up(b, lanes_) * tap_range * element_ <= sums_bytes;
          if (fits && (best == 0 || cost < best)) {
            best = cost;
            c_.a_range = a;
            c_.b_range = b;
            c_.tap_range = tap_range;
          }
          if (b <= 2 * block) break;
        }
        if (a <= 24) break;
      }
    }
    if (best == 0) {
      c_.a_range = std::min<std::int64_t>(c_.a, 24);
      c_.b_range = std::min(c_.b, 2 * block);
      c_.tap_range = std::min<std::int64_t>(taps, 4);
    }
    c_.a_ranges = ceil_div(c_.a, c_.a_range);
    c_.b_ranges = ceil_div(c_.b, c_.b_range);
    c_.tap_ranges = ceil_div(taps, c_.tap_range);
    c_.sum_elements = round_up(c_.a_range * round_up(c_.b_range, lanes_) * c_.tap_range, 16);
  }

  /// An odd number of cache lines between positions spreads them over all cache sets.
  std::int64_t pitch(std::int64_t channels) const {
    const std::int64_t line = 64 / element_, lines = ceil_div(round_up(channels, lanes_ * isa_.block_n), line);
    return (lines | 1) * line;
  }

  void choose_tiles() {
    c_.x_pitch = pitch(c_.x_is_a ? c_.a_range : c_.b_range);
    c_.dy_pitch = pitch(c_.x_is_a ? c_.b_range : c_.a_range);
    WeightDim *dd = &c_.dim[0], *dh = &c_.dim[1], *dw = &c_.dim[2];
    const auto out_of = [](const WeightDim& d, std::int64_t n) {
      return d.stride * (n - 1) + d.dilation * (d.kernel - 1) + 1;
    };
    const std::int64_t line = 64 / element_;
    c_.dy_step = dw->stride * c_.dy_pitch;
    if (c_.dy_step / line % 2 == 0) c_.dy_step += line;
    const auto bytes = [&] {
      return element_ * (c_.x_pitch * dd->tile * dh->tile * dw->tile +
                         c_.dy_pitch * out_of(*dd, dd->tile) * out_of(*dh, dh->tile) * out_of(*dw, dw->tile));
    };
    dw->tile = std::min(dw->in_size, enough_positions);
    while (dw->tile > 16 && bytes() > tile_bytes) dw->tile = ceil_div(dw->tile, 2);
    dw->tile = ceil_div(dw->in_size, ceil_div(dw->in_size, dw->tile));
    const auto grow = [&](WeightDim& d) {
      while (d.tile < d.in_size && dd->tile * dh->tile * dw->tile * 3 < enough_positions * 2) {
        const std::int64_t old = d.tile;
        d.tile = std::min(old * 2, d.in_size);
        if (bytes() > tile_bytes) {
          d.tile = old;
          break;
        }
      }
      d.tile = ceil_div(d.in_size, ceil_div(d.in_size, d.tile));
    };
    grow(*dh);
    grow(*dd);
    const std::int64_t one = bytes(), positions = dd->tile * dh->tile * dw->tile;
    c_.tile_batch = std::clamp<std::int64_t>(std::min(tile_bytes / one, enough_positions / positions), 1,
                                             std::max<std::int64_t>(c_.batch, 1));
    c_.batch_tiles = ceil_div(c_.batch, c_.tile_batch);
    c_.x_elements = c_.tile_batch * c_.x_pitch;
    c_.dy_elements = c_.tile_batch;
    c_.rows = c_.tile_batch * dd->tile * dh->tile;
    for (WeightDim& d : c_.dim) {
      d.tiles = ceil_div(d.in_size, d.tile);
      d.tile_out = out_of(d, d.tile);
      c_.x_elements *= d.tile;
      if (&d != dw) c_.dy_elements *= d.tile_out;
    }
    for (std::int64_t i = 0; i < dw->tile_out; ++i)
      offsets_.push_back(static_cast<std::int32_t>(i / dw->stride * c_.dy_step + i % dw->stride * c_.dy_pitch));
    c_.dy_offset = offsets_.data();
    c_.dy_line = ceil_div(dw->tile_out, dw->stride) * c_.dy_step;
    c_.dy_elements *= c_.dy_line;
    c_.x_elements = round_up(c_.x_elements, 16);
    c_.dy_elements = round_up(c_.dy_elements, 16);
    c_.rows = round_up(c_.rows, 16);
  }

  void choose_slots(std::int64_t) {
    const std::int64_t tiles = c_.batch_tiles * c_.dim[0].tiles * c_.dim[1].tiles * c_.dim[2].tiles;
    const std::int64_t one = shares() * c_.sum_elements * element_;
    c_.slots = std::clamp<std::int64_t>(std::min(ceil_div(enough_tasks, shares()), partials_bytes / one), 1,
                                        std::max<std::int64_t>(tiles, 1));
  }

  const WeightIsa& isa_;
  WeightConfig c_{};
  std::int64_t element_ = 4, lanes_ = 8;
  std::vector<std::int32_t> offsets_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_channels_weight(const Request& r) {
  if (r.pass != Pass::backward_weight) return unsupported("computes backward_weight");
  auto pass = std::make_unique<WeightPass>(r);
  if (pass->workspace_bytes(1) > pass->workspace_bytes(0) + most_scratch_bytes)
    return unsupported("a tile would take " + std::to_string(pass->workspace_bytes(1) >> 20) + " MB");
  return std::unique_ptr<PassKernel>(std::move(pass));
}

}  // namespace cpu
}  // namespace upconv
