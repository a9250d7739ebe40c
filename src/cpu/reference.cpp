// The definition of every pass as plain loops over the tensors' own indices, accumulated in double (fp64, fp32)
// or float64-from-16-bit. The oracle of the tests; as a candidate, the one that never declines.
#include <cmath>
#include <cstring>

#include "cpu/candidates.hpp"
#include "epilogue/scalar.hpp"

#define UPCONV_ISA reference_types
#include "cpu/simd.hpp"

namespace upconv::cpu {
namespace {

using namespace UPCONV_ISA;

/// Element strides of an activation tensor (n, channel, d, h, w).
struct Strides {
  std::int64_t n, c, d, h, w;
};

Strides strides_of(Layout layout, std::int64_t channels, const std::array<std::int64_t, 3>& size) {
  const std::int64_t volume = size[0] * size[1] * size[2];
  if (layout == Layout::channels_last)
    return {volume * channels, 1, size[1] * size[2] * channels, size[2] * channels, channels};
  return {volume * channels, volume, size[1] * size[2], size[2], 1};
}

double read(float v) { return v; }
double read(double v) { return v; }
double read(Half v) { return widen(v); }
double read(BFloat v) { return widen(v); }
void write(double v, double& out) { out = v; }
template <class S>
void write(double v, S& out) {
  narrow(static_cast<float>(v), out);
}

template <class S>
class Reference final : public PassKernel {
 public:
  explicit Reference(const Request& r)
      : g_(r.geometry),
        pass_(r.pass),
        epilogue_(r.epilogue),
        ws_(weight_strides(r.problem, r.geometry)),
        xs_(strides_of(r.problem.x_layout, g_.in_channels(), g_.in)),
        ys_(strides_of(r.problem.y_layout, g_.out_channels(), g_.out)) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  std::string detail() const override { return "plain loops, double accumulation"; }

  void run(const PassTensors& t, void*, Executor& executor) const override {
    struct Job {
      const Reference* self;
      const PassTensors* t;
      int workers;
    } job{this, &t, executor.workers()};
    executor.run(
        job.workers,
        [](void* context, int worker) {
          const Job& j = *static_cast<const Job*>(context);
          j.self->share(*j.t, worker, j.workers);
        },
        &job);
  }

 private:
  void share(const PassTensors& t, int worker, int workers) const {
    const std::int64_t n = pass_ == Pass::forward || pass_ == Pass::backward_input
                               ? g_.batch * (pass_ == Pass::forward ? g_.out_channels() : g_.in_channels())
                           : pass_ == Pass::backward_weight ? g_.in_channels() * g_.co
                                                            : g_.out_channels();
    for (std::int64_t i = n * worker / workers; i < n * (worker + 1) / workers; ++i) {
      switch (pass_) {
        case Pass::forward:
          forward(t, i / g_.out_channels(), i % g_.out_channels());
          break;
        case Pass::backward_input:
          backward_input(t, i / g_.in_channels(), i % g_.in_channels());
          break;
        case Pass::backward_weight:
          backward_weight(t, i / g_.co, i % g_.co);
          break;
        case Pass::backward_bias:
          backward_bias(t, i);
          break;
      }
    }
  }

  /// Input coordinate that tap t of dimension `dim` reads for output o, or -1.
  std::int64_t input_of(int dim, std::int64_t o, std::int64_t t) const {
    const std::int64_t v = o + g_.padding[dim] - g_.dilation[dim] * t;
    if (v < 0 || v % g_.stride[dim] != 0) return -1;
    const std::int64_t i = v / g_.stride[dim];
    return i < g_.in[dim] ? i : -1;
  }
  /// Output coordinate that input i reaches through tap t, or -1.
  std::int64_t output_of(int dim, std::int64_t i, std::int64_t t) const {
    const std::int64_t o = g_.stride[dim] * i + g_.dilation[dim] * t - g_.padding[dim];
    return o >= 0 && o < g_.out[dim] ? o : -1;
  }
  template <class F>
  void for_taps(F&& body) const {
    for (std::int64_t a = 0; a < g_.kernel[0]; ++a)
      for (std::int64_t b = 0; b < g_.kernel[1]; ++b)
        for (std::int64_t c = 0; c < g_.kernel[2]; ++c) body(a, b, c);
  }
  template <class F>
  static void for_volume(const std::array<std::int64_t, 3>& size, F&& body) {
    for (std::int64_t a = 0; a < size[0]; ++a)
      for (std::int64_t b = 0; b < size[1]; ++b)
        for (std::int64_t c = 0; c < size[2]; ++c) body(a, b, c);
  }
  std::int64_t weight_at(std::int64_t ci, std::int64_t co, std::int64_t a, std::int64_t b, std::int64_t c) const {
    return ci * ws_.ci + co * ws_.co + a * ws_.tap[0] + b * ws_.tap[1] + c * ws_.tap[2];
  }
  static std::int64_t at(const Strides& s, std::int64_t n, std::int64_t c, std::int64_t d, std::int64_t h,
                         std::int64_t w) {
    return n * s.n + c * s.c + d * s.d + h * s.h + w * s.w;
  }

