// What cuda_boxes decides before a kernel is compiled: how positions are counted, and which worker takes which box.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cuda/boxes_cost.hpp"
#include "cuda/launching.hpp"
#include "plan/target.hpp"
#include "upconv/problem.hpp"

namespace upconv::cuda {
namespace {

BoxProblem boxes_of(const char* text) {
  const auto problem = parse_problem(text);
  EXPECT_TRUE(problem.ok()) << text;
  return box_problem(make_geometry(*problem), false, true, 1, 4);
}

TEST(CudaBoxes, PositionsAreAsManyAsStridesOfTheResultWhereThatIsFree) {
  const struct {
    const char* text;
    std::int64_t positions, padding, span;
  } cases[] = {
      {"1d c8 o8 i32 k3 s2 p1 op1 f32 tf32", 32, 0, 1}, {"1d c8 o8 i32 k3 s2 p1 f32 tf32", 32, 0, 1},
      {"1d c8 o8 i32 k4 s2 p1 f32 tf32", 33, 1, 1},  // a third offset otherwise
      {"1d c8 o8 i32 k4 s2 p2 f32 tf32", 31, 2, 1},     {"1d c8 o8 i32 k5 s3 p4 f32 tf32", 31, 4, 1},
  };
  for (const auto& c : cases) {
    const BoxAxis axis = boxes_of(c.text).axis[2];
    EXPECT_EQ(axis.q_end - axis.q_begin, c.positions) << c.text;
    EXPECT_EQ(axis.padding, c.padding) << c.text;
    EXPECT_EQ(axis.span, c.span) << c.text;
  }
}

/// Products and stores of the busiest worker over those of the average, a tap as long as a store.
double imbalance(const launch::BoxesFixed& f, const arguments::Boxes<void>& a, const launch::BoxSpace& space,
                 launch::Int turn) {
  const launch::Int of_depth = launch::Int{a.boxes[0]} * a.boxes[1];
  std::vector<int> taken(static_cast<std::size_t>(a.all_boxes), 0);
  double busiest = 0.0, all = 0.0;
  for (int worker = 0; worker < a.round; ++worker) {
    double mine = 0.0;
    for (launch::Int box = worker; box < a.all_boxes; box += a.round) {
      const launch::Int at = launch::taken_box(a, turn, box);
      ++taken[static_cast<std::size_t>(at)];
      mine += 1.0 + double(launch::taps_of_depth(f, space, at / of_depth % a.boxes[2]));
    }
    busiest = std::max(busiest, mine);
    all += mine;
  }
  for (int times : taken) EXPECT_EQ(times, 1);
  return busiest * a.round / all;
}

TEST(CudaBoxes, NoWorkerHasTheLongDepthsAlone) {
  // Of the first, a round is a sample: untouched, a worker would have the same depth of every one.
  const struct {
    const char* text;
    bool turned;
  } cases[] = {{"3d n16 c32 o64 i16x32x32 k3 s2 p1 d2 f32 tf32", true},
               {"3d n16 c16 o32 i16x32x32 k3 s2 p1 op1 b f32 tf32", false},
               {"3d n4 c32 o32 i32x64x128 k3 s2 p1 f32 tf32", false}};
  for (const auto& [text, must_turn] : cases) {
    const auto problem = parse_problem(text);
    const Geometry g = make_geometry(*problem);
    int turned = 0;
    for (const BoxChoice& c : box_choices(boxes_of(text), *problem, g, **cuda_target_model(90), 8)) {
      const arguments::Boxes<void>& a = c.launch.bulk;
      if (!c.form.depth_loop || !c.launch.may_bulk) continue;
      const launch::BoxSpace space = launch::box_space(c.fixed, sizes_of(g));
      const double with = imbalance(c.fixed, a, space, a.turn), without = imbalance(c.fixed, a, space, 0);
      EXPECT_LE(with, std::max(without, 1.05)) << text;
      turned += a.turn > 0 && with < 1.1 && without > 1.3;
    }
    if (must_turn) EXPECT_GT(turned, 0) << text;
  }
}

}  // namespace
}  // namespace upconv::cuda
