// The cost model behind cuda_weight_wgmma. See weight_wgmma_tile.hpp; what it predicted and what was measured is in
// docs/measured-cuda-weight.md.
#include "cuda/weight_wgmma_tile.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace upconv::cuda {
namespace {

constexpr int row_fragment = 64;

/// Of x's tile.
int x_positions_of(const WeightShape& shape, const WgmmaWeightTile& t) {
  return t.box[0] * (t.box[1] + shape.late()) * t.box[2];
}

struct Search {
  const WeightShape& shape;
  const CudaTarget& target;
  std::size_t keep;
  std::vector<WgmmaWeightTile> best{};  ///< Ascending by time, at most `keep`.
  WeightAxis axis_d{}, axis_h{};        ///< Of the tap set being tried.

  [[nodiscard]] int quad() const { return 16 / shape.element_bytes; }
  [[nodiscard]] int step() const { return 2 * quad(); }
  [[nodiscard]] int rows(const WgmmaWeightTile& t) const { return row_fragment * t.fragments * t.warpgroups; }

  /// How often, on average, a load of A meets a bank: lanes of eight rows and four positions of a line; where rows are
  /// paired, of 16 rows, or half of the lanes with two words each. Lines are `span` wide, channels `apart` longer.
  [[nodiscard]] double conflicts(const WgmmaWeightTile& t, int span, int apart) const {
    const Geometry& g = shape.geometry;
    std::vector<int> lines =
        t.y_bulk ? lines_of_taps(whole_lines(g), t.taps, whole_box(g, t.box)) : lines_of_taps(g, t.taps, t.box);
    int pitch_d = t.lines_h * span, pitch_h = span, channel = t.lines_d * pitch_d + apart;
    if (t.y_pieces) {
      const YLines y = y_lines(shape, t, span, apart);
      pitch_d = y.pitch_d, pitch_h = y.pitch_h, channel = y.channel;
      const std::vector<int> places = y.places(t.lines_h);
      for (int& line : lines) line = places[std::size_t(line)];
    } else {
      for (int& line : lines) line *= span;
    }
    const auto place_of = [&](int position) {
      const int h = position / t.box[2] % t.box[1], d = position / (t.box[1] * t.box[2]);
      const int down_d = t.y_bulk ? d * int(g.stride[0]) : d, down_h = t.y_bulk ? h * int(g.stride[1]) : h;
      return down_d * pitch_d + down_h * pitch_h + position % t.box[2] * int(g.stride[2]);
    };
    const int count = t.co * t.tap_count(), per_word = 4 / shape.element_bytes;
    int loads = 0, times = 0;
    // The pattern of rows repeats from channel to channel but for the channel's own place.
    const int pairs = paired(shape, t), each = pairs > 0 ? 2 : 1, lanes = pairs == 1 ? 16 : 8;  // rows of a load
    const int groups = std::min(ceil_div(count, lanes), std::max(1, 4 * t.tap_count() / lanes + 1));
    for (int group = 0; group < groups; ++group) {
      std::array<std::vector<int>, 32> words;
      int worst = 1;
      for (int r = group * lanes; r < (group + 1) * lanes && r < count; r += each) {
        const int tap = r % t.tap_count(), tw = tap % t.taps[2], line = lines[std::size_t(tap / t.taps[2])];
        for (int c = 0; c < 4; ++c) {
          const std::int64_t element = std::int64_t(r / t.tap_count()) * channel + line + t.lead + tw * g.dilation[2] +
                                       place_of(c * (shape.element_bytes == 4 ? 1 : 2));
          for (int word = int(element / per_word), i = 0; i < std::max(pairs, 1); ++i, ++word) {
            auto& bank = words[std::size_t(word % 32)];
            if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
            worst = std::max(worst, int(bank.size()));
          }
        }
      }
      ++loads, times += worst;
    }
    return double(times) / loads;
  }

  /// The most stages that fit; 0 when two do not.
  [[nodiscard]] int stages_of(const WgmmaWeightTile& t) const {
    // Barriers, and what brings the stages to multiples of 1024; where dy comes in pieces, 16 bytes for each line.
    const int of_lines = t.y_pieces ? 16 * t.co * t.lines_d * t.lines_h : 0;
    if (of_lines > 40 << 10) return 0;  // of 48 KiB that are not asked for
    const int room = target.shared_per_block - 1536 - of_lines;
    const int fit = room / stage_bytes(shape, t);
    return fit < 2 ? 0 : std::min(fit, 4);
  }

