/// y = f(z), or dz = dy * f'(z), of the activation after a layer.
at::Tensor upconv_activation(const at::Tensor& z, const at::Tensor& dy, int64_t layer, bool gradient) {
  using namespace exported;
  check(z, "the convolution's result", z);
  check(dy, "the output's gradient", z);
  TORCH_CHECK(z.sizes() == dy.sizes(), "expected a gradient of ", z.sizes(), ", but got ", dy.sizes());
  const c10::cuda::CUDAGuard guard(z.device());
  const at::Tensor dense_z = z.contiguous(), dense_dy = dy.contiguous(), result = at::empty(z.sizes(), z.options());
  if (z.numel() == 0) return result;
  const cudaError_t error = run_activation(int(layer), gradient, dense_z.data_ptr(), dense_dy.data_ptr(),
                                           result.data_ptr(), z.numel(), at::cuda::getCurrentCUDAStream());
  TORCH_CHECK(error == cudaSuccess, "the activation's kernel could not be launched: ", cudaGetErrorString(error));
  return result.contiguous(z.suggest_memory_format());
}
