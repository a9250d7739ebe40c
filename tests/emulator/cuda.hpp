// CUDA's device language for a C++ compiler: what stands in front of a translated .cu text (translate.hpp) so that its
// kernels run on the CPU, thread by thread, in runtime.cpp. Included by force (-include) before everything else.
// Host code of the same text may launch with cudaLaunchKernel; `<<<>>>` is not understood.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif
#if __CUDA_ARCH__ == 900 && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define __CUDA_ARCH_FEAT_SM90_ALL 1  // sm_90a
#endif
#define __CUDACC__ 1
#define UPCONV_EMULATED 1

#define __device__
#define __host__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __cluster_dims__(...)

#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wattributes"

// The C library's functions of one number, as it declares them: <math.h> itself would take most of a compile's time.
#define EMU_MATH(name)                     \
  extern "C" double name(double) noexcept; \
  extern "C" float name##f(float) noexcept;
EMU_MATH(exp)
EMU_MATH(exp2)
EMU_MATH(expm1)
EMU_MATH(log)
EMU_MATH(log2)
EMU_MATH(log1p)
EMU_MATH(tanh)
EMU_MATH(sin)
EMU_MATH(cos)
EMU_MATH(erf)
EMU_MATH(erfc)
EMU_MATH(sqrt)
EMU_MATH(fabs)
EMU_MATH(floor)
EMU_MATH(ceil)
#undef EMU_MATH
extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fmin(double, double) noexcept;
extern "C" float fminf(float, float) noexcept;
extern "C" double fmax(double, double) noexcept;
extern "C" float fmaxf(float, float) noexcept;
extern "C" double pow(double, double) noexcept;
extern "C" float powf(float, float) noexcept;

// Vectors, aligned as in CUDA.
#define EMU_VECTORS(T, name, a2, a4)                                        \
  struct name##1 {                                                          \
    T x;                                                                    \
  };                                                                        \
  struct alignas(a2) name##2 {                                              \
    T x, y;                                                                 \
  };                                                                        \
  struct name##3 {                                                          \
    T x, y, z;                                                              \
  };                                                                        \
  struct alignas(a4) name##4 {                                              \
    T x, y, z, w;                                                           \
  };                                                                        \
  static inline name##1 make_##name##1(T x) { return {x}; }                 \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(signed char, char, 2, 4)
