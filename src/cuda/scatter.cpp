// cuda_scatter: forward with few output channels: one tensor-core product over all taps, then an overlap-add in shared
// memory. Host side of kernels/scatter.cuh.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

constexpr int threads = 256;

/// Mirrors upconv::PositionsShape of kernels/positions/phases.cuh; `positions` counts planes of positions.
struct Shape {
  int in_d, in_h, in_w, out_d, out_h, out_w;
  int rows, columns, positions, total, blocks, steps, slices, vectors, groups;
};
/// Mirrors upconv::Strips of kernels/scatter.cuh.
struct Strips {
  int count, pitch, chunks, rows, aligned;
};

/// One dimension as the kernel sees it: upconv::Axis, forward.
struct Axis {
  int kernel = 1, stride = 1, padding = 0, dilation = 1, shift = 0;
  [[nodiscard]] int offset(int t) const {
    const int phase = ((shift - padding + dilation * t) % stride + stride) % stride;
    return (phase - shift + padding - dilation * t) / stride;
  }
  [[nodiscard]] int low() const {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = std::min(r, offset(t));
    return r;
  }
  [[nodiscard]] int reach() const {
    int r = offset(0);
    for (int t = 1; t < kernel; ++t) r = std::max(r, offset(t));
    return r - low() + 1;
  }
};

class Scatter final : public PassKernel {
 public:
  explicit Scatter(const Request& r) : p_(r.problem), g_(r.geometry), target_(r.target), operands_(r) {
    for (std::size_t d = 0; d < 3; ++d) {
      axes_[d] = {int(g_.kernel[d]), int(g_.stride[d]), int(g_.padding[d]), int(g_.dilation[d]), 0};
      if (d < 2) axes_[d].shift = axes_[d].padding % axes_[d].stride;
    }
    products_ = p_.dtype == DType::f32 && p_.precision != Precision::tf32 ? 3 : 1;
  }

  Status choose(const Request& r);

  [[nodiscard]] Status run(const PassTensors& t, void*, void* stream) const override {
    if (grid_ == 0) return {};
    const void *x = t.x, *w = t.w, *b = t.b;
    void* y = t.y;
    Shape s = shape_;
    Strips strips = strips_;
    const int size = int(size_of(p_.dtype));
    const int line = axes_[2].stride * size;
    s.vectors = g_.out[2] % axes_[2].stride == 0 && reinterpret_cast<std::uintptr_t>(y) % std::uintptr_t(line) == 0;
    const bool last = p_.x_layout == Layout::channels_last;
    const std::int64_t piece = last ? 8 : 4 * size;  // bytes a lane reads at once, of a line or of a group's channels
    strips.aligned = (last ? g_.ci : g_.in[2]) * size % piece == 0 &&
                     reinterpret_cast<std::uintptr_t>(x) % std::uintptr_t(piece) == 0;
    OperandBlock block;
    void* arguments[] = {&x, &w, &b, &y, &s, &strips, const_cast<void*>(operands_.fill(t.operands, block))};
    return kernel_->launch(target_.device, stream, {{grid_, 1, 1}, {threads, 1, 1}, shared_}, arguments);
  }
  [[nodiscard]] std::string detail() const override {
    char text[200];
    std::snprintf(text, sizeof text,
                  "%d rows (channels x taps) in tiles of %d, strips of %d columns x %d rows a step, %d product%s, %u "
                  "blocks of %u bytes",
                  rows_ * axes_[0].kernel, 16 * mt_, 32 * wc_, threads / 32 / wc_, products_, products_ == 1 ? "" : "s",
                  grid_, shared_);
    return text;
  }
  [[nodiscard]] std::vector<const jit::Kernel*> kernels() const override { return {kernel_.get()}; }
  [[nodiscard]] double predicted_seconds() const override { return seconds_; }

 private:
  /// Bytes of shared memory with strips of 32*wc columns.
  [[nodiscard]] std::int64_t shared_for(int wc) const {
    const int wr = threads / 32 / wc, step = p_.dtype == DType::f32 ? 8 : 16;
    const std::int64_t a = std::int64_t(axes_[0].kernel) * ((g_.ci + step - 1) / step) * tiles_ * 128;
    const std::int64_t ring = axes_[1].reach() - 1 + wr;
    const std::int64_t p = std::int64_t(axes_[0].kernel) * rows_ * (ring * 32 * wc + 4);
    return 4 * (a * (products_ == 3 ? 2 : 1) + p + threads * axes_[2].stride);
  }
  [[nodiscard]] std::string preamble(const std::string& epilogue) const;

