// dx of layers of many channels on the warpgroup tensor cores of sm_90a. Host side of kernels/input_wgmma.cuh: the
// specialisation's text, the launch.
#include <cstdio>

#include "cuda/candidates.hpp"
#include "cuda/input_wgmma_tile.hpp"
#include "cuda/wgmma_text.hpp"

namespace upconv::cuda {
namespace {

std::string preamble(const Request& request, const WeightShape& shape, const InputTile& t) {
  const Geometry& g = shape.geometry;
  const std::array<int, 3> taps = {int(g.kernel[0]), int(g.kernel[1]), int(g.kernel[2])};
  std::string s = "namespace config {\n" + weight_constants(request, shape, taps, t.box, t.span);
  const auto add = [&s](const char* name, std::int64_t value) { s += constant_text(name, value); };
  s += std::string("constexpr bool folded = ") + (shape.folded ? "true;\n" : "false;\n");
  add("NB", t.columns), add("MT", t.fragments), add("WGS", InputTile::warpgroups), add("KS", t.pairs);
  add("PHASES", t.phases), add("CC", t.channels), add("STAGES", t.stages), add("VECTOR", t.vector);
  add("SPAN", t.span), add("SPAN_READ", t.span_read), add("YC", t.channel), add("LEAD", t.lead);
  add("SPLIT", t.split);
  s += std::string("constexpr bool LINE_COPIES = ") + (t.line_copies ? "true;\n" : "false;\n");
  s += every_lane_text();
  add("LEFT_BYTES", InputTile::left_bytes), add("COMPUTE_REGISTERS", 216), add("BRING_REGISTERS", 72);
  const DType dtype = request.problem.dtype;
  s += wgmma_text(t.columns, dtype == DType::f32   ? TensorOperand::tf32
                             : dtype == DType::f16 ? TensorOperand::f16
                                                   : TensorOperand::bf16);
  return s + "}\n#define UPCONV_SPLIT " + std::to_string(t.split) + "\n";
}

class InputWgmma final : public PassKernel {
 public:
  InputWgmma(const Request& request, const WeightShape& shape, const InputTile& tile)
      : tile_(tile),
        stage_bytes_(stage_bytes(shape, tile)),
        device_(request.target.device),
        fixed_(input_fixed(shape, tile)),
        launch_(launch::launch_of(fixed_, sizes_of(request.geometry), request.target.processors)),
        kernel_({"input_wgmma.cuh", "input_wgmma", preamble(request, shape, tile)}, unsigned(fixed_.shared_bytes)) {}

  [[nodiscard]] const char* refusal() const { return launch_.refusal; }
  std::size_t workspace_bytes() const override { return 0; }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<1> start(device_, stream, {&kernel_});
    launch::run(fixed_, launch_, {t.dy, t.w, nullptr, t.dx}, workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program()}, "launch/input_wgmma.hpp", "InputWgmmaFixed", fixed_);
  }

  std::string detail() const override {
    char text[320], split[40] = "";
    if (tile_.split > 1) std::snprintf(split, sizeof split, " shared by %d blocks each", tile_.split);
    std::snprintf(text, sizeof text,
                  "tiles of %dx%dx%d positions x %d channels, %d pairs a stage in %d phases, %d fragments a warpgroup, "
                  "%d stages of %.1f KiB, dy by %s, %.1f loads a bank, %lld tiles%s",
                  tile_.box[0], tile_.box[1], tile_.box[2], tile_.columns, tile_.pairs, tile_.phases, tile_.fragments,
                  tile_.stages, stage_bytes_ / 1024.0, tile_.line_copies ? "lines" : "quads", tile_.conflicts,
                  static_cast<long long>(tile_.tiles), split);
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }
  double predicted_seconds() const override { return tile_.seconds; }

 private:
  InputTile tile_;
  int stage_bytes_, device_;
  launch::InputWgmmaFixed fixed_;
  launch::InputWgmmaLaunch launch_;
  jit::Kernel kernel_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_input_wgmma(const Request& request) {
  if (request.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  const Result<WeightShape> made = weight_shape(request);
  if (!made.ok()) return made.status();
  const WeightShape& shape = *made;
  if (shape.mode == WeightMode::ieee || shape.mode == WeightMode::bf16x3)
    return unsupported("computes f32 as tf32 only");
  if (shape.x_last || shape.y_last || request.problem.w_layout != Layout::channels_first)
    return unsupported("computes channels_first tensors only");
  const Geometry& g = shape.geometry;
  if ((g.ci < 32 || g.co * g.taps() < 64) && !request.forced)
    return unsupported("fewer than 32 input channels a group or 64 pairs of an output channel and a tap");
  if (g.in_channels() * g.co * g.taps() >= (std::int64_t(1) << 31) - 4096)
    return unsupported("weights past 32-bit coordinates");
  if (g.taps() > 1024) return unsupported("more than 1024 taps");
  const auto tiles = input_tiles(shape, request.target, request.variant + 1);
  if (tiles.empty())
    return unsupported("no tile of this kernel fits " + std::to_string(request.target.shared_per_block) + " bytes");
  if (request.variant >= static_cast<int>(tiles.size())) return no_variant(request.variant);
  auto kernel = std::make_unique<InputWgmma>(request, shape, tiles[std::size_t(request.variant)]);
  if (kernel->refusal()) return unsupported(kernel->refusal());
  return std::unique_ptr<PassKernel>(std::move(kernel));
}

}  // namespace upconv::cuda
