namespace exported {

/// The sums of a layer's input that a mean of its result needs (tap_sums.cuh), and the kernels of the dimensions that
/// are summed, in D, H, W: null for the others.
struct TapSums {
  int layer;
  const void* (*kernel)(int dimension, bool gradient);
};

/// One dimension: x of (outer, length, inner), or its gradient.
inline cudaError_t run_tap_sums(const void* kernel, bool gradient, const void* from, void* to, long long outer,
                                long long length, long long inner, long long size, float scale, int processors,
                                cudaStream_t stream) {
  const long long blocks = upconv::launch::tap_sums_blocks(gradient, outer, length, inner, processors);
  if (blocks == 0) return cudaSuccess;
  void* list[] = {&from, &to, &outer, &length, &inner, &size, &scale};
  return put(kernel, unsigned(blocks), upconv::launch::tap_sums_threads, list, 0, stream);
}

}  // namespace exported
