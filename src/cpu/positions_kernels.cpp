// Forward and dx of cpu_positions (positions.hpp): copies a box of source rows into a local tile, computes register
// tiles of 1 to 4 rows by 3 to 8 vectors of positions with broadcast weights, applies the epilogue and merges the
// phases into whole output lines.
// Floor: 12 multiply-adds per 7 loads at 4 rows x 3 vectors, so the FMA units bound it from 3 rows up; with 1 row the
// loads do (half the peak), and layers that narrow are bound by memory anyway.
// Compiled once per instruction set.
#include "cpu/positions.hpp"
#include "cpu/positions_box.hpp"
#include "cpu/positions_rows.hpp"
#include "cpu/simd.hpp"
#include "epilogue/simd.hpp"

namespace upconv::UPCONV_ISA {
namespace {

constexpr int vectors_of(int rows) { return rows == 1 ? 8 : rows == 2 ? 6 : rows == 3 ? 4 : 3; }

/// What every register tile of a block shares.
template <class T>
struct Panel {
  const T* weights;
  const std::int32_t* offsets;
  std::int64_t steps, channels, channel_pitch, pitch;
  const T* init;  ///< first value of each row; null: what the tile holds already
};

template <class T, int R, int N>
static inline void register_tile(const Panel<T>& p, const T* source, T* destination) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][N];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) acc[r][v] = p.init ? broadcast(p.init[r]) : load(destination + r * p.pitch + v * L);
  const T* w = p.weights;
  for (std::int64_t c = 0; c < p.channels; ++c, source += p.channel_pitch) {
#pragma GCC unroll 1
    for (std::int64_t s = 0; s < p.steps; ++s, w += R) {
      const T* x = source + p.offsets[s];
      if constexpr (R <= N) {  // hold the weights, stream the positions
        Vec<T> b[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) b[r] = broadcast(w[r]);
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) {
          const Vec<T> a = load_held(x + v * L);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) acc[r][v] += a * b[r];
        }
      } else {
        Vec<T> a[N];
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) a[v] = load_held(x + v * L);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const Vec<T> b = broadcast(w[r]);
#pragma GCC unroll 8
          for (int v = 0; v < N; ++v) acc[r][v] += a[v] * b;
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(destination + r * p.pitch + v * L, acc[r][v]);
}

/// `vectors` vectors of positions in nearly equal register tiles: a remainder of one would wait on its own latency.
template <class T, int R, int N>
static inline void stretch(const Panel<T>& p, const T* source, T* destination, std::int64_t vectors) {
  if constexpr (N > 1) {
    if (vectors < N) return stretch<T, R, N - 1>(p, source, destination, vectors);
  }
  constexpr int L = lanes<T>;
  for (; vectors >= 2 * N || vectors == N; vectors -= N) {
    register_tile<T, R, N>(p, source, destination);
    if (vectors == N) return;
    source += N * L, destination += N * L;
  }
  // Between N and 2N left: two halves.
  const std::int64_t half = (vectors + 1) / 2;
  if constexpr (N > 1) {
    if (half == N) {
      register_tile<T, R, N>(p, source, destination);
    } else {
      stretch<T, R, N - 1>(p, source, destination, half);
    }
    stretch<T, R, N - 1>(p, source + half * L, destination + half * L, vectors - half);
  }
}

template <class T>
void run_block(int rows, const Panel<T>& p, const T* source, T* destination, std::int64_t positions) {
  const std::int64_t vectors = (positions + lanes<T> - 1) / lanes<T>;
  switch (rows) {
    case 1:
      return stretch<T, 1, vectors_of(1)>(p, source, destination, vectors);
    case 2:
      return stretch<T, 2, vectors_of(2)>(p, source, destination, vectors);
    case 3:
      return stretch<T, 3, vectors_of(3)>(p, source, destination, vectors);
    default:
      return stretch<T, 4, vectors_of(4)>(p, source, destination, vectors);
  }
}

/// Forward or dx of one box.
template <class S>
struct Task : Box<S> {
  typedef typename Box<S>::T T;
  using Box<S>::Box, Box<S>::job, Box<S>::bias, Box<S>::destination, Box<S>::group, Box<S>::sample, Box<S>::origin;
  using Box<S>::stream, Box<S>::init, Box<S>::tile, Box<S>::result, Box<S>::line, Box<S>::phase;

  void first_values() const {
    for (std::int64_t r = 0; r < job.rows; ++r)
      init[r] = bias ? widen(bias[group * job.destination.channels + job.row[r].channel]) : T(0);
  }

  Panel<T> panel_of(const PositionsBlock& b, const T* panel, std::int64_t first, std::int64_t count) const {
    return {panel + b.panel + first * b.steps * b.rows,
            job.offsets + b.first_step,
            b.steps,
            count,
            job.tile.channel_pitch,
            job.tile.destination_pitch,
            first == 0 ? init + b.row : nullptr};
  }

