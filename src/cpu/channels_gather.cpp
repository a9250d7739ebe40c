// cpu_channels, forward and backward_input: decides the blocking of a problem and drives its tasks.
// The kernels are in channels_gather_kernels.cpp.
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
extern const cpu::GatherIsa gather_isa;
}
#if defined(__x86_64__)
namespace v3 {
extern const cpu::GatherIsa gather_isa;
}
namespace v4 {
extern const cpu::GatherIsa gather_isa;
}
#endif

namespace cpu {

const GatherIsa& gather_isa() {
#if defined(__x86_64__)
  if (active_isa() == Isa::v4) return v4::gather_isa;
  if (active_isa() == Isa::v3) return v3::gather_isa;
#endif
  return base::gather_isa;
}

TensorView view_of(DType dtype, Layout layout, std::int64_t channels, const std::array<std::int64_t, 3>& size) {
  const std::int64_t volume = size[0] * size[1] * size[2];
  if (layout == Layout::channels_last)
    return {dtype, volume * channels, 1, size[1] * size[2] * channels, size[2] * channels, channels};
  return {dtype, volume * channels, volume, size[1] * size[2], size[2], 1};
}

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
/// Floor of a / b for b > 0 and any a.
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// Sizes of the local tiles, in bytes. Measured in docs/measured.md.
constexpr std::int64_t source_tile_bytes = 2 << 20;
constexpr std::int64_t dest_tile_bytes = 128 << 10;
constexpr std::int64_t panel_bytes = 160 << 10;        // of a weight panel in the second-level cache
constexpr std::int64_t most_pack_blocks = 8;           // 1 KB of neighbouring weights, with AVX-512
constexpr std::int64_t enough_positions = 640;         // per tile, to pay for streaming the weights
constexpr std::int64_t piece_channels = 80;            // of the source at least, when tasks pack their own panels
constexpr std::int64_t piece_products = 320;           // of an element before its sum is stored
constexpr std::int64_t piece_bytes = 384 << 10;        // of those panels, in the second-level cache
constexpr std::int64_t piece_dest_bytes = 2 << 20;     // of what they add to
constexpr double cycles_to_copy = 1.5;                 // a source element, where a vector of products takes one
constexpr std::int64_t enough_tasks = 16;              // to keep a few cores busy to the end
constexpr std::size_t most_scratch_bytes = 128 << 20;  // of one worker

/// What the pass computes, apart from the request's dtype and epilogue: a transposed convolution and where its
/// tensors lie.
struct Operands {
  Geometry geometry;
  TensorView x, y;
  WeightStrides w;
};

Operands operands_of(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  return {g, view_of(p.dtype, p.x_layout, g.in_channels(), g.in), view_of(p.dtype, p.y_layout, g.out_channels(), g.out),
          weight_strides(p, g)};
}

/// The configuration and the arrays it points into.
class GatherPass final : public PassKernel {
 public:
  GatherPass(const Request& r, const Operands& o) : isa_(gather_isa()) {
    const bool forward = r.pass == Pass::forward;
    const Geometry& g = o.geometry;
    element_ = r.problem.dtype == DType::f64 ? 8 : 4;
    lanes_ = r.problem.dtype == DType::f64 ? isa_.vector_f64 : isa_.vector_f32;
    config_.source = forward ? o.x : o.y;
    config_.dest = forward ? o.y : o.x;
    config_.batch = g.batch;
    config_.groups = g.groups;
    config_.k = forward ? g.ci : g.co;
    config_.v = forward ? g.co : g.ci;
    const bool three = config_.v > 2 * lanes_ && config_.v <= 3 * lanes_;
    block_ = config_.block = (three ? 3 : isa_.block_n) * lanes_;
    config_.w_group = g.ci * o.w.ci;
    config_.w_k = forward ? o.w.ci : o.w.co;
    config_.w_v = forward ? o.w.co : o.w.ci;
    epilogue_ = flatten(r.epilogue);
    config_.epilogue = &epilogue_;
    for (int d = 0; d < 3; ++d) make_dim(g, forward, d);
    config_.taps = g.taps();
    config_.dense_taps = o.w.tap[2] == 1;
    choose_folding();
    choose_pieces();
    choose_borders();
    make_phases(o.w);
    for (int d = 0; d < 3; ++d) config_.dim[d].classes = classes_[d].data();
  }

