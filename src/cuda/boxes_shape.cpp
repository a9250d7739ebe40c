// See boxes_shape.hpp.
#include "cuda/boxes_shape.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
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

/// Columns of a block up to which products may take zeros for others: an instruction of 16 takes as long as one of 26.
constexpr int most_filled = 16;

/// What an instruction of `columns` columns takes, in clocks: never less than 13 (docs/measured-hopper.md).
double product_clocks(int columns) { return std::max(13.0, columns / 2.0) + 2.0; }

/// Where the sums of (row, used phase) of the merged dimension lie: in the order of the results, those of one spacing
/// together.
std::vector<int> merged_places(const BoxAxis& a, int rows) {
  // Used phases stand for the results row * phases + phase; sorted by (result mod spacing, result).
  std::vector<std::pair<std::pair<int, int>, int>> all;
  for (int r = 0; r < rows; ++r)
    for (int ph = 0; ph < a.phases; ++ph) {
      if (a.used[static_cast<std::size_t>(ph)] < 0) continue;
      const int result = r * a.phases + ph;
      all.push_back({{result % a.spacing, result}, r * a.used_count + a.used[static_cast<std::size_t>(ph)]});
    }
  std::sort(all.begin(), all.end());
  std::vector<int> places(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) places[static_cast<std::size_t>(all[i].second)] = static_cast<int>(i);
  return places;
}

/// What box_work() arranges: a form's axes, and the places in the merged one.
struct Layout {
  std::array<BoxAxis, 3> axis;
  int rows, merge;
  std::vector<int> places;

  Layout(const BoxProblem& p, const BoxForm& f) : axis(axes_of(p, f)), rows(f.rows), merge(static_cast<int>(f.merge)) {
    if (merge >= 0) places = merged_places(axis[static_cast<std::size_t>(merge)], rows);
  }
  [[nodiscard]] int size(int d) const { return axis[static_cast<std::size_t>(d)].used_count * (d == merge ? rows : 1); }
  [[nodiscard]] int place(int d, int row, int used) const {
    return d == merge ? places[static_cast<std::size_t>(row * axis[static_cast<std::size_t>(d)].used_count + used)]
                      : used;
  }
};

/// By offset (w, h, d) of a fragment: the sums that it feeds, (block, tap), sorted.
using Feeds = std::map<std::array<int, 3>, std::vector<std::pair<int, int>>>;

/// How the blocks of sums are cut into runs of neighbours that one product serves: the first of each, and one past the
/// last. The assembler keeps the sums of a product in registers of their own, so a block is always of the same run.
/// A fragment that feeds a part of a run multiplies zeros for the rest if `zeros`, which can be worth it where the
/// columns of one block are fewer than an instruction takes its least time for.
struct Runs {
  std::vector<int> ends;
  double clocks = 0.0;
};
Runs cheapest_runs(const Feeds& feeds, int blocks, int columns, bool zeros) {
  std::map<std::uint64_t, int> fragments;  // by the blocks that they feed
  for (const auto& [offset, list] : feeds) {
    std::uint64_t fed = 0;
    for (const auto& [block, tap] : list) fed |= std::uint64_t{1} << block;
    ++fragments[fed];
  }
  const int most = 256 / columns;
  std::vector<double> least(static_cast<std::size_t>(blocks) + 1, 0.0);
  std::vector<int> first(static_cast<std::size_t>(blocks) + 1, 0);
  for (int end = 1; end <= blocks; ++end) {
    const auto e = static_cast<std::size_t>(end);
    least[e] = 1e300;
    for (int begin = end - 1; begin >= 0 && end - begin <= most; --begin) {
      const std::uint64_t run = ((std::uint64_t{1} << (end - begin)) - 1) << begin;
      int products = 0;
      bool whole = true;
      for (const auto& [fed, count] : fragments) {
        if ((fed & run) == 0) continue;
        products += count;
        whole = whole && (fed & run) == run;
      }
      if (!whole && !zeros) continue;
      const double clocks = least[static_cast<std::size_t>(begin)] + products * product_clocks((end - begin) * columns);
      if (clocks < least[e]) least[e] = clocks, first[e] = begin;
    }
  }
  Runs runs{{}, least.back()};
  for (int end = blocks; end > 0; end = first[static_cast<std::size_t>(end)]) runs.ends.push_back(end);
  std::reverse(runs.ends.begin(), runs.ends.end());
  return runs;
}

