// See draw.hpp. Sizes crowd around what tiles are made of: small numbers, and multiples of 8 with their neighbours.
#include "emulator/draw.hpp"

#include <algorithm>

namespace upconv::test {
namespace {

std::int64_t near_multiple(Random& r, std::int64_t multiple, std::int64_t most) {
  return std::max<std::int64_t>(1, multiple * r.between(1, most / multiple) + r.between(-2, 2));
}
std::int64_t channels(Random& r) {
  switch (r.between(0, 7)) {
    case 0:
      return r.between(1, 4);
    case 1:
      return r.between(1, 9);
    case 2:
    case 3:
      return near_multiple(r, 8, 48);
    case 4:
      return near_multiple(r, 16, 96);
    case 5:
      return near_multiple(r, 32, 160);
    case 6:
      return r.pick<std::int64_t>({16, 32, 64, 64, 128, 256});
    default:
      return r.pick<std::int64_t>({3, 12, 24, 48, 96});
  }
}
std::int64_t positions(Random& r) {
  switch (r.between(0, 4)) {
    case 0:
      return r.between(1, 3);
    case 1:
    case 2:
      return r.between(1, 20);
    case 3:
      return near_multiple(r, 8, 72);
    default:
      return near_multiple(r, 16, 144);
  }
}

/// A problem whose sizes do not count yet.
Problem specialisation(Random& r) {
  Problem p;
  p.rank = r.pick({1, 1, 2, 2, 2, 3});
  p.groups = r.between(1, 10) <= 3 ? r.pick<std::int64_t>({2, 3, 4, 8, 16, 33}) : 1;
  std::int64_t ci = channels(r), co = channels(r);
  if (p.groups > 1) {
    switch (r.between(0, 3)) {
      case 0:
        ci = co = 1;
        break;
      case 1:
        ci = 1, co = r.between(1, 4);
        break;
      case 2:
        ci = r.between(1, 16), co = r.between(1, 16);
        break;
      default:
        ci = std::min<std::int64_t>(ci, 64), co = std::min<std::int64_t>(co, 64);
    }
  } else if (r.one_in(8)) {  // an image or a signal at the end of a decoder
    co = r.between(1, 4);
  }
  p.in_channels = ci * p.groups, p.out_channels = co * p.groups;
  const std::int64_t family = r.between(0, 7);
  for (int d = 0; d < p.rank; ++d) {
    std::int64_t s = r.pick<std::int64_t>({1, 1, 1, 2, 2, 2, 3, 4, 5}),
                 k = r.pick<std::int64_t>({1, 2, 3, 3, 3, 4, 5, 7}), dilation = r.one_in(4) ? r.between(1, 4) : 1;
    if (family == 0) k = s, dilation = 1;
    if (family == 1) s = r.between(1, p.rank == 1 ? 10 : 4), k = 2 * s, dilation = 1;
    if (family == 2) k = r.between(1, p.rank == 1 ? 40 : p.rank == 2 ? 9 : 5);
    if (family >= 3 && family <= 5 && d > 0) k = p.kernel[0], s = p.stride[0], dilation = p.dilation[0];
    if (family == 6 && p.rank == 1 && r.one_in(2)) s = r.pick<std::int64_t>({16, 64, 100, 256}), k = r.between(1, 600);
    const std::int64_t reach = dilation * (k - 1);
    p.kernel[d] = k, p.stride[d] = s, p.dilation[d] = dilation;
    p.padding[d] = r.between(0, 9) < 6 ? r.between(0, std::min<std::int64_t>(reach + 1, 8)) : 0;
    p.output_padding[d] = r.between(0, 9) < 3 ? r.between(0, std::max(s, dilation) - 1) : 0;
  }
  p.bias = r.one_in(2);
  p.dtype = r.pick(
      {DType::f32, DType::f32, DType::f32, DType::f32, DType::f16, DType::bf16, DType::f16, DType::bf16, DType::f64});
  if (p.dtype == DType::f32)
    p.precision = r.pick({Precision::ieee, Precision::tf32, Precision::tf32, Precision::bf16x3});
  if (r.between(0, 9) < 4) {
    const std::int64_t kind = r.between(0, 2);
    if (kind < 2) p.x_layout = p.y_layout = Layout::channels_last;
    if (kind == 1) p.w_layout = Layout::channels_last;
    if (kind == 2)
      for (Layout* l : {&p.x_layout, &p.w_layout, &p.y_layout})
        if (r.one_in(2)) *l = Layout::channels_last;
  }
  return p;
}

/// Sizes of a specialisation within the budget; false where the smallest is beyond it or has no output.
bool size_it(Random& r, Problem& p, double budget) {
  p.batch = r.one_in(50) ? 0 : r.pick<std::int64_t>({1, 1, 2, 3, 5});
  for (int d = 0; d < p.rank; ++d) p.input[d] = positions(r);
  const auto ok = [&] { return flop(p) <= 2.0 * budget && min_bytes(p, Pass::forward) < 4e6; };
  for (int i = 0; i < 300 && !ok(); ++i) {
    if (p.batch > 1 && r.one_in(3)) {
      --p.batch;
      continue;
    }
    const auto d = r.between(0, p.rank - 1);
    if (d + 1 < p.rank || p.input[d] > 4 || r.one_in(8)) p.input[d] = std::max<std::int64_t>(1, p.input[d] * 2 / 3);
  }
  return ok() && validate(p).ok();
}

}  // namespace

std::vector<Problem> draw_sizes(Random& r, const Problem& specialisation, int most, double budget) {
  std::vector<Problem> all;
  for (int i = 0; i < 3 * most && static_cast<int>(all.size()) < most; ++i) {
    Problem p = specialisation;
    if (size_it(r, p, budget)) all.push_back(p);
  }
  return all;
}

std::vector<Problem> draw_cuda_problems(Random& r, int most, double budget) {
  for (;;)
    if (auto all = draw_sizes(r, specialisation(r), most, budget); !all.empty()) return all;
}

Epilogue draw_epilogue(Random& r) {
  Epilogue e;
  if (!r.one_in(6)) return e;
  for (std::int64_t i = r.between(1, 2); i > 0; --i) {
    EpilogueStep step{static_cast<Activation>(r.between(0, int(Activation::softplus))), 0.0, 0.0};
    if (step.activation == Activation::leaky_relu) step.a = 0.01 * double(r.between(-10, 30));
    if (step.activation == Activation::elu) step.a = 0.25 * double(r.between(1, 6));
    if (step.activation == Activation::hardtanh)
      step.a = -0.5 * double(r.between(0, 4)), step.b = 0.5 * double(r.between(1, 8));
    if (step.activation == Activation::softplus) step.a = 0.5 * double(r.between(1, 4)), step.b = 20.0;
    e.steps.push_back(step);
  }
  return e;
}

}  // namespace upconv::test
