// cuda_residues: forward with few output channels and a kernel that is a multiple of the stride, on the tensor cores.
// Host side of kernels/residues.cuh.
#include <algorithm>
#include <cstdio>
#include <string>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

constexpr int threads = 256;

/// Mirrors upconv::ResidueShape of kernels/residues.cuh.
struct Shape {
  int in_d, in_h, in_w, out_d, out_h, out_w;
  int tiles_d, tiles_h, tiles_w, groups;
};

/// A block's share: MB = 16*mt*wm rows (channels and residues) by 8*nt*wn positions, K over wk warps.
struct Tile {
  int mt = 1, nt = 4, wm = 1, wn = 8, wk = 1;
  int qh = 1, qw = 256;
  int blocks = 2;  ///< a multiprocessor

  [[nodiscard]] int rows() const { return 16 * mt * wm; }
  [[nodiscard]] int positions() const { return 8 * nt * wn; }
};

class Residues final : public PassKernel {
 public:
  explicit Residues(const Request& r) : p_(r.problem), g_(r.geometry), target_(r.target), operands_(r) {
    products_ = p_.dtype == DType::f32 && p_.precision != Precision::tf32 ? 3 : 1;
  }

  Status choose(const Request& r);

  [[nodiscard]] Status run(const PassTensors& t, void*, void* stream) const override {
    if (grid_ == 0) return {};
    const void *x = t.x, *w = t.w, *b = t.b;
    void* y = t.y;
    Shape s = shape_;
    OperandBlock block;
    void* arguments[] = {&x, &w, &b, &y, &s, const_cast<void*>(operands_.fill(t.operands, block))};
    return kernel_->launch(target_.device, stream, {{grid_, 1, 1}, {threads, 1, 1}, shared_}, arguments);
  }
  [[nodiscard]] std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text,
                  "%d residues x %d channels as rows, tile %d x %d positions, K over %d warps, %d product%s, %u blocks",
                  residues_, int(g_.co), tile_.rows(), tile_.positions(), tile_.wk, products_,
                  products_ == 1 ? "" : "s", grid_);
    return text;
  }
  [[nodiscard]] std::vector<const jit::Kernel*> kernels() const override { return {kernel_.get()}; }
  [[nodiscard]] double predicted_seconds() const override {
    return calibrated("cuda_residues", p_, Pass::forward, seconds_);
  }

 private:
  /// Positions of a dimension: outputs o = S*q + r - P mod S for r < S.
  [[nodiscard]] std::int64_t positions(int d) const {
    const auto i = std::size_t(d);
    return (g_.out[i] + g_.padding[i] % g_.stride[i] + g_.stride[i] - 1) / g_.stride[i];
  }
  [[nodiscard]] std::int64_t offsets(int d) const { return g_.kernel[std::size_t(d)] / g_.stride[std::size_t(d)]; }
  void shape_tile();
  bool shape_launch();
  /// Words of shared memory by what they hold.
  [[nodiscard]] int x_pitch() const {
    const auto words = offsets(0) * (tile_.qh + offsets(1) - 1) * (tile_.qw + offsets(2) - 1);
    return int((words + 23) / 32 * 32 + 8);
  }
  [[nodiscard]] int c_pad() const { return g_.stride[2] == 2 ? 16 : g_.stride[2] == 4 ? 8 : 1; }
  [[nodiscard]] std::string preamble(const std::string& epilogue) const;

  const Problem p_;
  const Geometry g_;
  const CudaTarget& target_;
  const OperandArguments operands_;
  int products_ = 1, residues_ = 1;
  std::int64_t rows_ = 1;  ///< of A: channels times residues
  Tile tile_;
  Shape shape_{};
  unsigned grid_ = 0, shared_ = 0;
  double seconds_ = 0;
  std::unique_ptr<jit::Kernel> kernel_;
};

