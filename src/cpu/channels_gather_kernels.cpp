// cpu_channels, forward and backward_input: one task of the gather product. Compiled once per instruction set;
// channels_gather.cpp plans and drives it. Blocking and the pass mapping: channels.hpp.
#include "cpu/channels_micro.hpp"
#include "cpu/channels_panels.hpp"
#include "cpu/channels_tile.hpp"

namespace upconv::UPCONV_ISA {
namespace {

using cpu::GatherSegment;
using cpu::GatherTensors;

// ---- one task ------------------------------------------------------------------------------------------------

/// Where a task works: a box of q in every dimension, samples, a group and a range of channels.
struct Box {
  std::int64_t group, v_begin, v_end;
  std::int64_t n0, n1;
  std::int64_t q0[3], q1[3];
};

Box box_of(const GatherConfig& c, std::int64_t task) {
  Box box;
  const std::int64_t tiles = c.batch_tiles * c.dim[0].tiles * c.dim[1].tiles * c.dim[2].tiles;
  std::int64_t range = task % c.v_tasks;
  if (c.tiles_first) {
    range = task / tiles % c.v_tasks;
    task = task / tiles / c.v_tasks * tiles + task % tiles;
  } else {
    task /= c.v_tasks;
  }
  box.v_begin = range * c.v_split;
  box.v_end = minimum(box.v_begin + c.v_split, c.v);
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
void read_tile(const GatherConfig& c, const Box& box, const Piece& piece, const S* source, T* tile) {
  const std::int64_t w0 = source_origin(c, box, 2), ew = c.dim[2].tile_source;
  const std::int64_t begin = maximum(0, -w0), end = maximum(begin, minimum(ew, c.dim[2].source_size - w0));
  const std::int64_t line = ew * c.pitch;
  LineReader<S, T, Even> reader(c.source, piece.size(), end - begin, Even{c.pitch});
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
        const S* from = source + n * c.source.n + (box.group * c.k + piece.begin) * c.source.c + d * c.source.d +
                        h * c.source.h + (w0 + begin) * c.source.w;
        reader.add(from, tile + begin * c.pitch);
      }
    }
  }
  reader.flush();
}

/// Destination positions inside the box and one segment of each dimension, as offsets into the two local tiles.
std::int64_t list_positions(const GatherConfig& c, const Box& box, const GatherPhase& phase,
                            const GatherSegment* const segment[3], std::int32_t* a, std::int32_t* to) {
  std::int64_t lo[3], hi[3], first[3];
  for (int d = 0; d < 3; ++d) {
    lo[d] = maximum(box.q0[d], segment[d]->q_begin);
    hi[d] = minimum(box.q1[d], segment[d]->q_end);
    first[d] = c.dim[d].classes[phase.cls[d]].first - c.dim[d].first_min;
    if (lo[d] >= hi[d]) return 0;
  }
  const auto &dd = c.dim[0], &dh = c.dim[1], &dw = c.dim[2];
  const std::int64_t a_step = dw.step * c.pitch, to_step = dw.spread * c.v_chunk;
  std::int64_t count = 0;
  for (std::int64_t n = box.n0; n < box.n1; ++n)
    for (std::int64_t d = lo[0]; d < hi[0]; ++d)
      for (std::int64_t h = lo[1]; h < hi[1]; ++h) {
        const std::int64_t sd = (n - box.n0) * dd.tile_source + dd.step * (d - box.q0[0]);
        const std::int64_t sh = sd * dh.tile_source + dh.step * (h - box.q0[1]);
        const std::int64_t td = (n - box.n0) * dd.spread * dd.tile + dd.spread * (d - box.q0[0]) + first[0];
        const std::int64_t th = td * dh.spread * dh.tile + dh.spread * (h - box.q0[1]) + first[1];
        std::int32_t s = std::int32_t((sh * dw.tile_source + dw.step * (lo[2] - box.q0[2])) * c.pitch);
        std::int32_t t =
            std::int32_t((th * dw.spread * dw.tile + dw.spread * (lo[2] - box.q0[2]) + first[2]) * c.v_chunk);
        for (std::int64_t w = lo[2]; w < hi[2]; ++w, ++count, s += std::int32_t(a_step), t += std::int32_t(to_step)) {
          a[count] = s;
          to[count] = t;
        }
      }
  return count;
}

/// Weights of the next piece, which are asked for while this one is multiplied: `lines` of `length` bytes in rows of
/// `inner`, at two distances.
struct Ahead {
  const char* at = nullptr;
  std::int64_t outer = 0, outer_step = 0, inner = 0, inner_step = 0, length = 0;
  std::int64_t i = 0, b = 0;

