// dw on the warpgroup tensor cores of sm_90a. Host side of kernels/weight_wgmma.cuh: the specialisation's text, the
// launches.
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/turning.hpp"
#include "cuda/weight_wgmma_tile.hpp"
#include "cuda/wgmma_text.hpp"

namespace upconv::cuda {
namespace {

/// A device function of a line whose values change a few times only.
std::string steps_text(const std::string& name, const std::vector<int>& by_line) {
  std::string s = "__device__ constexpr int " + name + "(int line) { return ";
  for (std::size_t i = 1; i < by_line.size(); ++i)
    if (by_line[i] != by_line[i - 1])
      s += "line < " + std::to_string(i) + " ? " + std::to_string(by_line[i - 1]) + " : ";
  return s + std::to_string(by_line.back()) + "; }\n";
}

std::string preamble(const Request& request, const WeightShape& shape, const WgmmaWeightTile& t) {
  YLines y{t.lines_h * t.span, t.span, std::vector<int>(std::size_t(t.lines_d)),
           std::vector<int>(std::size_t(t.lines_h)), t.channel};
  if (t.y_pieces) y = y_lines(shape, t, t.span, t.spare);
  const std::vector<int> places = y.places(t.lines_h);
  std::string s = "namespace config {\n" + weight_constants(request, shape, t.taps, t.box, t.span, t.y_bulk, &places);
  const auto add = [&s](const char* name, std::int64_t value) { s += constant_text(name, value); };
  s += steps_text("d_extra", y.extra_d) + steps_text("h_extra", y.extra_h);
  add("Y_PIECES", t.y_pieces), add("PITCH_D", y.pitch_d), add("PITCH_H", y.pitch_h);
  add("COB", t.co), add("NB", t.columns), add("MT", t.fragments), add("WGS", t.warpgroups);
  add("STAGES", t.stages), add("CLUSTER", t.cluster), add("ROW_BYTES", row_bytes(shape, t)), add("ROWS_BULK", t.x_bulk);
  add("X_SHIFTED", t.x_shifted), add("X_EARLY", t.x_early), add("PAIRED", paired(shape, t)),
      add("X_PERIOD", t.x_period), add("Y_BULK", t.y_bulk), add("FOLDED", shape.folded);
  add("STACKED", shape.stacked), add("LATER", shape.later), add("LATE", shape.late()), add("TAPS_H", shape.taps_h);
  add("SPAN", t.span), add("SPAN_READ", t.span_read), add("YC", t.channel), add("LEAD", t.lead);
  add("APART", t.apart()), add("COMPUTE_REGISTERS", t.compute_registers());
  add("BRING_REGISTERS", t.bring_registers()), add("FINISH_REGISTERS", t.finish_registers());
  const DType dtype = request.problem.dtype;
  s += every_lane_text();
  s += wgmma_text(t.columns, dtype == DType::f32   ? TensorOperand::tf32
                             : dtype == DType::f16 ? TensorOperand::f16
                                                   : TensorOperand::bf16);
  return s + "}\n#define UPCONV_CLUSTER " + std::to_string(t.cluster) + "\n";
}

/// The problem as the kernel meets it: what was turned has its channels first.
Problem as_read(Problem p, const WeightShape& shape) {
  if (shape.x_turned) p.x_layout = Layout::channels_first;
  if (shape.y_turned) p.y_layout = Layout::channels_first;
  return p;
}

class WeightWgmma final : public PassKernel {
 public:
  WeightWgmma(const Request& request, const WeightShape& shape, const WgmmaWeightTile& tile)
      : tile_(tile),
        stage_bytes_(stage_bytes(shape, tile)),
        of_columns_(shape.stacked > 1 ? " x " + std::to_string(shape.stacked) + " taps of H" : ""),
        device_(request.target.device),
        fixed_(weight_fixed(shape, tile, request.target)),
        launch_(launch::launch_of(fixed_, sizes_of(request.geometry), request.target.processors)),
        products_({"weight_wgmma.cuh", "weight_wgmma", preamble(request, shape, tile)}, unsigned(fixed_.shared_bytes)),
        sum_(weight_sum_program(request.problem, fixed_)),
        turn_(turn_program(shape.element_bytes)),
        predicted_(calibrated("cuda_weight_wgmma", as_read(request.problem, shape), request.pass, tile.seconds) +
                   launch_.turn.seconds()) {}

