// Dense forward and dx on Hopper: host side of kernels/boxes.cuh. boxes_shape.hpp turns the pass into fragments and
// products, boxes_cost.hpp chooses the form, kernels/launch/boxing.hpp the boxes; this is the text and the launch.
#include <cstdint>
#include <cstdio>
#include <set>

#include "cuda/boxes_cost.hpp"
#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

/// The parts of namespace config.
class ConfigText {
 public:
  void constant(const std::string& name, Int value) {
    text += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  }
  void flag(const char* name, bool value) {
    text += std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
  }
  void table(const std::string& name, const std::vector<int>& values) {
    text += "__device__ constexpr int " + name + "[] = {";
    for (std::size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + std::to_string(values[i]);
    text += "};\n";
  }
  std::string text;
};

/// What the weights are prepared for.
std::string weights_text(const BoxProblem& p, const BoxForm& f, const BoxWork& work, const Request& r) {
  ConfigText c;
  c.text = std::string("#include \"types.cuh\"\nnamespace config {\ntypedef ") + device_type(r.problem.dtype) +
           " Element;\n";
  c.flag("tf32", p.tf32);
  c.constant("PARTS", p.parts);
  c.flag("FOLDED", p.folded);
  c.constant("K", p.k);
  c.constant("N", p.n);
  c.constant("NB", f.columns);
  c.constant("STEPS_K", f.steps);
  c.constant("LOOP_TAPS", f.depth_loop ? p.depth_taps : 1);
  c.constant("SLOTS", work.slots);
  c.table("slot_of_tap", work.slot_of_tap);
  return c.text;
}

/// Of products whose columns are the taps of W too: where a position's lie from the first tap's of its first element.
void overlap_constants(ConfigText& c, const BoxProblem& p, const BoxForm& f) {
  std::vector<int> at;
  for (const int offset : p.axis[2].offset) at.push_back(static_cast<int>(at.size()) * f.room + offset);
  c.flag("OVERLAPPED", f.overlapped);
  c.constant("TAPS_W", f.overlapped ? static_cast<Int>(at.size()) : 1);
  c.constant("ROOM", f.room);
  c.table("overlap_at", f.overlapped ? at : std::vector<int>{0});
}

/// What else the products need.
std::string products_text(const BoxProblem& p, const BoxForm& f, const BoxWork& work, const Request& r) {
  const Geometry& g = r.geometry;
  const std::array<BoxAxis, 3> axis = axes_of(p, f);
  ConfigText c;
  c.flag("backward", p.backward);
  c.flag("has_bias", r.problem.bias && !p.backward);
  c.flag("source_last", (p.backward ? r.problem.y_layout : r.problem.x_layout) == Layout::channels_last);
  c.flag("result_last", (p.backward ? r.problem.x_layout : r.problem.y_layout) == Layout::channels_last);
  c.flag("depth_loop", f.depth_loop);
  c.flag("RESIDENT", f.resident);
  c.flag("SHARED", f.shared);
  c.flag("WIDE", f.wide);
  c.flag("LINE", f.line);
  c.flag("DIRECT", f.direct);
  overlap_constants(c, p, f);
  c.text += every_lane_text();
  c.constant("GROUPS", f.warpgroups);
  c.constant("TOGETHER", f.together);
  c.constant("SEGMENTS", f.segments);
  c.constant("ROWS", f.rows);
  c.constant("MERGE", static_cast<int>(f.merge));
  c.constant("LOOP_STRIDE", g.stride[0]);
  c.constant("LOOP_PADDING", g.padding[0]);
  c.constant("LOOP_DILATION", g.dilation[0]);
  const char names[] = "DHW";
  for (int d = 0; d < 3; ++d) {
    const BoxAxis& a = axis[static_cast<std::size_t>(d)];
    const std::string name(1, names[d]);
    c.constant("STEP_" + name, a.step);
    c.constant("OFFSET_" + name, a.first);
    c.constant("PHASES_" + name, a.phases);
    c.constant("USED_" + name, a.used_count);
    c.constant("PADDING_" + name, a.padding);
    c.table(std::string("used_") + static_cast<char>(names[d] - 'A' + 'a'),
            d == 2 ? p.axis[2].used : a.used);  // overlapped, of the result
  }
  c.table("block_of", work.block_of);
  c.constant("BLOCKS", work.blocks);
  c.constant("FRAGMENTS", static_cast<Int>(work.fragments.size()));
  c.constant("STAGES", f.stages);
  c.constant("SOURCE_WORDS", f.source_words);
  // 168 or 128 a thread at the launch, shared out anew: producers only start copies.
  c.constant("CONSUMER_REGISTERS", f.warpgroups == 2 ? 224 : 152);
  c.constant("PRODUCER_REGISTERS", 56);
  const TensorOperand operand = p.tf32                          ? TensorOperand::tf32
                                : r.problem.dtype == DType::f16 ? TensorOperand::f16
                                                                : TensorOperand::bf16;
  std::set<int> widths;
  for (const Fragment& fragment : work.fragments)
    for (const Product& product : fragment.products) widths.insert(product.columns * f.columns);
  for (int width : widths) c.text += wgmma_text(width, operand);
  return c.text + "}\n" + fragments_text(work) + epilogue_text(r.epilogue, device_type(r.problem.dtype));
}

class Boxes final : public PassKernel {
 public:
  Boxes(const Request& r, const BoxProblem& p, const BoxChoice& c, const BoxWork& work, const std::string& text)
      : device_(r.target.device),
        backward_(p.backward),
        form_(c.form),
        fixed_(c.fixed),
        launch_(c.launch),
        weights_({"boxes_prepare.cuh", "boxes_prepare", text + "}\n"}),
        products_({"boxes.cuh", "boxes", text + products_text(p, c.form, work, r)}, c.form.shared_bytes),
        operands_(r),
        predicted_(calibrated("cuda_boxes", r.problem, r.pass, c.seconds)) {}