EMU_VECTORS(unsigned char, uchar, 2, 4)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(unsigned short, ushort, 4, 8)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(unsigned, uint, 8, 16)
EMU_VECTORS(long long, longlong, 16, 16)
EMU_VECTORS(unsigned long long, ulonglong, 16, 16)
EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(double, double, 16, 16)
#undef EMU_VECTORS
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// What runtime.cpp and instructions.cpp offer. One kernel runs at a time, on one thread of the system.
struct EmuThread {
  dim3 thread, block, threads, blocks;
  dim3 in_cluster, cluster;  ///< The block's place in its cluster, and the cluster's size.
  unsigned rank;             ///< That place as a number.
  int lane, warp;
  bool early;  ///< The kernel before may still run: global memory is not to be touched.
};
#pragma GCC visibility push(default)
extern "C" {
extern EmuThread* emu_self;        ///< The device thread that is running.
extern char* emu_dynamic_shared;   ///< Host address of the block's dynamic shared memory.
extern unsigned emu_shared_bytes;  ///< How much of it there is.
[[noreturn]] void emu_fail(const char* what);
void emu_after_previous();
unsigned emu_shared_address(const void* p);
void* emu_shared_pointer(unsigned address, unsigned bytes);
void* emu_cluster_pointer(unsigned address, unsigned bytes);  ///< Of any block of the cluster.
unsigned emu_map_rank(unsigned address, unsigned rank);
void* emu_map_pointer(const void* p, unsigned rank);
unsigned emu_static_shared_reserve(unsigned bytes, unsigned alignment);
void* emu_static_shared_at(unsigned offset);
/// The last three: __cluster_dims__, or zeros.
void emu_register(const void* function, const char* name, void (*entry)(void**), unsigned, unsigned, unsigned);
void emu_barrier(unsigned id, int threads);  ///< threads < 0: all of the block.
void emu_barrier_arrive(unsigned id, int threads);
int emu_barrier_or(int value);
int emu_barrier_and(int value);
int emu_barrier_count(int value);
void emu_syncwarp(unsigned mask);
/// kind: 0 index, 1 xor, 2 up, 3 down. `control`: the lane, mask or delta.
unsigned long long emu_shuffle(unsigned mask, unsigned long long value, int kind, int control, int width);
unsigned emu_ballot(unsigned mask, int predicate);
unsigned emu_activemask();
int emu_elect(unsigned mask);
void emu_registers(unsigned count);
void emu_cluster_arrive(int aligned);
void emu_cluster_wait(int aligned);
void emu_yield();
/// Products of one warp. type: 0 TF32, 1 fp16, 2 bf16; `words` of depth: 8 or 4.
void emu_mma(int type, int words, float* const* d, const unsigned* a, const unsigned* b, const float* c);
void emu_ldmatrix(int count, int transposed, unsigned* const* d, unsigned address);
void emu_stmatrix(int count, int transposed, unsigned address, const unsigned* d);
/// a_at[i], where not null, is where a[i] will be read when the products are carried out; a null: by a descriptor.
void emu_wgmma(int n, int type, float* const* d, const unsigned* const* a_at, const unsigned* a,
               unsigned long long a_descriptor, unsigned long long descriptor, int keep, int turned);
void emu_wgmma_fence();
void emu_wgmma_commit();
void emu_wgmma_wait(int pending);
void emu_copy_async(int bytes, unsigned to, const void* from, unsigned source_bytes);
void emu_copy_commit();
void emu_copy_wait(int pending);  ///< < 0: everything, committed or not.
void emu_copy_arrive(unsigned address, int counted);
void emu_mbarrier_init(unsigned address, unsigned count);
void emu_mbarrier_inval(unsigned address);
/// Expects `bytes` more, then arrives `count` times; the phase. `remote`: it may be another block's barrier.
unsigned long long emu_mbarrier_arrive(unsigned address, unsigned count, unsigned bytes, int remote);
void emu_mbarrier_bytes(unsigned address, unsigned expected, unsigned complete, int remote);
void emu_mbarrier_wait(unsigned address, unsigned parity);
int emu_mbarrier_test(unsigned address, unsigned parity);
void emu_fence_barriers();
void emu_proxy_fence();
/// mask < 0: no multicast.
void emu_bulk_load(unsigned to, const void* from, unsigned bytes, unsigned barrier, int mask);
void emu_bulk_send(unsigned to, unsigned from, unsigned bytes, unsigned barrier);
void emu_bulk_store(void* to, unsigned from, unsigned bytes);
void emu_tensor_load(int rank, unsigned to, const void* map, const int* at, unsigned barrier, int mask);
void emu_tensor_store(int rank, const void* map, const int* at, unsigned from);
void emu_store_async(unsigned to, const unsigned* words, int count, unsigned barrier);
void emu_bulk_commit();
void emu_bulk_wait(int pending, int read_only);
void emu_prefetch_map(const void* map);
unsigned short emu_f16_of(float v);
float emu_f16_value(unsigned short bits);
int emu_launch(const void* function, const dim3* grid, const dim3* block, void** arguments, size_t shared_bytes,
               int early);
int emu_allow_shared(const void* function, size_t bytes);
int emu_allow_wide_clusters(const void* function);
const char* emu_last_error();
void* emu_driver_symbol(const char* name);
}
#pragma GCC visibility pop

#define threadIdx (emu_self->thread)
#define blockIdx (emu_self->block)
#define blockDim (emu_self->threads)
#define gridDim (emu_self->blocks)
static constexpr int warpSize = 32;

namespace emu {

template <class To, class From>
static inline To bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "bits of one size");
  To r;
  memcpy(&r, &v, sizeof r);
  return r;
}

/// A block's instance of a `__shared__` variable; each type is one variable.
template <class T>
static inline T* static_shared() {
  static const unsigned offset = emu_static_shared_reserve(sizeof(T), alignof(T));
  return static_cast<T*>(emu_static_shared_at(offset));
}

