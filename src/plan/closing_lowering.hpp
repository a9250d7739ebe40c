// From a chain to passes of the closing kernels: what plan/cuda_closing.cpp and plan/cuda_pulling.cpp share. Steps and
// windows are not passes of their own: they wait in the value that the next collective step evaluates, or the last
// pass, which writes y. Only what a second reader needs is stored in between.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "plan/cuda_chain.hpp"
#include "plan/cuda_closing.hpp"
#include "problem/geometry.hpp"

namespace upconv {

namespace closing_lowering {

using cuda::ClosingItem;
using cuda::ClosingPass;
using cuda::ClosingValue;
using cuda::ClosingWindow;
using Kind = ClosingStep::Kind;
using Reduction = ClosingStep::Reduction;
typedef std::int64_t Int;

/// The longest row that closing/rows.cuh holds in registers: four values of each thread of a block.
inline constexpr Int longest_row = 1024;

inline Int product(const Shape5& s, int first, int last) {
  Int n = 1;
  for (int d = first; d <= last; ++d) n *= s[d];
  return n;
}
inline Int count_of(const Shape5& s) { return product(s, 0, 4); }

inline void append(Epilogue& to, const Epilogue& steps) {
  to.steps.insert(to.steps.end(), steps.steps.begin(), steps.steps.end());
}

inline bool unpadded(const ClosingWindow& w) { return w.padding[0] == 0 && w.padding[1] == 0 && w.padding[2] == 0; }

/// Windows over windows are larger windows, where nothing comes between.
inline bool merge(ClosingWindow& first, const ClosingWindow& second) {
  if (first.average != second.average || !unpadded(first) || !unpadded(second)) return false;
  for (int d = 0; d < 3; ++d) {
    if (first.average && first.stride[d] != first.kernel[d]) return false;  // overlaps would count twice
    if (!first.average && first.stride[d] > first.kernel[d]) return false;  // gaps would count at all
  }
  for (int d = 0; d < 3; ++d) {
    first.kernel[d] += (second.kernel[d] - 1) * first.stride[d];
    first.stride[d] *= second.stride[d];
  }
  return true;
}

class ClosingLowering {
 public:
  /// For results alone; for results and what the gradient needs (the convolution's result stays as it was stored, and
  /// so do a few numbers of each norm, softmax and maximum); for the gradient, with those.
  enum class Purpose { results, training, gradient };

  ClosingLowering(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes, Purpose purpose,
                  bool any_size = false)
      : purpose_(purpose),
        any_size_(any_size),
        dtype_(problem.dtype),
        sum_(dtype_ == DType::f64 ? DType::f64 : DType::f32) {
    const Geometry g = make_geometry(problem);
    const Shape5 x{g.batch, g.in_channels(), g.in[0], g.in[1], g.in[2]};
    p_.x = buffer(0, ClosingBuffer::Place::x);
    if (!chain.prologue.empty()) {
      ClosingPass pass;
      pass.value = {p_.x, dtype_, x, {}, {}, {}};
      pass.value.before.push_back(steps(chain.prologue));
      pass.out_type = dtype_;
      pass.out = p_.x = buffer(count_of(x) * size_of(dtype_));
      p_.before.push_back(std::move(pass));
    }
    p_.y = buffer(count_of(shapes.front()) * size_of(dtype_),
                  purpose == Purpose::results && !any_size ? ClosingBuffer::Place::workspace : ClosingBuffer::Place::z);
    value_ = {p_.y, dtype_, shapes.front(), {}, {}, {}};
    if (purpose != Purpose::results || epilogue_of_layer(chain).empty()) then(chain.epilogue);
    for (std::size_t i = 0; i < chain.closing.size(); ++i) i += lower(chain.closing, i);
    if (purpose != Purpose::gradient) finish(), norms_in_one_pass();
  }

  ClosingProgram take() { return std::move(p_); }

 protected:
  int buffer(Int bytes, ClosingBuffer::Place place = ClosingBuffer::Place::workspace) {
    p_.buffers.push_back({place, bytes, 0});
    return static_cast<int>(p_.buffers.size()) - 1;
  }
  static ClosingItem steps(const Epilogue& e) {
    ClosingItem item;
    item.steps = e;
    return item;
  }

