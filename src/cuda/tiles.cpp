// Dense forward and dx with streamed weights on sm_90a: host side of kernels/tiles.cuh.
#include "launch/tiles.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "cuda/calibration.hpp"
#include "cuda/candidates.hpp"
#include "cuda/element.hpp"
#include "cuda/operands.hpp"
#include "cuda/wgmma_text.hpp"
#include "epilogue/cuda_text.hpp"

namespace upconv::cuda {
namespace {

using Int = std::int64_t;

/// One spatial dimension of the gather: where each tap reads, relative to the position q of the phase grid, and which
/// phase of the result it feeds.
struct Axis {
  std::vector<int> plane, shift, phase;  ///< By tap.
  std::vector<int> residues;             ///< Of the planes: source = stride * (q + first + shift) + residue.
  int first = 0, widest = 0;             ///< Least quotient; largest shift.
  int phases = 1, source_stride = 1;
  Int q_begin = 0, q_end = 0;
  std::vector<int> used;  ///< By phase: index among the phases with taps, or -1.
  int used_count = 0;
};

using launch::floor_div;

Axis axis_of(const Geometry& g, int d, bool backward) {
  Axis a;
  const Int s = g.stride[d], p = g.padding[d], dilation = g.dilation[d], taps = g.kernel[d];
  std::vector<Int> quotient;
  for (Int t = 0; t < taps; ++t) {
    if (backward) {
      const Int at = dilation * t - p, q = floor_div(at, s);
      const int residue = static_cast<int>(at - q * s);
      auto found = std::find(a.residues.begin(), a.residues.end(), residue);
      if (found == a.residues.end()) found = a.residues.insert(a.residues.end(), residue);
      a.plane.push_back(static_cast<int>(found - a.residues.begin()));
      a.phase.push_back(0);
      quotient.push_back(q);
    } else {
      a.plane.push_back(0);
      a.phase.push_back(static_cast<int>(dilation * t % s));
      quotient.push_back(-(dilation * t / s));
    }
  }
  const Int least = *std::min_element(quotient.begin(), quotient.end());
  a.first = static_cast<int>(least);
  for (Int q : quotient) a.shift.push_back(static_cast<int>(q - least));
  a.widest = *std::max_element(a.shift.begin(), a.shift.end());
  if (backward) {
    a.source_stride = static_cast<int>(s);
    a.q_end = g.in[d];
    a.used = {0};
    a.used_count = 1;
  } else {
    a.residues = {0};
    a.phases = static_cast<int>(s);
    a.q_begin = p / s;
    a.q_end = (g.out[d] - 1 + p) / s + 1;
    a.used.assign(a.phases, -1);
    for (int r : a.phase)
      if (a.used[r] < 0) a.used[r] = 0;
    for (int& u : a.used)
      if (u == 0) u = a.used_count++;
  }
  return a;
}

struct Shape {
  bool backward = false, tf32 = false;
  int parts = 1;     ///< 2: high and low bf16.
  Int k = 0, n = 0;  ///< Channels of source and result, a group.
  std::array<Int, 3> src{}, out{};
  Axis h, w;
  int taps = 0;          ///< Of one depth tap.
  bool vectors = false;  ///< Rows of the source are contiguous fp32: wide copies where address and width allow.
};

struct Tile {
  int columns = 0;  ///< Result channels of a block.
  int segments = 1, rows = 1;
  bool resident = false;          ///< All weights of a block stay in shared memory.
  bool down = true;               ///< A warpgroup's warps lie below each other, else side by side.
  bool turns = false;             ///< Each warpgroup computes tiles of its own, one stores while the other multiplies.
  int consumers = 2, across = 1;  ///< Warpgroups that share a tile; how many of them lie beside each other.
  int stages = 2, producers = 128;
  int plane_rows = 0, plane_columns = 0, plane_pitch = 0;
  unsigned shared_bytes = 0;
  double seconds = 1e30;

