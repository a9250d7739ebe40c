// Every named problem of tests/shapes through every candidate and pass. Edges run as written; the layers of public
// models keep their window, groups and ratios but lose channels and positions until the oracle is quick.
#include "ops/shapes.hpp"

#include <gtest/gtest.h>

#include "ops/expect.hpp"
#include "ops/trial.hpp"

namespace upconv::test {
namespace {

constexpr DType dtypes[] = {DType::f64, DType::f16, DType::bf16, DType::f32};

/// Exact data as written, then random data with another dtype, layout, bias and worker count, turned by the row number.
void check_row(const Row& row, std::uint64_t number) {
  SCOPED_TRACE(row.id);
  Setting exact;
  exact.seed = 2 * number;
  exact.workers = 1 + int(number % 3);
  EXPECT_TRUE(passes(Trial(row.problem, exact)));

  Problem p = row.problem;
  p.dtype = dtypes[number % 4];
  p.bias = number % 3 == 0;
  p.x_layout = number & 1 ? Layout::channels_last : Layout::channels_first;
  p.w_layout = number & 2 ? Layout::channels_last : Layout::channels_first;
  p.y_layout = number & 4 ? Layout::channels_last : Layout::channels_first;
  Setting random = exact;
  random.seed += 1;
  random.data = Data::uniform;
  random.flush = Flush::front;
  random.misalign = int(number % 2);
  EXPECT_TRUE(passes(Trial(p, random)));
}

/// Groups as they are or 4 at most, channels per group and positions halved in turn, batch 2 at most.
Problem scaled(Problem p, double budget) {
  std::int64_t groups =
      p.groups == p.in_channels ? std::min<std::int64_t>(p.groups, 19) : std::min<std::int64_t>(p.groups, 4);
  std::int64_t ci = p.in_channels / p.groups, co = p.out_channels / p.groups;
  p.batch = std::min<std::int64_t>(p.batch, 2);
  p.groups = groups;
  const auto set = [&] { p.in_channels = ci * groups, p.out_channels = co * groups; };
  set();
  while (flop(p) > 2.0 * budget) {
    const double before = flop(p);
    for (int d = 0; d < p.rank; ++d)
      if (p.input[d] > 5 && flop(p) > 2.0 * budget) p.input[d] = p.input[d] * 2 / 3;
    if (flop(p) > 2.0 * budget && ci * co > 24) (ci >= co ? ci : co) = (ci >= co ? ci : co) * 2 / 3;
    set();
    if (flop(p) == before) break;
  }
  for (int d = 0; d < p.rank; ++d)  // the crop may have outgrown the input
    while (!validate(p).ok() && p.padding[d] > 0) --p.padding[d];
  return p;
}

TEST(Shapes, EdgesReadable) { EXPECT_GT(read_shapes("edges.txt").size(), 300u); }

class Edges : public testing::TestWithParam<std::string> {};
TEST_P(Edges, EveryCandidateAgreesWithTheOracle) {
  if (GetParam() == "huge") limit_memory(std::size_t{4} << 30);  // a failure, not a machine out of memory
  std::uint64_t number = 0;
  for (const Row& row : read_shapes("edges.txt")) {
    ++number;
    if (row.id.substr(0, row.id.find('/')) == GetParam()) check_row(row, number);
    if (HasFailure()) return;  // the first of a section says most
  }
}
std::vector<std::string> sections() {
  std::vector<std::string> names;
  for (const Row& row : read_shapes("edges.txt"))
    if (const std::string s = row.id.substr(0, row.id.find('/')); names.empty() || names.back() != s)
      names.push_back(s);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Shapes, Edges, testing::ValuesIn(sections()), [](const auto& info) { return info.param; });

class Layers : public testing::TestWithParam<const char*> {};
TEST_P(Layers, ScaledDownAgreeWithTheOracle) {
  std::uint64_t number = 0;
  for (const Row& row : read_shapes(GetParam())) {
    const Problem p = scaled(row.problem, 60000);
    ASSERT_TRUE(validate(p).ok()) << row.id << ": " << to_string(p);
    check_row({row.id, p}, ++number);
    if (HasFailure()) return;
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, Layers, testing::Values("kernelbench-l1.txt", "models.txt"), [](const auto& info) {
  return std::string(info.param).substr(0, std::string(info.param).find_first_of("-."));
});

}  // namespace
}  // namespace upconv::test