  const Problem p_;
  const Geometry g_;
  const CudaTarget& target_;
  const OperandArguments operands_;
  std::array<Axis, 3> axes_{};
  int products_ = 1;
  int rows_ = 1, tiles_ = 1, mt_ = 1, wc_ = 1, cot_ = 1, blocks_ = 1;
  Shape shape_{};
  Strips strips_{};
  unsigned grid_ = 0, shared_ = 0;
  double seconds_ = 0;
  std::unique_ptr<jit::Kernel> kernel_;
};

Status Scatter::choose(const Request& r) {
  if (p_.dtype == DType::f64) return unsupported("sums are fp32; dtype f64 needs fp64 sums");
  const std::int64_t taps = g_.taps();
  if (g_.co * taps > 256) return unsupported(std::to_string(g_.co * taps) + " channels times taps exceed 256 rows");
  if (!r.forced && (g_.co > 16 || (g_.co >= 8 && taps == 1)))
    return unsupported(std::to_string(g_.co) + " output channels fill the tensor cores without their taps");
  if (!r.forced && g_.ci < 16)
    return unsupported(std::to_string(g_.ci) + " input channels are too few for the tensor cores");
  if (axes_[0].stride * axes_[1].stride > 32) return unsupported("a position has more than 32 output rows");
  if (axes_[2].reach() > 16 || axes_[1].reach() > 16 || axes_[0].reach() > 16)
    return unsupported("taps reach over more than 16 input positions");
  const int phases = axes_[0].stride * axes_[1].stride * axes_[2].stride;
  if (phases > 64) return unsupported(std::to_string(phases) + " phases exceed 64");
  rows_ = int(g_.co) * axes_[1].kernel * axes_[2].kernel;
  tiles_ = (rows_ + 15) / 16;
  const int chunks = (tiles_ + 3) / 4;
  mt_ = (tiles_ + chunks - 1) / chunks;
  if (tiles_ % mt_ != 0) mt_ = tiles_ % 3 == 0 ? 3 : tiles_ % 2 == 0 ? 2 : 1;
  cot_ = std::max(1, std::min(int(g_.co), 32 / phases));
  // Wide strips waste fewer columns at their borders, narrow ones fit narrow images and need fewer rows of P.
  const bool two_rows = p_.rank > 1;
  const std::int64_t most = target_.shared_per_block;
  wc_ = two_rows ? (g_.in[2] > 48 ? 4 : g_.in[2] > 32 ? 2 : 1) : 8;
  while (two_rows && wc_ > 1 && shared_for(wc_) > 112 * 1024 && shared_for(wc_ / 2) < shared_for(wc_)) wc_ /= 2;
  if (shared_for(wc_) > most)
    return unsupported("the products of a step, " + std::to_string(shared_for(wc_)) +
                       " bytes, exceed a block's shared memory");
  shared_ = unsigned(shared_for(wc_));
  blocks_ = shared_for(wc_) <= 74 * 1024 && mt_ <= 2 ? 3 : shared_for(wc_) <= 112 * 1024 ? 2 : 1;
  if (!r.forced && blocks_ == 1)
    return unsupported(std::to_string(shared_) + " bytes of shared memory leave one block a multiprocessor");
  if (!r.forced && products_ == 3 && axes_[0].kernel > 1 && p_.x_layout == Layout::channels_first)
    return unsupported("three products for each of " + std::to_string(axes_[0].kernel) + " planes of taps");

  const auto coarse = [&](std::size_t d) {
    return int((g_.out[d] + axes_[d].shift + axes_[d].stride - 1) / axes_[d].stride);
  };
  if (g_.in_volume() * 16 > (std::int64_t(1) << 31) * 8 || g_.out_volume() > (std::int64_t(1) << 31) - 65536 ||
      g_.in[2] > (1 << 30))
    return unsupported("a sample's plane exceeds 2^31 elements");
  Shape& s = shape_;
  s.in_d = int(g_.in[0]), s.in_h = int(g_.in[1]), s.in_w = int(g_.in[2]);
  s.out_d = int(g_.out[0]), s.out_h = int(g_.out[1]), s.out_w = int(g_.out[2]);
  s.rows = coarse(1), s.columns = coarse(2), s.positions = coarse(0), s.groups = int(g_.groups);
  const int xc = 32 * wc_, wr = threads / 32 / wc_;
  strips_.pitch = xc - (axes_[2].reach() - 1 + 3) / 4 * 4;
  strips_.count = s.in_w <= xc ? 1 : (s.in_w - xc + strips_.pitch - 1) / strips_.pitch + 1;
  // The last strip's positions must fit two rounds of its columns.
  if (s.columns - (strips_.count - 1) * strips_.pitch > 2 * xc - 32)
    return unsupported("padding of " + std::to_string(axes_[2].padding) + " leaves positions beyond the last strip");
  const std::int64_t slabs = std::int64_t(strips_.count) * s.positions * g_.batch * g_.groups;
  // Rows of a plane by blocks: whole waves of blocks, each step counting once and a block's start as two steps.
  const std::int64_t resident = std::int64_t(target_.processors) * blocks_;
  std::int64_t least = 0;
  for (int chunks = 1; chunks <= std::min(s.rows, 256); ++chunks) {
    const int rows = (s.rows + chunks - 1) / chunks, steps = (rows + axes_[1].reach() - 1 + wr - 1) / wr;
    const std::int64_t cost = (slabs * ((s.rows + rows - 1) / rows) + resident - 1) / resident * (steps + 2);
    if (least == 0 || cost < least) least = cost, strips_.chunks = chunks;
  }
  strips_.rows = (s.rows + strips_.chunks - 1) / strips_.chunks;
  strips_.chunks = (s.rows + strips_.rows - 1) / strips_.rows;
  if (slabs * strips_.chunks > (std::int64_t(1) << 31) - 1) return unsupported("more blocks than 2^31");
  grid_ = unsigned(slabs * strips_.chunks);
  if (!r.forced && grid_ < 96u) return unsupported(std::to_string(grid_) + " blocks leave processors idle");
  const double bytes = min_bytes(p_, Pass::forward) / target_.bytes_per_second;
  const double positions = double(slabs) * xc * (s.rows + strips_.chunks * (axes_[1].reach() - 1.0));
  const double step = p_.dtype == DType::f32 ? 8 : 16;
  const double a_tiles = double(tiles_) * axes_[0].kernel;
  // Issue slots of a warp's 32 positions: products, conversions and loads, then a read of P and an add a row, a store.
  const double slots = double((g_.ci + step - 1) / step) * (a_tiles * (4.0 * products_ + 1) + 40.0 * axes_[0].kernel) +
                       2.5 * rows_ * axes_[0].kernel + 14.0 * phases * double(g_.co) + 150;
  const double compute = positions / 32 * slots / 4 / target_.processors /
                         (target_.fp32_flops / (256.0 * target_.processors)) / (blocks_ == 1 ? 0.35 : 0.55);
  seconds_ = std::max(1.25 * bytes, compute) + 5e-6;
  kernel_ = std::make_unique<jit::Kernel>(
      jit::Program{"scatter.cuh", "upconv_scatter", preamble(epilogue_text(r.epilogue, device_type(p_.dtype)))},
      shared_);
  return {};
}