  [[nodiscard]] int group_columns() const { return segments * (down ? 16 : 64); }
  [[nodiscard]] int warpgroups() const { return turns ? 2 : consumers; }
  [[nodiscard]] int tile_rows() const { return consumers / across * (down ? 4 : 1) * rows; }
  [[nodiscard]] int tile_columns() const { return across * group_columns(); }
};

int round_up(Int v, int to) { return static_cast<int>((v + to - 1) / to * to); }

int pitch_of(int words) {
  int p = round_up(words, 8);
  while (p % 32 != 8 && p % 32 != 24) p += 8;
  return p;
}

int accumulators(const Shape& s, const Tile& t) { return t.segments * t.rows * s.h.used_count * s.w.used_count; }

/// Fragments of a chunk: distinct (plane, row) times distinct (plane, column), in every segment.
int fragment_count(const Shape& s, const Tile& t) {
  std::set<std::pair<int, int>> rows, columns;
  for (std::size_t th = 0; th < s.h.plane.size(); ++th)
    for (int j = 0; j < t.rows; ++j) rows.emplace(s.h.plane[th], s.h.shift[th] + j);
  for (std::size_t tw = 0; tw < s.w.plane.size(); ++tw) columns.emplace(s.w.plane[tw], s.w.shift[tw]);
  return static_cast<int>(rows.size() * columns.size()) * t.segments;
}

/// The list of fragments and products, as text.
std::string products(const Shape& s, const Tile& t) {
  std::string text = "#define UPCONV_PRODUCTS \\\n";
  const int total = fragment_count(s, t);
  int fragments = 0;
  const int plane = t.plane_rows * t.plane_columns, used = s.h.used_count * s.w.used_count;
  const int kh = static_cast<int>(s.h.plane.size()), kw = static_cast<int>(s.w.plane.size());
  for (int ph = 0; ph < static_cast<int>(s.h.residues.size()); ++ph)
    for (int pw = 0; pw < static_cast<int>(s.w.residues.size()); ++pw)
      for (int column = 0; column <= s.w.widest; ++column)
        for (int row = 0; row < t.rows + s.h.widest; ++row)
          for (int segment = 0; segment < t.segments; ++segment) {
            std::string list;
            for (int th = 0; th < kh; ++th)
              for (int tw = 0; tw < kw; ++tw) {
                const int j = row - s.h.shift[th];
                if (s.h.plane[th] != ph || s.w.plane[tw] != pw || s.w.shift[tw] != column || j < 0 || j >= t.rows)
                  continue;
                const int phase = s.h.used[s.h.phase[th]] * s.w.used_count + s.w.used[s.w.phase[tw]];
                list += " PRODUCT(" + std::to_string(fragments) + ", " +
                        std::to_string((segment * t.rows + j) * used + phase) + ", " + std::to_string(th * kw + tw) +
                        ")";
              }
            if (list.empty()) continue;
            const int offset = (ph * static_cast<int>(s.w.residues.size()) + pw) * plane + row * t.plane_columns +
                               column + segment * (t.down ? 16 : 64);
            // Registers are used in turns of three: the groups that may run on are those since this one's last use.
            int pending = 2;
            if (fragments == 0) pending = total < 3 ? 0 : (total + 2) % 3;
            if (fragments == 1) pending = total < 3 ? 1 : std::min(2, (total + 1) % 3 + 1);
            text += "  FRAGMENT(" + std::to_string(fragments) + ", " + std::to_string(offset) + ", " +
                    std::to_string(pending) + ")" + list + " \\\n";
            ++fragments;
          }
  return text + "\n";
}

/// Where bytes are the limit, forward was measured to take 1.9 to 2.8 times as long as they would (L1/73, L1/74, the
/// layer of L2/15): a tile's stores and products do not overlap. The calibration adds a fifth.
constexpr double memory_bound = 1.9;

/// Clocks of one chunk, of a tile and of the whole, at 1.7 GHz.
void estimate(const Shape& s, const Geometry& g, const CudaTarget& target, Tile& t) {
  constexpr double clock = 1.7e9;
  const int fragments = fragment_count(s, t);
  const int factor = s.parts == 2 ? 3 : 1;
  const double count = double(t.segments) * t.rows * s.taps * factor;
  const double tensor = t.consumers * count * (t.columns / 2.0 + 16.0);  // 16: between two of them
  const double source_words = 8.0 * s.h.residues.size() * s.w.residues.size() * t.plane_rows * t.plane_columns;
  const double weight_words = 8.0 * t.columns * s.taps;
  const double copies = source_words / (s.vectors ? 4.0 : 1.0) + (t.resident ? 0.0 : weight_words);
  const double produce = copies / 32.0 * (s.parts == 1 && !s.tf32 ? 40.0 : 20.0) * (s.parts == 2 ? 2.0 : 1.0) + 300.0;
  const double shared = t.consumers * (fragments * 16.0 * s.parts + count * t.columns / 4.0) +
                        (source_words + (t.resident ? 0.0 : weight_words)) * s.parts / 32.0 * 3.0;
  const double latency = fragments * 45.0;  // of one warpgroup: a fragment's load before its products
  const double slowest = std::max({tensor, shared, produce, latency});
  const double chunk = slowest + 0.2 * (tensor + shared + produce + latency - slowest) + 80.0;
  const double depth_taps = s.backward ? double(g.kernel[0]) : std::max(1.0, double(g.kernel[0]) / double(g.stride[0]));
  const double chunks = std::ceil(double(s.k) / (s.tf32 ? 8 : 16)) * depth_taps;
  const double stores = 4.0 * t.consumers * t.segments * t.rows * s.h.phases * s.w.phases * t.columns / 2.0 * 12.0;
  const double tiles = double(g.batch) * g.groups * std::ceil(double(s.n) / t.columns) * s.out[0] *
                       std::ceil(double(s.h.q_end - s.h.q_begin) / t.tile_rows()) *
                       std::ceil(double(s.w.q_end - s.w.q_begin) / t.tile_columns());
  const double waves = std::max(std::ceil(tiles / target.processors), 1.0);
  const double once =
      t.resident ? double(g.kernel[0]) * std::ceil(double(s.k) / (s.tf32 ? 8 : 16)) * weight_words * 0.7 : 0;
  // Few stages hide the copies' latency badly, and narrow tiles copy short lines (docs/measured.md).
  const double hidden = t.stages == 2 ? 1.25 : t.stages == 3 ? 1.06 : 1.0;
  const double narrow = s.vectors && t.tile_columns() < 32 && s.w.q_end - s.w.q_begin > 16 ? 1.3 : 1.0;
  // So many sums leave no registers to load fragments ahead, less so beside weights that come with them (dx of L1/77:
  // 248 us with 128 sums a thread, 211 with 64; of L1/79, weights resident: 393 with 128, 361 with 96).
  const bool crowd = s.tf32 && accumulators(s, t) * t.columns / 2 > 112;
  const double crowded = !crowd ? 1.0 : t.resident ? 1.12 : 1.25;
  const double multiply = crowded * chunks * chunk, store = stores / 4.0 + 400.0;
  const double tile = t.turns ? std::max(multiply, (multiply + store) / 2.0) : multiply + store;
  t.seconds = hidden * narrow * (waves * tile + once) / clock + 6e-6;
}

/// How many tiles by turns tuning may try, and before which other tile the first of them comes. They have not been
/// measured on a GPU, so the cost model's own choice is never one of them.
constexpr std::size_t most_turns = 5, first_turn = 2;

/// Every tile that fits, the one predicted to be fastest first.
std::vector<Tile> tiles_of(const Shape& s, const Geometry& g, const CudaTarget& target) {
  std::vector<Tile> found, by_turns;
  const int used = s.h.used_count * s.w.used_count;
  const bool flat = s.h.q_end - s.h.q_begin < 3;
  for (int columns : {8, 16, 24, 32, 40, 48, 64, 96, 128}) {
    if (columns > round_up(s.n, 8)) break;
    for (const auto& [turns, down] : {std::pair{false, true}, {false, false}, {true, true}, {true, false}})
      for (int across : {1, 2})
        for (int segments : {1, 2, 3, 4, 5, 6, 8})
          for (int rows : {1, 2, 3, 4, 6}) {
            if (turns && across > 1) continue;
            if (flat && (down || rows > 1 || (across == 1 && !turns))) continue;
            if (!flat && !down) continue;
            Tile t;
            t.turns = turns;
            t.consumers = turns ? 1 : 2;
            t.columns = columns;
            t.down = down;
            t.across = across;
            t.segments = segments;
            t.rows = rows;
            if (segments * rows * used * columns / 2 > 136) continue;
            if (segments * rows * s.taps * (s.parts == 2 ? 3 : 1) > 640) continue;
            t.plane_rows = t.tile_rows() + s.h.widest;
            t.plane_columns = t.tile_columns() + s.w.widest;
            if (s.vectors) t.plane_columns = round_up(t.plane_columns, 4);
            const int planes = static_cast<int>(s.h.residues.size() * s.w.residues.size());
            t.plane_pitch = pitch_of(planes * t.plane_rows * t.plane_columns);
            const int line = (down ? segments : 1) * 16 * s.w.phases;
            const Int lines = 4 * 4 * t.warpgroups() * 16 * (line + (s.w.phases % 2 == 1 ? 4 : 8));
            const Int weights = 4 * Int{s.parts} * s.taps * (columns * 8 + 4);
            const Int source = 4 * Int{s.parts} * 8 * t.plane_pitch;
            for (bool resident : {false, true}) {
              const Int kept = resident ? weights * g.kernel[0] * ((s.k + (s.tf32 ? 7 : 15)) / (s.tf32 ? 8 : 16)) : 0;
              if (resident && g.groups * ((s.n + columns - 1) / columns) > target.processors) continue;
              const Int stage = source + (resident ? 0 : weights);
              t.resident = resident;
              t.stages = static_cast<int>(
                  std::min<Int>(turns ? 8 : 4, (target.shared_per_block - 2048 - lines - kept) / stage));
              if (target.shared_per_block - 2048 - lines - kept < 0 || t.stages < 2) continue;
              t.shared_bytes = static_cast<unsigned>(kept + t.stages * stage + lines);
              estimate(s, g, target, t);
              (turns ? by_turns : found).push_back(t);
            }
          }
  }
  for (auto* list : {&found, &by_turns})
    std::stable_sort(list->begin(), list->end(), [](const Tile& a, const Tile& b) { return a.seconds < b.seconds; });
  if (found.empty()) return {};
  by_turns.resize(std::min(by_turns.size(), most_turns));
  found.insert(found.begin() + static_cast<std::ptrdiff_t>(std::min(found.size(), first_turn)), by_turns.begin(),
               by_turns.end());
  return found;
}

std::string preamble(const Shape& s, const Tile& t, const Request& r) {
  const Geometry& g = r.geometry;
  std::string text = "#include \"types.cuh\"\nnamespace config {\n";
  const auto constant = [&](const char* name, Int value) {
    text += std::string("constexpr int ") + name + " = " + std::to_string(value) + ";\n";
  };
  const auto flag = [&](const char* name, bool value) {
    text += std::string("constexpr bool ") + name + (value ? " = true;\n" : " = false;\n");
  };
  const auto table = [&](const char* name, const std::vector<int>& values) {
    text += std::string("__device__ constexpr int ") + name + "[] = {";
    for (std::size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + std::to_string(values[i]);
    text += "};\n";
  };
  text += std::string("typedef ") + device_type(r.problem.dtype) + " Element;\n";
  flag("backward", s.backward);
  flag("tf32", s.tf32);
  flag("has_bias", r.problem.bias && !s.backward);
  flag("source_last", (s.backward ? r.problem.y_layout : r.problem.x_layout) == Layout::channels_last);
  flag("result_last", (s.backward ? r.problem.x_layout : r.problem.y_layout) == Layout::channels_last);
  flag("source_vectors", s.vectors);
  flag("RESIDENT", t.resident);
  constant("PARTS", s.parts);
  constant("K", s.k);
  constant("N", s.n);
  constant("NB", t.columns);
  constant("TAPS_HW", s.taps);
  constant("KD", g.kernel[0]);
  constant("SD", g.stride[0]);
  constant("PD", g.padding[0]);
  constant("DD", g.dilation[0]);
  constant("PH", g.padding[1]);
  constant("PW", g.padding[2]);
  constant("FIRST_H", s.h.first);
  constant("FIRST_W", s.w.first);
  constant("SOURCE_SH", s.h.source_stride);
  constant("SOURCE_SW", s.w.source_stride);
  constant("PLANES_H", static_cast<Int>(s.h.residues.size()));
  constant("PLANES_W", static_cast<Int>(s.w.residues.size()));
  table("residue_h", s.h.residues);
  table("residue_w", s.w.residues);
  constant("PHASES_H", s.h.phases);
  constant("PHASES_W", s.w.phases);
  std::vector<int> accumulator;
  for (int h : s.h.used)
    for (int w : s.w.used) accumulator.push_back(h < 0 || w < 0 ? -1 : h * s.w.used_count + w);
  table("accumulator", accumulator);
  constant("USED_PHASES", Int{s.h.used_count} * s.w.used_count);
  constant("ACCUMULATORS", accumulators(s, t));
  constant("SEGMENTS", t.segments);
  constant("SEGMENT_STEP", t.down ? 16 : 64);
  constant("ROWS", t.rows);
  flag("WARPS_DOWN", t.down);
  constant("GROUPS_ACROSS", t.across);
  constant("GROUP_COLUMNS", t.group_columns());
  constant("TILE_ROWS", t.tile_rows());
  constant("TILE_COLUMNS", t.tile_columns());
  constant("PLANE_ROWS", t.plane_rows);
  constant("PLANE_COLUMNS", t.plane_columns);
  constant("PLANE_PITCH", t.plane_pitch);
  constant("STAGES", t.stages);
  flag("TURNS", t.turns);
  constant("CONSUMERS", t.warpgroups());
  constant("PRODUCERS", t.producers);
  constant("CONSUMER_REGISTERS", 208);
  constant("PRODUCER_REGISTERS", 80);
  const TensorOperand operand = s.tf32                          ? TensorOperand::tf32
                                : r.problem.dtype == DType::f16 ? TensorOperand::f16
                                                                : TensorOperand::bf16;
  text += wgmma_text(t.columns, operand) + "}\n";
  text += products(s, t);
  text += "namespace config {\nconstexpr int FRAGMENTS = " + std::to_string(fragment_count(s, t)) + ";\n}\n";
  return text + epilogue_text(r.epilogue, device_type(r.problem.dtype));
}

launch::TilesFixed fixed_of(const Request& r, const Shape& s, const Tile& t) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  const WeightStrides w = weight_strides(p, g);
  launch::TilesFixed f;
  f.backward = s.backward;
  f.source_last = (s.backward ? p.y_layout : p.x_layout) == Layout::channels_last;
  f.out_last = (s.backward ? p.x_layout : p.y_layout) == Layout::channels_last;
  f.resident = t.resident;
  f.vectors = s.vectors;
  f.groups = g.groups, f.k = s.k, f.n = s.n;
  f.w_k = s.backward ? w.co : w.ci;
  f.w_n = s.backward ? w.ci : w.co;
  f.w_tap = w.tap[2];
  f.w_group = g.ci * w.ci;
  f.stride_h = g.stride[1], f.stride_w = g.stride[2];
  f.padding_h = g.padding[1], f.padding_w = g.padding[2];
  f.tile_rows = t.tile_rows(), f.tile_columns = t.tile_columns(), f.columns = t.columns;
  f.threads = 128 * t.warpgroups() + t.producers;
  f.shared_bytes = t.shared_bytes;
  return f;
}

class Tiles final : public PassKernel {
 public:
  Tiles(const Request& r, const Shape& s, const Tile& t)
      : device_(r.target.device),
        backward_(s.backward),
        tile_(t),
        fixed_(fixed_of(r, s, t)),
        launch_(launch::launch_of(fixed_, sizes_of(r.geometry), r.target.processors)),
        kernel_({"tiles.cuh", "tiles", preamble(s, t, r)}, t.shared_bytes),
        operands_(r),
        predicted_(calibrated("cuda_tiles", r.problem, r.pass,
                              std::max(t.seconds, min_bytes(r.problem, r.pass) / r.target.bytes_per_second *
                                                      (s.backward ? 1.2 : memory_bound)))) {}

