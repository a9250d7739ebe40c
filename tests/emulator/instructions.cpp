// The instructions of a warp: shuffles and votes, mma.sync, ldmatrix and stmatrix, wgmma. Called by translated device
// code through cuda.hpp.
//
// Products: TF32 operands lose their low 13 bits (what a kernel did not round is truncated, as by the hardware), 16-bit
// ones are exact; a step of 8 or 16 products is added up in fp64, then to the sum, which is cut to fp32, towards zero
// as the tensor cores do: long chains of products lose what they lose there. wgmma is put off until it is waited for,
// where `late()` says so: it reads shared memory and, where it can, the A registers only then.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "emulator/memory.hpp"
#include "emulator/runtime.hpp"

using namespace emulator;

namespace {

float value_of_bf16(unsigned bits) { return emu::bits<float>(bits << 16); }

float value_of_f16(unsigned short bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent     ? std::ldexp(static_cast<float>(mantissa | 1024), exponent - 25)
                           : std::ldexp(static_cast<float>(mantissa), -24);
  return bits & 0x8000 ? -v : v;
}
const float* f16_values() {
  static const auto* all = [] {
    auto* v = new float[65536];
    for (unsigned i = 0; i < 65536; ++i) v[i] = value_of_f16(static_cast<unsigned short>(i));
    return v;
  }();
  return all;
}

/// The one or two numbers of an operand's word.
void numbers_of(int type, unsigned word, float* to) {
  if (type == 0) {
    to[0] = emu::bits<float>(word & ~0x1fffu);
  } else if (type == 1) {
    to[0] = f16_values()[word & 0xffffu], to[1] = f16_values()[word >> 16];
  } else {
    to[0] = value_of_bf16(word & 0xffffu), to[1] = value_of_bf16(word >> 16);
  }
}

float towards_zero(double v) {
  const auto f = static_cast<float>(v);
  return std::isfinite(f) && std::fabs(static_cast<double>(f)) > std::fabs(v) ? std::nextafterf(f, 0.0f) : f;
}

struct Mma {
  int type, words;
  float* const* d;
  const unsigned *a, *b;
  const float* c;
};

/// Rows of a lane's fragment are lane / 4 and that plus 8, its words lane % 4 and that plus 4, its columns of the
/// result 2 * (lane % 4) and the next.
void carry_out_mma(Meeting& m) {
  const Mma& first = *static_cast<Mma*>(m.lanes[0]);
  const int words = first.words, type = first.type, a_word = type == 0 ? 1 : 2, depth = words * a_word;
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Mma& l = *static_cast<Mma*>(m.lanes[lane]);
    const int row = lane / 4, word = lane % 4;
    for (int k = 0; k < words / 4; ++k) {
      numbers_of(type, l.a[2 * k], &a[row][(word + 4 * k) * a_word]);
      numbers_of(type, l.a[2 * k + 1], &a[row + 8][(word + 4 * k) * a_word]);
      float two[2];
      numbers_of(type, l.b[k], two);
      for (int i = 0; i < a_word; ++i) b[(word + 4 * k) * a_word + i][row] = two[i];
    }
  }
  double sum[16][8] = {};
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < depth; ++k)
      for (int c = 0; c < 8; ++c) sum[r][c] += static_cast<double>(a[r][k]) * static_cast<double>(b[k][c]);
  for (int lane = 0; lane < 32; ++lane) {
    const Mma& l = *static_cast<Mma*>(m.lanes[lane]);
    for (int i = 0; i < 4; ++i)
      *l.d[i] = towards_zero(static_cast<double>(l.c[i]) + sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
  }
}

struct Matrices {
  int count, transposed;
  unsigned* const* d;
  unsigned address;
};
void carry_out_ldmatrix(Meeting& m) {
  const Matrices& first = *static_cast<Matrices*>(m.lanes[0]);
  for (int i = 0; i < first.count; ++i) {
    unsigned short rows[8][8];
    for (int r = 0; r < 8; ++r)
      std::memcpy(rows[r], emu_shared_pointer(static_cast<Matrices*>(m.lanes[8 * i + r])->address, 16), 16);
    for (int lane = 0; lane < 32; ++lane) {
      const int r = lane / 4, c = lane % 4 * 2;
      const unsigned lo = first.transposed ? rows[c][r] : rows[r][c],
                     hi = first.transposed ? rows[c + 1][r] : rows[r][c + 1];
      *static_cast<Matrices*>(m.lanes[lane])->d[i] = lo | hi << 16;
    }
  }
}

