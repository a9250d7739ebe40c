// The cost model behind cuda_weight_mma. See weight_mma_tile.hpp; what it predicted and what was measured is in
// docs/measured-cuda-weight.md.
#include "cuda/weight_mma_tile.hpp"

#include <algorithm>
#include <cmath>

namespace upconv::cuda {
namespace {

constexpr double clock_rate = launch::weight_mma_clock_rate;

/// Cycles of a multiprocessor that one m16n8k8 TF32 or m16n8k16 half product of `mma.sync` takes, all schedulers busy.
double cycles_per_mma(const CudaTarget& t) {
  const double peak = t.tf32_flops / (t.processors * clock_rate);  // per cycle and multiprocessor
  const double share = t.capability() >= 90 ? 0.85 : 1.0;          // of what wgmma reaches
  return 2048.0 / (peak * share);
}

/// The most lanes of eight (two channels, four columns) that meet in one bank group of a 16-byte load.
int bank_conflicts(const std::array<int, 4>& column_words, int pitch) {
  int worst = 0;
  std::array<int, 8> seen{};
  for (int row = 0; row < 2; ++row)
    for (const int words : column_words) worst = std::max(worst, ++seen[((words + row * pitch) / 4) % 8]);
  return worst;
}

struct Search {
  const WeightShape& shape;
  const CudaTarget& target;
  bool several = false;  ///< Keep others beside the best.
  std::optional<WeightTile> best;
  std::vector<WeightTile> found;     ///< With `several`: those not much slower than the best so far.
  std::array<WeightAxis, 3> axes{};  ///< Of the tap set being tried.
  int inner = 1;
  int most_in_plane = 1;  ///< Taps of the fullest plane of a row.

  void take_taps(const std::array<int, 3>& taps) {
    const Geometry& g = shape.geometry;
    for (int i = 0; i < 3; ++i) axes[i] = weight_axis(taps[i], int(g.stride[i]), int(g.dilation[i]));
    inner = weight_inner(g, taps[2]);
    if (inner > 1) axes[2] = weight_axis(taps[2], 1, int(g.dilation[2]));
    std::vector<int> count(axes[2].residues.size());
    for (const int plane : axes[2].plane) ++count[plane];
    most_in_plane = *std::max_element(count.begin(), count.end());
  }

  [[nodiscard]] int quad() const { return shape.element_bytes == 4 ? 4 : 8; }

  /// Registers of a thread, roughly: sums and the chains under way, the fragments of x and the window of dy.
  [[nodiscard]] int registers(const WeightTile& t) const {
    const WeightAxis& w = axes[2];
    const int chain = 4 * t.mt * t.nt * most_in_plane;
    const int sums = 4 * t.mt * t.nt * t.tap_count();
    const int a = 16 * t.mt * (shape.mode == WeightMode::ieee ? 3 : 2);
    const int window = ceil_div(inner * (quad() - 1) + 1 + *std::max_element(w.most.begin(), w.most.end()), quad());
    return sums + chain + a + 16 * t.nt * window + 40;
  }

  /// Fills what follows from the channels, taps and box. False where it does not fit.
  [[nodiscard]] bool lay_out(WeightTile& t) const {
    const Geometry& g = shape.geometry;
    const int most = *std::max_element(axes[2].most.begin(), axes[2].most.end());
    const int q = quad(), per_word = 4 / shape.element_bytes;
    const auto window = [&](int lead) { return ceil_div(inner * (q - 1) + 1 + lead + most, q); };
    t.planes = int(axes[2].residues.size());
    t.lead = 0, t.y_vector = 1, t.inner = inner;
    if (g.stride[2] == inner && !shape.y_last) {
      const bool split = t.taps[2] < g.kernel[2];
      for (const int v : {2, 16 / shape.element_bytes}) {
        if (split && g.dilation[2] * t.taps[2] % v != 0) continue;
        const int lead = int((v - g.padding[2] % v) % v);
        if (v > 2 && window(lead) > window(int((2 - g.padding[2] % 2) % 2))) continue;
        t.lead = lead, t.y_vector = v;
      }
    }
    t.window = window(t.lead);
    t.span = round_up(inner * (t.box[2] - 1) + 1 + most + t.lead, q);
    t.lines_d = lines_of(axes[0], t.box[0]), t.lines_h = lines_of(axes[1], t.box[1]);
    t.x_words = t.mb() * ((t.positions() / per_word + 15) / 32 * 32 + 16);
    int conflicts = 9;
    const int span = t.span;
    for (int wider = 0; wider <= 12; wider += 4) {
      const int row = t.planes * (span + wider * per_word) / per_word;  // words
      std::array<int, 4> columns{};
      for (int c = 0; c < 4; ++c) {
        const int qw = c % (t.box[2] / q), line = c / (t.box[2] / q);
        columns[c] = (line / t.box[1] * t.lines_h + line % t.box[1]) * row + qw * 4 * inner;
      }
      for (int pad = 0; pad < 32; pad += 4) {
        const int pitch = t.lines_d * t.lines_h * row + pad, found = bank_conflicts(columns, pitch);
        if (found < conflicts || (found == conflicts && pitch < t.y_pitch))
          conflicts = found, t.y_pitch = pitch, t.span = span + wider * per_word;
      }
    }
    const int room = target.shared_per_processor / t.occupancy - 1024;
    for (t.stages = 3; t.stages >= 2; --t.stages)
      if (t.shared_bytes() <= std::min(room, target.shared_per_block)) return true;
    return false;
  }