  /// Steps on the values as they are now.
  void then(const Epilogue& e) {
    if (e.empty()) return;
    if (value_.window)
      append(value_.after, e);
    else
      value_.before.push_back(steps(e));
    moments_ = -1;
  }

  void push(ClosingItem item) { value_.before.push_back(std::move(item)); }

  [[nodiscard]] bool alone() const { return purpose_ == Purpose::gradient; }
  [[nodiscard]] bool is_z(int buffer) const {
    return p_.buffers[static_cast<std::size_t>(buffer)].place == ClosingBuffer::Place::z;
  }
  /// Memory that lasts from the forward pass to the gradient's.
  int saved(Int bytes) {
    const int b = buffer(bytes, ClosingBuffer::Place::saved);
    p_.saved.push_back(b);
    return b;
  }

  /// Adds a pass that writes values, which are what is left to look at. For the gradient nothing is overwritten, and
  /// steps after it are not its own.
  void emit(ClosingPass pass) {
    const Epilogue later = pass.reduce ? pass.after_result : pass.middle;
    if (alone()) pass.after_result = pass.middle = {};
    pass.value = std::move(value_);
    pass.once = purpose_ == Purpose::results;
    pass.out_type = sum_;
    const Shape5 shape = pass.result();
    const bool over = !alone() && !is_z(pass.value.source) && pass.in_place() && pass.value.stored == pass.out_type;
    pass.out = over ? pass.value.source : buffer(count_of(shape) * size_of(pass.out_type));
    value_ = {pass.out, pass.out_type, shape, {}, {}, {}};
    moments_ = -1;
    p_.passes.push_back(std::move(pass));
    if (alone()) then(later);
  }
  void store() {
    if (!value_.plain()) emit({});
  }
  /// Columns of maxima whose places are kept want more registers than there are: the maxima by themselves first.
  void store_maxima() {
    if (purpose_ == Purpose::training && value_.window && !value_.window->average) store();
  }
  /// Tables apply to what is stored; a pass takes two of them, and one kind of rows.
  void make_room_for_table() {
    bool rows = false;
    for (const ClosingItem& item : value_.before)
      rows |= item.kind == ClosingItem::Kind::row_table || item.kind == ClosingItem::Kind::soft_table;
    if (value_.window || rows || value_.tables() >= 2) store();
  }

  /// Adds passes that collect from units of the value, which stays; the buffer of the parts.
  int collect(ClosingPass::Collect what, int first) {
    ClosingPass pass;
    pass.kind = ClosingPass::Kind::parts;
    pass.value = value_;
    pass.first = first;
    pass.collect = what;
    pass.out_type = sum_;
    pass.parts = buffer(0);  // sized by the launch
    p_.passes.push_back(pass);
    return pass.parts;
  }
  /// Of rows: kept for the gradient.
  int row_table(Int rows) { return purpose_ == Purpose::results ? table(rows) : saved(rows * 3 * size_of(sum_)); }
  int table(Int units) { return buffer(units * 3 * size_of(sum_)); }

  ClosingItem norm_item(const ClosingStep& s) const {
    ClosingItem item;
    item.kind = ClosingItem::Kind::set_norm;
    item.batch = s.kind == Kind::batch_norm, item.center = s.center_only;
    item.per = item.batch ? 1 : value_.shape[1] / s.groups;
    item.weight = s.weight, item.bias = s.bias, item.eps = s.eps;
    return item;
  }

