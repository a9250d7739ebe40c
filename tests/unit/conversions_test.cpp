// fp16 and bf16 against the definition of the formats, on every instruction set this machine runs: all 65536 values,
// every rounding tie and its neighbours, random bit patterns, every row length.
#include "unit/conversions.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cpu/isa.hpp"
#include "ops/number.hpp"
#include "ops/random.hpp"

namespace upconv::test {
namespace {

struct Kind {
  const char* name;
  Format16 format;
  bool half;
};
constexpr Kind kinds[] = {{"half", half_format, true}, {"bfloat", bfloat_format, false}};

const std::vector<const Conversions*>& available() {
  static const std::vector<const Conversions*> list = [] {
    std::vector<const Conversions*> l{&conversions_base()};
#if defined(UPCONV_HAS_V3_V4)
    if (active_isa() >= Isa::v3) l.push_back(&conversions_v3());
    if (active_isa() >= Isa::v4) l.push_back(&conversions_v4());
#endif
    return l;
  }();
  return list;
}

void widen(const Conversions& c, const Kind& k, const std::vector<std::uint16_t>& in, std::vector<float>& out) {
  out.resize(in.size());
  (k.half ? c.widen_half : c.widen_bfloat)(in.data(), out.data(), std::int64_t(in.size()));
}
void narrow(const Conversions& c, const Kind& k, const std::vector<float>& in, std::vector<std::uint16_t>& out) {
  out.resize(in.size());
  (k.half ? c.narrow_half : c.narrow_bfloat)(in.data(), out.data(), std::int64_t(in.size()));
}

void expect_narrowed(const Kind& k, const std::vector<float>& values) {
  for (const Conversions* c : available()) {
    std::vector<std::uint16_t> got;
    narrow(*c, k, values, got);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i]))
        ASSERT_TRUE(std::isnan(decode16(got[i], k.format))) << c->isa << " " << k.name << " of NaN: " << got[i];
      else
        ASSERT_EQ(got[i], encode16(values[i], k.format))
            << c->isa << " " << k.name << " of " << std::hexfloat << values[i];
    }
  }
}

std::vector<std::uint16_t> all_values() {
  std::vector<std::uint16_t> v(65536);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::uint16_t(i);
  return v;
}

TEST(Conversions, WidenEveryValue) {
  for (const Kind& k : kinds)
    for (const Conversions* c : available()) {
      std::vector<float> got;
      widen(*c, k, all_values(), got);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double want = decode16(std::uint16_t(i), k.format);
        ASSERT_TRUE(std::isnan(want) ? std::isnan(got[i])
                                     : got[i] == want && std::signbit(got[i]) == std::signbit(want))
            << c->isa << " " << k.name << " 0x" << std::hex << i << ": got " << got[i] << ", want " << want;
      }
    }
}

TEST(Conversions, NarrowBringsEveryValueBack) {
  for (const Kind& k : kinds) {
    std::vector<float> values;
    for (std::uint16_t h : all_values()) values.push_back(float(decode16(h, k.format)));
    expect_narrowed(k, values);
  }
}

TEST(Conversions, TiesGoToEvenAndNeighboursToTheNearest) {
  for (const Kind& k : kinds) {
    std::vector<float> values;
    for (unsigned h = 0; h < 0x7fff; ++h) {
      const double a = decode16(std::uint16_t(h), k.format), b = decode16(std::uint16_t(h + 1), k.format);
      if (!std::isfinite(a)) break;
      // The last step ends at infinity; its tie is where the next number would be.
      const double tie = std::isfinite(b) ? (a + b) / 2 : a + (a - decode16(std::uint16_t(h - 1), k.format)) / 2;
      const float t = float(tie);
      ASSERT_EQ(double(t), tie);
      for (float v : {t, std::nextafter(t, 0.0f), std::nextafter(t, INFINITY)}) values.insert(values.end(), {v, -v});
    }
    expect_narrowed(k, values);
  }
}

TEST(Conversions, RandomBitPatterns) {
  Random r(1);
  std::vector<float> values(300000);
  for (float& v : values) {
    const auto bits = std::uint32_t(r.bits());
    std::memcpy(&v, &bits, 4);
  }
  values.insert(values.end(), {65504.0f, 65519.996f, 65520.0f, 65536.0f, 3.4e38f, 3.39e38f, INFINITY, -INFINITY, NAN,
                               -NAN, 0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1p-26f, 0x1p-133f, 0x1p-134f, 0x1p-149f});
  for (const Kind& k : kinds) expect_narrowed(k, values);
}

TEST(Conversions, EveryRowLengthAndNothingBeyond) {
  for (const Kind& k : kinds)
    for (const Conversions* c : available())
      for (std::int64_t n = 0; n <= 70; ++n) {
        std::vector<std::uint16_t> in(std::size_t(n) + 1), out(std::size_t(n) + 1, 0xabcd);
        std::vector<float> middle(std::size_t(n) + 1, -77.0f);
        for (std::int64_t i = 0; i < n; ++i) in[std::size_t(i)] = std::uint16_t(0x3c00 + 37 * i);
        (k.half ? c->widen_half : c->widen_bfloat)(in.data(), middle.data(), n);
        (k.half ? c->narrow_half : c->narrow_bfloat)(middle.data(), out.data(), n);
        for (std::int64_t i = 0; i < n; ++i)
          ASSERT_EQ(out[std::size_t(i)], in[std::size_t(i)]) << c->isa << " row of " << n;
        ASSERT_EQ(middle[std::size_t(n)], -77.0f) << c->isa << " row of " << n;
        ASSERT_EQ(out[std::size_t(n)], 0xabcd) << c->isa << " row of " << n;
      }
}

TEST(Conversions, BroadcastKeepsSignsAndNan) {
  for (const Conversions* c : available())
    for (float v : {1.5f, -0.0f, 0.0f, INFINITY, -INFINITY, NAN, 1e-45f}) {
      std::vector<float> lanes(std::size_t(c->lanes), 9.0f);
      c->broadcast(v, lanes.data());
      for (float got : lanes)
        ASSERT_TRUE(std::isnan(v) ? std::isnan(got) : got == v && std::signbit(got) == std::signbit(v))
            << c->isa << " " << v;
    }
}

}  // namespace
}  // namespace upconv::test
