// See pull_text.hpp. The text of a gradient: every item forward, each value under a name of its own, then every item
// back, last first.
#include "cuda/pull_text.hpp"

#include <algorithm>

#include "cuda/closing_text.hpp"
#include "cuda/element.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Kind = PullPass::Kind;
using Reduction = ClosingStep::Reduction;

std::string number(std::int64_t n) { return std::to_string(n); }

/// The statements of one function `S name(S v, S g, ...)`.
class Trail {
 public:
  /// `collect`: whether operands' gradients are this function's.
  Trail(const PullPass& p, const std::vector<PullTarget>& targets, bool collect)
      : p_(p), targets_(targets), collect_(collect) {}

  void steps(const Epilogue& list, const std::string& values) {
    std::string kept_value[max_kept], kept_gradient[max_kept];
    for (std::size_t i = 0; i < list.steps.size(); ++i) {
      const EpilogueStep& s = list.steps[i];
      if (s.arithmetic == Arithmetic::keep) {
        const std::string k = "k" + number(names_++);
        declared_ += "  S " + k + " = S(0);\n";
        kept_value[s.index] = v_, kept_gradient[s.index] = k;
        back("g += " + k + ";");
      } else if (s.arithmetic == Arithmetic::detach) {
        back("g = S(0);");
      } else if (s.arithmetic == Arithmetic::none) {
        const std::string in = v_;
        next(call_text("activation", s, in));
        back("g *= " + call_text("slope", s, in) + ";");
      } else {
        std::string u;
        if (s.source == Source::kept) {
          u = kept_value[s.index];
        } else {
          u = "u" + number(names_++);
          forward_ += "  const S " + u + " = " +
                      (s.source == Source::scalar ? literal_text(s.a) : operand_text(s, "Element", values)) + ";\n";
        }
        arithmetic(s, u, s.source == Source::kept ? kept_gradient[s.index] : "");
      }
    }
  }

  /// An item with a table; `stop`: the gradient goes no further, its sums are what is wanted.
  void norm(const ClosingItem& item, int table, bool stop) {
    const std::string t = "t" + number(table), c = "c" + number(table), q = "q" + number(table), in = v_;
    const bool rows = item.kind != ClosingItem::Kind::set_norm;
    if (stop) backward_.clear();
    const std::string place = rows ? "row" + number(table) : set_of(item);
    if (rows) forward_ += "  const upconv::i64 " + place + " = upconv::quotient(at, a.row);\n";
    forward_ += "  const S* " + t + " = static_cast<const S*>(a.tables[" + number(table) + "]) + " +
                (rows ? "3" : "2") + " * " + place + ";\n";
    const std::string coefficients =
        "  const S* " + c + " = static_cast<const S*>(p.coefficients[" + number(table) + "]) + ";
    if (item.kind == ClosingItem::Kind::soft_table) {
      next("upconv::exponential(" + in + " - " + t + "[0]) * " + t + "[1]");
      if (stop) return sums("g * " + v_, "");
      forward_ += coefficients + place + ";\n";
      return back("g = " + v_ + " * (g - " + c + "[0]);");
    }
    forward_ += "  const S " + q + " = (" + in + " - " + t + "[0]) * " + t + "[1];\n";
    std::string w, b;
    const auto vector = [&](int operand) {
      if (!rows) return channel_operand(operand);
      return "upconv::operand_value<Element>(operands.at[" + number(operand) + "], at - " + place + " * a.row)";
    };
    if (item.weight >= 0) {
      w = "w" + number(table);
      forward_ += "  const S " + w + " = " + vector(item.weight) + ";\n";
    }
    std::string value = w.empty() ? q : q + " * " + w;
    if (item.bias >= 0) value += " + " + vector(item.bias);
    next(value);
    const std::string h = rows && !w.empty() ? "g * " + w : "g";
    if (stop) return sums(h, "(" + h + ") * " + q);
    forward_ += coefficients + "3 * " + (rows ? place : "(upconv::i64(n) * CHANNELS + channel)") + ";\n";
    back("g = " + std::string(rows ? "(" + h + ") * " + t + "[1]" : c + "[0] * g") + " - " + c + "[1] - " + q + " * " +
         c + "[2];");
    if (rows) {  // the vectors' gradients: numbers for every value
      contribute(item.weight, "g * " + q);
      contribute(item.bias, "g");
    }
  }

  /// What arrives belongs to a reduction of the value as it is now.
  void from_reduction() {
    if (!p_.reduction) return;
    const std::string r = "static_cast<const S*>(p.reduced)[upconv::reduced_place(p.length, p.inner, at)]";
    switch (*p_.reduction) {
      case Reduction::sum:
        return;
      case Reduction::mean:
        return back("g = g / S(p.length);");
      case Reduction::maximum:
      case Reduction::minimum:
        return back("g = " + v_ + " == " + r +
                    " ? g / static_cast<const S*>(p.ties)[upconv::reduced_place(p.length, p.inner, at)] : S(0);");
      case Reduction::logsumexp:
        return back("g *= upconv::exponential(" + v_ + " - " + r + ");");
    }
  }