  /// A norm over planes: from moments that are known already where only norms came between.
  void plane_norm(const ClosingStep& s) {
    if (alone()) {
      make_room_for_table();
      ClosingItem item = norm_item(s);
      item.table = saved(sets_of(s) * 2 * size_of(sum_));
      push(std::move(item));
      return;
    }
    const bool known = moments_ >= 0;
    // The mean of each plane, after a norm that has all it takes: no kernel of its own.
    if (known && s.center_only && s.groups == value_.shape[1] && s.kind == Kind::plane_norm && s.weight < 0 &&
        s.bias < 0 && purpose_ == Purpose::results && p_.passes.back().kind == ClosingPass::Kind::norm) {
      p_.passes.back().centered = true;
      return;
    }
    if (!known) {
      make_room_for_table();
      moments_ = collect(ClosingPass::Collect::moments, 2);
      measured_ = value_;
      table_ = table(product(value_.shape, 0, 1));
    }
    ClosingPass pass;
    pass.kind = ClosingPass::Kind::norm;
    pass.value = measured_;
    pass.batch = pass.statistics = s.kind == Kind::batch_norm;
    pass.per = pass.batch ? 1 : value_.shape[1] / s.groups;
    pass.center = s.center_only;
    pass.eps = s.eps;
    pass.weight = s.weight, pass.bias = s.bias;
    pass.parts = moments_;
    pass.table = known ? table_ : -1;
    pass.table_out = table_;
    if (purpose_ == Purpose::training) pass.saved = saved(sets_of(s) * 2 * size_of(sum_));
    p_.passes.push_back(pass);
    if (!known) {
      ClosingItem item;
      item.kind = ClosingItem::Kind::plane_table;
      item.table = table_;
      push(item);
    }
  }

  Int sets_of(const ClosingStep& s) const {
    return s.kind == Kind::batch_norm ? value_.shape[1] : value_.shape[0] * s.groups;
  }

  /// A LayerNorm over rows too long for registers.
  void long_row_norm(const ClosingStep& s, int first) {
    make_room_for_table();
    ClosingItem item;
    item.kind = ClosingItem::Kind::row_table;
    item.table = row_table(product(value_.shape, 0, first - 1));
    if (!alone()) {
      ClosingPass pass;
      pass.kind = ClosingPass::Kind::norm;
      pass.parts = collect(ClosingPass::Collect::moments, first);
      pass.value = value_;
      pass.first = first;
      pass.eps = s.eps;
      pass.table_out = item.table;
      p_.passes.push_back(pass);
    }
    item.first = first;
    item.weight = s.weight, item.bias = s.bias;
    push(item);
  }

  void long_row_softmax(int first) {
    make_room_for_table();
    ClosingItem item;
    item.kind = ClosingItem::Kind::soft_table;
    item.table = row_table(product(value_.shape, 0, first - 1));
    if (!alone()) {
      ClosingPass pass;
      pass.kind = ClosingPass::Kind::result;
      pass.parts = collect(ClosingPass::Collect::exponentials, first);
      pass.value = value_;
      pass.first = first;
      pass.collect = ClosingPass::Collect::exponentials;
      pass.softmax = true;
      pass.table_out = item.table;
      p_.passes.push_back(pass);
    }
    item.first = first;
    push(item);
  }

  static ClosingPass::Collect collected(Reduction r) {
    switch (r) {
      case Reduction::maximum:
        return ClosingPass::Collect::largest;
      case Reduction::minimum:
        return ClosingPass::Collect::smallest;
      case Reduction::logsumexp:
        return ClosingPass::Collect::exponentials;
      default:
        return ClosingPass::Collect::sum;
    }
  }

  void long_row_reduction(const ClosingStep& s, int first) {
    ClosingPass pass;
    pass.kind = ClosingPass::Kind::result;
    pass.collect = collected(s.reduction);
    pass.reduce = s.reduction;
    const Epilogue after = alone() ? Epilogue{} : s.after;
    pass.after_result = after;
    pass.first = first;
    const std::size_t at = p_.passes.size();
    pass.parts = collect(pass.collect, first);
    pass.value = value_;
    pass.out_type = sum_;
    const Shape5 shape = pass.result();
    pass.out = buffer(count_of(shape) * size_of(sum_));
    ClosingPass& parts = p_.passes[at];
    parts.reduce = s.reduction, parts.after_result = after, parts.out = pass.out;
    value_ = {pass.out, sum_, shape, {}, {}, {}};
    moments_ = -1;
    p_.passes.push_back(std::move(pass));
    if (alone()) then(s.after);
  }