/// Taps that a product finds side by side, -1 for zeros.
using Taps = std::vector<int>;

/// A row of taps that has every one of `wanted` in it, short: each is laid over an end of what there is as far as they
/// agree.
Taps row_of_all(const std::vector<Taps>& wanted) {
  const auto overlap = [](const Taps& before, const Taps& after) {
    std::size_t n = std::min(before.size(), after.size());
    while (!std::equal(after.begin(), after.begin() + static_cast<std::ptrdiff_t>(n),
                       before.end() - static_cast<std::ptrdiff_t>(n)))
      --n;
    return n;
  };
  const auto append = [&](Taps& to, const Taps& more) {
    to.insert(to.end(), more.begin() + static_cast<std::ptrdiff_t>(overlap(to, more)), more.end());
  };
  std::vector<Taps> rows;
  for (const Taps& taps : wanted) {
    const auto has = [&](const Taps& row) {
      return std::search(row.begin(), row.end(), taps.begin(), taps.end()) != row.end();
    };
    if (std::any_of(rows.begin(), rows.end(), has)) continue;
    Taps* best = nullptr;
    std::size_t most = 0;
    bool before = false;
    for (Taps& row : rows) {
      if (overlap(row, taps) > most) best = &row, most = overlap(row, taps), before = false;
      if (overlap(taps, row) > most) best = &row, most = overlap(taps, row), before = true;
    }
    if (best == nullptr ||
        std::all_of(taps.begin(), taps.begin() + static_cast<std::ptrdiff_t>(most), [](int t) { return t < 0; })) {
      rows.push_back(taps);
    } else if (before) {
      Taps longer = taps;
      append(longer, *best);
      *best = std::move(longer);
    } else {
      append(*best, taps);
    }
  }
  Taps all;
  for (const Taps& row : rows) append(all, row);
  return all;
}

/// The sums and what feeds them, in one order of the dimensions.
struct Arranged {
  BoxWork work;  ///< Without fragments and slots.
  Feeds feeds;
  Runs runs;  ///< Of one segment.
};

/// `dims`: the last runs fastest.
Arranged arranged(const Layout& layout, const BoxForm& f, const std::array<int, 3>& dims, bool zeros) {
  const std::array<BoxAxis, 3>& axis = layout.axis;
  Arranged a;
  const auto taps = [&](int d) { return static_cast<int>(axis[static_cast<std::size_t>(d)].offset.size()); };
  a.work.taps = taps(0) * taps(1) * taps(2);
  const auto block = [&](int row, const std::array<int, 3>& used) {
    int at = 0;
    for (int d : dims) at = at * layout.size(d) + layout.place(d, row, used[static_cast<std::size_t>(d)]);
    return at;
  };
  const int per_segment = layout.size(0) * layout.size(1) * layout.size(2);
  a.work.blocks = f.segments * per_segment;
  for (int row = 0; row < f.rows; ++row)
    for (int ud = 0; ud < axis[0].used_count; ++ud)
      for (int uh = 0; uh < axis[1].used_count; ++uh)
        for (int uw = 0; uw < axis[2].used_count; ++uw) a.work.block_of.push_back(block(row, {ud, uh, uw}));
  for (int t = 0; t < a.work.taps; ++t) {
    const std::array<int, 3> at = {t / (taps(1) * taps(2)), t / taps(2) % taps(1), t % taps(2)};
    for (int row = 0; row < f.rows; ++row) {
      std::array<int, 3> offset{}, used{};
      for (std::size_t d = 0; d < 3; ++d) {
        const auto tap = static_cast<std::size_t>(at[d]);
        offset[d] = axis[d].offset[tap] + (static_cast<int>(d) == layout.merge ? axis[d].step * row : 0);
        used[d] = axis[d].used[static_cast<std::size_t>(axis[d].phase[tap])];
      }
      a.feeds[{offset[2], offset[1], offset[0]}].push_back({block(row, used), t});
    }
  }
  for (auto& [offset, list] : a.feeds) std::sort(list.begin(), list.end());
  a.runs = cheapest_runs(a.feeds, per_segment, f.columns, zeros);
  return a;
}

