// See single_pass.hpp.
#include "single_pass.hpp"

#include <array>
#include <map>
#include <mutex>
#include <stdexcept>

#include "arguments.hpp"
#include "launch.hpp"
#include "operand.hpp"

namespace upconv::binding {
namespace {

using torch::stable::Tensor;
using Shape = std::vector<std::int64_t>;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("upconv::_run: " + what); }

Shape shape_of(std::int64_t first, std::int64_t second, const Extent& spatial, int rank) {
  Shape s{first, second};
  s.insert(s.end(), spatial.begin(), spatial.begin() + rank);
  return s;
}

void expect(const Tensor& t, const Shape& shape, Layout layout, DType dtype, const char* what) {
  const auto sizes = t.sizes();
  bool same = sizes.size() == shape.size();
  for (std::size_t i = 0; same && i < shape.size(); ++i) same = sizes[i] == shape[i];
  if (!same) fail(std::string(what) + " has another shape than the problem gives it");
  if (dtype_of("upconv::_run", what, t) != dtype) fail(std::string(what) + " has another dtype than the problem");
  if (dense(t, layout).tensor.const_data_ptr() != t.const_data_ptr() || dense(t, layout).layout != layout)
    fail(std::string(what) + " is not dense in the problem's layout");
}

void expect_bias(const Tensor& b, const Problem& p) {
  if (b.sizes().size() != 1 || b.sizes()[0] != p.out_channels || (p.out_channels > 1 && b.strides()[0] != 1))
    fail("bias is not a dense vector of out_channels numbers");
  if (dtype_of("upconv::_run", "bias", b) != p.dtype) fail("bias has another dtype than the problem");
}

/// Plans by their text: compiled kernels are kept from call to call.
std::shared_ptr<const Plan> plan_of(const std::string& text, const Problem& p, const std::string& only, Device device,
                                    const std::vector<double>& epilogue) {
  using Key = std::tuple<std::string, std::string, int, int, std::vector<double>>;
  static std::mutex mutex;
  static auto* plans = new std::map<Key, std::shared_ptr<const Plan>>;
  std::lock_guard lock(mutex);
  auto& plan = (*plans)[{text, only, static_cast<int>(device.kind), device.index, epilogue}];
  if (!plan) {
    auto made = Plan::create(p, device, make_epilogue(epilogue), only);
    if (!made.ok()) throw std::runtime_error(made.status().message());
    plan = *made;
  }
  return plan;
}

}  // namespace

Device parse_device(const std::string& text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda(0);
  try {
    if (text.starts_with("cuda:")) return Device::cuda(std::stoi(text.substr(5)));
    if (text.starts_with("sm_")) return Device::cuda_model(std::stoi(text.substr(3)));
  } catch (const std::logic_error&) {  // not a number
  }
  throw std::runtime_error("upconv: expected a device such as cpu, cuda, cuda:1 or sm_90, but got '" + text + "'");
}

Tensor run_single(const std::string& text, const std::string& pass, const std::string& only, const Tensor& a,
                  const Tensor& b, const std::optional<Tensor>& bias, const std::vector<double>& epilogue) {
  const auto parsed = parse_problem(text);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  const Problem& p = *parsed;
  const Device device = device_of(a);
  if (!(device_of(b) == device) || (bias && !(device_of(*bias) == device))) fail("tensors on several devices");
  const auto plan = plan_of(text, p, only, device, epilogue);
  const Shape x = shape_of(p.batch, p.in_channels, p.input, p.rank);
  const Shape w = shape_of(p.in_channels, p.out_channels / p.groups, p.kernel, p.rank);
  const Shape y = shape_of(p.batch, p.out_channels, output_size(p), p.rank);
  const int dims = p.rank + 2;
  if (pass == "forward") {
    expect(a, x, p.x_layout, p.dtype, "x");
    expect(b, w, p.w_layout, p.dtype, "w");
    if (bias) expect_bias(*bias, p);
    Tensor result = allocate(y.data(), dims, p.y_layout, p.dtype, device);
    launch(*plan, Pass::forward, device, [&](const Launch& l) {
      return plan->forward(
          {a.const_data_ptr(), b.const_data_ptr(), bias ? bias->const_data_ptr() : nullptr, result.mutable_data_ptr()},
          l);
    });
    return result;
  }
  if (pass == "backward_input") {
    expect(a, y, p.y_layout, p.dtype, "dy");
    expect(b, w, p.w_layout, p.dtype, "w");
    Tensor result = allocate(x.data(), dims, p.x_layout, p.dtype, device);
    launch(*plan, Pass::backward_input, device, [&](const Launch& l) {
      return plan->backward_input({a.const_data_ptr(), b.const_data_ptr(), result.mutable_data_ptr()}, l);
    });
    return result;
  }
  if (pass == "backward_weight") {
    expect(a, x, p.x_layout, p.dtype, "x");
    expect(b, y, p.y_layout, p.dtype, "dy");
    Tensor result = allocate(w.data(), dims, p.w_layout, p.dtype, device);
    launch(*plan, Pass::backward_weight, device, [&](const Launch& l) {
      return plan->backward_weight({a.const_data_ptr(), b.const_data_ptr(), result.mutable_data_ptr()}, l);
    });
    return result;
  }
  if (pass != "backward_bias") fail("no pass is named '" + pass + "'");
  expect(a, y, p.y_layout, p.dtype, "dy");
  Tensor result = allocate(&p.out_channels, 1, Layout::channels_first, p.dtype, device);
  launch(*plan, Pass::backward_bias, device, [&](const Launch& l) {
    return plan->backward_bias({a.const_data_ptr(), result.mutable_data_ptr()}, l);
  });
  return result;
}

}  // namespace upconv::binding
