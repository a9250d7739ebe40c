// cuda_positions: forward and dx with few channels a group, by fp32 multiply-adds. Host side of kernels/positions.cuh:
// which problems, which tile, which launch.
#include "launch/positions.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

constexpr int threads = 256;

/// One dimension as the kernel sees it: the constants of upconv::Axis.
struct Axis {
  int kernel = 1, stride = 1, padding = 0, dilation = 1, shift = 0;
  bool dx = false;

  [[nodiscard]] int phases() const { return dx ? 1 : stride; }
  [[nodiscard]] int step() const { return dx ? stride : 1; }
  [[nodiscard]] int offset(int t) const {
    if (dx) return dilation * t - padding;
    const int phase = ((shift - padding + dilation * t) % stride + stride) % stride;
    return (phase - shift + padding - dilation * t) / stride;
  }
  [[nodiscard]] int reach() const {
    int low = offset(0), high = low;
    for (int t = 1; t < kernel; ++t) low = std::min(low, offset(t)), high = std::max(high, offset(t));
    return high - low + 1;
  }
  [[nodiscard]] int window(int positions) const { return step() * (positions - 1) + reach(); }
};

/// Everything the compiled kernel depends on beside the problem.
struct Tile {
  int cot = 1, uh = 1, uw = 1;
  int sums = 0;    ///< accumulators of a thread
  int window = 0;  ///< inputs a thread holds for one channel
  bool whole = true;
  int registers = 0;  ///< rough guess
  int blocks = 1;     ///< a multiprocessor
  int weight_floats = 0;
  double cycles = 0;  ///< of a multiprocessor, for one position, one produced and one summed channel
};

class Positions final : public PassKernel {
 public:
  static Result<std::unique_ptr<PassKernel>> make(const Request& request);

  explicit Positions(const Request& r)
      : p_(r.problem), g_(r.geometry), target_(r.target), operands_(r), dx_(r.pass == Pass::backward_input) {
    for (int d = 0; d < 3; ++d)
      axes_[d] = {int(g_.kernel[d]), int(g_.stride[d]), int(g_.padding[d]), int(g_.dilation[d]), 0, dx_};
    ci_ = int(dx_ ? g_.co : g_.ci);
    co_ = int(dx_ ? g_.ci : g_.co);
    in_last_ = (dx_ ? p_.y_layout : p_.x_layout) == Layout::channels_last;
    out_last_ = (dx_ ? p_.x_layout : p_.y_layout) == Layout::channels_last;
    group_lanes_ = in_last_ && out_last_ && g_.groups >= 8;
    if (!dx_) {
      // A shift saves a row or column of the window. Without one there is no extra position at the start, and a
      // thread's phases of a line can be stored as one vector.
      for (Axis& axis : axes_) {
        Axis shifted = axis;
        shifted.shift = shifted.padding % shifted.stride;
        if (ci_ > 2 && shifted.reach() < axis.reach()) axis = shifted;
      }
    }
    phases_ = axes_[0].phases() * axes_[1].phases() * axes_[2].phases();
  }

  [[nodiscard]] Status run(const PassTensors& t, void*, void* stream) const override {
    Start<1> start(target_.device, stream, {kernel_.get()});
    OperandBlock block;
    launch::run(fixed_, launch_,
                {dx_ ? t.dy : t.x, t.w, dx_ ? nullptr : t.b, dx_ ? t.dx : t.y, operands_.fill(t.operands, block)},
                nullptr, start);
    return start.status;
  }

  [[nodiscard]] std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text,
                  "%dx%d positions x %d phases x %d channels a thread, %s, %d slices, %d steps, %u blocks", tile_.uh,
                  tile_.uw, phases_, tile_.cot, group_lanes_ ? "lanes along groups" : "lanes along lines",
                  launch_.arguments.slices, launch_.arguments.steps, launch_.grid);
    return text;
  }
  [[nodiscard]] std::vector<const jit::Kernel*> kernels() const override { return {kernel_.get()}; }
  [[nodiscard]] Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_->program()}, "launch/positions.hpp", "PositionsFixed", fixed_);
  }
  [[nodiscard]] double predicted_seconds() const override {
    return calibrated("cuda_positions", p_, dx_ ? Pass::backward_input : Pass::forward, seconds_);
  }

 private:
  [[nodiscard]] int stage_floats() const { return threads * axes_[2].phases(); }

  /// The tile of `cot` channels and `u` positions, or nothing where it does not fit.
  [[nodiscard]] std::optional<Tile> tile(int cot, int u, int shared_limit) const {
    Tile t;
    t.cot = cot;
    (p_.rank == 1 ? t.uw : t.uh) = u;
    const int taps = int(g_.taps());
    t.sums = u * phases_ * cot;
    t.window = axes_[0].reach() * axes_[1].window(t.uh) * axes_[2].reach() * t.uw;
    t.whole = t.window * (ci_ > 1 ? 2 : 1) <= 72;
    if (!t.whole && t.uh > 1) return {};
    const int live = t.whole ? t.window * (ci_ > 1 ? 2 : 1) : 2 * axes_[2].reach() * t.uw;
    const int masks = t.uw * axes_[0].reach() * axes_[1].window(t.uh);
    t.registers = t.sums + live + std::min(masks, 24) + std::max(cot, 4) + (ci_ > 1 ? 40 : 26) + (t.whole ? 0 : 44);
    if (t.sums > 100 || t.registers > 200 || u * axes_[0].phases() * axes_[1].phases() > 32) return {};
    t.blocks = t.registers <= 60 ? 4 : t.registers <= 76 ? 3 : t.registers <= 112 ? 2 : 1;
    t.weight_floats = ci_ * ((taps * cot + 3) / 4 * 4) * (group_lanes_ ? 32 : 1);
    const int shared = 4 * (t.weight_floats + stage_floats() + t.sums * threads / 2);
    if (shared > shared_limit) return {};
    while (t.blocks > 1 && 4 * (t.weight_floats + stage_floats()) > target_.shared_per_processor / t.blocks - 1024)
      --t.blocks;
    // A warp's cycles of a multiprocessor for one summed channel: 4 instructions issue in one, the load pipe moves one
    // line of 128 bytes in one. Few resident blocks hide less of the latency.
    const double line = in_last_ && !group_lanes_ ? std::min(ci_ * 4, 32) : 1.25 * axes_[2].step();
    const double fma = double(taps) * u * cot;
    const double weights = taps * t.cot * (group_lanes_ ? 1.0 : 0.25);
    const double issue = (fma + 4.0 * t.window + weights) / 4;
    const double load = t.window * line + weights;
    const double outputs = double(t.sums) * (axes_[2].phases() > 1 ? 12 : 8) / 4 / ci_;
    const double hidden = t.blocks >= 3 ? 1.0 : t.blocks == 2 ? 1.1 : 1.6;
    const double waste = double((co_ + cot - 1) / cot * cot) / co_;
    t.cycles = (std::max(issue, load) + outputs) * hidden * waste / (32.0 * u * cot);
    return t;
  }

  Status choose(bool forced);
  Status shape_launch();
  [[nodiscard]] std::string preamble(const std::string& epilogue) const;

  const Problem p_;
  const Geometry g_;
  const CudaTarget& target_;
  const OperandArguments operands_;
  const bool dx_;
  std::array<Axis, 3> axes_{};
  int ci_ = 1, co_ = 1;  ///< summed and produced channels of a group
  int phases_ = 1;
  bool in_last_ = false, out_last_ = false, group_lanes_ = false;
  Tile tile_;
  launch::PositionsFixed fixed_;
  launch::PositionsLaunch launch_;
  double seconds_ = 0;
  std::unique_ptr<jit::Kernel> kernel_;
};

Status Positions::choose(bool forced) {
  const std::int64_t taps = g_.taps();
  if (taps > 128) return unsupported("every tap is unrolled, and " + std::to_string(taps) + " are more than 128");
  if (axes_[0].phases() * axes_[1].phases() > 32)
    return unsupported("a position has " + std::to_string(axes_[0].phases() * axes_[1].phases()) +
                       " output rows, more than 32");
  if (axes_[2].reach() > 32)
    return unsupported("a position reads " + std::to_string(axes_[2].reach()) + " columns, more than 32");
  if (axes_[0].reach() * axes_[1].reach() > 64)
    return unsupported("a position reads " + std::to_string(axes_[0].reach() * axes_[1].reach()) +
                       " rows, more than 64");
  const int shared_limit = forced ? target_.shared_per_block : std::min(target_.shared_per_block, 100 << 10);
  double best = 0;
  for (int cot : {1, 2, 3, 4, 6, 8, 12, 16})
    for (int u : {1, 2, 3, 4}) {
      if (cot > co_ && cot != 1) continue;
      const auto t = tile(cot, u, shared_limit);
      if (t && (best == 0 || t->cycles < best)) best = t->cycles, tile_ = *t;
    }
  if (best == 0)
    return unsupported(std::to_string(phases_) + " phases and a window of " +
                       std::to_string(axes_[0].reach() * axes_[1].reach() * axes_[2].reach()) +
                       " inputs, or the weights of " + std::to_string(ci_) +
                       " channels, exceed a thread's registers or a block's shared memory");
  return {};
}

