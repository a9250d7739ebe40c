// What cuda_boxes decides before a kernel is compiled: how positions are counted, and which worker takes which box.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
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

/// The first forms of cuda_boxes on a model of an H200 with so many multiprocessors.
std::vector<BoxChoice> choices_of(const Problem& problem, bool backward, int processors, std::size_t most) {
  const Geometry geometry = make_geometry(problem);
  const bool f32 = problem.dtype == DType::f32, tf32 = f32 && problem.precision == Precision::tf32;
  const BoxProblem p =
      box_problem(geometry, backward, tf32, f32 && !tf32 ? 2 : 1, static_cast<int>(size_of(problem.dtype)));
  CudaTarget target = **cuda_target_model(90);
  target.processors = processors;
  return box_choices(p, problem, geometry, target, most);
}

/// As exported files have it: the form of one size, launched for others.
TEST(CudaBoxes, FormsTakeOtherWidthsThanTheirOwn) {
  const char* const cases[] = {
      "1d n2 c17 o8 i144 k4 p6 d2 b f32 tf32",    "2d n2 c32 o5 i7x32 k5x3 p2x1 b f16",
      "3d n1 c9 o20 i7x8x39 k3x5x8 p4x0x6 f16",   "2d n4 c64 o64 i64x64 k4 s2 p1 f32 tf32",
      "3d n2 c16 o16 i8x16x64 k3x5x7 f32 tf32",   "2d n8 c32 o32 i100x30 k3 p1 bf16",
      "1d n4 c64 o32 i1000 k16 s8 p4 f32 bf16x3", "3d n2 c32 o16 i8x9x17 k3 s2 p1 op1 f32 tf32",
      "2d n2 c24 o40 i50x200 k7 d2 p6 f32 tf32",
  };
  for (const char* text : cases)
    for (const bool backward : {false, true}) {
      const Problem problem = *parse_problem(text);
      const auto choices = choices_of(problem, backward, 132, 4);
      ASSERT_FALSE(choices.empty()) << text;
      for (const BoxChoice& choice : choices)
        for (std::int64_t width = 1; width <= 260; ++width) {
          Problem other = problem;
          other.input[problem.rank - 1] = width;
          const Extent y = output_size(other);
          if (*std::min_element(y.begin(), y.begin() + problem.rank) < 1) continue;
          const auto l = launch::launch_of(choice.fixed, sizes_of(make_geometry(other)), 132);
          EXPECT_EQ(l.refusal, nullptr) << text << (backward ? ", dx" : "") << ", width " << width;
        }
    }
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
      const arguments::Boxes<void>& a = c.launch.bulk.main;
      if (!c.form.depth_loop || !c.launch.may_bulk) continue;
      const launch::BoxSpace space = launch::box_space(c.fixed, sizes_of(g));
      const double with = imbalance(c.fixed, a, space, a.turn), without = imbalance(c.fixed, a, space, 0);
      EXPECT_LE(with, std::max(without, 1.05)) << text;
      turned += a.turn > 0 && with < 1.1 && without > 1.3;
    }
    if (must_turn) {
      EXPECT_GT(turned, 0) << text;
    }
  }
}

TEST(CudaBoxes, LastColumnsHaveBoxesOfTheirOwnWhereWholeBoxesLeaveAFew) {
  const struct {
    const char* text;
    int processors;
    bool parted;
  } cases[] = {{"2d n128 c64 o64 i256x256 k3 f32 tf32", 132, true},
               {"2d n8 c64 o64 i512x512 k3x7 bf16", 132, true},
               {"2d n8 c512 o256 i128x128 k4 s2 p1 f32 tf32", 132, true},
               {"2d n6 c8 o8 i48x64 k3x5 b f32 tf32", 3, true},  // as tests/emulator/persistent.txt has them
               {"2d n6 c16 o16 i96x64 k4 s2 p1 f32 tf32", 3, true},
               {"2d n6 c16 o16 i64x69 k3 p1 g2 f32 tf32", 3, true},
               {"2d n128 c64 o64 i256x256 k3 p1 f32 tf32", 132, false},  // 256 columns
               {"2d n1 c64 o64 i32x32 k3 f32 tf32", 132, false}};        // a launch costs more
  for (const auto& [text, processors, must_part] : cases) {
    const Problem problem = *parse_problem(text);
    const launch::Sizes sizes = sizes_of(make_geometry(problem));
    int parted = 0;
    for (const BoxChoice& c : choices_of(problem, false, processors, 8))
      for (const launch::BoxesWay* way : {&c.launch.plain, &c.launch.bulk}) {
        if (way->last_grid == 0) continue;
        ++parted;
        const launch::BoxSpace space = launch::box_space(c.fixed, sizes);
        const arguments::Boxes<void>&main = way->main, &last = way->last;
        // One after the other, and nothing twice.
        EXPECT_EQ(main.first[2], space.begin[3]) << text;
        EXPECT_EQ(main.first[2] + main.boxes[0] * main.step[3], last.first[2]) << text;
        EXPECT_LT(last.first[2], space.begin[3] + space.count[3]) << text;
        EXPECT_GE(last.first[2] + last.boxes[0] * last.step[3], space.begin[3] + space.count[3]) << text;
        for (const arguments::Boxes<void>* a : {&main, &last}) {
          EXPECT_GE(launch::Int{a->boxes[1]} * a->step[2], space.count[2]) << text;
          EXPECT_LE(launch::Int{a->box[0]} * a->pitch_n * c.fixed.element_bytes, 4 * c.fixed.source_words) << text;
        }
      }
    EXPECT_EQ(parted > 0, must_part) << text;
  }
}

