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
      {"1d c64 o2 i9 k3 p4 xl bf16", {two_31 / 128}, Pass::backward_weight},
  };
  for (const auto& c : cases) {
    if (sanitized && c.pass == Pass::backward_weight) continue;  // walks over all positions: a minute
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

/// Inputs lie `stride` apart in y: dy is enormous, and only the last inputs meet anything but zeros there, so that dx
/// ends with that of a small problem of the same kernel, and dw is that problem's.
TEST(Addresses, OutputGradientBeyond32Bits) {
  const struct {
    const char* text;           // stride larger than the kernel: output = stride * input + tap
    std::int64_t stride, more;  // of the huge problem: its stride, and how many inputs come before
    Pass pass;
  } cases[] = {{"1d c2 o64 i8 k3 s5 bf16", 1024, 32768, Pass::backward_weight},  // channel 63 ends past 2^31
               {"1d c2 o3 i1 k2 s5", two_31, 1, Pass::backward_weight},          // for the plain loops only, as below
               {"1d c2 o3 i1 k2 s5", two_31, 1, Pass::backward_input},
               {"2d c3 o2 i2x1 k1x3 s1x5 f16 yl", two_31, 1, Pass::backward_input}};
  for (const auto& c : cases) {
    if (sanitized && c.stride < two_31) continue;  // as above
    const Problem small = *parse_problem(c.text);
    const int d = small.rank - 1;
    Problem huge = small;
    huge.stride[d] = c.stride;
    huge.input[d] += c.more;
    const Sizes size(small), huge_size(huge);
    const Sparse dy(huge_size.y * size_of(huge.dtype));
    if (!dy.ok())
      GTEST_SKIP() << "this machine reserves no " << huge_size.y * size_of(huge.dtype) << " bytes of addresses";
    Random random(2);
    const std::vector<double> x = integers(random, size.x), w = integers(random, size.w),
                              values = integers(random, size.y);
    const auto at = [](Layout layout, std::int64_t n, std::int64_t channels, std::int64_t channel, std::int64_t volume,
                       std::int64_t position) {
      return layout == Layout::channels_last ? (n * volume + position) * channels + channel
                                             : (n * channels + channel) * volume + position;
    };
    const std::int64_t row = output_size(small)[d], huge_row = output_size(huge)[d];
    for (std::int64_t i = 0; i < size.y; ++i) {
      const std::int64_t o = i % row, line = i % size.output / row;
      const std::int64_t position = line * huge_row + (o / small.stride[d] + c.more) * c.stride + o % small.stride[d];
      if (o % small.stride[d] >= small.kernel[d]) continue;  // no product reaches it
      const std::int64_t channel = i / size.output % small.out_channels, n = i / size.output / small.out_channels;
      store_element(small.dtype, dy.data(),
                    at(small.y_layout, n, small.out_channels, channel, huge_size.output, position),
                    values[std::size_t(i)]);
    }
    const Oracle oracle(small, x, w, std::vector<double>(std::size_t(size.b)), values);
    std::vector<double> huge_x(std::size_t(huge_size.x)), huge_dx(std::size_t(huge_size.x));
    for (std::int64_t i = 0; i < size.x; ++i) {
      const std::int64_t line = i % size.input / small.input[d],
                         position = line * huge.input[d] + i % small.input[d] + c.more;
      const std::int64_t channel = i / size.input % small.in_channels, n = i / size.input / small.in_channels;
      const std::int64_t to = at(small.x_layout, n, small.in_channels, channel, huge_size.input, position);
      huge_x[std::size_t(to)] = x[std::size_t(i)];
      huge_dx[std::size_t(to)] = oracle.dx.value[std::size_t(i)];
    }
    const std::vector<char> w_typed = typed(small.dtype, w), x_typed = typed(small.dtype, huge_x);
    for (const std::string& name : candidate_names(c.pass)) {
      const auto plan = Plan::create(huge, Device::cpu(), {}, name);
      if (!plan.ok() || (*plan)->candidate(c.pass) != name) continue;
      expect_pass(**plan, c.pass, x_typed.data(), w_typed.data(), dy.data(),
                  c.pass == Pass::backward_input ? huge_dx : oracle.dw.value);
    }
  }
}

}  // namespace
}  // namespace upconv::test