template <size_t... I>
struct Index {};
template <size_t N, size_t... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <size_t... I>
struct Count<0, I...> {
  typedef Index<I...> type;
};
template <class T>
struct Bare {
  typedef T type;
};
template <class T>
struct Bare<const T> {
  typedef T type;
};
template <class T>
struct Bare<const T&> {  // of __grid_constant__: where the launch put it
  typedef T type;
};
template <class T>
static inline T& argument(void* p) {
  if (reinterpret_cast<size_t>(p) % alignof(T) != 0) emu_fail("a launch argument that is not aligned as its type");
  return *static_cast<T*>(p);
}
template <class... P, size_t... I>
static inline void call(void (*kernel)(P...), void** a, Index<I...>) {
  kernel(argument<typename Bare<P>::type>(a[I])...);
}
template <class... P>
static inline void invoke(void (*kernel)(P...), void** a) {
  call(kernel, a, typename Count<sizeof...(P)>::type{});
}
struct Registered {
  Registered(const void* function, const char* name, void (*entry)(void**), unsigned x = 0, unsigned y = 1,
             unsigned z = 1) {
    emu_register(function, name, entry, x, y, z);
  }
};

}  // namespace emu

// Intrinsics.
static inline unsigned __float_as_uint(float v) { return emu::bits<unsigned>(v); }
static inline int __float_as_int(float v) { return emu::bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return emu::bits<float>(v); }
static inline float __int_as_float(int v) { return emu::bits<float>(v); }
static inline double __longlong_as_double(long long v) { return emu::bits<double>(v); }
static inline long long __double_as_longlong(double v) { return emu::bits<long long>(v); }
static inline double __hiloint2double(int hi, int lo) {
  return emu::bits<double>(static_cast<unsigned long long>(static_cast<unsigned>(hi)) << 32 |
                           static_cast<unsigned>(lo));
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned s = selector >> (4 * i) & 15u;
    unsigned byte = static_cast<unsigned>(both >> (8 * (s & 7u))) & 255u;
    if (s & 8u) byte = byte & 128u ? 255u : 0u;
    r |= byte << (8 * i);
  }
  return r;
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(hi) << 32 | lo) >> (shift & 31u));
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(hi) << 32 | lo) << (shift & 31u) >> 32);
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
static inline size_t __cvta_generic_to_shared(const void* p) { return emu_shared_address(p); }
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}
static inline void __syncthreads() { emu_barrier(0, -1); }
static inline int __syncthreads_or(int v) { return emu_barrier_or(v); }
static inline int __syncthreads_and(int v) { return emu_barrier_and(v); }
static inline int __syncthreads_count(int v) { return emu_barrier_count(v); }
static inline void __syncwarp(unsigned mask = ~0u) { emu_syncwarp(mask); }
static inline void __nanosleep(unsigned) { emu_yield(); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline unsigned __ballot_sync(unsigned mask, int p) { return emu_ballot(mask, p); }
static inline int __any_sync(unsigned mask, int p) { return emu_ballot(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return emu_ballot(mask, !p) == 0; }
static inline unsigned __activemask() { return emu_activemask(); }
[[noreturn]] static inline void __trap() { emu_fail("the kernel trapped"); }
namespace emu {
template <class T>
static inline T shuffle(unsigned mask, T v, int kind, int control, int width) {
  static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
  unsigned long long raw = 0;
  memcpy(&raw, &v, sizeof v);
  raw = emu_shuffle(mask, raw, kind, control, width);
  memcpy(&v, &raw, sizeof v);
  return v;
}
}  // namespace emu
template <class T>
static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
  return emu::shuffle(mask, v, 0, lane, width);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
  return emu::shuffle(mask, v, 1, lanes, width);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  return emu::shuffle(mask, v, 2, static_cast<int>(delta), width);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  return emu::shuffle(mask, v, 3, static_cast<int>(delta), width);
}
template <class T>
static inline T atomicAdd(T* at, T v) {
  const T before = *at;
  *at = before + v;
  return before;
}

#define EMU_EXTREMES(T)                                   \
  static inline T min(T a, T b) { return a < b ? a : b; } \
  static inline T max(T a, T b) { return a > b ? a : b; }
EMU_EXTREMES(int)
EMU_EXTREMES(unsigned)
EMU_EXTREMES(long long)
EMU_EXTREMES(unsigned long long)
#undef EMU_EXTREMES
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
#define __expf expf
#define __logf logf
static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }

