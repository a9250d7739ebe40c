// What a launch of the gradient kernels of closing/ passes by value. launch/pull.hpp fills it.
#pragma once

#include "arguments/closing.cuh"

namespace upconv::arguments {

/// Most operands whose gradients one kernel writes for every value.
constexpr int most_wholes = 16;

struct Pull {
  Closing values;           ///< The values that the forward pass computed from; `out` is what the gradient becomes.
  const void* gradient;     ///< As it arrives: of the values themselves, of what a reduction or a window left of them.
  ClosingShape arriving;    ///< Of a window's results.
  const void* argmax;       ///< Where in each window its largest value lies.
  const void* reduced;      ///< What a reduction gave.
  const void* ties;         ///< How many values are that.
  long long length, inner;  ///< The values of a reduction, as those of Closing.
  const void* coefficients[4];  ///< Of a norm or softmax among the items: three numbers a plane or row.
  void* sums;                   ///< Of every unit and share, SUMS numbers.
  void* vector_sums;            ///< rows: of every block, the gradients of a norm's weight and bias.
  void* whole[most_wholes];     ///< Gradients of operands, one number a value.
};

/// Sums over some dimensions of numbers that lie in any way.
struct Total {
  const void* in;
  void* out;
  long long outputs, count;           ///< Results, and numbers of each.
  long long kept[5], kept_stride[5];  ///< Sizes and strides of what is kept, outermost first; 1 where there is none.
  long long gone[5], gone_stride[5];  ///< Of what is summed over.
  int team;                           ///< Threads of a result: 1, 32 or 256.
};

}  // namespace upconv::arguments
