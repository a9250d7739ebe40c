// The gradient of a chain on CUDA, part of cuda_closing.hpp. The chain is lowered once more, into the values that the
// gradient needs (what was stored between kernels is computed again from the convolution's result, what norms, softmax
// and maxima kept is read), and then walked backwards: every value that is stored has a gradient that is stored, and
// what lies between two of them is one pass, or two where a norm or softmax first needs sums.
#include <map>
#include <set>

#include "plan/closing_lowering.hpp"

namespace upconv {
namespace {

using namespace closing_lowering;
using cuda::PullPass;
using cuda::PullTarget;
using Place = ClosingBuffer::Place;
using ItemKind = ClosingItem::Kind;

/// How the gradient of a value arrives.
struct Arrival {
  PullPass::Arrives how = PullPass::Arrives::plain;
  int buffer = -1;
  DType type = DType::f32;
  ClosingWindow window;
  int argmax = -1;
  std::optional<Reduction> reduction;
  int first = 1, last = 1;
  int reduced = -1, ties = -1;
};

bool steps_alone(const ClosingValue& v) {
  if (v.window) return false;
  for (const ClosingItem& item : v.before)
    if (item.kind != ItemKind::steps) return false;
  return true;
}

Epilogue joined(const ClosingValue& v) {
  Epilogue all;
  for (const ClosingItem& item : v.before) append(all, item.steps);
  return all;
}

class Pulling : public ClosingLowering {
 public:
  Pulling(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
          const std::vector<Shape5>& sizes, unsigned wanted, bool bias, bool any_size)
      : ClosingLowering(problem, chain, shapes, Purpose::gradient, any_size),
        sizes_(sizes),
        wanted_(wanted),
        bias_(bias) {
    for (const Epilogue* e : lists(chain))
      for (const EpilogueStep& s : e->steps)
        if (s.arithmetic > Arithmetic::keep && s.source == Source::operand) ++uses_[s.index];
    for (const ClosingStep& s : chain.closing) {
      if (s.weight >= 0) ++uses_[s.weight];
      if (s.bias >= 0) ++uses_[s.bias];
    }
    walk();
    for (int k = 0; k < static_cast<int>(sizes_.size()); ++k)
      if (wanted_ >> k & 1 && !written_.contains(k)) zero(k);
  }

  PullingProgram program() {
    PullingProgram p;
    p.buffers = p_.buffers, p.saved = p_.saved;
    std::set<int> read;
    for (const PullPass& pass : pulls_) {
      if (pass.kind == PullPass::Kind::norm || pass.kind == PullPass::Kind::total) continue;
      read.insert({pass.reduced, pass.ties});
      if (cuda::reads_values(pass)) note_reads(pass.value, read);
    }
    read.erase(-1);
    std::vector<ClosingPass> again;
    for (auto pass = p_.passes.rbegin(); pass != p_.passes.rend(); ++pass) {
      if (!read.contains(pass->out) && !read.contains(pass->table_out) &&
          !(pass->kind == ClosingPass::Kind::parts && read.contains(pass->parts)))
        continue;
      note_reads(pass->value, read);
      read.insert({pass->parts, pass->table});
      read.erase(-1);
      again.insert(again.begin(), *pass);
    }
    std::vector<bool> used(p.buffers.size(), false);
    const auto use = [&](int b) {
      if (b >= 0) used[static_cast<std::size_t>(b)] = true;
    };
    for (const ClosingPass& pass : again) {
      for (int b : {pass.out, pass.parts, pass.table_out}) use(b);
      p.passes.emplace_back(pass);
    }
    const int shift = static_cast<int>(again.size());
    for (PullPass pass : pulls_) {
      for (int b : {pass.out, pass.sums, pass.vector_sums, pass.table_out}) use(b);
      for (int b : pass.wholes) use(b);
      if (pass.from >= 0) pass.from += shift;
      p.passes.emplace_back(std::move(pass));
    }
    for (std::size_t b = 0; b < used.size(); ++b)
      if (p.buffers[b].place == Place::workspace && !used[b]) p.buffers[b].bytes = 0;
    return p;
  }

