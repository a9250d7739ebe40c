// Starting the kernels: one step of a layer (forward, a gradient) is a set of kernels and the launch arithmetic above,
// filled with what the kernels were specialised for.
#include <cuda_runtime.h>

namespace exported {

using upconv::launch::Shape;
using upconv::launch::Sizes;
using upconv::launch::Tensors;

/// Whether a kernel may begin beside the end of the one before it, as all kernels here wait for that end: compute
/// capability 9.0 or later, a driver that captures such launches in graphs too.
static bool may_overlap() {
#if CUDART_VERSION >= 12030
  int device = 0, major = 0, version = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9 &&
         cudaDriverGetVersion(&version) == cudaSuccess && version >= 12030;
#else
  return false;
#endif
}

/// An error that is raised from here is not left to be found, and raised again, by whoever asks next.
static cudaError_t taken(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

/// Puts a kernel on a stream.
static cudaError_t put(const void* kernel, unsigned grid, unsigned block, void** arguments, size_t shared_bytes,
                       cudaStream_t stream) {
#if CUDART_VERSION >= 12030
  static const bool overlap = may_overlap();
  if (overlap) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    const cudaLaunchConfig_t config = {dim3(grid), dim3(block), shared_bytes, stream, &attribute, 1};
    return taken(cudaLaunchKernelExC(&config, kernel, arguments));
  }
#endif
  return taken(cudaLaunchKernel(kernel, dim3(grid), dim3(block), arguments, shared_bytes, stream));
}

/// Lets a kernel have so much shared memory.
static cudaError_t allow_shared(const void* kernel, unsigned bytes) {
  return taken(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
}

/// Puts kernels on a stream; remembers what went wrong.
struct Start {
  const void* const* kernels;
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;

  bool operator()(int kernel, const Shape& s, void** arguments) {
    if (s.shared_bytes > 32 * 1024) error = allow_shared(kernels[kernel], s.shared_bytes);
    if (error == cudaSuccess) error = put(kernels[kernel], s.grid, s.block, arguments, s.shared_bytes, stream);
    return error == cudaSuccess;
  }
};

/// FORWARD_CHAIN: with the steps that follow it in a chain, whose number `layer` then is.
enum Which { FORWARD, FORWARD_CHAIN, INPUT_GRADIENT, WEIGHT_GRADIENT, BIAS_GRADIENT };

struct Step {
  int layer;
  Which which;
  int tf32;     ///< 1: where torch permits TF32, 0: where it does not, -1: either.
  bool hopper;  ///< Chosen for compute capability 9.x; else for any from 8.0 on.
  /// Why these sizes cannot be computed, or null; and the scratch memory they need.
  const char* (*plan)(const Sizes&, int processors, long long* workspace_bytes);
  cudaError_t (*run)(const Sizes&, const Tensors&, void* workspace, int processors, cudaStream_t);
};

/// The launch for these sizes. That of the thread's last call is kept: choosing boxes can take longer than a kernel.
template <class Special>
const auto& launch_for(const Sizes& sizes, int processors) {
  struct Known {
    Sizes sizes;
    int processors = 0;
    decltype(launch_of(Special::fixed(), sizes, processors)) launch;
  };
  static thread_local Known known;
  bool same = processors == known.processors && sizes.batch == known.sizes.batch;
  for (int d = 0; d < 3; ++d) same = same && sizes.in[d] == known.sizes.in[d] && sizes.out[d] == known.sizes.out[d];
  if (!same) known = {sizes, processors, launch_of(Special::fixed(), sizes, processors)};
  return known.launch;
}

template <class Special>
const char* plan_step(const Sizes& sizes, int processors, long long* workspace_bytes) {
  const auto& launch = launch_for<Special>(sizes, processors);
  *workspace_bytes = launch.workspace_bytes;
  return launch.refusal;
}

template <class Special>
cudaError_t run_step(const Sizes& sizes, const Tensors& tensors, void* workspace, int processors, cudaStream_t stream) {
  const auto kernels = Special::kernels();
  Start start{kernels.at, stream};
  upconv::launch::run(Special::fixed(), launch_for<Special>(sizes, processors), tensors, workspace, start);
  return start.error;
}

template <class Special>
constexpr Step step(int layer, Which which, int tf32, bool hopper) {
  return {layer, which, tf32, hopper, &plan_step<Special>, &run_step<Special>};
}

/// A step of two sets of kernels: `AnySize` takes the sizes that `Special` refuses.
template <class Special, class AnySize>
const char* plan_either(const Sizes& sizes, int processors, long long* workspace_bytes) {
  return plan_step<Special>(sizes, processors, workspace_bytes) ? plan_step<AnySize>(sizes, processors, workspace_bytes)
                                                                : nullptr;
}

template <class Special, class AnySize>
cudaError_t run_either(const Sizes& sizes, const Tensors& tensors, void* workspace, int processors,
                       cudaStream_t stream) {
  const bool refused = launch_for<Special>(sizes, processors).refusal != nullptr;
  return (refused ? run_step<AnySize> : run_step<Special>)(sizes, tensors, workspace, processors, stream);
}

template <class Special, class AnySize>
constexpr Step step(int layer, Which which, int tf32, bool hopper) {
  return {layer, which, tf32, hopper, &plan_either<Special, AnySize>, &run_either<Special, AnySize>};
}

struct Kernels {
  const void* at[3];
};

template <class Kernel>
const void* address(Kernel* kernel) {
  return reinterpret_cast<const void*>(kernel);
}

/// One transposed convolution of the model, in D, H, W; missing outer dimensions have kernel and stride 1.
struct Layer {
  int rank;
  long long in_channels, out_channels, groups;
  bool bias;
  long long kernel[3], stride[3], padding[3], output_padding[3], dilation[3];
};

}  // namespace exported
