// The oracle: every product of a problem enumerated once, in scatter form (input by input, tap by tap, pushed to
// where it lands), straight from "o + padding = stride*i + dilation*t". No phases, no geometry code of the library.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "epilogue/scalar.hpp"
#include "ops/tolerance.hpp"
#include "upconv/problem.hpp"

namespace upconv::test {

/// Sizes of the four tensors; logical order (n, c, *spatial) and (ci, co/groups, *kernel), whatever the layout.
struct Sizes {
  std::int64_t input = 1, output = 1, taps = 1;  ///< spatial volumes
  std::int64_t x = 0, w = 0, y = 0, b = 0;       ///< elements

  explicit Sizes(const Problem& p) {
    for (int d = 0; d < p.rank; ++d) {
      const std::int64_t out = (p.input[d] - 1) * p.stride[d] + p.dilation[d] * (p.kernel[d] - 1) +
                               p.output_padding[d] + 1 - 2 * p.padding[d];
      input *= p.input[d];
      output *= out;
      taps *= p.kernel[d];
    }
    x = p.batch * p.in_channels * input;
    y = p.batch * p.out_channels * output;
    w = p.in_channels * (p.out_channels / p.groups) * taps;
    b = p.out_channels;
  }
};

/// Calls visit(x index, w index, y index) for every product of the definition.
template <class Visit>
void for_each_product(const Problem& p, Visit&& visit) {
  const Sizes size(p);
  // Where (input position, tap) lands in the output plane; the same for every channel.
  struct Landing {
    std::int64_t input, tap, output;
  };
  std::vector<Landing> landings;
  std::int64_t i[3], t[3];
  for (std::int64_t input = 0; input < size.input; ++input)
    for (std::int64_t tap = 0; tap < size.taps; ++tap) {
      std::int64_t in_rest = input, tap_rest = tap;
      for (int d = p.rank - 1; d >= 0; --d) {
        i[d] = in_rest % p.input[d], in_rest /= p.input[d];
        t[d] = tap_rest % p.kernel[d], tap_rest /= p.kernel[d];
      }
      std::int64_t output = 0;
      bool inside = true;
      for (int d = 0; d < p.rank; ++d) {
        const std::int64_t out = (p.input[d] - 1) * p.stride[d] + p.dilation[d] * (p.kernel[d] - 1) +
                                 p.output_padding[d] + 1 - 2 * p.padding[d];
        const std::int64_t o = p.stride[d] * i[d] + p.dilation[d] * t[d] - p.padding[d];
        inside = inside && 0 <= o && o < out;
        output = output * out + o;
      }
      if (inside) landings.push_back({input, tap, output});
    }
  const std::int64_t ci = p.in_channels / p.groups, co = p.out_channels / p.groups;
  for (std::int64_t n = 0; n < p.batch; ++n)
    for (std::int64_t g = 0; g < p.groups; ++g)
      for (std::int64_t a = g * ci; a < (g + 1) * ci; ++a)
        for (std::int64_t b = 0; b < co; ++b)
          for (const Landing& l : landings)
            visit((n * p.in_channels + a) * size.input + l.input, (a * co + b) * size.taps + l.tap,
                  (n * p.out_channels + g * co + b) * size.output + l.output);
}

/// One tensor as the oracle knows it: per element its value, sum |products|, and how many there are.
struct Sums {
  std::vector<double> value, magnitude, length;

  explicit Sums(std::int64_t n = 0) : value(n), magnitude(n), length(n) {}
  void add(std::int64_t at, double a, double b) {
    const double product = a * b;
    value[at] += product;
    magnitude[at] += std::fabs(product);
    length[at] += 1.0;
  }
};

/// All four passes of one problem, before the epilogue.
struct Oracle {
  Sums y, dx, dw, db;

  Oracle(const Problem& p, const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& b,
         const std::vector<double>& dy) {
    const Sizes size(p);
    y = Sums(size.y), dx = Sums(size.x), dw = Sums(size.w), db = Sums(size.b);
    for (std::int64_t o = 0; o < size.y; ++o) {
      const std::int64_t channel = o / size.output % p.out_channels;
      if (p.bias) y.add(o, b[channel], 1.0);
      db.add(channel, dy[o], 1.0);
    }
    for_each_product(p, [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
      y.add(yi, x[xi], w[wi]);
      dx.add(xi, dy[yi], w[wi]);
      dw.add(wi, x[xi], dy[yi]);
    });
  }

  [[nodiscard]] const Sums& of(Pass pass) const {
    return pass == Pass::forward ? y : pass == Pass::backward_input ? dx : pass == Pass::backward_weight ? dw : db;
  }
};

/// What one stored element should be, and how far off it may be.
struct Want {
  double value, bound;
};
inline Want want(DType dtype, const Sums& sums, std::int64_t at, const Epilogue& epilogue) {
  double v = sums.value[at], error = accumulate_bound(dtype, sums.magnitude[at], sums.length[at]);
  for (const EpilogueStep& step : epilogue.steps) {
    const double after = activate(step, v);
    error = activation_bound(dtype, step, v, after, error);
    v = after;
  }
  return {v, store_bound(dtype, v, error)};
}

}  // namespace upconv::test
