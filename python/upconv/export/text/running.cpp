/// Brings a batch norm's running averages up to date after a call with an input of that size: the mean, and the
/// unbiased variance.
void upconv_update_running(const at::Tensor& statistics, const at::Tensor& mean, const at::Tensor& variance,
                           const at::Tensor& batches, double momentum, std::vector<int64_t> input_size, int64_t chain) {
  using namespace exported;
  check(mean, "the running mean", mean);
  check(variance, "the running variance", mean);
  const c10::cuda::CUDAGuard guard(mean.device());
  const Chain& c = chain_of(chain);
  for (const at::Tensor& t : {mean, variance})
    TORCH_CHECK(t.is_contiguous() && t.numel() == c.channels, "expected running averages of ", c.channels,
                " elements without gaps, but got ", t.sizes());
  TORCH_CHECK(batches.device() == mean.device() && batches.scalar_type() == at::kLong && batches.numel() == 1,
              "expected one int64 number of batches on ", mean.device());
  const Sizes sizes = sizes_of(layer_of(c.layer), input_size);
  long long seen[5] = {sizes.batch, c.channels, sizes.out[0], sizes.out[1], sizes.out[2]};
  sizes_after(c, c.norm_level, seen);
  const long long count = seen[0] * seen[2] * seen[3] * seen[4];
  const cudaError_t error = run_running(statistics.data_ptr(), mean.data_ptr(), variance.data_ptr(), batches.data_ptr(),
                                        momentum, count, int(mean.numel()), at::cuda::getCurrentCUDAStream());
  TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched: ", cudaGetErrorString(error));
}
