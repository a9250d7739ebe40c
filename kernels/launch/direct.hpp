// Launch of direct.cuh for any batch and spatial size. Its kernels take the whole problem by value. Kernels: 0
// direct_gather, direct_weight or direct_bias, 1 ordered_sum.
#pragma once

#include "arguments/direct.cuh"
#include "launch/ordered_sum.hpp"

namespace upconv::launch {

constexpr Int direct_threads = 256, direct_most_blocks = 1 << 20;
/// Products that one thread of a weight or bias block adds up: 64 chains of 64.
constexpr Int direct_longest_chain = 4096;

struct DirectFixed {
  Int which = 0;        ///< 0 forward, 1 dx, 2 dw, 3 db
  bool narrow = false;  ///< Indices of 32 bits.
  bool x_last = false, y_last = false, channels_fast = false;
  Int groups = 1, ci = 1, co = 1;  ///< Channels a group.
  Int kernel_d = 1, kernel_h = 1, kernel_w = 1, stride_d = 1, stride_h = 1, stride_w = 1;
  Int padding_d = 0, padding_h = 0, padding_w = 0, dilation_d = 1, dilation_h = 1, dilation_w = 1;
  Int w_ci = 0, w_co = 0, w_tap_d = 0, w_tap_h = 0, w_tap_w = 0;          ///< Element strides of the weights.
  Int block = 1;                                                          ///< forward, dx: channels of a thread.
  Int tile_i = 1, tile_o = 1, across_i = 1, across_o = 1, sum_bytes = 4;  ///< dw: channels of a thread, threads across.
  Int workspace_limit = 64 << 20;