struct StoredMatrices {
  int count, transposed;
  unsigned address;
  const unsigned* d;
};
void carry_out_stmatrix(Meeting& m) {
  const StoredMatrices& first = *static_cast<StoredMatrices*>(m.lanes[0]);
  for (int i = 0; i < first.count; ++i) {
    unsigned short rows[8][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int r = lane / 4, c = lane % 4 * 2;
      const unsigned word = static_cast<StoredMatrices*>(m.lanes[lane])->d[i];
      (first.transposed ? rows[c][r] : rows[r][c]) = static_cast<unsigned short>(word);
      (first.transposed ? rows[c + 1][r] : rows[r][c + 1]) = static_cast<unsigned short>(word >> 16);
    }
    for (int r = 0; r < 8; ++r)
      std::memcpy(emu_shared_pointer(static_cast<StoredMatrices*>(m.lanes[8 * i + r])->address, 16), rows[r], 16);
  }
}

struct Shuffle {
  unsigned long long value, result;
  int control, width;
};
void carry_out_shuffle(Meeting& m) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(m.arrived >> lane & 1u)) continue;
    Shuffle& s = *static_cast<Shuffle*>(m.lanes[lane]);
    const int first = lane / s.width * s.width, last = first + s.width - 1;
    int from = lane;
    switch (m.tag) {
      case 0:
        from = first + s.control % s.width;
        break;
      case 1:
        from = lane ^ s.control;
        break;
      case 2:
        from = lane - s.control;
        break;
      default:
        from = lane + s.control;
    }
    if (from < first || from > last) from = lane;
    if (!(m.arrived >> from & 1u)) fail("a shuffle reads a lane that does not take part");
    s.result = static_cast<Shuffle*>(m.lanes[from])->value;
  }
}
void carry_out_ballot(Meeting& m) {
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (m.arrived >> lane & 1u && *static_cast<unsigned*>(m.lanes[lane])) result |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (m.arrived >> lane & 1u) *static_cast<unsigned*>(m.lanes[lane]) = result;
}

// ---- wgmma --------------------------------------------------------------------------------------------------------

/// 16 bytes of row `row` of an operand in shared memory with its depth contiguous: its `half`-th eight 16-bit or four
/// 32-bit numbers.
void row_of(unsigned long long descriptor, int row, int half, unsigned (&words)[4]) {
  if (descriptor >> 49 & 0x1fff) fail("wgmma: the emulator knows descriptors without base offset only");
  const int swizzle = static_cast<int>(descriptor >> 62);  // 0, or 1, 2, 3 for 128, 64 and 32 bytes
  const unsigned start = static_cast<unsigned>(descriptor & 0x3fff) << 4,
                 leading = static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4,
                 stride = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
  const auto r = static_cast<unsigned>(row), h = static_cast<unsigned>(half);
  unsigned at = start + r / 8 * stride;
  if (swizzle == 0) {
    at += h * leading + r % 8 * 16;
  } else {
    at += h * 16 + r % 8 * (256u >> swizzle);
    at ^= (at >> 7 & ((8u >> (swizzle - 1)) - 1)) << 4;
  }
  const char* from = at % 16 ? nullptr : view_at(at | emu_self->rank << rank_shift, 16);
  if (!from)
    fail("wgmma: an operand outside shared memory, at byte " +
         std::to_string(static_cast<long long>(at) - shared_start) + " of " + std::to_string(emu_shared_bytes));
  std::memcpy(words, from, 16);
}