  std::string text(const std::string& name, bool bias) const {
    std::string s = "__device__ __forceinline__ S " + name +
                    "(S v, S g, const upconv::arguments::Pull& p, const Operands& operands, int n, int channel, "
                    "upconv::i64 at, S* sums) {\n  const upconv::arguments::Closing& a = p.values;\n";
    s += declared_ + forward_;
    for (auto i = backward_.rbegin(); i != backward_.rend(); ++i) s += "  " + *i + "\n";
    for (const auto& [slot, used] : wholes_)
      if (used) s += "  static_cast<S*>(p.whole[" + number(slot) + "])[at] = whole" + number(slot) + ";\n";
    if (bias) s += "  sums[" + number(p_.bias_slot) + "] += g;\n";
    return s + "  return g;\n}\n";
  }

 private:
  void next(const std::string& expression) {
    v_ = "v" + number(names_++);
    forward_ += "  const S " + v_ + " = " + expression + ";\n";
  }
  void back(const std::string& statement) { backward_.push_back(statement); }
  void sums(const std::string& first, const std::string& second) {
    back("sums[0] += " + first + ";" + (second.empty() ? "" : " sums[1] += " + second + ";"));
  }

  /// Pushed so that it runs before what was pushed last (which changes g).
  void contribute(int operand, const std::string& d) {
    if (!collect_ || operand < 0) return;
    for (const PullTarget& t : targets_) {
      if (t.operand != operand) continue;
      if (!t.whole) return back("sums[" + number(t.slot) + "] += " + d + ";");
      auto known = std::find_if(wholes_.begin(), wholes_.end(), [&](auto& w) { return w.first == t.slot; });
      if (known == wholes_.end()) {
        wholes_.emplace_back(t.slot, true);
        declared_ += "  S whole" + number(t.slot) + " = S(0);\n";
      }
      return back("whole" + number(t.slot) + " += " + d + ";");
    }
  }

  void arithmetic(const EpilogueStep& s, const std::string& u, const std::string& kept) {
    const std::string v = v_;
    std::string value, of_v, of_u;  // of_u: the second value's gradient, from the g that arrives
    switch (s.arithmetic) {
      case Arithmetic::add:
        value = v + " + " + u, of_u = "g";
        break;
      case Arithmetic::subtract:
        value = v + " - " + u, of_u = "-g";
        break;
      case Arithmetic::reverse_subtract:
        value = u + " - " + v, of_v = "g = -g;", of_u = "g";
        break;
      case Arithmetic::multiply:
        value = v + " * " + u, of_v = "g *= " + u + ";", of_u = "g * " + v;
        break;
      case Arithmetic::divide:
        value = v + " / " + u, of_v = "g /= " + u + ";", of_u = "-g * " + v + " / (" + u + " * " + u + ")";
        break;
      case Arithmetic::reverse_divide:
        value = u + " / " + v, of_v = "g = -g * " + u + " / (" + v + " * " + v + ");", of_u = "g / " + v;
        break;
      case Arithmetic::minimum:
      case Arithmetic::maximum: {
        const bool least = s.arithmetic == Arithmetic::minimum;
        value = std::string("upconv::activation::") + (least ? "minimum" : "maximum") + "<S>(" + v + ", " + u + ")";
        const std::string beyond = least ? " > " : " < ";
        // torch.clamp keeps the gradient at its bound; torch.minimum and maximum share it.
        if (s.source == Source::scalar) {
          of_v = "g = " + v + beyond + u + " ? S(0) : g;";
        } else {
          of_v = "g = " + v + " == " + u + " ? g * S(0.5) : " + v + beyond + u + " ? S(0) : g;";
          of_u = "(" + v + " == " + u + " ? g * S(0.5) : " + v + beyond + u + " ? g : S(0))";
        }
        break;
      }
      case Arithmetic::load:
        value = u, of_v = "g = S(0);", of_u = "g";
        break;
      default:
        return;
    }
    next(value);
    if (!of_v.empty()) back(of_v);
    if (!kept.empty())
      back(kept + " += " + of_u + ";");
    else if (s.source == Source::operand)
      contribute(s.index, of_u);
  }

  const PullPass& p_;
  const std::vector<PullTarget>& targets_;
  bool collect_;
  int names_ = 0;
  std::string v_ = "v", declared_, forward_;
  std::vector<std::string> backward_;
  std::vector<std::pair<int, bool>> wholes_;
};