  void fetch(std::int64_t lines) {
    while (lines > 0 && outer > 0) {
      const char* from = at + i * inner_step;
      for (; lines > 0 && b < length; b += 64, --lines) __builtin_prefetch(from + b, 0, 2);
      if (b < length) return;
      b = 0;
      if (++i == inner) i = 0, at += outer_step, --outer;
    }
  }
};

/// A worker's memory.
template <class T>
struct Scratch {
  T* source;
  T* dest;
  T* bias;
  T* panel;  ///< of a piece, when tasks pack their own
  std::int64_t* run_source;
  std::int64_t* run_panel;
  std::int64_t* run_taps;
  std::int32_t* a;
  std::int32_t* to;
  Ahead* ahead;
};

/// The runs of k of a segment triple: its taps, those along w folded into one run where they are contiguous.
template <class T>
KRuns list_runs(const GatherConfig& c, const GatherPhase& phase, const GatherSegment* const segment[3],
                std::int64_t k_size, const Scratch<T>& s) {
  const std::int64_t nb = c.dim[1].classes[phase.cls[1]].n_taps, nc = c.dim[2].classes[phase.cls[2]].n_taps;
  const std::int64_t begin = segment[2]->tap_begin, end = segment[2]->tap_end;
  const std::int64_t step = c.fold ? maximum(end - begin, 1) : 1;
  std::int64_t count = 0;
  for (std::int64_t i = segment[0]->tap_begin; i < segment[0]->tap_end; ++i)
    for (std::int64_t j = segment[1]->tap_begin; j < segment[1]->tap_end; ++j)
      for (std::int64_t k = begin; k < end; k += step, ++count) {
        const std::int64_t tap = (i * nb + j) * nc + k;
        s.run_source[count] = phase.tap_source[tap];
        s.run_panel[count] = tap * k_size;
      }
  return {s.run_source, s.run_panel, count, 0, step * k_size};
}

/// The same taps in nearly equal groups along w, which share what they read.
template <class T>
TapGroups list_groups(const GatherConfig& c, const GatherPhase& phase, const GatherSegment* const segment[3],
                      std::int64_t k_size, const Scratch<T>& s) {
  const std::int64_t nb = c.dim[1].classes[phase.cls[1]].n_taps, nc = c.dim[2].classes[phase.cls[2]].n_taps;
  const std::int64_t begin = segment[2]->tap_begin, taps = segment[2]->tap_end - begin;
  const std::int64_t groups = (taps + most_taps - 1) / most_taps;
  std::int64_t count = 0;
  for (std::int64_t i = segment[0]->tap_begin; i < segment[0]->tap_end; ++i)
    for (std::int64_t j = segment[1]->tap_begin; j < segment[1]->tap_end; ++j)
      for (std::int64_t g = 0, tap = (i * nb + j) * nc + begin; g < groups; ++g, ++count) {
        s.run_source[count] = phase.tap_source[tap];
        s.run_panel[count] = tap * k_size;
        tap += s.run_taps[count] = taps / groups + (g < taps % groups);
      }
  return {s.run_source, s.run_panel, s.run_taps, count, 0, k_size, c.pitch, k_size};
}

/// Products of listed positions with one block of channels, in nearly equal register tiles: of a few rows left over,
/// each product would wait for the one before it.
template <class T>
void multiply_positions(const Scratch<T>& s, T* dest, std::int64_t count, const KRuns& runs, const T* panel,
                        int vectors, bool accumulate) {
  const std::int64_t most = vectors == 3 ? block_m3 : block_m, tiles = (count + most - 1) / most;
  const std::int64_t rows = count / tiles, longer = count % tiles;  // so many have a row more
  const auto more = longer > 0 ? multiply_of<T>(int(rows + 1), vectors) : nullptr;
  const auto fewer = multiply_of<T>(int(rows), vectors);
  const std::int64_t lines = s.ahead ? runs.count * runs.length * most * vectors / count + 1 : 0;
  std::int64_t i = 0;
  for (std::int64_t t = 0; t < longer; ++t, i += rows + 1) {
    if (lines > 0) s.ahead->fetch(lines);
    more(s.source, s.a + i, runs, panel, dest, s.to + i, accumulate);
  }
  for (; i < count; i += rows) {
    if (lines > 0) s.ahead->fetch(lines);
    fewer(s.source, s.a + i, runs, panel, dest, s.to + i, accumulate);
  }
}