/// What a form's products multiply: (segment, step, offset of the fragment, block of sums, tap) of each column block.
using Multiplied = std::multiset<std::array<int, 7>>;

Multiplied multiplied(const BoxWork& work) {
  std::vector<int> tap_of_slot(static_cast<std::size_t>(work.slots), -1);
  for (std::size_t tap = 0; tap < work.slot_of_tap.size(); ++tap)
    tap_of_slot.at(static_cast<std::size_t>(work.slot_of_tap[tap])) = static_cast<int>(tap);
  Multiplied all;
  for (const Fragment& f : work.fragments)
    for (const Product& p : f.products)
      for (int i = 0; i < p.columns; ++i)
        all.insert(
            {f.segment, f.step, f.d, f.h, f.w, p.block + i, tap_of_slot.at(static_cast<std::size_t>(p.slot + i))});
  return all;
}

Multiplied wanted(const BoxProblem& p, const BoxForm& form, const BoxWork& work) {
  const std::array<BoxAxis, 3> axis = axes_of(p, form);
  const auto taps = [&](std::size_t d) { return static_cast<int>(axis[d].offset.size()); };
  Multiplied all;
  for (int segment = 0; segment < form.segments; ++segment)
    for (int step = 0; step < form.steps; ++step)
      for (int row = 0; row < form.rows; ++row)
        for (int tap = 0; tap < work.slots; ++tap) {
          const std::array<int, 3> at = {tap / (taps(1) * taps(2)), tap / taps(2) % taps(1), tap % taps(2)};
          std::array<int, 3> offset{};
          int place = row;
          for (std::size_t d = 0; d < 3; ++d) {
            const auto t = static_cast<std::size_t>(at[d]);
            offset[d] =
                axis[d].offset[t] + (static_cast<int>(form.merge) == static_cast<int>(d) ? axis[d].step * row : 0);
            place = place * axis[d].used_count + axis[d].used[static_cast<std::size_t>(axis[d].phase[t])];
          }
          all.insert({segment, step, offset[0], offset[1], offset[2],
                      segment * (work.blocks / form.segments) + work.block_of[static_cast<std::size_t>(place)], tap});
        }
  return all;
}

TEST(CudaBoxes, EveryTapIsMultipliedOnceWhateverRunsOfColumnsAProductHas) {
  for (const char* text :
       {"3d c32 o32 i12x24x48 k3x5x7 s2 p1x2x3 op1 g4 f32 tf32", "3d c32 o16 i16x32x64 k3x5x7 f32 tf32",
        "2d c32 o64 i128x256 k3x5 s2x3 p1x2 d2x1 g4 f32 tf32", "1d c64 o32 i100 k16 s8 p4 f32 tf32",
        "2d c16 o16 i9x33 k4 s2 p1 f32 tf32", "3d c32 o64 i16x32x32 k3 s2 p1 d2 f32 tf32"}) {
    const BoxProblem p = boxes_of(text);
    for (int columns : {8, 16, 24, 32, 64})
      for (const Merge merge : {Merge::none, Merge::depth, Merge::height})
        for (int rows : {1, 2, 3, 4}) {
          if ((merge == Merge::none) != (rows == 1)) continue;
          for (const bool depth_loop : {false, true}) {
            if (depth_loop && merge == Merge::depth) continue;
            BoxForm form;
            form.columns = columns, form.merge = merge, form.rows = rows, form.depth_loop = depth_loop;
            form.segments = 2, form.steps = 2;
            const BoxWork work = box_work(p, form);
            ASSERT_EQ(multiplied(work), wanted(p, form, work))
                << text << ", " << columns << " columns, " << rows << " rows of " << static_cast<int>(merge);
            for (const Fragment& f : work.fragments)
              for (const Product& product : f.products) EXPECT_LE(product.columns * columns, 256) << text;
          }
        }
  }
}

}  // namespace
}  // namespace upconv::cuda
