// Words of 2 to 16 bytes that a lane loads and stores at once.
#pragma once

#include "types.cuh"

namespace upconv {

template <int bytes>
struct WordsOf {
  typedef uint4 Type;
};
template <>
struct WordsOf<8> {
  typedef uint2 Type;
};
template <>
struct WordsOf<4> {
  typedef u32 Type;
};
template <>
struct WordsOf<2> {
  typedef u16 Type;
};

}  // namespace upconv