/// Listed positions as lines along w, all of one length and each with even steps.
struct Lines {
  std::int64_t count, length, dest_step;
};

/// Their products with one vector of channels, in nearly equal register tiles of a line.
template <class T>
void multiply_lines(const Scratch<T>& s, T* dest, const Lines& lines, const TapGroups& groups, const T* panel,
                    bool accumulate) {
  const std::int64_t tiles = (lines.length + most_tap_rows - 1) / most_tap_rows;
  const std::int64_t rows = lines.length / tiles, longer = lines.length % tiles;
  const auto more = longer > 0 ? multiply_taps_of<T>(int(rows + 1)) : nullptr;
  const auto fewer = multiply_taps_of<T>(int(rows));
  const std::int64_t ahead =
      s.ahead ? groups.count * groups.length * most_taps / (lines.count * tiles) + 1 : 0;  // cache lines a tile
  std::int64_t i = 0;
  for (std::int64_t line = 0; line < lines.count; ++line)
    for (std::int64_t t = 0; t < tiles; ++t) {
      const bool longer_tile = t < longer;
      if (ahead > 0) s.ahead->fetch(ahead);
      (longer_tile ? more : fewer)(s.source + s.a[i], groups, panel, dest + s.to[i], lines.dest_step, accumulate);
      i += rows + longer_tile;
    }
}

/// A range of channels of a group: their packed panels, of so many source channels, and their place in the destination
/// tile, which may hold sums of earlier ones.
template <class T>
struct Channels {
  std::int64_t begin, end;
  const T* panels;
  T* dest;
  std::int64_t k;
  bool accumulate;

  const T* panel(const GatherConfig& c, const GatherPhase& phase, std::int64_t v) const {
    return panels + ((v - begin) * c.all_taps + phase.taps_before * block_width<T>(c, v)) * k;
  }
  /// Where the last block of channels begins.
  std::int64_t last(const GatherConfig& c) const { return begin + (end - begin - 1) / c.block * c.block; }
};

/// Calls f(first run, runs, first k, length) for pieces of equal runs with at most `most` of k together: a part of one
/// run, or several.
template <class F>
void for_pieces(std::int64_t runs, std::int64_t length, std::int64_t most, const F& f) {
  const std::int64_t parts = (length + most - 1) / most, part = (length + parts - 1) / parts;
  const std::int64_t runs_at_once = parts > 1 ? 1 : maximum(1, most / length);
  for (std::int64_t r = 0; r < runs; r += runs_at_once)
    for (std::int64_t k = 0; k < length; k += part) f(r, minimum(runs_at_once, runs - r), k, minimum(part, length - k));
}

/// Products of listed positions with a range of channels, in pieces of k short enough for a block's piece of the panel
/// to stay in the second-level cache, beside what a register tile reads of the source tile.
template <class T>
void multiply_pieces(const GatherConfig& c, const GatherPhase& phase, const Scratch<T>& s, std::int64_t count,
                     const KRuns& runs, const Channels<T>& channels) {
  for_pieces(runs.count, runs.length, c.k_chunk,
             [&](std::int64_t r, std::int64_t n, std::int64_t k, std::int64_t size) {
               const KRuns piece{runs.source + r, runs.panel + r, n, k, size};
               for (std::int64_t v = channels.begin, width; v < channels.end; v += width) {
                 width = block_width<T>(c, v);
                 multiply_positions(s, channels.dest + (v - channels.begin), count, piece, channels.panel(c, phase, v),
                                    int(width / lanes<T>), channels.accumulate || r > 0 || k > 0);
               }
             });
}

/// The same for the vector of channels at v, in lines whose taps share what they read.
template <class T>
void multiply_groups(const GatherConfig& c, const GatherPhase& phase, const Scratch<T>& s, const Lines& lines,
                     const TapGroups& groups, const Channels<T>& channels, std::int64_t v) {
  const std::int64_t most = maximum(1, c.k_chunk * c.block / (most_taps * lanes<T>));
  for_pieces(groups.count, groups.length, most, [&](std::int64_t r, std::int64_t n, std::int64_t k, std::int64_t size) {
    TapGroups piece = groups;
    piece.source += r, piece.panel += r, piece.taps += r;
    piece.count = n, piece.begin = k, piece.length = size;
    multiply_lines(s, channels.dest + (v - channels.begin), lines, piece, channels.panel(c, phase, v),
                   channels.accumulate || r > 0 || k > 0);
  });
}

