// What a test calls of an exported file's CUDA source on the emulator (tests/emulator): this text follows it in one
// translation unit. See tests/export/emulation.py.
#include <cstdlib>
#include <cstring>

/// Runs one step, or without a result plans it; null, or what went wrong. `hopper`: as on compute capability 9.x.
extern "C" __attribute__((visibility("default"))) const char* exported_run(int layer, int which, int tf32, int hopper,
                                                                           int processors, long long batch,
                                                                           const long long* in, const long long* out,
                                                                           const void* a, const void* b,
                                                                           const void* bias, void* result) {
  using namespace exported;
  const Sizes sizes{batch, {in[0], in[1], in[2]}, {out[0], out[1], out[2]}};
  for (const Step& s : steps) {
    if (s.layer != layer || s.which != which || (s.tf32 >= 0 && s.tf32 != tf32) || s.hopper != (hopper != 0)) continue;
    long long bytes = 0;
    if (const char* refusal = s.plan(sizes, processors, &bytes)) return refusal;
    if (!result) return nullptr;
    void* workspace = bytes ? std::aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    if (workspace) std::memset(workspace, 0xff, bytes);  // NaN everywhere
    const cudaError_t error = s.run(sizes, {a, b, bias, result}, workspace, processors, nullptr);
    std::free(workspace);
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  }
  return "no such step";
}

/// Launches a kernel with more shared memory than there is, alone and behind its permission; how many of the two
/// errors were told, and not left for the next who asks.
extern "C" __attribute__((visibility("default"))) int exported_refused_launches(const void* kernel) {
  int told = exported::allow_shared(kernel, 1u << 30) != cudaSuccess && cudaGetLastError() == cudaSuccess;
  void* none[] = {nullptr};
  told += exported::put(kernel, 1, 32, none, 1u << 30, nullptr) != cudaSuccess && cudaGetLastError() == cudaSuccess;
  return told;
}

#ifdef EXPORTED_CHAINS
/// A chain's program for the sizes `z` of the layer's result, operands dense, five sizes each.
struct ExportedCall {
  const exported::Chain& chain;
  const exported::Passes& passes;
  exported::Program* program = new exported::Program;
  exported::ProgramPlan* plan = new exported::ProgramPlan;
  exported::ProgramOperand operands[16];
  long long z[5];
  const char* wrong = nullptr;

  ExportedCall(int number, int which, int processors, const long long* sizes, const void* const* given,
               const long long* given_sizes)
      : chain(exported::chains[number]),
        passes(which == 0   ? chain.results
               : which == 1 ? chain.training
                            : chain.gradient) {
    for (int d = 0; d < 5; ++d) z[d] = sizes[d];
    for (int i = 0; i < chain.operand_count; ++i) {
      operands[i].data = given[i];
      for (int d = 0; d < 5; ++d) operands[i].size[d] = given_sizes[5 * i + d];
      if (!exported::fits(chain, i, operands[i].size, z)) wrong = "an operand does not fit";
    }
    passes.fill(*program);
    upconv::launch::plan_program(*program, z, operands, processors, UPCONV_HOPPER ? 232448 : 0, *plan);
    if (plan->refusal) wrong = plan->refusal;
  }
  ~ExportedCall() { delete program, delete plan; }
};

/// How many passes there are; sizes of y, and bytes of what is kept.
extern "C" __attribute__((visibility("default"))) int exported_chain_sizes(int number, int which, int processors,
                                                                           const long long* z, const void* const* given,
                                                                           const long long* given_sizes, long long* y,
                                                                           long long* saved, int* saved_count) {
  ExportedCall call(number, which, processors, z, given, given_sizes);
  long long shape[5] = {z[0], z[1], z[2], z[3], z[4]};
  exported::sizes_after(call.chain, call.chain.rule_count, shape);
  for (int d = 0; d < 5; ++d) y[d] = shape[d];
  *saved_count = call.program->saved_count;
  for (int b = 0; b < call.program->buffer_count; ++b)
    if (call.program->buffers[b].place == upconv::launch::IN_SAVED)
      saved[call.program->buffers[b].number] = call.plan->bytes[b];
  return call.program->pass_count;
}