/// The 16-bit number of row `row` and depth `k` of an operand in shared memory with its rows contiguous: eight rows of
/// eight depths are 128 bytes, `stride` bytes to the next eight rows, `leading` to the next eight depths; or, swizzled,
/// 64 rows of eight depths are 1024 bytes, `leading` bytes to the next 64 rows, `stride` to the next eight depths.
unsigned short turned_at(unsigned long long descriptor, int row, int k) {
  const int swizzle = static_cast<int>(descriptor >> 62);
  if (descriptor >> 49 & 0x1fff || swizzle > 1)
    fail("wgmma: the emulator knows operands with contiguous rows without swizzle, or of 128 bytes, only");
  const unsigned start = static_cast<unsigned>(descriptor & 0x3fff) << 4,
                 leading = static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4,
                 stride = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
  const auto r = static_cast<unsigned>(row), d = static_cast<unsigned>(k);
  unsigned at = start + r / 8 * stride + d / 8 * leading + d % 8 * 16 + r % 8 * 2;
  if (swizzle) {
    if (start % 1024 != 0)
      fail("wgmma: a swizzled operand with contiguous rows must begin at a multiple of 1024 bytes");
    at = start + r / 64 * leading + d / 8 * stride + d % 8 * 128 + r % 64 * 2;
    at ^= (at >> 7 & 7) << 4;
  }
  const char* from = view_at(at | emu_self->rank << rank_shift, 2);
  if (!from)
    fail("wgmma: an operand outside shared memory, at byte " +
         std::to_string(static_cast<long long>(at) - shared_start) + " of " + std::to_string(emu_shared_bytes));
  unsigned short number;
  std::memcpy(&number, from, 2);
  return number;
}

/// One warp's rows of one wgmma: what its 32 lanes began.
void multiply(Products* const (&lanes)[32]) {
  const Products& first = *lanes[0];
  const int n = first.n, type = first.type, numbers = type == 0 ? 1 : 2, depth = 8 * numbers;
  float a[16][16];
  static float b[16][256];
  static double sum[16][256];
  const auto numbers_at = [&](unsigned long long descriptor, int row, bool turned, auto&& to) {
    for (int k = 0; turned && k < depth; ++k) {
      float two[2];
      numbers_of(type, turned_at(descriptor, row, k), two);
      to(k) = two[0];
    }
    if (turned) return;
    for (int half = 0; half < 2; ++half) {
      unsigned words[4];
      row_of(descriptor, row, half, words);
      for (int k = 0; k < 4; ++k) {
        float two[2];
        numbers_of(type, words[k], two);
        for (int i = 0; i < numbers; ++i) to((half * 4 + k) * numbers + i) = two[i];
      }
    }
  };
  for (int lane = 0; lane < 32; ++lane) {
    const Products& p = *lanes[lane];
    if (p.n != n || p.type != type || p.descriptor != first.descriptor || p.keep != first.keep ||
        p.a_in_memory != first.a_in_memory || p.a_descriptor != first.a_descriptor || p.turned != first.turned)
      fail("wgmma: the lanes of a warp have different operands");
    for (int i = 0; i < 4 && !p.a_in_memory; ++i)
      numbers_of(type, p.a_at[i] ? *p.a_at[i] : p.a[i], &a[lane / 4 + i % 2 * 8][(lane % 4 + i / 2 * 4) * numbers]);
  }
  for (int row = 0; row < 16 && first.a_in_memory; ++row)
    numbers_at(first.a_descriptor, emu_self->warp % 4 * 16 + row, (first.turned & 2) != 0,
               [&](int k) -> float& { return a[row][k]; });
  for (int column = 0; column < n; ++column)
    numbers_at(first.descriptor, column, (first.turned & 1) != 0, [&](int k) -> float& { return b[k][column]; });
  for (int r = 0; r < 16; ++r) {
    std::fill(sum[r], sum[r] + n, 0.0);
    for (int k = 0; k < depth; ++k) {
      const double v = static_cast<double>(a[r][k]);
      for (int c = 0; c < n; ++c) sum[r][c] += v * static_cast<double>(b[k][c]);
    }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int j = 0; j < n / 2; ++j) {
      float& to = *lanes[lane]->d[static_cast<std::size_t>(j)];
      to = towards_zero((first.keep ? static_cast<double>(to) : 0.0) +
                        sum[lane / 4 + j / 2 % 2 * 8][j / 4 * 8 + lane % 4 * 2 + j % 2]);
    }
}

