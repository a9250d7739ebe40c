// See boxes_shape.hpp.
#include "cuda/boxes_shape.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "launch/sizes.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;
using launch::ceil_div;

BoxAxis axis_of(const Geometry& g, int d, bool backward) {
  BoxAxis a;
  const Int s = g.stride[d], p = g.padding[d], dilation = g.dilation[d], taps = g.kernel[d];
  std::set<Int> before, after;  // offsets with phases counted from the padding's begin, and from its end
  for (Int t = 0; t < taps; ++t) before.insert(-(dilation * t / s)), after.insert(ceil_div(p - dilation * t, s));
  const bool from_end = !backward && p % s != 0 && after.size() <= before.size();
  for (Int t = 0; t < taps; ++t) {
    // Tap t reaches y[s * q + r] from x[q + (r + p - dilation * t) / s].
    const Int r = s * ceil_div(p - dilation * t, s) - p + dilation * t;
    a.offset.push_back(static_cast<int>(backward   ? dilation * t - p
                                        : from_end ? ceil_div(p - dilation * t, s)
                                                   : -(dilation * t / s)));
    a.phase.push_back(static_cast<int>(backward ? 0 : from_end ? r : dilation * t % s));
  }
  a.first = *std::min_element(a.offset.begin(), a.offset.end());
  for (int& o : a.offset) o -= a.first;
  a.span = *std::max_element(a.offset.begin(), a.offset.end());
  if (backward) {
    a.step = static_cast<int>(s);
    a.spacing = static_cast<int>(dilation / std::gcd(dilation, s));
    a.q_end = g.in[d];
    a.used = {0};
  } else {
    a.phases = static_cast<int>(s);
    a.spacing = static_cast<int>(dilation);
    a.padding = from_end ? 0 : p;
    a.q_begin = a.padding / s;
    a.q_end = std::max(a.q_begin, (g.out[d] - 1 + a.padding) / s + 1);
    a.used.assign(static_cast<std::size_t>(s), -1);
    for (int ph : a.phase) a.used[static_cast<std::size_t>(ph)] = 0;
    a.used_count = 0;
    for (int& u : a.used)
      if (u == 0) u = a.used_count++;
  }
  return a;
}

/// A dimension whose position is fixed for a box: the loop over the taps of D.
BoxAxis fixed_axis(Int size) {
  BoxAxis a;
  a.offset = {0};
  a.phase = {0};
  a.used = {0};
  a.q_end = size;
  return a;
}

/// What an instruction of `columns` columns takes, in clocks: never less than 13 (docs/measured-hopper.md).
double product_clocks(int columns) { return std::max(13.0, columns / 2.0) + 2.0; }

/// One order of the three dimensions, the last of which runs fastest, applied to sums and weights.
struct Order {
  const std::array<BoxAxis, 3>& axis;
  const BoxForm& form;
  std::array<int, 3> dims;

  [[nodiscard]] bool merged(int d) const { return static_cast<int>(form.merge) == d; }
  /// Sums of a dimension: (row, used phase) in the order of the results, those of one spacing together.
  [[nodiscard]] int size(int d) const { return axis[d].used_count * (merged(d) ? form.rows : 1); }
  [[nodiscard]] int place(int d, int row, int used) const {
    const BoxAxis& a = axis[d];
    if (!merged(d)) return used;
    // Used phases stand for the results row * phases + phase; sorted by (result mod spacing, result).
    std::vector<std::pair<std::pair<int, int>, int>> all;
    for (int r = 0; r < form.rows; ++r)
      for (int ph = 0; ph < a.phases; ++ph) {
        if (a.used[static_cast<std::size_t>(ph)] < 0) continue;
        const int result = r * a.phases + ph;
        all.push_back({{result % a.spacing, result}, r * a.used_count + a.used[static_cast<std::size_t>(ph)]});
      }
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].second == row * a.used_count + used) return static_cast<int>(i);
    return -1;
  }
};

using Feeds = std::map<std::array<int, 3>, std::vector<std::pair<int, int>>>;  ///< By (w, h, d): (block, slot), sorted.

