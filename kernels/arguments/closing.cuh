// What a launch of the kernels of closing/ passes by value. launch/closing.hpp fills it.
#pragma once

#include "arguments/operands.cuh"

namespace upconv::arguments {

/// Quotients n / value of 0 <= n < 2^31: (high half of n * magic, plus n) >> shift.
struct Divisor {
  long long value;
  unsigned magic, shift;
};

/// Values (n, channel, d, h, w) of one shape, dense, channels first.
struct ClosingShape {
  Values values;    ///< values.c is the volume of space.
  long long count;  ///< Of all values.
  int d;
  Divisor volume, h, w;
};

/// Of closing/sets.cuh: warps that work on a set, and vectors of 16 bytes of a lane in a piece; threads of a block,
/// bytes of a piece, and the most pieces in shared memory.
constexpr int set_warps = 24, set_each = 2, set_threads = 32 * set_warps + 32;
constexpr int set_piece = 512 * set_warps * set_each, most_slots = 9;

struct Closing {
  const void* source;
  void* out;
  void* parts;            ///< Statistics in pieces: two numbers a unit and share.
  const void* tables[4];  ///< What items of the value read: numbers of a plane, row or set.
  void* table_out;
  void* argmax;        ///< Where in its window the largest value lies, kept for the gradient.
  void* saved;         ///< norm: mean and scale of every set, kept for the gradient.
  double* statistics;  ///< Of a batch norm: means, then biased variances.
  const void *weight, *bias;
  ClosingShape in;                 ///< As the source lies.
  ClosingShape at;                 ///< After the window.
  ClosingShape result;             ///< After a reduction.
  long long row;                   ///< Values of a row that an item of the value divides by.
  long long units, length, inner;  ///< Ranges: [units][length][inner] values, or units of `length` of them.
  Divisor inner_by;
  long long shares, share;  ///< Of a unit, and values of each. sets: pieces that fit.
  long long planes;         ///< norm: planes of a set.
  int team;                 ///< Threads that work together.
  int backwards;            ///< 1: blocks begin with the last values.
};

}  // namespace upconv::arguments
