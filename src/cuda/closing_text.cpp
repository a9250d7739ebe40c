// See closing_text.hpp.
#include "cuda/closing_text.hpp"

#include <cstdio>

#include "cuda/element.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Kind = ClosingPass::Kind;

/// The number of a reduction or table in kernels/closing/collect.cuh.
int as_number(const ClosingPass& p) { return p.softmax || !p.reduce ? 5 : static_cast<int>(*p.reduce); }

}  // namespace

std::string set_of(const ClosingItem& item) {
  if (item.batch) return "channel";
  return "((upconv::i64(n) * CHANNELS + channel) / " + std::to_string(item.per) + ")";
}

std::string channel_operand(int number) {
  return "upconv::operand_value<Element>(operands.at[" + std::to_string(number) + "], channel)";
}

std::string items_text(const std::vector<ClosingItem>& list) {
  std::string s;
  int table = 0;
  // A row that is a plane is the same for all values of one: nothing is divided for each of them.
  const auto row_of = [](const ClosingItem& item) {
    return item.first == 2 ? "upconv::i64(n) * CHANNELS + channel" : "upconv::quotient(at, a.row)";
  };
  for (const ClosingItem& item : list) {
    const std::string t = "static_cast<const S*>(a.tables[" + std::to_string(table) + "])";
    switch (item.kind) {
      case ClosingItem::Kind::steps:
        s += scoped_steps(item.steps, "a.in.values");
        continue;
      case ClosingItem::Kind::plane_table:
        s += "  {\n    const S* t = " + t + " + 3 * (upconv::i64(n) * CHANNELS + channel);\n" +
             "    v = (v - t[0]) * t[1] + t[2];\n  }\n";
        break;
      case ClosingItem::Kind::row_table:
        s += std::string("  {\n    const upconv::i64 row = ") + row_of(item) + ";\n    const S* t = " + t +
             " + 3 * row;\n    v = (v - t[0]) * t[1] + t[2];\n";
        for (const auto& [number, op] : {std::pair{item.weight, "v *= "}, {item.bias, "v += "}})
          if (number >= 0)
            s += std::string("    ") + op + "upconv::operand_value<Element>(operands.at[" + std::to_string(number) +
                 "], at - row * a.row);\n";
        s += "  }\n";
        break;
      case ClosingItem::Kind::soft_table:
        s += "  {\n    const S* t = " + t + " + 3 * (" + row_of(item) + ");\n" +
             "    v = upconv::exponential(v - t[0]) * t[1];\n  }\n";
        break;
      case ClosingItem::Kind::set_norm:
        s += "  {\n    const S* t = " + t + " + 2 * " + set_of(item) + ";\n    v = (v - t[0]) * t[1];\n";
        for (const auto& [number, op] : {std::pair{item.weight, "v *= "}, {item.bias, "v += "}})
          if (number >= 0) s += std::string("    ") + op + channel_operand(number) + ";\n";
        s += "  }\n";
        break;
      case ClosingItem::Kind::equals:
        s += "  v = v == " + t + "[upconv::reduced_place(a.length, a.inner, at)] ? S(1) : S(0);\n";
        break;
    }
    ++table;
  }
  return s;
}

std::string scoped_steps(const Epilogue& steps, const std::string& values) {
  if (steps.empty()) return "";
  return "  {\n" +
         steps_text(steps,
                    [&](const EpilogueStep& step, std::size_t) { return operand_text(step, "Element", values); }) +
         "  }\n";
}

void begin_config(PreambleText& t, bool gradient) {
  t.add(gradient ? "#include \"arguments/pull.cuh\"\n#include \"epilogue/slopes.cuh\"\n"
                 : "#include \"arguments/closing.cuh\"\n#include \"epilogue/activations.cuh\"\n");
  t.add("#include \"epilogue/operands.cuh\"\n#include \"quotient.cuh\"\n");
  // What the items need of closing/value.cuh, which is included after them.
  t.add("namespace upconv {\n__device__ __forceinline__ i64 reduced_place(i64 length, i64 inner, i64 at);\n}\n");
  t.add("namespace config {\n");
}

void add_window(PreambleText& t, const std::string& prefix, const ClosingWindow& w) {
  t.flag((prefix + "COUNT_PAD").c_str(), w.count_include_pad);
  const char* axes = "DHW";
  for (int d = 0; d < 3; ++d) {
    const std::string axis(1, axes[d]);
    t.constant((prefix + "K" + axis).c_str(), w.kernel[d]);
    t.constant((prefix + "S" + axis).c_str(), w.stride[d]);
    t.constant((prefix + "PAD_" + axis).c_str(), w.padding[d]);
  }
}