  std::size_t workspace_bytes(int workers) const override {
    return panels_bytes() + static_cast<std::size_t>(workers) * scratch_bytes();
  }

  std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text,
                  "%s, register tile %dx%d, tile %lldx%lldx%lldx%lld, %lld channels a task, %lld at a time",
                  to_string(active_isa()).c_str(), isa_.block_m, int(block_), (long long)config_.tile_batch,
                  (long long)config_.dim[0].tile, (long long)config_.dim[1].tile, (long long)config_.dim[2].tile,
                  (long long)config_.v_split, (long long)config_.v_chunk);
    return text;
  }

  void run(const PassTensors& t, void* workspace, Executor& executor) const override {
    Job job;
    job.pass = this;
    job.config = config_for(executor.workers());
    const GatherConfig& config = job.config;
    const bool forward = t.y != nullptr;
    job.tensors = {forward ? t.x : t.dy, t.w, t.b, forward ? t.y : t.dx, t.operands};
    job.panels = workspace;
    job.scratch = static_cast<char*>(workspace) + panels_bytes();
    job.parts = config.groups * ceil_div(ceil_div(config.v, block_), config.pack_blocks);
    job.tasks = config.groups * config.batch_tiles * config.dim[0].tiles * config.dim[1].tiles * config.dim[2].tiles *
                config.v_tasks;
    if (job.tasks == 0) return;
    if (!config.pack_in_task)
      executor.run(static_cast<int>(std::min<std::int64_t>(executor.workers(), job.parts)), Job::pack, &job);
    job.next = 0;
    executor.run(static_cast<int>(std::min<std::int64_t>(executor.workers(), job.tasks)), Job::work, &job);
  }

 private:
  struct Job {
    const GatherPass* pass;
    GatherConfig config;
    GatherTensors tensors;
    void* panels;
    char* scratch;
    std::int64_t parts, tasks;
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> finite{true};

    static void pack(void* context, int) {
      Job& j = *static_cast<Job*>(context);
      for (std::int64_t i; (i = j.next.fetch_add(1)) < j.parts;)
        if (!j.pass->isa_.pack(j.config, j.tensors.w, j.panels, i)) j.finite = false;
    }
    static void work(void* context, int worker) {
      Job& j = *static_cast<Job*>(context);
      const bool exact = j.config.reads_zeros && !j.finite;
      char* scratch = j.scratch + static_cast<std::size_t>(worker) * j.pass->scratch_bytes();
      for (std::int64_t i; (i = j.next.fetch_add(1)) < j.tasks;)
        j.pass->isa_.run(j.config, j.tensors, j.panels, exact, scratch, i);
    }
  };

  /// The configuration for so many workers: tasks that pack their own panels each copy the source, so there are no more
  /// of them than the workers need. Sums do not depend on which task makes them.
  GatherConfig config_for(int workers) const {
    GatherConfig config = config_;
    if (!config.pack_in_task || workers <= 1) return config;
    const std::int64_t blocks = ceil_div(config.v, block_);
    double least = 0.0;
    for (std::int64_t splits = config_.v_tasks; splits <= std::min<std::int64_t>(blocks, 4 * workers); ++splits) {
      const std::int64_t v_split = ceil_div(blocks, splits) * block_, v_tasks = ceil_div(config.v, v_split);
      const double time = double(ceil_div(config.groups * v_tasks, workers)) *
                          (double(v_split * config.taps) / double(lanes_) + cycles_to_copy);
      if (least > 0.0 && time >= least) continue;
      least = time;
      config.v_split = config.v_chunk = v_split, config.v_tasks = v_tasks;
    }
    return config;
  }

  std::size_t panels_bytes() const {
    if (config_.pack_in_task) return 0;
    return static_cast<std::size_t>(
        round_up(config_.groups * config_.v_padded * config_.all_taps * config_.k * element_, 4096));
  }
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(round_up(
        (config_.source_elements + config_.dest_elements + 2 * config_.v_chunk + config_.panel_elements) * element_ +
            24 * config_.max_taps + 8 * config_.positions,
        4096));
  }

  void make_dim(const Geometry& g, bool forward, int d) {
    GatherDim& dim = config_.dim[d];
    auto& classes = classes_[d];
    auto& taps = taps_[d];
    std::vector<std::size_t> begins;
    dim.source_size = forward ? g.in[d] : g.out[d];
    dim.dest_size = forward ? g.out[d] : g.in[d];
    dim.step = forward ? 1 : g.stride[d];
    dim.spread = forward ? g.stride[d] : 1;
    dim.first_min = forward ? -g.padding[d] : 0;
    const auto add = [&](std::int64_t first, std::int64_t q_begin, std::int64_t q_end, std::vector<GatherTap> of) {
      std::sort(of.begin(), of.end(), [](const GatherTap& a, const GatherTap& b) { return a.shift < b.shift; });
      begins.push_back(taps.size());
      taps.insert(taps.end(), of.begin(), of.end());
      const auto n = static_cast<std::int64_t>(of.size());
      classes.push_back({first, q_begin, q_end, nullptr, n, nullptr, 0, {q_begin, q_end, 0, n}});
    };
    if (forward) {
      for (const Phase& phase : upconv::make_phases(g, d)) {
        std::vector<GatherTap> of;
        for (const PhaseTap& t : phase.taps) of.push_back({t.tap, -t.offset});
        add(phase.residue - g.padding[d], phase.q_begin, phase.q_end, std::move(of));
      }
    } else {
      std::vector<GatherTap> of;
      for (std::int64_t t = 0; t < g.kernel[d]; ++t) of.push_back({t, g.dilation[d] * t - g.padding[d]});
      add(0, 0, g.in[d], std::move(of));
    }
    for (std::size_t i = 0; i < classes.size(); ++i) classes[i].taps = taps.data() + begins[i];
    dim.n_classes = static_cast<std::int64_t>(classes.size());
    dim.q_min = classes[0].q_begin;
    dim.q_max = classes[0].q_end;
    for (const GatherClass& c : classes) {
      dim.q_min = std::min(dim.q_min, c.q_begin);
      dim.q_max = std::max(dim.q_max, c.q_end);
    }
    dim.shift_min = dim.shift_max = taps[0].shift;
    for (const GatherTap& t : taps) {
      dim.shift_min = std::min(dim.shift_min, t.shift);
      dim.shift_max = std::max(dim.shift_max, t.shift);
    }
    make_segments(d);
  }

  /// Cuts each class where the set of taps that read inside the source changes.
  void make_segments(int d) {
    const GatherDim& dim = config_.dim[d];
    std::vector<std::size_t> counts;
    for (const GatherClass& c : classes_[d]) {
      const auto inside = [&](std::int64_t q, std::int64_t t) {
        const std::int64_t at = dim.step * q + c.taps[t].shift;
        return at >= 0 && at < dim.source_size;
      };
      std::vector<std::int64_t> cuts = {c.q_begin, c.q_end};
      for (std::int64_t t = 0; t < c.n_taps; ++t) {
        const std::int64_t shift = c.taps[t].shift;
        cuts.push_back(
            std::clamp(-floor_div(shift, dim.step), c.q_begin, c.q_end));  // first q with step*q + shift >= 0
        cuts.push_back(std::clamp(-floor_div(shift - dim.source_size, dim.step), c.q_begin, c.q_end));
      }
      std::sort(cuts.begin(), cuts.end());
      cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
      counts.push_back(segments_[d].size());
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        std::int64_t t0 = 0, t1 = c.n_taps;
        while (t0 < t1 && !inside(cuts[i], t0)) ++t0;
        while (t1 > t0 && !inside(cuts[i], t1 - 1)) --t1;
        segments_[d].push_back({cuts[i], cuts[i + 1], t0, t1});
      }
    }
    counts.push_back(segments_[d].size());
    for (std::size_t i = 0; i < classes_[d].size(); ++i) {
      classes_[d][i].segments = segments_[d].data() + counts[i];
      classes_[d][i].n_segments = static_cast<std::int64_t>(counts[i + 1] - counts[i]);
    }
  }

  /// A border slice of a tile gets products of its own where it fills register tiles; otherwise it reads zeros.
  void choose_borders() {
    const std::int64_t positions = config_.tile_batch * config_.dim[0].tile * config_.dim[1].tile * config_.dim[2].tile;
    for (int d = 0; d < 3; ++d) {
      GatherDim& dim = config_.dim[d];
      dim.by_segments = positions / dim.tile >= isa_.block_m;
      for (const GatherClass& c : classes_[d]) {
        if (c.q_begin == c.q_end) continue;
        bool whole = c.n_taps > 0, empty = d == 2 && c.n_taps == 0;  // lines without taps are filled, not computed
        for (std::int64_t i = 0; i < c.n_segments; ++i) {
          whole &= c.segments[i].tap_begin == 0 && c.segments[i].tap_end == c.n_taps;
          if (c.n_taps > 0 && c.segments[i].tap_begin == c.segments[i].tap_end) {
            config_.holes_exact = true;
            config_.holes |= dim.by_segments;
          }
        }
        config_.reads_zeros |= !whole && c.n_taps > 0 && !dim.by_segments;
        config_.holes |= empty;
        config_.holes_exact |= empty;
      }
    }
  }

  /// With few channels, taps along w are folded into runs, which wants positions without gaps.
  void choose_folding() {
    bool consecutive = true;
    for (const GatherClass& c : classes_[2])
      for (std::int64_t t = 1; t < c.n_taps; ++t) consecutive &= c.taps[t].shift == c.taps[t - 1].shift + 1;
    config_.neighbours = consecutive && config_.dim[2].step == 1;
    config_.fold = consecutive && config_.k < 16;
  }

  /// A tile holds all source channels, and the weights of all are packed before the first task; or, where one tile of a
  /// piece of them at a time holds all positions, its task packs their weights when they are needed: each once, and
  /// none of them leaves the cache before it is used. The tasks' copies of the source must not be more than the weights
  /// that they save a way to memory and back.
  void choose_pieces() {
    config_.k_piece = config_.k;
    if (!config_.fold) {
      std::int64_t taps = 1;  // of the phase with the most: they and a piece make the sums of a register tile
      for (const auto& classes : classes_) {
        std::int64_t most = 1;
        for (const GatherClass& c : classes) most = std::max(most, c.n_taps);
        taps *= most;
      }
      const std::int64_t most = std::max(piece_products / taps, piece_channels);
      config_.k_piece = ceil_div(config_.k, ceil_div(config_.k, most));
      config_.pack_in_task = true;
      choose_tiles();
      const std::int64_t positions =
          config_.batch * config_.dim[0].source_size * config_.dim[1].source_size * config_.dim[2].source_size;
      if (one_tile() && config_.v_tasks * positions <= config_.v * config_.taps) return;
      config_.k_piece = config_.k;
      config_.pack_in_task = false;
    }
    choose_tiles();
    if (one_tile()) {
      config_.pack_in_task = true;
      choose_tiles();
    }
  }

  bool one_tile() const {
    return config_.batch_tiles <= 1 && config_.dim[0].tiles <= 1 && config_.dim[1].tiles <= 1 &&
           config_.dim[2].tiles <= 1;
  }

  /// Local tiles: full rows where they fit, then rows, planes and samples until there is enough work per tile.
  void choose_tiles() {
    config_.pitch = config_.fold ? config_.k_piece : round_up(config_.k_piece, 4);
    // Keep the positions of a register tile out of one cache set.
    if (!config_.fold && config_.dim[2].step * config_.pitch * element_ % 2048 == 0) config_.pitch += 64 / element_;
    const std::int64_t budget = std::max<std::int64_t>(source_tile_bytes / (config_.pitch * element_), 64);
    GatherDim *dd = &config_.dim[0], *dh = &config_.dim[1], *dw = &config_.dim[2];
    const auto source_of = [](const GatherDim& d, std::int64_t q) {
      return d.step * (q - 1) + d.shift_max - d.shift_min + 1;
    };
    const auto span = [](const GatherDim& d) { return std::max<std::int64_t>(d.q_max - d.q_min, 1); };
    dd->tile = dh->tile = 1;
    dw->tile = std::min<std::int64_t>(span(*dw), config_.k_piece < config_.k ? 2 * enough_positions : 192);
    while (dw->tile > 48 && source_of(*dw, dw->tile) * source_of(*dh, 1) * source_of(*dd, 1) > budget) dw->tile -= 6;
    dw->tile = ceil_div(span(*dw), ceil_div(span(*dw), dw->tile));
    // Grow H, then D, then the batch, while the source tile fits and work per tile is short.
    const auto grow = [&](GatherDim& d) {
      while (d.tile < span(d)) {
        const std::int64_t next = std::min(d.tile * 2, span(d)), old = d.tile;
        d.tile = next;
        const bool fits = source_of(*dw, dw->tile) * source_of(*dh, dh->tile) * source_of(*dd, dd->tile) <= budget &&
                          dw->tile * dh->tile * dd->tile <= 2 * enough_positions;
        const bool enough = config_.k_piece == config_.k && dw->tile * dh->tile * old >= enough_positions;
        if (!fits || enough) {
          d.tile = old;
          break;
        }
      }
      d.tile = ceil_div(span(d), ceil_div(span(d), d.tile));
    };
    grow(*dh);
    grow(*dd);
    std::int64_t source = 1, positions = 1, dest = 1;
    for (GatherDim& d : config_.dim) {
      d.tiles = ceil_div(d.q_max - d.q_min, d.tile);
      d.tile_source = source_of(d, d.tile);
      source *= d.tile_source;
      positions *= d.tile;
      dest *= d.tile * d.spread;
    }
    config_.tile_batch = std::clamp<std::int64_t>(std::min(budget / source, enough_positions / positions), 1,
                                                  std::max<std::int64_t>(config_.batch, 1));
    config_.batch_tiles = ceil_div(config_.batch, config_.tile_batch);
    config_.source_elements = round_up(config_.tile_batch * source * config_.pitch, 16);
    config_.positions = round_up(config_.tile_batch * positions, 16);
    choose_channels(config_.tile_batch * dest);
  }

  void choose_channels(std::int64_t dest_positions) {
    const std::int64_t blocks = ceil_div(config_.v, block_), tail = config_.v % block_;
    config_.v_padded = config_.v - tail + (tail == 0 ? 0 : tail <= lanes_ ? lanes_ : block_);
    std::int64_t tiles = config_.batch_tiles;
    for (const GatherDim& d : config_.dim) tiles *= d.tiles;
    // Channels are shared out between tasks only when there would be too few tasks for a few cores.
    const std::int64_t splits =
        std::clamp<std::int64_t>(ceil_div(enough_tasks, std::max<std::int64_t>(config_.groups * tiles, 1)), 1, blocks);
    config_.v_split = ceil_div(blocks, splits) * block_;
    if (config_.pack_in_task) {
      const std::int64_t fit = std::min(piece_bytes / (element_ * config_.taps * config_.k_piece),
                                        piece_dest_bytes / (element_ * dest_positions));
      config_.v_split = ceil_div(blocks, ceil_div(blocks, std::max<std::int64_t>(fit / block_, 1))) * block_;
    }
    config_.v_tasks = ceil_div(config_.v, config_.v_split);
    // What all tasks together read more of is what should still be in a cache when it is read again.
    config_.tiles_first = config_.v * config_.taps > config_.batch * config_.dim[0].source_size *
                                                         config_.dim[1].source_size * config_.dim[2].source_size;
    config_.pack_blocks = config_.w_v == 1 ? most_pack_blocks : 1;
    const std::int64_t fit = std::max<std::int64_t>(dest_tile_bytes / (element_ * dest_positions) / block_, 1) * block_;
    config_.v_chunk = config_.pack_in_task
                          ? config_.v_split
                          : round_up(ceil_div(config_.v_split, ceil_div(config_.v_split, fit)), block_);
    config_.panel_elements = config_.pack_in_task ? round_up(config_.taps * config_.k_piece * config_.v_chunk, 16) : 0;
    config_.dest_elements = round_up(dest_positions * config_.v_chunk, 16);
    config_.k_chunk = std::max<std::int64_t>(panel_bytes / (element_ * block_), 16);
  }

  void make_phases(const WeightStrides& ws) {
    const auto& dim = config_.dim;
    for (std::int64_t a = 0; a < dim[0].n_classes; ++a)
      for (std::int64_t b = 0; b < dim[1].n_classes; ++b)
        for (std::int64_t c = 0; c < dim[2].n_classes; ++c) {
          const GatherClass* cls[3] = {&classes_[0][a], &classes_[1][b], &classes_[2][c]};
          const std::int64_t n = cls[0]->n_taps * cls[1]->n_taps * cls[2]->n_taps;
          if (n == 0) continue;
          for (std::int64_t i = 0; i < n; ++i) {
            const GatherTap* t[3] = {cls[0]->taps + i / (cls[1]->n_taps * cls[2]->n_taps),
                                     cls[1]->taps + i / cls[2]->n_taps % cls[1]->n_taps,
                                     cls[2]->taps + i % cls[2]->n_taps};
            std::int64_t at = 0, weight = 0;
            for (int d = 0; d < 3; ++d) {
              at = at * dim[d].tile_source + t[d]->shift - dim[d].shift_min;
              weight += t[d]->tap * ws.tap[d];
            }
            sources_.push_back(at * config_.pitch);
            weights_.push_back(weight);
          }
          phases_.push_back({{a, b, c}, n, config_.all_taps, nullptr, nullptr});
          config_.all_taps += n;
          config_.max_taps = std::max(config_.max_taps, n);
        }
    std::size_t tap = 0;
    for (GatherPhase& phase : phases_) {
      phase.tap_source = sources_.data() + tap;
      phase.tap_weight = weights_.data() + tap;
      tap += static_cast<std::size_t>(phase.n_taps);
    }
    config_.phases = phases_.data();
    config_.n_phases = static_cast<std::int64_t>(phases_.size());
  }

  const GatherIsa& isa_;
  GatherConfig config_{};
  std::int64_t element_ = 4, lanes_ = 8, block_ = 16;
  std::vector<GatherClass> classes_[3];
  std::vector<GatherTap> taps_[3];
  std::vector<GatherSegment> segments_[3];
  std::vector<GatherPhase> phases_;
  std::vector<std::int64_t> sources_, weights_;
  EpilogueSteps epilogue_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_channels_gather(const Request& r) {
  if (r.pass != Pass::forward && r.pass != Pass::backward_input)
    return unsupported("computes forward and backward_input");
  auto pass = std::make_unique<GatherPass>(r, operands_of(r));
  if (pass->workspace_bytes(1) > pass->workspace_bytes(0) + most_scratch_bytes)
    return unsupported("a tile would take " + std::to_string(pass->workspace_bytes(1) >> 20) + " MB");
  return std::unique_ptr<PassKernel>(std::move(pass));
}

