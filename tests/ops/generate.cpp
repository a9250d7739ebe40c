// See generate.hpp.
#include "ops/generate.hpp"

#include <algorithm>

namespace upconv::test {
namespace {

std::int64_t near_multiple(Random& r, std::int64_t multiple, std::int64_t most) {
  return std::max<std::int64_t>(1, multiple * r.between(1, most / multiple) + r.between(-2, 2));
}
std::int64_t channels(Random& r) {
  switch (r.between(0, 5)) {
    case 0:
      return 1;
    case 1:
    case 2:
      return r.between(1, 9);
    case 3:
      return near_multiple(r, 8, 64);
    case 4:
      return near_multiple(r, 16, 96);
    default:
      return near_multiple(r, 32, 160);
  }
}
std::int64_t positions(Random& r) {
  switch (r.between(0, 5)) {
    case 0:
      return r.between(1, 3);
    case 1:
    case 2:
      return r.between(1, 20);
    case 3:
      return near_multiple(r, 8, 64);
    case 4:
      return near_multiple(r, 16, 128);
    default:
      return near_multiple(r, 64, 512);
  }
}

/// Brings the product count under the budget by shrinking dimensions picked at random.
void fit(Random& r, Problem& p, double budget) {
  for (int step = 0; step < 400 && flop(p) > 2.0 * budget; ++step) {
    const int d = int(r.between(0, p.rank - 1));
    switch (r.between(0, 4)) {
      case 0:
        p.batch = std::max<std::int64_t>(1, p.batch - 1);
        break;
      case 1:
        p.in_channels = std::max(p.groups, p.in_channels / p.groups * 3 / 4 * p.groups);
        break;
      case 2:
        p.out_channels = std::max(p.groups, p.out_channels / p.groups * 3 / 4 * p.groups);
        break;
      case 3:
        p.input[d] = std::max<std::int64_t>(1, p.input[d] * 3 / 4);
        break;
      default:
        p.kernel[d] = std::max<std::int64_t>(1, p.kernel[d] - (r.one_in(3) ? 1 : 0));
        break;
    }
  }
}

Problem draw(Random& r, double budget) {
  Problem p;
  p.rank = r.pick({1, 1, 2, 2, 2, 3});
  p.batch = r.one_in(40) ? 0 : r.between(1, 3);
  p.groups = r.one_in(3) ? r.pick<std::int64_t>({2, 3, 4, 8, 16, 33}) : 1;
  std::int64_t ci = channels(r), co = channels(r);
  if (p.groups > 1 && r.one_in(2)) ci = co = 1;  // depthwise
  if (p.groups > 1 && r.one_in(3)) ci = r.between(1, 16), co = r.between(1, 16);
  p.in_channels = ci * p.groups;
  p.out_channels = co * p.groups;
  const std::int64_t family = r.between(0, 7);
  for (int d = 0; d < p.rank; ++d) {
    p.input[d] = positions(r);
    p.stride[d] = r.pick<std::int64_t>({1, 1, 1, 2, 2, 2, 3, 4, 5});
    p.kernel[d] = r.pick<std::int64_t>({1, 2, 3, 3, 3, 4, 5, 7});
    p.dilation[d] = r.one_in(3) ? r.between(1, 4) : 1;
    if (family == 0) p.kernel[d] = p.stride[d] = r.pick<std::int64_t>({1, 2, 4, 8}), p.dilation[d] = 1;
    if (family == 1) p.stride[d] = r.between(1, 10), p.kernel[d] = 2 * p.stride[d], p.dilation[d] = 1;
    if (family == 2) p.kernel[d] = r.between(1, p.rank == 1 ? 40 : 9);
    if (family == 3 && p.rank > 1 && d > 0) {  // one window for all dimensions, as layers are mostly written
      p.kernel[d] = p.kernel[0], p.stride[d] = p.stride[0], p.dilation[d] = p.dilation[0];
    }
    if (family == 4 && d + 1 == p.rank && r.one_in(3)) {  // inverse transforms of spectra: far strides and taps
      p.input[d] = r.between(1, 9);
      p.stride[d] = r.pick<std::int64_t>({16, 100, 128, 256, 512, 1024});
      p.kernel[d] = r.one_in(2) ? r.between(1, 5) : r.between(1, 600);
      p.dilation[d] = r.one_in(3) ? r.pick<std::int64_t>({7, 32, 100, 256}) : 1;
    }
    const std::int64_t reach = p.dilation[d] * (p.kernel[d] - 1);
    p.padding[d] = r.one_in(3) ? 0 : r.between(0, std::min<std::int64_t>(reach + 1, r.one_in(4) ? 200 : 8));
    p.output_padding[d] = r.one_in(3) ? r.between(0, std::max(p.stride[d], p.dilation[d]) - 1) : 0;
  }
  p.bias = r.one_in(2);
  p.dtype = r.pick({DType::f32, DType::f32, DType::f32, DType::f64, DType::bf16, DType::f16});
  if (r.one_in(2)) {
    if (r.one_in(3)) {
      p.x_layout = p.y_layout = Layout::channels_last;
    } else {
      for (Layout* l : {&p.x_layout, &p.w_layout, &p.y_layout})
        *l = r.one_in(2) ? Layout::channels_last : Layout::channels_first;
    }
  }
  fit(r, p, budget);
  return p;
}

}  // namespace

Problem random_problem(Random& r, double budget) {
  for (;;) {
    const Problem p = draw(r, budget);
    if (validate(p).ok() && Sizes(p).y < 400000) return p;
  }
}

Setting random_setting(std::uint64_t seed) {
  Random r(seed ^ 0x5e7711);
  Setting s;
  s.seed = seed;
  s.data = r.pick({Data::integers, Data::integers, Data::uniform, Data::specials});
  s.workers = int(r.pick({1, 1, 2, 3, 5}));
  s.threads = r.one_in(4);
  s.flush = r.one_in(2) ? Flush::front : Flush::back;
  s.misalign = s.flush == Flush::front && r.one_in(2) ? 1 : 0;
  if (r.one_in(4)) {
    for (std::int64_t i = r.between(1, 2); i > 0; --i) {
      EpilogueStep step{static_cast<Activation>(r.between(0, int(Activation::softplus))), 0.0, 0.0};
      if (step.activation == Activation::leaky_relu) step.a = 0.01 * double(r.between(-10, 30));
      if (step.activation == Activation::elu) step.a = 0.25 * double(r.between(1, 6));
      if (step.activation == Activation::hardtanh)
        step.a = -0.5 * double(r.between(0, 4)), step.b = 0.5 * double(r.between(1, 8));
      if (step.activation == Activation::softplus) step.a = 0.5 * double(r.between(1, 4)), step.b = 20.0;
      s.epilogue.steps.push_back(step);
    }
  }
  return s;
}

Problem shrink(Problem best, const std::function<bool(const Problem&)>& fails) {
  const auto smaller = [](const Problem& p) {
    std::vector<Problem> list;
    const auto attempt = [&](auto&& change) {
      Problem q = p;
      change(q);
      if (!(q == p) && validate(q).ok()) list.push_back(q);
    };
    attempt([](Problem& q) { q.batch = std::min<std::int64_t>(q.batch, 1); });
    attempt([](Problem& q) { q.in_channels /= q.groups, q.out_channels /= q.groups, q.groups = 1; });
    for (std::int64_t Problem::*c : {&Problem::in_channels, &Problem::out_channels}) {
      attempt([&](Problem& q) { q.*c = std::max(q.groups, q.*c / q.groups / 2 * q.groups); });
      attempt([&](Problem& q) { q.*c = std::max(q.groups, q.*c - q.groups); });
    }
    for (int d = 0; d < p.rank; ++d) {
      attempt([&](Problem& q) { q.input[d] = std::max<std::int64_t>(1, q.input[d] / 2); });
      attempt([&](Problem& q) { q.input[d] = std::max<std::int64_t>(1, q.input[d] - 1); });
      attempt([&](Problem& q) { q.kernel[d] = 1; });
      attempt([&](Problem& q) { q.kernel[d] = std::max<std::int64_t>(1, q.kernel[d] - 1); });
      attempt([&](Problem& q) { q.stride[d] = 1, q.output_padding[d] = 0; });
      attempt([&](Problem& q) { q.padding[d] = 0; });
      attempt([&](Problem& q) { q.output_padding[d] = 0; });
      attempt([&](Problem& q) { q.dilation[d] = 1; });
    }
    attempt([](Problem& q) { q.bias = false; });
    attempt([](Problem& q) { q.dtype = DType::f32; });
    attempt([](Problem& q) { q.x_layout = Layout::channels_first; });
    attempt([](Problem& q) { q.w_layout = Layout::channels_first; });
    attempt([](Problem& q) { q.y_layout = Layout::channels_first; });
    if (p.rank > 1) {  // drop the outermost dimension
      attempt([](Problem& q) {
        for (Extent* e : {&q.input, &q.kernel, &q.stride, &q.padding, &q.output_padding, &q.dilation}) {
          for (int d = 1; d < q.rank; ++d) (*e)[d - 1] = (*e)[d];
        }
        --q.rank;
      });
    }
    return list;
  };
  for (bool progress = true; progress;) {
    progress = false;
    for (const Problem& q : smaller(best))
      if (fails(q)) {
        best = q;
        progress = true;
        break;
      }
  }
  return best;
}

}  // namespace upconv::test
