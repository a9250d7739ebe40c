namespace exported {

using NormSizes = group_norm_0::upconv::norm::Sizes;

/// What GroupNorm's kernels go by: shares of a slab, or of a plane, so that there are blocks enough.
inline NormSizes norm_sizes(long long samples, long long channels, long long groups, long long volume, bool of_slab) {
  NormSizes s{channels, groups, volume, samples * groups, 1, 1};
  const long long size = of_slab ? channels / groups * volume : volume;
  s.share = 16384;
  s.shares = (size + s.share - 1) / s.share;
  return s;
}

inline cudaError_t launch_norm(const void* kernel, long long blocks, void** arguments, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(256), arguments, 0, stream);
}

/// Bytes of scratch of the forward: the shares' moments.
inline long long norm_scratch(long long samples, long long channels, long long groups, long long volume) {
  const NormSizes s = norm_sizes(samples, channels, groups, volume, true);
  return s.slabs * s.shares * 3 * 4;
}

/// y, and mean and 1 / standard deviation of each group of each sample.
inline cudaError_t run_norm(const void* x, const void* weight, const void* bias, float eps, long long samples,
                            long long channels, long long groups, long long volume, void* parts, void* statistics,
                            void* y, cudaStream_t stream) {
  NormSizes s = norm_sizes(samples, channels, groups, volume, true);
  void* of_parts[] = {&x, &parts, &s};
  cudaError_t error = launch_norm(address(group_norm_0::group_norm_parts), s.slabs * s.shares, of_parts, stream);
  if (error != cudaSuccess) return error;
  void* of_statistics[] = {&parts, &statistics, &s, &eps};
  error = launch_norm(address(group_norm_0::group_norm_statistics), (s.slabs + 255) / 256, of_statistics, stream);
  if (error != cudaSuccess) return error;
  NormSizes planes = norm_sizes(samples, channels, groups, volume, false);
  void* of_apply[] = {&x, &statistics, &weight, &bias, &y, &planes};
  return launch_norm(address(group_norm_0::group_norm_apply), samples * channels * planes.shares, of_apply, stream);
}

/// dx, dweight and dbias; `sums`: two numbers for each sample and channel.
inline cudaError_t run_norm_gradient(const void* x, const void* dy, const void* weight, const void* statistics,
                                     long long samples, long long channels, long long groups, long long volume,
                                     void* sums, void* dx, void* dweight, void* dbias, cudaStream_t stream) {
  NormSizes s = norm_sizes(samples, channels, groups, volume, false);
  void* of_sums[] = {&x, &dy, &statistics, &sums, &s};
  cudaError_t error = launch_norm(address(group_norm_0::group_norm_channel_sums), samples * channels, of_sums, stream);
  if (error != cudaSuccess) return error;
  void* of_dx[] = {&x, &dy, &statistics, &weight, &sums, &dx, &s};
  error = launch_norm(address(group_norm_0::group_norm_dx), samples * channels * s.shares, of_dx, stream);
  if (error != cudaSuccess) return error;
  void* of_parameters[] = {&statistics, &sums, &dweight, &dbias, &s};
  return launch_norm(address(group_norm_0::group_norm_parameters), channels, of_parameters, stream);
}

}  // namespace exported
