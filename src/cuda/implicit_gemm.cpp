// Forward and dx of channels-last tensors on the warpgroup tensor cores of sm_90a; of small ones also where channels
// come first, which are turned before. Host side of kernels/implicit_gemm.cuh: phases and taps, the tile, the
// specialisation's text, the launch.
#include "launch/implicit_gemm.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "cuda/turning.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

/// One tap of a phase: where it moves the source's box, and its number in w.
struct Tap {
  std::array<Int, 3> offset;
  Int row;
};
struct PhaseOfTaps {
  std::array<Int, 3> at{};  ///< The first result of each dimension.
  std::vector<Tap> taps;
};

/// The phases of the result, those with most taps first, so that the shortest are left for the end of a round.
std::vector<PhaseOfTaps> phases_of(const Geometry& g, bool backward) {
  std::vector<PhaseOfTaps> all;
  const auto steps = [&](int d) { return backward ? Int{1} : g.stride[std::size_t(d)]; };
  for (Int d = 0; d < steps(0); ++d)
    for (Int h = 0; h < steps(1); ++h)
      for (Int w = 0; w < steps(2); ++w) {
        PhaseOfTaps phase{{d, h, w}, {}};
        for (Int t = 0; t < g.taps(); ++t) {
          const std::array<Int, 3> tap = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1],
                                          t % g.kernel[2]};
          Tap moved{{}, t};
          bool meets = true;
          for (std::size_t i = 0; i < 3; ++i) {
            const Int reach = g.dilation[i] * tap[i] - g.padding[i];
            if (backward) {
              moved.offset[i] = reach;
            } else {
              meets = meets && (phase.at[i] - reach) % g.stride[i] == 0;
              moved.offset[i] = (phase.at[i] - reach) / g.stride[i];
            }
          }
          if (meets) phase.taps.push_back(moved);
        }
        all.push_back(std::move(phase));
      }
  std::stable_sort(all.begin(), all.end(),
                   [](const PhaseOfTaps& a, const PhaseOfTaps& b) { return a.taps.size() > b.taps.size(); });
  return all;
}

struct GemmTile {
  Int columns;  ///< Channels of a tile.
  Int blocks;   ///< Of a multiprocessor.
  Int stages;
  Int split = 1;  ///< Blocks of a cluster, which share a tile's steps.
  double seconds = 0.0;
};

constexpr Int rows = launch::implicit_gemm_rows;
constexpr Int most_turned = 8 << 20;  ///< Bytes of a source whose channels come first.

Int stage_bytes(const GemmTile& t) { return (rows + t.columns) * 128; }

/// Whether channels come first in what the pass reads, x or dy; and in what it writes.
bool source_first(const Request& r) {
  return (r.pass == Pass::backward_input ? r.problem.y_layout : r.problem.x_layout) == Layout::channels_first;
}
bool out_first(const Request& r) {
  return (r.pass == Pass::backward_input ? r.problem.x_layout : r.problem.y_layout) == Layout::channels_first;
}

launch::ImplicitGemmFixed fixed_of(const Request& r, const GemmTile& t, const std::vector<PhaseOfTaps>& phases) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  launch::ImplicitGemmFixed f;
  f.backward = r.pass == Pass::backward_input;
  f.groups = g.groups, f.k = f.backward ? g.co : g.ci, f.n = f.backward ? g.ci : g.co, f.taps = g.taps();
  f.phases = Int(phases.size());
  for (int d = 0; d < 3; ++d) (f.backward ? f.source_step : f.out_step)[d] = g.stride[std::size_t(d)];
  f.columns = t.columns, f.element_bytes = Int(size_of(p.dtype));
  f.source_first = source_first(r), f.out_first = out_first(r);
  const WeightStrides w = weight_strides(p, g);
  f.w_k = f.backward ? w.co : w.ci, f.w_n = f.backward ? w.ci : w.co, f.w_tap = w.tap[2], f.w_group = g.ci * w.ci;
  // w itself as B: bulk copies want its rows at multiples of 16 bytes.
  const bool last = (p.w_layout == Layout::channels_last || g.taps() == 1) && g.co * f.element_bytes % 16 == 0;
  f.b_rows = last && !f.backward && p.dtype != DType::f32 && t.columns % 64 == 0;
  f.prepares = !(last && f.backward) && !f.b_rows;
  f.blocks = t.blocks, f.split = t.split;
  f.shared_bytes = t.stages * stage_bytes(t) + 1024;
  f.map_element = static_cast<int>(p.dtype == DType::f32   ? launch::MapElement::tf32
                                   : p.dtype == DType::f16 ? launch::MapElement::f16
                                                           : launch::MapElement::bf16);
  return f;
}

