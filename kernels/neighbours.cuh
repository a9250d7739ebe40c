// Neighbouring elements that a lane loads and stores together.
#pragma once

#include "types.cuh"

namespace upconv {

/// `count` neighbours, moved by one instruction where that is known of their place (16 bytes at most by one).
template <class T, int count>
struct alignas(sizeof(T) * count < 16 ? sizeof(T) * count : 16) Neighbours {
  T v[count];
};
template <class T, int count>
__device__ __forceinline__ bool in_place_for(const void* at) {
  return reinterpret_cast<unsigned long long>(at) % alignof(Neighbours<T, count>) == 0;
}

}  // namespace upconv
