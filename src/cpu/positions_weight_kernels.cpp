// dw of cpu_positions: the tables are those of dx (dy split by residues is the source), but the local destination tile
// holds x, zero where a run passes over the halo. Register tiles of 1 to 4 rows of x by 3 to 9 shifted rows of dy run
// over the positions of a box; one horizontal sum a box adds to the partial dw of its slot, and slots are added in
// order. Floor: as for dx, 12 multiply-adds per 7 loads; with one channel a group the loads bound it, or memory.
// Compiled once per instruction set.
#include "cpu/lane_sums.hpp"
#include "cpu/positions.hpp"
#include "cpu/positions_box.hpp"
#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

constexpr int taps_of(int rows) { return rows == 1 ? 9 : rows == 2 ? 6 : rows == 3 ? 4 : 3; }

/// Rows of x against taps of dy over all runs of a box: out[r * out_pitch + k] = sum of x_r * dy_k.
template <class T>
struct Products {
  const PositionsTile* tile;
  const T* x;
  const T* dy[12];
  T out[12];  ///< [row][tap]
};

template <class T, int R, int K>
void products(Products<T>& p) {
  constexpr int L = lanes<T>;
  const PositionsTile& t = *p.tile;
  Vec<T> acc[R][K]{};
  for (std::int64_t n = 0; n < t.runs[0]; ++n)
    for (std::int64_t d = 0; d < t.runs[1]; ++d)
      for (std::int64_t h = 0; h < t.runs[2]; ++h) {
        const T* x = p.x + n * t.destination_run[0] + d * t.destination_run[1] + h * t.destination_run[2];
        const std::int64_t from = n * t.source_run[0] + d * t.source_run[1] + h * t.source_run[2];
        const T* dy[K];
#pragma GCC unroll 9
        for (int k = 0; k < K; ++k) dy[k] = p.dy[k] + from;
#pragma GCC unroll 1
        for (std::int64_t i = 0; i < t.run_length; i += L) {
          Vec<T> a[R];
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) a[r] = load_held(x + r * t.destination_pitch + i);
#pragma GCC unroll 9
          for (int k = 0; k < K; ++k) {
            const Vec<T> b = load_held(dy[k] + i);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) acc[r][k] += a[r] * b;
          }
        }
      }
  sum_lanes(acc, p.out);
}

template <class T, int R, int K>
static inline void choose_products(int taps, Products<T>& p) {
  if constexpr (K > 1) {
    if (taps < K) return choose_products<T, R, K - 1>(taps, p);
  }
  products<T, R, K>(p);
}
template <class T>
static inline void choose_products(int rows, int taps, Products<T>& p) {
  switch (rows) {
    case 1:
      return choose_products<T, 1, taps_of(1)>(taps, p);
    case 2:
      return choose_products<T, 2, taps_of(2)>(taps, p);
    case 3:
      return choose_products<T, 3, taps_of(3)>(taps, p);
    default:
      return choose_products<T, 4, taps_of(4)>(taps, p);
  }
}

template <class S>
struct WeightTask : Box<S> {
  typedef typename Box<S>::T T;
  using Box<S>::job, Box<S>::group, Box<S>::sample, Box<S>::origin, Box<S>::tile, Box<S>::result;
  const S* x;
  std::int64_t first_row, rows;

  WeightTask(const PositionsJob& j, const void* x_, const void* dy, std::int64_t box, std::int64_t group_,
             std::int64_t part, void* scratch)
      : Box<S>(j, dy, nullptr, nullptr, place_box(j, box, group_), scratch), x(static_cast<const S*>(x_)) {
    first_row = job.rows * part / job.row_parts;
    rows = job.rows * (part + 1) / job.row_parts - first_row;
  }

  std::int64_t valid(int dim) const {
    const std::int64_t left = job.tile.end[dim] - origin[dim];
    return left < job.tile.size[dim + 1] ? left : job.tile.size[dim + 1];
  }

  /// The task's rows of x in the layout of the runs; everything between them is zero.
  void copy_x() const {
    const PositionsTile& t = job.tile;
    const PositionsTensor& v = job.destination;
    for (std::int64_t r = 0; r < rows; ++r) {
      T* row = result + r * t.destination_pitch;
      zero_row(row, t.destination_pitch);
      const S* from = x + (group * v.channels + first_row + r) * v.c + origin[2] * v.d[2];
      for (std::int64_t n = 0; n < t.size[0] && sample + n < job.batch; ++n)
        for (std::int64_t d = 0; d < valid(0); ++d)
          for (std::int64_t h = 0; h < valid(1); ++h) {
            const S* line = from + (sample + n) * v.n + (origin[0] + d) * v.d[0] + (origin[1] + h) * v.d[1];
            if (v.d[2] == 1 && r + 1 < rows) fetch_ahead<0>(line + v.c, valid(2));
            gather_row(line, v.d[2], row + n * t.place[0] + d * t.place[1] + h * t.place[2], valid(2));
          }
    }
  }