/// The items, or the steps after a window.
Trail trail_of_values(const PullPass& p) {
  Trail t(p, p.targets, p.depth < 0);
  if (p.stops) return t;
  if (p.value.window) {
    t.steps(p.value.after, "a.at.values");
  } else {
    int table = 0;
    for (std::size_t i = 0; i < p.value.before.size(); ++i) {
      const ClosingItem& item = p.value.before[i];
      if (item.kind == ClosingItem::Kind::steps) {
        t.steps(item.steps, "a.in.values");
        continue;
      }
      t.norm(item, table++, static_cast<int>(i) == p.depth);
    }
  }
  return t;
}

}  // namespace

void share_pulled_columns(const PullPass& p, launch::ClosingFixed& f) {
  const Shape5 at = p.value.at();
  std::int64_t length = 1;
  for (int d = p.first; d <= p.last; ++d) length *= at[d];
  if (p.first != 1 || p.last != 1 || length > pulled_most_held) {
    f.split = length >= 16 ? 8 : 1;
    f.each = 1;
    return;
  }
  f.split = length <= 16 ? 1 : 8;
  const std::int64_t held = (length + f.split - 1) / f.split, most = 16 / (f.sum_bytes / 4);
  f.each = 4 * held <= most ? 4 : 2 * held <= most ? 2 : 1;
}

std::string pull_text(const PullPass& p, DType element, const launch::PullFixed& fixed) {
  PreambleText t;
  if (p.kind == Kind::total) {
    const bool sums = p.out_type == DType::f64 || element == DType::f64;
    t.add("#include \"types.cuh\"\nnamespace config {\n");
    t.add(std::string("typedef ") + (sums ? "double" : "float") + " In;\n");
    t.add(std::string("typedef ") + device_type(p.out_type) + " Out;\n");
    t.flag("ADD", p.add);
    t.add("}\n");
    return t.text();
  }
  begin_config(t, true);
  t.add(std::string("typedef ") + device_type(element) + " Element;\n");
  t.add(std::string("typedef ") + device_type(p.value.stored) + " Stored;\n");
  t.add(std::string("typedef ") + device_type(p.out_type) + " Out;\n");
  t.add(std::string("typedef ") + device_type(p.gradient_type) + " Arriving;\n");
  t.add("typedef upconv::Number<Element>::Sum S;\n");
  t.constant("CHANNELS", p.value.shape[1]);
  t.constant("RESULT_CHANNELS", p.value.shape[1]);
  t.flag("WIDE", fixed.closing.wide);
  t.constant("OPERANDS", p.operands());
  t.add("typedef upconv::arguments::Operands<OPERANDS> Operands;\n");
  const ClosingWindow w = p.value.window.value_or(ClosingWindow{});
  t.flag("POOL", p.kind != Kind::norm && p.value.window.has_value());
  t.flag("AVERAGE", w.average);
  t.constant("ARGMAX", 0);
  add_window(t, "", w);
  if (p.kind == Kind::norm) {
    t.flag("BATCH", p.batch);
    t.constant("PER", p.per);
    t.flag("CENTER", p.center);
    t.flag("WEIGHT", p.weight >= 0);
    t.constant("TABLE_WIDTH", p.table_width);
  } else {
    t.constant("ARRIVES", static_cast<int>(p.arrives));
    t.constant("G_ARGMAX", p.argmax >= 0 ? argmax_bytes(p.window) : 0);
    add_window(t, "G_", p.window);
    t.constant("SUMS", p.sum_count);
  }
  if (p.kind == Kind::pull) t.flag("STORE", p.out >= 0);
  if (p.kind == Kind::columns) {
    const bool channels = p.first == 1 && p.last == 1;
    t.constant("LENGTH", channels && p.value.at()[1] <= pulled_most_held ? p.value.at()[1] : 0);
    t.constant("SPLIT", fixed.closing.split);
    t.constant("EACH", fixed.closing.each);
    t.flag("CHANNEL_RANGE", channels);
  }
  if (p.kind == Kind::rows) {
    t.flag("NORM", p.layer_norm);
    t.flag("WEIGHT", p.weight >= 0);
    t.flag("BIAS", p.bias >= 0);
    t.number("EPS", p.eps);
    t.flag("VECTOR_SUMS", p.vector_sums >= 0);
  }
  const auto function = [&](const char* name, const std::string& body) {
    t.add(std::string("__device__ __forceinline__ S ") + name +
          "(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) "
          "{\n" +
          body + "  return v;\n}\n");
  };
  const bool reads = p.kind != Kind::norm;
  function("before", reads ? items_text(p.value.before) : "");
  function("after", reads ? scoped_steps(p.value.after, "a.at.values") : "");
  if (reads) {
    Trail values = trail_of_values(p);
    const bool collective = p.kind != Kind::pull;
    if (!collective) values.from_reduction();
    t.add(values.text("pull", p.bias_slot >= 0 && p.depth < 0));
    if (collective) {
      Trail later(p, p.middle_targets, true);
      later.steps(p.middle, "a.at.values");
      later.from_reduction();
      t.add(later.text("pull_after", false));
    }
  }
  t.add("}\n");
  return t.text();
}

}  // namespace upconv::cuda
