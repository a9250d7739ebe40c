namespace exported {

const Chain& chain_of(int64_t index) {
  TORCH_CHECK(index >= 0 && index < int64_t(sizeof chains / sizeof chains[0]), "this file has no chain ", index);
  return chains[index];
}

/// A chain's tensors, checked, and the plan of one of its programs.
struct ChainCall {
  const Chain& chain;
  const Passes& passes;
  Sizes sizes{};
  long long z[5];
  std::vector<at::Tensor> held;
  std::vector<ProgramOperand> operands;
  std::unique_ptr<Program> program = std::make_unique<Program>();
  std::unique_ptr<ProgramPlan> plan = std::make_unique<ProgramPlan>();

  ChainCall(const Chain& c, const Passes& p, at::IntArrayRef x, const std::vector<at::Tensor>& given,
            const at::Tensor& like)
      : chain(c), passes(p) {
    if (c.layer >= 0) {
      sizes = sizes_of(layer_of(c.layer), x);
      z[0] = sizes.batch, z[1] = c.channels;
      for (int d = 0; d < 3; ++d) z[d + 2] = sizes.out[d];
    } else {
      TORCH_CHECK(int64_t(x.size()) == c.rank + 2 && x[1] == c.channels, "expected ", c.channels, " channels in ",
                  c.rank + 2, " dimensions, but got ", x);
      z[0] = x[0], z[1] = x[1];
      for (int d = 0; d < 3; ++d) z[d + 2] = d < 3 - c.rank ? 1 : x[d - 1 + c.rank];
    }
    TORCH_CHECK(int(given.size()) == c.operand_count, "expected ", c.operand_count, " operands, but got ",
                given.size());
    for (int i = 0; i < c.operand_count; ++i) {
      check(given[i], "an operand", like);
      held.push_back(given[i].contiguous());
      ProgramOperand o;
      o.data = held.back().data_ptr();
      const int dims = int(given[i].dim());
      TORCH_CHECK(dims <= c.rank + 2 || c.operands[i].length > 0, "an operand of ", given[i].sizes(),
                  " has more dimensions than the result");
      if (c.operands[i].length > 0) {
        o.size[1] = given[i].numel();
      } else {
        for (int d = 0; d < dims; ++d) {  // dimensions from the last one on
          const int to = 4 - d, own = dims - 1 - d;
          o.size[d < c.rank ? to : c.rank + 1 - d] = given[i].size(own);
        }
      }
      TORCH_CHECK(fits(c, i, o.size, z), "an operand of ", given[i].sizes(), " lies in another way over the result ",
                  "than this file was made for");
      operands.push_back(o);
    }
    p.fill(*program);
    const cudaDeviceProp* gpu = at::cuda::getCurrentDeviceProperties();
    plan_program(*program, z, operands.data(), gpu->multiProcessorCount,
                 UPCONV_HOPPER && gpu->major == 9 ? (long long)gpu->sharedMemPerBlockOptin : 0, *plan);
    TORCH_CHECK(!plan->refusal, "the kernels in this file cannot take these sizes: ", plan->refusal);
  }

  std::vector<int64_t> shape(const long long (&s)[5]) const {
    std::vector<int64_t> all{s[0], s[1]};
    for (int d = 5 - chain.rank; d < 5; ++d) all.push_back(s[d]);
    return all;
  }
  std::vector<int64_t> result_shape() const {
    long long s[5] = {z[0], z[1], z[2], z[3], z[4]};
    sizes_after(chain, chain.rule_count, s);
    for (long long n : s) TORCH_CHECK(n >= 0, "an input of these sizes leaves no output");
    return shape(s);
  }

  void run(ProgramTensors t, const at::Tensor& like) {
    const at::Tensor workspace = at::empty({plan->workspace_bytes}, like.options().dtype(at::kByte));
    t.workspace = workspace.data_ptr();
    t.operands = operands.data(), t.operand_count = int(operands.size());
    const cudaError_t error = run_passes(passes, *program, *plan, t, at::cuda::getCurrentCUDAStream());
    TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched: ", cudaGetErrorString(error));
  }
};

}  // namespace exported