  template <class F>
  void for_runs(F&& body) const {
    const PositionsTile& t = job.tile;
    for (std::int64_t n = 0; n < t.runs[0]; ++n)
      for (std::int64_t d = 0; d < t.runs[1]; ++d)
        for (std::int64_t h = 0; h < t.runs[2]; ++h)
          body(n * t.source_run[0] + d * t.source_run[1] + h * t.source_run[2],
               n * t.destination_run[0] + d * t.destination_run[1] + h * t.destination_run[2]);
  }

  void multiply(const T* panel, const unsigned char* finite, std::int64_t first, std::int64_t count) const {
    const std::int64_t length = job.tile.run_length;
    const auto block = [&](std::int64_t i, std::int64_t from, std::int64_t to, std::int64_t n) {
      const PositionsBlock& b = job.block[i];
      if (finite[i])
        run_block<T>(b.rows, panel_of(b, panel, first, count), tile + from,
                     result + b.row * job.tile.destination_pitch + to, n);
    };
    if (job.blocks_outside) {
      for (std::int64_t i = 0; i < job.blocks; ++i)
        for_runs([&](std::int64_t from, std::int64_t to) { block(i, from, to, length); });
    } else {
      for_runs([&](std::int64_t from, std::int64_t to) {
        for (std::int64_t at = 0; at < length; at += job.chunk)
          for (std::int64_t i = 0; i < job.blocks; ++i)
            block(i, from + at, to + at, length - at < job.chunk ? length - at : job.chunk);
      });
    }
    for (std::int64_t i = 0; i < job.blocks; ++i)
      if (!finite[i]) multiply_exactly(job.block[i], panel_of(job.block[i], panel, first, count));
  }

  /// A block with an infinite or NaN weight: each tap only where it really reads the source, so that the zeros
  /// around it are never multiplied.
  void multiply_exactly(const PositionsBlock& b, const Panel<T>& p) const {
    const PositionsTile& t = job.tile;
    const PositionsTensor& x = job.source;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      T* row = result + (b.row + r) * t.destination_pitch;
      if (p.init)
        for (std::int64_t i = 0; i < t.destination_pitch; ++i) row[i] = p.init[r];
      for (std::int64_t c = 0; c < p.channels; ++c)
        for (std::int64_t s = 0; s < p.steps; ++s) {
          const T weight = p.weights[(c * p.steps + s) * b.rows + r];
          const std::int32_t* position = job.step_position + 4 * (b.first_step + s);
          const std::int32_t* residue = job.residue + 3 * position[0];
          const T* from = tile + c * t.channel_pitch + p.offsets[s];
          const auto inside = [&](int dim, std::int64_t i) {
            const std::int64_t at = (origin[dim] + i + position[1 + dim]) * x.step[dim] + residue[dim];
            return at >= 0 && at < x.size[dim];
          };
          for (std::int64_t n = 0; n < t.size[0]; ++n)
            for (std::int64_t d = 0; d < t.size[1]; ++d)
              for (std::int64_t h = 0; h < t.size[2]; ++h) {
                if (!inside(0, d) || !inside(1, h)) continue;
                const T* in = from + n * t.source_run[0] + d * t.source_run[1] + h * t.source_run[2];
                T* out = row + n * t.place[0] + d * t.place[1] + h * t.place[2];
                for (std::int64_t w = 0; w < t.size[3]; ++w)
                  if (inside(2, w)) out[w] += in[w] * weight;
              }
        }
    }
  }

  void write(const Operand* operands) const {
    const PositionsTile& t = job.tile;
    const PositionsTensor& y = job.destination;
    std::int64_t begin[3], end[3];
    for (int d = 0; d < 3; ++d) {
      const std::int64_t stop = origin[d] + t.size[d + 1] < t.end[d] ? origin[d] + t.size[d + 1] : t.end[d];
      begin[d] = y.step[d] * origin[d] - y.shift[d], end[d] = y.step[d] * stop - y.shift[d];
      begin[d] = begin[d] < 0 ? 0 : begin[d];
      end[d] = end[d] > y.size[d] ? y.size[d] : end[d];
    }
    if (begin[2] >= end[2]) return;
    std::int64_t position[3], residue[3];  // of the first row written and of its first element
    for (int d = 0; d < 3; ++d) {
      const std::int64_t v = begin[d] + y.shift[d] - y.step[d] * origin[d];
      position[d] = v / y.step[d], residue[d] = v % y.step[d];
    }
    for (std::int64_t n = 0; n < t.size[0] && sample + n < job.batch; ++n)
      for (std::int64_t c = 0; c < y.channels; ++c) {
        S* channel = destination + (sample + n) * y.n + (group * y.channels + c) * y.c + begin[2] * y.d[2];
        std::int64_t pd = position[0], rd = residue[0];
        for (std::int64_t d = begin[0]; d < end[0]; ++d) {
          std::int64_t ph = position[1], rh = residue[1];
          for (std::int64_t h = begin[1]; h < end[1]; ++h) {
            const std::int32_t* rows = job.phase_row + (rd * y.step[1] + rh) * y.step[2];
            const T* at = result + c * t.destination_pitch + n * t.place[0] + pd * t.place[1] + ph * t.place[2];
            for (std::int64_t r = 0; r < y.step[2]; ++r) phase[r] = at + rows[r] * t.destination_pitch;
            const RowPlace place{sample + n, group * y.channels + c, d, h, begin[2]};
            S* line_at = channel + d * y.d[0] + h * y.d[1];
            if (y.d[2] == 1 && !stream && (d + 1 < end[0] || c + 1 < y.channels))
              fetch_ahead<1>(d + 1 < end[0] ? line_at + y.d[0] : channel + y.c + begin[0] * y.d[0] + h * y.d[1],
                             end[2] - begin[2]);
            put_line(line_at, position[2], residue[2], end[2] - begin[2], operands, place);
            if (++rh == y.step[1]) rh = 0, ++ph;
          }
          if (++rd == y.step[0]) rd = 0, ++pd;
        }
      }
    if (stream) stream_fence();
  }
  void put_line(S* out, std::int64_t p, std::int64_t r, std::int64_t n, const Operand* operands,
                const RowPlace& place) const {
    const std::int64_t unit = job.destination.d[2], step = job.destination.step[2];
    if (job.epilogue.operands) {  // only a merged line has its place in the tensor
      merge_phases(phase, step, p, r, n, line);
      apply_epilogue<S>(job.epilogue, operands, place, line, n);
      return scatter_row(line, out, unit, n);
    }
    if constexpr (sizeof(S) == sizeof(T)) {
      if (stream && step == 1) return stream_row(phase[0] + p, out, n);
      if (stream) {
        merge_phases(phase, step, p, r, n, line);
        return stream_row(line, out, n);
      }
      if (unit == 1) return merge_phases(phase, step, p, r, n, out);
    }
    merge_phases(phase, step, p, r, n, line);
    scatter_row(line, out, unit, n);
  }
};

