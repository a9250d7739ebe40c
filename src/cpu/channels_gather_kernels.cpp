// cpu_channels, forward and backward_input: weight packing and one task of the gather product. Compiled once
// per instruction set; channels_gather.cpp plans and drives it. Blocking and the pass mapping: channels.hpp.
#include "cpu/channels_micro.hpp"
#include "cpu/channels_tile.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using cpu::GatherConfig;
using cpu::GatherPhase;
using cpu::GatherTensors;

std::int64_t minimum(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t maximum(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Channels of the vector block that begins at v: a full block, or half of one where no more are left.
template <class T>
std::int64_t block_width(std::int64_t v, std::int64_t channels) {
  return channels - v > lanes<T> ? block_n * lanes<T> : lanes<T>;
}

// ---- packing -------------------------------------------------------------------------------------------------

template <class S, class T>
bool pack_block(const GatherConfig& c, const S* w, T* panels, std::int64_t part) {
  constexpr std::int64_t block = block_n * lanes<T>;
  const std::int64_t blocks = (c.v + block - 1) / block, group = part / blocks, v0 = part % blocks * block;
  const std::int64_t width = block_width<T>(v0, c.v), valid = minimum(width, c.v - v0);
  const S* from = w + group * c.w_group + v0 * c.w_v;
  Vec<T> probe{};  // 0 * value summed: NaN as soon as one value is not finite
  for (std::int64_t k = 0; k < c.k; ++k) {
    const S* row = from + k * c.w_k;
    for (std::int64_t p = 0; p < c.n_phases; ++p) {
      const GatherPhase& phase = c.phases[p];
      T* to = panels + group * c.group_panel + phase.panel + v0 * phase.n_taps * c.k + k * width;
      for (std::int64_t t = 0; t < phase.n_taps; ++t, to += c.k * width) {
        const S* s = row + phase.tap_weight[t];
        for (std::int64_t v = 0; v < valid; ++v) to[v] = widen(s[v * c.w_v]);
        for (std::int64_t v = valid; v < width; ++v) to[v] = T(0);
        for (std::int64_t v = 0; v < width; v += lanes<T>) probe += load(to + v) * T(0);
      }
    }
  }
  bool finite = true;
  for (int i = 0; i < lanes<T>; ++i) finite &= probe[i] == T(0);
  return finite;
}

// ---- one task ------------------------------------------------------------------------------------------------

/// Where a task works: a box of q in every dimension, samples, a group and a range of channels.
struct Box {
  std::int64_t group, v_begin, v_end;
  std::int64_t n0, n1;
  std::int64_t q0[3], q1[3];
};

Box box_of(const GatherConfig& c, std::int64_t task) {
  Box box;
  box.v_begin = task % c.v_tasks * c.v_split;
  box.v_end = minimum(box.v_begin + c.v_split, c.v);
  task /= c.v_tasks;
  for (int d = 2; d >= 0; --d) {
    box.q0[d] = c.dim[d].q_min + task % c.dim[d].tiles * c.dim[d].tile;
    box.q1[d] = minimum(box.q0[d] + c.dim[d].tile, c.dim[d].q_max);
    task /= c.dim[d].tiles;
  }
  box.n0 = task % c.batch_tiles * c.tile_batch;
  box.n1 = minimum(box.n0 + c.tile_batch, c.batch);
  box.group = task / c.batch_tiles;
  return box;
}

/// First source coordinate of the tile in dimension d.
std::int64_t source_origin(const GatherConfig& c, const Box& box, int d) {
  return c.dim[d].step * box.q0[d] + c.dim[d].shift_min;
}

/// Whether any destination of the tile reads source coordinate `s` of dimension d.
bool line_used(const GatherConfig& c, int d, std::int64_t s) {
  const auto& dim = c.dim[d];
  if (dim.step == 1) return true;
  for (std::int64_t i = 0; i < dim.n_classes; ++i)
    for (std::int64_t t = 0; t < dim.classes[i].n_taps; ++t)
      if ((s - dim.classes[i].taps[t].shift) % dim.step == 0) return true;
  return false;
}

template <class S, class T>
__attribute__((noinline)) void read_tile(const GatherConfig& c, const Box& box, const S* source, T* tile) {
  const std::int64_t w0 = source_origin(c, box, 2), ew = c.dim[2].tile_source;
  const std::int64_t begin = maximum(0, -w0), end = maximum(begin, minimum(ew, c.dim[2].source_size - w0));
  const std::int64_t line = ew * c.pitch;
  for (std::int64_t n = box.n0; n < box.n1; ++n) {
    for (std::int64_t ld = 0; ld < c.dim[0].tile_source; ++ld) {
      const std::int64_t d = source_origin(c, box, 0) + ld;
      for (std::int64_t lh = 0; lh < c.dim[1].tile_source; ++lh, tile += line) {
        const std::int64_t h = source_origin(c, box, 1) + lh;
        if (d < 0 || d >= c.dim[0].source_size || h < 0 || h >= c.dim[1].source_size || begin >= end) {
          std::memset(tile, 0, std::size_t(line) * sizeof(T));
          continue;
        }
        if (!line_used(c, 0, d) || !line_used(c, 1, h)) continue;
        if (begin > 0) std::memset(tile, 0, std::size_t(begin * c.pitch) * sizeof(T));
        if (end < ew) std::memset(tile + end * c.pitch, 0, std::size_t((ew - end) * c.pitch) * sizeof(T));
        const S* from = source + n * c.source.n + box.group * c.k * c.source.c + d * c.source.d + h * c.source.h +
                        (w0 + begin) * c.source.w;
        read_line(from, c.source, c.k, end - begin, tile + begin * c.pitch, c.pitch);
      }
    }
  }
}

/// Destination positions of one phase inside the box, as offsets into the two local tiles. `only_tap` >= 0 keeps
/// those whose source through that tap is inside the tensor.
std::int64_t list_positions(const GatherConfig& c, const Box& box, const GatherPhase& phase, std::int64_t dest_pitch,
                            std::int64_t only_tap, std::int32_t* a, std::int32_t* to) {
  std::int64_t lo[3], hi[3], first[3];
  for (int d = 0; d < 3; ++d) {
    const auto& cls = c.dim[d].classes[phase.cls[d]];
    lo[d] = maximum(box.q0[d], cls.q_begin);
    hi[d] = minimum(box.q1[d], cls.q_end);
    first[d] = cls.first - c.dim[d].first_min;
    if (only_tap >= 0) {
      const std::int64_t shift = phase.tap_shift[3 * only_tap + d];
      while (lo[d] < hi[d] && c.dim[d].step * lo[d] + shift < 0) ++lo[d];
      while (lo[d] < hi[d] && c.dim[d].step * (hi[d] - 1) + shift >= c.dim[d].source_size) --hi[d];
    }
  }
  const auto &dd = c.dim[0], &dh = c.dim[1], &dw = c.dim[2];
  std::int64_t count = 0;
  for (std::int64_t n = box.n0; n < box.n1; ++n)
    for (std::int64_t d = lo[0]; d < hi[0]; ++d)
      for (std::int64_t h = lo[1]; h < hi[1]; ++h) {
        const std::int64_t sd = (n - box.n0) * dd.tile_source + dd.step * (d - box.q0[0]);
        const std::int64_t sh = sd * dh.tile_source + dh.step * (h - box.q0[1]);
        const std::int64_t td = (n - box.n0) * dd.spread * dd.tile + dd.spread * (d - box.q0[0]) + first[0];
        const std::int64_t th = td * dh.spread * dh.tile + dh.spread * (h - box.q0[1]) + first[1];
        std::int64_t s = (sh * dw.tile_source + dw.step * (lo[2] - box.q0[2])) * c.pitch;
        std::int64_t t = (th * dw.spread * dw.tile + dw.spread * (lo[2] - box.q0[2]) + first[2]) * dest_pitch;
        for (std::int64_t w = lo[2]; w < hi[2]; ++w, ++count, s += dw.step * c.pitch, t += dw.spread * dest_pitch) {
          a[count] = std::int32_t(s);
          to[count] = std::int32_t(t);
        }
      }
  return count;
}

/// The products of one phase for one block of channels, over listed positions.
template <class T>
void multiply_positions(const T* tile, const std::int32_t* a, T* dest, const std::int32_t* to, std::int64_t count,
                        const KRuns& runs, const T* panel, int vectors, bool accumulate) {
  const auto full = Multiply<T>::of(block_m, vectors);
  std::int64_t i = 0;
  for (; i + block_m <= count; i += block_m) full(tile, a + i, runs, panel, dest, to + i, accumulate);
  if (i < count) Multiply<T>::of(int(count - i), vectors)(tile, a + i, runs, panel, dest, to + i, accumulate);
}

template <class T>
struct Scratch {
  T* source;
  T* dest;
  std::int32_t* a;
  std::int32_t* to;
};

/// All products of a phase for channels [v0, v1) of the group.
template <class T>
void run_phase(const GatherConfig& c, const Box& box, const GatherPhase& phase, const T* panels, bool exact,
               std::int64_t v0, std::int64_t v1, const Scratch<T>& s) {
  const std::int64_t dest_pitch = c.v_chunk;
  std::int64_t count = exact ? 0 : list_positions(c, box, phase, dest_pitch, -1, s.a, s.to);
  const std::int64_t taps_a_run = maximum(1, c.k_chunk / c.k), k_runs = (c.k + c.k_chunk - 1) / c.k_chunk;
  const std::int64_t k_length = (c.k + k_runs - 1) / k_runs;
  for (std::int64_t v = v0; v < v1;) {
    const std::int64_t width = block_width<T>(v, c.v);
    const T* panel = panels + phase.panel + v * phase.n_taps * c.k;
    if (exact) {  // one tap at a time over the outputs that really have it; the local tile was zeroed
      for (std::int64_t t = 0; t < phase.n_taps; ++t) {
        count = list_positions(c, box, phase, dest_pitch, t, s.a, s.to);
        multiply_positions(s.source, s.a, s.dest + (v - v0), s.to, count, KRuns{phase.tap_source + t, 1, 0, c.k},
                           panel + t * c.k * width, int(width / lanes<T>), true);
      }
    } else if (k_runs == 1) {
      for (std::int64_t t = 0; t < phase.n_taps; t += taps_a_run)
        multiply_positions(s.source, s.a, s.dest + (v - v0), s.to, count,
                           KRuns{phase.tap_source + t, minimum(taps_a_run, phase.n_taps - t), 0, c.k},
                           panel + t * c.k * width, int(width / lanes<T>), t > 0);
    } else {
      for (std::int64_t t = 0; t < phase.n_taps; ++t)
        for (std::int64_t k = 0; k < c.k; k += k_length)
          multiply_positions(s.source, s.a, s.dest + (v - v0), s.to, count,
                             KRuns{phase.tap_source + t, 1, k, minimum(k_length, c.k - k)},
                             panel + (t * c.k + k) * width, int(width / lanes<T>), t > 0 || k > 0);
    }
    v += width;
  }
}

/// Whether some phase leaves holes in destination lines, which must then be zero before the products.
bool has_holes(const GatherConfig& c) {
  for (int d = 0; d < 3; ++d)
    for (std::int64_t i = 0; i < c.dim[d].n_classes; ++i)
      if (c.dim[d].classes[i].n_taps == 0) return true;
  return false;
}

template <class S, class T>
__attribute__((noinline)) void write_tile(const GatherConfig& c, const Box& box, const GatherTensors& t, std::int64_t v0, std::int64_t v1, T* tile,
                const T* bias, const EpilogueSteps& steps) {
  std::int64_t o0[3];
  for (int d = 0; d < 3; ++d) o0[d] = c.dim[d].spread * box.q0[d] + c.dim[d].first_min;
  const auto &dd = c.dim[0], &dh = c.dim[1], &dw = c.dim[2];
  const std::int64_t w0 = maximum(0, o0[2]);
  const std::int64_t w1 = minimum(o0[2] + dw.spread * (box.q1[2] - box.q0[2]), dw.dest_size);
  if (w0 >= w1) return;
  S* base = static_cast<S*>(t.dest) + (box.group * c.v + v0) * c.dest.c;
  for (std::int64_t n = box.n0; n < box.n1; ++n)
    for (std::int64_t ld = 0; ld < dd.spread * (box.q1[0] - box.q0[0]); ++ld)
      for (std::int64_t lh = 0; lh < dh.spread * (box.q1[1] - box.q0[1]); ++lh) {
        const std::int64_t d = o0[0] + ld, h = o0[1] + lh;
        if (d < 0 || d >= dd.dest_size || h < 0 || h >= dh.dest_size) continue;
        const std::int64_t line = ((n - box.n0) * dd.spread * dd.tile + ld) * dh.spread * dh.tile + lh;
        write_line(base + n * c.dest.n + d * c.dest.d + h * c.dest.h + w0 * c.dest.w, c.dest, v1 - v0, w1 - w0,
                   tile + (line * dw.spread * dw.tile + w0 - o0[2]) * c.v_chunk, c.v_chunk, bias, steps);
      }
}

template <class S, class T>
void gather_task(const GatherConfig& c, const GatherTensors& t, const T* panels, bool exact, void* scratch,
                 std::int64_t task) {
  const Box box = box_of(c, task);
  Scratch<T> s;
  s.source = static_cast<T*>(scratch);
  s.dest = s.source + c.source_elements;
  T* bias = s.dest + c.dest_elements;
  s.a = reinterpret_cast<std::int32_t*>(bias + c.v_chunk);
  s.to = s.a + c.positions;
  EpilogueSteps steps;
  steps.count = int(c.n_steps);
  for (std::int64_t i = 0; i < c.n_steps; ++i) steps.steps[i] = c.steps[i];
  read_tile(c, box, static_cast<const S*>(t.source), s.source);
  const bool zero = exact || has_holes(c);
  for (std::int64_t v0 = box.v_begin; v0 < box.v_end; v0 += c.v_chunk) {
    const std::int64_t v1 = minimum(v0 + c.v_chunk, box.v_end);
    if (zero) std::memset(s.dest, 0, std::size_t(c.dest_elements) * sizeof(T));
    for (std::int64_t p = 0; p < c.n_phases; ++p)
      run_phase(c, box, c.phases[p], panels + box.group * c.group_panel, exact, v0, v1, s);
    if (t.bias)
      for (std::int64_t v = v0; v < v1; ++v) bias[v - v0] = widen(static_cast<const S*>(t.bias)[box.group * c.v + v]);
    write_tile<S, T>(c, box, t, v0, v1, s.dest, t.bias ? bias : nullptr, steps);
  }
}

// ---- by dtype ------------------------------------------------------------------------------------------------

bool pack(const GatherConfig& c, const void* w, void* panels, std::int64_t part) {
  switch (c.source.dtype) {
    case DType::f32: return pack_block(c, static_cast<const float*>(w), static_cast<float*>(panels), part);
    case DType::f64: return pack_block(c, static_cast<const double*>(w), static_cast<double*>(panels), part);
    case DType::f16: return pack_block(c, static_cast<const Half*>(w), static_cast<float*>(panels), part);
    case DType::bf16: return pack_block(c, static_cast<const BFloat*>(w), static_cast<float*>(panels), part);
  }
  return true;
}

void gather(const GatherConfig& c, const GatherTensors& t, const void* panels, bool exact, void* scratch,
            std::int64_t task) {
  switch (c.source.dtype) {
    case DType::f32: gather_task<float>(c, t, static_cast<const float*>(panels), exact, scratch, task); break;
    case DType::f64: gather_task<double>(c, t, static_cast<const double*>(panels), exact, scratch, task); break;
    case DType::f16: gather_task<Half>(c, t, static_cast<const float*>(panels), exact, scratch, task); break;
    case DType::bf16: gather_task<BFloat>(c, t, static_cast<const float*>(panels), exact, scratch, task); break;
  }
}

}  // namespace

extern const cpu::GatherIsa gather_isa;
const cpu::GatherIsa gather_isa = {lanes<float>, lanes<double>, block_m, block_n, pack, gather};

}  // namespace upconv::UPCONV_ISA