/// Of a tile of the phase that has most taps, the first.
Int longest_steps(const launch::ImplicitGemmFixed& f, const std::vector<PhaseOfTaps>& phases) {
  return Int(phases.front().taps.size()) * (f.k_padded() / f.stage_k());
}

/// Fitted to 60 forms of layers of 64 to 512 channels on an H200 (docs/measured-cuda-gemm.md): a step takes what its
/// products take, a narrow one what L2 gives. What sums in clusters cost is what cuda_input_wgmma's do (16 of
/// 20 dx within a tenth).
double seconds_of(const launch::ImplicitGemmFixed& f, const launch::ImplicitGemmLaunch& l, const GemmTile& t,
                  const std::vector<PhaseOfTaps>& phases) {
  constexpr double clock = 1.7e9, start = 5e-6;
  const auto columns = double(t.columns);
  // A thread a row, element by element: some 40 instructions for 16 bytes; by 8 bytes, two waits for memory. The
  // former is counted, the latter measured once (dcgan/main0).
  const double plain = launch::may_bulk(f) ? 0.0 : launch::by_eights(f) ? 3500.0 : 12e3;
  const double step = std::max({4.5 * columns, 420.0 + 1.35 * columns, plain});
  const double of_tile =
      700.0 + 9.0 * columns / double(t.split) + (t.split > 1 ? 4100.0 + double(rows) * columns / 16.0 : 0.0);
  // A lone round lasts as long as its longest phase; in many every block gets as much as any.
  std::size_t taps = 0;
  for (const PhaseOfTaps& phase : phases) taps += phase.taps.size();
  const double steps = l.rounds == 1 ? double(launch::ceil_div(longest_steps(f, phases), t.split))
                                     : double(f.k_padded() / f.stage_k()) * double(taps) / double(phases.size());
  // Two blocks of a multiprocessor share its products; one writes meanwhile.
  const double round = std::max(double(t.blocks) * steps * step, steps * step + of_tile);
  const double prepared = double(l.workspace_bytes - l.turn.bytes());
  const double seconds =
      start + double(l.rounds) * round / clock + (f.prepares ? 2e-6 + 3.0 * prepared / 3e12 : 0.0) + l.turn.seconds();
  if (!f.out_first) return seconds;
  // Channels first leave element by element, as far apart as the stride has it; fitted to 66 layers of models, within a
  // seventh.
  const auto& a = l.arguments;
  const double results =
      double(a.batch) * double(f.groups * f.n) * double(a.out_size[0]) * double(a.out_size[1]) * double(a.out_size[2]);
  const auto apart = double(f.out_step[2]);
  return 1.15 * (seconds + results * (f.element_bytes == 4 ? 1.0 + 1.05 * apart : 2.3 + 0.3 * apart) * 1e-12);
}