 private:
  void walk() {
    std::vector<ClosingPass> stored;  // what made the value of each stretch; parts go with what puts them together
    for (const ClosingPass& pass : p_.passes)
      if (pass.kind != ClosingPass::Kind::parts) stored.push_back(pass);
    Arrival g = plain(buffer(0, Place::dy), dtype_);
    ClosingValue value = value_;
    bool left = true;  // whether the gradient has yet to be taken through `value`
    for (std::size_t i = stored.size();; --i) {
      const ClosingPass* made = i > 0 ? &stored[i - 1] : nullptr;
      const bool collective = made && !made->reduce && made->kind != ClosingPass::Kind::map;
      const bool together = collective && left && steps_alone(value) && g.how <= PullPass::Arrives::reduced;
      if (left && !together) g = through_values(value, g);
      if (!made) return;
      if (collective)
        g = through_collective(*made, together ? value : ClosingValue{}, g);
      else if (made->reduce)
        g = from_reduction(*made, g);
      value = made->value;
      left = !collective || value.window;
      if (collective) value.after = {};
    }
  }

  static std::vector<const Epilogue*> lists(const Chain& chain) {
    std::vector<const Epilogue*> all{&chain.epilogue};
    for (const ClosingStep& s : chain.closing) all.push_back(&s.after);
    return all;
  }
  static void note_reads(const ClosingValue& v, std::set<int>& read) {
    read.insert(v.source);
    for (const ClosingItem& item : v.before) read.insert(item.table);
  }
  [[nodiscard]] bool wants(int operand) const { return operand >= 0 && (wanted_ >> operand & 1) != 0; }

  PullPass reading(const Arrival& g, PullPass::Kind kind, ClosingValue value) {
    PullPass p;
    p.kind = kind;
    p.value = std::move(value);
    p.gradient = g.buffer, p.gradient_type = g.type;
    p.arrives = g.how;
    p.window = g.window, p.argmax = g.argmax;
    p.reduction = g.reduction, p.r_first = g.first, p.r_last = g.last;
    p.reduced = g.reduced, p.ties = g.ties;
    return p;
  }
  static Arrival plain(int buffer, DType type) {
    Arrival g;
    g.buffer = buffer, g.type = type;
    return g;
  }

  /// From the gradient of what a value gives to that of what it is stored as.
  Arrival through_values(ClosingValue value, Arrival g) {
    if (value.window) {
      if (!value.after.empty() || g.how != PullPass::Arrives::plain) {
        PullPass p = reading(g, PullPass::Kind::pull, value);
        target(p, value.after, p.targets, true);
        p.out = buffer(count_of(value.at()) * size_of(sum_)), p.out_type = sum_;
        g = plain(p.out, sum_);
        add(std::move(p));
      }
      g.how = value.window->average ? PullPass::Arrives::averages : PullPass::Arrives::maxima;
      g.window = *value.window, g.argmax = value.window->average ? -1 : value.argmax;
      value.window.reset(), value.after = {}, value.argmax = -1;
    }
    std::vector<int> coefficients;
    for (const ClosingItem& item : value.before)
      if (item.kind != ItemKind::steps) coefficients.push_back(-1);
    int table = static_cast<int>(coefficients.size());
    for (std::size_t i = value.before.size(); i-- > 0;)
      if (value.before[i].kind != ItemKind::steps) {
        --table;
        coefficients[static_cast<std::size_t>(table)] = coefficients_of(value, static_cast<int>(i), g, coefficients);
      }
    const bool last = is_z(value.source);
    if (value.before.empty() && g.how == PullPass::Arrives::plain && !last) return g;
    PullPass p = reading(g, PullPass::Kind::pull, value);
    p.coefficients = coefficients;
    for (const ClosingItem& item : value.before) {
      target(p, item.steps, p.targets, true);
      if (item.kind != ItemKind::row_table) continue;
      for (int number : {item.weight, item.bias})
        if (wants(number)) whole_target(p, p.targets, number);
    }
    if (last && bias_) p.bias_slot = p.sum_count++;
    p.out_type = last ? dtype_ : sum_;
    p.out = last ? gradient_of_z() : buffer(count_of(value.shape) * size_of(sum_));
    const Arrival out = plain(p.out, p.out_type);
    const int bias_slot = p.bias_slot;
    std::vector<ClosingItem> rows;
    for (const ClosingItem& item : value.before)
      if (item.kind == ItemKind::row_table) rows.push_back(item);
    const int from = add(std::move(p), &rows);
    if (bias_slot >= 0) total_of_bias(from, bias_slot);
    return out;
  }

