// The cost model behind cuda_input_wgmma. See input_wgmma_tile.hpp.
#include "cuda/input_wgmma_tile.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace upconv::cuda {
namespace {

struct Search {
  const WeightShape& shape;
  const CudaTarget& target;
  std::size_t keep;
  std::array<int, 3> taps;
  WeightAxis axis_d, axis_h;
  std::vector<InputTile> best{};  ///< Ascending by time, at most `keep`.
  /// Of a box: elements between lines and between channels beyond what is read, and the loads a bank.
  struct Room {
    int line, channel;
    double conflicts;
  };
  std::map<std::array<int, 3>, Room> rooms{};

  [[nodiscard]] int quad() const { return 16 / shape.element_bytes; }
  [[nodiscard]] int tap_count() const { return taps[0] * taps[1] * taps[2]; }

  /// Whether two pairs are one word of dy: `words` of kernels/input_wgmma/shape.cuh.
  [[nodiscard]] bool words() const {
    const Geometry& g = shape.geometry;
    return shape.element_bytes == 2 && taps[2] % 2 == 0 && g.dilation[2] == 1 && g.stride[2] % 2 == 0 &&
           g.padding[2] % 2 == 0;
  }

  /// How often, on average, a load of A meets a bank: lanes of eight positions of a line and four pairs.
  [[nodiscard]] double conflicts(const InputTile& t) const {
    const Geometry& g = shape.geometry;
    const std::vector<int> lines = lines_of_taps(g, taps, t.box);
    const int per_word = 4 / shape.element_bytes, apart = shape.element_bytes == 4 ? 1 : 2;
    int loads = 0, times = 0;
    for (int first = 0; first < std::min(tap_count() * 4, 64); first += 4) {
      std::array<std::vector<std::int64_t>, 32> words;
      int worst = 1;
      for (int r = 0; r < 8; ++r)
        for (int c = 0; c < 4; ++c) {
          const int pair = first + c * apart, tap = pair % tap_count(), at = r % t.positions();
          const std::int64_t line = at / t.box[2] % t.box[1] + std::int64_t(at / t.box[2] / t.box[1]) * lines_h(t);
          const std::int64_t element = std::int64_t(pair / tap_count()) * t.channel +
                                       (line + lines[std::size_t(tap / taps[2])]) * t.span +
                                       at % t.box[2] * g.stride[2] + std::int64_t(tap % taps[2]) * g.dilation[2];
          const std::int64_t word = element / per_word;
          auto& bank = words[std::size_t(word % 32)];
          if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
          worst = std::max(worst, int(bank.size()));
        }
      ++loads, times += worst;
    }
    return double(times) / loads;
  }
  /// Room between lines and channels with which loads meet few banks twice: the least of the best.
  void place(InputTile& t) {
    const int lines = lines_of(axis_d, t.box[0]) * lines_h(t), q = quad();
    auto found = rooms.find(t.box);
    if (found == rooms.end()) {
      Room best_room{0, 0, 1e9};
      for (int line = 0; line <= 3 * q; line += q)
        for (int channel = 0; channel <= 4 * q; channel += q) {
          t.span = t.span_read + line, t.channel = lines * t.span + channel;
          const double c = conflicts(t);
          if (c < best_room.conflicts - 0.01) best_room = {line, channel, c};
        }
      found = rooms.emplace(t.box, best_room).first;
    }
    t.span = t.span_read + found->second.line, t.channel = lines * t.span + found->second.channel;
    t.conflicts = found->second.conflicts;
  }
  /// Bytes that lie together of what a tile reads of dy.
  [[nodiscard]] double piece_bytes(const InputTile& t) const {
    const Geometry& g = shape.geometry;
    const std::int64_t row = std::min(g.stride[2] * t.box[2], g.out[2]),
                       rows = std::min(g.stride[1] * t.box[1], g.out[1]);
    const std::int64_t together = row < g.out[2] ? row : rows < g.out[1] ? row * rows : row * rows * t.channels;
    return double(together * shape.element_bytes);
  }
  [[nodiscard]] int lines_h(const InputTile& t) const { return lines_of(axis_h, t.box[1]); }

  [[nodiscard]] int lines(const InputTile& t) const { return t.channels * lines_of(axis_d, t.box[0]) * lines_h(t); }
  [[nodiscard]] bool by_lines(const InputTile& t) const {
    return t.line_copies && shape.geometry.out[2] * shape.element_bytes % 16 == 0;
  }

