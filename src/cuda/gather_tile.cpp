// See gather_tile.hpp.
#include "cuda/gather_tile.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "launch/gather_mma.hpp"

namespace upconv::cuda {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
int power_of_two_from(std::int64_t n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

/// The word of a source chunk that lane `lane` reads first; mirrors position_word of the kernel.
int lane_word(const GatherShape& s, const GatherTile& t, int lane) {
  const int p = lane / 4 * t.run, k = lane % 4;
  const int pitch_h = t.lw, pitch_d = (t.h + s.span[1]) * pitch_h;
  const int pitch_n = s.plane_count() * (t.d + s.span[0]) * pitch_d + t.npad;
  const int word =
      p % t.w + p / t.w % t.h * pitch_h + p / (t.w * t.h) % t.d * pitch_d + p / (t.w * t.h * t.d) * pitch_n;
  return word + k * t.pitch + t.skew * (k / 2);
}

/// Wavefronts of one fragment load: the most lanes that meet in a bank.
int conflicts(const GatherShape& s, const GatherTile& t) {
  std::array<int, 32> bank{};
  int most = 0;
  for (int lane = 0; lane < 32; ++lane) most = std::max(most, ++bank[lane_word(s, t, lane) % 32]);
  return most;
}

/// Chooses the paddings that keep fragment loads free of bank conflicts, as small as they can be.
int lay_out(const GatherShape& s, GatherTile& t) {
  const int width = t.w + s.span[2];
  const int residue = t.run == 4 ? 1 : t.run == 2 ? 16 : 8;
  t.skew = t.run == 2 ? 1 : 0;
  GatherTile best = t;
  int fewest = 1000, least = 0;
  const bool line_pads = t.w < 8 * t.run, sample_pads = t.w * t.h * t.d < 8 * t.run;
  for (int lpad = 0; lpad < (line_pads ? 8 : 1); ++lpad)
    for (int npad = 0; npad < (sample_pads ? 8 : 1); ++npad) {
      t.lw = width + lpad;
      t.npad = npad;
      const int used = t.n * (s.plane_count() * (t.d + s.span[0]) * (t.h + s.span[1]) * t.lw + npad) + t.skew;
      t.pitch = used + ((residue - used) % 32 + 32) % 32;
      const int c = conflicts(s, t);
      if (c < fewest || (c == fewest && t.pitch < least)) {
        fewest = c;
        least = t.pitch;
        best = t;
      }
      if (fewest == 1) lpad = npad = 8;  // nothing is better
    }
  t = best;
  return fewest;
}

/// Layouts already chosen, by positions and run: many tiles differ in other things only.
class Layouts {
 public:
  explicit Layouts(const GatherShape& shape) : shape_(shape) {}

  /// As lay_out.
  int operator()(GatherTile& t) {
    const auto [found, fresh] = known_.try_emplace({t.n, t.d, t.h, t.w, t.run});
    Layout& l = found->second;
    if (fresh) {
      l.conflict = lay_out(shape_, t);
      l.lw = t.lw, l.npad = t.npad, l.pitch = t.pitch, l.skew = t.skew;
    }
    t.lw = l.lw, t.npad = l.npad, t.pitch = l.pitch, t.skew = l.skew;
    return l.conflict;
  }

 private:
  struct Layout {
    int lw = 0, npad = 0, pitch = 0, skew = 0, conflict = 0;
  };
  const GatherShape& shape_;
  std::map<std::array<int, 5>, Layout> known_;
};

struct Rates {
  double clock = 1.7e9;
  double mma = 1.7;           ///< Cycles of a multiprocessor for one m16n8 product of 8 words.
  double latency = 900;       ///< Cycles from asking for global memory to having stored it in shared memory.
  double l2_over_dram = 1.3;  ///< L2's rate by memory's.
};

/// Tensor-core instructions written out. Loops keep them below `soon_compiled` where a dimension can be looped over;
/// where none can (each has phases), the others hold: 3 s of compiling, and with many accumulators beside them, spills.
constexpr std::int64_t soon_compiled = 192, soon_compiled_split = 64, most_unrolled = 384, most_unrolled_wide = 256,
                       most_unrolled_split = 128;

/// Sets the dimensions to loop over at run time, so that what is written out stays short; false where nothing helps.
bool choose_loops(const GatherShape& s, GatherTile& t) {
  const std::int64_t each = std::int64_t(t.kc) / s.pack / 8 / t.warps_k * t.mt * t.nt * s.products;
  const std::int64_t wide = s.phase_count() * t.mt * t.nt * 4 > 64 ? most_unrolled_wide : most_unrolled;
  const std::int64_t most = s.products > 1 ? most_unrolled_split : wide;
  for (std::int64_t bound : {s.products > 1 ? soon_compiled_split : soon_compiled, most})
    for (int mask : {0, 1, 2, 3, 4, 5, 6, 7}) {
      std::int64_t taps = each;
      bool useful = true;
      for (int d = 0; d < 3; ++d) {
        const bool looped = mask >> d & 1;
        if (looped && (s.taps[d] == 1 || s.phases[d] * s.planes[d] != 1)) useful = false;
        if (!looped) taps *= s.taps[d];
      }
      if (!useful || taps > bound) continue;
      t.loop = mask;
      return true;
    }
  return false;
}

/// Fills shared_bytes, blocks and seconds; false where the tile does not fit.
bool price(const GatherShape& s, GatherTile& t, const CudaTarget& target, Layouts& layouts) {
  const Rates r;
  if (!launch::gather_mma_offsets_fit(t.n, t.d, s.span[0] + 1, s.step[0], s.sample, s.plane)) return false;
  if (!choose_loops(s, t)) return false;
  const int conflict = layouts(t);
  const int kw = t.kc / s.pack, ks = kw / 8, ksw = ks / t.warps_k, taps = s.tap_count();
  const std::int64_t chunks = ceil_div(s.depth, t.kc);
  const std::int64_t tap_words = std::int64_t(ks) * t.columns() / 8 * 66;
  const std::int64_t b_chunk = s.parts * taps * (tap_words + (36 - tap_words % 32) % 32);
  const std::int64_t x_chunk = std::int64_t(s.parts) * ((std::int64_t(kw) * t.pitch + 4) / 4 * 4);
  const int warps = t.threads() / 32, share = s.phase_count() * t.mt * t.nt * 4;
  const std::int64_t reduce = std::int64_t(t.warps_k - 1) * t.warps_m * t.warps_n * 32 * share;
  std::int64_t stage = 0;
  if (t.staged) {  // mirrors STAGE_WORDS of the kernel
    const int tiles = t.run == 4 ? 2 : std::min(t.mt, s.spread == 1 ? 4 : s.spread == 2 ? 2 : 1);
    const int pitch = 16 * tiles * s.spread + (s.spread == 1 ? 4 : 1);
    stage = std::int64_t((8 / s.merged_w * pitch + 3) / 4 * 4) * (t.threads() / 32);
  }
  t.shared_bytes = 4 * ((t.resident ? chunks : 2) * b_chunk + 2 * x_chunk + reduce + stage);
  if (t.shared_bytes > target.shared_per_block) return false;
  const double spots = double(t.n) * s.plane_count() * (t.d + s.span[0]) * (t.h + s.span[1]) * (t.w + s.span[2]);
  const double x_words = s.source_last ? std::ceil(spots * kw / t.threads()) : std::ceil(spots / t.threads()) * kw;
  const double w_words = t.resident ? 0.0 : std::ceil(double(t.columns()) * taps / t.threads()) * kw;
  const int slots = s.entry_count() * ksw;
  int pieces = 1;
  while (pieces * t.fetch < (x_words + w_words) * s.pack && 2 * pieces <= slots && kw % (2 * pieces) == 0) pieces *= 2;
  const bool async = s.element_bytes == 4 && !s.source_last;
  const int held = (async ? 8 : static_cast<int>((x_words + w_words) * s.pack / pieces)) +
                   (s.source_last ? 0 : static_cast<int>((s.forward ? 3 : 5) * x_words / kw)) +
                   static_cast<int>(3 * w_words / kw);
  if (w_words > 128 || x_words > 256) return false;  // they are written out
  const int registers =
      share + s.parts * (t.mt * 4 + 8) + 24 + held + 60 + (s.products > 1 ? 24 : 0) + (async ? 0 : 16);
  if (registers > 255) return false;
  if (s.products > 1 && s.pack == 1 && share > 48) return false;  // tf32x3 keeps sums of its own: it spills (measured)
  const int by_registers = 65536 / (t.threads() * ((registers + 7) / 8 * 8));
  const int by_shared = static_cast<int>(target.shared_per_processor / (t.shared_bytes + 1024));
  t.blocks = std::min({by_registers, by_shared, 2048 / t.threads(), 4});
  if (t.blocks < 1) return false;

  // Work of one chunk of one block.
  const double mma = double(ksw) * taps * t.mt * t.nt * s.products * warps;
  const double a_loads = double(s.entry_count()) * ksw * s.parts * t.mt * 4 * warps;
  const double b_waves = double(taps) * ksw * s.parts * t.nt * 2 * warps;
  const double x_instructions = x_words * t.threads() / 32, w_instructions = w_words * t.threads() / 32;
  const bool tf32 = s.pack == 1 && s.parts == 1 && async && target.capability() >= 90;
  t.raw_source = tf32 && s.entry_count() * t.warps_n <= 4;
  t.raw_weight = tf32 && !t.resident && t.warps_m <= 4;
  const double copy = async ? 3.0 * s.pack : 4.0 * s.pack, convert = async ? 1.0 * s.pack + 2 * s.parts : 2.0 * s.parts;
  const double rounding = (t.raw_source ? a_loads : 0) + (t.raw_weight ? b_waves : 0);
  const double issue = mma * (s.products > 1 && s.pack == 1 ? 2.4 : 1) + a_loads + b_waves / 2 + rounding +
                       x_instructions * (s.source_last ? 30 : copy + (t.raw_source ? 0 : convert)) +
                       w_instructions * (copy + (t.raw_weight ? 0 : convert));
  const double again = async ? s.pack + s.parts : 0;  // conversion in place
  const double shared = a_loads * conflict + b_waves + x_instructions * (s.parts + (t.raw_source ? 0 : again)) +
                        2 * w_instructions * (s.parts + (t.raw_weight ? 0 : again));
  const std::int64_t tiles =
      ceil_div(s.batch, t.n) * ceil_div(s.grid[0], t.d) * ceil_div(s.grid[1], t.h) * ceil_div(s.grid[2], t.w);
  const std::int64_t column_blocks = ceil_div(s.columns, t.columns());
  const std::int64_t blocks = tiles * column_blocks * s.groups;
  const std::int64_t at_once = std::int64_t(t.blocks) * target.processors;
  const double together = double(std::min<std::int64_t>(t.blocks, ceil_div(blocks, target.processors)));
  const double rounds = double(ceil_div(blocks, at_once));
  // Warps of a multiprocessor; fewer than four leave schedulers idle, and few hide little of each other's waits.
  const double present = warps * together;
  const double alone = std::max(1.0, 4.0 / present) * (present < 8 ? 1.25 : 1.0);
  const double tensor = mma * r.mma * alone, longest = std::max({tensor, shared, issue / 4 * alone});
  const double busy = longest + 0.3 * (tensor + shared + issue / 4 * alone - longest);  // units overlap only in part

  // A chunk takes the busiest unit's time for all blocks present, and never less than a fraction of the latency.
  const double chunk = std::max(busy * together * 1.08, busy * 1.3 + 0.0) + 60;
  const double exposed = std::max(0.0, (async ? 1 : pieces) * r.latency - busy * together);
  const double stores = double(share) * warps * 2.5 / 4;
  const double tile_cycles = chunks * (chunk + exposed / together * 0.5 + exposed * 0.5) + stores * together + 600;
  double compute = rounds * tile_cycles / r.clock;
  if (blocks > at_once) compute = std::max(double(blocks) / at_once, rounds - 0.6) * tile_cycles / r.clock;
  const double weight_setup =
      t.resident
          ? double(chunks) * kw * s.pack * std::ceil(double(t.columns()) * taps / t.threads()) * warps * t.blocks * 3 +
                r.latency
          : 0;
  compute += (weight_setup + r.latency * 2) / r.clock;

  const double halo = double(t.d + s.span[0]) * (t.h + s.span[1]) * (t.w + s.span[2] + 4) / (double(t.d) * t.h * t.w);
  const double padded = double(tiles) * t.positions() / (double(s.batch) * s.grid[0] * s.grid[1] * s.grid[2]);
  const double l2 = s.source_bytes * halo * padded * column_blocks + s.out_bytes +
                    s.weight_bytes * (t.resident ? std::min<double>(tiles, double(at_once)) : double(tiles));
  const double dram = s.source_bytes + s.out_bytes + s.weight_bytes;
  const double memory = std::max(dram / target.bytes_per_second, l2 / (r.l2_over_dram * target.bytes_per_second));
  t.seconds = std::max(compute, memory) + 0.25 * std::min(compute, memory) + 2e-6;
  return true;
}

constexpr int most_accumulators = 96;  ///< Registers of a thread; with 128 the assembler spills (measured).

struct Warps {
  int m, n, k;
};
constexpr Warps arrangements[] = {{8, 1, 1}, {4, 1, 1}, {2, 1, 1}, {4, 2, 1}, {2, 2, 1}, {2, 4, 1},
                                  {1, 4, 1}, {1, 8, 1}, {1, 1, 4}, {1, 1, 8}, {2, 1, 4}, {2, 1, 2},
                                  {4, 1, 2}, {1, 2, 4}, {2, 2, 2}, {1, 2, 2}};

}  // namespace

std::string to_string(const GatherTile& t) {
  return std::to_string(t.n) + "x" + std::to_string(t.d) + "x" + std::to_string(t.h) + "x" + std::to_string(t.w) +
         " positions x " + std::to_string(t.columns()) + " columns, warps " + std::to_string(t.warps_m) + "x" +
         std::to_string(t.warps_n) + "x" + std::to_string(t.warps_k) + " of " + std::to_string(16 * t.mt) + "x" +
         std::to_string(8 * t.nt) + ", depth " + std::to_string(t.kc) + (t.resident ? " (weights resident)" : "") +
         ", runs of " + std::to_string(t.run) + ", " + std::to_string(t.blocks) + " blocks of " +
         std::to_string(t.shared_bytes) + " bytes shared";
}

std::vector<GatherTile> gather_tiles(const GatherShape& s, const CudaTarget& target) {
  std::vector<GatherTile> found;
  Layouts layouts(s);
  double best = 1e30;
  const int cap_w = power_of_two_from(s.grid[2]), cap_h = power_of_two_from(s.grid[1]),
            cap_d = power_of_two_from(s.grid[0]), cap_n = power_of_two_from(s.batch);
  for (const Warps& a : arrangements)
    for (int mt : {1, 2, 4})
      for (int nt : {1, 2, 3, 4, 6, 8}) {
        if (s.phase_count() * mt * nt * 4 > most_accumulators) continue;
        if (8 * nt * a.n >= 2 * power_of_two_from(std::max<std::int64_t>(s.columns, 8))) continue;
        const int positions = 16 * mt * a.m;
        for (int w = std::min(positions, std::max(cap_w, 1)); w >= 1; w /= 2) {
          if (w < std::min({cap_w, 8, positions}) && w * 4 < cap_w) break;
          for (int h = std::min(positions / w, cap_h); h >= 1; h /= 2)
            for (int d = std::min(positions / w / h, cap_d); d >= 1; d /= 2) {
              const int n = positions / (w * h * d);
              if (n > std::max(cap_n, 1) && (w < cap_w || h < cap_h || d < cap_d)) continue;
              // Products at full rate take this long; what cannot come near the best so far is not priced.
              const double products = double(ceil_div(s.batch, n) * ceil_div(s.grid[0], d) * ceil_div(s.grid[1], h) *
                                             ceil_div(s.grid[2], w)) *
                                      mt * a.m * double(ceil_div(s.columns, 8 * nt * a.n)) * nt * a.n *
                                      double(s.groups) * double(ceil_div(s.depth, 8 * s.pack)) * s.tap_count() *
                                      s.products;
              if (products * 1.5 / (1.7e9 * target.processors) > 1.1 * best) continue;
              for (int deep : {1, 2, 4}) {
                GatherTile t;
                t.n = n;
                t.d = d;
                t.h = h;
                t.w = w;
                t.mt = mt;
                t.nt = nt;
                t.warps_m = a.m;
                t.warps_n = a.n;
                t.warps_k = a.k;
                t.kc = 8 * s.pack * a.k * deep;
                if (t.kc >= 2 * s.depth && t.kc > 8 * s.pack * a.k) continue;
                t.fetch = s.element_bytes == 4 && !s.source_last ? 16 : 40;
                t.run = w >= 32 && mt % 2 == 0 ? 4 : w >= 16 ? 2 : 1;
                if (s.out_last) t.run = 1;
                t.staged = !s.out_last && s.spread > 1 && 8 % s.merged_w == 0;
                if (t.staged && t.run == 4) t.run = 2;
                for (bool resident : {true, false}) {
                  t.resident = resident;
                  if (price(s, t, target, layouts)) {
                    found.push_back(t);
                    best = std::min(best, t.seconds);
                    break;
                  }
                }
              }
            }
        }
      }
  std::stable_sort(found.begin(), found.end(),
                   [](const GatherTile& a, const GatherTile& b) { return a.seconds < b.seconds; });
  return found;
}

}  // namespace upconv::cuda
