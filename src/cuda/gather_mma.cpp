// Tensor-core gather for forward and dx, on mma.sync (sm_80 and up). Host side of kernels/gather_mma.cuh.
#include "launch/gather_mma.hpp"

#include <algorithm>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/gather_tile.hpp"
#include "cuda/operands.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

constexpr int most_taps = 4096;

using launch::ceil_div, launch::floor_div;

const char* mode_of(const Problem& p) {
  if (p.dtype == DType::f16) return "f16";
  if (p.dtype == DType::bf16) return "bf16";
  return p.precision == Precision::tf32 ? "tf32" : p.precision == Precision::bf16x3 ? "bf16x3" : "tf32x3";
}

GatherShape shape_of(const Request& q) {
  const Geometry& g = q.geometry;
  const Problem& p = q.problem;
  GatherShape s;
  s.forward = q.pass == Pass::forward;
  s.batch = g.batch;
  s.groups = g.groups;
  std::int64_t merged = 1;
  for (int d = 0; d < 3; ++d) {
    const std::int64_t k = g.kernel[d], st = g.stride[d], dil = g.dilation[d];
    // Of the last dimension's strides, those whose residues fill whole n-tiles, or more.
    s.merged[d] = st > 1 && dil == 1 && k % st == 0 && (d < 2 || st % 8 == 0 || 8 % st == 0 || st > 16);
    if (s.merged[d]) merged *= st;
    const std::int64_t taps = s.merged[d] ? k / st : k;
    std::vector<bool> residue(static_cast<std::size_t>(st), false);
    std::int64_t reaches = 0, last = -1;
    for (std::int64_t t = 0; t < taps; ++t) {
      const std::int64_t reach = s.merged[d] ? t : dil * t / st;
      residue[static_cast<std::size_t>(s.merged[d] ? 0 : dil * t % st)] = true;
      if (reach != last) ++reaches;
      last = reach;
    }
    const int residues = static_cast<int>(std::count(residue.begin(), residue.end(), true));
    s.taps[d] = static_cast<int>(taps);
    s.span[d] = static_cast<int>(last);
    s.phases[d] = s.forward ? residues : 1;
    s.planes[d] = s.forward ? 1 : residues;
    s.entries[d] = static_cast<int>(s.forward ? reaches : taps);
    s.first[d] = s.forward ? floor_div(g.padding[d], st) : 0;
    s.grid[d] = s.forward ? ceil_div(g.out[d] + g.padding[d], st) - s.first[d] : g.in[d];
  }
  s.spread = s.forward ? static_cast<int>(g.stride[2]) : 1;
  s.merged_w = s.forward && s.merged[2] ? s.spread : 1;
  s.columns = s.forward ? g.co * merged : g.ci;
  s.depth = s.forward ? g.ci : g.co * merged;
  const bool half = p.dtype != DType::f32;
  s.pack = half || p.precision == Precision::bf16x3 ? 2 : 1;
  s.parts = !half && p.precision != Precision::tf32 ? 2 : 1;
  s.products = s.parts == 2 ? 3 : 1;
  s.element_bytes = half ? 2 : 4;
  const double x = double(g.batch) * g.in_channels() * g.in_volume() * s.element_bytes;
  const double y = double(g.batch) * g.out_channels() * g.out_volume() * s.element_bytes;
  s.source_bytes = s.forward ? x : y;
  s.out_bytes = s.forward ? y : x;
  s.weight_bytes = double(g.in_channels()) * g.co * g.taps() * s.element_bytes;
  const auto& source = s.forward ? g.in : g.out;
  const std::int64_t channels = s.forward ? g.in_channels() : g.out_channels();
  s.source_last = (s.forward ? p.x_layout : p.y_layout) == Layout::channels_last;
  s.out_last = (s.forward ? p.y_layout : p.x_layout) == Layout::channels_last;
  s.sample = double(channels) * source[0] * source[1] * source[2];
  s.plane = double(source[1]) * source[2] * (s.source_last ? channels : 1);
  for (int d = 0; d < 3; ++d) s.step[d] = s.forward ? 1 : static_cast<int>(g.stride[d]);
  return s;
}

std::string text(const char* name, std::int64_t value) {
  return std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
}
std::string flag(const char* name, bool value) {
  return std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
}

jit::Program program_of(const Request& q, const GatherShape& s, const GatherTile& t) {
  const Geometry& g = q.geometry;
  const Problem& p = q.problem;
  std::string c = "#include \"mma/operand.cuh\"\n#include \"mma/taps.cuh\"\nnamespace config {\n";
  c += std::string("typedef ") +
       (p.dtype == DType::f32   ? "float"
        : p.dtype == DType::f16 ? "upconv::f16"
                                : "upconv::bf16") +
       " Element;\n";
  c += std::string("constexpr upconv::Mode MODE = upconv::Mode::") + mode_of(p) + ";\n";
  c += flag("FORWARD", s.forward);
  const char* names[] = {"DIM_D", "DIM_H", "DIM_W"};
  for (int d = 0; d < 3; ++d)
    c += std::string("constexpr upconv::Dimension ") + names[d] + " = {" + std::to_string(g.kernel[d]) + ", " +
         std::to_string(g.stride[d]) + ", " + std::to_string(g.dilation[d]) + ", " + (s.merged[d] ? "true" : "false") +
         "};\n";
  c += text("DEPTH", s.depth) + text("COLUMNS", s.columns) + text("LOOP", t.loop);
  const WeightStrides w = weight_strides(p, g);
  c += text("W_DEEP", s.forward ? w.ci : w.co) + text("W_WIDE", s.forward ? w.co : w.ci) + text("W_D", w.tap[0]) +
       text("W_H", w.tap[1]) + text("W_W", w.tap[2]);
  c += flag("SOURCE_LAST", s.source_last) + flag("OUT_LAST", s.out_last) +
       flag("WEIGHT_LAST", p.w_layout == Layout::channels_last) + flag("HAS_BIAS", s.forward && p.bias);
  c += text("TN", t.n) + text("TD", t.d) + text("TH", t.h) + text("TW", t.w) + text("MT", t.mt) + text("NT", t.nt) +
       text("WARPS_M", t.warps_m) + text("WARPS_N", t.warps_n) + text("WARPS_K", t.warps_k) + text("J", t.run) +
       text("KC", t.kc) + flag("RESIDENT", t.resident) + text("LW", t.lw) + text("NPAD", t.npad) +
       text("KPITCH", t.pitch) + text("SKEW", t.skew) + flag("STAGED", t.staged) + flag("RAW_SOURCE", t.raw_source) +
       flag("RAW_WEIGHT", t.raw_weight) + text("BLOCKS", t.blocks) + text("FETCH_REGISTERS", t.fetch);
  c += "}\n" + epilogue_text(q.epilogue, device_type(p.dtype));
  return {"gather_mma.cuh", "gather_mma", c};
}

