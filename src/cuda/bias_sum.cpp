// db at memory speed. Host side of kernels/bias_sum.cuh: long rows of a channel go to warps, anything shorter is summed
// down columns; what the blocks leave, ordered_sum adds up.
#include <algorithm>
#include <numeric>

#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/ordered_sum.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

constexpr Int most_threads = 256, vector_bytes = 16, workspace_limit = Int{64} << 20;
constexpr Int shortest_row = 256;         ///< Bytes of a channel's row from which a warp is worth it.
constexpr Int piece_bytes = 8192;         ///< Of a row, for a warp at a time.
constexpr Int bytes_of_share = 64 << 10;  ///< Least a block reads of a channel that is split.
constexpr Int most_blocks = 1 << 30;

Int ceil_div(Int a, Int b) { return a / b + (a % b != 0); }

std::string preamble(DType dtype) {
  return std::string("#include \"types.cuh\"\nnamespace config {\ntypedef ") + device_type(dtype) + " Element;\n}\n";
}

class Rows final : public PassKernel {
 public:
  explicit Rows(const Request& r)
      : batch_(r.geometry.batch),
        channels_(r.geometry.out_channels()),
        volume_(r.geometry.out_volume()),
        device_(r.target.device),
        kernel_({"bias_sum.cuh", "bias_rows", preamble(r.problem.dtype)}),
        sum_(r.problem.dtype) {
    const Int size = size_of(r.problem.dtype);
    piece_ = piece_bytes / size;
    pieces_ = ceil_div(volume_, piece_);
    const Int units = std::max<Int>(batch_ * pieces_, 1), of_channel = batch_ * volume_ * size;
    const Int most = std::min({of_channel / bytes_of_share, ceil_div(units, most_threads / 32),
                               workspace_limit / (channels_ * sum_bytes(r.problem.dtype)), most_blocks / channels_});
    const Int shares = std::clamp<Int>(ceil_div(Int{16} * r.target.processors, channels_), 1, std::max<Int>(most, 1));
    units_ = ceil_div(units, shares);
    shares_ = ceil_div(units, units_);
    threads_ = 32 * std::min(units_, most_threads / 32);
    workspace_ = shares_ > 1 ? static_cast<std::size_t>(shares_ * channels_ * sum_bytes(r.problem.dtype)) : 0;
  }

  std::size_t workspace_bytes() const override { return workspace_; }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    const void* dy = t.dy;
    void *parts = shares_ > 1 ? workspace : nullptr, *db = t.db;
    Int batch = batch_, channels = channels_, volume = volume_, piece = piece_, pieces = pieces_, units = units_;
    void* arguments[] = {&dy, &parts, &db, &batch, &channels, &volume, &piece, &pieces, &units};
    const jit::LaunchShape shape{{static_cast<unsigned>(channels * shares_)}, {static_cast<unsigned>(threads_)}};
    const Status s = kernel_.launch(device_, stream, shape, arguments);
    if (!s.ok() || shares_ == 1) return s;
    return sum_.launch(device_, stream, parts, db, channels_, shares_);
  }
  std::string detail() const override {
    return "warps along rows of " + std::to_string(volume_) + ", each channel in " + std::to_string(shares_) +
           (shares_ == 1 ? " part" : " parts");
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (shares_ == 1) return {&kernel_};
    return {&kernel_, &sum_.kernel()};
  }

 private:
  Int batch_, channels_, volume_, piece_ = 1, pieces_ = 1, units_ = 1, shares_ = 1, threads_ = 32;
  int device_;
  std::size_t workspace_ = 0;
  jit::Kernel kernel_;
  OrderedSum sum_;
};

class Columns final : public PassKernel {
 public:
  explicit Columns(const Request& r)
      : channels_(r.geometry.out_channels()),
        inner_(r.problem.y_layout == Layout::channels_last ? 1 : r.geometry.out_volume()),
        total_(r.geometry.batch * channels_ * r.geometry.out_volume()),
        device_(r.target.device),
        kernel_({"bias_sum.cuh", "bias_columns", preamble(r.problem.dtype)}),
        sum_(r.problem.dtype) {
    const Int lanes = vector_bytes / size_of(r.problem.dtype), period = channels_ * inner_;
    Int vectors = period / std::gcd(period, lanes);  // the shortest line of whole vectors
    if (vectors <= most_threads) {
      vectors *= most_threads / vectors;
      keep_ = period;
    } else {
      tiles_ = ceil_div(vectors, most_threads);
      keep_ = vectors * lanes;
    }
    width_ = vectors * lanes;
    threads_ = 32 * ceil_div(ceil_div(vectors, tiles_), 32);
    const Int lines = std::max<Int>(ceil_div(total_, width_), 1);
    const Int most = ceil_div(lines, tiles_ == 1 ? 8 : 16);
    const Int chunks = std::clamp<Int>(ceil_div(Int{4} * r.target.processors, tiles_), 1, most);
    lines_ = ceil_div(lines, chunks);
    chunks_ = ceil_div(lines, lines_);
    workspace_ = chunks_ * keep_ * sum_bytes(r.problem.dtype);
  }

  [[nodiscard]] Status legal() const {
    if (workspace_ > workspace_limit || chunks_ * tiles_ > most_blocks)
      return unsupported("its parts would take " + std::to_string(workspace_ >> 20) + " MiB");
    return {};
  }
  std::size_t workspace_bytes() const override { return static_cast<std::size_t>(workspace_); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    const void* dy = t.dy;
    Int total = total_, width = width_, period = channels_ * inner_, keep = keep_, tiles = tiles_, lines = lines_;
    void* arguments[] = {&dy, &workspace, &total, &width, &period, &keep, &tiles, &lines};
    const jit::LaunchShape shape{{static_cast<unsigned>(chunks_ * tiles_)}, {static_cast<unsigned>(threads_)}};
    const Status s = kernel_.launch(device_, stream, shape, arguments);
    if (!s.ok()) return s;
    return sum_.launch(device_, stream, workspace, t.db, channels_, chunks_ * (keep_ / period), inner_);
  }
  std::string detail() const override {
    return "down columns of lines of " + std::to_string(width_) + ", " + std::to_string(tiles_) + " by " +
           std::to_string(chunks_) + " blocks";
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_, &sum_.kernel()}; }

 private:
  Int channels_, inner_, total_, width_ = 1, keep_ = 1, tiles_ = 1, lines_ = 1, chunks_ = 1, threads_ = 32;
  Int workspace_ = 0;
  int device_;
  jit::Kernel kernel_;
  OrderedSum sum_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_bias_sum(const Request& r) {
  const Geometry& g = r.geometry;
  const bool last = r.problem.y_layout == Layout::channels_last && g.out_channels() > 1;
  if (!last && g.out_volume() * size_of(r.problem.dtype) >= shortest_row) {
    if (g.out_channels() > most_blocks) return unsupported(std::to_string(g.out_channels()) + " channels fill no grid");
    return std::unique_ptr<PassKernel>(new Rows(r));
  }
  auto columns = std::make_unique<Columns>(r);
  if (Status s = columns->legal(); !s.ok()) return s;
  return std::unique_ptr<PassKernel>(std::move(columns));
}

}  // namespace upconv::cuda
