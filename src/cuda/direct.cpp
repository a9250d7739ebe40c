// Every pass by its definition: any problem. Host side of kernels/direct.cuh. The problem travels as a parameter, so
// there are a few dozen programs in all (dtype, pass, width of indices, channels a thread), whatever the shapes.
#include <algorithm>
#include <numeric>

#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/ordered_sum.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

constexpr unsigned threads = 256, most_blocks = 1 << 20;
constexpr Int workspace_limit = Int{64} << 20;
/// Products that one thread of a weight or bias block adds up: 64 chains of 64.
constexpr Int longest_chain = 4096;

Int ceil_div(Int a, Int b) { return a / b + (a % b != 0); }

/// upconv::Tensor and upconv::Shape of the kernel.
struct Tensor {
  Int n, c, at[3];
};
struct Shape {
  Int batch, groups, ci, co;
  Int in[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  Int tap_step[3], source_step[3], back[3], shift[3];
  Tensor x, y;
  Int w_ci, w_co, w_tap[3];
  Int channels_fast;
};

Tensor strides_of(Layout layout, Int channels, const std::array<Int, 3>& size) {
  const Int volume = size[0] * size[1] * size[2];
  if (layout == Layout::channels_last)
    return {volume * channels, 1, {size[1] * size[2] * channels, size[2] * channels, channels}};
  return {volume * channels, volume, {size[1] * size[2], size[2], 1}};
}

Shape shape_of(const Request& r) {
  const Geometry& g = r.geometry;
  const WeightStrides w = weight_strides(r.problem, g);
  Shape s{};
  s.batch = g.batch, s.groups = g.groups, s.ci = g.ci, s.co = g.co;
  s.w_ci = w.ci, s.w_co = w.co;
  for (int k = 0; k < 3; ++k) {
    s.in[k] = g.in[k], s.out[k] = g.out[k], s.kernel[k] = g.kernel[k], s.padding[k] = g.padding[k];
    s.stride[k] = g.in[k] == 1 ? 1 : g.stride[k];
    s.dilation[k] = g.kernel[k] == 1 ? 1 : g.dilation[k];
    const Int common = std::gcd(s.stride[k], s.dilation[k]);
    s.tap_step[k] = s.stride[k] / common;
    s.source_step[k] = s.dilation[k] / common;
    s.back[k] = s.dilation[k] / s.stride[k];
    s.shift[k] = s.dilation[k] % s.stride[k];
    s.w_tap[k] = w.tap[k];
  }
  s.x = strides_of(r.problem.x_layout, g.in_channels(), g.in);
  s.y = strides_of(r.problem.y_layout, g.out_channels(), g.out);
  // Along channels only where that makes neighbours in memory of weights too, or there is one channel a group.
  const bool forward = r.pass == Pass::forward;
  const Layout written = forward ? r.problem.y_layout : r.problem.x_layout;
  s.channels_fast = written == Layout::channels_last && ((forward ? w.co : w.ci) == 1 || (forward ? g.co : g.ci) == 1);
  return s;
}

/// Whether every index and every sum of two of them stays inside 32 bits.
bool fits_32_bits(const Geometry& g, const Shape& s) {
  const double most = 1 << 30;
  double reach = 0.0;  // in elements of dy, padding included
  for (int k = 0; k < 3; ++k) {
    const double span = double(s.stride[k]) * double(g.in[k]) + double(s.dilation[k]) * double(g.kernel[k]) +
                        2.0 * double(g.padding[k]) + double(g.out[k]);
    if (span >= most) return false;
    reach += span * double(s.y.at[k]);
  }
  const double batch = double(std::max<Int>(g.batch, 1));
  return reach < most && batch * double(g.in_channels()) * double(g.in_volume()) < most &&
         batch * double(g.out_channels()) * double(g.out_volume()) < most &&
         double(g.in_channels()) * double(g.co) * double(g.taps()) < most;
}

std::string preamble(DType dtype, bool narrow, const std::string& constants, const Epilogue& epilogue = {}) {
  return "#include \"types.cuh\"\n" + epilogue_text(epilogue) + "namespace config {\ntypedef " + device_type(dtype) +
         " Element;\ntypedef " + (narrow ? "int" : "long long") + " Index;\n" + constants + "}\n";
}

/// Channels a thread, and tiles side by side in a warp.
struct Tile {
  int block = 1, i = 1, o = 1, across_i = 1, across_o = 1;
};

std::string constants(bool forward, const Tile& t) {
  return std::string("constexpr bool forward = ") + (forward ? "true" : "false") +
         ";\nconstexpr int block = " + std::to_string(t.block) + ", tile_i = " + std::to_string(t.i) +
         ", tile_o = " + std::to_string(t.o) + ", across_i = " + std::to_string(t.across_i) +
         ", across_o = " + std::to_string(t.across_o) + ";\n";
}

Tile weight_tile(const Problem& p, const Geometry& g) {
  Tile t;
  t.i = g.ci == 1 ? 1 : 4;
  t.o = g.co == 1 ? 1 : 4;
  if (p.x_layout == Layout::channels_last && p.y_layout == Layout::channels_last && g.ci > 4 && g.co > 8) {
    t.across_i = 2;
    t.across_o = 4;
  }
  return t;
}

/// Where neighbouring threads take positions of a channels_last tensor, each of their loads touches a line a thread:
/// use it for more channels. (With 64-bit indices 8 channels would spill.)
int gather_block(const Request& r, const Shape& s, bool narrow) {
  const bool forward = r.pass == Pass::forward;
  const Int results = forward ? s.co : s.ci;
  const Layout read = forward ? r.problem.x_layout : r.problem.y_layout;
  if (results == 1) return 1;
  return results > 4 && narrow && !s.channels_fast && read == Layout::channels_last ? 8 : 4;
}

unsigned grid(Int blocks) { return static_cast<unsigned>(std::clamp<Int>(blocks, 1, most_blocks)); }

/// forward and dx.
class Gather final : public PassKernel {
 public:
  explicit Gather(const Request& r)
      : shape_(shape_of(r)),
        forward_(r.pass == Pass::forward),
        narrow_(fits_32_bits(r.geometry, shape_)),
        block_(gather_block(r, shape_, narrow_)),
        device_(r.target.device),
        kernel_({"direct.cuh", "direct_gather",
                 preamble(r.problem.dtype, narrow_, constants(forward_, {block_}), r.epilogue)}) {
    const Geometry& g = r.geometry;
    items_ =
        g.batch * g.groups * ceil_div(forward_ ? g.co : g.ci, block_) * (forward_ ? g.out_volume() : g.in_volume());
  }

