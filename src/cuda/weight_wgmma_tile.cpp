// The cost model behind cuda_weight_wgmma. See weight_wgmma_tile.hpp; what it predicted and what was measured is in
// docs/measured-cuda-weight.md.
#include "cuda/weight_wgmma_tile.hpp"

#include <algorithm>
#include <cmath>

namespace upconv::cuda {
namespace {

constexpr int row_fragment = 64;

struct Search {
  const WeightShape& shape;
  const CudaTarget& target;
  std::size_t keep;
  std::vector<WgmmaWeightTile> best{};  ///< Ascending by time, at most `keep`.
  WeightAxis axis_d{}, axis_h{};        ///< Of the tap set being tried.

  [[nodiscard]] int quad() const { return 16 / shape.element_bytes; }
  [[nodiscard]] int step() const { return 2 * quad(); }
  [[nodiscard]] int rows(const WgmmaWeightTile& t) const { return row_fragment * t.fragments * t.warpgroups; }

  /// How often, on average, a load of A meets a bank: lanes of eight rows and four positions of a line.
  [[nodiscard]] double conflicts(const WgmmaWeightTile& t, int span, int channel) const {
    const Geometry& g = shape.geometry;
    const std::vector<int> lines = lines_of_taps(g, t.taps, t.box);
    const int count = t.co * t.tap_count(), per_word = 4 / shape.element_bytes;
    int loads = 0, times = 0;
    // The pattern of rows repeats from channel to channel but for the channel's own place.
    const int groups = std::min(ceil_div(count, 8), std::max(1, 4 * t.tap_count() / 8 + 1));
    for (int group = 0; group < groups; ++group) {
      std::array<std::vector<int>, 32> words;
      int worst = 1;
      for (int r = group * 8; r < group * 8 + 8 && r < count; ++r) {
        const int tap = r % t.tap_count(), tw = tap % t.taps[2], line = lines[std::size_t(tap / t.taps[2])];
        for (int c = 0; c < 4; ++c) {
          const std::int64_t element = std::int64_t(r / t.tap_count()) * channel + line * span + t.lead +
                                       tw * g.dilation[2] + c * (shape.element_bytes == 4 ? 1 : 2) * g.stride[2];
          const int word = int(element / per_word);
          auto& bank = words[std::size_t(word % 32)];
          if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
          worst = std::max(worst, int(bank.size()));
        }
      }
      ++loads, times += worst;
    }
    return double(times) / loads;
  }

  /// The most stages that fit; 0 when two do not.
  [[nodiscard]] int stages_of(const WgmmaWeightTile& t) const {
    const int room = target.shared_per_block - 1536;  // barriers, and what brings the stages to multiples of 1024
    const int fit = room / stage_bytes(shape, t);
    return fit < 2 ? 0 : std::min(fit, 4);
  }

  /// Cycles a multiprocessor spends on one box: the longest of the products, what one warpgroup does to bring it and
  /// one to finish it, and its bytes; a part of the others. Fitted to 120 tiles of 20 TF32 problems timed in one run on
  /// an H200 (a tenth is the median error).
  [[nodiscard]] double box_cycles(const WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const double eb = shape.element_bytes, n = t.columns;
    const double fragments = double(t.warpgroups) * t.fragments * t.positions() / step();
    const double loads = eb == 4 ? 16 * t.conflicts + 3.5 + 0.35 * n : 32 * t.conflicts + 3.0 + 0.37 * n;
    const double products = 1.11 * fragments * std::max({n / 2, loads, 13.0});
    // A lane copies the same place of several channels: finding a place takes long, going to the next channel little.
    const auto copying = [&](int channels, double elements_of_channel, std::int64_t width, int most) {
      const int v = width % most == 0 ? most : width % 2 == 0 && most > 1 ? 2 : 1;
      const double spots = elements_of_channel / v;
      return std::ceil(spots / 128) * 700 + std::ceil(channels * spots / 128) * (v * eb >= 4 ? 25 : 80);
    };
    const double y_elements = double(t.lines_d) * t.lines_h * t.span_read;
    const bool bulk = !shape.x_last && g.in[2] * shape.element_bytes % 16 == 0 && t.box[2] * eb >= 32;
    const double bringing = 360 + copying(t.co, y_elements, g.out[2], shape.y_last ? 1 : t.y_vector) +
                            (bulk ? 0.0 : copying(t.columns, t.positions(), g.in[2], shape.x_last ? 1 : quad()));
    const double finishing = 100 + (eb == 4 && !bulk ? n * t.positions() / 4 / 128 * 11 : 0.0);
    const double row_x = shape.x_last ? eb : t.box[2] * eb, row_y = shape.y_last ? eb : t.span_read * eb;
    const double bytes = eb * (n * t.positions() * (1 + 77 / std::max(row_x, 32.0)) +
                               t.co * y_elements * (1 + 77 / std::max(row_y, 32.0)));
    const double brought = t.apart() ? std::max(bringing, finishing) : bringing + finishing;
    // All stages but the one that is multiplied are on their way at once, each for as long as memory takes to answer.
    const double moving = bytes / 29.7, waiting = (moving + 1600.0) / (t.stages - 1);
    const double longest = std::max({products, brought, moving, waiting});
    return longest + 0.225 * (products + brought + moving - std::min(longest, products + brought + moving));
  }