/// All products of a phase for a range of channels.
template <class T>
void run_phase(const GatherConfig& c, const Box& box, const GatherPhase& phase, bool exact, const Scratch<T>& s,
               const Channels<T>& channels) {
  const GatherSegment* first[3];
  std::int64_t n[3];
  for (int d = 0; d < 3; ++d) {
    const auto& cls = c.dim[d].classes[phase.cls[d]];
    const bool split = exact || c.dim[d].by_segments;
    first[d] = split ? cls.segments : &cls.whole;
    n[d] = split ? cls.n_segments : 1;
  }
  for (std::int64_t i = 0; i < n[0] * n[1] * n[2]; ++i) {
    const GatherSegment* const segment[3] = {first[0] + i / (n[1] * n[2]), first[1] + i / n[2] % n[1],
                                             first[2] + i % n[2]};
    const std::int64_t count = list_positions(c, box, phase, segment, s.a, s.to);
    if (count == 0) continue;
    Channels<T> wide = channels;  // what is left to multiply_pieces
    const std::int64_t last = channels.last(c);
    const std::int64_t length = minimum(box.q1[2], segment[2]->q_end) - maximum(box.q0[2], segment[2]->q_begin);
    if (c.neighbours && length >= tap_rows && segment[2]->tap_end - segment[2]->tap_begin > 1 &&
        block_width<T>(c, last) == lanes<T>) {
      wide.end = last;
      const TapGroups groups = list_groups(c, phase, segment, channels.k, s);
      const Lines lines{count / length, length, c.dim[2].spread * c.v_chunk};
      if (groups.count > 0) multiply_groups(c, phase, s, lines, groups, channels, last);
    }
    if (wide.begin == wide.end) continue;
    const KRuns runs = list_runs(c, phase, segment, channels.k, s);
    if (runs.count > 0) multiply_pieces(c, phase, s, count, runs, wide);
  }
}

/// The weights of the piece that begins with source channel k.
template <class S>
Ahead next_piece(const GatherConfig& c, const S* w, std::int64_t k, std::int64_t v0, std::int64_t v1) {
  constexpr std::int64_t E = sizeof(S);
  const std::int64_t channels = minimum(c.k_piece, c.k - k);
  const char* at = reinterpret_cast<const char*>(w + k * c.w_k + v0 * c.w_v);
  if (c.w_v == 1) return {at, channels, c.w_k * E, c.taps, c.w_k / c.taps * E, (v1 - v0) * E, 0, 0};
  if (c.w_k == 1) return {at, v1 - v0, c.w_v * E, c.taps, c.w_v / c.taps * E, channels * E, 0, 0};
  if (c.w_v < c.w_k) return {at, channels, c.w_k * E, 1, 0, (v1 - v0) * c.w_v * E, 0, 0};
  return {at, v1 - v0, c.w_v * E, 1, 0, channels * c.w_k * E, 0, 0};
}

/// All products for channels [v0, v1) of the group: with the panels that were packed before, or a piece of k at a time
/// with panels of its own.
template <class S, class T>
void run_channels(const GatherConfig& c, const Box& box, const GatherTensors& t, const T* panels, bool exact,
                  std::int64_t v0, std::int64_t v1, Scratch<T> s) {
  const auto run = [&](const Channels<T>& channels) {
    for (std::int64_t p = 0; p < c.n_phases; ++p) run_phase(c, box, c.phases[p], exact, s, channels);
  };
  if (!c.pack_in_task) return run({v0, v1, panels + panel_at(c, box.group, v0), s.dest, c.k, false});
  for (std::int64_t k = 0; k < c.k; k += c.k_piece) {
    const Piece piece{k, minimum(k + c.k_piece, c.k)};
    read_tile(c, box, piece, static_cast<const S*>(t.source), s.source);
    exact = !pack_blocks(c, static_cast<const S*>(t.w), box.group, piece, v0, v1, s.panel) && c.reads_zeros;
    Ahead ahead = next_piece(c, static_cast<const S*>(t.w) + box.group * c.w_group, piece.end, v0, v1);
    s.ahead = &ahead;
    run({v0, v1, s.panel, s.dest, piece.size(), k > 0});
  }
}

/// Whether line l of the tile, counted in dimension d, gets products at all.
bool line_has_taps(const GatherConfig& c, int d, std::int64_t l) {
  return c.dim[d].classes[l % c.dim[d].spread].n_taps > 0;
}

