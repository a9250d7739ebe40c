// Operand tensors of element-wise steps, as launches pass them by value. src/cuda/operands.hpp fills it.
#pragma once

namespace upconv::arguments {

/// Element strides of an operand over (n, channel, d, h, w) of the values that read it; 0 where it is broadcast.
struct Operand {
  const void* data;
  long long n, c, d, h, w;
};

/// How the values themselves lie: strides of sample, channel and neighbours in w, and the sizes that turn an offset
/// into a place.
struct Values {
  long long n, c, column;
  int h, w;
};

/// The trailing parameter of every forward kernel; nothing where no step reads an operand.
template <int count>
struct Operands {
  Values values;
  Operand at[count];
};
template <>
struct Operands<0> {};

}  // namespace upconv::arguments