// What a translated `asm` statement is made of.
namespace emu {

template <char C>
struct Register;
template <>
struct Register<'h'> {
  typedef unsigned short type;
};
template <>
struct Register<'r'> {
  typedef unsigned type;
};
template <>
struct Register<'l'> {
  typedef unsigned long long type;
};
template <>
struct Register<'f'> {
  typedef float type;
};
template <>
struct Register<'d'> {
  typedef double type;
};
template <>
struct Register<'n'> {
  typedef long long type;
};
/// An input operand as its register holds it.
template <char C, class T>
static inline typename Register<C>::type operand(T v) {
  return static_cast<typename Register<C>::type>(v);
}
template <char C, class T>
static inline unsigned long long operand(T* p) {
  static_assert(C == 'l', "an address is 64 bits wide");
  return reinterpret_cast<unsigned long long>(p);
}
template <class T>
static inline T& result(T& v) {
  return v;
}
template <class T>
static inline const T* place(T& v) {
  return &v;
}
template <class T>
static inline const T* place(T&&) {
  return nullptr;
}

/// The bits of `s` in a register that may be wider: zeros above.
template <class D, class S>
static inline void set(D& d, S s) {
  memset(&d, 0, sizeof d);
  memcpy(&d, &s, sizeof d < sizeof s ? sizeof d : sizeof s);
}
template <class D>
static inline void set_bytes(D& d, const void* from, unsigned bytes) {
  if (bytes > sizeof d) emu_fail("a load into a register that is too narrow");
  memset(&d, 0, sizeof d);
  memcpy(&d, from, bytes);
}
static inline unsigned long long pair(unsigned lo, unsigned hi) {
  return static_cast<unsigned long long>(hi) << 32 | lo;
}
template <class A, class B>
static inline void split(unsigned long long v, A& lo, B& hi) {
  set(lo, static_cast<unsigned>(v));
  set(hi, static_cast<unsigned>(v >> 32));
}

static inline const char* global(unsigned long long address, unsigned bytes) {
  if (emu_self->early) emu_fail("global memory before griddepcontrol.wait");
  if (address % bytes != 0) emu_fail("a misaligned access to global memory");
  return reinterpret_cast<const char*>(address);
}
template <unsigned BYTES, class... D>
static inline void load_global(unsigned long long address, D&... d) {
  const char* from = global(address, BYTES * sizeof...(D));
  ((set_bytes(d, from, BYTES), from += BYTES), ...);
}
template <unsigned BYTES, class... D>
static inline void load_shared(unsigned address, D&... d) {
  const char* from = static_cast<const char*>(emu_shared_pointer(address, BYTES * sizeof...(D)));
  ((set_bytes(d, from, BYTES), from += BYTES), ...);
}
template <unsigned BYTES, class... S>
static inline void store_global(unsigned long long address, S... s) {
  char* to = const_cast<char*>(global(address, BYTES * sizeof...(S)));
  ((memcpy(to, &s, BYTES), to += BYTES), ...);
}
template <unsigned BYTES, class... S>
static inline void store_shared(unsigned address, S... s) {
  char* to = static_cast<char*>(emu_shared_pointer(address, BYTES * sizeof...(S)));
  ((memcpy(to, &s, BYTES), to += BYTES), ...);
}

template <unsigned BYTES, class... D>
static inline void load_cluster(unsigned address, D&... d) {
  const char* from = static_cast<const char*>(emu_cluster_pointer(address, BYTES * sizeof...(D)));
  ((set_bytes(d, from, BYTES), from += BYTES), ...);
}
template <unsigned BYTES, class... S>
static inline void store_cluster(unsigned address, S... s) {
  char* to = static_cast<char*>(emu_cluster_pointer(address, BYTES * sizeof...(S)));
  ((memcpy(to, &s, BYTES), to += BYTES), ...);
}

/// To nearest, ties to even, keeping the upper bits down to bit `low`; NaN and infinity stay what they are.
static inline unsigned rounded(unsigned v, int low, bool ties_away) {
  const unsigned rest = (1u << low) - 1;
  if ((v & 0x7f800000u) == 0x7f800000u) return (v & 0x7fffffu) ? (v | 0x400000u) & ~rest : v;
  return (v + (ties_away ? 1u << (low - 1) : (1u << (low - 1)) - 1 + (v >> low & 1u))) & ~rest;
}
static inline float flushed(float v) { return fabsf(v) < 0x1p-126f ? 0.0f * v : v; }
/// max.NaN and min.NaN.
static inline float extreme(float a, float b, bool largest) {
  if (a != a || b != b) return bits<float>(0x7fffffffu);
  return (a > b) == largest ? a : b;
}
static inline unsigned tf32_rn(float v) { return rounded(bits<unsigned>(v), 13, false); }
static inline unsigned tf32_rna(float v) { return rounded(bits<unsigned>(v), 13, true); }
static inline unsigned short bf16_of(float v) {
  return static_cast<unsigned short>(rounded(bits<unsigned>(v), 16, false) >> 16);
}
static inline unsigned bf16x2_of(float high, float low) {
  return static_cast<unsigned>(bf16_of(high)) << 16 | bf16_of(low);
}
static inline unsigned f16x2_of(float high, float low) {
  return static_cast<unsigned>(emu_f16_of(high)) << 16 | emu_f16_of(low);
}
template <int WORDS, int TYPE, class A, class B>
static inline void mma(float* const (&d)[4], const A& a, const B& b, const float (&c)[4]) {
  static_assert(sizeof(A) == WORDS / 2 * sizeof(unsigned) && sizeof(B) == WORDS / 4 * sizeof(unsigned), "fragments");
  emu_mma(TYPE, WORDS, d, a, b, c);
}

}  // namespace emu

