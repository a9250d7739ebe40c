// What a test calls of an exported file's CUDA source on the emulator (tests/emulator): this text follows it in one
// translation unit. See tests/export/emulation.py.
#include <cstdlib>
#include <cstring>

/// Runs one step; null, or what went wrong. `hopper`: as on compute capability 9.x.
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
    void* workspace = bytes ? std::aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    if (workspace) std::memset(workspace, 0xff, bytes);  // NaN everywhere
    const cudaError_t error = s.run(sizes, {a, b, bias, result}, workspace, processors, nullptr);
    std::free(workspace);
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  }
  return "no such step";
}

#ifdef EXPORTED_ACTIVATION
extern "C" __attribute__((visibility("default"))) const char* exported_activation(int layer, int gradient,
                                                                                  const void* z, const void* dy,
                                                                                  void* result, long long count) {
  const cudaError_t error = exported::run_activation(layer, gradient != 0, z, dy, result, count, nullptr);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif

#ifdef EXPORTED_NORM
extern "C" __attribute__((visibility("default"))) const char* exported_norm(const void* x, const void* weight,
                                                                            const void* bias, float eps,
                                                                            long long samples, long long channels,
                                                                            long long groups, long long volume,
                                                                            void* statistics, void* y) {
  void* parts = std::malloc(exported::norm_scratch(samples, channels, groups, volume));
  const cudaError_t error =
      exported::run_norm(x, weight, bias, eps, samples, channels, groups, volume, parts, statistics, y, nullptr);
  std::free(parts);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

extern "C" __attribute__((visibility("default"))) const char* exported_norm_gradient(
    const void* x, const void* dy, const void* weight, const void* statistics, long long samples, long long channels,
    long long groups, long long volume, void* dx, void* dweight, void* dbias) {
  void* sums = std::malloc(samples * channels * 2 * sizeof(float));
  const cudaError_t error = exported::run_norm_gradient(x, dy, weight, statistics, samples, channels, groups, volume,
                                                        sums, dx, dweight, dbias, nullptr);
  std::free(sums);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#endif