/// Blocks that one product can serve, as the first of each block's run: neighbours that every fragment feeds together,
/// from neighbouring slots, at most `most`. The assembler keeps the sums of a product in registers of their own, so
/// runs that overlap would be copied.
std::vector<int> joined(const Feeds& feeds, int blocks, int most) {
  std::vector<int> first(static_cast<std::size_t>(blocks));
  std::vector<bool> together(static_cast<std::size_t>(blocks), true);  // with the block before
  for (const auto& [offset, list] : feeds) {
    std::vector<int> slot(static_cast<std::size_t>(blocks), -1);
    for (const auto& [block, from] : list) slot[static_cast<std::size_t>(block)] = from;
    for (std::size_t b = 1; b < slot.size(); ++b)
      if ((slot[b] < 0) != (slot[b - 1] < 0) || (slot[b] >= 0 && slot[b] != slot[b - 1] + 1)) together[b] = false;
  }
  for (int b = 0; b < blocks; ++b) {
    const auto i = static_cast<std::size_t>(b);
    first[i] = b > 0 && together[i] && b - first[i - 1] < most ? first[i - 1] : b;
  }
  return first;
}

BoxWork arranged(const BoxProblem& p, const BoxForm& f, const std::array<int, 3>& dims) {
  const std::array<BoxAxis, 3> axis = axes_of(p, f);
  const Order order{axis, f, dims};
  BoxWork work;
  const int m = static_cast<int>(f.merge);
  const auto taps = [&](int d) { return static_cast<int>(axis[static_cast<std::size_t>(d)].offset.size()); };
  work.slots = taps(0) * taps(1) * taps(2);

  // Slots: taps that meet in one fragment together, in the order of the sums that they feed.
  std::vector<std::pair<std::array<int, 6>, int>> keys;
  for (int t = 0; t < work.slots; ++t) {
    const std::array<int, 3> at = {t / (taps(1) * taps(2)), t / taps(2) % taps(1), t % taps(2)};
    std::array<int, 6> key{};
    for (int i = 0; i < 3; ++i) {
      const auto d = static_cast<std::size_t>(dims[static_cast<std::size_t>(i)]);
      const BoxAxis& a = axis[d];
      const int offset = a.offset[static_cast<std::size_t>(at[d])], phase = a.phase[static_cast<std::size_t>(at[d])];
      const bool merged = static_cast<int>(d) == m;
      key[static_cast<std::size_t>(i)] = merged ? offset % a.step : offset;
      key[static_cast<std::size_t>(3 + i)] = merged ? phase - offset / a.step * a.phases : phase;
    }
    keys.push_back({key, t});
  }
  std::sort(keys.begin(), keys.end());
  work.slot_of_tap.assign(static_cast<std::size_t>(work.slots), 0);
  for (int slot = 0; slot < work.slots; ++slot)
    work.slot_of_tap[static_cast<std::size_t>(keys[static_cast<std::size_t>(slot)].second)] = slot;

  // Sums.
  const auto block = [&](int row, const std::array<int, 3>& used) {
    int at = 0;
    for (int d : dims) at = at * order.size(d) + order.place(d, row, used[static_cast<std::size_t>(d)]);
    return at;
  };
  const int per_segment = order.size(0) * order.size(1) * order.size(2);
  work.blocks = f.segments * per_segment;
  for (int row = 0; row < f.rows; ++row)
    for (int ud = 0; ud < axis[0].used_count; ++ud)
      for (int uh = 0; uh < axis[1].used_count; ++uh)
        for (int uw = 0; uw < axis[2].used_count; ++uw) work.block_of.push_back(block(row, {ud, uh, uw}));

  // Fragments by offset: what each feeds, neighbours joined.
  Feeds feeds;
  for (int t = 0; t < work.slots; ++t) {
    const std::array<int, 3> at = {t / (taps(1) * taps(2)), t / taps(2) % taps(1), t % taps(2)};
    for (int row = 0; row < f.rows; ++row) {
      std::array<int, 3> offset{}, used{};
      for (std::size_t d = 0; d < 3; ++d) {
        const auto tap = static_cast<std::size_t>(at[d]);
        offset[d] = axis[d].offset[tap] + (static_cast<int>(d) == m ? axis[d].step * row : 0);
        used[d] = axis[d].used[static_cast<std::size_t>(axis[d].phase[tap])];
      }
      feeds[{offset[2], offset[1], offset[0]}].push_back(
          {block(row, used), work.slot_of_tap[static_cast<std::size_t>(t)]});
    }
  }
  for (auto& [offset, list] : feeds) std::sort(list.begin(), list.end());
  const std::vector<int> first = joined(feeds, per_segment, 256 / f.columns);
  for (int i = 0; i < f.steps * static_cast<int>(feeds.size()); ++i) {
    const auto& [offset, list] = *std::next(feeds.begin(), i % static_cast<int>(feeds.size()));
    for (int segment = 0; segment < f.segments; ++segment) {
      Fragment fragment{segment, i / static_cast<int>(feeds.size()), offset[2], offset[1], offset[0], {}};
      for (const auto& [b, slot] : list) {
        if (first[static_cast<std::size_t>(b)] == b)
          fragment.products.push_back({segment * per_segment + b, 1, slot});
        else
          ++fragment.products.back().columns;
      }
      work.fragments.push_back(std::move(fragment));
    }
  }
  return work;
}

}  // namespace