  /// Boxes of a line.
  [[nodiscard]] std::int64_t line_boxes(const WgmmaWeightTile& t) const {
    return launch::boxes_of_line(weight_fixed(shape, t, target), shape.geometry.in[2]);
  }

  /// What part of the boxes reaches an edge of x or dy; these are searched for infinities.
  [[nodiscard]] double at_edges(const WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    double inside = 1.0;
    for (std::size_t i = 0; i < 3; ++i) {
      const std::int64_t box = t.box[i], s = g.stride[i], p = g.padding[i], last = g.dilation[i] * (g.kernel[i] - 1);
      const bool early = t.x_early && i == 2;
      const std::int64_t count = early ? line_boxes(t) : ceil_div<std::int64_t>(g.in[i], box);
      // b * box * s >= p; (b + 1) * box <= in; ((b + 1) * box - 1) * s - p + last < out. Before and beyond x products
      // do not matter where no tap lands in dy.
      const std::int64_t late = i == 1 ? shape.late() : 0;  // that x has not, at both ends
      const std::int64_t first = early && last - p >= s ? 1 : std::max(ceil_div(p, box * s), ceil_div(late, box));
      const std::int64_t top = (g.out[i] - 1 + p - last) / s + 1;
      const std::int64_t end = g.out[i] - 1 + p < last ? 0
                               : early && top >= g.in[i] && s * g.in[i] - p >= g.out[i]
                                   ? count
                                   : std::min(g.in[i] - late, top) / box;
      inside *= double(std::max<std::int64_t>(0, end - first)) / double(count);
    }
    return 1.0 - inside;
  }