  /// What the gradient of a norm or softmax among the items needs: a buffer.
  int coefficients_of(const ClosingValue& value, int depth, const Arrival& g, const std::vector<int>& known) {
    const ClosingItem& item = value.before[static_cast<std::size_t>(depth)];
    const bool rows = item.kind != ItemKind::set_norm, soft = item.kind == ItemKind::soft_table;
    PullPass p = reading(g, PullPass::Kind::pull, value);
    p.coefficients = known;
    p.depth = depth;
    p.first = rows ? item.first : 2;
    p.sum_count = soft ? 1 : 2;
    p.sums = buffer(0);
    const int sums = p.sums;
    const Int units = product(value.shape, 0, p.first - 1);
    const int first = p.first;
    pulls_.push_back(std::move(p));
    const int from = static_cast<int>(pulls_.size()) - 1;
    if (soft) {
      PullPass total;
      total.kind = PullPass::Kind::total;
      total.from = from;
      total.gone = 1u << 4;
      total.out = buffer(units * size_of(sum_)), total.out_type = sum_;
      const int out = total.out;
      pulls_.push_back(std::move(total));
      return out;
    }
    PullPass norm;
    norm.kind = PullPass::Kind::norm;
    norm.value = value;
    norm.first = first;
    norm.sums = sums;
    norm.saved = item.table, norm.table_width = rows ? 3 : 2;
    norm.batch = item.batch, norm.center = item.center;
    norm.per = item.per;
    if (!rows) norm.weight = item.weight;
    norm.table_out = buffer(units * 3 * size_of(sum_));
    const int out = norm.table_out;
    pulls_.push_back(std::move(norm));
    if (!rows) {
      const unsigned all_but_channels = 0b11101;
      if (wants(item.bias)) total_of_sums(from, 0, item.bias, all_but_channels);
      if (wants(item.weight)) total_of_sums(from, 1, item.weight, all_but_channels);
    }
    return out;
  }

  /// From the gradient of what a softmax or norm over columns or short rows gives, and the steps after it in `after`,
  /// to that of what its value is stored as; with a norm among its items, or a window, to that of what it begins with.
  Arrival through_collective(const ClosingPass& made, const ClosingValue& after, const Arrival& g) {
    const bool columns = made.kind == ClosingPass::Kind::columns;
    ClosingValue value = made.value;
    const bool stops = !value.window && !steps_alone(value);
    PullPass p = reading(g, columns ? PullPass::Kind::columns : PullPass::Kind::rows, value);
    p.first = made.first, p.last = made.last;
    p.layer_norm = made.layer_norm;
    p.eps = made.eps;
    p.weight = made.weight, p.bias = made.bias;
    p.middle = joined(after);
    const Shape5 at = value.at();
    const bool sums = !columns && made.first > 1;  // rows lie in a plane
    target(p, p.middle, p.middle_targets, sums);
    const bool last = is_z(value.source) && !value.window && !stops;
    if (value.window)
      target(p, value.after, p.targets, sums);
    else if (!stops)
      for (const ClosingItem& item : value.before) target(p, item.steps, p.targets, sums);
    p.stops = stops;
    const bool bias_sums = last && bias_ && sums;
    if (bias_sums) p.bias_slot = p.sum_count++;
    p.out_type = last ? dtype_ : sum_;
    p.out = last ? gradient_of_z() : buffer(count_of(at) * size_of(sum_));
    const Arrival out = plain(p.out, p.out_type);
    const int bias_slot = p.bias_slot;
    const bool vectors = made.layer_norm && (wants(made.weight) || wants(made.bias));
    if (vectors) p.vector_sums = buffer(0);
    const int from = add(std::move(p));
    if (vectors) {
      if (wants(made.weight)) total_of_vector(from, 0, made.weight);
      if (wants(made.bias)) total_of_vector(from, 1, made.bias);
    }
    if (bias_slot >= 0) {
      total_of_bias(from, bias_slot);
    } else if (last && bias_) {  // one more look at dz
      ClosingValue z = value;
      z.before.clear();
      PullPass again = reading(out, PullPass::Kind::pull, z);
      again.bias_slot = again.sum_count++;
      again.out_type = dtype_;
      total_of_bias(add(std::move(again)), 0);
    }
    if (stops) {
      // The items, norms among them, are next: as if what they give had been stored.
      return through_values(value, out);
    }
    return out;
  }