template <class S, class T>
void write_tile(const GatherConfig& c, const Box& box, const GatherTensors& t, std::int64_t v0, std::int64_t v1,
                const Scratch<T>& s, const EpilogueSteps& steps) {
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
        S* to = base + n * c.dest.n + d * c.dest.d + h * c.dest.h + w0 * c.dest.w;
        const std::int64_t line = ((n - box.n0) * dd.spread * dd.tile + ld) * dh.spread * dh.tile + lh;
        T* tile = s.dest + (line * dw.spread * dw.tile + w0 - o0[2]) * c.v_chunk;
        if (!line_has_taps(c, 0, ld) || !line_has_taps(c, 1, lh)) {
          if (!steps.operands) {
            fill_line(to, c.dest, v1 - v0, w1 - w0, s.bias + c.v_chunk);
            continue;
          }
          std::memset(tile, 0, std::size_t((w1 - w0) * c.v_chunk) * sizeof(T));
        }
        write_line(to, c.dest, v1 - v0, w1 - w0, tile, c.v_chunk, t.bias ? s.bias : nullptr, steps, t.operands,
                   {n, box.group * c.v + v0, d, h, w0});
      }
}

template <class S, class T>
void gather_task(const GatherConfig& c, const GatherTensors& t, const T* panels, bool exact, void* scratch,
                 std::int64_t task) {
  const Box box = box_of(c, task);
  Scratch<T> s;
  s.source = static_cast<T*>(scratch);
  s.dest = s.source + c.source_elements;
  s.bias = s.dest + c.dest_elements;  // v_chunk values, then as many of what a position without products gets
  s.panel = s.bias + 2 * c.v_chunk;
  s.run_source = reinterpret_cast<std::int64_t*>(s.panel + c.panel_elements);
  s.run_panel = s.run_source + c.max_taps;
  s.run_taps = s.run_panel + c.max_taps;
  s.a = reinterpret_cast<std::int32_t*>(s.run_taps + c.max_taps);
  s.to = s.a + c.positions;
  s.ahead = nullptr;
  const EpilogueSteps& steps = *c.epilogue;
  if (!c.pack_in_task) read_tile(c, box, {0, c.k}, static_cast<const S*>(t.source), s.source);
  for (std::int64_t v0 = box.v_begin; v0 < box.v_end; v0 += c.v_chunk) {
    const std::int64_t v1 = minimum(v0 + c.v_chunk, box.v_end);
    if (exact || c.pack_in_task ? c.holes_exact : c.holes)
      std::memset(s.dest, 0, std::size_t(c.dest_elements) * sizeof(T));
    run_channels<S>(c, box, t, panels, exact, v0, v1, s);
    for (std::int64_t v = v0; v < v1; ++v) {
      const T b = t.bias ? T(widen(static_cast<const S*>(t.bias)[box.group * c.v + v])) : T(0);
      s.bias[v - v0] = s.bias[c.v_chunk + v - v0] = b;
    }
    if (steps.count > 0 && !steps.operands) apply_epilogue(steps, s.bias + c.v_chunk, v1 - v0);
    write_tile<S>(c, box, t, v0, v1, s, steps);
  }
}

// ---- by dtype ------------------------------------------------------------------------------------------------

bool pack(const GatherConfig& c, const void* w, void* panels, std::int64_t part) {
  switch (c.source.dtype) {
    case DType::f32:
      return pack_part(c, static_cast<const float*>(w), static_cast<float*>(panels), part);
    case DType::f64:
      return pack_part(c, static_cast<const double*>(w), static_cast<double*>(panels), part);
    case DType::f16:
      return pack_part(c, static_cast<const Half*>(w), static_cast<float*>(panels), part);
    case DType::bf16:
      return pack_part(c, static_cast<const BFloat*>(w), static_cast<float*>(panels), part);
  }
  return true;
}

void gather(const GatherConfig& c, const GatherTensors& t, const void* panels, bool exact, void* scratch,
            std::int64_t task) {
  switch (c.source.dtype) {
    case DType::f32:
      gather_task<float>(c, t, static_cast<const float*>(panels), exact, scratch, task);
      break;
    case DType::f64:
      gather_task<double>(c, t, static_cast<const double*>(panels), exact, scratch, task);
      break;
    case DType::f16:
      gather_task<Half>(c, t, static_cast<const float*>(panels), exact, scratch, task);
      break;
    case DType::bf16:
      gather_task<BFloat>(c, t, static_cast<const float*>(panels), exact, scratch, task);
      break;
  }
}

}  // namespace

extern const cpu::GatherIsa gather_isa;
const cpu::GatherIsa gather_isa = {lanes<float>, lanes<double>, block_m, block_n, pack, gather};

}  // namespace upconv::UPCONV_ISA
