namespace exported {

/// A dimension after the other: from the input's sizes to those of the sums, or back.
at::Tensor all_tap_sums(const at::Tensor& given, at::IntArrayRef input_size, int64_t index, bool gradient) {
  TORCH_CHECK(index >= 0 && index < int64_t(sizeof tap_sums / sizeof tap_sums[0]), "this file has no sums ", index);
  const TapSums& s = tap_sums[index];
  const Layer& l = layer_of(s.layer);
  check(given, gradient ? "the gradient of the sums" : "the input", given);
  const c10::cuda::CUDAGuard guard(given.device());
  const Sizes sizes = sizes_of(l, input_size);
  std::vector<int64_t> shape = given.sizes().vec();
  TORCH_CHECK(shape.size() == input_size.size(), "expected ", input_size.size(), " dimensions, but got ", shape);
  at::Tensor from = given.contiguous();
  double scale = 1.0;
  for (int d = 0; d < 3; ++d)
    if (s.kernel(d, gradient)) scale /= double(sizes.out[d]);
  for (int i = 0; i < 3; ++i) {
    const int d = gradient ? 2 - i : i, at = d - (3 - l.rank) + 2;
    const void* kernel = s.kernel(d, gradient);
    if (!kernel) continue;
    shape[at] = gradient ? sizes.in[d] : l.kernel[d];
    const at::Tensor to = at::empty(shape, from.options());
    long long outer = 1, inner = 1;
    for (int k = 0; k < int(shape.size()); ++k) (k < at ? outer : inner) *= k == at ? 1 : shape[k];
    const cudaError_t error = run_tap_sums(
        kernel, gradient, from.data_ptr(), to.data_ptr(), outer, sizes.in[d], inner, sizes.out[d], float(scale),
        at::cuda::getCurrentDeviceProperties()->multiProcessorCount, at::cuda::getCurrentCUDAStream());
    TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched: ", cudaGetErrorString(error));
    from = to, scale = 1.0;
  }
  return from;
}

}  // namespace exported

/// The input with the summed dimensions as long as the kernel: for every tap the sum of what it reaches of the result,
/// divided by how many results there are.
at::Tensor upconv_tap_sums(const at::Tensor& x, int64_t sums) {
  return exported::all_tap_sums(x, x.sizes(), sums, false);
}

at::Tensor upconv_tap_sums_gradient(const at::Tensor& gradient, std::vector<int64_t> input_size, int64_t sums) {
  return exported::all_tap_sums(gradient, input_size, sums, true);
}
