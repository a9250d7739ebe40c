// Forward of dense and grouped layers with many channels on sm_90a: host side of kernels/columns.cuh.
#include "launch/columns.hpp"

#include <algorithm>

#include "cuda/candidates.hpp"
#include "cuda/columns_tile.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

std::string preamble(const ColumnsShape& s, const ColumnsTile& t, const Request& r) {
  const Geometry& g = r.geometry;
  std::string text = "#include \"types.cuh\"\nnamespace config {\n";
  const auto constant = [&](const char* name, Int value) {
    text += std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
  };
  const auto flag = [&](const char* name, bool value) {
    text += std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
  };
  const auto table = [&](const std::string& name, const std::vector<int>& values) {
    text += "__device__ constexpr int " + name + "[] = {";
    for (std::size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + std::to_string(values[i]);
    text += "};\n";
  };
  text += std::string("typedef ") + device_type(r.problem.dtype) + " Element;\n";
  flag("tf32", s.tf32);
  flag("has_bias", r.problem.bias);
  constant("PARTS", s.parts);
  constant("RANK", r.problem.rank);
  constant("K", s.k);
  constant("CO", s.co);
  const char* axes[] = {"D", "H", "W"};
  for (std::size_t d = 0; d < 3; ++d) {
    constant((std::string("K") + axes[d]).c_str(), s.kernel[d]);
    constant((std::string("S") + axes[d]).c_str(), s.stride[d]);
    constant((std::string("P") + axes[d]).c_str(), g.padding[d]);
  }
  constant("TAPS", s.all_taps);
  flag("SEPARATE", s.separate);
  flag("TURNED", t.turned);
  flag("A_SHARED", t.a_shared);
  flag("PARTED", t.parted);
  flag("PAIRS", t.pairs);
  flag("QUADS", t.quads);
  flag("MERGED_H", t.merged_h);
  flag("SWIZZLED", t.swizzled());
  constant("W_RUN", t.weight_run);
  constant("W_PITCH", t.weight_pitch);
  constant("SPAN", t.span);
  constant("PIECE", t.piece);
  constant("SEGMENTS", static_cast<Int>(t.segments.size()));
  std::vector<int> segment_d, segment_h;
  for (const auto& [d, h] : t.segments) segment_d.push_back(d), segment_h.push_back(h);
  table("segment_d", segment_d);
  table("segment_h", segment_h);
  constant("GROUPS_DOWN", t.down);
  constant("GROUPS_ACROSS", t.across);
  constant("KINDS", t.kinds);
  constant("SPLIT", t.split);
  constant("GROUP_ROWS", t.group_rows);
  constant("BLOCK_ROWS", t.block_rows);
  constant("ROW_BLOCKS", t.row_blocks);
  constant("POSITIONS", t.positions);
  constant("STAGED", t.staged);
  constant("CHANNELS", t.channels);
  constant("STAGES", t.stages);
  constant("RAW_SLOTS", t.raw_slots);
  constant("SLICE", t.slice);
  constant("LINE_PITCH", t.line_pitch);
  constant("LINE_SKEW", t.line_skew);
  constant("SHARED_BYTES", t.shared_bytes);
  constant("COMPUTE_REGISTERS", t.compute_registers);
  constant("BRING_REGISTERS", t.bring_registers);
  // Of a chunk's first products: where weights and positions begin, which sums.
  text += "struct Step {\n  int weight, segment, back_h, back_w, block;\n};\n";
  for (std::size_t kind = 0; kind < 2; ++kind) {
    const auto& steps = t.steps[t.kinds == 2 ? kind : 0];
    text += "__device__ constexpr Step steps_" + std::to_string(kind) + "[] = {";
    for (std::size_t i = 0; i < steps.size(); ++i)
      text += (i ? ", {" : "{") + std::to_string(steps[i].weight) + ", " + std::to_string(steps[i].segment) + ", " +
              std::to_string(t.merged_h ? s.shift[1] - steps[i].shift_h : 0) + ", " +
              std::to_string(s.shift[2] - steps[i].shift_w) + ", " + std::to_string(steps[i].block) + "}";
    text += "};\n";
    table("units_" + std::to_string(kind), t.units[t.kinds == 2 ? kind : 0]);
  }
  const TensorOperand operand = s.tf32                          ? TensorOperand::tf32
                                : r.problem.dtype == DType::f16 ? TensorOperand::f16
                                                                : TensorOperand::bf16;
  text += t.a_shared ? wgmma_shared_text(t.positions, operand, !t.turned) : wgmma_text(t.positions, operand, !t.turned);
  // The product that is not used is declared only.
  text +=
      t.a_shared
          ? "template <int n>\n__device__ void wgmma(float (&)[n], const unsigned (&)[4], unsigned long long);\n"
          : "template <int n>\n__device__ void wgmma_shared(float (&)[n], unsigned long long, unsigned long long);\n";
  return text + "}\n#define UPCONV_SPLIT " + std::to_string(t.split) + "\n" +
         epilogue_text(r.epilogue, device_type(r.problem.dtype));
}

class Columns final : public PassKernel {
 public:
  Columns(const Request& r, const ColumnsShape& s, const ColumnsTile& t)
      : device_(r.target.device),
        tile_(t),
        fixed_(columns_fixed(s, t)),
        launch_(launch::launch_of(fixed_, sizes_of(r.geometry), r.target.processors)),
        kernel_({"columns.cuh", "columns", preamble(s, t, r)}, t.shared_bytes),
        operands_(r),
        predicted_(t.seconds) {}

  Status run(const PassTensors& t, void*, void* stream) const override {
    Start<1> start(device_, stream, {&kernel_});
    OperandBlock block;
    launch::run(fixed_, launch_, {t.x, t.w, t.b, t.y, operands_.fill(t.operands, block)}, nullptr, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program()}, "launch/columns.hpp", "ColumnsFixed", fixed_);
  }
  std::string detail() const override { return to_string(tile_); }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }
  double predicted_seconds() const override { return predicted_; }
  [[nodiscard]] const char* refusal() const { return launch_.refusal; }

 private:
  int device_;
  ColumnsTile tile_;
  launch::ColumnsFixed fixed_;
  launch::ColumnsLaunch launch_;
  jit::Kernel kernel_;
  OperandArguments operands_;
  double predicted_;
};

