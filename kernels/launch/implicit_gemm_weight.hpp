// Launch of implicit_gemm_weight.cuh, what turns its tensors, and implicit_gemm_weight_sum.cuh for any batch and
// spatial size. Kernels: 0 products, 1 sum, 2 turn.
#pragma once

#include "arguments/implicit_gemm_weight.cuh"
#include "launch/tensor_map.hpp"
#include "launch/turn.hpp"
#include "launch/weight_mma.hpp"

namespace upconv::launch {

/// What the kernel was specialised for, as far as a launch depends on it. Three numbers stand for D, H, W.
struct ImplicitGemmWeightFixed {
  Int groups = 1, ci = 64, co = 64;  ///< Channels a group.
  Int kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, padding[3] = {0, 0, 0}, dilation[3] = {1, 1, 1};
  Int tile_ci = 128, tile_co = 256;              ///< Of a block.
  bool x_first = false, dy_first = false;        ///< Channels come first there: turned into the workspace.
  Int occupancy = 1;                             ///< Blocks of a multiprocessor.
  Int shared_bytes = 0, threads = 384;           ///< Of a block.
  Int sum_columns = 64, sum_slices = 1;          ///< Of a block of the sum: output channels; threads that share splits.
  int map_element = 9;                           ///< MapElement.
  double stage_cycles = 1152, leave_cycles = 0;  ///< Of a block: 64 positions; its start and its sums' way out.

  template <class Visit>
  void visit(Visit&& field) {
    field("groups", groups), field("ci", ci), field("co", co);
    field("kernel[0]", kernel[0]), field("kernel[1]", kernel[1]), field("kernel[2]", kernel[2]);
    field("stride[0]", stride[0]), field("stride[1]", stride[1]), field("stride[2]", stride[2]);
    field("padding[0]", padding[0]), field("padding[1]", padding[1]), field("padding[2]", padding[2]);
    field("dilation[0]", dilation[0]), field("dilation[1]", dilation[1]), field("dilation[2]", dilation[2]);
    field("tile_ci", tile_ci), field("tile_co", tile_co), field("occupancy", occupancy);
    field("x_first", x_first), field("dy_first", dy_first);
    field("shared_bytes", shared_bytes), field("threads", threads), field("sum_columns", sum_columns);
    field("sum_slices", sum_slices);
    field("map_element", map_element), field("stage_cycles", stage_cycles), field("leave_cycles", leave_cycles);
  }
  Int taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  Int dw_size() const { return groups * ci * co * taps(); }
  /// Blocks for one tap and one share of the positions.
  Int tiles() const { return groups * ceil_div(ci, tile_ci) * ceil_div(co, tile_co); }
};

/// Positions i of one dimension whose outputs by tap `t`, stride * i + dilation * t - padding, are inside.
struct ReachOfTap {
  Int first, end, offset;
};
inline ReachOfTap reach_of_tap(const ImplicitGemmWeightFixed& f, const Sizes& z, int dim, Int t) {
  const Int offset = f.dilation[dim] * t - f.padding[dim], s = f.stride[dim];
  const Int first = most(0, ceil_div(-offset, s));
  return {first, most(first, least(z.in[dim], floor_div(z.out[dim] - 1 - offset, s) + 1)), offset};
}

/// What a tap's maps are made for: where x and dy end.
struct EndsOfTap {
  Int x[3], dy[3];
  bool empty = false;  ///< No position reaches dy.
};
inline Int coordinate_of_tap(const ImplicitGemmWeightFixed& f, int dim, Int t) {
  return dim == 0 ? t / (f.kernel[1] * f.kernel[2]) : dim == 1 ? t / f.kernel[2] % f.kernel[1] : t % f.kernel[2];
}
inline EndsOfTap ends_of_tap(const ImplicitGemmWeightFixed& f, const Sizes& z, Int t) {
  EndsOfTap e;
  e.empty = z.batch == 0;
  for (int d = 0; d < 3; ++d) {
    const ReachOfTap r = reach_of_tap(f, z, d, coordinate_of_tap(f, d, t));
    e.x[d] = r.end, e.dy[d] = f.stride[d] * (r.end - 1) + r.offset + 1;
    e.empty |= r.end == r.first;
  }
  return e;
}

/// The maps of a launch, as they are found for one tap after another.
struct MapsOfTaps {
  Int ends[arguments::implicit_gemm_weight_maps][4];  ///< In D, H, W; and 0 for x, 1 for dy.
  int count = 0;