std::vector<GemmTile> tiles_of(const Request& r, const std::vector<PhaseOfTaps>& phases) {
  std::vector<GemmTile> all;
  const Int n = r.pass == Pass::backward_input ? r.geometry.ci : r.geometry.co;
  for (const Int columns : {256, 192, 128, 96, 64, 32}) {
    if (columns > 32 && columns >= n + 32) continue;
    for (const Int blocks : {2, 1}) {
      if (blocks == 2 && columns > 64) continue;  // 80 registers at the start hold no more sums
      GemmTile t{columns, blocks, 1};
      const Int room = Int(r.target.shared_per_block) / blocks - 1024 - 1024;
      t.stages = std::min<Int>(6, room / stage_bytes(t));
      if (t.stages < 3) continue;
      for (const Int split : {1, 2, 4, 8}) {
        t.split = split;
        const auto fixed = fixed_of(r, t, phases);
        const auto launch = launch::launch_of(fixed, sizes_of(r.geometry), r.target.processors);
        if (launch.refusal) break;
        // Clusters are for what leaves multiprocessors idle; their sums lie where the stages were.
        if (split > 1 && (blocks > 1 || launch.arguments.tiles > r.target.clusters(int(split)) ||
                          split > longest_steps(fixed, phases) || rows * (columns + 8) * 4 > t.stages * stage_bytes(t)))
          break;
        t.seconds = seconds_of(fixed, launch, t, phases);
        all.push_back(t);
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const GemmTile& a, const GemmTile& b) { return a.seconds < b.seconds; });
  if (all.size() > most_variants) all.resize(most_variants);
  return all;
}

std::string table_text(const char* name, const std::vector<Int>& values) {
  std::string s = std::string("__device__ constexpr int ") + name + "[] = {";
  for (std::size_t i = 0; i < values.size(); ++i) s += (i ? ", " : "") + std::to_string(values[i]);
  return s + "};\n";
}

std::string constant_of(const char* name, Int value) {
  return std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
}

/// What the weights are prepared for.
std::string weights_text(const Request& r, const launch::ImplicitGemmFixed& f) {
  std::string s = "#include \"types.cuh\"\nnamespace config {\ntypedef " + std::string(device_type(r.problem.dtype)) +
                  " Element;\n";
  s += constant_of("GROUPS", f.groups) + constant_of("K", f.k) + constant_of("N", f.n) + constant_of("TAPS", f.taps);
  s += constant_of("STAGE_K", f.stage_k()) + constant_of("K_PADDED", f.k_padded());
  return s + "constexpr bool WEIGHT_LAST = " + (r.problem.w_layout == Layout::channels_last ? "true;\n" : "false;\n");
}

std::string products_text(const Request& r, const GemmTile& t, const launch::ImplicitGemmFixed& f,
                          const std::vector<PhaseOfTaps>& phases) {
  std::string s = constant_of("BN", t.columns) + constant_of("STAGES", t.stages);
  s += std::string("constexpr bool B_ROWS = ") + (f.b_rows ? "true;\n" : "false;\n");
  s += constant_of("BLOCKS", t.blocks) + constant_of("SPLIT", t.split);
  // Who brings a share of the steps counts them, too, or has 8 bytes of 16 rows at once.
  const bool more = t.split > 1 || launch::by_eights(f);
  s += std::string("constexpr bool EIGHTS = ") + (launch::by_eights(f) ? "true;\n" : "false;\n");
  s += constant_of("COMPUTE_REGISTERS", t.blocks > 1 ? (more ? 96 : 104) : more ? 216 : 232);
  s += constant_of("BRING_REGISTERS", t.blocks > 1 ? (more ? 48 : 32) : more ? 72 : 40);
  s += constant_of("PHASES", f.phases) + every_lane_text();
  s += std::string("constexpr bool OUT_FIRST = ") + (f.out_first ? "true;\n" : "false;\n");
  s += std::string("constexpr bool has_bias = ") + (r.problem.bias && !f.backward ? "true;\n" : "false;\n");
  std::vector<Int> first{0}, at, offset, row;
  for (const PhaseOfTaps& phase : phases) {
    at.insert(at.end(), phase.at.begin(), phase.at.end());
    for (const Tap& tap : phase.taps) {
      offset.insert(offset.end(), tap.offset.begin(), tap.offset.end());
      row.push_back(tap.row);
    }
    first.push_back(Int(row.size()));
  }
  if (row.empty()) offset = {0, 0, 0}, row = {0};
  s += table_text("phase_first", first) + table_text("phase_at", at) + table_text("tap_offset", offset);
  s += table_text("tap_row", row);
  s += table_text("source_step", {f.source_step[0], f.source_step[1], f.source_step[2]});
  s += table_text("out_step", {f.out_step[0], f.out_step[1], f.out_step[2]});
  const DType dtype = r.problem.dtype;
  s += wgmma_shared_text(int(t.columns),
                         dtype == DType::f32   ? TensorOperand::tf32
                         : dtype == DType::f16 ? TensorOperand::f16
                                               : TensorOperand::bf16,
                         f.b_rows, false);
  return s + "}\n#define UPCONV_SPLIT " + std::to_string(t.split) + "\n" +
         epilogue_text(r.epilogue, device_type(dtype));
}

class ImplicitGemm final : public PassKernel {
 public:
  ImplicitGemm(const Request& r, const GemmTile& tile, const std::vector<PhaseOfTaps>& phases)
      : ImplicitGemm(r, tile, phases, fixed_of(r, tile, phases)) {}

  std::size_t workspace_bytes() const override { return static_cast<std::size_t>(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<3> start(device_, stream, {&weights_, &products_, &turn_});
    OperandBlock block;
    launch::run(
        fixed_, launch_,
        {fixed_.backward ? t.dy : t.x, t.w, t.b, fixed_.backward ? t.dx : t.y, operands_.fill(t.operands, block)},
        workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({weights_.program(), products_.program(), turn_.program()}, "launch/implicit_gemm.hpp",
                             "ImplicitGemmFixed", fixed_);
  }

  std::string detail() const override {
    const auto& a = launch_.arguments;
    char text[240], split[48] = "";
    if (tile_.split > 1) std::snprintf(split, sizeof split, ", %lld splits in clusters", (long long)tile_.split);
    std::snprintf(text, sizeof text,
                  "tiles of %dx%dx%dx%d positions x %lld channels, weights %s, %lld stages of %.1f KiB, %lld "
                  "phases%s%s%s",
                  a.box[0], a.box[1], a.box[2], a.box[3], (long long)tile_.columns,
                  fixed_.prepares ? "turned first" : "as they lie", (long long)tile_.stages,
                  double(stage_bytes(tile_)) / 1024.0, (long long)fixed_.phases,
                  tile_.blocks > 1 ? ", two blocks a multiprocessor" : "", split,
                  launch_.turn.needed() ? ", channels turned last" : "");
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override {
    std::vector<const jit::Kernel*> all{&products_};
    if (fixed_.prepares) all.push_back(&weights_);
    if (launch_.turn.needed()) all.push_back(&turn_);
    return all;
  }
  double predicted_seconds() const override { return tile_.seconds; }

 private:
  ImplicitGemm(const Request& r, const GemmTile& tile, const std::vector<PhaseOfTaps>& phases,
               const launch::ImplicitGemmFixed& fixed)
      : device_(r.target.device),
        tile_(tile),
        fixed_(fixed),
        launch_(launch::launch_of(fixed, sizes_of(r.geometry), r.target.processors)),
        weights_({"implicit_gemm_prepare.cuh", "implicit_gemm_prepare", weights_text(r, fixed) + "}\n"}),
        products_(
            {"implicit_gemm.cuh", "implicit_gemm", weights_text(r, fixed) + products_text(r, tile, fixed, phases)},
            unsigned(fixed.shared_bytes)),
        turn_(turn_program(fixed.element_bytes)),
        operands_(r) {}

  int device_;
  GemmTile tile_;
  launch::ImplicitGemmFixed fixed_;
  launch::ImplicitGemmLaunch launch_;
  jit::Kernel weights_, products_, turn_;
  OperandArguments operands_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_implicit_gemm(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  if (r.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  if (p.dtype == DType::f64) return unsupported("no tensor cores for f64 here");
  if (p.dtype == DType::f32 && p.precision != Precision::tf32) return unsupported("computes f32 as tf32 only");
  if (g.batch == 0) return unsupported("an empty batch");
  const bool backward = r.pass == Pass::backward_input;
  const Int k = backward ? g.co : g.ci, n = backward ? g.ci : g.co, element = Int(size_of(p.dtype));
  for (std::size_t d = 0; d < 3; ++d)
    if (backward && g.stride[d] > 8) return unsupported("a stride beyond 8, which no tensor map steps over");
  if (g.stride[0] * g.stride[1] * g.stride[2] > 64) return unsupported("more than 64 phases");
  if (g.taps() > 1024) return unsupported("more than 1024 taps");
  if (!r.forced && k * element % 8 != 0) return unsupported("channels that come neither by bulk copies nor by 8 bytes");
  if (!r.forced && (k < 16 || n < 16)) return unsupported("fewer than 16 channels a group");
  if (g.groups * g.taps() * g.ci * g.co > Int{1} << 30) return unsupported("weights past 32-bit coordinates");
  if (!r.forced && out_first(r) && p.rank == 1)
    return unsupported("1-D results whose channels come first; of 29 that were timed others took 27 in less time");
  const Int source = g.batch * (backward ? g.out_channels() * g.out_volume() : g.in_channels() * g.in_volume());
  if (source_first(r) && source * element > most_turned)
    return unsupported("channels come first in more than 8 MiB, which would have to be turned");
  const std::vector<PhaseOfTaps> phases = phases_of(g, backward);
  const std::vector<GemmTile> tiles = tiles_of(r, phases);
  if (tiles.empty()) return unsupported("no tile of this kernel fits the GPU or these sizes");
  if (r.variant >= static_cast<int>(tiles.size())) return no_variant(r.variant);
  return std::unique_ptr<PassKernel>(new ImplicitGemm(r, tiles[std::size_t(r.variant)], phases));
}

}  // namespace upconv::cuda
