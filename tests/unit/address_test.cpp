// Tensors of more than 2^31 elements in little memory: huge address ranges of which a pass touches a few pages,
// because padding crops nearly all of x, or dilation spreads the taps far apart in y.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "ops/number.hpp"
#include "ops/random.hpp"
#include "ops/trial.hpp"

namespace upconv::test {
namespace {

constexpr std::int64_t two_31 = std::int64_t{1} << 31;

/// A range of zeros of which only touched pages cost memory, between unmapped ranges as large as a wrapped 32-bit
/// offset could reach.
class Sparse {
 public:
  explicit Sparse(std::int64_t bytes) : bytes_(std::size_t(bytes)) {
    void* all = mmap(nullptr, bytes_ + 2 * around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return;
    region_ = static_cast<char*>(all);
    if (mprotect(region_ + around, bytes_, PROT_READ | PROT_WRITE) != 0) bytes_ = 0;
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  ~Sparse() {
    if (region_) munmap(region_, bytes_ + 2 * around);
  }
  [[nodiscard]] bool ok() const { return region_ && bytes_; }
  [[nodiscard]] char* data() const { return region_ + around; }

 private:
  static constexpr std::size_t around = std::size_t{1} << 34;
  char* region_ = nullptr;
  std::size_t bytes_;
};

std::vector<double> integers(Random& r, std::int64_t n) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (double& e : v) e = double(r.between(-4, 4));
  return v;
}

/// Runs a pass of the plan with one worker and its own workspace, and compares what it writes.
void expect_pass(const Plan& plan, Pass pass, const void* x, const void* w, const void* dy,
                 const std::vector<double>& want) {
  const DType dtype = plan.problem().dtype;
  SCOPED_TRACE(plan.candidate(pass) + " " + std::string(to_string(pass)) + " of \"" + to_string(plan.problem()) + "\"");
  const std::size_t need = plan.workspace_bytes(pass, 1);
  ASSERT_LT(need, std::size_t{1} << 28) << "a workspace that grows with the distance between taps";
  std::vector<char> out(want.size() * std::size_t(size_of(dtype)), '\xff');
  Guarded workspace;
  workspace.reset(need, Flush::back, 0, 64);
  const Launch launch{workspace.data(), need, nullptr};
  const Status s = pass == Pass::forward          ? plan.forward({x, w, nullptr, out.data()}, launch)
                   : pass == Pass::backward_input ? plan.backward_input({dy, w, out.data()}, launch)
                                                  : plan.backward_weight({x, dy, out.data()}, launch);
  ASSERT_TRUE(s.ok()) << s.message();
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_EQ(load_element(dtype, out.data(), std::int64_t(i)), quantise(dtype, want[i])) << "element " << i;
}

std::vector<char> typed(DType dtype, const std::vector<double>& values) {
  std::vector<char> bytes(values.size() * std::size_t(size_of(dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) store_element(dtype, bytes.data(), std::int64_t(i), values[i]);
  return bytes;
}

/// `cut` input positions on both sides of each dimension are cropped away by padding: with them, x is `text`'s but
/// enormous and y, dy, dw are the same.
TEST(Addresses, InputBeyond32Bits) {
  const struct {
    const char* text;
    std::int64_t cut[3];
    Pass pass = Pass::forward;
  } cases[] = {
      {"1d c3 o2 i9 k3 p4", {two_31 / 2}},                  // channel 2 starts past 2^32
      {"1d c3 o2 i9 k3 p4 xl bf16", {two_31 / 2}},          // the position times channels is past 2^31
      {"1d n3 c1 o3 i7 k4 s2 p7 bf16", {two_31 / 2}},       // batch 2 starts past 2^32
      {"2d c2 o2 i3x9 k3 p1x5", {0, two_31 / 4}},           // row 2 starts past 2^31
      {"2d c2 o9 i9x3 k3x2 p5x1 xl f16", {two_31 / 8, 0}},  // many rows
      {"3d c4 o4 i7x3x3 k3 s2x1x1 p7x1x1 g2", {two_31 / 16, 0, 0}},
      {"1d c64 o2 i9 k3 p4 bf16", {two_31 / 128}, Pass::backward_weight},
      {"1d c64 o2 i9 k3 p4 xl bf16", {two_31 / 128}, Pass::backward_weight},
  };
  for (const auto& c : cases) {
    const Problem small = *parse_problem(c.text);
    Problem huge = small;
    for (int d = 0; d < small.rank; ++d) huge.input[d] += 2 * c.cut[d], huge.padding[d] += small.stride[d] * c.cut[d];
    ASSERT_EQ(output_size(huge), output_size(small));
    const Sizes size(small), huge_size(huge);
    ASSERT_GT(huge_size.x, two_31 / 4);
    const Sparse x(huge_size.x * size_of(huge.dtype));
    if (!x.ok())
      GTEST_SKIP() << "this machine reserves no " << huge_size.x * size_of(huge.dtype) << " bytes of addresses";
    Random random(1);
    const std::vector<double> values = integers(random, size.x), w = integers(random, size.w),
                              dy = integers(random, size.y);
    for (std::int64_t i = 0; i < size.x; ++i) {
      std::int64_t rest = i % size.input, position = 0, volume = 1;
      for (int d = small.rank - 1; d >= 0; --d) {
        position += (rest % small.input[d] + c.cut[d]) * volume;
        rest /= small.input[d], volume *= huge.input[d];
      }
      const std::int64_t channel = i / size.input % small.in_channels, n = i / size.input / small.in_channels;
      const std::int64_t at = small.x_layout == Layout::channels_last
                                  ? (n * volume + position) * small.in_channels + channel
                                  : (n * small.in_channels + channel) * volume + position;
      store_element(small.dtype, x.data(), at, values[std::size_t(i)]);
    }
    const Oracle oracle(small, values, w, std::vector<double>(std::size_t(size.b)), dy);
    const std::vector<char> w_typed = typed(small.dtype, w), dy_typed = typed(small.dtype, dy);
    for (const std::string& name : candidate_names(c.pass)) {
      if (c.pass == Pass::backward_weight && name == "cpu_reference") continue;  // visits every input: minutes
      const auto plan = Plan::create(huge, Device::cpu(), {}, name);
      if (!plan.ok() || (*plan)->candidate(c.pass) != name) continue;
      expect_pass(**plan, c.pass, x.data(), w_typed.data(), dy_typed.data(), oracle.of(c.pass).value);
    }
  }
}

/// The taps lie far apart in y: dy is enormous, and dx and dw are those of the same problem with a small dilation.
TEST(Addresses, OutputGradientBeyond32Bits) {
  const struct {
    const char* text;
    std::int64_t dilation;
  } cases[] = {{"1d c2 o3 i4 k3 d10", two_31 / 2},
               {"1d c5 o2 i4 k3 d10 yl bf16", two_31 / 2},
               {"1d n2 c2 o2 i4 k3 d10 f16", two_31 / 2},
               {"2d c2 o2 i2x4 k2x3 d1x10", two_31 / 2},
               {"1d c2 o1 i4 k32769 d5 bf16", 65536}};  // many taps a few pages apart
  for (const auto& c : cases) {
    const Problem small = *parse_problem(c.text);
    const int d = small.rank - 1;
    Problem huge = small;
    huge.dilation[d] = c.dilation;
    const Sizes size(small), huge_size(huge);
    const Sparse dy(huge_size.y * size_of(huge.dtype));
    if (!dy.ok())
      GTEST_SKIP() << "this machine reserves no " << huge_size.y * size_of(huge.dtype) << " bytes of addresses";
    Random random(2);
    const std::vector<double> x = integers(random, size.x), w = integers(random, size.w),
                              values = integers(random, size.y);
    const std::int64_t row = output_size(small)[d], huge_row = output_size(huge)[d];
    for (std::int64_t i = 0; i < size.y; ++i) {
      const std::int64_t tap = i % row / small.dilation[d], from = i % row % small.dilation[d];
      if (from >= small.input[d]) continue;  // no product reaches it
      const std::int64_t rows = size.output / row, position = i / row % rows * huge_row + tap * huge.dilation[d] + from;
      const std::int64_t channel = i / size.output % small.out_channels, n = i / size.output / small.out_channels;
      const std::int64_t at = small.y_layout == Layout::channels_last
                                  ? (n * huge_size.output + position) * small.out_channels + channel
                                  : (n * small.out_channels + channel) * huge_size.output + position;
      store_element(small.dtype, dy.data(), at, values[std::size_t(i)]);
    }
    const Oracle oracle(small, x, w, std::vector<double>(std::size_t(size.b)), values);
    const std::vector<char> w_typed = typed(small.dtype, w), x_typed = typed(small.dtype, x);
    for (Pass pass : {Pass::backward_input, Pass::backward_weight})
      for (const std::string& name : candidate_names(pass)) {
        const auto plan = Plan::create(huge, Device::cpu(), {}, name);
        if (!plan.ok() || (*plan)->candidate(pass) != name) continue;
        expect_pass(**plan, pass, x_typed.data(), w_typed.data(), dy.data(), oracle.of(pass).value);
      }
  }
}

}  // namespace
}  // namespace upconv::test