BoxProblem box_problem(const Geometry& g, bool backward, bool tf32, int parts, int element_bytes) {
  BoxProblem p;
  p.backward = backward;
  p.tf32 = tf32;
  p.parts = parts;
  p.element_bytes = element_bytes;
  p.k = backward ? g.co : g.ci;
  p.n = backward ? g.ci : g.co;
  p.folded = parts == 2 && p.k <= 8;
  p.batch = g.batch;
  p.groups = g.groups;
  p.src = backward ? g.out : g.in;
  p.out = backward ? g.in : g.out;
  for (int d = 0; d < 3; ++d) p.axis[static_cast<std::size_t>(d)] = axis_of(g, d, backward);
  p.whole_depth = p.axis[0];
  p.depth_taps = static_cast<int>(g.kernel[0]);
  return p;
}

std::array<BoxAxis, 3> axes_of(const BoxProblem& p, const BoxForm& f) {
  std::array<BoxAxis, 3> axis = p.axis;
  axis[0] = f.depth_loop ? fixed_axis(p.out[0]) : p.whole_depth;
  if (f.overlapped) {
    BoxAxis& w = axis[2];
    std::fill(w.offset.begin(), w.offset.end(), 0);
    std::iota(w.phase.begin(), w.phase.end(), 0);
    w.used = w.phase;
    w.used_count = static_cast<int>(w.phase.size());
  }
  return axis;
}

BoxWork box_work(const BoxProblem& p, const BoxForm& f) {
  BoxWork best;
  double least = -1.0;
  std::array<int, 3> dims = {0, 1, 2};
  do {
    BoxWork work = arranged(p, f, dims);
    double clocks = 0.0;
    for (const Fragment& fragment : work.fragments)
      for (const Product& product : fragment.products) clocks += product_clocks(product.columns * f.columns);
    if (least < 0.0 || clocks < least) least = clocks, best = std::move(work);
  } while (std::next_permutation(dims.begin(), dims.end()));
  return best;
}

std::string fragments_text(const BoxWork& work) {
  std::string text = "#define UPCONV_FRAGMENTS \\\n";
  const auto load = [&](std::size_t i) {
    const Fragment& f = work.fragments[i];
    return "  LOAD(" + std::to_string(i) + ", " + std::to_string(f.segment) + ", " + std::to_string(f.step) + ", " +
           std::to_string(f.d) + ", " + std::to_string(f.h) + ", " + std::to_string(f.w) + ") \\\n";
  };
  text += load(0);
  for (std::size_t i = 0; i < work.fragments.size(); ++i) {
    if (i + 1 < work.fragments.size()) text += load(i + 1);
    text += "  USE(" + std::to_string(i) + ")";
    for (const Product& p : work.fragments[i].products)
      text += " PRODUCT(" + std::to_string(i) + ", " + std::to_string(p.block) + ", " + std::to_string(p.columns) +
              ", " + std::to_string(work.fragments[i].step) + ", " + std::to_string(p.slot) + ")";
    text += " DONE \\\n";
  }
  return text + "\n";
}

}  // namespace upconv::cuda