/// The oldest groups of all lanes, until `pending` of the closed ones are left; < 0: the open one as well.
void carry_out_wgmma(Meeting& m) {
  if (m.arrived != ~0u) fail("wgmma needs all lanes of a warp");
  const int pending = m.tag;
  auto& groups = m.fibers[0]->products;
  const std::size_t leave = pending < 0 ? 0 : static_cast<std::size_t>(pending) + 1;
  for (const Fiber* f : m.fibers)
    if (f->products.size() != groups.size()) fail("wgmma: the lanes of a warp have begun different groups");
  while (groups.size() > leave) {
    for (std::size_t i = 0; i < groups.front().size(); ++i) {
      Products* lanes[32];
      for (int lane = 0; lane < 32; ++lane) {
        auto& group = m.fibers[lane]->products.front();
        if (i >= group.size()) fail("wgmma: the lanes of a warp have begun different products");
        lanes[lane] = &group[i];
      }
      multiply(lanes);
    }
    for (Fiber* f : m.fibers) f->products.erase(f->products.begin());
  }
  if (pending < 0)
    for (Fiber* f : m.fibers) f->products.assign(1, {});
}

}  // namespace

extern "C" {

void emu_syncwarp(unsigned mask) { meet(mask, nullptr, 1, nullptr, "__syncwarp"); }

unsigned long long emu_shuffle(unsigned mask, unsigned long long value, int kind, int control, int width) {
  Shuffle s{value, 0, control, width};
  meet(mask, carry_out_shuffle, kind, &s, "a shuffle");
  return s.result;
}
unsigned emu_ballot(unsigned mask, int predicate) {
  unsigned v = predicate != 0;
  meet(mask, carry_out_ballot, 0, &v, "a vote");
  return v;
}
unsigned emu_activemask() { return 1u << self().lane; }

void emu_mma(int type, int words, float* const* d, const unsigned* a, const unsigned* b, const float* c) {
  Mma brought{type, words, d, a, b, c};
  meet(~0u, carry_out_mma, type * 16 + words, &brought, "mma.sync");
}
void emu_ldmatrix(int count, int transposed, unsigned* const* d, unsigned address) {
  Matrices brought{count, transposed, d, address};
  meet(~0u, carry_out_ldmatrix, 2 * count + transposed, &brought, "ldmatrix");
}

void emu_stmatrix(int count, int transposed, unsigned address, const unsigned* d) {
  StoredMatrices brought{count, transposed, address, d};
  meet(~0u, carry_out_stmatrix, 2 * count + transposed, &brought, "stmatrix");
}
int emu_elect(unsigned mask) {
  meet(mask, nullptr, 4, nullptr, "elect.sync");
  return (mask & -mask) == 1u << self().lane;
}
void emu_registers(unsigned count) {
  if (count % 8 || count < 24 || count > 256) fail("setmaxnreg: " + std::to_string(count) + " registers");
  meet(~0u, nullptr, 5, nullptr, "setmaxnreg");
}

void emu_wgmma(int n, int type, float* const* d, const unsigned* const* a_at, const unsigned* a,
               unsigned long long a_descriptor, unsigned long long descriptor, int keep, int turned) {
  Products p{n, type, keep, a == nullptr, {d, d + n / 2}, {}, {}, a_descriptor, descriptor, turned};
  for (int i = 0; i < 4 && a; ++i) p.a_at[i] = a_at[i], p.a[i] = a[i];
  self().products.back().push_back(std::move(p));
  if (!late()) meet(~0u, carry_out_wgmma, -1, nullptr, "wgmma");
}
void emu_wgmma_fence() { meet(~0u, nullptr, 2, nullptr, "wgmma.fence"); }
void emu_wgmma_commit() {
  meet(~0u, nullptr, 3, nullptr, "wgmma.commit_group");
  self().products.emplace_back();
}
void emu_wgmma_wait(int pending) { meet(~0u, carry_out_wgmma, pending, nullptr, "wgmma.wait_group"); }

float emu_f16_value(unsigned short bits) { return f16_values()[bits]; }
/// To nearest, ties to even.
unsigned short emu_f16_of(float v) {
  const unsigned bits = emu::bits<unsigned>(v), sign = bits >> 16 & 0x8000u;
  const float size = std::fabs(v);
  if (std::isnan(v)) return 0x7fff;
  if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00u);
  if (size < 0x1p-14f) return static_cast<unsigned short>(sign | static_cast<unsigned>(std::nearbyint(size * 0x1p24f)));
  const unsigned rounded = (bits & 0x7fffffffu) + 0xfffu + (bits >> 13 & 1u);
  return static_cast<unsigned short>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // extern "C"