void Residues::shape_tile() {
  Tile t;
  std::int64_t all = g_.batch * g_.groups;
  for (int d = 0; d < 3; ++d) all *= positions(d);
  const bool line = p_.rank == 1;
  if (rows_ > 64) {
    // A product of matrices proper. With few tiles of it, small tiles with K shared by the warps of a block.
    const std::int64_t tiles = (rows_ + 127) / 128 * ((all + 127) / 128);
    if (tiles >= target_.processors && products_ == 1)
      t = {4, 8, 2, 4, 1, 1, 256, 1};
    else if (tiles >= target_.processors / 2)
      t = {4, 4, 2, 4, 1, 1, 128, 1};
    else
      t = {1, 4, 1, 1, 8, 1, 32, 1};
  } else if (rows_ > 32) {
    t = {4, 2, 1, 8, 1, 1, 128, 3};
  } else if (rows_ > 16) {
    t = {2, 4, 1, 8, 1, 1, 256, 2};
  } else {
    t = {1, 4, 1, 8, 1, 1, 256, 2};
  }
  // Nine offsets of 16-bit words leave no register to spare in 128 for sm_100 and later.
  if (p_.dtype != DType::f32 && rows_ <= 16 && target_.major >= 10) t.blocks = 1;
  if (products_ == 3) t.blocks = std::max(1, t.blocks - 1);
  // Small work: fewer positions a block.
  if (t.wk == 1 && t.nt > 2 && rows_ <= 64 && all / t.positions() < target_.processors) t.nt = 2;
  t.qw = t.positions(), t.qh = 1;
  if (!line) t.qh = t.positions() / 16, t.qw = 16;
  tile_ = t;
}

Status Residues::choose(const Request& r) {
  if (p_.dtype == DType::f64) return unsupported("sums are fp32; dtype f64 needs fp64 sums");
  for (std::size_t d = 0; d < 3; ++d)
    if (g_.dilation[d] != 1 || g_.kernel[d] % g_.stride[d] != 0)
      return unsupported("needs dilation 1 and a kernel that is a multiple of the stride; got kernel " +
                         std::to_string(g_.kernel[d]) + ", stride " + std::to_string(g_.stride[d]) + ", dilation " +
                         std::to_string(g_.dilation[d]));
  residues_ = int(g_.stride[0] * g_.stride[1] * g_.stride[2]);
  rows_ = g_.co * residues_;
  const std::int64_t taps = offsets(0) * offsets(1) * offsets(2);
  if (taps > 16) return unsupported("every offset is unrolled, and " + std::to_string(taps) + " are more than 16");
  if (rows_ > 65536) return unsupported(std::to_string(rows_) + " rows of channels and residues exceed 65536");
  if (!r.forced && (g_.co > 16 || (g_.co >= 8 && residues_ < 4)))
    return unsupported(std::to_string(g_.co) + " output channels fill the tensor cores without their residues");
  if (!r.forced && products_ == 1 && r.target.major == 9 && g_.co >= 16)
    return unsupported("warpgroup products of " + std::to_string(g_.co) + " channels are faster on this target");
  if (!r.forced && g_.ci < 16)
    return unsupported(std::to_string(g_.ci) + " input channels are too few for the tensor cores");
  if (!r.forced && p_.dtype == DType::f32 && rows_ <= 16 && (taps < 8 || products_ == 3))
    return unsupported(std::to_string(rows_) + " rows and " + std::to_string(taps) +
                       " offsets do not pay for moving fp32 words");
  shape_tile();
  const int mb = tile_.rows();
  const std::int64_t sw = g_.stride[2];
  if (rows_ > mb && mb % sw != 0 && sw % mb != 0)
    return unsupported("stride " + std::to_string(sw) + " and tiles of " + std::to_string(mb) +
                       " rows do not divide each other");
  const int step = 8 * tile_.wk * (p_.dtype == DType::f32 ? 1 : 2);
  const bool x_last = p_.x_layout == Layout::channels_last;
  if (g_.in_volume() * (x_last ? g_.in_channels() : step + 1) > (std::int64_t(1) << 31) - 65536 ||
      g_.out_volume() > (std::int64_t(1) << 31) - 65536)
    return unsupported("the channels of a stage exceed 2^31 elements");
  if (!shape_launch()) return unsupported("more blocks than 2^31");
  const int planes = products_ == 3 ? 2 : 1;
  const std::int64_t stage = planes * (8 * tile_.wk * std::int64_t(x_pitch()) + taps * 8 * tile_.wk * (mb + 8));
  if (8 * tile_.wk * x_pitch() > 32 * threads)
    return unsupported("a stage of " + std::to_string(8 * tile_.wk * x_pitch()) + " words of x exceeds 32 a thread");
  const std::int64_t out = std::int64_t(tile_.wk) * mb * (tile_.positions() + c_pad());
  const std::int64_t bytes = 4 * std::max(2 * stage, out);
  if (bytes > target_.shared_per_block)
    return unsupported("tiles of " + std::to_string(bytes) + " bytes exceed a block's shared memory");
  shared_ = unsigned(bytes);
  kernel_ = std::make_unique<jit::Kernel>(
      jit::Program{"residues.cuh", "upconv_residues", preamble(epilogue_text(r.epilogue, device_type(p_.dtype)))},
      shared_);
  return {};
}

