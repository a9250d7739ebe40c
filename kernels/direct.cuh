// Every pass by its definition: any rank, stride, dilation, groups, layout and dtype; src/cuda/direct.cpp launches it.
// The problem is a parameter, so one compilation serves every problem of a dtype. fp32 products are FFMA.
//   direct_gather  y or dx: a thread computes config::block channels of one position, summing over the taps that reach
//   it direct_weight  dw: a block sums a tile of channel pairs of one tap over positions, thread by thread, then as a
//   tree direct_bias    db: a block sums a channel over positions likewise
// Host preamble: Element, Index (int where every number below fits, else long long), forward, block, tile_i, tile_o (of
// a thread), across_i, across_o (tiles side by side in a warp, so that its lanes share lines of channels_last tensors).
#pragma once

#include "arguments/direct.cuh"
#include "ptx/dependents.cuh"
#include "types.cuh"

namespace upconv {

using config::Element;
using config::Index;
typedef Number<Element>::Sum Sum;

typedef arguments::DirectTensor Tensor;
typedef arguments::Direct Shape;

/// Quotients of non-negative numbers. Most divisors are the same for all threads, and many of them are 1.
__device__ __forceinline__ int divide(int a, int b) {
  if (b == 1) return a;
  return static_cast<int>(static_cast<u32>(a) / static_cast<u32>(b));
}
/// 64-bit division is many times a 32-bit one, and the numbers rarely need it.
__device__ __forceinline__ i64 divide(i64 a, i64 b) {
  if (((a | b) >> 32) == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}
__device__ __forceinline__ i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
/// Takes the last digit, in base `size`, off `rest`.
template <class I>
__device__ __forceinline__ I digit(I& rest, I size) {
  const I q = divide(rest, size), r = rest - q * size;
  rest = q;
  return r;
}

/// The taps of one dimension that one position takes part in: tap + m * tap_step meets source + m * source_step.
struct Run {
  Index tap, source, count;
};

/// Inputs i and taps t with stride * i + dilation * t = o + padding.
__device__ __forceinline__ Run inputs_of(const Shape& s, int k, Index o) {
  const Index stride = s.stride[k], step = s.tap_step[k], taps = s.kernel[k], shift = s.shift[k];
  const Index v = o + Index(s.padding[k]), q = divide(v, stride), residue = v - q * stride;
  Index t = 0, i = q;                     // stride * i + dilation * t = v - residue + r
  for (Index r = 0; r != residue; ++t) {  // the first tap of this phase, among the `step` taps before residues repeat
    if (t + 1 >= step || t + 1 >= taps) return {0, 0, 0};
    const bool carry = r >= stride - shift;
    r = carry ? r - (stride - shift) : r + shift;
    i -= Index(s.back[k]) + Index(carry);
    if (i < 0) return {0, 0, 0};
  }
  const Index back = s.source_step[k];
  const Index by_input = divide(i, back), by_tap = divide(taps - 1 - t, step);
  const Index last = by_input < by_tap ? by_input : by_tap;
  const Index first = i < Index(s.in[k]) ? 0 : divide(i - Index(s.in[k]), back) + 1;
  return {t + first * step, i - first * back, first > last ? 0 : last - first + 1};
}

/// Outputs o and taps t with o = stride * i + dilation * t - padding.
__device__ __forceinline__ Run outputs_of(const Shape& s, int k, Index i) {
  const Index dilation = s.dilation[k], base = Index(s.stride[k]) * i - Index(s.padding[k]);
  const Index room = Index(s.out[k]) - 1 - base;
  const Index first = base >= 0 ? 0 : divide(-base - 1, dilation) + 1;
  if (room < 0 || first >= Index(s.kernel[k])) return {0, 0, 0};
  const Index by_output = divide(room, dilation), by_tap = Index(s.kernel[k]) - 1;
  const Index last = by_output < by_tap ? by_output : by_tap;
  return {first, base + dilation * first, first > last ? 0 : last - first + 1};
}

/// Inputs i for which tap t lands inside the output.
__device__ __forceinline__ void inputs_of_tap(const Shape& s, int k, Index t, Index& begin, Index& count) {
  const Index shift = Index(s.dilation[k]) * t - Index(s.padding[k]), room = Index(s.out[k]) - 1 - shift;
  begin = shift >= 0 ? 0 : divide(-shift - 1, Index(s.stride[k])) + 1;
  Index end = room < 0 ? 0 : divide(room, Index(s.stride[k])) + 1;
  if (end > Index(s.in[k])) end = s.in[k];
  count = end > begin ? end - begin : 0;
}

/// Sums `count` values over those threads of a block of 256 that are equal modulo `across`: in thread
/// k * count + j, k < across, the sum of value[j] over threads k, k + across, ...
template <int across, int count>
__device__ __forceinline__ Sum block_sum(Sum (&value)[count]) {
  __shared__ Sum warps[8][across][count];
#pragma unroll
  for (int j = 0; j < count; ++j)
#pragma unroll
    for (int distance = 16; distance >= across; distance /= 2)
      value[j] += __shfl_down_sync(0xffffffffu, value[j], distance);
  __syncthreads();  // the values of the sum before have been read
  if (threadIdx.x % 32 < across)
#pragma unroll
    for (int j = 0; j < count; ++j) warps[threadIdx.x / 32][threadIdx.x % 32][j] = value[j];
  __syncthreads();
  Sum total = 0;
  if (threadIdx.x < across * count)
    for (int i = 0; i < 8; ++i) total += warps[i][threadIdx.x / count][threadIdx.x % count];
  return total;
}

}  // namespace upconv

extern "C" __global__ void __launch_bounds__(256, 2)
    direct_gather(const upconv::Shape s, const config::Element* source, const config::Element* w,
                  const config::Element* bias, config::Element* __restrict__ result, const config::Operands operands) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  constexpr bool forward = config::forward;
  constexpr int block = config::block;
  const Tensor& from = forward ? s.x : s.y;
  const Tensor& to = forward ? s.y : s.x;
  const i64* size = forward ? s.out : s.in;
  const Index results = forward ? s.co : s.ci, sources = forward ? s.ci : s.co;
  const Index w_source = forward ? s.w_ci : s.w_co, w_result = forward ? s.w_co : s.w_ci;
  const Index source_c = from.c;
  const Index blocks = divide(results + Index(block - 1), Index(block));
  const Index items = Index(s.batch) * Index(s.groups) * blocks * Index(size[0]) * Index(size[1]) * Index(size[2]);
  const Index stride = Index(gridDim.x) * 256;

