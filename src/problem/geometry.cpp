// Phase decomposition and its neighbours; docs/algorithm.md derives them.
#include "problem/geometry.hpp"

#include <algorithm>

namespace upconv {
namespace {

/// Floor and ceiling of a / b for b > 0 and any a.
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return -floor_div(-a, b); }

}  // namespace

Geometry make_geometry(const Problem& p) {
  Geometry g;
  g.batch = p.batch;
  g.groups = p.groups;
  g.ci = p.in_channels / p.groups;
  g.co = p.out_channels / p.groups;
  const Extent out = output_size(p);
  g.in = g.out = g.kernel = g.stride = g.dilation = {1, 1, 1};
  g.padding = {0, 0, 0};
  const int skip = max_rank - p.rank;
  for (int d = 0; d < p.rank; ++d) {
    g.in[skip + d] = p.input[d];
    g.out[skip + d] = out[d];
    g.kernel[skip + d] = p.kernel[d];
    g.stride[skip + d] = p.stride[d];
    g.padding[skip + d] = p.padding[d];
    g.dilation[skip + d] = p.dilation[d];
  }
  return g;
}

std::vector<Phase> make_phases(const Geometry& g, int dim) {
  const std::int64_t s = g.stride[dim], p = g.padding[dim], d = g.dilation[dim];
  std::vector<Phase> phases(static_cast<std::size_t>(s));
  for (std::int64_t r = 0; r < s; ++r) {
    Phase& phase = phases[static_cast<std::size_t>(r)];
    phase.residue = r;
    phase.q_begin = ceil_div(p - r, s);             // smallest q with s*q + r - p >= 0
    phase.q_end = ceil_div(g.out[dim] + p - r, s);  // smallest q with s*q + r - p >= out
    phase.q_end = std::max(phase.q_end, phase.q_begin);
  }
  for (std::int64_t t = 0; t < g.kernel[dim]; ++t)
    phases[static_cast<std::size_t>(d * t % s)].taps.push_back({t, d * t / s});
  return phases;
}

Range tap_inputs(const Geometry& g, int dim, std::int64_t tap) {
  const std::int64_t shift = g.dilation[dim] * tap - g.padding[dim];
  Range r;
  r.begin = std::clamp<std::int64_t>(ceil_div(-shift, g.stride[dim]), 0, g.in[dim]);
  r.end = std::clamp<std::int64_t>(ceil_div(g.out[dim] - shift, g.stride[dim]), r.begin, g.in[dim]);
  return r;
}

WeightStrides weight_strides(const Problem& p, const Geometry& g) {
  const auto& k = g.kernel;
  if (p.w_layout == Layout::channels_last) return {g.taps() * g.co, 1, {k[1] * k[2] * g.co, k[2] * g.co, g.co}};
  return {g.co * g.taps(), g.taps(), {k[1] * k[2], k[2], 1}};
}

}  // namespace upconv