/// How many of them run at these sizes.
extern "C" __attribute__((visibility("default"))) int exported_chain_runs(int number, int which, int processors,
                                                                          const long long* z, const void* const* given,
                                                                          const long long* given_sizes) {
  ExportedCall call(number, which, processors, z, given, given_sizes);
  int runs = 0;
  for (int i = 0; i < call.program->pass_count; ++i) runs += !call.plan->left_out[i];
  return runs;
}

/// The layer's convolution with the chain's epilogue.
extern "C" __attribute__((visibility("default"))) const char* exported_chain_layer(
    int number, int tf32, int hopper, int processors, long long batch, const long long* in, const long long* out,
    const void* a, const void* b, const void* bias, void* result, const void* const* given,
    const long long* given_sizes) {
  using namespace exported;
  const long long z[5] = {batch, chains[number].channels, out[0], out[1], out[2]};
  ExportedCall call(number, 0, processors, z, given, given_sizes);
  if (call.wrong) return call.wrong;
  const long long volume = out[0] * out[1] * out[2];
  const auto block = upconv::launch::operand_block(call.operands, call.chain.operand_count,
                                                   {call.chain.channels * volume, volume, 1, int(out[1]), int(out[2])});
  const Sizes sizes{batch, {in[0], in[1], in[2]}, {out[0], out[1], out[2]}};
  for (const Step& s : steps) {
    if (s.layer != number || s.which != FORWARD_CHAIN || s.tf32 != tf32 || s.hopper != (hopper != 0)) continue;
    long long bytes = 0;
    if (const char* refusal = s.plan(sizes, processors, &bytes)) return refusal;
    void* workspace = bytes ? std::aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    const cudaError_t error = s.run(sizes, {a, b, bias, result, &block}, workspace, processors, nullptr);
    std::free(workspace);
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  }
  return "no such step";
}

extern "C" __attribute__((visibility("default"))) const char* exported_chain_run(
    int number, int which, int processors, const long long* sizes, const void* const* given,
    const long long* given_sizes, const void* z, const void* dy, void* y, void* dz, void* db, void* const* saved,
    void* const* gradients, double* statistics) {
  ExportedCall call(number, which, processors, sizes, given, given_sizes);
  if (call.wrong) return call.wrong;
  exported::ProgramTensors t;
  t.z = z, t.dy = dy, t.y = y, t.dz = dz, t.db = db, t.saved = saved, t.gradients = gradients;
  t.statistics = statistics;
  const long long bytes = call.plan->workspace_bytes;
  t.workspace = bytes ? std::aligned_alloc(256, bytes) : nullptr;
  if (bytes) std::memset(t.workspace, 0xff, bytes);  // NaN everywhere
  t.operands = call.operands, t.operand_count = call.chain.operand_count;
  const cudaError_t error = exported::run_passes(call.passes, *call.program, *call.plan, t, nullptr);
  std::free(t.workspace);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif

#ifdef EXPORTED_RUNNING
extern "C" __attribute__((visibility("default"))) const char* exported_running(const void* statistics, void* mean,
                                                                               void* variance, void* batches,
                                                                               double momentum, int chain,
                                                                               const long long* z, int channels) {
  long long seen[5] = {z[0], z[1], z[2], z[3], z[4]};
  exported::sizes_after(exported::chains[chain], exported::chains[chain].norm_level, seen);
  const cudaError_t error = exported::run_running(statistics, mean, variance, batches, momentum,
                                                  seen[0] * seen[2] * seen[3] * seen[4], channels, nullptr);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif

#ifdef EXPORTED_SUMS
extern "C" __attribute__((visibility("default"))) const char* exported_tap_sums(int sums, int dimension, int gradient,
                                                                                const void* from, void* to,
                                                                                const long long* sizes, float scale,
                                                                                int processors) {
  const void* kernel = exported::tap_sums[sums].kernel(dimension, gradient != 0);
  if (!kernel) return "a dimension that is not summed";
  const cudaError_t error = exported::run_tap_sums(kernel, gradient != 0, from, to, sizes[0], sizes[1], sizes[2],
                                                   sizes[3], scale, processors, nullptr);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif
