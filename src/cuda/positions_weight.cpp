// cuda_positions_weight: dw with few channels a group, by fp32 multiply-adds. Host side of
// kernels/positions_weight.cuh.
#include "launch/positions_weight.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/ordered_sum.hpp"

namespace upconv::cuda {
namespace {

constexpr int threads = 256;

/// What a thread holds.
struct Tile {
  int cit = 1, cot = 1, rd = 1, rh = 1, uh = 1;
  int sums = 0;
  int blocks = 1;     ///< a multiprocessor
  double cycles = 0;  ///< of a multiprocessor, for one position and all products of a group
};

class PositionsWeight final : public PassKernel {
 public:
  explicit PositionsWeight(const Request& r) : p_(r.problem), g_(r.geometry), target_(r.target), sum_(r.problem.dtype) {
    group_lanes_ = p_.x_layout == Layout::channels_last && p_.y_layout == Layout::channels_last && g_.groups >= 8;
  }

  Status choose(bool forced);

  [[nodiscard]] std::size_t workspace_bytes() const override { return std::size_t(launch_.workspace_bytes); }
  [[nodiscard]] Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<2> start(target_.device, stream, {kernel_.get(), &sum_.kernel()});
    launch::run(fixed_, launch_, {t.x, t.dy, nullptr, t.dw}, workspace, start);
    return start.status;
  }
  [[nodiscard]] Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_->program(), sum_.kernel().program()}, "launch/positions_weight.hpp",
                             "PositionsWeightFixed", fixed_);
  }
  [[nodiscard]] std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text,
                  "%dx%d channels x %dx%dx%d taps a thread, %d rows at a time, %s, %d splits, %u blocks", tile_.cit,
                  tile_.cot, tile_.rd, tile_.rh, int(g_.kernel[2]), tile_.uh,
                  group_lanes_ ? "lanes along groups" : "lanes along lines", launch_.arguments.splits, launch_.grid);
    return text;
  }
  [[nodiscard]] std::vector<const jit::Kernel*> kernels() const override { return {kernel_.get(), &sum_.kernel()}; }
  [[nodiscard]] double predicted_seconds() const override {
    return calibrated("cuda_positions_weight", p_, Pass::backward_weight, seconds_);
  }

 private:
  void consider(Tile t);
  Status shape_launch();
  [[nodiscard]] std::string preamble() const;

  const Problem p_;
  const Geometry g_;
  const CudaTarget& target_;
  bool group_lanes_ = false;
  Tile tile_;
  launch::PositionsWeightFixed fixed_;
  launch::PositionsWeightLaunch launch_;
  double seconds_ = 0;
  OrderedSum sum_;
  std::unique_ptr<jit::Kernel> kernel_;
};

/// Keeps the tile if it fits a thread and costs less than the one in hand.
void PositionsWeight::consider(Tile t) {
  const int kw = int(g_.kernel[2]), sh = int(g_.stride[1]);
  t.sums = t.cit * t.cot * t.rd * t.rh * kw;
  if (t.sums > 100) return;
  const int rows = std::min(sh * (t.uh - 1) + (t.rh - 1) * int(g_.dilation[1]) + 1, t.uh * t.rh);
  const int registers = t.sums + t.cit * t.uh + std::min(rows * t.rd, 12) * kw + (t.cot > 3 ? 3 * kw : 0) + 46;
  if (registers > 190) return;
  t.blocks = registers <= 60 ? 4 : registers <= 76 ? 3 : registers <= 124 ? 2 : 1;
  const double tiles = double((g_.ci + t.cit - 1) / t.cit) * double((g_.co + t.cot - 1) / t.cot) *
                       double(g_.kernel[0] / t.rd) * double(g_.kernel[1] / t.rh);
  const double products = double(t.sums) * t.uh;
  const double loads = t.cit * t.uh + double(t.cot) * t.rd * rows * kw;
  const bool far = !group_lanes_ && p_.y_layout == Layout::channels_last;
  const double line = far ? 16.0 : group_lanes_ ? 1.0 : std::min<double>(1.25 * double(g_.stride[2]), 32.0);
  const double selects = double(t.rd) * t.rh * kw * t.uh * (t.cit + (t.uh > 1 ? t.cot : 0));
  const double issue = (products + selects + 4 * loads + 70) / 4;
  const double hidden = t.blocks >= 3 ? 1.0 : t.blocks == 2 ? 1.1 : 1.6;
  t.cycles = std::max(issue, loads * line) * hidden * tiles / (32.0 * t.uh);
  if (tile_.cycles == 0 || t.cycles < tile_.cycles) tile_ = t;
}