/// Fragments, products and slots.
BoxWork with_fragments(Arranged a, const BoxForm& f) {
  BoxWork& work = a.work;
  const int per_segment = work.blocks / f.segments;
  struct Fed {
    Product product;
    Taps taps;
  };
  std::vector<std::pair<std::array<int, 3>, std::vector<Fed>>> fed;
  std::vector<Taps> wanted;
  for (const auto& [offset, list] : a.feeds) {
    fed.push_back({offset, {}});
    int begin = 0;
    for (int end : a.runs.ends) {
      Taps taps(static_cast<std::size_t>(end - begin), -1);
      for (const auto& [block, tap] : list)
        if (block >= begin && block < end) taps[static_cast<std::size_t>(block - begin)] = tap;
      if (std::any_of(taps.begin(), taps.end(), [](int t) { return t >= 0; })) {
        wanted.push_back(taps);
        fed.back().second.push_back({{begin, end - begin, 0}, std::move(taps)});
      }
      begin = end;
    }
  }
  work.tap_of_slot = row_of_all(wanted);
  const Taps& row = work.tap_of_slot;
  for (int step = 0; step < f.steps; ++step)
    for (const auto& [offset, products] : fed)
      for (int segment = 0; segment < f.segments; ++segment) {
        Fragment fragment{segment, step, offset[2], offset[1], offset[0], {}};
        for (const Fed& one : products) {
          Product product = one.product;
          product.block += segment * per_segment;
          product.slot =
              static_cast<int>(std::search(row.begin(), row.end(), one.taps.begin(), one.taps.end()) - row.begin());
          fragment.products.push_back(product);
        }
        work.fragments.push_back(std::move(fragment));
      }
  return std::move(work);
}

/// What the fragments of one segment take.
double clocks_of(const BoxProblem& p, const Arranged& a, int columns) {
  double clocks = 0.0;
  for (const auto& [offset, list] : a.feeds) {
    std::vector<int> products;
    int begin = 0;
    for (int end : a.runs.ends) {
      const bool fed = std::any_of(list.begin(), list.end(),
                                   [&](const auto& feed) { return feed.first >= begin && feed.first < end; });
      if (fed) products.push_back((end - begin) * columns);
      begin = end;
    }
    clocks += fragment_clocks(p, products);
  }
  return clocks;
}

}  // namespace

double fragment_clocks(const BoxProblem& p, const std::vector<int>& columns) {
  const double factor = p.folded ? 2.0 : p.parts == 2 ? 3.0 : 1.0;
  double tensor = 0.0, all = 0.0;
  for (int c : columns) tensor += factor * std::max(13.0, c / 2.0), all += factor * c;
  const double shared = (p.channels_k() == 8 ? 19.5 : 35.0) + 0.36 * all;
  return std::max({tensor, shared, 28.0 + 0.11 * all}) + 2.0;
}

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
  return axis;
}

BoxWork box_work(const BoxProblem& p, const BoxForm& f) {
  const Layout layout(p, f);
  const auto cheapest = [&](bool zeros) {
    std::optional<Arranged> best;
    std::array<int, 3> dims = {0, 1, 2};
    do {
      Arranged a = arranged(layout, f, dims, zeros);
      if (!best || a.runs.clocks < best->runs.clocks) best = std::move(a);
    } while (std::next_permutation(dims.begin(), dims.end()));
    return std::move(*best);
  };
  Arranged best = cheapest(false);
  if (f.columns <= most_filled) {
    Arranged filled = cheapest(true);
    if (clocks_of(p, filled, f.columns) < clocks_of(p, best, f.columns)) best = std::move(filled);
  }
  return with_fragments(std::move(best), f);
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