  /// Elements of dy that one copy takes.
  [[nodiscard]] int vector(const InputTile& t) const {
    int v = t.vector;
    while (shape.geometry.out[2] % v != 0) v /= 2;
    return v;
  }
  /// Cycles in which one warpgroup starts the copies of a stage: of whole lines, or of so many elements each (`Copier`
  /// of kernels/input_wgmma/lines.cuh: threads that share out a channel's evenly have least to work out).
  [[nodiscard]] double line_cycles(const InputTile& t) const { return 195 + 62 * std::ceil(double(lines(t)) / 4); }
  [[nodiscard]] double copy_cycles(const InputTile& t) const {
    const int v = vector(t), spots = lines(t) / t.channels * (t.span_read / v);
    const double items = std::ceil(double(t.channels) * spots / 128);
    const bool regular = (spots % 128 == 0 && spots <= 8 * 128) || 128 % spots == 0;
    return 262 + items * (v * shape.element_bytes < 4 ? 600
                          : regular                   ? 20
                          : items <= 8                ? 30
                          : t.phases == 1             ? 144
                                                      : 250);
  }

  /// Cycles a multiprocessor spends on one stage: the longest of its products, its loads, what one warpgroup does to
  /// bring it, and its bytes. Fitted to 476 runs of 72 layers, within a fifth (docs/measured-cuda-input.md).
  [[nodiscard]] double stage_cycles(const InputTile& t) const {
    const double eb = shape.element_bytes, n = t.columns;
    const double fragments = double(InputTile::warpgroups) * t.fragments * t.pairs / (2 * quad());
    const double loaded = eb == 4 || words() ? 16 : 32, reaches = t.phases == 1 ? 0.0 : 0.84 * loaded;
    const double loads = 1.25 * loaded * t.conflicts + reaches + 3.3 + 0.24 * n;
    const double products = fragments * std::max({n / 2, loads, 51.0});
    const double elements = double(lines(t)) * t.span_read;
    const double bringing = by_lines(t) ? line_cycles(t) : copy_cycles(t);
    const double bytes = eb * (n * t.pairs + elements * (1 + 77 / std::max(t.span_read * eb, 32.0)));
    const double moving = bytes / 50.0, longest = std::max({products, bringing, moving});
    const double hidden = t.stages == 2 ? 1.235 : t.stages == 3 ? 1.05 : 1.0;
    return hidden * (longest + 0.11 * (products + bringing + moving - longest));
  }

  void consider(InputTile t) {
    const Geometry& g = shape.geometry;
    const int fit =
        (target.shared_per_block - 2048 - InputTile::left_bytes - t.phases * t.pairs * 4) / stage_bytes(shape, t);
    if (fit < 2) return;
    t.stages = std::min(fit, 6);
    std::int64_t boxes = g.batch;
    for (std::size_t i = 0; i < 3; ++i) boxes *= ceil_div<std::int64_t>(g.in[i], t.box[i]);
    t.tiles = boxes * g.groups * ceil_div<std::int64_t>(g.ci, t.columns);
    t.line_copies = t.span_read * shape.element_bytes >= 256 && lines(t) <= 256 && line_cycles(t) < copy_cycles(t);
    const std::int64_t all_chunks = ceil_div<std::int64_t>(g.co * tap_count(), t.pairs);
    for (const int split : {1, 2, 4, 8}) {
      t.split = split;
      if (split > 1 && (t.tiles > target.clusters(split) || all_chunks < 3 * split ||
                        t.positions() * t.columns * 4 > t.stages * stage_bytes(shape, t)))
        break;
      const std::int64_t rounds = ceil_div<std::int64_t>(t.tiles, target.clusters(split));
      const double chunks = double(ceil_div<std::int64_t>(all_chunks, split));
      keep_best(t, double(rounds), chunks);
    }
  }

