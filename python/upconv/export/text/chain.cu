namespace exported {

using upconv::launch::Program;
using upconv::launch::ProgramOperand;
using upconv::launch::ProgramPlan;
using upconv::launch::ProgramTensors;

/// What a closing step does to sizes: a reduction leaves 1 of the dimensions from first to last, a window less of
/// space.
struct ShapeRule {
  bool window;
  int first, last;
  long long kernel[3], stride[3], padding[3];
};

/// An operand: the step after which it is read (0: the layer), and the dimensions that it has, a bit each, in (n,
/// channel, d, h, w); or a norm's vector of so many elements.
struct OperandRule {
  int level;
  unsigned dimensions;
  long long length;
};

/// The address of a kernel that is compiled for 9.x alone.
#if UPCONV_HOPPER
#define UPCONV_HOPPER_ONLY(address) address
#else
#define UPCONV_HOPPER_ONLY(address) nullptr
#endif

/// The passes of a chain and their kernels.
struct Passes {
  void (*fill)(Program&);
  const void* (*kernel)(int);
};

template <class Special>
constexpr Passes passes() {
  return {&Special::fill, &Special::kernel};
}

struct Chain {
  int layer;  ///< -1: what is given is what the steps begin with.
  int rank;
  long long channels;
  bool epilogue, bias, normalises;
  bool keeps_layout;  ///< The result is channels last where the input is, as torch's is.
  int rule_count, operand_count;
  int norm_level;   ///< Closing steps before a batch norm.
  unsigned wanted;  ///< Operands with a gradient, a bit each.
  const ShapeRule* rules;
  const OperandRule* operands;
  Passes results, training, gradient;
};

/// Puts a program's kernels on a stream; remembers what went wrong.
struct StartPasses {
  const void* (*kernel)(int);
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;

  bool operator()(int number, const Shape& s, void** arguments) {
#if UPCONV_HOPPER
    if (s.shared_bytes > 0) error = allow_shared(kernel(number), s.shared_bytes);
    if (s.shared_bytes > 0 && error == cudaSuccess)
      error = taken(cudaFuncSetAttribute(kernel(number), cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    if (error != cudaSuccess) return false;
#endif
    error = put(kernel(number), s.grid, s.block, arguments, s.shared_bytes, stream);
    return error == cudaSuccess;
  }
};

/// The sizes after `level` closing steps on values of the sizes `shape`.
inline void sizes_after(const Chain& c, int level, long long (&shape)[5]) {
  for (int i = 0; i < level; ++i) {
    const ShapeRule& r = c.rules[i];
    for (int d = r.first; !r.window && d <= r.last; ++d) shape[d] = 1;
    for (int d = 0; r.window && d < 3; ++d)
      shape[d + 2] = (shape[d + 2] + 2 * r.padding[d] - r.kernel[d]) / r.stride[d] + 1;
  }
}

/// Whether an operand's sizes are what its kernels were specialised for.
inline bool fits(const Chain& c, int number, const long long (&size)[5], const long long (&z)[5]) {
  const OperandRule& r = c.operands[number];
  long long at[5] = {z[0], z[1], z[2], z[3], z[4]}, elements = 1;
  for (long long n : size) elements *= n;
  if (r.length > 0) return elements == r.length;
  sizes_after(c, r.level, at);
  for (int d = 0; d < 5; ++d)
    if (size[d] != ((r.dimensions >> d & 1) ? at[d] : 1)) return false;
  return true;
}

inline cudaError_t run_passes(const Passes& passes, const Program& program, const ProgramPlan& plan,
                              const ProgramTensors& tensors, cudaStream_t stream) {
  StartPasses start{passes.kernel, stream};
  upconv::launch::run_program(program, plan, tensors, start);
  return start.error;
}

}  // namespace exported