bool Residues::shape_launch() {
  Shape& s = shape_;
  s.in_d = int(g_.in[0]), s.in_h = int(g_.in[1]), s.in_w = int(g_.in[2]);
  s.out_d = int(g_.out[0]), s.out_h = int(g_.out[1]), s.out_w = int(g_.out[2]);
  s.tiles_d = int(positions(0));
  s.tiles_h = int((positions(1) + tile_.qh - 1) / tile_.qh);
  s.tiles_w = int((positions(2) + tile_.qw - 1) / tile_.qw);
  s.groups = int(g_.groups);
  const std::int64_t m_tiles = (rows_ + tile_.rows() - 1) / tile_.rows();
  const double tiles =
      double(s.tiles_d) * s.tiles_h * s.tiles_w * double(g_.batch) * double(g_.groups) * double(m_tiles);
  if (tiles > 2147483647.0) return false;
  grid_ = unsigned(tiles);
  // Shared-memory reads and products of a warp's step, the larger counting; a third of them lost to stores and waits.
  const double step_channels = p_.dtype == DType::f32 ? 8 : 16;
  const double steps =
      double((g_.ci + step_channels - 1) / step_channels) * double(offsets(0) * offsets(1) * offsets(2));
  const double warps = double(tile_.wm * tile_.wn);
  const double reads = (4.0 * tile_.mt + 2.0 * tile_.nt) * (products_ == 3 ? 2 : 1);
  const double cycles = tiles * warps * steps * std::max(reads, 2.0 * products_ * tile_.mt * tile_.nt) * 1.5;
  const double wave = std::max(1.0, target_.processors / std::max(tiles, 1.0));
  const double compute = cycles * wave / target_.processors / (target_.fp32_flops / (256.0 * target_.processors));
  seconds_ = std::max(compute, 1.2 * min_bytes(p_, Pass::forward) / target_.bytes_per_second) + 3e-6;
  return true;
}

std::string Residues::preamble(const std::string& epilogue) const {
  const WeightStrides ws = weight_strides(p_, g_);
  std::string s = "namespace config {\n";
  const auto put = [&](const std::string& name, std::int64_t value) {
    s += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  };
  const char* names[] = {"D", "H", "W"};
  for (std::size_t d = 0; d < 3; ++d) {
    const std::string n = names[d];
    put("S" + n, g_.stride[d]);
    put("P" + n, g_.padding[d]);
    put("J" + n, offsets(int(d)));
    put("W_T" + n, ws.tap[d]);
  }
  put("DTYPE", p_.dtype == DType::f32 ? 0 : p_.dtype == DType::f16 ? 1 : 2);
  put("PRODUCTS", products_);
  put("CI", g_.ci);
  put("CO", g_.co);
  put("MB", tile_.rows());
  put("MT", tile_.mt);
  put("NT", tile_.nt);
  put("WM", tile_.wm);
  put("WN", tile_.wn);
  put("WK", tile_.wk);
  put("QH", tile_.qh);
  put("QW", tile_.qw);
  put("C_PAD", c_pad());
  put("THREADS", threads);
  put("BLOCKS", tile_.blocks);
  put("W_GROUP", ws.ci * g_.ci);
  put("W_IN", ws.ci);
  put("W_OUT", ws.co);
  put("IN_COLUMN", p_.x_layout == Layout::channels_last ? g_.in_channels() : 1);
  const auto flag = [&](const std::string& name, bool value) {
    s += "constexpr bool " + name + (value ? " = true;\n" : " = false;\n");
  };
  flag("BIAS", p_.bias);
  flag("IN_CL", p_.x_layout == Layout::channels_last);
  flag("OUT_CL", p_.y_layout == Layout::channels_last);
  return s + "}\n" + epilogue;
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_residues(const Request& request) {
  auto k = std::make_unique<Residues>(request);
  if (Status s = k->choose(request); !s.ok()) return s;
  return std::unique_ptr<PassKernel>(std::move(k));
}

}  // namespace upconv::cuda
