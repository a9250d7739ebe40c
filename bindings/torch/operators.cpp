// The operators on CPU and CUDA tensors: check, make dense, allocate, look the plan up, run it.
// Registered in schema.cpp; python/upconv/_ops.py adds what only Python can (fake kernels, autograd, vmap).
#include "operators.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

#include "arguments.hpp"
#include "launch.hpp"
#include "operand.hpp"
#include "plan_cache.hpp"

namespace upconv::binding {
namespace {

Layout join(Layout a, Layout b) {
  return a == Layout::channels_last || b == Layout::channels_last ? Layout::channels_last : Layout::channels_first;
}

std::array<std::int64_t, max_rank + 2> output_sizes(const Problem& p) {
  std::array<std::int64_t, max_rank + 2> sizes{p.batch, p.out_channels};
  const Extent out = output_size(p);
  for (int d = 0; d < p.rank; ++d) sizes[d + 2] = out[d];
  return sizes;
}

Tensor run_forward(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, const Hyperparameters& h,
                   const Epilogue& epilogue) {
  const int rank = static_cast<int>(w.dim()) - 2;
  Problem p = make_problem(sizes_of(x), sizes_of(w), h, common_dtype(rank, x, "input", w, "weight"));
  const Device device = common_device(rank, x, "input", w, "weight");
  if (b) {
    check_bias(p, *b);
    common_device(rank, x, "input", *b, "bias");
  }
  p.precision = precision_of(h.precision, p, Pass::forward, device);
  p.bias = b.has_value();
  p.y_layout = join(suggested_layout(x), suggested_layout(w));
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  const Operand dense_x = dense(x, p.y_layout), dense_w = dense(w, Layout::channels_first);
  p.x_layout = dense_x.layout;
  p.w_layout = dense_w.layout;
  std::optional<Tensor> dense_b;
  if (b) dense_b = dense(*b, Layout::channels_first).tensor;
  const auto plan = plan_for(p, epilogue, device);
  const Tensor y = allocate(output_sizes(p).data(), p.rank + 2, p.y_layout, p.dtype, device);
  launch(*plan, Pass::forward, device, [&](const Launch& l) {
    return plan->forward({.x = dense_x.tensor.const_data_ptr(),
                          .w = dense_w.tensor.const_data_ptr(),
                          .b = dense_b ? dense_b->const_data_ptr() : nullptr,
                          .y = y.mutable_data_ptr()},
                         l);
  });
  return y;
}

Tensor run_backward_input(const Tensor& dy, const Tensor& w, Sizes input_size, const Hyperparameters& h) {
  const int rank = static_cast<int>(w.dim()) - 2;
  Problem p = make_problem(input_size, sizes_of(w), h, common_dtype(rank, dy, "output gradient", w, "weight"));
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  check_output_gradient(p, sizes_of(dy));
  const Device device = common_device(rank, dy, "output gradient", w, "weight");
  p.precision = precision_of(h.precision, p, Pass::backward_input, device);
  p.x_layout = join(suggested_layout(dy), suggested_layout(w));
  const Operand dense_dy = dense(dy, p.x_layout), dense_w = dense(w, Layout::channels_first);
  p.y_layout = dense_dy.layout;
  p.w_layout = dense_w.layout;
  const auto plan = plan_for(p, {}, device);
  const Tensor dx = allocate(input_size.data(), p.rank + 2, p.x_layout, p.dtype, device);
  launch(*plan, Pass::backward_input, device, [&](const Launch& l) {
    return plan->backward_input(
        {.dy = dense_dy.tensor.const_data_ptr(), .w = dense_w.tensor.const_data_ptr(), .dx = dx.mutable_data_ptr()}, l);
  });
  return dx;
}

/// Bytes of scratch that dx takes of tensors that are dense.
std::size_t workspace_of_backward_input(const Tensor& dy, const Tensor& w, Sizes input_size, const Hyperparameters& h) {
  const Device device = device_of(dy);
  Problem p = make_problem(input_size, sizes_of(w), h, dtype_of("conv_transpose", "output gradient", dy));
  p.precision = precision_of(h.precision, p, Pass::backward_input, device);
  p.x_layout = join(suggested_layout(dy), suggested_layout(w));
  p.y_layout = suggested_layout(dy);
  return plan_for(p, {}, device)->workspace_bytes(Pass::backward_input, 1);
}

Tensor run_backward_weight(const Tensor& x, const Tensor& dy, Sizes weight_size, const Hyperparameters& h) {
  const int rank = static_cast<int>(weight_size.size()) - 2;
  Problem p = make_problem(sizes_of(x), weight_size, h, common_dtype(rank, x, "input", dy, "output gradient"));
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  check_output_gradient(p, sizes_of(dy));
  const Device device = common_device(rank, x, "input", dy, "output gradient");
  p.precision = precision_of(h.precision, p, Pass::backward_weight, device);
  const Layout layout = join(suggested_layout(x), suggested_layout(dy));
  const Operand dense_x = dense(x, layout), dense_dy = dense(dy, layout);
  p.x_layout = dense_x.layout;
  p.y_layout = dense_dy.layout;
  const auto plan = plan_for(p, {}, device);
  const Tensor dw = allocate(weight_size.data(), p.rank + 2, p.w_layout, p.dtype, device);
  launch(*plan, Pass::backward_weight, device, [&](const Launch& l) {
    return plan->backward_weight(
        {.x = dense_x.tensor.const_data_ptr(), .dy = dense_dy.tensor.const_data_ptr(), .dw = dw.mutable_data_ptr()}, l);
  });
  return dw;
}

}  // namespace

Hyperparameters unpack(const Tensor& w, Integers geometry) {
  const std::size_t n = geometry.size() / 4;
  if (geometry.size() != 4 * n + 2)
    throw std::runtime_error("conv_transpose: expected 4 hyperparameters a dimension, groups and precision, but got " +
                             std::to_string(geometry.size()) + " numbers");
  if (static_cast<std::size_t>(w.dim()) != n + 2)
    throw std::runtime_error("conv_transpose" + std::to_string(n) + "d: expected a weight of " + std::to_string(n + 2) +
                             " dimensions (in_channels, out_channels/groups, *kernel), but got one of " +
                             std::to_string(w.dim()));
  const std::int64_t* g = geometry.data();
  return {{g, n}, {g + n, n}, {g + 2 * n, n}, {g + 3 * n, n}, g[4 * n], g[4 * n + 1]};
}

Tensor conv_transpose(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers stride,
                      Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                      std::int64_t precision) {
  return run_forward(x, w, b, {stride, padding, output_padding, dilation, groups, precision}, {});
}

Tensor conv_transpose_epilogue(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers stride,
                               Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                               const std::vector<double>& epilogue, std::int64_t precision) {
  return run_forward(x, w, b, {stride, padding, output_padding, dilation, groups, precision}, make_epilogue(epilogue));
}

Tensor conv_transpose_backward_input(const Tensor& dy, const Tensor& w, Integers input_size, Integers stride,
                                     Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                                     std::int64_t precision) {
  return run_backward_input(dy, w, input_size, {stride, padding, output_padding, dilation, groups, precision});
}

Tensor conv_transpose_backward_weight(const Tensor& x, const Tensor& dy, Integers weight_size, Integers stride,
                                      Integers padding, Integers output_padding, Integers dilation, std::int64_t groups,
                                      std::int64_t precision) {
  return run_backward_weight(x, dy, weight_size, {stride, padding, output_padding, dilation, groups, precision});
}

Tensor conv_transpose_backward_bias(const Tensor& dy) {
  // db depends on dy's shape alone: the plan is that of the 1x1 problem whose output has this shape.
  const Sizes sizes = sizes_of(dy);
  const std::array<std::int64_t, max_rank + 2> w{1, sizes.size() > 1 ? sizes[1] : 1, 1, 1, 1};
  std::array<std::int64_t, max_rank + 2> x{};
  if (sizes.size() < 3 || sizes.size() > x.size())
    throw std::runtime_error(
        "conv_transpose_backward_bias: expected an output gradient of 3, 4 or 5 dimensions, but got " +
        std::to_string(sizes.size()));
  std::copy(sizes.begin(), sizes.end(), x.begin());
  x[1] = 1;
  const std::array<std::int64_t, 1> one{1}, zero{0};
  Problem p = make_problem({x.data(), sizes.size()}, {w.data(), sizes.size()}, {one, zero, zero, one, 1},
                           dtype_of("conv_transpose_backward_bias", "output gradient", dy));
  if (Status s = validate(p); !s.ok()) throw std::runtime_error(s.message());
  const Device device = device_of(dy);
  const Operand dense_dy = dense(dy, suggested_layout(dy));
  p.x_layout = p.y_layout = dense_dy.layout;
  const auto plan = plan_for(p, {}, device);
  const Tensor db = allocate(&p.out_channels, 1, Layout::channels_first, p.dtype, device);
  launch(*plan, Pass::backward_bias, device, [&](const Launch& l) {
    return plan->backward_bias({.dy = dense_dy.tensor.const_data_ptr(), .db = db.mutable_data_ptr()}, l);
  });
  return db;
}

Tensor forward_packed(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers geometry) {
  return run_forward(x, w, b, unpack(w, geometry), {});
}

Tensor forward_epilogue_packed(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, Integers geometry,
                               const std::vector<double>& epilogue) {
  return run_forward(x, w, b, unpack(w, geometry), make_epilogue(epilogue));
}

Gradients backward_packed(const Tensor& dy, const Tensor& x, const Tensor& w, Integers geometry, bool need_dx,
                          bool need_dw, bool need_db) {
  const Hyperparameters h = unpack(w, geometry);
  const std::int64_t nothing = 0;
  const auto empty = [&] { return allocate(&nothing, 1, Layout::channels_first, DType::f32, device_of(dy)); };
  // dx last: the others' workspace is free again before dx is allocated. But where dx prepares weights that are larger
  // than x, dw must not be there yet.
  const bool dx_first =
      need_dx && need_dw && w.numel() > x.numel() && workspace_of_backward_input(dy, w, sizes_of(x), h) > 0;
  Tensor dx = dx_first ? run_backward_input(dy, w, sizes_of(x), h) : empty();
  Tensor dw = need_dw ? run_backward_weight(x, dy, sizes_of(w), h) : empty();
  Tensor db = need_db ? conv_transpose_backward_bias(dy) : empty();
  if (need_dx && !dx_first) dx = run_backward_input(dy, w, sizes_of(x), h);
  return {std::move(dx), std::move(dw), std::move(db)};
}

}  // namespace upconv::binding