  /// One product again, over the positions where the tap lies inside dy only: zeros times infinity made a NaN, or
  /// the data hold one.
  T exact_product(std::int64_t row, const T* dy, std::int64_t step) const {
    const PositionsTile& t = job.tile;
    const PositionsTensor& v = job.source;
    const std::int32_t* position = job.step_position + 4 * step;
    const std::int32_t* residue = job.residue + 3 * position[0];
    std::int64_t begin[3], end[3];
    for (int d = 0; d < 3; ++d) {
      begin[d] = 0, end[d] = valid(d);
      const auto at = [&](std::int64_t i) { return (origin[d] + i + position[1 + d]) * v.step[d] + residue[d]; };
      while (begin[d] < end[d] && at(begin[d]) < 0) ++begin[d];
      while (begin[d] < end[d] && at(end[d] - 1) >= v.size[d]) --end[d];
    }
    T total = T(0);
    for (std::int64_t n = 0; n < t.size[0] && sample + n < job.batch; ++n)
      for (std::int64_t d = begin[0]; d < end[0]; ++d)
        for (std::int64_t h = begin[1]; h < end[1]; ++h) {
          const T* a = result + row * t.destination_pitch + n * t.place[0] + d * t.place[1] + h * t.place[2];
          const T* b = dy + n * t.source_run[0] + d * t.source_run[1] + h * t.source_run[2];
          for (std::int64_t w = begin[2]; w < end[2]; ++w) total += a[w] * b[w];
        }
    return total;
  }

  /// Adds the box's products of channels [first, first + count) to partial[row][channel][step].
  void multiply(std::int64_t first, std::int64_t count, T* partial) const {
    const PositionsTile& t = job.tile;
    const std::int64_t steps = job.steps, pairs = count * steps, row_blocks = (rows + 3) / 4;
    for (std::int64_t b = 0; b < row_blocks; ++b) {
      const std::int64_t r0 = rows * b / row_blocks, height = rows * (b + 1) / row_blocks - r0;
      const std::int64_t widest = taps_of(int(height)), blocks = (pairs + widest - 1) / widest;
      for (std::int64_t i = 0; i < blocks; ++i) {
        const std::int64_t p0 = pairs * i / blocks, width = pairs * (i + 1) / blocks - p0;
        Products<T> p;
        p.tile = &t;
        p.x = result + r0 * t.destination_pitch;
        std::int64_t channel = p0 / steps, step = p0 - channel * steps, first_step = step;
        const T* plane = tile + channel * t.channel_pitch;
        for (std::int64_t k = 0; k < width; ++k) {
          p.dy[k] = plane + job.offsets[step];
          if (++step == steps) step = 0, plane += t.channel_pitch;
        }
        choose_products<T>(int(height), int(width), p);
        for (std::int64_t r = 0; r < height; ++r) {
          T* out = partial + ((r0 + r) * job.source.channels + first) * steps + p0;
          for (std::int64_t k = 0; k < width; ++k) {
            T v = p.out[r * width + k];
            if (!(v - v == T(0))) v = exact_product(r0 + r, p.dy[k], (first_step + k) % steps);
            out[k] += v;
          }
        }
      }
    }
  }
};

/// Everything slot `slot` of `job.slots` sums for one part of the rows of one group.
template <class S>
void weight_run(const PositionsJob& job, const void* x, const void* dy, void* partials, std::int64_t index,
                void* scratch) {
  typedef typename Compute<S>::type T;
  const std::int64_t slot = index % job.slots, part = index / job.slots % job.row_parts;
  const std::int64_t group = index / job.slots / job.row_parts, boxes = boxes_of(job);
  const std::int64_t per_row = job.source.channels * job.steps;
  const std::int64_t first_row = job.rows * part / job.row_parts,
                     rows = job.rows * (part + 1) / job.row_parts - first_row;
  T* partial = static_cast<T*>(partials) + ((slot * job.groups + group) * job.rows + first_row) * per_row;
  zero_row(partial, rows * per_row);
  for (std::int64_t box = boxes * slot / job.slots; box < boxes * (slot + 1) / job.slots; ++box) {
    const WeightTask<S> task(job, x, dy, box, group, part, scratch);
    task.copy_x();
    for (std::int64_t first = 0; first < job.source.channels; first += job.channel_block) {
      const std::int64_t left = job.source.channels - first,
                         count = left < job.channel_block ? left : job.channel_block;
      task.copy_source(first, count);
      task.multiply(first, count, partial);
    }
  }
}

/// dw of one input channel: the slots in order.
template <class S>
void weight_reduce(const PositionsJob& job, void* partials, void* dw, std::int64_t channel) {
  typedef typename Compute<S>::type T;
  const std::int64_t per_row = job.source.channels * job.steps, stride = job.groups * job.rows * per_row;
  T* total = static_cast<T*>(partials) + channel * per_row;
  for (std::int64_t s = 1; s < job.slots; ++s)
    for (std::int64_t i = 0; i < per_row; ++i) total[i] += total[s * stride + i];
  S* out = static_cast<S*>(dw) + channel / job.rows * job.w_group + channel % job.rows * job.w_row;
  for (std::int64_t c = 0; c < job.source.channels; ++c)
    for (std::int64_t s = 0; s < job.steps; ++s) narrow(total[c * job.steps + s], out[c * job.w_channel + job.taps[s]]);
}

}  // namespace

extern const PositionsWeightKernels positions_weight_kernels[4];
const PositionsWeightKernels positions_weight_kernels[4] = {{weight_run<float>, weight_reduce<float>},
                                                            {weight_run<double>, weight_reduce<double>},
                                                            {weight_run<Half>, weight_reduce<Half>},
                                                            {weight_run<BFloat>, weight_reduce<BFloat>}};

}  // namespace upconv::UPCONV_ISA