  for (Index item = Index(blockIdx.x) * 256 + Index(threadIdx.x); item < items; item += stride) {
    Index rest = item, first = 0, group = 0, at[3];
    if (s.channels_fast) {
      first = digit(rest, blocks) * Index(block);
      group = digit(rest, Index(s.groups));
    }
#pragma unroll
    for (int k = 2; k >= 0; --k) at[k] = digit(rest, Index(size[k]));
    if (!s.channels_fast) {
      first = digit(rest, blocks) * Index(block);
      group = digit(rest, Index(s.groups));
    }
    Run run[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) run[k] = forward ? inputs_of(s, k, at[k]) : outputs_of(s, k, at[k]);

    Index offset[block];  // channels past the last repeat it, and are not stored
#pragma unroll
    for (int j = 0; j < block; ++j) offset[j] = (first + j < results ? Index(j) : results - 1 - first) * w_result;
    const Element* sources_at = source + (rest * Index(from.n) + group * sources * source_c);
    const Element* weights_at = w + (group * Index(s.ci) * Index(s.w_ci) + first * w_result);
    Sum sum[block] = {};
    for (Index a = 0; a < run[0].count; ++a)
      for (Index b = 0; b < run[1].count; ++b)
        for (Index c = 0; c < run[2].count; ++c) {
          const Index m[3] = {a, b, c};
          Index source_offset = 0, w_offset = 0;
#pragma unroll
          for (int k = 0; k < 3; ++k) {
            const Index back = forward ? -Index(s.source_step[k]) : Index(s.dilation[k]);
            const Index on = forward ? Index(s.tap_step[k]) : Index(1);
            source_offset += (run[k].source + m[k] * back) * Index(from.at[k]);
            w_offset += (run[k].tap + m[k] * on) * Index(s.w_tap[k]);
          }
          const Element* v = sources_at + source_offset;
          const Element* u = weights_at + w_offset;
          Sum tap[block] = {};  // sums of one tap apart: shorter chains, smaller error
#pragma unroll 4
          for (Index c2 = 0; c2 < sources; ++c2) {
            const Sum value = to_float(v[c2 * source_c]);
#pragma unroll
            for (int j = 0; j < block; ++j) tap[j] += value * to_float(u[c2 * w_source + offset[j]]);
          }
#pragma unroll
          for (int j = 0; j < block; ++j) sum[j] += tap[j];
        }

    const Index channel = group * results + first;
    Element* out = result + (rest * Index(to.n) + channel * Index(to.c) + at[0] * Index(to.at[0]) +
                             at[1] * Index(to.at[1]) + at[2] * Index(to.at[2]));
#pragma unroll
    for (int j = 0; j < block; ++j) {
      if (first + j >= results) break;
      Sum value = sum[j];
      if (forward) {
        if (bias) value += to_float(bias[channel + j]);
        value = config::epilogue(value, operands, int(rest), int(channel) + j, out - result + j * i64(to.c));
      }
      out[j * Index(to.c)] = from_float<Element>(value);
    }
  }
}

