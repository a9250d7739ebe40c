// A kernel beside the end of the one before it on the stream (programmatic dependent launch, compute capability 9.0
// on): its blocks begin where there is room as soon as every block of that one has begun, and wait here for its end.
//
// Every kernel calls both, in all threads: let_next_begin() first, after_previous() before a thread first reads or
// writes global memory and before it may return. A kernel thus ends after all that were launched before it, and what
// holds of two holds of a row of them. Where the launch does not ask for it (src/jit/kernel.cpp), both do nothing.
//
// What lies in memory is not constant while a kernel waits: the assembler moves ld.global.nc in front of the wait, and
// a cache may hold what it read for an earlier kernel. So no kernel uses it, nor __ldg(), nor what the compiler makes
// it of, parameters that are `const` and `__restrict__`. Asm that loads is volatile, or by pointers that went through
// the wait. tests/kernels/compile.cpp looks for all this in the machine code.
#pragma once

namespace upconv {

/// What loads by `p` behind this is behind it for the compiler too. (What it knew of the address is lost: for asm.)
template <class Pointer>
__device__ __forceinline__ void behind(Pointer& p) {
  asm volatile("" : "+l"(p));
}

/// Returns when the kernels before this one have ended and what they wrote can be read: by `pointers` also with asm
/// that is not volatile.
template <class... Pointers>
__device__ __forceinline__ void after_previous(Pointers&... pointers) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  (..., behind(pointers));
#endif
}

/// The next kernel's blocks may begin once all blocks of this one have called it or returned.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace upconv