  /// Cycles a multiprocessor spends on one box: the longest of the products, what one warpgroup does to bring it and
  /// one to finish it, and its bytes; a part of the others. Fitted to 120 tiles of 20 TF32 problems timed in one run on
  /// an H200 (a tenth is the median error).
  [[nodiscard]] double box_cycles(const WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const double eb = shape.element_bytes, n = t.columns;
    const double fragments = double(t.warpgroups) * t.fragments * t.positions() / step();
    const double all = n * shape.stacked;  // columns of a fragment
    const double loads =
        eb == 4 ? 16 * t.conflicts + 3.5 + 0.35 * all : (paired(shape, t) ? 16 : 32) * t.conflicts + 3.0 + 0.37 * all;
    // Several narrow products take longer than one as wide as all, and a box something by itself; three warpgroups
    // suffer from banks and from narrow products; lines that other blocks bring too, for other taps of D, come twice
    // (54 tiles of nine rows of level 1, within a seventh).
    const bool several = shape.stacked > 1;
    const double tensor = several ? shape.stacked * std::max(n / 2 + 2, 17.0) : std::max(n / 2, 13.0);
    const double suffers = !several || t.apart() ? 1.0 : (n <= 32 ? 1.12 : 1.0) * (1 + 0.4 * (t.conflicts - 1));
    const double again = several && t.taps[0] < g.kernel[0] ? 1.06 : 1.0;
    const double products = (several ? 1.0 : 1.11) * suffers * again * fragments * std::max(loads, tensor) +
                            (!several                ? 0.0
                             : eb == 4 && !t.apart() ? 450.0
                                                     : 200.0);
    const double x_positions = x_positions_of(shape, t);
    // A lane copies the same place of several channels: finding a place takes long, going to the next channel little.
    const auto copying = [&](int channels, double elements_of_channel, std::int64_t width, int most) {
      const int v = width % most == 0 ? most : most > 4 && width % 4 == 0 ? 4 : width % 2 == 0 && most > 1 ? 2 : 1;
      const double spots = elements_of_channel / v;
      return std::ceil(spots / 128) * 700 + std::ceil(channels * spots / 128) * (v * eb >= 4 ? 25 : 80);
    };
    const double y_elements = double(t.lines_d) * t.lines_h * t.span_read;
    // In pieces four lanes copy a line: some 30 instructions and one for each of their pieces, eight at its ends; of 5
    // clocks, or of 12 where the same warpgroup finishes stages (14 tiles of six rows of level 1, within a sixth).
    const auto piecemeal = [&] {
      const double of_line = double(g.out[2]) / double(g.stride[2] * t.box[2]), ends = std::min(1.0, 2.0 / of_line);
      return std::ceil(t.co * t.lines_d * t.lines_h / 32.0) * (t.apart() ? 5 : 12) *
             (30 + (1 + 7 * ends) * std::ceil(pieces_of(t) / 4.0));
    };
    const double x_copies = x_positions * eb / row_bytes(shape, t) + (t.x_shifted ? t.box[0] * t.box[1] : 0);
    const double bringing =
        360 +
        (t.y_bulk     ? 40.0
         : t.y_pieces ? piecemeal()
                      : copying(t.co, y_elements, g.out[2], shape.y_last ? 1 : t.y_vector)) +
        (t.x_bulk ? (t.x_shifted ? 40 + 10 * t.x_period : 0) * x_copies
                  : copying(t.columns, x_positions, g.in[2], shape.x_last ? 1 : std::min(quad(), t.box[2])));
    const double looked_at = (n * x_positions + t.co * y_elements) / quad() / 128;
    const double finishing =
        100 + (eb == 4 && !t.x_bulk ? n * x_positions / 4 / 128 * 11 : 0.0) +
        at_edges(t) * looked_at * (t.y_bulk ? 25 : 50) + (t.x_shifted ? n * t.positions() / quad() / 128 * 30 : 0.0) +
        // Both ends of a line are cleared, 16 bytes of a channel by a thread.
        (t.x_early ? 200.0 * t.box[0] * std::ceil(n / 128) * std::min(1.0, 2.0 / line_boxes(t)) : 0.0);
    const double row_x = shape.x_last        ? eb
                         : shape.stacked > 1 ? row_bytes(shape, t)
                                             : t.box[2] * eb,
                 row_y = shape.y_last ? eb : t.span_read * eb;
    const double bytes = eb * (n * x_positions * (1 + 77 / std::max(row_x, 32.0)) +
                               t.co * y_elements * (1 + 77 / std::max(row_y, 32.0)));
    const double brought = t.apart() ? std::max(bringing, finishing) : bringing + finishing;
    // All stages but the one that is multiplied are on their way at once, each for as long as memory takes to answer.
    const double moving = bytes / 29.7, waiting = (moving + 1600.0) / (t.stages - 1);
    const double longest = std::max({products, brought, moving, waiting});
    return longest + 0.225 * (products + brought + moving - std::min(longest, products + brought + moving));
  }

  void finish(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const int apart = t.x_early ? t.x_period : 1;  // channels of a block
    t.tiles = g.groups * apart * ceil_div<std::int64_t>(g.ci / apart, t.columns) * ceil_div<std::int64_t>(g.co, t.co);
    for (int i = 0; i < 3; ++i) t.tiles *= ceil_div<std::int64_t>(g.kernel[std::size_t(i)], t.taps[std::size_t(i)]);
    t.boxes = g.batch * line_boxes(t);
    for (int i = 0; i < 2; ++i) t.boxes *= ceil_div<std::int64_t>(g.in[std::size_t(i)], t.box[std::size_t(i)]);
    t.cycles = box_cycles(t);
    share(t);
  }

  /// How many blocks share a tile's boxes, and what the whole then takes.
  void share(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const double in = double(g.in[0]) * double(g.in[1] - shape.late()) * double(g.in[2]);
    const double bytes = double(shape.element_bytes) * double(g.batch) *
                         (double(g.in_channels()) * in + double(g.out_channels()) * double(g.out_volume()));
    const auto shares = launch::weight_mma_shares(weight_fixed(shape, t, target), t.boxes, bytes, target.processors);
    t.splits = shares.splits, t.seconds = shares.seconds;
  }

