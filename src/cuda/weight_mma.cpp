// dw on tensor cores (mma.sync, sm_80 and up). Host side of kernels/weight_mma.cuh: the specialisation's text, the
// run-time checks that allow wide copies, the launches.
#include <algorithm>
#include <cstdio>

#include "cuda/candidates.hpp"
#include "cuda/weight_mma_tile.hpp"

namespace upconv::cuda {
namespace {

/// Where the problem has fewer than three dimensions, the batch becomes D: boxes may then span samples.
Geometry fold_batch(const Problem& problem, Geometry g) {
  if (problem.rank == 3) return g;
  g.in[0] = g.out[0] = g.batch;
  g.kernel[0] = g.stride[0] = g.dilation[0] = 1;
  g.padding[0] = 0;
  g.batch = 1;
  return g;
}

/// A device function of small integers, as a chain of choices that folds away where its argument is a constant.
std::string function(const char* name, const std::vector<int>& values) {
  std::string s = "__device__ constexpr int " + std::string(name) + "(int i) { return ";
  for (std::size_t i = 0; i + 1 < values.size(); ++i)
    s += "i == " + std::to_string(i) + " ? " + std::to_string(values[i]) + " : ";
  return s + std::to_string(values.back()) + "; }\n";
}

/// For a line of the tile, what to add to stride * line for the distance from the tile's corner.
std::string origin_function(const char* name, const WeightAxis& axis, int box, int stride) {
  std::string s = "__device__ constexpr int " + std::string(name) + "(int line) { return ";
  int start = 0;
  for (std::size_t p = 0; p < axis.residues.size(); ++p) {
    const int origin = axis.residues[p] - stride * start;
    start += box + axis.most[p];
    if (p + 1 < axis.residues.size()) s += "line < " + std::to_string(start) + " ? ";
    s += "(" + std::to_string(origin) + ")";
    if (p + 1 < axis.residues.size()) s += " : ";
  }
  return s + "; }\n";
}

/// First line of every plane.
std::vector<int> starts(const WeightAxis& axis, int box) {
  std::vector<int> s;
  int at = 0;
  for (const int most : axis.most) {
    s.push_back(at);
    at += box + most;
  }
  return s;
}

int element(const Problem& problem) { return problem.dtype == DType::f32 ? 0 : problem.dtype == DType::f16 ? 1 : 2; }

std::string preamble(const Request& request, const WeightShape& shape, const WeightTile& t) {
  const Problem& problem = request.problem;
  const Geometry& g = shape.geometry;
  const WeightStrides w = weight_strides(problem, request.geometry);
  std::string s = "namespace config {\n";
  const auto add = [&s](const char* name, std::int64_t value) {
    s += "constexpr int " + std::string(name) + " = " + std::to_string(value) + ";\n";
  };
  add("mode", int(shape.mode));
  add("element", element(problem));
  add("x_last", shape.x_last);
  add("y_last", shape.y_last);
  add("w_last", problem.w_layout == Layout::channels_last);
  add("CI", g.ci), add("CO", g.co), add("GROUPS", g.groups);
  const char axis_names[] = "DHW";
  for (int i = 0; i < 3; ++i) {
    const std::string axis(1, axis_names[i]);
    add(("K" + axis).c_str(), g.kernel[i]), add(("S" + axis).c_str(), g.stride[i]);
    add(("D" + axis).c_str(), g.dilation[i]), add(("P" + axis).c_str(), g.padding[i]);
    add(("T" + axis).c_str(), t.taps[i]), add(("B" + axis).c_str(), t.box[i]);
    add(("G" + axis).c_str(), (g.kernel[i] + t.taps[i] - 1) / t.taps[i]);
  }
  add("MT", t.mt), add("NT", t.nt), add("WM", t.wm), add("WN", t.wn), add("WK", t.wk);
  add("MB", t.mb()), add("NB", t.nb()), add("YP", t.y_pitch);
  add("STAGES", t.stages), add("OCCUPANCY", t.occupancy);
  add("LD", t.lines_d), add("LH", t.lines_h), add("SPAN", t.span), add("PLANES", t.planes);
  add("IW", t.inner), add("LEAD", t.lead), add("WQ", t.window);
  add("walk_depth", g.kernel[0] > 1);
  s += "constexpr long long W_CI = " + std::to_string(w.ci) + ", W_CO = " + std::to_string(w.co) +
       ", W_D = " + std::to_string(w.tap[0]) + ", W_H = " + std::to_string(w.tap[1]) +
       ", W_W = " + std::to_string(w.tap[2]) + ";\n";

  std::array<WeightAxis, 3> axes;
  for (int i = 0; i < 3; ++i) axes[i] = weight_axis(t.taps[i], int(g.stride[i]), int(g.dilation[i]));
  if (t.inner > 1) axes[2] = weight_axis(t.taps[2], 1, int(g.dilation[2]));
  s += origin_function("d_origin", axes[0], t.box[0], int(g.stride[0]));
  s += origin_function("h_origin", axes[1], t.box[1], int(g.stride[1]));
  const auto d_starts = starts(axes[0], t.box[0]), h_starts = starts(axes[1], t.box[1]);
  std::vector<int> rows;
  for (int d = 0; d < t.taps[0]; ++d)
    for (int h = 0; h < t.taps[1]; ++h)
      rows.push_back(((d_starts[axes[0].plane[d]] + axes[0].shift[d]) * t.lines_h + h_starts[axes[1].plane[h]] +
                      axes[1].shift[h]) *
                     t.planes * t.span);
  s += function("row_offset", rows);

  const WeightAxis& wa = axes[2];
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
  s += function("plane_taps", counts) + function("plane_residue", residues) + function("plane_needed", needed);
  s += function("plane_tap_of", taps_flat) + function("plane_shift_of", shifts_flat);
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
        sum_({"weight_sum.cuh", "weight_sum",
              "namespace config { constexpr int element = " + std::to_string(element(request.problem)) + "; }\n"}) {}

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
  double predicted_seconds() const override { return tile_.seconds; }

 private:
  WeightMode mode_;
  WeightTile tile_;
  int device_;
  launch::WeightMmaFixed fixed_;
  launch::WeightMmaLaunch launch_;
  jit::Kernel products_, sum_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_weight_mma(const Request& request) {
  const Problem& problem = request.problem;
  const Geometry& g = request.geometry;
  if (problem.dtype == DType::f64) return unsupported("f64 has no tensor-core kernel here");
  if (request.target.capability() < 80)
    return unsupported("compute capability " + std::to_string(request.target.capability()) + " is below 80");
  const std::int64_t narrow = std::min(g.ci, g.co);
  if (narrow < 4 && !request.forced)
    return unsupported(std::to_string(g.ci) + " x " + std::to_string(g.co) +
                       " channels a group would leave most of a 16 x 8 fragment empty");
  if (problem.batch == 0) return unsupported("an empty batch has nothing to multiply");
  for (int i = 0; i < 3; ++i)
    if (g.out[i] >= (std::int64_t(1) << 31) - 4096 || g.batch >= (std::int64_t(1) << 31) - 4096)
      return unsupported("a size of " + std::to_string(g.out[i]) + " passes this kernel's 32-bit coordinates");

  const std::int64_t channels = std::max(g.in_channels() * g.in_volume(), g.out_channels() * g.out_volume());
  if (channels >= (std::int64_t(1) << 32))
    return unsupported(std::to_string(channels) + " elements a sample pass this kernel's 32-bit strides");

  WeightShape shape;
  shape.geometry = fold_batch(problem, g);
  shape.folded = problem.rank < 3;
  shape.element_bytes = int(size_of(problem.dtype));
  shape.x_last = problem.x_layout == Layout::channels_last;
  shape.y_last = problem.y_layout == Layout::channels_last;
  shape.mode = problem.dtype != DType::f32              ? WeightMode::half
               : problem.precision == Precision::tf32   ? WeightMode::tf32
               : problem.precision == Precision::bf16x3 ? WeightMode::bf16x3
                                                        : WeightMode::ieee;
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