/// `parts` holds `splits` copies of dw's elements in its own order, to be added up by ordered_sum; null: write dw.
extern "C" __global__ void __launch_bounds__(256, sizeof(config::Index) == 4 && config::across_i == 1 ? 2 : 1)
    direct_weight(const upconv::Shape s, const config::Element* x, const config::Element* dy,
                  upconv::Sum* __restrict__ parts, config::Element* __restrict__ dw, const upconv::i64 splits) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  constexpr int tile_i = config::tile_i, tile_o = config::tile_o, chain = 64;
  constexpr int across_i = config::across_i, across_o = config::across_o, across = across_i * across_o;
  constexpr int block_i = tile_i * across_i, block_o = tile_o * across_o, lanes = 256 / across;
  const int lane = int(threadIdx.x) / across;  // of those that share out the positions
  const int own_i = int(threadIdx.x) % across / across_o * tile_i, own_o = int(threadIdx.x) % across_o * tile_o;
  const i64 tiles_i = (s.ci + block_i - 1) / block_i, tiles_o = (s.co + block_o - 1) / block_o;
  const i64 taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  const i64 elements = s.groups * s.ci * s.co * taps, items = splits * s.groups * tiles_i * tiles_o * taps;

  for (i64 item = blockIdx.x; item < items; item += gridDim.x) {
    i64 rest = item, tap[3];
#pragma unroll
    for (int k = 2; k >= 0; --k) tap[k] = digit(rest, s.kernel[k]);
    const i64 first_o = digit(rest, tiles_o) * block_o, first_i = digit(rest, tiles_i) * block_i;
    const i64 group = digit(rest, s.groups), split = rest;

    Index begin[3], count[3], base = 0;  // base: dy's offset where every input coordinate is 0
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      inputs_of_tap(s, k, Index(tap[k]), begin[k], count[k]);
      base += (Index(s.dilation[k]) * Index(tap[k]) - Index(s.padding[k])) * Index(s.y.at[k]);
    }
    const Index positions = Index(s.batch) * count[0] * count[1] * count[2];
    const Index share = divide(positions + Index(splits - 1), Index(splits));
    const Index from = share * Index(split) < positions ? share * Index(split) : positions;
    const Index to = from + share < positions ? from + share : positions;

    Index x_channel[tile_i], y_channel[tile_o];  // channels past the last repeat it, and are not stored
#pragma unroll
    for (int j = 0; j < tile_i; ++j)
      x_channel[j] = Index(group * s.ci + smaller(first_i + own_i + j, s.ci - 1)) * Index(s.x.c);