  Status run(const PassTensors& t, void*, void* stream) const override {
    if (items_ == 0) return {};
    const void *source = forward_ ? t.x : t.dy, *w = t.w, *bias = t.b;
    void* result = forward_ ? t.y : t.dx;
    Shape shape = shape_;
    void* arguments[] = {&shape, &source, &w, &bias, &result};
    return kernel_.launch(device_, stream, {{grid(ceil_div(items_, threads))}, {threads}}, arguments);
  }
  std::string detail() const override {
    return std::string("a thread for each position and ") +
           (block_ == 1 ? "channel" : std::to_string(block_) + " channels") + ", " + (narrow_ ? "32" : "64") +
           "-bit indices";
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }

 private:
  Shape shape_;
  bool forward_, narrow_;
  int block_, device_;
  Int items_ = 0;
  jit::Kernel kernel_;
};

/// dw and db: blocks of threads sum shares of the positions, then the shares are added up.
class Reduce final : public PassKernel {
 public:
  explicit Reduce(const Request& r)
      : shape_(shape_of(r)),
        weight_(r.pass == Pass::backward_weight),
        narrow_(!weight_ || fits_32_bits(r.geometry, shape_)),
        tile_(weight_ ? weight_tile(r.problem, r.geometry) : Tile{}),
        device_(r.target.device),
        kernel_({"direct.cuh", weight_ ? "direct_weight" : "direct_bias",
                 preamble(r.problem.dtype, narrow_, constants(true, tile_))}),
        sum_(r.problem.dtype) {
    const Geometry& g = r.geometry;
    elements_ = weight_ ? g.in_channels() * g.co * g.taps() : g.out_channels();
    tiles_ = weight_ ? g.groups * ceil_div(g.ci, tile_.i * tile_.across_i) * ceil_div(g.co, tile_.o * tile_.across_o) *
                           g.taps()
                     : elements_;
    const Int positions = g.batch * (weight_ ? g.in_volume() : g.out_volume()),
              part = elements_ * sum_bytes(r.problem.dtype);
    const Int lanes = threads / (tile_.across_i * tile_.across_o);
    const Int for_chip = std::min(ceil_div(Int{8} * r.target.processors, tiles_), ceil_div(positions, 4 * lanes));
    const Int for_accuracy = ceil_div(positions, lanes * longest_chain);
    splits_ = std::clamp<Int>(std::max(for_chip, for_accuracy), 1, std::max<Int>(workspace_limit / part, 1));
    workspace_ = splits_ > 1 ? static_cast<std::size_t>(splits_ * part) : 0;
  }

  std::size_t workspace_bytes() const override { return workspace_; }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    const void *x = t.x, *dy = t.dy;
    void *result = weight_ ? t.dw : t.db, *parts = splits_ > 1 ? workspace : nullptr;
    Shape shape = shape_;
    Int splits = splits_;
    void* of_weight[] = {&shape, &x, &dy, &parts, &result, &splits};
    void* of_bias[] = {&shape, &dy, &parts, &result, &splits};
    const Status s =
        kernel_.launch(device_, stream, {{grid(tiles_ * splits_)}, {threads}}, weight_ ? of_weight : of_bias);
    if (!s.ok() || splits_ == 1) return s;
    return sum_.launch(device_, stream, parts, result, elements_, splits_);
  }
  std::string detail() const override {
    std::string s = "a block for each ";
    s += weight_ ? std::to_string(tile_.i * tile_.across_i) + "x" + std::to_string(tile_.o * tile_.across_o) +
                       " channels and tap"
                 : "channel";
    s += ", positions in " + std::to_string(splits_) + (splits_ == 1 ? " part, " : " parts, ");
    return s + (narrow_ ? "32" : "64") + "-bit indices";
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (splits_ == 1) return {&kernel_};
    return {&kernel_, &sum_.kernel()};
  }

 private:
  Shape shape_;
  bool weight_, narrow_;
  Tile tile_;
  int device_;
  Int elements_ = 0, tiles_ = 0, splits_ = 1;
  std::size_t workspace_ = 0;
  jit::Kernel kernel_;
  OrderedSum sum_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_direct(const Request& r) {
  if (r.pass == Pass::forward || r.pass == Pass::backward_input) return std::unique_ptr<PassKernel>(new Gather(r));
  return std::unique_ptr<PassKernel>(new Reduce(r));
}

}  // namespace upconv::cuda