  /// Whether the sums of a tile's blocks may be added up in a cluster: blocks have all taps, and their sums fit where
  /// the stages were.
  [[nodiscard]] bool may_cluster(const WgmmaWeightTile& t) const {
    return t.splits > 1 && t.tap_count() == shape.geometry.taps() && !shape.w_last && shape.stacked == 1 &&
           t.columns * (rows(t) + 4) * 4 <= t.stages * stage_bytes(shape, t);
  }
  [[nodiscard]] bool one_chain(const WgmmaWeightTile& t) const {
    const launch::WeightWgmmaFixed f = weight_fixed(shape, t, target);
    return f.longest_chain == 0 || ceil_div<std::int64_t>(t.boxes, t.cluster) * t.positions() <= f.longest_chain;
  }

  void consider(WgmmaWeightTile t) {
    t.stages = stages_of(t);
    if (t.stages == 0) return;
    finish(t);
    keep_if_fast(t);
    if (!may_cluster(t)) return;
    WgmmaWeightTile fastest = t;
    for (int cluster = 2; cluster <= 8; ++cluster) {
      WgmmaWeightTile u = t;
      u.cluster = cluster;
      if (u.tiles > target.clusters(cluster) || !one_chain(u)) continue;
      share(u);
      if (u.seconds < fastest.seconds) fastest = u;
    }
    if (fastest.cluster > 1) keep_if_fast(fastest);
  }

