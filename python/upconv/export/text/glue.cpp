// From torch's tensors to the launches: checks, memory from torch's allocator, torch's current stream.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

namespace exported {

const Step& step_for(int64_t layer, Which which, bool tf32, int major) {
  for (const Step& s : steps)
    if (s.layer == layer && s.which == which && (s.tf32 < 0 || s.tf32 == int(tf32)) && s.hopper == (major == 9))
      return s;
  for (const Step& s : steps)
    if (s.layer == layer && s.which == which && (s.tf32 < 0 || s.tf32 == int(tf32)) && !s.hopper) return s;
  TORCH_CHECK(false, "this extension was not built for a GPU of compute capability ", major, ".x");
}

void check(const at::Tensor& t, const char* name, const at::Tensor& like) {
  TORCH_CHECK(t.is_cuda(), name, " must be on a CUDA device, but is on ", t.device());
  TORCH_CHECK(t.scalar_type() == at::kFloat, name, " must be float32: the kernels were compiled for it, but got ",
              t.scalar_type());
  TORCH_CHECK(t.device() == like.device(), name, " is on ", t.device(), ", but the input is on ", like.device());
}

/// The sizes of a call whose input has the sizes `x`.
Sizes sizes_of(const Layer& l, at::IntArrayRef x) {
  TORCH_CHECK(int64_t(x.size()) == l.rank + 2, "expected an input of ", l.rank + 2, " dimensions, but got ", x);
  TORCH_CHECK(x[1] == l.in_channels, "expected ", l.in_channels,
              " input channels: this file was made for them, but got ", x);
  Sizes s{};
  s.batch = x[0];
  for (int d = 0; d < 3; ++d) {
    const int at = d - (3 - l.rank);
    s.in[d] = at < 0 ? 1 : x[2 + at];
    TORCH_CHECK(s.in[d] > 0, "expected an input with no empty dimension but the batch, but got ", x);
    s.out[d] =
        (s.in[d] - 1) * l.stride[d] - 2 * l.padding[d] + l.dilation[d] * (l.kernel[d] - 1) + l.output_padding[d] + 1;
    TORCH_CHECK(s.out[d] > 0, "an input of ", x, " leaves no output");
  }
  return s;
}

std::vector<int64_t> shape_of(const Layer& l, long long batch, long long channels, const long long (&size)[3]) {
  std::vector<int64_t> shape{batch, channels};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(size[d]);
  return shape;
}

void check_weight(const Layer& l, const at::Tensor& w) {
  std::vector<int64_t> shape{l.in_channels, l.out_channels / l.groups};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(l.kernel[d]);
  TORCH_CHECK(w.sizes() == at::IntArrayRef(shape), "expected a weight of ", shape,
              ": this file was made for it, but got ", w.sizes());
}

void run(int64_t layer, Which which, bool tf32, const Sizes& sizes, const Tensors& tensors, const at::Tensor& like) {
  const cudaDeviceProp* gpu = at::cuda::getCurrentDeviceProperties();
  const Step& step = step_for(layer, which, tf32, gpu->major);
  long long bytes = 0;
  const char* refusal = step.plan(sizes, gpu->multiProcessorCount, &bytes);
  TORCH_CHECK(!refusal, "the kernel in this file cannot take these sizes: ", refusal);
  const at::Tensor workspace = at::empty({bytes}, like.options().dtype(at::kByte));
  const cudaError_t error =
      step.run(sizes, tensors, workspace.data_ptr(), gpu->multiProcessorCount, at::cuda::getCurrentCUDAStream());
  const char* hint = gpu->sharedMemPerBlockOptin < 166912
                         ? "; kernels for GPUs with so little shared memory come from upconv export --base sm_89"
                         : "";
  TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched on ", gpu->name, ": ", cudaGetErrorString(error),
              hint);
}

const Layer& layer_of(int64_t index) {
  TORCH_CHECK(index >= 0 && index < int64_t(sizeof layers / sizeof layers[0]), "this file has no layer ", index);
  return layers[index];
}

}  // namespace exported

/// y of x, w and b; b is empty where the layer has none.
at::Tensor upconv_forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b, int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(x, "the input", x);
  check(w, "the weight", x);
  check_weight(l, w);
  if (l.bias) {
    check(b, "the bias", x);
    TORCH_CHECK(b.dim() == 1 && b.size(0) == l.out_channels, "expected a bias of ", l.out_channels,
                " elements, but got ", b.sizes());
  }
  const c10::cuda::CUDAGuard guard(x.device());
  const Sizes sizes = sizes_of(l, x.sizes());
  const at::Tensor y = at::empty(shape_of(l, sizes.batch, l.out_channels, sizes.out), x.options());
  if (y.numel() == 0) return y;
  const at::Tensor dense_x = x.contiguous(), dense_w = w.contiguous(), dense_b = b.contiguous();
  run(layer, FORWARD, tf32, sizes,
      {dense_x.data_ptr(), dense_w.data_ptr(), l.bias ? dense_b.data_ptr() : nullptr, y.data_ptr()}, x);
  return y.contiguous(x.suggest_memory_format());
}

at::Tensor upconv_input_gradient(const at::Tensor& dy, const at::Tensor& w, std::vector<int64_t> input_size,
                                 int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(dy, "the output's gradient", dy);
  check(w, "the weight", dy);
  check_weight(l, w);
  const c10::cuda::CUDAGuard guard(dy.device());
  const Sizes sizes = sizes_of(l, input_size);
  const at::Tensor dx = at::empty(input_size, dy.options());
  if (dx.numel() == 0) return dx;
  const at::Tensor dense_dy = dy.contiguous(), dense_w = w.contiguous();
  run(layer, INPUT_GRADIENT, tf32, sizes, {dense_dy.data_ptr(), dense_w.data_ptr(), nullptr, dx.data_ptr()}, dy);
  return dx.contiguous(dy.suggest_memory_format());
}

at::Tensor upconv_weight_gradient(const at::Tensor& x, const at::Tensor& dy, int64_t layer, bool tf32) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(x, "the input", x);
  check(dy, "the output's gradient", x);
  const c10::cuda::CUDAGuard guard(x.device());
  const Sizes sizes = sizes_of(l, x.sizes());
  std::vector<int64_t> shape{l.in_channels, l.out_channels / l.groups};
  for (int d = 3 - l.rank; d < 3; ++d) shape.push_back(l.kernel[d]);
  if (sizes.batch == 0) return at::zeros(shape, x.options());
  const at::Tensor dw = at::empty(shape, x.options());
  const at::Tensor dense_x = x.contiguous(), dense_dy = dy.contiguous();
  run(layer, WEIGHT_GRADIENT, tf32, sizes, {dense_x.data_ptr(), dense_dy.data_ptr(), nullptr, dw.data_ptr()}, x);
  return dw;
}

at::Tensor upconv_bias_gradient(const at::Tensor& dy, std::vector<int64_t> input_size, int64_t layer) {
  using namespace exported;
  const Layer& l = layer_of(layer);
  check(dy, "the output's gradient", dy);
  const c10::cuda::CUDAGuard guard(dy.device());
  const Sizes sizes = sizes_of(l, input_size);
  if (sizes.batch == 0) return at::zeros({l.out_channels}, dy.options());
  const at::Tensor db = at::empty({l.out_channels}, dy.options());
  const at::Tensor dense_dy = dy.contiguous();
  run(layer, BIAS_GRADIENT, false, sizes, {dense_dy.data_ptr(), nullptr, nullptr, db.data_ptr()}, dy);
  return db;
}