/// The launch for this batch and size.
Status Positions::shape_launch() {
  launch::PositionsFixed& f = fixed_;
  f.dx = dx_, f.in_last = in_last_, f.out_last = out_last_, f.group_lanes = group_lanes_;
  f.groups = g_.groups, f.ci = ci_, f.co = co_;
  f.phases_d = axes_[0].phases(), f.phases_h = axes_[1].phases(), f.phases_w = axes_[2].phases();
  f.shift_d = axes_[0].shift, f.shift_h = axes_[1].shift, f.shift_w = axes_[2].shift;
  f.uh = tile_.uh, f.uw = tile_.uw, f.cot = tile_.cot, f.sums = tile_.sums;
  f.threads = threads, f.blocks = tile_.blocks;
  f.element_bytes = size_of(p_.dtype), f.weight_floats = tile_.weight_floats;
  launch_ = launch::launch_of(f, sizes_of(g_), target_.processors);
  if (launch_.refusal) return unsupported(launch_.refusal);
  const auto& s = launch_.arguments;
  const auto coarse = (dx_ ? g_.in[0] : g_.out[0]) + axes_[0].shift + axes_[0].phases() - 1;
  const double cycles = tile_.cycles * double(s.rows * tile_.uh) * s.columns * tile_.uw *
                        int(coarse / axes_[0].phases()) * double(g_.batch) * g_.groups * co_ * ci_;
  const double compute = cycles / target_.processors / (target_.fp32_flops / (256.0 * target_.processors)) / 0.8;
  const double bytes = min_bytes(p_, dx_ ? Pass::backward_input : Pass::forward) / target_.bytes_per_second;
  seconds_ = std::max(compute, bytes * 1.15) + 2.5e-6;
  return {};
}

std::string Positions::preamble(const std::string& epilogue) const {
  const WeightStrides ws = weight_strides(p_, g_);
  std::string s = "namespace config {\n";
  const auto put = [&](const std::string& name, std::int64_t value) {
    s += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  };
  const char* names[] = {"D", "H", "W"};
  for (int d = 0; d < 3; ++d) {
    const std::string n = names[d];
    put("K" + n, axes_[d].kernel);
    put("S" + n, axes_[d].stride);
    put("P" + n, axes_[d].padding);
    put("D" + n, axes_[d].dilation);
    put("SHIFT_" + n, axes_[d].shift);
    put("W_T" + n, ws.tap[std::size_t(d)]);
  }
  put("DTYPE", p_.dtype == DType::f32 ? 0 : p_.dtype == DType::f16 ? 1 : 2);
  put("CI", ci_);
  put("CO", co_);
  put("COT", tile_.cot);
  put("UH", tile_.uh);
  put("UW", tile_.uw);
  put("THREADS", threads);
  put("BLOCKS", tile_.blocks);
  put("W_GROUP", ws.ci * g_.ci);
  put("W_IN", dx_ ? ws.co : ws.ci);
  put("W_OUT", dx_ ? ws.ci : ws.co);
  put("IN_COLUMN", in_last_ ? g_.groups * ci_ : 1);
  put("OUT_COLUMN", out_last_ ? g_.groups * co_ : 1);
  put("STAGE_AT", tile_.weight_floats);
  put("SLICES_AT", tile_.weight_floats + stage_floats());
  const auto flag = [&](const std::string& name, bool value) {
    s += "constexpr bool " + name + (value ? " = true;\n" : " = false;\n");
  };
  flag("FLAT", p_.rank < 3);
  flag("DX", dx_);
  flag("BIAS", !dx_ && p_.bias);
  flag("IN_CL", in_last_);
  flag("OUT_CL", out_last_);
  flag("GROUP_LANES", group_lanes_);
  flag("WHOLE", tile_.whole);
  return s + "}\n" + epilogue;
}

Result<std::unique_ptr<PassKernel>> Positions::make(const Request& r) {
  const Geometry& g = r.geometry;
  if (r.problem.dtype == DType::f64) return unsupported("sums are fp32; dtype f64 needs fp64 sums");
  // Groups of 8 to 15 channels fill the tensor cores' tiles badly, but for one exact product they need three.
  const bool exact = r.problem.dtype == DType::f32 && r.problem.precision == Precision::ieee;
  const std::int64_t few = g.groups > 1 && exact ? 16 : 8;
  if (!r.forced && g.ci >= few && g.co >= few)
    return unsupported(std::to_string(g.ci) + " x " + std::to_string(g.co) +
                       " channels a group; tensor cores win from " + std::to_string(few) + " x " + std::to_string(few));
  if (!r.forced && worth_tensor_cores(r))
    return unsupported("few input channels, but so many taps and results that tensor cores win");
  if (g.groups > (std::int64_t(1) << 31) - 65536) return unsupported("more than 2^31 groups");
  auto k = std::make_unique<Positions>(r);
  if (Status s = k->choose(r.forced); !s.ok()) return s;
  if (Status s = k->shape_launch(); !s.ok()) return s;
  k->kernel_ =
      std::make_unique<jit::Kernel>(jit::Program{"positions.cuh", "upconv_positions",
                                                 k->preamble(epilogue_text(r.epilogue, device_type(r.problem.dtype)))},
                                    unsigned(launch::positions_shared_bytes(k->fixed_, 2)));
  return std::unique_ptr<PassKernel>(std::move(k));
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_positions(const Request& request) { return Positions::make(request); }

}  // namespace upconv::cuda
