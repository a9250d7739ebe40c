// Brings boxes of x and dy into the stages of implicit_gemm_weight.cuh: by bulk copies, or, where the tensors have no
// maps, element by element.
#pragma once

#include "implicit_gemm_weight/shape.cuh"

namespace upconv {

/// Rows of all stages that no box fills.
__device__ __forceinline__ void zero_rows(char* stages, int rows) {
  const int pieces = (64 - rows) * (row_bytes / 16);
  for (int slice = 0; slice < STAGES * slices; ++slice)
    for (int i = threadIdx.x; i < pieces; i += threads)
      *reinterpret_cast<uint4*>(stages + slice * slice_bytes + rows * row_bytes + i * 16) = make_uint4(0, 0, 0, 0);
}

/// By one thread.
__device__ __forceinline__ void bring(const Arguments& p, const Part& part, u32 stages, const Barriers& barriers) {
  const int(&counts)[3] = p.boxes[part.of_launch];
  const int(&first)[3] = p.first[part.of_launch];
  const arguments::TensorMap* const x_map = &p.maps[p.x_map[part.of_launch]];
  const arguments::TensorMap* const dy_map = &p.maps[p.dy_map[part.of_launch]];
  const int bytes = rows_of(p) * row_bytes * slices;
  const int x_channel = part.group * CI + part.ci0, dy_channel = part.group * CO + part.co0;
  if (part.begin >= part.end) return;
  Box box(part.begin, counts);
  int now = 0, parity = 1;
#pragma unroll 1
  for (i64 b = part.begin; b < part.end; ++b) {
    const u32 full = barriers.full + 8 * now, x_at = stages + now * stage_bytes, dy_at = x_at + WGM * slice_bytes;
    if (b - part.begin >= STAGES) barrier_wait(barriers.empty + 8 * now, parity);
    barrier_expect(full, bytes);
    const int n = box.n * p.box_n, d = first[0] + box.d * p.box[0], h = first[1] + box.h * p.box[1],
              w = first[2] + box.w * p.box[2];
    const int dy_d = d * SD + part.offset[0], dy_h = h * SH + part.offset[1], dy_w = w * SW + part.offset[2];
#pragma unroll
    for (int i = 0; i < WGM; ++i) copy_box(x_at + i * slice_bytes, x_map, full, x_channel + 64 * i, w, h, d, n);
#pragma unroll
    for (int i = 0; i < BN / 64; ++i)
      copy_box(dy_at + i * slice_bytes, dy_map, full, dy_channel + 64 * i, dy_w, dy_h, dy_d, n);
    box.advance(counts);
    if (++now == STAGES) now = 0, parity ^= 1;
  }
}

/// By all threads of a warpgroup.
__device__ __forceinline__ void bring_plainly(const Arguments& p, const Part& part, char* stages,
                                              const Barriers& barriers) {
  const int(&counts)[3] = p.boxes[part.of_launch];
  const int(&first)[3] = p.first[part.of_launch];
  const int(&end)[3] = p.end[part.of_launch];
  const int rows = rows_of(p);
  if (part.begin >= part.end) return;
  Box box(part.begin, counts);
  int now = 0, parity = 1;
#pragma unroll 1
  for (i64 b = part.begin; b < part.end; ++b) {
    if (b - part.begin >= STAGES) barrier_wait(barriers.empty + 8 * now, parity);
    char* const stage = stages + now * stage_bytes;
#pragma unroll 1
    for (int i = threadIdx.x - multiplying; i < slices * rows * 64; i += warpgroup) {
      const int channel = i % 64, row = i / 64 % rows, slice = i / 64 / rows;
      int r = row;
      const int w = first[2] + box.w * p.box[2] + r % p.box[2];
      r /= p.box[2];
      const int h = first[1] + box.h * p.box[1] + r % p.box[1];
      r /= p.box[1];
      const int d = first[0] + box.d * p.box[0] + r % p.box[0];
      const i64 n = box.n * p.box_n + r / p.box[0];
      const bool of_x = slice < WGM;
      const int c = of_x ? part.ci0 + slice * 64 + channel : part.co0 + (slice - WGM) * 64 + channel;
      u16 v = 0;
      if (n < p.batch && d < end[0] && h < end[1] && w < end[2] && c < (of_x ? CI : CO)) {
        const i64 at =
            of_x ? ((n * p.in[0] + d) * p.in[1] + h) * p.in[2] + w
                 : ((n * p.out[0] + d * SD + part.offset[0]) * p.out[1] + h * SH + part.offset[1]) * p.out[2] + w * SW +
                       part.offset[2];
        v = reinterpret_cast<const u16*>(
            of_x ? p.x : p.dy)[at * (GROUPS * (of_x ? CI : CO)) + part.group * (of_x ? CI : CO) + c];
      }
      *reinterpret_cast<u16*>(stage + slice * slice_bytes + row * row_bytes + (channel * 2 ^ row % 8 * 16)) = v;
    }
    fence_shared();
    barrier_arrive(barriers.full + 8 * now);
    box.advance(counts);
    if (++now == STAGES) now = 0, parity ^= 1;
  }
}

}  // namespace upconv