  std::size_t workspace_bytes() const override { return static_cast<std::size_t>(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<2> start(device_, stream, {&weights_, &products_});
    OperandBlock block;
    launch::run(fixed_, launch_,
                {backward_ ? t.dy : t.x, t.w, t.b, backward_ ? t.dx : t.y, operands_.fill(t.operands, block)},
                workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({weights_.program(), products_.program()}, "launch/boxes.hpp", "BoxesFixed", fixed_);
  }

  std::string detail() const override {
    const launch::BoxesWay& way = launch_.may_bulk ? launch_.bulk : launch_.plain;
    const auto &a = way.main, &last = way.last;
    char rows[40] = "", columns[80] = "", text[400];
    if (form_.merge != Merge::none)
      std::snprintf(rows, sizeof rows, " with %d %s", form_.rows, form_.merge == Merge::depth ? "depths" : "rows");
    if (way.last_grid > 0)
      std::snprintf(columns, sizeof columns, " (%dx%dx%dx%d of the last columns)", last.extent[0], last.extent[1],
                    last.extent[2], last.extent[3]);
    std::snprintf(
        text, sizeof text,
        "%s of %dx%dx%dx%d positions%s%s x %d channels%s%s, %d segments, weights %s, %s%d stages, source %s, %s%d "
        "channels stored together, %d warpgroups, %u KB",
        form_.line ? "lines" : "boxes", a.extent[0], a.extent[1], a.extent[2], a.extent[3], columns, rows,
        form_.columns, form_.overlapped ? " and taps of W" : "", form_.depth_loop ? " in a loop over depths" : "",
        form_.segments, form_.resident ? "resident" : "streamed", form_.shared ? "shared " : "", form_.stages,
        launch_.may_bulk ? "in bulk" : "by copies", form_.direct ? "direct " : "",
        (fixed_.out_last ? 8 : 4) * form_.together, form_.warpgroups, form_.shared_bytes / 1024);
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&products_, &weights_}; }
  double predicted_seconds() const override { return predicted_; }

 private:
  int device_;
  bool backward_;
  BoxForm form_;
  launch::BoxesFixed fixed_;
  launch::BoxesLaunch launch_;
  jit::Kernel weights_, products_;
  OperandArguments operands_;
  double predicted_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_boxes(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  if (r.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  if (p.dtype == DType::f64) return unsupported("no tensor cores for f64 here");
  if (p.dtype == DType::f32 && p.precision == Precision::ieee)
    return unsupported("computes f32 as tf32 or bf16x3 only");
  const bool backward = r.pass == Pass::backward_input;
  if (g.batch == 0) return unsupported("an empty batch");
  for (int d = 0; d < 3; ++d)
    if (g.in[d] > 1 << 30 || g.out[d] > 1 << 30) return unsupported("a side longer than 2^30");
  if (g.taps() > 240) return unsupported("more than 240 taps");
  for (int d = 0; d < 3; ++d)
    if (g.dilation[d] * (g.kernel[d] - 1) > 240) return unsupported("a reach of more than 240 positions");
  if (g.stride[0] * g.stride[1] * g.stride[2] > 64 || g.stride[2] > 16) return unsupported("more than 64 phases");
  const bool tf32 = p.dtype == DType::f32 && p.precision == Precision::tf32;
  const BoxProblem box =
      box_problem(g, backward, tf32, p.dtype == DType::f32 && !tf32 ? 2 : 1, static_cast<int>(size_of(p.dtype)));
  const bool few = box.k < 8 || box.n < 8, wide_dx = r.pass == Pass::backward_input && box.n >= 16;
  if (!r.forced && few && !wide_dx && !worth_tensor_cores(r)) return unsupported("fewer than 8 channels a group");
  const std::vector<BoxChoice> choices = box_choices(box, p, g, r.target, static_cast<std::size_t>(most_variants));
  if (choices.empty()) return unsupported("no form fits registers and shared memory");
  if (r.variant >= static_cast<int>(choices.size())) return no_variant(r.variant);
  const BoxChoice& choice = choices[static_cast<std::size_t>(r.variant)];
  const BoxWork work = box_work(box, choice.form);
  return std::unique_ptr<PassKernel>(new Boxes(r, box, choice, work, weights_text(box, choice.form, work, r)));
}

}  // namespace upconv::cuda