/// Whether a step reads an operand that differs from element to element of a channel.
bool reads_elements(const Epilogue& epilogue) {
  return std::any_of(epilogue.steps.begin(), epilogue.steps.end(), [](const EpilogueStep& s) {
    return s.arithmetic > Arithmetic::keep && s.source == Source::operand && s.spread != Spread::scalar &&
           s.spread != Spread::channel;
  });
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_columns(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  if (r.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  if (p.dtype == DType::f64) return unsupported("no tensor cores for f64 here");
  if (p.dtype == DType::f32 && p.precision == Precision::ieee)
    return unsupported("computes f32 as tf32 or bf16x3 only");
  if (p.x_layout == Layout::channels_last || p.y_layout == Layout::channels_last)
    return unsupported("reads x and writes y with the channels first only");
  if (p.w_layout == Layout::channels_last && g.taps() > 1)
    return unsupported("reads weights with the channels first only");
  if (g.batch == 0) return unsupported("an empty batch");
  for (int d = 0; d < 3; ++d)
    if (g.in[d] > 1 << 30 || g.out[d] > 1 << 30) return unsupported("a side longer than 2^30");
  if (g.taps() > 256) return unsupported(std::to_string(g.taps()) + " taps exceed 256");
  if (g.ci * g.co * g.taps() >= 1 << 30) return unsupported("2^30 weights a group or more");
  if (!r.forced && g.ci < 32) return unsupported(std::to_string(g.ci) + " input channels a group are fewer than 32");
  if (r.epilogue.operands() > 0 && p.dtype != DType::f32)
    return unsupported(
        "reads operands of an epilogue in f32 only: 16-bit values are rounded before they are put in order");
  if (r.epilogue.operands() > 0 && g.out_channels() >= 1 << 22)
    return unsupported("operands of 2^22 output channels or more");
  ColumnsShape s = columns_shape(p, g);
  s.operands = reads_elements(r.epilogue);
  s.long_epilogue = !r.epilogue.steps.empty() && !is_short(r.epilogue);
  if (s.separate && s.phases > 16) return unsupported("more than 16 phases with different numbers of taps");
  const std::vector<ColumnsTile> tiles = columns_tiles(s, r.target);
  if (tiles.empty()) return unsupported("no tile fits registers and shared memory");
  if (r.variant >= static_cast<int>(tiles.size())) return no_variant(r.variant);
  auto made = std::make_unique<Columns>(r, s, tiles[static_cast<std::size_t>(r.variant)]);
  if (made->refusal()) return unsupported(made->refusal());
  return std::unique_ptr<PassKernel>(std::move(made));
}

}  // namespace upconv::cuda