  void finish(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    t.tiles = g.groups * ceil_div<std::int64_t>(g.ci, t.columns) * ceil_div<std::int64_t>(g.co, t.co);
    for (int i = 0; i < 3; ++i) t.tiles *= ceil_div<std::int64_t>(g.kernel[std::size_t(i)], t.taps[std::size_t(i)]);
    t.boxes = g.batch;
    for (int i = 0; i < 3; ++i) t.boxes *= ceil_div<std::int64_t>(g.in[std::size_t(i)], t.box[std::size_t(i)]);
    t.cycles = box_cycles(t);
    const double bytes =
        double(shape.element_bytes) * double(g.batch) *
        (double(g.in_channels()) * double(g.in_volume()) + double(g.out_channels()) * double(g.out_volume()));
    const auto shares = launch::weight_mma_shares(weight_fixed(shape, t, target), t.boxes, bytes, target.processors);
    t.splits = shares.splits, t.seconds = shares.seconds;
  }

  void consider(WgmmaWeightTile t) {
    t.stages = stages_of(t);
    if (t.stages == 0) return;
    finish(t);
    const auto at = std::upper_bound(best.begin(), best.end(), t,
                                     [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    best.insert(at, t);
    if (best.size() > keep) best.pop_back();
  }

  void boxes(WgmmaWeightTile t) {
    const Geometry& g = shape.geometry;
    const int q = quad();
    t.lead = 0, t.y_vector = 1;
    if (!shape.y_last) {
      const bool split = t.taps[2] < g.kernel[2];
      for (const int v : {2, q}) {
        if (split && g.dilation[2] * t.taps[2] % v != 0) continue;
        // Whole sectors of 32 bytes where 16 bytes are copied at once: the L2 is asked for a sector by each copy of it.
        const int aligned =
            v == q && g.out[2] % (2 * q) == 0 && (!split || g.dilation[2] * t.taps[2] % (2 * q) == 0) ? 2 * q : v;
        t.lead = int((aligned - g.padding[2] % aligned) % aligned), t.y_vector = v;
      }
    }
    for (int bw = q; bw <= 128; bw *= 2) {
      if (bw > q && bw / 2 >= g.in[2]) break;
      for (int bh = 1; bh <= 16 && bw * bh <= 256; bh *= 2) {
        if (bh > 1 && bh / 2 >= g.in[1]) break;
        for (int bd = 1; bd <= 32 && bw * bh * bd <= 256; bd *= 2) {
          t.box = {bd, bh, bw};
          // Of fewer than four products a stage ptxas sees no pipeline (C7513). A box may be larger than the tensor
          // for their sake.
          const int products = t.positions() / step() * t.fragments;
          if (bd > 1 && bd / 2 >= g.in[0] && products / 2 >= 4) break;
          if (t.positions() % step() != 0 || products < 4 || products > 64) continue;
          t.lines_d = lines_of(axis_d, bd), t.lines_h = lines_of(axis_h, bh);
          t.span_read = t.span =
              round_up(int(g.stride[2]) * (bw - 1) + int(g.dilation[2]) * (t.taps[2] - 1) + 1 + t.lead, q);
          t.channel = t.lines_d * t.lines_h * t.span;
          consider(t);
        }
      }
    }
  }

  void take_taps(const std::array<int, 3>& taps) {
    const Geometry& g = shape.geometry;
    axis_d = weight_axis(taps[0], int(g.stride[0]), int(g.dilation[0]));
    axis_h = weight_axis(taps[1], int(g.stride[1]), int(g.dilation[1]));
    WgmmaWeightTile t;
    t.taps = taps;
    // ptxas compiles no wider product for the 128 registers that 512 threads begin with.
    const int least_parts = int(ceil_div<std::int64_t>(g.ci, 192));
    for (int parts = least_parts; parts <= least_parts + 2; ++parts) {
      const int columns = round_up(int(ceil_div<std::int64_t>(g.ci, parts)), 8);
      if (parts > least_parts && columns == t.columns) continue;
      t.columns = columns;
      for (t.warpgroups = 2; t.warpgroups <= 3; ++t.warpgroups)
        for (t.fragments = 1; t.fragments <= 8; ++t.fragments) {
          // Beside three warpgroups there are no registers for the places of more rows.
          if (t.fragments * t.columns / 2 > (t.apart() ? 128 : 96) || (!t.apart() && t.fragments > 3)) break;
          if (t.tap_count() > rows(t)) continue;
          const int most = int(std::min<std::int64_t>(g.co, rows(t) / t.tap_count()));
          t.co = int(ceil_div<std::int64_t>(g.co, ceil_div<std::int64_t>(g.co, most)));
          if (t.co * t.tap_count() <= rows(t) - row_fragment * t.warpgroups) break;  // fewer fragments do
          if (shape.y_last && t.co % 8 != 0) continue;  // eight lanes copy eight channels of a place
          boxes(t);
        }
    }
  }

  /// Widens lines and channels of dy's tile where that spares lanes from meeting in a bank.
  void spread(WgmmaWeightTile& t) const {
    WgmmaWeightTile chosen = t;
    bool any = false;
    for (int wider = 0; wider < 32; wider += quad())
      for (int apart = 0; apart < 32; apart += quad()) {
        if (wider > 0 && t.lines_d * t.lines_h == 1) continue;
        WgmmaWeightTile u = t;
        u.span = t.span + wider, u.channel = t.lines_d * t.lines_h * u.span + apart;
        u.stages = stages_of(u);
        if (u.stages == 0) continue;
        u.conflicts = conflicts(u, u.span, u.channel);
        finish(u);
        if (any && u.seconds >= chosen.seconds) continue;
        chosen = u, any = true;
      }
    t = chosen;
  }
};

}  // namespace

int row_bytes(const WeightShape& shape, const WgmmaWeightTile& t) {
  const int line = t.box[2] * shape.element_bytes;
  return line < 32 ? 128 : std::min(line, 128);
}

int stage_bytes(const WeightShape& shape, const WgmmaWeightTile& t) {
  return round_up(round_up(t.positions() * shape.element_bytes, row_bytes(shape, t)) * t.columns, 1024) +
         round_up(t.co * t.channel * shape.element_bytes, 1024);
}

launch::WeightWgmmaFixed weight_fixed(const WeightShape& shape, const WgmmaWeightTile& t, const CudaTarget& target) {
  const Geometry& g = shape.geometry;
  launch::WeightWgmmaFixed f;
  f.folded = shape.folded;
  f.x_last = shape.x_last, f.y_last = shape.y_last;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co, f.taps = g.taps();
  f.box_d = t.box[0], f.box_h = t.box[1], f.box_w = t.box[2];
  f.tiles = t.tiles, f.tile_words = std::int64_t(t.co) * t.tap_count() * t.columns;
  f.element_bytes = shape.element_bytes, f.y_vector = t.y_vector;
  f.shared_bytes = t.stages * stage_bytes(shape, t) + 1024, f.threads = t.threads();
  // 512 products of 8 positions lose 2^-25 each at most; what 16 bits hold is coarser than any chain's loss.
  f.longest_chain = shape.element_bytes == 4 ? 4096 : 0;
  const int row = row_bytes(shape, t) / shape.element_bytes;
  f.columns = t.columns, f.row_positions = t.box[2] % row == 0 ? row : 0;
  f.map_element = int(shape.element_bytes == 4 ? launch::MapElement::tf32 : launch::MapElement::u16);
  f.sum_slices = sum_slices(t.splits);
  f.box_cycles = t.cycles, f.bytes_per_second = target.bytes_per_second, f.unhidden = 0.2;
  return f;
}

std::vector<WgmmaWeightTile> wgmma_weight_tiles(const WeightShape& shape, const CudaTarget& target, int count) {
  const Geometry& g = shape.geometry;
  Search search{shape, target, static_cast<std::size_t>(std::max(count, 6))};
  for (const int d : tap_sets(int(g.kernel[0])))
    for (const int h : tap_sets(int(g.kernel[1])))
      for (const int w : tap_sets(int(g.kernel[2]))) search.take_taps({d, h, w});
  for (WgmmaWeightTile& t : search.best) search.spread(t);
  auto& found = search.best;
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
  if (found.size() > static_cast<std::size_t>(count)) found.resize(static_cast<std::size_t>(count));
  return found;
}

}  // namespace upconv::cuda