  /// The mean over space of normalised values: what the norm makes of each plane's mean.
  void mean_of_normalised(const ClosingStep& s) {
    ClosingPass pass;
    pass.kind = ClosingPass::Kind::result;
    pass.collect = ClosingPass::Collect::moments;
    pass.reduce = Reduction::mean;
    pass.after_result = s.after;
    pass.value = measured_;
    pass.parts = moments_;
    pass.table = table_;
    pass.out_type = sum_;
    const Shape5 shape = pass.result();
    pass.out = buffer(count_of(shape) * size_of(sum_));
    value_ = {pass.out, sum_, shape, {}, {}, {}};
    moments_ = -1;
    p_.passes.push_back(std::move(pass));
  }

  /// Whether a step reduces the dimensions first to last and nothing else that is longer than 1.
  static bool reduces(const ClosingStep& s, const Shape5& at, int first, int last) {
    return s.kind == Kind::reduce && product(at, s.first, s.last) == product(at, first, last) &&
           product(at, std::min(s.first, first), std::max(s.last, last)) == product(at, first, last);
  }

  /// Adds what step i needs; how many steps after it were taken along.
  std::size_t lower(const std::vector<ClosingStep>& list, std::size_t i) {
    const ClosingStep& s = list[i];
    const Shape5 at = value_.at();
    switch (s.kind) {
      case Kind::pool: {
        const ClosingWindow w{s.average, s.count_include_pad, s.kernel, s.stride, s.padding};
        const bool merged = value_.window && value_.after.empty() && merge(*value_.window, w);
        if (!merged) {
          if (value_.window) store();
          value_.window = w;
        }
        if (!w.average && purpose_ != Purpose::results) {
          if (!merged) value_.argmax = saved(0);
          p_.buffers[static_cast<std::size_t>(value_.argmax)].bytes =
              count_of(value_.at()) * cuda::argmax_bytes(*value_.window);
        }
        moments_ = -1;
        then(s.after);
        return 0;
      }
      case Kind::plane_norm:
      case Kind::batch_norm:
        plane_norm(s);
        then(s.after);
        return 0;
      case Kind::row_norm: {
        const int first = 5 - s.dims;
        if (product(at, first, 4) > longest_row) {
          long_row_norm(s, first);
          then(s.after);
          return 0;
        }
        ClosingPass pass;
        pass.kind = ClosingPass::Kind::rows;
        pass.layer_norm = true;
        pass.eps = s.eps;
        pass.weight = s.weight, pass.bias = s.bias;
        return over_rows(std::move(pass), list, i, first);
      }
      case Kind::softmax: {
        ClosingPass pass;
        pass.softmax = true;
        if (product(at, s.last + 1, 4) > 1) {
          store_maxima();
          pass.kind = ClosingPass::Kind::columns;
          pass.first = s.first, pass.last = s.last;
          pass.middle = s.after;
          return with_reduction(std::move(pass), list, i);
        }
        if (any_size_ || product(at, s.first, 4) > longest_row) {
          long_row_softmax(s.first);
          then(s.after);
          return 0;
        }
        pass.kind = ClosingPass::Kind::rows;
        return over_rows(std::move(pass), list, i, s.first);
      }
      case Kind::reduce: {
        if (product(at, s.first, s.last) == 1) {  // of one value: that value
          then(s.after);
          return 0;
        }
        // Where its gradient goes is asked of the value itself.
        if (alone() && value_.window && (s.reduction == Reduction::maximum || s.reduction == Reduction::minimum))
          store();
        ClosingPass pass;
        pass.reduce = s.reduction;
        pass.after_result = s.after;
        if (product(at, s.last + 1, 4) > 1) {
          store_maxima();
          pass.kind = ClosingPass::Kind::columns;
          pass.first = s.first, pass.last = s.last;
          emit(std::move(pass));
        } else if (moments_ >= 0 && s.reduction == Reduction::mean && reduces(s, at, 2, 4)) {
          mean_of_normalised(s);
        } else if (any_size_ || product(at, s.first, 4) > longest_row) {
          long_row_reduction(s, s.first);
        } else {
          pass.kind = ClosingPass::Kind::rows;
          pass.first = s.first;
          emit(std::move(pass));
        }
        return 0;
      }
    }
    return 0;
  }

  std::size_t over_rows(ClosingPass pass, const std::vector<ClosingStep>& list, std::size_t i, int first) {
    pass.first = first;
    pass.middle = list[i].after;
    return with_reduction(std::move(pass), list, i);
  }