  Status run(const PassTensors& t, void*, void* stream) const override {
    Start<1> start(device_, stream, {&kernel_});
    OperandBlock block;
    launch::run(fixed_, launch_,
                {backward_ ? t.dy : t.x, t.w, t.b, backward_ ? t.dx : t.y, operands_.fill(t.operands, block)}, nullptr,
                start);
    return start.status;
  }
  Result<LaunchText> launch_text() const override {
    return cuda::launch_text({kernel_.program()}, "launch/tiles.hpp", "TilesFixed", fixed_);
  }

  std::string detail() const override {
    char text[160];
    std::snprintf(text, sizeof text,
                  "tiles of %dx%d positions x %d channels, %dx%d fragments a warp, weights %s, %d stages, %u KB%s",
                  tile_.tile_rows(), tile_.tile_columns(), tile_.columns, tile_.rows, tile_.segments,
                  tile_.resident ? "resident" : "streamed", tile_.stages, tile_.shared_bytes / 1024,
                  tile_.turns ? ", warpgroups by turns" : "");
    return text;
  }
  std::vector<const jit::Kernel*> kernels() const override { return {&kernel_}; }
  double predicted_seconds() const override { return predicted_; }

 private:
  int device_;
  bool backward_;
  Tile tile_;
  launch::TilesFixed fixed_;
  launch::TilesLaunch launch_;
  jit::Kernel kernel_;
  OperandArguments operands_;
  double predicted_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_tiles(const Request& r) {
  const Problem& p = r.problem;
  const Geometry& g = r.geometry;
  if (r.target.major != 9) return unsupported("needs the warpgroup instructions of sm_90a");
  if (p.dtype == DType::f64) return unsupported("no tensor cores for f64 here");
  if (p.dtype == DType::f32 && p.precision == Precision::ieee)
    return unsupported("computes f32 as tf32 or bf16x3 only");
  Shape s;
  s.backward = r.pass == Pass::backward_input;
  s.tf32 = p.dtype == DType::f32 && p.precision == Precision::tf32;
  s.parts = p.dtype == DType::f32 && !s.tf32 ? 2 : 1;
  s.k = s.backward ? g.co : g.ci;
  s.n = s.backward ? g.ci : g.co;
  s.src = s.backward ? g.out : g.in;
  s.out = s.backward ? g.in : g.out;
  for (int d = 0; d < 3; ++d)
    if (s.src[d] > 1 << 30 || s.out[d] > 1 << 30) return unsupported("a side longer than 2^30");
  if (g.kernel[1] * g.kernel[2] > 128) return unsupported("more than 128 taps a depth");
  if (g.stride[1] * g.stride[2] > 32) return unsupported("more than 32 phases");
  for (int d = 1; d < 3; ++d)
    if (g.dilation[d] * (g.kernel[d] - 1) > 512) return unsupported("a reach of more than 512 positions");
  if (g.batch == 0) return unsupported("an empty batch");
  if (!r.forced && (s.k < 8 || s.n < 8)) return unsupported("fewer than 8 channels a group");
  s.h = axis_of(g, 1, s.backward);
  s.w = axis_of(g, 2, s.backward);
  s.taps = static_cast<int>(g.kernel[1] * g.kernel[2]);
  s.vectors = p.dtype == DType::f32 && s.w.source_stride == 1 &&
              (s.backward ? p.y_layout : p.x_layout) == Layout::channels_first;
  if (s.vectors) {  // rows begin at a multiple of four columns
    const int more = static_cast<int>((((s.w.q_begin + s.w.first) % 4) + 4) % 4);
    s.w.first -= more;
    s.w.widest += more;
    for (int& shift : s.w.shift) shift += more;
  }
  const std::vector<Tile> tiles = tiles_of(s, g, r.target);
  if (tiles.empty()) return unsupported("no tile fits registers and shared memory");
  if (r.variant >= static_cast<int>(tiles.size())) return no_variant(r.variant);
  const Tile& t = tiles[static_cast<std::size_t>(r.variant)];
  if (!r.forced && (g.stride[1] > 2 || g.stride[2] > 2))
    return unsupported("cuda_gather_mma is faster at a stride above 2");
  const double of_positions = double(g.batch) * double(s.out[0]) *
                              std::ceil(double(s.h.q_end - s.h.q_begin) / t.tile_rows()) *
                              std::ceil(double(s.w.q_end - s.w.q_begin) / t.tile_columns());
  if (!r.forced && !t.resident && of_positions < r.target.processors)
    return unsupported("weights would stream past too few positions; cuda_gather_mma is faster");
  if (of_positions * double(g.groups) * std::ceil(double(s.n) / t.columns) >= 2147483648.0)
    return unsupported("2^31 tiles or more");
  return std::unique_ptr<PassKernel>(new Tiles(r, s, t));
}

}  // namespace upconv::cuda