Result<std::unique_ptr<PassKernel>> make_residues(const Request& r) {
  const Geometry& g = r.geometry;
  const std::int64_t s = g.stride[2],
                     vector = r.problem.dtype == DType::f64 ? gather_isa().vector_f64 : gather_isa().vector_f32;
  if (r.pass != Pass::forward) return unsupported("computes forward");
  if (g.groups != 1 || g.co != 1)
    return unsupported(std::to_string(g.co * g.groups) + " output channels, but it wants one");
  if (r.problem.bias) return unsupported("adds no bias");
  if (r.epilogue.operands() > 0)
    return unsupported("its rows are not the tensor's, which operands of an epilogue need");
  const bool line = g.kernel[0] * g.kernel[1] * g.out[0] * g.out[1] == 1;
  if (!line || s < 2 * vector || g.kernel[2] % s != 0 || g.dilation[2] != 1 || g.padding[2] != 0 ||
      g.out[2] != s * (g.in[2] + g.kernel[2] / s - 1))
    return unsupported("needs one dimension, a stride of at least " + std::to_string(2 * vector) +
                       " that divides the kernel, and no padding, dilation or output_padding");
  // y[s*q + r] of one channel is y'[q] of channel r of s: a stride-1 problem with s output channels, channels last.
  // problem/residues_as_channels.hpp says why; here the geometry alone changes, so that any rank and few channels do.
  Operands o = operands_of(r);
  o.geometry.co = s;
  o.geometry.kernel[2] = g.kernel[2] / s;
  o.geometry.stride[2] = 1;
  o.geometry.out[2] = g.out[2] / s;
  o.y = {r.problem.dtype, g.out[2], 1, g.out[2], g.out[2], s};
  o.w.co = o.w.tap[2];
  o.w.tap[2] *= s;
  return std::unique_ptr<PassKernel>(new GatherPass(r, o));
}

}  // namespace cpu
}  // namespace upconv
