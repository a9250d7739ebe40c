// Phases, tap ranges and weight strides against an enumeration of o + p = s*i + d*t.
#include "problem/geometry.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ops/random.hpp"

namespace upconv {
namespace {

/// A random one-dimensional problem, valid.
Problem window(test::Random& r) {
  for (;;) {
    Problem p;
    p.rank = 1;
    p.input[0] = r.between(1, 12), p.kernel[0] = r.between(1, 9), p.stride[0] = r.between(1, 7),
    p.dilation[0] = r.between(1, 6);
    p.padding[0] = r.between(0, 12), p.output_padding[0] = r.between(0, 6);
    if (validate(p).ok()) return p;
  }
}

/// (output, input) pairs -> taps, from the definition.
using Products = std::map<std::pair<std::int64_t, std::int64_t>, std::set<std::int64_t>>;
Products by_definition(const Problem& p) {
  Products products;
  for (std::int64_t o = 0; o < output_size(p)[0]; ++o)
    for (std::int64_t i = 0; i < p.input[0]; ++i)
      for (std::int64_t t = 0; t < p.kernel[0]; ++t)
        if (o + p.padding[0] == p.stride[0] * i + p.dilation[0] * t) products[{o, i}].insert(t);
  return products;
}

TEST(Phases, CoverEveryOutputOnceAndEveryProduct) {
  test::Random r(1);
  for (int n = 0; n < 4000; ++n) {
    const Problem p = window(r);
    SCOPED_TRACE(to_string(p));
    const Geometry g = make_geometry(p);
    const auto phases = make_phases(g, 2);
    ASSERT_EQ(std::int64_t(phases.size()), p.stride[0]);
    std::map<std::int64_t, int> covered;
    Products products;
    std::size_t taps = 0;
    for (std::size_t r0 = 0; r0 < phases.size(); ++r0) {
      const Phase& phase = phases[r0];
      ASSERT_EQ(phase.residue, std::int64_t(r0));
      ASSERT_LE(phase.q_begin, phase.q_end);
      taps += phase.taps.size();
      for (std::int64_t q = phase.q_begin; q < phase.q_end; ++q) {
        const std::int64_t o = p.stride[0] * q + phase.residue - p.padding[0];
        ++covered[o];
        for (const PhaseTap& tap : phase.taps)
          if (const std::int64_t i = q - tap.offset; i >= 0 && i < p.input[0]) {
            ASSERT_TRUE((products[{o, i}].insert(tap.tap).second));
          }
      }
    }
    ASSERT_EQ(std::int64_t(taps), p.kernel[0]);
    ASSERT_EQ(std::int64_t(covered.size()), output_size(p)[0]);
    ASSERT_EQ(covered.begin()->first, 0);
    for (const auto& [o, times] : covered) ASSERT_EQ(times, 1) << "output " << o;
    ASSERT_EQ(products, by_definition(p));
  }
}

TEST(Phases, SomeHaveNoTap) {
  const auto p = parse_problem("2d i8x16 k3 s5 p1 d2");
  for (int dim : {1, 2}) {
    int empty = 0;
    for (const Phase& phase : make_phases(make_geometry(*p), dim)) empty += phase.taps.empty();
    EXPECT_EQ(empty, 2);  // residues 0, 2, 4 have a tap each: 16 of 25 phases are without one
  }
}

TEST(TapInputs, AreExactlyThoseThatLandInside) {
  test::Random r(2);
  for (int n = 0; n < 4000; ++n) {
    const Problem p = window(r);
    const Geometry g = make_geometry(p);
    for (std::int64_t t = 0; t < p.kernel[0]; ++t) {
      const Range range = tap_inputs(g, 2, t);
      ASSERT_TRUE(0 <= range.begin && range.begin <= range.end && range.end <= p.input[0])
          << to_string(p) << " tap " << t;
      for (std::int64_t i = 0; i < p.input[0]; ++i) {
        const std::int64_t o = p.stride[0] * i + p.dilation[0] * t - p.padding[0];
        ASSERT_EQ(i >= range.begin && i < range.end, o >= 0 && o < output_size(p)[0])
            << to_string(p) << " tap " << t << " input " << i;
      }
    }
  }
}

/// Only the dimension asked about matters, and the outer ones of a lower rank are neutral.
TEST(Geometry, PutsDimensionsInnermost) {
  for (const char* text : {"1d n3 c6 o4 i5 k3 s2 p1 op1 d4 g2", "2d n3 c6 o4 i5x7 k3x2 s2x3 p1x0 op1x2 d4x1 g2",
                           "3d n3 c6 o4 i5x7x9 k3x2x1 s2x3x4 p1x0x0 op1x2x0 d4x1x2 g2"}) {
    const Problem p = *parse_problem(text);
    const Geometry g = make_geometry(p);
    EXPECT_EQ(g.batch, 3);
    EXPECT_EQ(g.groups, 2);
    EXPECT_EQ(g.ci, 3);
    EXPECT_EQ(g.co, 2);
    EXPECT_EQ(g.in_channels(), 6);
    EXPECT_EQ(g.out_channels(), 4);
    std::int64_t in = 1, out = 1, taps = 1;
    for (int d = 0; d < 3; ++d) {
      const int from = d - (3 - p.rank);
      EXPECT_EQ(g.in[d], from < 0 ? 1 : p.input[from]);
      EXPECT_EQ(g.out[d], from < 0 ? 1 : output_size(p)[from]);
      EXPECT_EQ(g.kernel[d], from < 0 ? 1 : p.kernel[from]);
      EXPECT_EQ(g.stride[d], from < 0 ? 1 : p.stride[from]);
      EXPECT_EQ(g.padding[d], from < 0 ? 0 : p.padding[from]);
      EXPECT_EQ(g.dilation[d], from < 0 ? 1 : p.dilation[from]);
      in *= g.in[d], out *= g.out[d], taps *= g.kernel[d];
    }
    EXPECT_EQ(g.in_volume(), in);
    EXPECT_EQ(g.out_volume(), out);
    EXPECT_EQ(g.taps(), taps);
  }
}

TEST(WeightStrides, AreThoseOfADenseTensor) {
  for (const char* text : {"3d c4 o6 k2x3x5 g2 i9", "2d c3 o5 k4x2 i9", "1d c8 o8 k7 g8 i9"})
    for (Layout layout : {Layout::channels_first, Layout::channels_last}) {
      Problem p = *parse_problem(text);
      p.w_layout = layout;
      const Geometry g = make_geometry(p);
      const WeightStrides s = weight_strides(p, g);
      std::int64_t expected = 0;  // walking in memory order, each element is one further
      const auto at = [&](std::int64_t ci, std::int64_t co, std::int64_t a, std::int64_t b, std::int64_t c) {
        return ci * s.ci + co * s.co + a * s.tap[0] + b * s.tap[1] + c * s.tap[2];
      };
      const auto taps = [&](auto&& body) {
        for (std::int64_t a = 0; a < g.kernel[0]; ++a)
          for (std::int64_t b = 0; b < g.kernel[1]; ++b)
            for (std::int64_t c = 0; c < g.kernel[2]; ++c) body(a, b, c);
      };
      for (std::int64_t ci = 0; ci < p.in_channels; ++ci) {
        if (layout == Layout::channels_first) {
          for (std::int64_t co = 0; co < g.co; ++co)
            taps([&](auto a, auto b, auto c) { ASSERT_EQ(at(ci, co, a, b, c), expected++) << text; });
        } else {
          taps([&](auto a, auto b, auto c) {
            for (std::int64_t co = 0; co < g.co; ++co)
              ASSERT_EQ(at(ci, co, a, b, c), expected++) << text << " channels_last";
          });
        }
      }
    }
}

}  // namespace
}  // namespace upconv
