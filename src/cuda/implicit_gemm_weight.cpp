// dw of channels-last tensors on the warpgroup tensor cores of sm_90a; where channels come first, they are turned
// before. Host side of kernels/implicit_gemm_weight.cuh: the specialisation's text, the launches.
#include "launch/implicit_gemm_weight.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "cuda/candidates.hpp"
#include "cuda/turning.hpp"
#include "cuda/weight_shape.hpp"
#include "cuda/wgmma_text.hpp"

namespace upconv::cuda {
namespace {

constexpr int slice = 64;  // channels that lie side by side in shared memory
constexpr int slice_bytes = slice * 64 * 2;

struct Tile {
  int down, across;  ///< Warpgroups by input and by output channels.
  int columns;
  int occupancy = 1, stages = 0;
  launch::ImplicitGemmWeightFixed fixed{};
  launch::ImplicitGemmWeightLaunch launch{};

  [[nodiscard]] int slices() const { return down + columns / slice; }
  [[nodiscard]] int stage_bytes() const { return slices() * slice_bytes; }
  [[nodiscard]] int threads() const { return (down * across + 1) * 128; }
  /// Of a thread that multiplies; 0: as many as a block's threads may have.
  [[nodiscard]] int compute_registers() const { return down * across == 2 ? 232 : 0; }
};

std::string preamble(const Request& request, const Tile& t) {
  const Geometry& g = request.geometry;
  std::string s = "namespace config {\n";
  const auto add = [&s](const std::string& name, std::int64_t value) { s += constant_text(name, value); };
  add("CI", g.ci), add("CO", g.co), add("GROUPS", g.groups), add("TAPS", g.taps());
  const char axis_names[] = "DHW";
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string axis(1, axis_names[i]);
    add("K" + axis, g.kernel[i]), add("S" + axis, g.stride[i]);
    add("D" + axis, g.dilation[i]), add("P" + axis, g.padding[i]);
  }
  add("WGM", t.down), add("WGN", t.across), add("BN", t.columns), add("STAGES", t.stages);
  add("OCCUPANCY", t.occupancy), add("COMPUTE_REGISTERS", t.compute_registers()), add("BRING_REGISTERS", 40);
  s += every_lane_text();
  s += wgmma_shared_text(t.columns / t.across,
                         request.problem.dtype == DType::f16 ? TensorOperand::f16 : TensorOperand::bf16, true);
  return s + "}\n";
}

std::string sum_preamble(const Request& request, const launch::ImplicitGemmWeightFixed& fixed) {
  const Geometry& g = request.geometry;
  return "namespace config {\n" + constant_text("element", weight_element(request.problem)) +
         constant_text("w_last", request.problem.w_layout == Layout::channels_last) +
         constant_text("CHANNELS", g.in_channels()) + constant_text("CO", g.co) + constant_text("TAPS", g.taps()) +
         constant_text("COLUMNS", fixed.sum_columns) + constant_text("SLICES", fixed.sum_slices) + "}\n";
}

launch::ImplicitGemmWeightFixed fixed_of(const Request& request, const Tile& t) {
  const Geometry& g = request.geometry;
  launch::ImplicitGemmWeightFixed f;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co;
  for (std::size_t d = 0; d < 3; ++d)
    f.kernel[d] = g.kernel[d], f.stride[d] = g.stride[d], f.padding[d] = g.padding[d], f.dilation[d] = g.dilation[d];
  f.x_first = request.problem.x_layout == Layout::channels_first;
  f.dy_first = request.problem.y_layout == Layout::channels_first;
  f.tile_ci = t.down * slice, f.tile_co = t.columns;
  f.occupancy = t.occupancy;
  f.shared_bytes = t.stages * t.stage_bytes() + 1024, f.threads = t.threads();
  // Where dw is small, many splits share few sums.
  f.sum_slices = f.dw_size() < std::int64_t(1) << 19 ? 8 : 1;
  f.sum_columns =
      std::clamp<std::int64_t>(1024 / f.sum_slices / g.taps() / 8 * 8, 8, std::min<std::int64_t>(g.co, 256));
  f.map_element = int(request.problem.dtype == DType::f16 ? launch::MapElement::f16 : launch::MapElement::bf16);
  // A step of cuda_implicit_gemm, which is of the same kind: its products, or what L2 gives
  // (src/cuda/implicit_gemm.cpp).
  f.stage_cycles = std::max(2.25 * t.down * t.columns, 247.0 + 86.5 * t.slices());
  f.leave_cycles = 3000.0 + 9.0 * t.down * t.columns;
  return f;
}

/// Tiles by the time that they are predicted to take; or why there is none.
Result<std::vector<Tile>> tiles_of(const Request& request) {
  const Geometry& g = request.geometry;
  const CudaTarget& target = request.target;
  std::vector<Tile> all;
  const char* refusal = "no tile of this kernel fits";
  for (const auto& [down, across] : {std::pair{2, 1}, {1, 2}, {1, 1}})
    for (const int columns : {256, 192, 128, 64}) {
      if ((down - 1) * slice >= g.ci || columns >= g.co + slice) continue;
      if (columns % (slice * across) != 0 || (down * across == 1 && columns > slice)) continue;
      Tile t{down, across, columns};
      t.occupancy = down * across == 1 ? 2 : 1;
      t.stages = std::min(8, (target.shared_per_block / t.occupancy - 2048) / t.stage_bytes());
      if (t.stages < 3) continue;
      t.fixed = fixed_of(request, t);
      t.launch = launch::launch_of(t.fixed, sizes_of(g), target.processors);
      if (t.launch.refusal)
        refusal = t.launch.refusal;
      else
        all.push_back(t);
    }
  if (all.empty()) return unsupported(refusal);
  std::stable_sort(all.begin(), all.end(),
                   [](const Tile& a, const Tile& b) { return a.launch.seconds < b.launch.seconds; });
  return all;
}

class ImplicitGemmWeight final : public PassKernel {
 public:
  ImplicitGemmWeight(const Request& request, const Tile& tile)
      : tile_(tile),
        device_(request.target.device),
        products_({"implicit_gemm_weight.cuh", "implicit_gemm_weight", preamble(request, tile)},
                  unsigned(tile.fixed.shared_bytes)),
        sum_({"implicit_gemm_weight_sum.cuh", "implicit_gemm_weight_sum", sum_preamble(request, tile.fixed)}),
        turn_(turn_program(2)) {}