  /// The number of the map with these ends; it is new where that was `count`. -1: there is no room for another.
  int number(const Int (&end)[3], Int of_dy) {
    for (int i = 0; i < count; ++i)
      if (ends[i][0] == end[0] && ends[i][1] == end[1] && ends[i][2] == end[2] && ends[i][3] == of_dy) return i;
    if (count == arguments::implicit_gemm_weight_maps) return -1;
    for (int d = 0; d < 3; ++d) ends[count][d] = end[d];
    ends[count][3] = of_dy;
    return count++;
  }
};

/// Whether every launch of so many taps has room for their maps.
inline bool maps_fit(const ImplicitGemmWeightFixed& f, const Sizes& z, Int taps) {
  for (Int first = 0; first < f.taps(); first += taps) {
    MapsOfTaps maps;
    for (Int t = first; t < least(first + taps, f.taps()); ++t) {
      const EndsOfTap e = ends_of_tap(f, z, t);
      if (!e.empty && (maps.number(e.x, 0) < 0 || maps.number(e.dy, 1) < 0)) return false;
    }
  }
  return true;
}

constexpr Int implicit_gemm_weight_positions = 64;  ///< Of a box, at most.
constexpr double implicit_gemm_weight_clock_rate = 1.7e9;

struct ImplicitGemmWeightLaunch {
  const char* refusal = nullptr;
  arguments::ImplicitGemmWeight arguments{};  ///< Without taps and tensors.
  Sizes sizes{};
  Int taps = 1;        ///< Of a launch.
  Int most_boxes = 0;  ///< Of a tap.
  Int workspace_bytes = 0;
  TurnLaunch turn;
  Int turned_at = 0;     ///< In the workspace.
  double seconds = 0.0;  ///< Predicted for the whole.
};

/// The box of at most 64 positions with which all taps have the fewest boxes; of equals the one widest in W.
inline void choose_box(const ImplicitGemmWeightFixed& f, const Sizes& z, ImplicitGemmWeightLaunch& l) {
  constexpr Int all = implicit_gemm_weight_positions;
  Int boxes[3][all + 1] = {}, mosts[3][all + 1] = {}, widest[3] = {1, 1, 1};  // by positions of a box
  for (int d = 0; d < 3; ++d) {
    widest[d] = least(least(all, most(z.in[d], 1)), 255 / f.stride[d] + 1);
    for (Int t = 0; t < f.kernel[d]; ++t) {
      const ReachOfTap r = reach_of_tap(f, z, d, t);
      for (Int n = 1; n <= widest[d]; ++n) {
        const Int count = ceil_div(r.end - r.first, n);
        boxes[d][n] += count, mosts[d][n] = most(mosts[d][n], count);
      }
    }
  }
  double fewest = -1.0;
  for (Int w = widest[2]; w > 0; --w)
    for (Int h = least(widest[1], all / w); h > 0; --h)
      for (Int d = least(widest[0], all / (w * h)); d > 0; --d) {
        const Int n = least(most(z.batch, 1), all / (w * h * d));
        const double count =
            double(boxes[0][d]) * double(boxes[1][h]) * double(boxes[2][w]) * double(ceil_div(z.batch, n));
        if (fewest >= 0.0 && fewest <= count) continue;
        fewest = count;
        arguments::ImplicitGemmWeight& p = l.arguments;
        p.box_n = int(n), p.box[0] = int(d), p.box[1] = int(h), p.box[2] = int(w);
        p.boxes_n = int(ceil_div(z.batch, n));
        l.most_boxes = mosts[0][d] * mosts[1][h] * mosts[2][w] * p.boxes_n;
      }
}

/// Predicted seconds with so many taps a launch and splits of their boxes. `bytes` are those of x and dy.
inline double implicit_gemm_weight_seconds(const ImplicitGemmWeightFixed& f, Int boxes, double bytes, Int taps,
                                           Int splits, int processors) {
  const Int slots = Int(processors) * f.occupancy;
  const double each = (double(ceil_div(boxes, splits)) * f.stage_cycles + f.leave_cycles) * double(f.occupancy) /
                      implicit_gemm_weight_clock_rate;
  const auto launch = [&](Int count) {
    const double computed = double(ceil_div(count * f.tiles() * splits, slots)) * each, moved = bytes / 3.5e12;
    return count == 0 ? 0.0 : (computed > moved ? computed : moved) + 2e-6;
  };
  return double(f.taps() / taps) * launch(taps) + launch(f.taps() % taps) +
         double(f.dw_size()) * (4.0 * double(splits) + 2.0) / 3e12 +
         double(splits) / double(8 * f.sum_slices) * 0.5e-6 + 6e-6;
}

inline ImplicitGemmWeightLaunch launch_of(const ImplicitGemmWeightFixed& f, const Sizes& z, int processors) {
  ImplicitGemmWeightLaunch l;
  l.sizes = z;
  const Int limit = (Int(1) << 31) - 4096;
  for (int d = 0; d < 3; ++d)
    if (z.in[d] >= limit || z.out[d] >= limit || z.batch >= limit) l.refusal = "a size past 32-bit coordinates";
  if (l.refusal) return l;
  choose_box(f, z, l);
  arguments::ImplicitGemmWeight& p = l.arguments;
  p.batch = int(z.batch);
  for (int d = 0; d < 3; ++d) p.in[d] = int(z.in[d]), p.out[d] = int(z.out[d]);
  const double bytes =
      2.0 * double(z.batch) *
      (double(f.groups * f.ci) * double(volume(z.in)) + double(f.groups * f.co) * double(volume(z.out)));
  l.turn = turn_launch({f.x_first, false, f.groups * f.ci, volume(z.in), z.batch},
                       {f.dy_first, false, f.groups * f.co, volume(z.out), z.batch}, 2);
  l.refusal = l.turn.refusal;
  const Int dw_size = f.dw_size();
  // What is turned begins at a multiple of 256 bytes behind the sums.
  const Int room = l.turn.needed() ? weight_turned_limit(dw_size, bytes) - l.turn.bytes() - 256
                                   : weight_workspace_limit(dw_size, bytes);
  const Int most_sums = floor_div(room, 4 * dw_size);
  if (most_sums < 1)
    l.refusal = l.turn.needed() ? "sums of dw, with what is turned before, take more than training's peak allows"
                                : "sums of dw beyond 64 MiB";
  if (l.refusal) return l;
  const Int most_splits = least(least(most_sums, most(1, l.most_boxes / 8)), 4 * Int(processors));
  for (Int taps = least(f.taps(), arguments::implicit_gemm_weight_taps); taps > 0; --taps) {
    if (!maps_fit(f, z, taps)) continue;
    for (Int splits = 1; splits <= most_splits; ++splits) {
      const double seconds = implicit_gemm_weight_seconds(f, l.most_boxes, bytes, taps, splits, processors);
      if (l.seconds > 0.0 && l.seconds <= seconds) continue;
      l.seconds = seconds, l.taps = taps, p.splits = int(splits);
    }
  }
  if (l.taps * f.tiles() * p.splits > 0x7fffffff) l.refusal = "more than 2^31 blocks";
  if (f.groups * f.ci * ceil_div(f.co, f.sum_columns) > 0x7fffffff) l.refusal = "more than 2^31 blocks of the sum";
  l.seconds += l.turn.seconds();
  l.turned_at = ceil_div(p.splits * dw_size * 4, 256) * 256;
  l.workspace_bytes = l.turn.needed() ? l.turned_at + l.turn.bytes() : p.splits * dw_size * 4;
  return l;
}

/// x or dy of `channels` channels as bulk copies take it: 64 channels of a box's positions, every `step`-th, up to
/// `end`.
inline TensorBoxes position_boxes(const ImplicitGemmWeightFixed& f, const arguments::ImplicitGemmWeight& p,
                                  const void* base, Int channels, const int (&size)[3], const Int (&end)[3],
                                  const Int (&step)[3]) {
  TensorBoxes b;
  b.base = base, b.element = static_cast<MapElement>(f.map_element), b.swizzle = MapSwizzle::bytes_128;
  const Int row = channels * 2;
  return b.dimension(channels, 0, 64)
      .dimension(end[2], row, p.box[2], step[2])
      .dimension(end[1], row * size[2], p.box[1], step[1])
      .dimension(end[0], row * size[2] * size[1], p.box[0], step[0])
      .dimension(p.batch, row * size[2] * size[1] * size[0], p.box_n);
}

/// What the launch is told of tap `t`, its `i`-th; `p.plain` where there are no maps. False where encoding fails.
template <class Start>
bool describe_tap(const ImplicitGemmWeightFixed& f, const Sizes& z, arguments::ImplicitGemmWeight& p, MapsOfTaps& maps,
                  Int t, int i, Start& start) {
  for (int d = 0; d < 3; ++d) {
    const ReachOfTap r = reach_of_tap(f, z, d, coordinate_of_tap(f, d, t));
    p.first[i][d] = int(r.first), p.end[i][d] = int(r.end), p.boxes[i][d] = int(ceil_div(r.end - r.first, p.box[d]));
  }
  const EndsOfTap e = ends_of_tap(f, z, t);
  if (e.empty || p.plain) return true;
  const Int ones[3] = {1, 1, 1};
  const TensorBoxes x = position_boxes(f, p, p.x, f.groups * f.ci, p.in, e.x, ones),
                    dy = position_boxes(f, p, p.dy, f.groups * f.co, p.out, e.dy, f.stride);
  if (refusal_of(x) || refusal_of(dy)) {
    p.plain = 1;
    return true;
  }
  const auto map = [&](const Int(&end)[3], Int of_dy, const TensorBoxes& boxes, unsigned char& number) {
    const int before = maps.count, found = maps.number(end, of_dy);
    number = static_cast<unsigned char>(found);
    return found < before || encode_map(start, p.maps[found], boxes);
  };
  return map(e.x, 0, x, p.x_map[i]) && map(e.dy, 1, dy, p.dy_map[i]);
}

template <class Start>
bool run(const ImplicitGemmWeightFixed& f, const ImplicitGemmWeightLaunch& l, const Tensors& t, void* workspace,
         Start&& start) {
  arguments::ImplicitGemmWeight p = l.arguments;
  const void* tensors[2] = {t.a, t.b};
  if (!run(l.turn, tensors, static_cast<char*>(workspace) + l.turned_at, 2, start)) return false;
  p.x = static_cast<const char*>(tensors[0]), p.dy = static_cast<const char*>(tensors[1]);
  p.sums = static_cast<float*>(workspace);
  for (Int first = 0; first < f.taps(); first += l.taps) {
    p.first_tap = int(first), p.taps = int(least(l.taps, f.taps() - first));
    MapsOfTaps maps;
    for (int i = 0; i < p.taps; ++i)
      if (!describe_tap(f, l.sizes, p, maps, first + i, i, start)) return false;
    void* list[] = {&p};
    const Int blocks = Int(p.taps) * f.tiles() * p.splits;
    if (!start(0, Shape{unsigned(blocks), unsigned(f.threads), unsigned(f.shared_bytes)}, list)) return false;
  }
  int splits = p.splits;
  void* dw = t.out;
  void* list[] = {&workspace, &dw, &splits};
  return start(1, Shape{unsigned(f.groups * f.ci * ceil_div(f.co, f.sum_columns)), 256, 0}, list);
}

}  // namespace upconv::launch
