// What the gather kernel derives from its configuration: the tile, its place in shared memory and its parameters.
// A tile is TN x TD x TH x TW positions (the M of the product) by NB columns (its N); depth comes in chunks of KC.
//   forward: positions are the phase grid q, columns output channels (times merged phases), depth input channels
//   dx:      positions are the inputs,       columns input channels, depth output channels (times merged residues)
#pragma once

#include "arguments/gather_mma.cuh"
#include "mma/operand.cuh"
#include "mma/taps.cuh"

namespace upconv {

typedef arguments::GatherMma Arguments;

namespace gather {
using namespace config;

constexpr int WARPS = WARPS_M * WARPS_N * WARPS_K;
constexpr int THREADS = 32 * WARPS;
constexpr int MB = 16 * MT * WARPS_M, NB = 8 * NT * WARPS_N;
static_assert(MB == TN * TD * TH * TW, "the warps cover the tile's positions");
static_assert((MT & (MT - 1)) == 0 && (TW & (TW - 1)) == 0 && (TH & (TH - 1)) == 0 && (TD & (TD - 1)) == 0,
              "position bits are separable");
static_assert(J == 1 || (J == 2 && TW >= 16) || (J == 4 && MT % 2 == 0 && TW >= 32), "runs of J stay in a line");

constexpr int PACK = numbers_a_word(MODE), PARTS = parts_of(MODE), BYTES = bytes_a_number(MODE);
constexpr int KW = KC / PACK, KS = KW / 8, KSW = KS / WARPS_K;  // words, k-steps, k-steps of a warp, in a chunk
static_assert(KSW * WARPS_K * 8 * PACK == KC, "the chunk is whole k-steps for every warp");
constexpr int CHUNKS = (DEPTH + KC - 1) / KC;

constexpr int merged_volume = merged_stride(DIM_D) * merged_stride(DIM_H) * merged_stride(DIM_W);
constexpr int taps_d = taps(DIM_D), taps_h = taps(DIM_H), taps_w = taps(DIM_W), TAPS = taps_d * taps_h * taps_w;

constexpr int phases_d = FORWARD ? residues(DIM_D) : 1, phases_h = FORWARD ? residues(DIM_H) : 1,
              phases_w = FORWARD ? residues(DIM_W) : 1, PHASES = phases_d * phases_h * phases_w;
constexpr int planes_d = FORWARD ? 1 : residues(DIM_D), planes_h = FORWARD ? 1 : residues(DIM_H),
              planes_w = FORWARD ? 1 : residues(DIM_W), PLANES = planes_d * planes_h * planes_w;

// Source words of a chunk: [part][word][sample][plane][d][h][w]; rows are LW apart, LD x LH x LW_USED are filled.
constexpr int LD = TD + span(DIM_D), LH = TH + span(DIM_H), LW_USED = TW + span(DIM_W);
static_assert(LW >= LW_USED, "room for the line");
constexpr int pitch_h = LW, pitch_d = LH * LW, pitch_plane = LD * pitch_d, pitch_n = PLANES * pitch_plane + NPAD;
static_assert(KPITCH >= TN * pitch_n, "room for the chunk");
__host__ __device__ constexpr int word_row(int k) { return k * KPITCH + SKEW * ((k >> 1) & 1); }
constexpr int XPART = (KW * KPITCH + 4) / 4 * 4, XBUFFER = PARTS * XPART;

// Weight words of a chunk, in fragment order: [part][tap][k-step][n-tile][lane][2]. The pitches spread what a warp
// stores at once (many columns and taps of one word of depth) over the banks.
constexpr int NTILE_PITCH = 66, TAP_WORDS = KS * NB / 8 * NTILE_PITCH;
constexpr int TAP_PITCH = TAP_WORDS + (36 - TAP_WORDS % 32) % 32, BPART = TAPS * TAP_PITCH, BBUFFER = PARTS * BPART;
__host__ __device__ constexpr int fragment_word(int kw, int n) {
  return (kw / 8 * (NB / 8) + n / 8) * NTILE_PITCH + (n % 8 * 4 + kw % 4) * 2 + kw / 4 % 2;
}

constexpr int B_WORDS = (RESIDENT ? CHUNKS : 2) * BBUFFER;
constexpr int REDUCE_WORDS = (WARPS_K - 1) * WARPS_M * WARPS_N * 32 * PHASES * MT * NT * 4;

/// Position -> word of the source tile, for tap reach 0. Additive over disjoint bits of the position.
constexpr int position_word(int p) {
  return p % TW + p / TW % TH * pitch_h + p / (TW * TH) % TD * pitch_d + p / (TW * TH * TD) * pitch_n;
}
/// Row r of half h of m-tile mt -> position within the warp's MT * 16. A lane's J positions are consecutive.
constexpr int row_position(int mt, int half, int r) {
  return J == 4 ? mt / 2 * 32 + r * 4 + mt % 2 * 2 + half : J == 2 ? mt * 16 + r * 2 + half : mt * 16 + half * 8 + r;
}

/// First sample and grid position of a tile.
struct Place {
  int n, d, h, w;
};
__device__ __forceinline__ Place place_of(const Arguments& a, int tile) {
  Place p;
  p.w = a.first[2] + tile % a.tiles_w * TW;
  tile /= a.tiles_w;
  p.h = a.first[1] + tile % a.tiles_h * TH;
  tile /= a.tiles_h;
  p.d = a.first[0] + tile % a.tiles_d * TD;
  p.n = tile / a.tiles_d * TN;
  return p;
}

}  // namespace gather
}  // namespace upconv