std::string Scatter::preamble(const std::string& epilogue) const {
  const WeightStrides ws = weight_strides(p_, g_);
  std::string s = "namespace config {\n";
  const auto put = [&](const std::string& name, std::int64_t value) {
    s += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  };
  const char* names[] = {"D", "H", "W"};
  for (std::size_t d = 0; d < 3; ++d) {
    const std::string n = names[d];
    put("K" + n, axes_[d].kernel);
    put("S" + n, axes_[d].stride);
    put("P" + n, axes_[d].padding);
    put("D" + n, axes_[d].dilation);
    put("SHIFT_" + n, axes_[d].shift);
    put("W_T" + n, ws.tap[d]);
  }
  put("DTYPE", p_.dtype == DType::f32 ? 0 : p_.dtype == DType::f16 ? 1 : 2);
  put("PRODUCTS", products_);
  put("CI", g_.ci);
  put("CO", g_.co);
  put("COT", cot_);
  put("UH", 1);
  put("UW", 1);
  put("MT", mt_);
  const int step = p_.dtype == DType::f32 ? 8 : 16;
  put("BATCH", std::min<std::int64_t>((g_.ci + step - 1) / step, mt_ >= 4 ? 1 : mt_ == 3 ? 3 : 4));
  put("WC", wc_);
  put("WR", threads / 32 / wc_);
  put("THREADS", threads);
  put("BLOCKS", blocks_);
  put("W_GROUP", ws.ci * g_.ci);
  put("W_IN", ws.ci);
  put("W_OUT", ws.co);
  put("IN_COLUMN", p_.x_layout == Layout::channels_last ? g_.in_channels() : 1);
  put("OUT_COLUMN", p_.y_layout == Layout::channels_last ? g_.out_channels() : 1);
  const auto flag = [&](const std::string& name, bool value) {
    s += "constexpr bool " + name + (value ? " = true;\n" : " = false;\n");
  };
  flag("DX", false);
  flag("GROUP_LANES", false);
  flag("BIAS", p_.bias);
  flag("IN_CL", p_.x_layout == Layout::channels_last);
  flag("OUT_CL", p_.y_layout == Layout::channels_last);
  return s + "}\n" + epilogue;
}

}  // namespace

Result<std::unique_ptr<PassKernel>> make_scatter(const Request& request) {
  auto k = std::make_unique<Scatter>(request);
  if (Status s = k->choose(request); !s.ok()) return s;
  return std::unique_ptr<PassKernel>(std::move(k));
}

}  // namespace upconv::cuda