  Arrival from_reduction(const ClosingPass& made, const Arrival& g) {
    Arrival r = g;
    r.how = PullPass::Arrives::reduced;
    r.reduction = made.reduce;
    r.first = made.first, r.last = made.kind == ClosingPass::Kind::columns ? made.last : 4;
    if (*made.reduce > Reduction::mean) r.reduced = made.out;
    if (*made.reduce == Reduction::maximum || *made.reduce == Reduction::minimum) {
      ClosingPass count = made;
      count.reduce = Reduction::sum;
      count.collect = ClosingPass::Collect::sum;
      ClosingItem item;
      item.kind = ItemKind::equals;
      item.table = made.out;
      count.value.before.push_back(item);
      count.out = buffer(count_of(made.result()) * size_of(sum_));
      count.out_type = sum_;
      r.ties = count.out;
      if (made.kind == ClosingPass::Kind::result) {
        count.parts = buffer(0);
        ClosingPass parts = count;
        parts.kind = ClosingPass::Kind::parts;
        p_.passes.push_back(parts);
      }
      p_.passes.push_back(count);
    }
    return r;
  }

  int gradient_of_z() { return buffer(0, Place::dz); }

  // ---- operands
  // ------------------------------------------------------------------------------------------------------

  void whole_target(PullPass& p, std::vector<PullTarget>& targets, int number) {
    for (const PullTarget& t : targets)
      if (t.operand == number) return;
    targets.push_back({number, true, static_cast<int>(p.wholes.size())});
    p.wholes.push_back(-1);
  }

  void target(PullPass& p, const Epilogue& steps, std::vector<PullTarget>& targets, bool sums) {
    for (const EpilogueStep& s : steps.steps) {
      if (s.arithmetic <= Arithmetic::keep || s.source != Source::operand || !wants(s.index)) continue;
      spreads_[s.index] = s.spread;
      bool known = false;
      for (const PullTarget& t : targets) known |= t.operand == s.index;
      if (known) continue;
      const bool by_plane = s.spread == Spread::scalar || s.spread == Spread::channel || s.spread == Spread::plane;
      if (sums && by_plane)
        targets.push_back({s.index, false, p.sum_count++});
      else
        whole_target(p, targets, s.index);
    }
  }

  /// Dimensions that an operand does not have.
  unsigned gone(int number) const {
    unsigned mask = 0;
    for (int d = 0; d < 5; ++d)
      if (sizes_[static_cast<std::size_t>(number)][d] == 1) mask |= 1u << d;
    return mask;
  }