  std::size_t workspace_bytes() const override { return std::size_t(tile_.launch.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<3> start(device_, stream, {&products_, &sum_, &turn_});
    launch::run(tile_.fixed, tile_.launch, {t.x, t.dy, nullptr, t.dw}, workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({products_.program(), sum_.program(), turn_.program()}, "launch/implicit_gemm_weight.hpp",
                             "ImplicitGemmWeightFixed", tile_.fixed);
  }

  std::string detail() const override {
    const auto& p = tile_.launch.arguments;
    char text[256];
    std::snprintf(text, sizeof text,
                  "tiles of %lld ci x %lld co of a tap, box %dx%dx%dx%d of at most 64 positions, %d stages of %d KiB, "
                  "%lld taps a launch, %d splits%s",
                  tile_.fixed.tile_ci, tile_.fixed.tile_co, p.box_n, p.box[0], p.box[1], p.box[2], tile_.stages,
                  tile_.stage_bytes() / 1024, tile_.launch.taps, p.splits,
                  tile_.launch.turn.needed() ? ", channels turned last" : "");
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (tile_.launch.turn.needed()) return {&products_, &sum_, &turn_};
    return {&products_, &sum_};
  }
  double predicted_seconds() const override { return tile_.launch.seconds; }

 private:
  Tile tile_;
  int device_;
  jit::Kernel products_, sum_, turn_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_implicit_gemm_weight(const Request& request) {
  if (request.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  const Problem& p = request.problem;
  const Geometry& g = request.geometry;
  if (p.dtype != DType::f16 && p.dtype != DType::bf16)
    return unsupported("wgmma reads contiguous channels of 16-bit types only");
  if (g.ci % 8 != 0 || g.co % 8 != 0)
    return unsupported(std::to_string(g.ci) + " and " + std::to_string(g.co) +
                       " channels a group are no multiples of 8, 16 bytes");
  for (const std::int64_t s : g.stride)
    if (s > 8) return unsupported("a stride of " + std::to_string(s) + ", beyond the 8 of a bulk copy");
  if (g.taps() > 1024) return unsupported("more than 1024 taps");
  if ((g.ci < 32 || g.co < 32) && !request.forced) return unsupported("fewer than 32 channels a group");
  const auto tiles = tiles_of(request);
  if (!tiles.ok()) return tiles.status();
  if (request.variant >= static_cast<int>(tiles->size())) return no_variant(request.variant);
  return std::unique_ptr<PassKernel>(
      std::make_unique<ImplicitGemmWeight>(request, (*tiles)[std::size_t(request.variant)]));
}

}  // namespace upconv::cuda
