// What cuda_weight_wgmma decides before a kernel is compiled: which taps of H are columns of its products.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/weight_wgmma_tile.hpp"
#include "plan/target.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {
namespace {

WeightShape shape_of(const std::string& text) {
  const auto problem = parse_problem(text);
  EXPECT_TRUE(problem.ok()) << text;
  const Request request{
      {*problem, make_geometry(*problem), Pass::backward_weight, {}, false}, **cuda_target_model(90), 0};
  return *weight_shape(request);
}

TEST(CudaWeight, TapsThatMeetTheSameLinesOfTheResultAreColumns) {
  const struct {
    const char* text;
    int stacked, later, rows;  // 1: not at all
  } cases[] = {
      {"2d c32 o32 i16x32 k3 f32 tf32", 3, 1, 1},
      {"2d c32 o32 i16x32 k3 d2 f32 tf32", 3, 2, 1},
      {"2d c32 o32 i16x32 k3 s2 f32 tf32", 2, 1, 2},  // {0, 2}, {1}
      {"2d c32 o32 i16x32 k4 s2 f32 tf32", 2, 1, 2},
      {"2d c32 o32 i16x32 k3 s2 d2 f32 tf32", 3, 1, 1},
      {"2d c32 o32 i16x32 k5 s4 d6 f32 tf32", 3, 3, 2},  // {0, 2, 4}, {1, 3}
      {"2d c32 o32 i16x32 k2 s2 f32 tf32", 1, 0, 2},     // no two meet
      {"2d c32 o32 i16x32 k1x3 f32 tf32", 1, 0, 1},
      {"2d c32 o32 i16x33 k3 s2 f32 tf32", 1, 0, 3},  // lines of x begin anywhere
  };
  for (const auto& c : cases) {
    const WeightShape whole = shape_of(c.text), s = stacked(whole);
    const Geometry &g = s.geometry, &all = whole.geometry;
    EXPECT_EQ(s.stacked, c.stacked) << c.text;
    EXPECT_EQ(s.later, c.later) << c.text;
    EXPECT_EQ(g.kernel[1], c.rows) << c.text;
    EXPECT_EQ(s.taps(), all.taps()) << c.text;
    EXPECT_EQ(g.in[1], all.in[1] + s.late()) << c.text;
    // Row `row`, column `column` is tap row + rows * column: position i of the row is line i - later * column of x.
    std::vector<int> times(std::size_t(all.kernel[1]), 0);
    for (int row = 0; row < g.kernel[1]; ++row)
      for (int column = 0; column < s.stacked; ++column) {
        const auto tap = std::size_t(row + g.kernel[1] * column);
        if (tap >= times.size()) continue;
        ++times[tap];
        EXPECT_EQ(g.stride[1] * s.later * column + g.dilation[1] * row, all.dilation[1] * std::int64_t(tap)) << c.text;
      }
    EXPECT_EQ(times, std::vector<int>(times.size(), 1)) << c.text;
  }
}

}  // namespace
}  // namespace upconv::cuda