  std::size_t workspace_bytes() const override { return std::size_t(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<3> start(device_, stream, {&products_, &sum_, &turn_});
    launch::run(fixed_, launch_, {t.x, t.dy, nullptr, t.dw}, workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({products_.program(), sum_.program(), turn_.program()}, "launch/weight_wgmma.hpp",
                             "WeightWgmmaFixed", fixed_);
  }

  std::string detail() const override {
    char text[256];
    std::snprintf(
        text, sizeof text,
        "block %d co x %dx%dx%d taps x %d ci%s, %d warpgroups of %d fragments, box %dx%dx%d, %d stages of %.1f "
        "KiB%s%s, %.1f loads a bank, %lld tiles x %lld splits%s%s",
        tile_.co, tile_.taps[0], tile_.taps[1], tile_.taps[2], tile_.columns, of_columns_.c_str(), tile_.warpgroups,
        tile_.fragments, tile_.box[0], tile_.box[1], tile_.box[2], tile_.stages, stage_bytes_ / 1024.0,
        tile_.x_early     ? ", x in bulk, boxes begin early"
        : tile_.x_shifted ? ", x in bulk and shifted"
        : tile_.x_bulk    ? ", x in bulk"
                          : "",
        tile_.y_bulk     ? ", dy in bulk"
        : tile_.y_pieces ? ", dy in pieces"
                         : "",
        tile_.conflicts, static_cast<long long>(tile_.tiles), static_cast<long long>(tile_.splits),
        tile_.cluster > 1 ? " in clusters" : "", launch_.turn.needed() ? ", channels turned first" : "");
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override {
    std::vector<const jit::Kernel*> all{&products_};
    if (launch_.arguments.partial) all.push_back(&sum_);
    if (launch_.turn.needed()) all.push_back(&turn_);
    return all;
  }
  double predicted_seconds() const override { return predicted_; }

 private:
  WgmmaWeightTile tile_;
  int stage_bytes_;
  std::string of_columns_;
  int device_;
  launch::WeightWgmmaFixed fixed_;
  launch::WeightWgmmaLaunch launch_;
  jit::Kernel products_, sum_, turn_;
  double predicted_;
};

/// Bytes of the tensors whose channels come last.
std::int64_t last_bytes(const Problem& p, const Geometry& g) {
  const auto bytes = [&](Layout layout, std::int64_t elements) {
    return layout == Layout::channels_last ? elements * std::int64_t(size_of(p.dtype)) : 0;
  };
  return bytes(p.x_layout, g.batch * g.in_channels() * g.in_volume()) +
         bytes(p.y_layout, g.batch * g.out_channels() * g.out_volume());
}

Result<std::unique_ptr<PassKernel>> make(const Request& request, const WeightShape& shape) {
  const WeightShape shapes[] = {shape, stacked(shape)};
  std::vector<std::pair<WgmmaWeightTile, const WeightShape*>> tiles;
  for (const WeightShape& s : shapes)
    if (&s == shapes || s.stacked > 1)
      for (WgmmaWeightTile& t : wgmma_weight_tiles(s, request.target, request.variant + 1)) tiles.emplace_back(t, &s);
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const auto& a, const auto& b) { return a.first.seconds < b.first.seconds; });
  // What is turned before leaves sums the less room.
  if (shape.x_turned || shape.y_turned)
    std::erase_if(tiles, [&request](const auto& t) {
      const launch::WeightWgmmaFixed fixed = weight_fixed(*t.second, t.first, request.target);
      return launch::launch_of(fixed, sizes_of(request.geometry), request.target.processors).workspace_bytes >
             launch::weight_workspace_roof;
    });
  // Tuning and tests are offered one of either kind.
  const auto of_first = [&tiles](const auto& t) { return t.second == tiles.front().second; };
  const auto other = std::find_if_not(tiles.begin(), tiles.end(), of_first);
  if (other != tiles.end() && other - tiles.begin() >= most_variants)
    std::rotate(tiles.begin() + (most_variants - 1), other, other + 1);
  if (tiles.empty())
    return unsupported("no tile of this kernel fits " + std::to_string(request.target.shared_per_block) + " bytes");
  if (request.variant >= static_cast<int>(tiles.size())) return no_variant(request.variant);
  const auto& [tile, of] = tiles[static_cast<std::size_t>(request.variant)];
  if (tile.tiles * tile.splits > 0x7fffffff)
    return unsupported(std::to_string(tile.tiles) + " tiles pass the largest grid");
  return std::unique_ptr<PassKernel>(std::make_unique<WeightWgmma>(request, *of, tile));
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_weight_wgmma(const Request& request) {
  if (request.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  const Result<WeightShape> made = weight_shape(request);
  if (!made.ok()) return made.status();
  const WeightShape& shape = *made;
  if (shape.mode == WeightMode::ieee || shape.mode == WeightMode::bf16x3)
    return unsupported("computes f32 as tf32 only");
  const Geometry& g = shape.geometry;
  if (g.ci < 8 && !request.forced)
    return unsupported(std::to_string(g.ci) + " input channels a group would leave most of a product empty");
  if (g.taps() > 1 << 20) return unsupported("2^20 taps or more");
  // Channels last are turned first where the copies leave room for sums; else lanes bring them element by element.
  const std::int64_t copies = last_bytes(request.problem, request.geometry);
  if (copies > 0 && copies <= launch::weight_workspace_roof) {
    WeightShape turned = shape;
    turned.x_turned = std::exchange(turned.x_last, false);
    turned.y_turned = std::exchange(turned.y_last, false);
    auto kernel = make(request, turned);
    if (kernel.ok()) return kernel;
  }
  return make(request, shape);
}

}  // namespace upconv::cuda
