// See chain.hpp.
#include "chain.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <unordered_map>

#include "arguments.hpp"
#include "launch.hpp"
#include "operand.hpp"
#include "operators.hpp"
#include "single_pass.hpp"

namespace upconv::binding {
namespace {

struct Key {
  Problem problem;
  Device device;
  std::vector<double> numbers;
  std::vector<int> spreads;  ///< CUDA: how each operand lies, for which kernels are specialised.
  bool operator==(const Key&) const = default;
};

struct Hash {
  std::size_t operator()(const Key& key) const {
    std::uint64_t state = 0xcbf29ce484222325u;
    const auto add = [&](std::uint64_t v) { state = (state ^ v) * 0x9e3779b97f4a7c15u, state ^= state >> 29; };
    const Problem& p = key.problem;
    for (std::int64_t v : {p.batch, p.in_channels, p.out_channels, p.groups, std::int64_t{p.rank}})
      add(static_cast<std::uint64_t>(v));
    for (const Extent* e : {&p.input, &p.kernel, &p.stride, &p.padding})
      for (int d = 0; d < p.rank; ++d) add(static_cast<std::uint64_t>((*e)[d]));
    add(static_cast<std::uint64_t>(p.dtype) | static_cast<std::uint64_t>(p.x_layout) << 8 |
        static_cast<std::uint64_t>(key.device.index) << 16);
    for (double v : key.numbers) add(static_cast<std::uint64_t>(static_cast<std::int64_t>(v * 4096.0)));
    for (int v : key.spreads) add(static_cast<std::uint64_t>(v));
    return static_cast<std::size_t>(state);
  }
};

/// What of an operand decides how it lies over values of any shape that it fits: the dimensions that it has, and
/// whether it is dense.
int spread_code(const OperandTensor& t) {
  int code = 0;
  std::int64_t dense = 1;
  for (int d = 4; d >= 0; --d) {
    if (t.size[d] != 1) code |= 1 << d;
    if (t.size[d] != 1 && t.stride[d] != dense) code |= 32;
    dense *= t.size[d];
  }
  return code;
}

/// Plans by key, 512 of them; then all are dropped. (A chain's plan is rebuilt in microseconds on the CPU, and on CUDA
/// its compiled kernels outlive it.)
template <class P, class Make>
std::shared_ptr<const P> plan_of(const Key& key, const OperandTensor* operands, int count, Make&& make) {
  static std::shared_mutex mutex;
  static auto* plans = new std::unordered_map<Key, std::shared_ptr<const P>, Hash>;
  {
    std::shared_lock lock(mutex);
    if (const auto it = plans->find(key); it != plans->end()) return it->second;
  }
  Chain chain = make_chain(key.numbers);
  if (key.device.kind != Device::Kind::cpu) note_spreads(key.problem, chain, operands, count);
  Result<std::shared_ptr<const P>> made = make(chain);
  if (!made.ok()) throw std::runtime_error(made.status().message());
  std::unique_lock lock(mutex);
  if (plans->size() >= 512) plans->clear();
  return plans->emplace(key, *made).first->second;
}

OperandTensor operand_of(const Tensor& t, int rank, DType dtype, std::size_t number) {
  if (dtype_of("upconv::_chain", "an operand", t) != dtype)
    throw std::runtime_error("upconv::_chain: operand " + std::to_string(number) + " has another dtype than the input");
  OperandTensor o;
  o.data = t.const_data_ptr();
  const auto sizes = t.sizes();
  const auto strides = t.strides();
  const int dims = static_cast<int>(sizes.size());
  if (dims == 1) {
    o.size[1] = sizes[0], o.stride[1] = strides[0];
  } else if (dims == rank + 2) {
    for (int d = 0; d < dims; ++d) {
      const auto to = static_cast<std::size_t>(d < 2 ? d : d + 3 - rank);
      o.size[to] = sizes[d], o.stride[to] = strides[d];
    }
  } else if (dims != 0) {
    throw std::runtime_error("upconv::_chain: operand " + std::to_string(number) + " has " + std::to_string(dims) +
                             " dimensions, but 0, 1 or " + std::to_string(rank + 2) + " are expected");
  }
  return o;
}

/// The tensors of a call, dense, and the key of its plan.
struct Call {
  Key key;
  int rank = 0;
  Operand x, w;
  std::optional<Tensor> b;
  std::array<OperandTensor, max_operands> given;
  int count = 0;