  /// Cycles a multiprocessor spends on one box.
  [[nodiscard]] double box_cycles(const WeightTile& t) const {
    const Geometry& g = shape.geometry;
    const bool half = shape.mode == WeightMode::half || shape.mode == WeightMode::bf16x3;
    const int products = shape.mode == WeightMode::tf32 || shape.mode == WeightMode::half ? 1 : 3;
    const double positions = t.positions(), taps = t.tap_count(), eb = shape.element_bytes;
    const double mmas = double(t.wm * t.mt) * (t.wn * t.nt) * taps * positions / (half ? 16 : 8) * products;
    const double steps = positions / (8.0 * quad());  // 16-byte loads of a lane
    const int rows = t.taps[0] * t.taps[1];
    const double loads = steps * (t.wm * t.wn) * (t.mt * 4 + rows * t.planes * t.window * t.nt * 2);
    // Copies, in instructions of a warp.
    const double y_words = double(t.nb()) * t.lines_d * t.lines_h * t.planes * (t.span - quad() / 2) * eb / 4;
    const double x_words = double(t.mb()) * positions * eb / 4;
    const auto at_once = [&](std::int64_t width, int most) {  // words; less than one where halves go singly
      const int elements = width % most == 0 ? most : width % 2 == 0 && most > 1 ? 2 : 1;
      return eb == 4 ? double(elements) : elements == 1 ? 1.0 / 6 : elements / 2.0;
    };
    const double x_copies = x_words / 32 / at_once(g.in[2], shape.x_last ? 1 : int(16 / eb));
    const double y_copies = y_words / 32 / at_once(g.out[2], t.y_vector);
    // Whole sectors of 32 bytes come from the L2, wanted or not.
    const double x_row = t.box[2] * eb, y_row = double(t.span) * std::min<std::int64_t>(g.stride[2] / inner, 8) * eb;
    const double x_waste = shape.x_last ? 4 / eb : std::max(1.0, 32.0 / x_row);
    const double y_waste = shape.y_last ? 4 / eb : (y_row + 24.0) / (double(t.planes) * t.span * eb);
    const double bytes = 4 * (x_words * x_waste + y_words * y_waste);
    // Fitted to 81 measured tiles of nine TF32 problems on an H200 (a tenth is the median error): the pipes add up, two
    // warps a scheduler overlap little.
    const double narrow = t.box[2] * eb < 32 ? 0.03 * bytes : 0.0;
    const double alone = t.stages == 2 ? 400.0 : 0.0;
    // Many rows of taps unroll into a long loop that spills: four of these measured 1.42 to 1.6 times the model.
    const double long_loop = rows >= 9 ? 1.45 : 1.0;
    return long_loop * (cycles_per_mma(target) * 1.1 * mmas + 0.8 * loads + 9.0 * x_copies + 10.5 * y_copies +
                        0.005 * bytes + narrow + alone + 300.0);
  }

  /// Whether what takes at least `seconds` need not be looked at.
  [[nodiscard]] bool hopeless(double seconds) const {
    return best && (several ? seconds > 1.5 * best->seconds : seconds >= best->seconds);
  }

  void consider(WeightTile t) {
    const Geometry& g = shape.geometry;
    t.tiles = g.groups * ceil_div<std::int64_t>(g.ci, t.mb()) * ceil_div<std::int64_t>(g.co, t.nb());
    for (int i = 0; i < 3; ++i) t.tiles *= ceil_div<std::int64_t>(g.kernel[i], t.taps[i]);
    t.boxes = g.batch;
    for (int i = 0; i < 3; ++i) t.boxes *= ceil_div<std::int64_t>(g.in[i], t.box[i]);
    const double cycles = box_cycles(t);
    const double bytes = double(shape.element_bytes) * g.batch *
                         (double(g.in_channels()) * g.in_volume() + double(g.out_channels()) * g.out_volume());
    if (hopeless(double(t.tiles) * double(t.boxes) * cycles / (target.processors * clock_rate))) return;
    t.cycles = cycles;
    const auto shares = launch::weight_mma_shares(weight_fixed(shape, t, target), t.boxes, bytes, target.processors);
    if (hopeless(shares.seconds)) return;
    t.splits = shares.splits, t.seconds = shares.seconds;
    if (several) found.push_back(t);
    if (!best || t.seconds < best->seconds) best = t;
  }