// The runtime API that host code beside the kernels may use.
#define CUDART_VERSION 13000
typedef int cudaError_t;
typedef void* cudaStream_t;
enum : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 14
};
static cudaError_t emu_left = cudaSuccess;  ///< The last error, until it is asked for.
static inline cudaError_t emu_leave(cudaError_t error) { return error == cudaSuccess ? error : emu_left = error; }
static inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emu_left;
  return emu_left = cudaSuccess, error;
}
static inline cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                           size_t shared_bytes = 0, cudaStream_t = nullptr) {
  return emu_leave(emu_launch(function, &grid, &block, arguments, shared_bytes, 0));
}
template <class... P>
static inline cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments,
                                           size_t shared_bytes = 0, cudaStream_t = nullptr) {
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared_bytes);
}
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  union {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 grid, block;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
static inline cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* function, void** arguments) {
  int early = 0;
  for (unsigned i = 0; i < c->numAttrs; ++i) early |= c->attrs[i].val.programmaticStreamSerializationAllowed;
  return emu_leave(emu_launch(function, &c->grid, &c->block, arguments, c->dynamicSmemBytes, early));
}
static inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
static inline cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75 };
static inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = __CUDA_ARCH__ / 100, cudaSuccess;
}
static inline cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute what, int value) {
  if (what == cudaFuncAttributeMaxDynamicSharedMemorySize)
    return emu_leave(emu_allow_shared(function, static_cast<size_t>(value)));
  const bool wide = what == cudaFuncAttributeNonPortableClusterSizeAllowed && value;
  return wide ? emu_leave(emu_allow_wide_clusters(function)) : cudaSuccess;
}
template <class... P>
static inline cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute what, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), what, value);
}
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum { cudaEnableDefault = 0 };
static inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                                           unsigned long long,
                                                           cudaDriverEntryPointQueryResult* result = nullptr) {
  *function = emu_driver_symbol(name);
  if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
static inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
static inline const char* cudaGetErrorString(cudaError_t error) { return error == 0 ? "no error" : emu_last_error(); }
