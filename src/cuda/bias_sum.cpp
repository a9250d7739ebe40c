// db at memory speed. Host side of kernels/bias_sum.cuh; launch/bias_sum.hpp decides between rows and columns.
#include "launch/bias_sum.hpp"

#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/ordered_sum.hpp"

namespace upconv::cuda {
namespace {

std::string preamble(DType dtype) {
  return std::string("#include \"types.cuh\"\nnamespace config {\ntypedef ") + device_type(dtype) + " Element;\n}\n";
}

launch::BiasSumFixed fixed_of(const Request& r) {
  launch::BiasSumFixed f;
  f.last = r.problem.y_layout == Layout::channels_last;
  f.channels = r.geometry.out_channels();
  f.element_bytes = size_of(r.problem.dtype);
  f.sum_bytes = sum_bytes(r.problem.dtype);
  return f;
}

class BiasSum final : public PassKernel {
 public:
  explicit BiasSum(const Request& r)
      : fixed_(fixed_of(r)),
        launch_(launch::launch_of(fixed_, sizes_of(r.geometry), r.target.processors)),
        device_(r.target.device),
        rows_({"bias_sum.cuh", "bias_rows", preamble(r.problem.dtype)}),
        columns_({"bias_sum.cuh", "bias_columns", preamble(r.problem.dtype)}),
        sum_(r.problem.dtype) {}

  [[nodiscard]] Status legal() const { return launch_.refusal ? unsupported(launch_.refusal) : Status{}; }
  std::size_t workspace_bytes() const override { return static_cast<std::size_t>(launch_.workspace_bytes); }

  Status run(const PassTensors& t, void* workspace, void* stream) const override {
    Start<3> start(device_, stream, {&rows_, &columns_, &sum_.kernel()});
    launch::run(fixed_, launch_, {t.dy, nullptr, nullptr, t.db}, workspace, start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({rows_.program(), columns_.program(), sum_.kernel().program()}, "launch/bias_sum.hpp",
                             "BiasSumFixed", fixed_);
  }
  std::string detail() const override {
    const launch::BiasSumLaunch& l = launch_;
    if (l.rows)
      return "warps along rows of " + std::to_string(l.volume) + ", each channel in " + std::to_string(l.shares) +
             (l.shares == 1 ? " part" : " parts");
    return "down columns of lines of " + std::to_string(l.width) + ", " + std::to_string(l.tiles) + " by " +
           std::to_string(l.chunks) + " blocks";
  }
  std::vector<const jit::Kernel*> kernels() const override {
    if (!launch_.rows) return {&columns_, &sum_.kernel()};
    if (launch_.shares == 1) return {&rows_};
    return {&rows_, &sum_.kernel()};
  }

 private:
  launch::BiasSumFixed fixed_;
  launch::BiasSumLaunch launch_;
  int device_;
  jit::Kernel rows_, columns_;
  OrderedSum sum_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_bias_sum(const Request& r) {
  auto kernel = std::make_unique<BiasSum>(r);
  if (Status s = kernel->legal(); !s.ok()) return s;
  return std::unique_ptr<PassKernel>(std::move(kernel));
}

}  // namespace upconv::cuda