  void keep_best(InputTile t, double rounds, double chunks) {
    const Geometry& g = shape.geometry;
    // Through shared memory, or, where rows of dx do not allow it, an element a lane (10,000 clocks or more for 64 KB).
    const std::int64_t row = g.in[2] * shape.element_bytes;
    const double elements = double(t.positions()) * t.columns;
    const double storing = row % 16 == 0 ? elements * shape.element_bytes / 27.0
                           : row % 4 == 0 && shape.element_bytes == 2
                               ? elements * shape.element_bytes / (row % 8 == 0 ? 20.0 : 14.0)
                               : elements * (shape.element_bytes == 2 ? 0.35 : 4.0 / 27.0);
    const double leaving = 3300 + storing / t.split + (t.split > 1 ? 4100 + elements / 16.0 : 0.0);
    const double computing = (rounds * (chunks * stage_cycles(t) + leaving) + 6300) / 1.75e9;
    const double bytes =
        double(shape.element_bytes) * (double(g.batch) * (double(g.in_channels()) * double(g.in_volume()) +
                                                          double(g.out_channels()) * double(g.out_volume())) +
                                       double(g.in_channels()) * double(g.co) * tap_count());
    const double moving = bytes * (1 + 96.0 / piece_bytes(t)) / target.bytes_per_second;
    t.seconds = std::max(computing, moving) + 0.2 * std::min(computing, moving) + 4e-6;
    const auto at = std::upper_bound(best.begin(), best.end(), t,
                                     [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    best.insert(at, t);
    if (best.size() > keep) best.pop_back();
  }

  void boxes(InputTile t) {
    const Geometry& g = shape.geometry;
    const int q = quad(), rows = 64 * InputTile::warpgroups * t.fragments;
    t.vector = q;
    t.lead = int((q - g.padding[2] % q) % q);
    for (int bw = q; bw <= rows; bw *= 2) {
      if (bw > q && bw / 2 >= g.in[2]) break;
      t.box = {1, 1, bw};
      if (bw < rows && g.stride[2] * bw < g.out[2] && piece_bytes(t) < 128)
        continue;  // sam/up0 in bf16: 0.40 ms against 0.17
      for (int bh = 1; bw * bh <= rows; bh *= 2) {
        if (bh > 1 && bh / 2 >= g.in[1]) break;
        t.box = {rows / bw / bh, bh, bw};
        t.span_read = round_up(int(g.stride[2]) * (bw - 1) + int(g.dilation[2]) * (taps[2] - 1) + 1 + t.lead, q);
        place(t);
        consider(t);
      }
    }
  }

  void run() {
    const Geometry& g = shape.geometry;
    const int row = 128 / shape.element_bytes, least_parts = int(ceil_div<std::int64_t>(g.ci, 256));
    int before = 0;
    for (int parts = least_parts; parts == least_parts || ceil_div<std::int64_t>(g.ci, parts) >= 24;
         parts += parts < least_parts + 3 ? 1 : least_parts) {
      InputTile t;
      t.columns = round_up(int(ceil_div<std::int64_t>(g.ci, parts)), 8);
      if (t.columns == before) continue;
      before = t.columns;
      for (t.fragments = 1; t.fragments <= 4 && t.fragments * t.columns <= 256; t.fragments *= 2)
        for (t.pairs = row; t.pairs <= 2 * row; t.pairs *= 2) {
          if (t.pairs / (2 * quad()) * t.fragments < 4) continue;  // ptxas sees no pipeline (C7513)
          const int common = std::gcd(t.pairs, tap_count());
          t.phases = tap_count() / common;
          if (t.phases * t.pairs > 4096) continue;
          t.channels = 1;
          for (int phase = 0; phase < t.phases; ++phase)
            t.channels = std::max(t.channels, (phase * t.pairs % tap_count() + t.pairs - 1) / tap_count() + 1);
          boxes(t);
        }
    }
  }
};

}  // namespace

int stage_bytes(const WeightShape& shape, const InputTile& t) {
  return t.columns * t.pairs * shape.element_bytes + round_up(t.channels * t.channel * shape.element_bytes, 1024);
}

launch::InputWgmmaFixed input_fixed(const WeightShape& shape, const InputTile& t) {
  const Geometry& g = shape.geometry;
  launch::InputWgmmaFixed f;
  f.folded = shape.folded;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co, f.taps = g.taps();
  f.box_d = t.box[0], f.box_h = t.box[1], f.box_w = t.box[2];
  f.columns = t.columns, f.row_elements = 128 / shape.element_bytes;
  f.element_bytes = shape.element_bytes, f.vector = t.vector, f.split = t.split;
  f.shared_bytes = t.stages * stage_bytes(shape, t) + 1024 + InputTile::left_bytes, f.threads = InputTile::threads();
  f.map_element = int(shape.element_bytes == 4 ? launch::MapElement::tf32 : launch::MapElement::u16);
  return f;
}

std::vector<InputTile> input_tiles(const WeightShape& shape, const CudaTarget& target, int count) {
  const Geometry& g = shape.geometry;
  const std::array<int, 3> taps = {int(g.kernel[0]), int(g.kernel[1]), int(g.kernel[2])};
  Search search{shape,
                target,
                static_cast<std::size_t>(count),
                taps,
                weight_axis(taps[0], int(g.stride[0]), int(g.dilation[0])),
                weight_axis(taps[1], int(g.stride[1]), int(g.dilation[1]))};
  search.run();
  return search.best;
}

}  // namespace upconv::cuda