  Call(const Tensor& x_given, const Tensor& w_given, const std::vector<Tensor>& operands,
       const std::vector<std::int64_t>& geometry, const std::vector<double>& numbers)
      : rank(static_cast<int>(w_given.dim()) - 2),
        x(dense(x_given, Layout::channels_first)),
        w(dense(w_given, Layout::channels_first)) {
    const Hyperparameters h = unpack(w_given, geometry);
    key.problem =
        make_problem(sizes_of(x_given), sizes_of(w_given), h, common_dtype(rank, x_given, "input", w_given, "weight"));
    key.device = common_device(rank, x_given, "input", w_given, "weight");
    key.numbers = numbers;
    Problem& p = key.problem;
    p.precision = precision_of(h.precision, p, Pass::forward, key.device);
    p.x_layout = x.layout;
    p.w_layout = w.layout;
    if (operands.size() > max_operands)
      throw std::runtime_error("upconv::_chain: " + std::to_string(operands.size()) + " operands, but at most " +
                               std::to_string(max_operands) + " are known");
    for (std::size_t i = 0; i < operands.size(); ++i) {
      common_device(rank, x_given, "input", operands[i], "an operand");
      given[i] = operand_of(operands[i], rank, p.dtype, i);
    }
    count = static_cast<int>(operands.size());
    if (key.device.kind != Device::Kind::cpu)
      for (int i = 0; i < count; ++i) key.spreads.push_back(spread_code(given[static_cast<std::size_t>(i)]));
  }
  void bias(const Tensor& x_given, const std::optional<Tensor>& b_given) {
    if (b_given) {
      check_bias(key.problem, *b_given);
      common_device(rank, x_given, "input", *b_given, "bias");
      b = dense(*b_given, Layout::channels_first).tensor;
    }
    key.problem.bias = b_given.has_value();
    if (Status s = validate(key.problem); !s.ok()) throw std::runtime_error(s.message());
  }
  [[nodiscard]] Tensor values(const Shape5& shape) const {
    std::array<std::int64_t, max_rank + 2> sizes{shape[0], shape[1]};
    for (int d = 0; d < rank; ++d)
      sizes[static_cast<std::size_t>(d) + 2] = shape[static_cast<std::size_t>(d + 5 - rank)];
    return allocate(sizes.data(), rank + 2, Layout::channels_first, key.problem.dtype, key.device);
  }
  [[nodiscard]] Tensor statistics(bool normalises) const {
    const std::array<std::int64_t, 2> size{2, normalises ? key.problem.out_channels : 0};
    return allocate(size.data(), 2, Layout::channels_first, DType::f64, key.device);
  }
  [[nodiscard]] ChainArgs args(const Tensor& y, const Tensor& statistics, bool normalises) const {
    return {.x = x.tensor.const_data_ptr(),
            .w = w.tensor.const_data_ptr(),
            .b = b ? b->const_data_ptr() : nullptr,
            .y = y.mutable_data_ptr(),
            .operands = given.data(),
            .operand_count = count,
            .statistics = normalises ? static_cast<double*>(statistics.mutable_data_ptr()) : nullptr};
  }
  [[nodiscard]] std::shared_ptr<const TrainingChain> training(std::int64_t wanted) {
    key.spreads.push_back(static_cast<int>(wanted));
    return plan_of<TrainingChain>(key, given.data(), count, [&](const Chain& c) {
      std::vector<Shape5> sizes;
      for (int i = 0; i < count; ++i) sizes.push_back(given[static_cast<std::size_t>(i)].size);
      return TrainingChain::create(key.problem, key.device, c, sizes, static_cast<unsigned>(wanted));
    });
  }
};

}  // namespace

std::tuple<Tensor, Tensor> chain(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b,
                                 const std::vector<Tensor>& operands, const std::vector<std::int64_t>& geometry,
                                 const std::vector<double>& numbers) {
  Call call(x, w, operands, geometry, numbers);
  call.bias(x, b);
  const auto plan = plan_of<ChainPlan>(call.key, call.given.data(), call.count, [&](const Chain& c) {
    return ChainPlan::create(call.key.problem, call.key.device, c);
  });
  const bool normalises = plan->normalises();
  const Tensor y = call.values(plan->result_shape()), statistics = call.statistics(normalises);
  launch(*plan, call.key.device, [&](const Launch& l) { return plan->run(call.args(y, statistics, normalises), l); });
  return {y, statistics};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> chain_training(const Tensor& x, const Tensor& w,
                                                          const std::optional<Tensor>& b,
                                                          const std::vector<Tensor>& operands,
                                                          const std::vector<std::int64_t>& geometry,
                                                          const std::vector<double>& numbers, std::int64_t wanted) {
  Call call(x, w, operands, geometry, numbers);
  call.bias(x, b);
  const auto plan = call.training(wanted);
  const bool normalises = plan->normalises();
  const Tensor y = call.values(plan->result_shape()), z = call.values(plan->layer_shape());
  const std::int64_t words = static_cast<std::int64_t>((plan->saved_bytes() + 7) / 8);
  const Tensor saved = allocate(&words, 1, Layout::channels_first, DType::f64, call.key.device);
  const Tensor statistics = call.statistics(normalises);
  launch(plan->workspace_bytes(false), call.key.device, [&](const Launch& l) {
    return plan->forward(call.args(y, statistics, normalises), {z.mutable_data_ptr(), saved.mutable_data_ptr()}, l);
  });
  return {y, z, saved, statistics};
}

std::tuple<Tensor, Tensor, std::vector<Tensor>> chain_gradient(const Tensor& dy, const Tensor& x, const Tensor& w,
                                                               bool bias, const Tensor& z, const Tensor& saved,
                                                               const std::vector<Tensor>& operands,
                                                               const std::vector<std::int64_t>& geometry,
                                                               const std::vector<double>& numbers,
                                                               std::int64_t wanted) {
  Call call(x, w, operands, geometry, numbers);
  call.key.problem.bias = bias;
  const auto plan = call.training(wanted);
  const DType dtype = call.key.problem.dtype;
  const Device device = call.key.device;
  const Operand dense_dy = dense(dy, Layout::channels_first);
  const Tensor like = call.values(plan->result_shape());  // for its sizes
  const auto sizes = like.sizes();
  bool same = dy.dim() == like.dim() && dtype_of("upconv::_chain_gradient", "the gradient", dy) == dtype;
  for (std::size_t d = 0; same && d < sizes.size(); ++d) same = dy.sizes()[d] == sizes[d];
  if (!same || dense_dy.layout != Layout::channels_first)
    throw std::runtime_error("upconv::_chain_gradient: the gradient of the result has another shape, dtype or layout");
  const Tensor dz = call.values(plan->layer_shape());
  const std::int64_t channels = bias ? call.key.problem.out_channels : 0;
  const Tensor db = allocate(&channels, 1, Layout::channels_first, dtype, device);
  std::vector<Tensor> gradients;
  std::array<void*, max_operands> at{};
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::vector<std::int64_t> size(operands[i].sizes().begin(), operands[i].sizes().end());
    const bool given = (wanted >> i & 1) != 0;
    if (!given) size.assign(1, 0);
    gradients.push_back(allocate(size.data(), static_cast<int>(size.size()), Layout::channels_first, dtype, device));
    at[i] = given ? gradients.back().mutable_data_ptr() : nullptr;
  }
  launch(plan->workspace_bytes(true), device, [&](const Launch& l) {
    return plan->backward({.dy = dense_dy.tensor.const_data_ptr(),
                           .operands = call.given.data(),
                           .operand_count = call.count,
                           .dz = dz.mutable_data_ptr(),
                           .db = bias ? db.mutable_data_ptr() : nullptr,
                           .gradients = at.data()},
                          {z.mutable_data_ptr(), saved.mutable_data_ptr()}, l);
  });
  return {dz, db, gradients};
}

void update_running(const Tensor& statistics, const Tensor& mean, const Tensor& variance, const Tensor& batches,
                    double momentum, std::int64_t count) {
  const Device device = device_of(mean);
  for (const Tensor* t : {&statistics, &variance, &batches})
    if (!(device_of(*t) == device)) throw std::runtime_error("upconv::_update_running: tensors on several devices");
  RunningArgs a;
  a.dtype = dtype_of("upconv::_update_running", "the running mean", mean);
  if (dtype_of("upconv::_update_running", "the running variance", variance) != a.dtype || !mean.is_contiguous() ||
      !variance.is_contiguous() || mean.numel() != variance.numel() || statistics.numel() != 2 * mean.numel())
    throw std::runtime_error(
        "upconv::_update_running: running averages of another size, layout or dtype than expected");
  a.statistics = static_cast<const double*>(statistics.const_data_ptr());
  a.mean = mean.mutable_data_ptr();
  a.variance = variance.mutable_data_ptr();
  a.batches = static_cast<std::int64_t*>(batches.mutable_data_ptr());
  a.channels = mean.numel();
  a.count = count;
  a.momentum = momentum;
  launch(device, [&](const Launch& l) { return upconv::update_running(device, a, l); });
}

Tensor tap_sums(const Tensor& x, std::int64_t dim, std::int64_t taps, std::int64_t stride, std::int64_t padding,
                std::int64_t dilation, std::int64_t size, double scale) {
  const auto sizes = x.sizes();
  const std::int64_t dims = static_cast<std::int64_t>(sizes.size());
  if (dim < 0 || dim >= dims || dims > max_rank + 2 || !x.is_contiguous() || taps < 1 || stride < 1 || dilation < 1)
    throw std::runtime_error("upconv::_tap_sums: expected a dense tensor, one of its dimensions and a layer's numbers");
  const Device device = device_of(x);
  TapSumsArgs a;
  a.dtype = dtype_of("upconv::_tap_sums", "the input", x);
  std::array<std::int64_t, max_rank + 2> result{};
  for (std::int64_t d = 0; d < dims; ++d) {
    result[static_cast<std::size_t>(d)] = d == dim ? taps : sizes[d];
    (d < dim ? a.outer : d == dim ? a.length : a.inner) *= sizes[d];
  }
  const Tensor sums = allocate(result.data(), static_cast<int>(dims), Layout::channels_first, a.dtype, device);
  a.x = x.const_data_ptr(), a.sums = sums.mutable_data_ptr();
  a.size = size, a.taps = taps, a.stride = stride, a.padding = padding, a.dilation = dilation;
  a.scale = static_cast<float>(scale);
  launch(device, [&](const Launch& l) { return upconv::tap_sums(device, a, l); });
  return sums;
}

std::string explain_chain(const std::string& problem, const std::string& device, const std::vector<double>& numbers) {
  const auto parsed = parse_problem(problem);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  const auto plan = ChainPlan::create(*parsed, parse_device(device), make_chain(numbers));
  if (!plan.ok()) throw std::runtime_error(plan.status().message());
  return (*plan)->explain();
}

}  // namespace upconv::binding
