namespace exported {

/// Samples, channels and volume of a tensor that GroupNorm takes.
struct Planes {
  long long samples, channels, volume;
};
Planes planes_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups) {
  check(x, "the input", x);
  check(weight, "the norm's weight", x);
  check(bias, "the norm's bias", x);
  TORCH_CHECK(x.dim() >= 2 && groups > 0 && x.size(1) % groups == 0, "expected channels in ", groups,
              " groups, but got ", x.sizes());
  TORCH_CHECK(weight.numel() == x.size(1) && bias.numel() == x.size(1), "expected a weight and a bias of ", x.size(1),
              " elements, but got ", weight.sizes(), " and ", bias.sizes());
  const long long planes = x.size(0) * x.size(1), volume = planes ? x.numel() / planes : 0;
  TORCH_CHECK(planes * ((volume + 16383) / 16384) < 0x7fffffff, "a tensor of ", x.sizes(),
              " needs 2^31 blocks or more");
  return {x.size(0), x.size(1), volume};
}

}  // namespace exported

/// y and the statistics that the gradient needs. y is contiguous whatever x is, as torch's is on a GPU.
std::vector<at::Tensor> upconv_group_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                          int64_t groups, double eps) {
  using namespace exported;
  const Planes p = planes_of(x, weight, bias, groups);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor dense = x.contiguous(), w = weight.contiguous(), b = bias.contiguous();
  const at::Tensor y = at::empty(x.sizes(), x.options());
  const at::Tensor statistics = at::empty({p.samples * groups, 2}, x.options());
  if (x.numel() == 0) return {y, statistics};
  const at::Tensor parts =
      at::empty({norm_scratch(p.samples, p.channels, groups, p.volume)}, x.options().dtype(at::kByte));
  const cudaError_t error =
      run_norm(dense.data_ptr(), w.data_ptr(), b.data_ptr(), float(eps), p.samples, p.channels, groups, p.volume,
               parts.data_ptr(), statistics.data_ptr(), y.data_ptr(), at::cuda::getCurrentCUDAStream());
  TORCH_CHECK(error == cudaSuccess, "a kernel of the norm could not be launched: ", cudaGetErrorString(error));
  return {y, statistics};
}

/// dx, dweight and dbias.
std::vector<at::Tensor> upconv_group_norm_gradient(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& weight,
                                                   const at::Tensor& statistics, int64_t groups) {
  using namespace exported;
  check(dy, "the output's gradient", x);
  TORCH_CHECK(x.sizes() == dy.sizes(), "expected a gradient of ", x.sizes(), ", but got ", dy.sizes());
  const Planes p = planes_of(x, weight, weight, groups);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor dense_x = x.contiguous(), dense_dy = dy.contiguous(), w = weight.contiguous();
  const at::Tensor dx = at::empty(x.sizes(), x.options());
  if (x.numel() == 0) return {dx, at::zeros({p.channels}, x.options()), at::zeros({p.channels}, x.options())};
  const at::Tensor sums = at::empty({p.samples * p.channels, 2}, x.options());
  const at::Tensor dweight = at::empty({p.channels}, x.options()), dbias = at::empty({p.channels}, x.options());
  const cudaError_t error = run_norm_gradient(
      dense_x.data_ptr(), dense_dy.data_ptr(), w.data_ptr(), statistics.data_ptr(), p.samples, p.channels, groups,
      p.volume, sums.data_ptr(), dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr(), at::cuda::getCurrentCUDAStream());
  TORCH_CHECK(error == cudaSuccess, "a kernel of the norm could not be launched: ", cudaGetErrorString(error));
  return {dx, dweight, dbias};
}