  void keep_if_fast(const WgmmaWeightTile& t) {
    const auto at = std::upper_bound(best.begin(), best.end(), t,
                                     [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    best.insert(at, t);
    if (best.size() > keep) best.pop_back();
  }

  /// Whether each line of x begins at a multiple of 16 bytes.
  [[nodiscard]] bool x_rows_aligned() const { return shape.geometry.in[2] * shape.element_bytes % 16 == 0; }
  /// The fewest channels of x that together are a multiple of 16 bytes.
  [[nodiscard]] int x_period() const {
    const std::int64_t channel =
        shape.geometry.in[1] * shape.geometry.in[2] * (shape.folded ? 1 : shape.geometry.in[0]);
    int period = 1;
    while (period * channel * shape.element_bytes % 16 != 0) period *= 2;
    return period;
  }

  /// Whether boxes may begin at the multiple of 16 bytes before a line of x.
  [[nodiscard]] bool may_begin_early() const {
    return !shape.x_last && !x_rows_aligned() && shape.geometry.ci % x_period() == 0;
  }
  /// All lines of such a box must begin alike, and be brought in rows of 128 bytes.
  [[nodiscard]] bool begins_once(const WgmmaWeightTile& t) const {
    return t.box[1] == 1 && (t.box[0] == 1 || shape.folded) && t.box[2] * shape.element_bytes >= 128;
  }
  /// By how many elements of dy such boxes begin apart, at least.
  [[nodiscard]] std::int64_t early_step() const {
    const Geometry& g = shape.geometry;
    return g.stride[2] * std::gcd(g.in[2], std::int64_t(quad()));
  }

  /// How x comes: what its lines allow.
  void choose_x(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const int bytes = row_bytes(shape, t), row = bytes / shape.element_bytes;
    // Lines for stacked taps are apart, and no runs of several.
    const bool line = row <= t.box[2];
    const bool run = line || (shape.stacked == 1 && t.box[2] == g.in[2] && row <= t.box[1] * t.box[2]);
    if (t.x_early) return;
    t.x_period = 1, t.x_bulk = t.x_shifted = false;
    if (shape.x_last || t.positions() % row != 0 || !run) return;
    const int period = x_period();
    const bool depth_aligned = shape.folded || g.in[1] * g.in[2] * shape.element_bytes % 16 == 0;
    if (line && x_rows_aligned()) {
      t.x_bulk = true;
    } else if (!line) {
      t.x_bulk = period == 1 && depth_aligned;
    } else if (bytes == 128 && g.ci % period == 0 && t.columns % (8 * period) == 0) {
      // Shorter lines are no faster so than word by word: mask-rcnn 213 us for 170, monai-unet/up1 40 for 29.
      t.x_bulk = t.x_shifted = true;
      t.x_period = period;
    }
  }

  /// dy's tile where it comes by bulk copies; false where these cannot bring it, or would bring much that no tap reads.
  [[nodiscard]] bool choose_whole_y(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    if (shape.y_last || g.out[2] * shape.element_bytes % 16 != 0) return false;
    const std::array<int, 3> box = whole_box(g, t.box);
    const int lines_d = lines_of(weight_axis(t.taps[0], 1, int(g.dilation[0])), box[0]);
    const int lines_h = lines_of(weight_axis(t.taps[1], 1, int(g.dilation[1])), box[1]);
    // Bulk copies begin at multiples of 16 bytes.
    const int q = quad(), lead = int((q - g.padding[2] % q) % q);
    if (t.taps[2] < g.kernel[2] && g.dilation[2] * t.taps[2] % q != 0) return false;
    if (t.box[2] < g.in[2] && g.stride[2] * t.box[2] % q != 0) return false;
    if (t.x_early && early_step() % q != 0) return false;
    const int span = round_up(int(g.stride[2]) * (t.box[2] - 1) + int(g.dilation[2]) * (t.taps[2] - 1) + 1 + lead, q);
    constexpr int most = 256;  // of a tensor map
    if (span > most || lines_d > most || lines_h > most || t.co > most) return false;
    if (lines_d * lines_h * 4 > t.lines_d * t.lines_h * 5) return false;
    t.y_bulk = true, t.lead = lead;
    t.y_vector = g.stride[2] * t.box[2] % q == 0 ? q : g.stride[2] * t.box[2] % 2 == 0 ? 2 : 1;
    t.lines_d = lines_d, t.lines_h = lines_h, t.span_read = t.span = span, t.channel = lines_d * lines_h * span;
    return true;
  }

  /// Whether loads of dy meet in a bank however wide its lines are. Lines of 128 bytes and more without padding are
  /// then better copied by lanes, which leave room between channels (sam/up0 145 us for 157, nnunet/transpconvs4 186
  /// for 209).
  [[nodiscard]] bool meet_in_banks(const WgmmaWeightTile& t) const {
    for (int span = t.span; span <= std::min(t.span + quad(), 256); span += quad())
      if (conflicts(t, span, 0) < 2.0) return false;
    return true;
  }

  /// How lanes copy dy: the most elements at once, and where lines begin for that.
  void choose_lead(WgmmaWeightTile& t) const {
    const Geometry& g = shape.geometry;
    const int q = quad();
    t.lead = 0, t.y_vector = 1;
    if (!shape.y_last) {
      const bool split = t.taps[2] < g.kernel[2];
      for (const int v : {2, 4, q}) {
        if (v > q) continue;
        if ((split && g.dilation[2] * t.taps[2] % v != 0) || g.stride[2] * t.box[2] % v != 0) continue;
        if (t.x_early && early_step() % v != 0) continue;
        // Whole sectors of 32 bytes where 16 bytes are copied at once: the L2 is asked for a sector by each copy of it.
        const int aligned =
            v == q && g.out[2] % (2 * q) == 0 && (!split || g.dilation[2] * t.taps[2] % (2 * q) == 0) ? 2 * q : v;
        t.lead = int((aligned - g.padding[2] % aligned) % aligned), t.y_vector = v;
      }
    }
  }

  void boxes(WgmmaWeightTile t) {
    const Geometry& g = shape.geometry;
    const int q = quad();
    const std::int64_t positions = g.in[0] * g.in[1] * g.in[2];
    for (int bw = 1; bw <= 128; bw *= 2) {
      if (bw > q && bw / 2 >= g.in[2]) break;
      // Narrower boxes of a batch have no empty positions: dcgan/main0 in bf16 13 us for 20.
      if (bw == q && 2 * g.in[2] <= q && (g.in[2] & (g.in[2] - 1)) == 0 && positions >= 4 * step()) continue;
      // 16 bytes of several lines, where else much of them would be empty.
      if (bw < q && (g.in[2] % bw != 0 || g.in[2] >= 2 * q)) continue;
      for (int bh = 1; bh <= 16 && bw * bh <= 256; bh *= 2) {
        if (bh > 1 && bh / 2 >= g.in[1]) break;
        for (int bd = 1; bd <= 32 && bw * bh * bd <= 256; bd *= 2) {
          t.box = {bd, bh, bw};
          if (t.x_early && !begins_once(t)) continue;
          choose_lead(t);
          // Of fewer than four products a stage ptxas sees no pipeline (C7513). A box may be larger than the tensor
          // for their sake.
          const int products = t.positions() / step() * t.fragments;
          if (bd > 1 && bd / 2 >= g.in[0] && products / 2 >= 4) break;
          if (t.positions() % step() != 0 || products < 4 || products * shape.stacked > (shape.stacked > 1 ? 96 : 64))
            continue;
          t.lines_d = lines_of(axis_d, bd), t.lines_h = lines_of(axis_h, bh);
          t.span_read = t.span =
              round_up(int(g.stride[2]) * (bw - 1) + int(g.dilation[2]) * (t.taps[2] - 1) + 1 + t.lead, q);
          t.channel = t.lines_d * t.lines_h * t.span;
          choose_x(t);
          if (shape.stacked > 1 && !t.x_bulk) continue;
          WgmmaWeightTile whole = t;
          const bool lanes_do = t.lead == 0 && !t.x_shifted && t.span * shape.element_bytes >= 128;
          const bool may = choose_whole_y(whole), bulk = may && !(lanes_do && meet_in_banks(whole));
          consider(bulk ? whole : t);
          if (t.x_early && may) consider(bulk ? t : whole);
          // In pieces where lanes would copy 4 bytes at a time or less: of 8, products of three warpgroups suffer more
          // from pieces than copies take (L1/61 1181 us, and 1339 in pieces).
          int copied = t.y_vector;
          while (g.out[2] % copied != 0) copied /= 2;
          if (!bulk && !shape.y_last && copied * shape.element_bytes <= 4 && may_hide_pieces()) consider(in_pieces(t));
        }
      }
    }
  }

  /// Whether there are products enough to hide pieces of fp32: of L1/73 and L1/77 more than half of the time that bytes
  /// take (1131 us to 728, 360 to 333); of L1/79 a quarter, where they come slowly (468, cuda_weight_mma 349).
  [[nodiscard]] bool may_hide_pieces() const {
    const Geometry& g = shape.geometry;
    const double x = double(g.batch) * double(g.in_channels()) * double(g.in_volume());
    const double bytes =
        shape.element_bytes * (x + double(g.batch) * double(g.out_channels()) * double(g.out_volume()));
    const double products = 2.0 * x * double(g.co) * double(shape.taps());
    return shape.element_bytes < 4 || products / target.tf32_flops > 0.4 * bytes / target.bytes_per_second;
  }
  /// The same box where dy comes in pieces of 16 bytes.
  [[nodiscard]] WgmmaWeightTile in_pieces(WgmmaWeightTile t) const {
    const Geometry& g = shape.geometry;
    t.y_pieces = true, t.lead = 0, t.y_vector = 1;
    t.span_read = int(g.stride[2]) * (t.box[2] - 1) + int(g.dilation[2]) * (t.taps[2] - 1) + 1;
    t.span = pieces_of(t) * quad();
    t.channel = y_lines(shape, t, t.span, 0).channel;
    return t;
  }
  [[nodiscard]] int pieces_of(const WgmmaWeightTile& t) const { return ceil_div(t.span_read + quad() - 1, quad()); }

  void take_taps(const std::array<int, 3>& taps) {
    const Geometry& g = shape.geometry;
    axis_d = weight_axis(taps[0], int(g.stride[0]), int(g.dilation[0]));
    axis_h = weight_axis(taps[1], int(g.stride[1]), int(g.dilation[1]));
    WgmmaWeightTile t;
    t.taps = taps;
    // ptxas compiles no wider product for the 128 registers that 512 threads begin with.
    const int least_parts = int(ceil_div<std::int64_t>(g.ci, 192));
    std::vector<std::pair<int, bool>> tried;  // and whether boxes begin early
    const auto add = [&tried](int columns, bool early) {
      const std::pair<int, bool> one{columns, early};
      if (std::find(tried.begin(), tried.end(), one) == tried.end()) tried.push_back(one);
    };
    for (int parts = least_parts; parts <= least_parts + 2; ++parts)
      for (const int unit : {8, 8 * x_period()}) {
        const int least = round_up(int(ceil_div<std::int64_t>(g.ci, parts)), 8), columns = round_up(least, unit);
        if (columns * 8 > least * 9) continue;  // columns that are not there cost more than shifting saves
        add(columns, false);
      }
    if (may_begin_early() && shape.stacked == 1) {
      const std::int64_t alike = g.ci / x_period(), least = ceil_div<std::int64_t>(alike, 192);
      for (std::int64_t parts = least; parts <= least + 2; ++parts) add(round_up(int(ceil_div(alike, parts)), 8), true);
    }
    for (const auto& [columns, early] : tried) {
      t.columns = columns;
      t.x_early = t.x_bulk = early, t.x_shifted = false, t.x_period = early ? x_period() : 1;
      for (t.warpgroups = 2; t.warpgroups <= 3; ++t.warpgroups)
        for (t.fragments = 1; t.fragments <= 8; ++t.fragments) {
          // Beside three warpgroups there are no registers for the places of more rows.
          if (t.fragments * t.columns * shape.stacked / 2 > (t.apart() ? 128 : 96) || (!t.apart() && t.fragments > 3))
            break;
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
        if (t.y_bulk) {
          if (apart > 0 || u.span > 256) continue;
          u.span_read = u.span;
        }
        if (t.y_pieces) u.channel = y_lines(shape, u, u.span, apart).channel;
        u.stages = stages_of(u);
        if (u.stages == 0 || (u.cluster > 1 && !may_cluster(u))) continue;
        u.conflicts = conflicts(u, u.span, apart);
        u.spare = apart;
        finish(u);
        if (any && u.seconds >= chosen.seconds) continue;
        chosen = u, any = true;
      }
    t = chosen;
  }
};

}  // namespace

std::array<int, 3> y_classes(const WeightShape& shape) {
  const Geometry& g = shape.geometry;
  const std::int64_t q = 16 / shape.element_bytes, plane = g.out[1] * g.out[2];
  const std::int64_t channel = shape.folded ? plane : g.out[0] * plane;
  const std::int64_t depth = shape.folded ? g.out_channels() * plane : plane;
  return {int(channel % q), int(depth % q), int(g.out[2] % q)};
}

YLines y_lines(const WeightShape& shape, const WgmmaWeightTile& t, int span, int apart) {
  const Geometry& g = shape.geometry;
  const int q = 16 / shape.element_bytes;
  const auto [class_c, class_d, class_h] = y_classes(shape);
  // The least number from `least` on that is `wanted` modulo 16 bytes.
  const auto alike = [q](int least, std::int64_t wanted) { return least + int(((wanted - least) % q + q) % q); };
  // Lines of one residue lie `pitch` apart, those of the next residue behind them; returns where the last line ends.
  const auto place = [&](const WeightAxis& axis, int box, std::int64_t stride, std::int64_t per_line, int length,
                         int& pitch, std::vector<int>& extra) {
    pitch = alike(length, stride * per_line);
    int line = 0, shift = 0;
    for (std::size_t plane = 0; plane < axis.residues.size(); ++plane) {
      shift = alike(shift + line * pitch, axis.residues[plane] * per_line) - line * pitch;
      for (int i = 0; i < box + axis.most[plane]; ++i, ++line) extra.push_back(shift);
    }
    return (line - 1) * pitch + shift + length;
  };
  YLines y;
  const WeightAxis axis_d = weight_axis(t.taps[0], int(g.stride[0]), int(g.dilation[0]));
  const WeightAxis axis_h = weight_axis(t.taps[1], int(g.stride[1]), int(g.dilation[1]));
  const int slab = place(axis_h, t.box[1], g.stride[1], class_h, span, y.pitch_h, y.extra_h);
  const int all = place(axis_d, t.box[0], g.stride[0], class_d, round_up(slab, q), y.pitch_d, y.extra_d);
  y.channel = alike(round_up(all, q) + apart, class_c);
  return y;
}

std::vector<int> YLines::places(int lines_h) const {
  std::vector<int> all;
  for (std::size_t d = 0; d < extra_d.size(); ++d)
    for (std::size_t h = 0; h < std::size_t(lines_h); ++h)
      all.push_back(int(d) * pitch_d + extra_d[d] + int(h) * pitch_h + extra_h[h]);
  return all;
}

int row_bytes(const WeightShape& shape, const WgmmaWeightTile& t) {
  const int of_line = t.box[2] * shape.element_bytes;
  const int line = t.box[2] == shape.geometry.in[2] && shape.stacked == 1 ? of_line * t.box[1] : of_line;
  return line < 32 ? 128 : std::min(line, 128);
}

int paired(const WeightShape& shape, const WgmmaWeightTile& t) {
  const Geometry& g = shape.geometry;
  const bool words = shape.element_bytes == 2 && !t.y_pieces && t.taps[2] % 2 == 0 && g.dilation[2] == 1 &&
                     g.stride[2] % 2 == 0 && t.lead % 2 == 0;
  return !words ? 0 : t.taps[2] == 2 && g.stride[2] == 2 && t.lead % 4 == 0 && t.box[2] > 1 ? 2 : 1;
}

WeightShape stacked(WeightShape shape) {
  Geometry& g = shape.geometry;
  // Taps that many apart meet the same lines of dy.
  const std::int64_t common = std::gcd(g.stride[1], g.dilation[1]), apart = g.stride[1] / common;
  if (g.kernel[1] <= apart || shape.x_last || g.in[2] * shape.element_bytes % 16 != 0) return shape;
  if (g.dilation[1] * (g.kernel[1] - 1) > 1024) return shape;  // no stage has room for as many lines
  shape.stacked = int(ceil_div(g.kernel[1], apart)), shape.later = int(g.dilation[1] / common);
  g.kernel[1] = apart;
  if (apart == 1) g.dilation[1] = 1;
  g.in[1] += shape.late();
  return shape;
}

int stage_bytes(const WeightShape& shape, const WgmmaWeightTile& t) {
  const int behind = t.x_shifted ? t.box[0] * t.box[1] * t.columns * 16 : 0;
  return round_up(round_up(x_positions_of(shape, t) * shape.element_bytes, row_bytes(shape, t)) * t.columns + behind,
                  1024) +
         round_up(t.co * t.channel * shape.element_bytes + (t.y_pieces ? 16 : 0), 1024);
}

launch::WeightWgmmaFixed weight_fixed(const WeightShape& shape, const WgmmaWeightTile& t, const CudaTarget& target) {
  const Geometry& g = shape.geometry;
  launch::WeightWgmmaFixed f;
  f.folded = shape.folded;
  f.x_last = shape.x_last, f.y_last = shape.y_last, f.x_early = t.x_early;
  f.x_turned = shape.x_turned, f.y_turned = shape.y_turned, f.turned = f.x_turned || f.y_turned;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co, f.taps = shape.taps();
  f.box_d = t.box[0], f.box_h = t.box[1], f.box_w = t.box[2], f.late = shape.late();
  f.tiles = t.tiles, f.tile_words = std::int64_t(t.co) * t.tap_count() * t.columns * shape.stacked;
  f.element_bytes = shape.element_bytes, f.y_vector = t.y_vector;
  f.x_vector = std::min(16 / shape.element_bytes, t.box[2]);
  f.shared_bytes = t.stages * stage_bytes(shape, t) + 1024, f.threads = t.threads();
  // 512 products of 8 positions lose 2^-25 each at most; what 16 bits hold is coarser than any chain's loss.
  f.longest_chain = shape.element_bytes == 4 ? 4096 : 0;
  const int row = row_bytes(shape, t) / shape.element_bytes;
  f.cluster = t.cluster;
  f.columns = t.columns, f.row_positions = t.x_bulk ? row : 0;
  f.x_shifted = t.x_shifted, f.x_period = t.x_period;
  if (t.y_bulk) f.y_channels = t.co, f.y_lines_d = t.lines_d, f.y_lines_h = t.lines_h, f.y_span = t.span;
  f.y_step = t.box[2] * g.stride[2];
  f.y_pieces = t.y_pieces;
  if (t.y_pieces) {
    const auto classes = y_classes(shape);
    f.y_class_c = classes[0], f.y_class_d = classes[1], f.y_class_h = classes[2];
  }
  f.map_element = int(shape.element_bytes == 4 ? launch::MapElement::tf32 : launch::MapElement::u16);
  f.sum_slices = sum_slices(t.splits), f.sum_vector = sum_vector(f.dw_size(), f.sum_slices);
  // A block that has all taps of its channels leaves 16 bytes at a time. Others store 16 bits at a time: pix2pix/up1 38
  // us, and 16 with all taps.
  const bool together = t.tap_count() == g.taps() && !shape.w_last && shape.stacked == 1;
  if (!together && shape.element_bytes == 2) f.leave_cycles = 0.3;
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
