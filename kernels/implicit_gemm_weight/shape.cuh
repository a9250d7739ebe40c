// What a block of implicit_gemm_weight.cuh works on: its stages in shared memory and their barriers, its part of dw,
// its boxes.
#pragma once

#include "arguments/implicit_gemm_weight.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv {

using namespace config;

typedef arguments::ImplicitGemmWeight Arguments;

constexpr int warpgroup = 128, multiplying = WGM * WGN * warpgroup, threads = multiplying + warpgroup;
/// A slice: 64 positions of 64 channels.
constexpr int row_bytes = 128, slice_bytes = 64 * row_bytes, slices = WGM + BN / 64, stage_bytes = slices * slice_bytes;
constexpr int tiles_ci = (CI + 64 * WGM - 1) / (64 * WGM), tiles_co = (CO + BN - 1) / BN;
static_assert(BN % (64 * WGN) == 0, "a product's columns are whole slices");
static_assert(CO % 8 == 0 && (GROUPS == 1 || CI % 8 == 0), "boxes begin at multiples of 16 bytes");

/// Barriers of the stages: boxes have landed, products have read them.
struct Barriers {
  u32 full, empty;
};

/// Positions of a box.
__device__ __forceinline__ int rows_of(const Arguments& p) { return p.box_n * p.box[0] * p.box[1] * p.box[2]; }

/// This block's part of dw, and its boxes. Blocks that are neighbours read the same positions.
struct Part {
  int ci0, co0, group, of_launch, tap;  ///< `of_launch`: the tap's number there.
  i64 split, begin, end;
  int offset[3];  ///< Of dy where x is at 0.

  __device__ __forceinline__ explicit Part(const Arguments& p) {
    u32 id = blockIdx.x;
    const auto take = [&](u32 size) {
      const u32 r = id % size;
      id /= size;
      return static_cast<int>(r);
    };
    ci0 = take(tiles_ci) * (64 * WGM), co0 = take(tiles_co) * BN, group = take(GROUPS), of_launch = take(p.taps);
    split = id, tap = p.first_tap + of_launch;
    const int(&counts)[3] = p.boxes[of_launch];
    const i64 boxes = static_cast<i64>(p.boxes_n) * counts[0] * counts[1] * counts[2];
    begin = boxes * split / p.splits, end = boxes * (split + 1) / p.splits;
    offset[0] = tap / (KH * KW) * DD - PD, offset[1] = tap / KW % KH * DH - PH, offset[2] = tap % KW * DW - PW;
  }
};

/// A box, by its number in each dimension; those of W come first.
struct Box {
  int n, d, h, w;

  __device__ __forceinline__ Box(i64 number, const int (&counts)[3]) {
    w = static_cast<int>(number % counts[2]), number /= counts[2];
    h = static_cast<int>(number % counts[1]), number /= counts[1];
    d = static_cast<int>(number % counts[0]), n = static_cast<int>(number / counts[0]);
  }
  __device__ __forceinline__ void advance(const int (&counts)[3]) {
    if (++w < counts[2]) return;
    w = 0;
    if (++h < counts[1]) return;
    h = 0;
    if (++d < counts[0]) return;
    d = 0, ++n;
  }
};

}  // namespace upconv