std::string closing_text(const ClosingPass& p, DType element, const launch::ClosingFixed& fixed, bool finishes) {
  PreambleText t;
  begin_config(t, false);
  t.add(std::string("typedef ") + device_type(element) + " Element;\n");
  t.add(std::string("typedef ") + device_type(p.value.stored) + " Stored;\n");
  t.add(std::string("typedef ") + device_type(p.out_type) + " Out;\n");
  t.add("typedef upconv::Number<Element>::Sum S;\n");
  const bool reads = reads_values(p);
  const ClosingValue none{};
  const ClosingValue& value = reads ? p.value : none;
  t.constant("CHANNELS", p.value.shape[1]);
  t.constant("RESULT_CHANNELS", p.result()[1]);
  t.flag("WIDE", fixed.wide);
  t.constant("OPERANDS", p.operands());
  t.add("typedef upconv::arguments::Operands<OPERANDS> Operands;\n");
  t.flag("POOL", value.window.has_value());
  const ClosingWindow w = value.window.value_or(ClosingWindow{});
  t.flag("AVERAGE", w.average);
  t.constant("ARGMAX", value.window && value.argmax >= 0 ? argmax_bytes(w) : 0);
  add_window(t, "", w);
  switch (p.kind) {
    case Kind::map:
      break;
    case Kind::parts:
      t.constant("COLLECT", static_cast<int>(p.collect));
      t.flag("FINISH", finishes);
      t.constant("AS", as_number(p));
      break;
    case Kind::norm:
      t.flag("BATCH", p.batch);
      t.constant("PER", p.per);
      t.flag("TABLE", p.table >= 0);
      t.flag("CENTER", p.center);
      t.flag("CENTERED", p.centered);
      t.flag("WEIGHT", p.weight >= 0);
      t.flag("BIAS", p.bias >= 0);
      t.number("EPS", p.eps);
      break;
    case Kind::sets:
      t.add(every_lane_text());
      t.constant("CLUSTER", fixed.cluster);
      t.constant("PER", p.per);
      t.flag("CENTER", p.center);
      t.flag("WEIGHT", p.weight >= 0);
      t.flag("BIAS", p.bias >= 0);
      t.number("EPS", p.eps);
      break;
    case Kind::result:
      t.constant("COLLECT", static_cast<int>(p.collect));
      t.constant("AS", as_number(p));
      t.flag("TABLE", p.table >= 0);
      break;
    case Kind::columns: {
      const Shape5 at = p.value.at();
      const bool channels = p.first == 1 && p.last == 1;
      t.constant("LENGTH", channels && at[1] <= closing_most_held ? at[1] : 0);
      t.constant("SPLIT", fixed.split);
      t.constant("EACH", fixed.each);
      t.flag("SOFTMAX", p.softmax);
      t.constant("REDUCE", p.reduce ? static_cast<int>(*p.reduce) : -1);
      t.flag("CHANNEL_RANGE", channels);
      break;
    }
    case Kind::rows:
      t.constant("EACH", fixed.each);
      t.constant("FIRST", p.first);
      // Another order of the sums than the gradient's, which must find the same bits where it works values out again.
      t.flag("VECTORS", p.once && !value.window);
      t.flag("NORM", p.layer_norm);
      t.flag("WEIGHT", p.weight >= 0);
      t.flag("BIAS", p.bias >= 0);
      t.number("EPS", p.eps);
      t.flag("SOFTMAX", p.softmax);
      t.constant("REDUCE", p.reduce ? static_cast<int>(*p.reduce) : -1);
      break;
  }
  const auto function = [&](const char* name, const std::string& body) {
    t.add(std::string("__device__ __forceinline__ S ") + name +
          "(S v, const upconv::arguments::Closing& a, const Operands& operands, int n, int channel, upconv::i64 at) "
          "{\n" +
          body + "  return v;\n}\n");
  };
  function("before", items_text(value.before));
  function("after", scoped_steps(value.after, "a.at.values"));
  function("middle", scoped_steps(p.middle, "a.at.values"));
  function("last", scoped_steps(p.after_result, "a.result.values"));
  t.add("}\n");
  return t.text();
}

}  // namespace upconv::cuda