  /// A reduction over the same rows or columns goes with the step before it.
  std::size_t with_reduction(ClosingPass pass, const std::vector<ClosingStep>& list, std::size_t i) {
    const bool along = purpose_ == Purpose::results && i + 1 < list.size() &&
                       reduces(list[i + 1], value_.at(), pass.first, pass.last) &&
                       product(value_.at(), pass.first, pass.last) > 1;
    if (along) pass.reduce = list[i + 1].reduction, pass.after_result = list[i + 1].after;
    emit(std::move(pass));
    return along;
  }

  /// The last values become y.
  void finish() {
    if (!value_.plain()) {
      ClosingPass pass;
      pass.value = value_;
      write_result(pass);
      p_.passes.push_back(std::move(pass));
    } else if (value_.source == p_.y) {
      in_y(p_.y);
    } else {  // whoever wrote them writes y: one pass, or parts and what puts them together
      const int written = value_.source;
      for (std::size_t i = p_.passes.size(); i-- > 0 && p_.passes[i].out == written;) {
        write_result(p_.passes[i]);
        if (p_.passes[i].kind != ClosingPass::Kind::result) break;
      }
    }
  }

  /// In front of the passes of a norm over sets of planes, one that does the same where a set has room on the chip.
  void norms_in_one_pass() {
    using PassKind = ClosingPass::Kind;
    std::vector<ClosingPass> passes;
    for (std::size_t i = 0; i < p_.passes.size(); ++i) {
      if (i + 2 < p_.passes.size() && p_.passes[i].kind == PassKind::parts && p_.passes[i + 1].kind == PassKind::norm &&
          p_.passes[i + 2].kind == PassKind::map)
        if (auto one = norm_in_one_pass(p_.passes[i], p_.passes[i + 1], p_.passes[i + 2]))
          passes.push_back(std::move(*one));
      passes.push_back(p_.passes[i]);
    }
    p_.passes = std::move(passes);
  }
  static std::optional<ClosingPass> norm_in_one_pass(const ClosingPass& parts, const ClosingPass& norm,
                                                     const ClosingPass& map) {
    const auto& before = parts.value.before;
    const auto& after = map.value.before;
    if (parts.collect != ClosingPass::Collect::moments || parts.first != 2 || parts.value.window || map.value.window)
      return {};
    if (norm.parts != parts.parts || norm.batch || norm.centered || norm.table >= 0) return {};
    if (map.value.source != parts.value.source || after.size() <= before.size() ||
        after[before.size()].kind != ClosingItem::Kind::plane_table || after[before.size()].table != norm.table_out ||
        !map.value.after.empty())
      return {};
    ClosingPass one = parts;
    one.kind = ClosingPass::Kind::sets;
    one.parts = -1;
    for (std::size_t i = before.size() + 1; i < after.size(); ++i) {
      if (after[i].kind != ClosingItem::Kind::steps) return {};
      append(one.middle, after[i].steps);
    }
    one.per = norm.per, one.center = norm.center, one.eps = norm.eps;
    one.weight = norm.weight, one.bias = norm.bias, one.saved = norm.saved;
    one.out = map.out, one.out_type = map.out_type;
    one.instead_of = 3;
    return one;
  }

  void in_y(int buffer) {
    p_.buffers[buffer].place = ClosingBuffer::Place::y;
    result_ = buffer;
  }
  /// Into y; where the source may be overwritten it lies there too.
  void write_result(ClosingPass& pass) {
    pass.out_type = dtype_;
    if (result_ < 0) {
      if (pass.in_place() && pass.value.stored == dtype_ && pass.value.source != p_.x && !is_z(pass.value.source))
        in_y(pass.value.source);
      else
        in_y(buffer(0));
    }
    pass.out = result_;
  }

  Purpose purpose_;
  bool any_size_;
  DType dtype_, sum_;
  ClosingProgram p_;
  ClosingValue value_;
  int result_ = -1;  ///< The buffer that is y.
  // The moments of the planes of `measured_`, to which nothing but table_ has been applied since; or -1.
  int moments_ = -1, table_ = -1;
  ClosingValue measured_;
};

}  // namespace closing_lowering

using closing_lowering::ClosingLowering;

}  // namespace upconv
