// dw on tensor cores (mma.sync, sm_80 and up). Host side of kernels/weight_mma.cuh: the specialisation's text, the
// run-time checks that allow wide copies, the launches.
#include <algorithm>
#include <cstdio>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/weight_mma_tile.hpp"

namespace upconv::cuda {
namespace {

std::string preamble(const Request& request, const WeightShape& shape, const WeightTile& t) {
  const Problem& problem = request.problem;
  const Geometry& g = shape.geometry;
  std::string s = "namespace config {\n" + weight_constants(request, shape, t.taps, t.box, t.planes * t.span);
  const auto add = [&s](const char* name, std::int64_t value) { s += constant_text(name, value); };
  add("mode", int(shape.mode));
  add("w_last", problem.w_layout == Layout::channels_last);
  add("MT", t.mt), add("NT", t.nt), add("WM", t.wm), add("WN", t.wn), add("WK", t.wk);
  add("MB", t.mb()), add("NB", t.nb()), add("YP", t.y_pitch);
  add("STAGES", t.stages), add("OCCUPANCY", t.occupancy);
  add("SPAN", t.span), add("PLANES", t.planes);
  add("IW", t.inner), add("LEAD", t.lead), add("WQ", t.window);

  const WeightAxis wa = t.inner > 1 ? weight_axis(t.taps[2], 1, int(g.dilation[2]))
                                    : weight_axis(t.taps[2], int(g.stride[2]), int(g.dilation[2]));
  std::vector<std::vector<int>> plane_taps(wa.residues.size());
  for (int tap = 0; tap < t.taps[2]; ++tap) plane_taps[wa.plane[tap]].push_back(tap);
  std::size_t longest = 0;
  for (const auto& taps : plane_taps) longest = std::max(longest, taps.size());
  std::vector<int> counts, residues, needed, taps_flat, shifts_flat;
  for (std::size_t p = 0; p < plane_taps.size(); ++p) {
    counts.push_back(int(plane_taps[p].size()));
    residues.push_back(wa.residues[p]);
    needed.push_back(t.box[2] + wa.most[p]);
    for (std::size_t k = 0; k < longest; ++k) {
      const int tap = k < plane_taps[p].size() ? plane_taps[p][k] : plane_taps[p][0];
      taps_flat.push_back(tap);
      shifts_flat.push_back(t.lead + wa.shift[tap]);
    }
  }
  add("PLANE_TAPS", std::int64_t(longest));
  s += function_text("plane_taps", counts) + function_text("plane_residue", residues) +
       function_text("plane_needed", needed);
  s += function_text("plane_tap_of", taps_flat) + function_text("plane_shift_of", shifts_flat);
  s += "__device__ constexpr int plane_tap(int p, int k) { return plane_tap_of(p * PLANE_TAPS + k); }\n";
  s += "__device__ constexpr int plane_shift(int p, int k) { return plane_shift_of(p * PLANE_TAPS + k); }\n";
  return s + "}\n";
}

class WeightMma final : public PassKernel {
 public:
  WeightMma(const Request& request, const WeightShape& shape, const WeightTile& tile)
      : mode_(shape.mode),
        tile_(tile),
        device_(request.target.device),
        fixed_(weight_fixed(shape, tile, request.target)),
        launch_(launch::launch_of(fixed_, sizes_of(request.geometry), request.target.processors)),
        products_({"weight_mma.cuh", "weight_mma", preamble(request, shape, tile)}, unsigned(tile.shared_bytes())),
        sum_(weight_sum_program(request.problem, fixed_)),
        predicted_(calibrated("cuda_weight_mma", request.problem, request.pass, tile.seconds)) {}

  std::size_t workspace_bytes() const override { return std::size_t(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<2> start(device_, stream, {&products_, &sum_});
    launch::run(fixed_, launch_, {t.x, t.dy, nullptr, t.dw}, workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({products_.program(), sum_.program()}, "launch/weight_mma.hpp", "WeightMmaFixed", fixed_);
  }

  std::string detail() const override {
    char text[256];
    const char* const modes[] = {"tf32", "bf16x3", "tf32x3", "16-bit"};
    std::snprintf(
        text, sizeof text,
        "%s, block %d ci x %d co x %dx%dx%d taps, warps %dx%dx%d of %dx%d, box %dx%dx%d, %d stages of %.1f KiB, "
        "%d a multiprocessor, %lld tiles x %lld splits",
        modes[int(mode_)], tile_.mb(), tile_.nb(), tile_.taps[0], tile_.taps[1], tile_.taps[2], tile_.wm, tile_.wn,
        tile_.wk, tile_.mt, tile_.nt, tile_.box[0], tile_.box[1], tile_.box[2], tile_.stages,
        tile_.stage_bytes() / 1024.0, tile_.occupancy, static_cast<long long>(tile_.tiles),
        static_cast<long long>(tile_.splits));
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (tile_.splits > 1) return {&products_, &sum_};
    return {&products_};
  }
  double predicted_seconds() const override { return predicted_; }

 private:
  WeightMode mode_;
  WeightTile tile_;
  int device_;
  launch::WeightMmaFixed fixed_;
  launch::WeightMmaLaunch launch_;
  jit::Kernel products_, sum_;
  double predicted_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_weight_mma(const Request& request) {
  const Geometry& g = request.geometry;
  if (request.target.capability() < 80)
    return unsupported("compute capability " + std::to_string(request.target.capability()) + " is below 80");
  const Result<WeightShape> made = weight_shape(request);
  if (!made.ok()) return made.status();
  const WeightShape& shape = *made;
  const std::int64_t narrow = std::min(g.ci, g.co);
  if (narrow < 4 && !request.forced)
    return unsupported(std::to_string(g.ci) + " x " + std::to_string(g.co) +
                       " channels a group would leave most of a 16 x 8 fragment empty");
  const auto tiles = weight_tiles(shape, request.target, request.variant + 1);
  if (tiles.empty())
    return unsupported("no tile of this kernel fits " + std::to_string(request.target.shared_per_block) + " bytes");
  if (request.variant >= static_cast<int>(tiles.size())) return no_variant(request.variant);
  const auto tile = tiles.begin() + request.variant;
  if (tile->tiles * tile->splits > 0x7fffffff)
    return unsupported(std::to_string(tile->tiles) + " tiles pass the largest grid");
  return std::unique_ptr<PassKernel>(std::make_unique<WeightMma>(request, shape, *tile));
}

}  // namespace upconv::cuda