launch::GatherMmaFixed fixed_of(const Request& q, const GatherShape& s, const GatherTile& t) {
  const Geometry& g = q.geometry;
  launch::GatherMmaFixed f;
  f.forward = s.forward;
  f.source_last = s.source_last;
  f.out_last = s.out_last;
  f.groups = g.groups;
  f.source_channels = s.forward ? g.in_channels() : g.out_channels();
  f.out_channels = s.forward ? g.out_channels() : g.in_channels();
  f.weight_group = g.ci * weight_strides(q.problem, g).ci;
  f.stride_d = g.stride[0], f.stride_h = g.stride[1], f.stride_w = g.stride[2];
  f.padding_d = g.padding[0], f.padding_h = g.padding[1], f.padding_w = g.padding[2];
  f.columns = s.columns;
  f.block_columns = t.columns();
  f.tile_n = t.n, f.tile_d = t.d, f.tile_h = t.h, f.tile_w = t.w;
  f.reach_d = s.span[0] + 1;
  f.threads = t.threads();
  f.shared_bytes = t.shared_bytes;
  f.blocks = t.blocks;
  return f;
}

class GatherMma final : public PassKernel {
 public:
  GatherMma(const Request& q, const GatherShape& s, const GatherTile& t)
      : pass_(q.pass),
        device_(q.target.device),
        tile_(t),
        mode_(mode_of(q.problem)),
        fixed_(fixed_of(q, s, t)),
        launch_(launch::launch_of(fixed_, sizes_of(q.geometry), q.target.processors)),
        kernel_(program_of(q, s, t), static_cast<unsigned>(t.shared_bytes)),
        operands_(q),
        predicted_(calibrated("cuda_gather_mma", q.problem, q.pass, t.seconds)) {}

  Status run(const PassTensors& p, void*, void* stream) const override {
    const bool forward = pass_ == Pass::forward;
    Start<1> start(device_, stream, {&kernel_});
    OperandBlock block;
    launch::run(
        fixed_, launch_,
        {forward ? p.x : p.dy, p.w, forward ? p.b : nullptr, forward ? p.y : p.dx, operands_.fill(p.operands, block)},
        nullptr, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program()}, "launch/gather_mma.hpp", "GatherMmaFixed", fixed_);
  }
  std::string detail() const override { return std::string(mode_) + ", " + to_string(tile_); }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }
  double predicted_seconds() const override { return predicted_; }

 private:
  Pass pass_;
  int device_;
  GatherTile tile_;
  std::string mode_;
  launch::GatherMmaFixed fixed_;
  launch::GatherMmaLaunch launch_;
  jit::Kernel kernel_;
  OperandArguments operands_;
  double predicted_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_gather_mma(const Request& q) {
  const Problem& p = q.problem;
  const Geometry& g = q.geometry;
  if (p.dtype == DType::f64) return unsupported("fp64 has no place on these tensor cores");
  if (q.target.capability() < 80)
    return unsupported("compute capability " + std::to_string(q.target.capability()) + " is below 80");
  if (g.groups > 1 && !q.forced && std::min(g.ci, g.co) < 4)
    return unsupported(std::to_string(g.ci) + " to " + std::to_string(g.co) +
                       " channels a group leave tensor cores idle");
  for (int d = 0; d < 3; ++d)
    if (g.in[d] >= 1 << 30 || g.out[d] >= 1 << 30 || g.padding[d] >= 1 << 30)
      return unsupported("a dimension of 2^30 or more");
  if (g.batch >= 1 << 30) return unsupported("a batch of 2^30 or more");
  if (double(g.in_channels()) * g.co * g.taps() >= 2147483648.0) return unsupported("2^31 weights or more");
  if (g.taps() > most_taps) return unsupported(std::to_string(g.taps()) + " taps exceed " + std::to_string(most_taps));
  const GatherShape s = shape_of(q);
  const auto tiles = gather_tiles(s, q.target);
  if (tiles.empty())
    return unsupported(std::to_string(g.taps()) + " taps at stride " + std::to_string(g.stride[2]) +
                       " fit no tile of shared memory and registers");
  if (q.variant >= static_cast<int>(tiles.size())) return no_variant(q.variant);
  return std::unique_ptr<PassKernel>(std::make_unique<GatherMma>(q, s, tiles[static_cast<std::size_t>(q.variant)]));
}

}  // namespace upconv::cuda
