// Dense forward and dx on Hopper: host side of kernels/boxes.cuh. boxes_shape.hpp turns the pass into fragments and
// products, boxes_cost.hpp chooses the form, kernels/launch/boxes.hpp the boxes; this is the text and the launch.
#include <cstdint>
#include <cstdio>
#include <set>

#include "cuda/boxes_cost.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

std::string preamble(const BoxProblem& p, const BoxForm& f, const Request& r) {
  const Geometry& g = r.geometry;
  const std::array<BoxAxis, 3> axis = axes_of(p, f);
  const BoxWork work = box_work(p, f);
  std::string text = "#include \"types.cuh\"\nnamespace config {\n";
  const auto constant = [&](const std::string& name, Int value) {
    text += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  };
  const auto flag = [&](const char* name, bool value) {
    text += std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
  };
  const auto table = [&](const char* name, const std::vector<int>& values) {
    text += std::string("__device__ constexpr int ") + name + "[] = {";
    for (std::size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + std::to_string(values[i]);
    text += "};\n";
  };
  text += std::string("typedef ") + device_type(r.problem.dtype) + " Element;\n";
  flag("backward", p.backward);
  flag("tf32", p.tf32);
  flag("has_bias", r.problem.bias && !p.backward);
  flag("result_last", (p.backward ? r.problem.x_layout : r.problem.y_layout) == Layout::channels_last);
  flag("depth_loop", f.depth_loop);
  flag("RESIDENT", f.resident);
  flag("SHARED", f.shared);
  flag("WIDE", f.wide);
  flag("LINE", f.line);
  constant("PARTS", p.parts);
  constant("K", p.k);
  constant("N", p.n);
  constant("NB", f.columns);
  constant("SEGMENTS", f.segments);
  constant("ROWS", f.rows);
  constant("MERGE", static_cast<int>(f.merge));
  constant("LOOP_TAPS", f.depth_loop ? p.depth_taps : 1);
  constant("LOOP_STRIDE", g.stride[0]);
  constant("LOOP_PADDING", g.padding[0]);
  constant("LOOP_DILATION", g.dilation[0]);
  const char names[] = "DHW";
  for (int d = 0; d < 3; ++d) {
    const BoxAxis& a = axis[static_cast<std::size_t>(d)];
    const std::string name(1, names[d]);
    constant("STEP_" + name, a.step);
    constant("OFFSET_" + name, a.first);
    constant("PHASES_" + name, a.phases);
    constant("USED_" + name, a.used_count);
    constant("PADDING_" + name, g.padding[static_cast<std::size_t>(d)]);
    table((std::string("used_") + static_cast<char>(names[d] - 'A' + 'a')).c_str(), a.used);
  }
  table("slot_of_tap", work.slot_of_tap);
  table("block_of", work.block_of);
  constant("SLOTS", work.slots);
  constant("BLOCKS", work.blocks);
  constant("FRAGMENTS", static_cast<Int>(work.fragments.size()));
  constant("STAGES", f.stages);
  constant("STEPS_K", f.steps);
  constant("SOURCE_WORDS", f.source_words);
  // 168 a thread at the launch, shared out anew: producers that only start copies need few.
  constant("CONSUMER_REGISTERS", f.resident ? 224 : 208);
  constant("PRODUCER_REGISTERS", f.resident ? 56 : 88);
  const TensorOperand operand = p.tf32                           ? TensorOperand::tf32
                                : r.problem.dtype == DType::f16 ? TensorOperand::f16
                                                                : TensorOperand::bf16;
  std::set<int> widths;
  for (const Fragment& fragment : work.fragments)
    for (const Product& product : fragment.products) widths.insert(product.columns * f.columns);
  for (int width : widths) text += wgmma_text(width, operand);
  text += "}\n" + fragments_text(work);
  return text + epilogue_text(r.epilogue);
}

class Boxes final : public PassKernel {
 public:
  Boxes(const Request& r, const BoxProblem& p, const BoxChoice& c)
      : device_(r.target.device),
        backward_(p.backward),
        form_(c.form),
        fixed_(c.fixed),
        launch_(c.launch),
        kernel_({"boxes.cuh", "boxes", preamble(p, c.form, r)}, c.form.shared_bytes),
        predicted_(c.seconds) {}

  Status run(const PassTensors& t, void*, void* stream) const override {
    Start<1> start(device_, stream, {&kernel_});
    launch::run(fixed_, launch_, {backward_ ? t.dy : t.x, t.w, t.b, backward_ ? t.dx : t.y}, nullptr, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program()}, "launch/boxes.hpp", "BoxesFixed", fixed_);
  }

  std::string detail() const override {
    const auto& a = launch_.may_bulk ? launch_.bulk : launch_.plain;
    char rows[40] = "", text[240];
    if (form_.merge != Merge::none)
      std::snprintf(rows, sizeof rows, " with %d %s", form_.rows, form_.merge == Merge::depth ? "depths" : "rows");
    std::snprintf(text, sizeof text,
                  "%s of %dx%dx%dx%d positions%s x %d channels%s, %d segments, weights %s, %s%d stages, source %s, %u KB",
                  form_.line ? "lines" : "boxes", a.extent[0], a.extent[1], a.extent[2], a.extent[3], rows, form_.columns,
                  form_.depth_loop ? " in a loop over depths" : "", form_.segments,
                  form_.resident ? "resident" : "streamed", form_.shared ? "shared " : "", form_.stages,
                  launch_.may_bulk ? "in bulk" : "by copies", form_.shared_bytes / 1024);
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }
  double predicted_seconds() const override { return predicted_; }

 private:
  int device_;
  bool backward_;
  BoxForm form_;
  launch::BoxesFixed fixed_;
  launch::BoxesLaunch launch_;
  jit::Kernel kernel_;
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
  const BoxProblem box = box_problem(g, backward, tf32, p.dtype == DType::f32 && !tf32 ? 2 : 1,
                                     static_cast<int>(size_of(p.dtype)));
  if (!r.forced && (box.k < 8 || box.n < 8)) return unsupported("fewer than 8 channels a group");
  const std::vector<BoxChoice> choices =
      box_choices(box, p, g, r.target, static_cast<std::size_t>(most_variants) + 36);
  if (choices.empty()) return unsupported("no form fits registers and shared memory");
  if (r.variant >= static_cast<int>(choices.size())) return no_variant(r.variant);
  return std::unique_ptr<PassKernel>(new Boxes(r, box, choices[static_cast<std::size_t>(r.variant)]));
}

}  // namespace upconv::cuda