  void boxes(WeightTile t) {
    const Geometry& g = shape.geometry;
    // Before sm_90 the assembler needs more of them beside the sums.
    const int q = quad(), registers_needed = registers(t), most_registers = target.capability() >= 90 ? 240 : 200;
    // No box comes near the products alone.
    const bool half = shape.mode == WeightMode::half || shape.mode == WeightMode::bf16x3;
    double products = double(g.groups) * ceil_div<std::int64_t>(g.ci, t.mb()) * ceil_div<std::int64_t>(g.co, t.nb()) *
                      (t.mb() / 16) * (t.nb() / 8) * double(g.batch) * double(g.in_volume()) / (half ? 16 : 8) *
                      (shape.mode == WeightMode::tf32 || shape.mode == WeightMode::half ? 1 : 3);
    for (int i = 0; i < 3; ++i) products *= double(ceil_div<std::int64_t>(g.kernel[i], t.taps[i]) * t.taps[i]);
    if (hopeless(1.3 * products * cycles_per_mma(target) / (target.processors * clock_rate))) return;
    for (t.occupancy = 1; t.occupancy <= 2; ++t.occupancy) {
      if (registers_needed > (t.occupancy == 1 ? most_registers : 100)) continue;
      for (int bw = q; bw <= 512; bw *= 2) {
        if (bw > q && bw / 2 >= g.in[2]) break;
        for (int bh = 1; bh <= 32 && bw * bh <= 1024; bh *= 2) {
          if (bh > 1 && bh / 2 >= g.in[1]) break;
          for (int bd = 1; bd <= 32 && bw * bh * bd <= 1024; bd *= 2) {
            t.box = {bd, bh, bw};
            // A box may be larger than the tensor where a whole K step asks for it.
            if (bd > 1 && bd / 2 >= g.in[0] && bw * bh * bd > 8 * q * t.wk) break;
            if (bw * bh * bd % (8 * q * t.wk) != 0) continue;
            if (lay_out(t)) consider(t);
          }
        }
      }
    }
  }
};

}  // namespace

launch::WeightMmaFixed weight_fixed(const WeightShape& shape, const WeightTile& t, const CudaTarget& target) {
  const Geometry& g = shape.geometry;
  launch::WeightMmaFixed f;
  f.folded = shape.folded;
  f.x_last = shape.x_last, f.y_last = shape.y_last;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co, f.taps = g.taps();
  f.box_d = t.box[0], f.box_h = t.box[1], f.box_w = t.box[2];
  f.tiles = t.tiles, f.tile_words = std::int64_t(t.mb()) * t.nb() * t.tap_count();
  f.element_bytes = shape.element_bytes, f.x_vector = 16 / shape.element_bytes, f.y_vector = t.y_vector;
  f.occupancy = t.occupancy, f.shared_bytes = t.shared_bytes();
  f.sum_slices = sum_slices(t.splits), f.sum_vector = sum_vector(f.dw_size(), f.sum_slices);
  f.box_cycles = t.cycles, f.bytes_per_second = target.bytes_per_second;
  return f;
}

int weight_inner(const Geometry& g, int taps) {
  const int stride = int(g.stride[2]);
  if (stride > 3) return 1;  // 4 was measured slower: five 16-byte loads a window, two lanes a bank
  return int(weight_axis(taps, stride, int(g.dilation[2])).residues.size()) == stride ? stride : 1;
}

int WeightTile::shared_bytes() const { return std::max(stages * stage_bytes(), 4 * mb() * nb() * tap_count()); }

std::vector<WeightTile> weight_tiles(const WeightShape& shape, const CudaTarget& target, int count) {
  const Geometry& g = shape.geometry;
  Search search{shape, target, count > 1, {}, {}};
  for (const int d : tap_sets(int(g.kernel[0])))
    for (const int h : tap_sets(int(g.kernel[1])))
      for (const int w : tap_sets(int(g.kernel[2]))) {
        if (d * h * w > 48) continue;
        // A set of taps that uses fewer residues of W reads every sector of dy for part of its elements: measured twice
        // as slow as the model says.
        if (weight_axis(w, int(g.stride[2]), int(g.dilation[2])).residues.size() !=
            weight_axis(int(g.kernel[2]), int(g.stride[2]), int(g.dilation[2])).residues.size())
          continue;
        search.take_taps({d, h, w});
        for (int mt = 1; mt <= 4; ++mt)
          for (int nt = 1; nt <= 4; ++nt) {
            if (mt * nt * d * h * w > 48) continue;
            for (int wm = 1; wm <= 8; wm *= 2)
              for (int wn = 1; wm * wn <= 8; wn *= 2) {
                WeightTile t;
                t.mt = mt, t.nt = nt, t.wm = wm, t.wn = wn, t.wk = 8 / (wm * wn), t.taps = {d, h, w};
                if (t.mb() - 16 >= g.ci && t.mb() > 16) continue;
                if (t.nb() - 8 >= g.co && t.nb() > 8) continue;
                search.boxes(t);
              }
          }
      }
  if (!search.best) return {};
  if (count <= 1) return {*search.best};
  auto& found = search.found;
  std::stable_sort(found.begin(), found.end(),
                   [](const WeightTile& a, const WeightTile& b) { return a.seconds < b.seconds; });
  if (found.size() > static_cast<std::size_t>(count)) found.resize(static_cast<std::size_t>(count));
  return found;
}

}  // namespace upconv::cuda