  void forward(const PassTensors& t, std::int64_t n, std::int64_t oc) const {
    const S *x = static_cast<const S*>(t.x), *w = static_cast<const S*>(t.w), *b = static_cast<const S*>(t.b);
    S* y = static_cast<S*>(t.y);
    const std::int64_t group = oc / g_.co;
    for_volume(g_.out, [&](std::int64_t od, std::int64_t oh, std::int64_t ow) {
      double sum = b ? read(b[oc]) : 0.0;
      for_taps([&](std::int64_t kd, std::int64_t kh, std::int64_t kw) {
        const std::int64_t d = input_of(0, od, kd), h = input_of(1, oh, kh), v = input_of(2, ow, kw);
        if (d < 0 || h < 0 || v < 0) return;
        for (std::int64_t c = 0; c < g_.ci; ++c) {
          const std::int64_t ic = group * g_.ci + c;
          sum += read(x[at(xs_, n, ic, d, h, v)]) * read(w[weight_at(ic, oc % g_.co, kd, kh, kw)]);
        }
      });
      sum = evaluate(epilogue_, sum, [&](int k) {
        const Operand& o = t.operands[k];
        return read(static_cast<const S*>(
            o.data)[n * o.stride[0] + oc * o.stride[1] + od * o.stride[2] + oh * o.stride[3] + ow * o.stride[4]]);
      });
      write(sum, y[at(ys_, n, oc, od, oh, ow)]);
    });
  }

  void backward_input(const PassTensors& t, std::int64_t n, std::int64_t ic) const {
    const S *dy = static_cast<const S*>(t.dy), *w = static_cast<const S*>(t.w);
    S* dx = static_cast<S*>(t.dx);
    const std::int64_t group = ic / g_.ci;
    for_volume(g_.in, [&](std::int64_t d, std::int64_t h, std::int64_t v) {
      double sum = 0.0;
      for_taps([&](std::int64_t kd, std::int64_t kh, std::int64_t kw) {
        const std::int64_t od = output_of(0, d, kd), oh = output_of(1, h, kh), ow = output_of(2, v, kw);
        if (od < 0 || oh < 0 || ow < 0) return;
        for (std::int64_t c = 0; c < g_.co; ++c)
          sum += read(dy[at(ys_, n, group * g_.co + c, od, oh, ow)]) * read(w[weight_at(ic, c, kd, kh, kw)]);
      });
      write(sum, dx[at(xs_, n, ic, d, h, v)]);
    });
  }

  void backward_weight(const PassTensors& t, std::int64_t ic, std::int64_t c) const {
    const S *x = static_cast<const S*>(t.x), *dy = static_cast<const S*>(t.dy);
    S* dw = static_cast<S*>(t.dw);
    const std::int64_t oc = ic / g_.ci * g_.co + c;
    for_taps([&](std::int64_t kd, std::int64_t kh, std::int64_t kw) {
      double sum = 0.0;
      for (std::int64_t n = 0; n < g_.batch; ++n)
        for_volume(g_.in, [&](std::int64_t d, std::int64_t h, std::int64_t v) {
          const std::int64_t od = output_of(0, d, kd), oh = output_of(1, h, kh), ow = output_of(2, v, kw);
          if (od < 0 || oh < 0 || ow < 0) return;
          sum += read(x[at(xs_, n, ic, d, h, v)]) * read(dy[at(ys_, n, oc, od, oh, ow)]);
        });
      write(sum, dw[weight_at(ic, c, kd, kh, kw)]);
    });
  }

  void backward_bias(const PassTensors& t, std::int64_t oc) const {
    const S* dy = static_cast<const S*>(t.dy);
    double sum = 0.0;
    for (std::int64_t n = 0; n < g_.batch; ++n)
      for_volume(g_.out,
                 [&](std::int64_t d, std::int64_t h, std::int64_t v) { sum += read(dy[at(ys_, n, oc, d, h, v)]); });
    write(sum, static_cast<S*>(t.db)[oc]);
  }

  Geometry g_;
  Pass pass_;
  Epilogue epilogue_;
  WeightStrides ws_;
  Strides xs_, ys_;
};

}  // namespace

Result<std::unique_ptr<PassKernel>> make_reference(const Request& r) {
  switch (r.problem.dtype) {
    case DType::f32:
      return std::unique_ptr<PassKernel>(new Reference<float>(r));
    case DType::f64:
      return std::unique_ptr<PassKernel>(new Reference<double>(r));
    case DType::f16:
      return std::unique_ptr<PassKernel>(new Reference<Half>(r));
    case DType::bf16:
      return std::unique_ptr<PassKernel>(new Reference<BFloat>(r));
  }
  return unsupported("unknown dtype");
}

}  // namespace upconv::cpu