template <class S>
bool pack(const PositionsJob& job, const void* weights, void* panels, std::int64_t group, std::int64_t block) {
  typedef typename Compute<S>::type T;
  const PositionsBlock& b = job.block[block];
  const S* w = static_cast<const S*>(weights) + group * job.w_group;
  T* out = static_cast<T*>(panels) + group * job.panel + b.panel;
  const std::int64_t* taps[4];
  const S* from[4];
  for (std::int64_t r = 0; r < b.rows; ++r) {
    const PositionsRow& row = job.row[b.row + r];
    taps[r] = job.taps + row.first_tap, from[r] = w + row.channel * job.w_row;
  }
  T poison = T(0);  // 0 * w is 0 for finite weights, NaN for others
  for (std::int64_t c = 0; c < job.source.channels; ++c)
    for (std::int64_t s = 0; s < b.steps; ++s)
      for (std::int64_t r = 0; r < b.rows; ++r) {
        const T v = widen(from[r][c * job.w_channel + taps[r][s]]);
        *out++ = v;
        poison += v * T(0);
      }
  return poison == T(0);
}

template <class S>
void run(const PositionsJob& job, const void* source, const void* panels, const unsigned char* finite, const void* bias,
         void* destination, const Operand* operands, std::int64_t index, void* scratch) {
  typedef typename Compute<S>::type T;
  const Task<S> task(job, source, bias, destination, index, scratch);
  const T* panel = static_cast<const T*>(panels) + task.group * job.panel;
  task.first_values();
  for (std::int64_t first = 0; first < job.source.channels; first += job.channel_block) {
    const std::int64_t left = job.source.channels - first;
    const std::int64_t count = left < job.channel_block ? left : job.channel_block;
    task.copy_source(first, count);
    task.multiply(panel, finite + task.group * job.blocks, first, count);
  }
  if (job.epilogue.count > 0 && !job.epilogue.operands)
    apply_epilogue(job.epilogue, task.result, job.rows * job.tile.destination_pitch);
  task.write(operands);
}

}  // namespace

/// In order of DType: f32, f64, f16, bf16.
extern const PositionsKernels positions_kernels[4];
const PositionsKernels positions_kernels[4] = {
    {pack<float>, run<float>}, {pack<double>, run<double>}, {pack<Half>, run<Half>}, {pack<BFloat>, run<BFloat>}};

}  // namespace upconv::UPCONV_ISA
