// Every pass by its definition: any problem. Host side of kernels/direct.cuh. The problem travels as a parameter, so
// there are a few dozen programs in all (dtype, pass, width of indices, channels a thread), whatever the shapes.
#include "launch/direct.hpp"

#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "cuda/ordered_sum.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

/// What a launch depends on. `block` and the tile of dw follow.
launch::DirectFixed fixed_of(const Request& r) {
  const Geometry& g = r.geometry;
  const WeightStrides w = weight_strides(r.problem, g);
  launch::DirectFixed f;
  f.which = r.pass == Pass::forward ? 0 : r.pass == Pass::backward_input ? 1 : r.pass == Pass::backward_weight ? 2 : 3;
  f.x_last = r.problem.x_layout == Layout::channels_last, f.y_last = r.problem.y_layout == Layout::channels_last;
  f.groups = g.groups, f.ci = g.ci, f.co = g.co;
  f.kernel_d = g.kernel[0], f.kernel_h = g.kernel[1], f.kernel_w = g.kernel[2];
  f.stride_d = g.stride[0], f.stride_h = g.stride[1], f.stride_w = g.stride[2];
  f.padding_d = g.padding[0], f.padding_h = g.padding[1], f.padding_w = g.padding[2];
  f.dilation_d = g.dilation[0], f.dilation_h = g.dilation[1], f.dilation_w = g.dilation[2];
  f.w_ci = w.ci, f.w_co = w.co, f.w_tap_d = w.tap[0], f.w_tap_h = w.tap[1], f.w_tap_w = w.tap[2];
  f.sum_bytes = sum_bytes(r.problem.dtype);
  // Along channels only where that makes neighbours in memory of weights too, or there is one channel a group.
  const bool forward = r.pass == Pass::forward;
  f.channels_fast = (forward ? f.y_last : f.x_last) && ((forward ? w.co : w.ci) == 1 || (forward ? g.co : g.ci) == 1);
  const launch::Sizes sizes = sizes_of(g);
  f.narrow = r.pass == Pass::backward_bias || direct_fits_32_bits(f, sizes, direct_arguments(f, sizes));
  return f;
}

std::string preamble(DType dtype, bool narrow, const std::string& constants, const Epilogue& epilogue = {}) {
  return "#include \"types.cuh\"\n" + epilogue_text(epilogue, device_type(dtype)) + "namespace config {\ntypedef " +
         device_type(dtype) + " Element;\ntypedef " + (narrow ? "int" : "long long") + " Index;\n" + constants + "}\n";
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
int gather_block(const Request& r, const launch::DirectFixed& f) {
  const bool forward = r.pass == Pass::forward;
  const Int results = forward ? f.co : f.ci;
  const Layout read = forward ? r.problem.x_layout : r.problem.y_layout;
  if (results == 1) return 1;
  return results > 4 && f.narrow && !f.channels_fast && read == Layout::channels_last ? 8 : 4;
}

launch::DirectFixed with_tile(const Request& r, launch::DirectFixed f, Tile& tile) {
  if (f.which < 2) tile.block = gather_block(r, f);
  if (f.which == 2) tile = weight_tile(r.problem, r.geometry);
  f.block = tile.block;
  f.tile_i = tile.i, f.tile_o = tile.o, f.across_i = tile.across_i, f.across_o = tile.across_o;
  return f;
}

/// Of dw and db, blocks of threads sum shares of the positions, then the shares are added up.
class Direct final : public PassKernel {
 public:
  explicit Direct(const Request& r)
      : fixed_(with_tile(r, fixed_of(r), tile_)),
        launch_(launch::launch_of(fixed_, sizes_of(r.geometry), r.target.processors)),
        device_(r.target.device),
        kernel_({"direct.cuh",
                 fixed_.which < 2    ? "direct_gather"
                 : fixed_.which == 2 ? "direct_weight"
                                     : "direct_bias",
                 preamble(r.problem.dtype, fixed_.narrow, constants(fixed_.which != 1, tile_),
                          fixed_.which < 2 ? r.epilogue : Epilogue{})}),
        sum_(r.problem.dtype),
        operands_(r) {}

  std::size_t workspace_bytes() const override { return static_cast<std::size_t>(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<2> start(device_, stream, {&kernel_, &sum_.kernel()});
    OperandBlock block;
    const launch::Tensors tensors[] = {{t.x, t.w, t.b, t.y, operands_.fill(t.operands, block)},
                                       {t.dy, t.w, t.b, t.dx},
                                       {t.x, t.dy, nullptr, t.dw},
                                       {t.dy, nullptr, nullptr, t.db}};
    launch::run(fixed_, launch_, tensors[fixed_.which], workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program(), sum_.kernel().program()}, "launch/direct.hpp", "DirectFixed", fixed_);
  }
  std::string detail() const override {
    const std::string indices = fixed_.narrow ? "32-bit indices" : "64-bit indices";
    if (fixed_.which < 2)
      return "a thread for each position and " +
             (tile_.block == 1 ? "channel" : std::to_string(tile_.block) + " channels") + ", " + indices;
    std::string s = "a block for each ";
    s += fixed_.which == 2 ? std::to_string(tile_.i * tile_.across_i) + "x" + std::to_string(tile_.o * tile_.across_o) +
                                 " channels and tap"
                           : "channel";
    s += ", positions in " + std::to_string(launch_.splits) + (launch_.splits == 1 ? " part, " : " parts, ");
    return s + indices;
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (launch_.splits == 1) return {&kernel_};
    return {&kernel_, &sum_.kernel()};
  }

 private:
  Tile tile_;
  launch::DirectFixed fixed_;
  launch::DirectLaunch launch_;
  int device_;
  jit::Kernel kernel_;
  OrderedSum sum_;
  OperandArguments operands_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_direct(const Request& r) {
  return std::unique_ptr<PassKernel>(std::make_unique<Direct>(r));
}

}  // namespace upconv::cuda
