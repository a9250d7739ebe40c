// The element type of x, dy and dw, from `config::element`: 0 fp32, 1 fp16, 2 bf16.
#pragma once

#include "types.cuh"

namespace upconv {

template <int Element>
struct ElementType {
  typedef float type;
};
template <>
struct ElementType<1> {
  typedef f16 type;
};
template <>
struct ElementType<2> {
  typedef bf16 type;
};
typedef ElementType<config::element>::type Element;

}  // namespace upconv