/// The result; in training also the layer's own, and what the gradient needs beside it; of a batch norm at the end
/// means and biased variances.
std::vector<at::Tensor> upconv_chain(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                                     std::vector<at::Tensor> operands, int64_t chain, bool tf32, bool training) {
  using namespace exported;
  const Chain& c = chain_of(chain);
  check(x, "the input", x);
  const c10::cuda::CUDAGuard guard(x.device());
  ChainCall call(c, training ? c.training : c.results, x.sizes(), operands, x);
  const at::Tensor y = at::empty(call.result_shape(), x.options());
  const at::Tensor dense_x = x.contiguous();
  at::Tensor z = dense_x;
  std::vector<at::Tensor> saved, answer{y};
  std::vector<void*> saved_at(call.program->saved_count, nullptr);
  for (int i = 0; i < call.program->saved_count; ++i)
    for (int at = 0; at < call.program->buffer_count; ++at)
      if (call.program->buffers[at].place == upconv::launch::IN_SAVED && call.program->buffers[at].number == i) {
        saved.push_back(at::empty({call.plan->bytes[at]}, x.options().dtype(at::kByte)));
        saved_at[i] = saved.back().data_ptr();
      }
  const at::Tensor statistics = at::empty({2, c.normalises ? c.channels : 0}, x.options().dtype(at::kDouble));
  if (c.layer >= 0) {
    const Layer& l = layer_of(c.layer);
    check(w, "the weight", x);
    check_weight(l, w);
    if (l.bias) {
      check(b, "the bias", x);
      TORCH_CHECK(b.dim() == 1 && b.size(0) == l.out_channels, "expected a bias of ", l.out_channels,
                  " elements, but got ", b.sizes());
    }
    z = call.program->pass_count == 0 ? y : at::empty(call.shape(call.z), x.options());
    if (z.numel() > 0) {
      const at::Tensor dense_w = w.contiguous(), dense_b = b.contiguous();
      const long long volume = call.z[2] * call.z[3] * call.z[4];
      const auto block = upconv::launch::operand_block(
          call.operands.data(), c.operand_count, {c.channels * volume, volume, 1, int(call.z[3]), int(call.z[4])});
      const bool applied = !training && c.epilogue;
      run(applied ? chain : int64_t(c.layer), applied ? FORWARD_CHAIN : FORWARD, tf32, call.sizes,
          {dense_x.data_ptr(), dense_w.data_ptr(), l.bias ? dense_b.data_ptr() : nullptr, z.data_ptr(), &block}, x);
    }
  }
  if (z.numel() > 0) {
    ProgramTensors t;
    t.z = z.data_ptr(), t.y = y.data_ptr(), t.saved = saved_at.data();
    t.statistics = c.normalises ? statistics.data_ptr<double>() : nullptr;
    call.run(t, x);
  }
  if (c.keeps_layout) answer[0] = y.contiguous(x.suggest_memory_format());
  if (training) {
    answer.push_back(z);
    answer.insert(answer.end(), saved.begin(), saved.end());
  }
  answer.push_back(statistics);
  return answer;
}

/// The gradients of the layer's result (without a layer: of the input), the bias and the operands, from that of the
/// result. What is not wanted is empty.
std::vector<at::Tensor> upconv_chain_gradient(const at::Tensor& dy, const at::Tensor& z,
                                              std::vector<int64_t> input_size, std::vector<at::Tensor> saved,
                                              std::vector<at::Tensor> operands, int64_t chain) {
  using namespace exported;
  const Chain& c = chain_of(chain);
  check(dy, "the output's gradient", z);
  const c10::cuda::CUDAGuard guard(z.device());
  ChainCall call(c, c.gradient, input_size, operands, z);
  TORCH_CHECK(dy.sizes() == at::IntArrayRef(call.result_shape()), "expected a gradient of ", call.result_shape(),
              ", but got ", dy.sizes());
  TORCH_CHECK(int(saved.size()) == call.program->saved_count, "what was kept is not this chain's");
  const at::Tensor dense_dy = dy.contiguous();
  const at::Tensor dz = at::empty(call.shape(call.z), z.options());
  const at::Tensor db = at::empty({c.bias ? c.channels : 0}, z.options());
  std::vector<at::Tensor> answer{dz, db};
  std::vector<void*> gradients, saved_at;
  for (int i = 0; i < c.operand_count; ++i) {
    const bool wanted = (c.wanted >> i & 1) != 0;
    answer.push_back(wanted ? at::empty(operands[i].sizes(), z.options()) : at::empty({0}, z.options()));
    gradients.push_back(answer.back().data_ptr());
  }
  for (const at::Tensor& s : saved) saved_at.push_back(s.data_ptr());
  ProgramTensors t;
  t.z = z.data_ptr(), t.dy = dense_dy.data_ptr(), t.dz = dz.data_ptr(), t.db = db.data_ptr();
  t.saved = saved_at.data(), t.gradients = gradients.data();
  call.run(t, z);
  return answer;
}