  /// Adds a pass and the sums of its targets; its place.
  int add(PullPass p, const std::vector<ClosingItem>* rows = nullptr) {
    const Shape5 at = p.value.at();
    const bool direct = dtype_ == sum_;
    std::vector<PullTarget> all = p.targets;
    all.insert(all.end(), p.middle_targets.begin(), p.middle_targets.end());
    std::set<int> done;
    for (const PullTarget& t : all)
      if (t.whole) {
        const auto slot = static_cast<std::size_t>(t.slot);
        const bool as_it_is = direct && uses_[t.operand] == 1 && !row_vector(rows, t.operand) &&
                              spreads_.contains(t.operand) && spreads_.at(t.operand) == Spread::whole;
        p.wholes[slot] = as_it_is ? gradient(t.operand) : buffer(count_of(at) * size_of(sum_));
        if (as_it_is) written_.insert(t.operand), done.insert(t.operand);
      }
    if (p.sum_count > 0) p.sums = buffer(0);
    const std::vector<int> wholes = p.wholes;
    pulls_.push_back(std::move(p));
    const int from = static_cast<int>(pulls_.size()) - 1;
    std::set<int> summed;
    for (const PullTarget& t : all) {
      if (done.contains(t.operand)) continue;
      if (!t.whole) {
        // One slot serves the steps before and after a collective.
        total_of_sums(from, t.slot, t.operand, gone(t.operand));
        continue;
      }
      const ClosingItem* row = row_vector(rows, t.operand);
      total_of_values(wholes[static_cast<std::size_t>(t.slot)], at, t.operand,
                      row ? (1u << row->first) - 1 : gone(t.operand));
    }
    return from;
  }
  static const ClosingItem* row_vector(const std::vector<ClosingItem>* rows, int operand) {
    if (rows)
      for (const ClosingItem& item : *rows)
        if (item.weight == operand || item.bias == operand) return &item;
    return nullptr;
  }
  int gradient(int operand) {
    const int b = buffer(0, Place::operand);
    p_.buffers[static_cast<std::size_t>(b)].number = operand;
    return b;
  }

  PullPass total_into(int operand) {
    PullPass t;
    t.kind = PullPass::Kind::total;
    t.out = gradient(operand), t.out_type = dtype_;
    t.add = !written_.insert(operand).second;
    return t;
  }
  void total_of_sums(int from, int slot, int operand, unsigned gone) {
    PullPass t = total_into(operand);
    t.from = from, t.slot = slot, t.gone = gone | 1u << 4;
    pulls_.push_back(std::move(t));
  }
  void total_of_vector(int from, int slot, int operand) {
    PullPass t = total_into(operand);
    t.source = PullPass::Source::vector_sums;
    t.from = from, t.slot = slot, t.gone = 1u;
    pulls_.push_back(std::move(t));
  }
  /// Of a number for each value: where a result has many of them, planes and rows are added up first.
  void total_of_values(int values, Shape5 at, int operand, unsigned gone) {
    Int each = 1;
    for (int d = 0; d < 5; ++d)
      if (gone >> d & 1) each *= at[d];
    if (each > 1 << 14 && (gone & 0b11100) == 0b11100 && (gone & 0b00011) != 0) {
      PullPass t;
      t.kind = PullPass::Kind::total;
      t.source = PullPass::Source::whole;
      t.total_in = values, t.shape = at, t.gone = 0b11100;
      at[2] = at[3] = at[4] = 1;
      t.out = values = buffer(count_of(at) * size_of(sum_)), t.out_type = sum_;
      pulls_.push_back(std::move(t));
    }
    PullPass t = total_into(operand);
    t.source = PullPass::Source::whole;
    t.total_in = values, t.shape = at, t.gone = gone;
    pulls_.push_back(std::move(t));
  }
  void total_of_bias(int from, int slot) {
    PullPass t;
    t.kind = PullPass::Kind::total;
    t.out = buffer(0, Place::db), t.out_type = dtype_;
    t.from = from, t.slot = slot, t.gone = 0b11101;
    pulls_.push_back(std::move(t));
  }
  void zero(int operand) {
    PullPass t = total_into(operand);
    t.source = PullPass::Source::whole;
    t.nothing = true;
    t.shape = sizes_[static_cast<std::size_t>(operand)];
    pulls_.push_back(std::move(t));
  }

  const std::vector<Shape5>& sizes_;
  unsigned wanted_;
  bool bias_;
  std::map<int, int> uses_;
  std::map<int, Spread> spreads_;
  std::set<int> written_;
  std::vector<PullPass> pulls_;
};

}  // namespace

PullingProgram pulling_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes,
                               const std::vector<Shape5>& sizes, unsigned wanted, bool bias, bool any_size) {
  return Pulling(problem, chain, shapes, sizes, wanted, bias, any_size).program();
}

}  // namespace upconv