  template <class Visit>
  void visit(Visit&& field) {
    field("which", which), field("narrow", narrow), field("x_last", x_last), field("y_last", y_last);
    field("channels_fast", channels_fast), field("groups", groups), field("ci", ci), field("co", co);
    field("kernel_d", kernel_d), field("kernel_h", kernel_h), field("kernel_w", kernel_w);
    field("stride_d", stride_d), field("stride_h", stride_h), field("stride_w", stride_w);
    field("padding_d", padding_d), field("padding_h", padding_h), field("padding_w", padding_w);
    field("dilation_d", dilation_d), field("dilation_h", dilation_h), field("dilation_w", dilation_w);
    field("w_ci", w_ci), field("w_co", w_co);
    field("w_tap_d", w_tap_d), field("w_tap_h", w_tap_h), field("w_tap_w", w_tap_w);
    field("block", block), field("tile_i", tile_i), field("tile_o", tile_o);
    field("across_i", across_i), field("across_o", across_o), field("sum_bytes", sum_bytes);
    field("workspace_limit", workspace_limit);
  }
};

struct DirectLaunch {
  const char* refusal = nullptr;
  arguments::Direct arguments{};
  unsigned grid = 0;  ///< 0: nothing to do.
  Int elements = 0, splits = 1;
  Int workspace_bytes = 0;
};

inline arguments::Direct direct_arguments(const DirectFixed& f, const Sizes& z) {
  const Int kernel[3] = {f.kernel_d, f.kernel_h, f.kernel_w}, stride[3] = {f.stride_d, f.stride_h, f.stride_w};
  const Int padding[3] = {f.padding_d, f.padding_h, f.padding_w};
  const Int dilation[3] = {f.dilation_d, f.dilation_h, f.dilation_w};
  const Int w_tap[3] = {f.w_tap_d, f.w_tap_h, f.w_tap_w};
  arguments::Direct s{};
  s.batch = z.batch, s.groups = f.groups, s.ci = f.ci, s.co = f.co;
  s.w_ci = f.w_ci, s.w_co = f.w_co;
  for (int k = 0; k < 3; ++k) {
    s.in[k] = z.in[k], s.out[k] = z.out[k], s.kernel[k] = kernel[k], s.padding[k] = padding[k];
    s.stride[k] = z.in[k] == 1 ? 1 : stride[k];
    s.dilation[k] = kernel[k] == 1 ? 1 : dilation[k];
    Int common = s.stride[k], rest = s.dilation[k];  // gcd
    while (rest != 0) {
      const Int next = common % rest;
      common = rest, rest = next;
    }
    s.tap_step[k] = s.stride[k] / common;
    s.source_step[k] = s.dilation[k] / common;
    s.back[k] = s.dilation[k] / s.stride[k];
    s.shift[k] = s.dilation[k] % s.stride[k];
    s.w_tap[k] = w_tap[k];
  }
  const arguments::Strides x = dense_strides(f.x_last, f.groups * f.ci, z.in);
  const arguments::Strides y = dense_strides(f.y_last, f.groups * f.co, z.out);
  s.x = {x.n, x.c, {x.d, x.h, x.w}};
  s.y = {y.n, y.c, {y.d, y.h, y.w}};
  s.channels_fast = f.channels_fast;
  return s;
}

/// Whether every index and every sum of two of them stays inside 32 bits.
inline bool direct_fits_32_bits(const DirectFixed& f, const Sizes& z, const arguments::Direct& s) {
  const double limit = 1 << 30;
  double reach = 0.0;  // in elements of dy, padding included
  for (int k = 0; k < 3; ++k) {
    const double span = double(s.stride[k]) * double(z.in[k]) + double(s.dilation[k]) * double(s.kernel[k]) +
                        2.0 * double(s.padding[k]) + double(z.out[k]);
    if (span >= limit) return false;
    reach += span * double(s.y.at[k]);
  }
  const double batch = double(most(z.batch, 1)), in_channels = double(f.groups * f.ci);
  return reach < limit && batch * in_channels * double(volume(z.in)) < limit &&
         batch * double(f.groups * f.co) * double(volume(z.out)) < limit &&
         in_channels * double(f.co) * double(s.kernel[0] * s.kernel[1] * s.kernel[2]) < limit;
}

inline DirectLaunch launch_of(const DirectFixed& f, const Sizes& z, int processors) {
  DirectLaunch l;
  l.arguments = direct_arguments(f, z);
  const arguments::Direct& s = l.arguments;
  if (f.narrow && f.which < 3 && !direct_fits_32_bits(f, z, s)) {
    l.refusal = "numbers past the 32-bit indices it was compiled with";
    return l;
  }
  const auto grid = [](Int blocks) { return static_cast<unsigned>(least(most(blocks, 1), direct_most_blocks)); };
  if (f.which < 2) {
    const Int items = z.batch * f.groups * ceil_div(f.which == 0 ? f.co : f.ci, f.block) *
                      (f.which == 0 ? volume(z.out) : volume(z.in));
    l.grid = items == 0 ? 0 : grid(ceil_div(items, direct_threads));
    return l;
  }
  const bool weight = f.which == 2;
  const Int taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  l.elements = weight ? f.groups * f.ci * f.co * taps : f.groups * f.co;
  const Int tiles =
      weight ? f.groups * ceil_div(f.ci, f.tile_i * f.across_i) * ceil_div(f.co, f.tile_o * f.across_o) * taps
             : l.elements;
  const Int positions = z.batch * (weight ? volume(z.in) : volume(z.out)), part = l.elements * f.sum_bytes;
  const Int lanes = direct_threads / (f.across_i * f.across_o);
  const Int for_chip = least(ceil_div(Int{8} * processors, tiles), ceil_div(positions, 4 * lanes));
  const Int for_accuracy = ceil_div(positions, lanes * direct_longest_chain);
  l.splits = least(most(most(for_chip, for_accuracy), 1), most(f.workspace_limit / part, 1));
  l.workspace_bytes = l.splits > 1 ? l.splits * part : 0;
  l.grid = grid(tiles * l.splits);
  return l;
}

template <class Start>
bool run(const DirectFixed& f, const DirectLaunch& l, const Tensors& t, void* workspace, Start&& start) {
  if (l.grid == 0) return true;
  arguments::Direct shape = l.arguments;
  const void *a = t.a, *b = t.b, *bias = t.bias;
  void *result = t.out, *parts = l.splits > 1 ? workspace : nullptr;
  Int splits = l.splits;
  const Shape launch{l.grid, static_cast<unsigned>(direct_threads), 0};
  if (f.which < 2) {
    void* list[] = {&shape, &a, &b, &bias, &result, operands_of(t)};
    return start(0, launch, list);
  }
  void* of_weight[] = {&shape, &a, &b, &parts, &result, &splits};
  void* of_bias[] = {&shape, &a, &parts, &result, &splits};
  if (!start(0, launch, f.which == 2 ? of_weight : of_bias)) return false;
  return l.splits == 1 || run_ordered_sum(start, 1, parts, result, l.elements, l.splits);
}

}  // namespace upconv::launch
