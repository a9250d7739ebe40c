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
std::shared_ptr<const ChainPlan> plan_of(Key key, const OperandTensor* operands, int count) {
  static std::shared_mutex mutex;
  static auto* plans = new std::unordered_map<Key, std::shared_ptr<const ChainPlan>, Hash>;
  {
    std::shared_lock lock(mutex);
    if (const auto it = plans->find(key); it != plans->end()) return it->second;
  }
  Chain chain = make_chain(key.numbers);
  if (key.device.kind != Device::Kind::cpu) note_spreads(key.problem, chain, operands, count);
  auto made = ChainPlan::create(key.problem, key.device, chain);
  if (!made.ok()) throw std::runtime_error(made.status().message());
  std::unique_lock lock(mutex);
  if (plans->size() >= 512) plans->clear();
  return plans->emplace(std::move(key), *made).first->second;
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

}  // namespace

std::tuple<Tensor, Tensor> chain(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b,
                                 const std::vector<Tensor>& operands, const std::vector<std::int64_t>& geometry,
                                 const std::vector<double>& numbers) {
  const int rank = static_cast<int>(w.dim()) - 2;
  const Hyperparameters h = unpack(w, geometry);
  Key key{make_problem(sizes_of(x), sizes_of(w), h, common_dtype(rank, x, "input", w, "weight")),
          common_device(rank, x, "input", w, "weight"),
          numbers,
          {}};
  Problem& p = key.problem;
  if (b) {
    check_bias(p, *b);
    common_device(rank, x, "input", *b, "bias");
  }
  p.precision = precision_of(h.precision, p, Pass::forward, key.device);
  p.bias = b.has_value();
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  const binding::Operand dense_x = dense(x, Layout::channels_first), dense_w = dense(w, Layout::channels_first);
  p.x_layout = dense_x.layout;
  p.w_layout = dense_w.layout;
  std::optional<Tensor> dense_b;
  if (b) dense_b = dense(*b, Layout::channels_first).tensor;
  if (operands.size() > max_operands)
    throw std::runtime_error("upconv::_chain: " + std::to_string(operands.size()) + " operands, but at most " +
                             std::to_string(max_operands) + " are known");
  std::array<OperandTensor, max_operands> given;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    common_device(rank, x, "input", operands[i], "an operand");
    given[i] = operand_of(operands[i], rank, p.dtype, i);
  }
  const Device device = key.device;
  const DType dtype = p.dtype;
  const std::int64_t channels = p.out_channels;
  const int count = static_cast<int>(operands.size());
  if (device.kind != Device::Kind::cpu)
    for (int i = 0; i < count; ++i) key.spreads.push_back(spread_code(given[static_cast<std::size_t>(i)]));
  const auto plan = plan_of(std::move(key), given.data(), count);
  const Shape5 shape = plan->result_shape();
  std::array<std::int64_t, max_rank + 2> sizes{shape[0], shape[1]};
  for (int d = 0; d < rank; ++d) sizes[static_cast<std::size_t>(d) + 2] = shape[static_cast<std::size_t>(d + 5 - rank)];
  const Tensor y = allocate(sizes.data(), rank + 2, Layout::channels_first, dtype, device);
  const bool normalises = plan->normalises();
  const std::array<std::int64_t, 2> statistics_size{2, normalises ? channels : 0};
  const Tensor statistics = allocate(statistics_size.data(), 2, Layout::channels_first, DType::f64, device);
  launch(*plan, device, [&](const Launch& l) {
    return plan->run({.x = dense_x.tensor.const_data_ptr(),
                      .w = dense_w.tensor.const_data_ptr(),
                      .b = dense_b ? dense_b->const_data_ptr() : nullptr,
                      .y = y.mutable_data_ptr(),
                      .operands = given.data(),
                      .operand_count = count,
                      .statistics = normalises ? static_cast<double*>(statistics.mutable_data_ptr()) : nullptr},
                     l);
  });
  return {y, statistics};
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

std::string explain_chain(const std::string& problem, const std::string& device, const std::vector<double>& numbers) {
  const auto parsed = parse_problem(problem);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  const auto plan = ChainPlan::create(*parsed, parse_device(device), make_chain(numbers));
  if (!plan.ok()) throw std::runtime_error(plan.status().message());
  return (*plan)->explain();
}

}  // namespace upconv::binding