Status PositionsWeight::choose(bool forced) {
  if (p_.dtype == DType::f64) return unsupported("sums are fp32; dtype f64 needs fp64 sums");
  const std::int64_t fewer = std::min(g_.ci, g_.co), more = std::max(g_.ci, g_.co);
  if (!forced && fewer >= 4 && (g_.groups == 1 || more >= 16))
    return unsupported(std::to_string(g_.ci) + " x " + std::to_string(g_.co) +
                       " channels a group; made for groups of fewer than 16 and for fewer than four channels");
  if (g_.kernel[2] > 32) return unsupported("kernel width " + std::to_string(g_.kernel[2]) + " exceeds 32");
  if (g_.dilation[1] * g_.kernel[1] > 256)
    return unsupported("a dilated kernel of more than 256 rows would be unrolled whole");
  const int kd = int(g_.kernel[0]), kh = int(g_.kernel[1]);
  for (int cit : {1, 2, 3, 4, 8})
    for (int cot : {1, 2, 3, 4, 8})
      for (int uh : {1, 2, 4})
        for (int rd : {1, kd})
          for (int rh : {1, kh}) {
            if (cit > g_.ci || cot > g_.co || (uh > 1 && p_.rank == 1)) continue;
            Tile t;
            t.cit = cit, t.cot = cot, t.uh = uh, t.rd = rd, t.rh = rh;
            consider(t);
          }
  if (tile_.cycles == 0) return unsupported("no tile of sums fits a thread's registers");
  if (Status s = shape_launch(); !s.ok()) return s;
  kernel_ = std::make_unique<jit::Kernel>(jit::Program{"positions_weight.cuh", "upconv_positions_weight", preamble()});
  return {};
}

/// The launch for this batch and size.
Status PositionsWeight::shape_launch() {
  launch::PositionsWeightFixed& f = fixed_;
  f.x_last = p_.x_layout == Layout::channels_last, f.y_last = p_.y_layout == Layout::channels_last;
  f.group_lanes = group_lanes_;
  f.writes_dw = p_.dtype == DType::f32;
  f.groups = g_.groups, f.ci = g_.ci, f.co = g_.co, f.elements = g_.in_channels() * g_.co * g_.taps();
  const std::int64_t lanes = group_lanes_ ? 32 : 1;
  f.items = (g_.groups + lanes - 1) / lanes * ((g_.ci + tile_.cit - 1) / tile_.cit) *
            ((g_.co + tile_.cot - 1) / tile_.cot) * (g_.kernel[0] / tile_.rd) * (g_.kernel[1] / tile_.rh);
  f.uh = tile_.uh, f.threads = threads, f.blocks = tile_.blocks;
  launch_ = launch::launch_of(f, sizes_of(g_), target_.processors);
  if (launch_.refusal) return unsupported(launch_.refusal);
  const auto& s = launch_.arguments;
  const double cycles = tile_.cycles * double(s.total) * tile_.uh * double(g_.groups);
  const double compute = cycles / target_.processors / (target_.fp32_flops / (256.0 * target_.processors)) / 0.8;
  const double bytes = min_bytes(p_, Pass::backward_weight) + 8.0 * double(s.elements) * s.splits;
  seconds_ = std::max(compute, 1.15 * bytes / target_.bytes_per_second) + 6e-6;
  return {};
}

std::string PositionsWeight::preamble() const {
  const WeightStrides ws = weight_strides(p_, g_);
  std::string s = "namespace config {\n";
  const auto put = [&](const std::string& name, std::int64_t value) {
    s += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  };
  const char* names[] = {"D", "H", "W"};
  for (std::size_t d = 0; d < 3; ++d) {
    const std::string n = names[d];
    put("K" + n, g_.kernel[d]);
    put("S" + n, g_.stride[d]);
    put("P" + n, g_.padding[d]);
    put("D" + n, g_.dilation[d]);
    put("W_T" + n, ws.tap[d]);
  }
  put("DTYPE", p_.dtype == DType::f32 ? 0 : p_.dtype == DType::f16 ? 1 : 2);
  put("CI", g_.ci);
  put("CO", g_.co);
  put("CIT", tile_.cit);
  put("COT", tile_.cot);
  put("RD", tile_.rd);
  put("RH", tile_.rh);
  put("UH", tile_.uh);
  put("THREADS", threads);
  put("BLOCKS", tile_.blocks);
  put("W_CI", ws.ci);
  put("W_CO", ws.co);
  put("X_COLUMN", p_.x_layout == Layout::channels_last ? g_.in_channels() : 1);
  put("Y_COLUMN", p_.y_layout == Layout::channels_last ? g_.out_channels() : 1);
  const auto flag = [&](const std::string& name, bool value) {
    s += "constexpr bool " + name + (value ? " = true;\n" : " = false;\n");
  };
  flag("X_CL", p_.x_layout == Layout::channels_last);
  flag("Y_CL", p_.y_layout == Layout::channels_last);
  flag("FLAT", p_.rank < 3);
  flag("GROUP_LANES", group_lanes_);
  return s + "}\n";
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_positions_weight(const Request& request) {
  auto k = std::make_unique<PositionsWeight>(request);
  if (Status s = k->choose(request.forced); !s.ok()) return s;
  return std::unique_ptr<PassKernel>(std::move(k));
}

}  // namespace upconv::cuda