#pragma unroll
    for (int j = 0; j < tile_o; ++j)
      y_channel[j] = Index(group * s.co + smaller(first_o + own_o + j, s.co - 1)) * Index(s.y.c);

    Sum sum[tile_i * tile_o] = {};
    if (from < to) {
      Index at[4], step[4], start = from + Index(lane), jump = lanes;  // (n, d, h, w) and as many positions on
#pragma unroll
      for (int k = 3; k > 0; --k) {
        at[k] = digit(start, count[k - 1]);
        step[k] = digit(jump, count[k - 1]);
      }
      at[0] = start;
      step[0] = jump;
      Index left = to - from > Index(lane) ? divide(to - from - Index(lane) + Index(lanes - 1), Index(lanes)) : 0;
      while (left > 0) {
        Sum part[tile_i * tile_o] = {};
        const int links = left < chain ? int(left) : chain;
        for (int link = 0; link < links; ++link) {
          Index x_at = at[0] * Index(s.x.n), y_at = base + at[0] * Index(s.y.n);
#pragma unroll
          for (int k = 0; k < 3; ++k) {
            const Index i = begin[k] + at[k + 1];
            x_at += i * Index(s.x.at[k]);
            y_at += i * Index(s.stride[k]) * Index(s.y.at[k]);
          }
          Sum u[tile_i], v[tile_o];
#pragma unroll
          for (int j = 0; j < tile_i; ++j) u[j] = to_float(x[x_at + x_channel[j]]);
#pragma unroll
          for (int j = 0; j < tile_o; ++j) v[j] = to_float(dy[y_at + y_channel[j]]);
#pragma unroll
          for (int i = 0; i < tile_i; ++i)
#pragma unroll
            for (int o = 0; o < tile_o; ++o) part[i * tile_o + o] += u[i] * v[o];
#pragma unroll
          for (int k = 3; k > 0; --k) {
            at[k] += step[k];
            if (at[k] >= count[k - 1]) {
              at[k] -= count[k - 1];
              ++at[k - 1];
            }
          }
          at[0] += step[0];
        }
        left -= links;
#pragma unroll
        for (int j = 0; j < tile_i * tile_o; ++j) sum[j] += part[j];
      }
    }

    const Sum total = block_sum<across>(sum);
    const int k = int(threadIdx.x) / (tile_i * tile_o), j = int(threadIdx.x) % (tile_i * tile_o);
    const i64 i = first_i + k / across_o * tile_i + j / tile_o, o = first_o + k % across_o * tile_o + j % tile_o;
    if (k < across && i < s.ci && o < s.co) {
      const i64 e =
          (group * s.ci + i) * s.w_ci + o * s.w_co + tap[0] * s.w_tap[0] + tap[1] * s.w_tap[1] + tap[2] * s.w_tap[2];
      if (parts)
        parts[split * elements + e] = total;
      else
        dw[e] = from_float<Element>(total);
    }
  }
}

/// `parts` as above, `splits` copies of db's elements.
extern "C" __global__ void __launch_bounds__(256)
    direct_bias(const upconv::Shape s, const config::Element* dy, upconv::Sum* __restrict__ parts,
                config::Element* __restrict__ db, const upconv::i64 splits) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  const i64 channels = s.groups * s.co, volume = s.out[0] * s.out[1] * s.out[2], positions = s.batch * volume;
  const i64 share = (positions + splits - 1) / splits;
  for (i64 item = blockIdx.x; item < channels * splits; item += gridDim.x) {
    const i64 channel = item % channels, split = item / channels;
    const i64 from = share * split < positions ? share * split : positions;
    const i64 to = from + share < positions ? from + share : positions;
    Sum sum[1] = {};
    for (i64 p = from + threadIdx.x; p < to;) {
      Sum part = 0;
      for (int link = 0; link < 64 && p < to; ++link, p += 256) {
        const i64 n = divide(p, volume);
        part += to_float(dy[n * s.y.n + channel * s.y.c + (p - n * volume) * s.y.at[2]]);
      }
      sum[0] += part;
    }
    const Sum total = block_sum<1>(sum);
    if (threadIdx.x == 0) {
      if (parts)
        parts[split * channels + channel] = total;
      else
        db[channel] = from_float<Element>(total);
    }
  }
}
