// A chain on the CPU engine. The batch goes through in slabs of a few samples whose results fit the caches: prologue,
// convolution with its epilogue, then the closing steps over what was just written, the last of them into y. A batch
// norm of this batch cuts the chain in two: the first half leaves its values in memory and the moments of every plane
// beside them, the second half starts by normalising. Linear steps that follow a batch norm (average pooling, a mean)
// are done in the first half, so that what lies in memory between the two is already small.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/closing.hpp"
#include "cpu/isa.hpp"
#include "cpu/per_isa.hpp"
#include "cpu/share_out.hpp"
#include "plan/chain.hpp"
#include "problem/geometry.hpp"

UPCONV_DECLARE_PER_ISA(upconv::cpu::ClosingKernels, closing_kernels)

namespace upconv {
namespace {

using namespace cpu;
using Kind = ClosingStep::Kind;
typedef std::int64_t Int;

constexpr Int slab_bytes = 4 << 20;  ///< of the convolution's result: a few times the second-level caches

Int round_up(Int n) { return (n + 63) / 64 * 64; }
Int product(const Shape5& s, int first, int last) {
  Int n = 1;
  for (int d = first; d <= last; ++d) n *= s[d];
  return n;
}
Int sample_of(const Shape5& s) { return product(s, 1, 4); }
Int volume_of(const Shape5& s) { return product(s, 2, 4); }

/// Whether a step maps the constant c to c and sums to sums: it may change places with a batch norm's scale and shift.
bool linear(const ClosingStep& s) {
  if (!s.after.empty()) return false;
  if (s.kind == Kind::reduce) return s.reduction == ClosingStep::Reduction::mean && s.first >= 2;
  if (s.kind != Kind::pool || !s.average) return false;
  return !s.count_include_pad || (s.padding[0] == 0 && s.padding[1] == 0 && s.padding[2] == 0);
}

/// One step with all that its kernels need but the tensors.
struct Stage {
  ClosingStep step;
  Shape5 in, out;
  EpilogueSteps after;
};

class CpuChain final : public ChainPlan {
 public:
  CpuChain(const Problem& problem, const Chain& chain, const std::vector<Shape5>& shapes)
      : problem_(problem),
        chain_(chain),
        result_(shapes.back()),
        first_(shapes.front()),
        compute_size_(problem.dtype == DType::f64 ? 8 : 4),
        storage_size_(size_of(problem.dtype)),
        prologue_(flatten(chain.prologue)),
        kernels_(&UPCONV_PER_ISA(closing_kernels)[static_cast<int>(problem.dtype)]) {
    arrange(shapes);
  }

  Status make_plans() {
    const Int batch = problem_.batch, sample = std::max<Int>(sample_of(first_) * compute_size_, 1);
    const bool whole = chain_.closing.empty() && chain_.prologue.empty();
    slab_ = whole ? std::max<Int>(batch, 1) : std::clamp<Int>(slab_bytes / sample, 1, std::max<Int>(batch, 1));
    if (!whole) {  // slabs of nearly one size
      const Int slabs = std::max<Int>((batch + slab_ - 1) / slab_, 1);
      slab_ = std::max<Int>((batch + slabs - 1) / slabs, 1);
    }
    const Int tail = batch % slab_;
    for (int i = 0; i < 2; ++i) {
      Problem p = problem_;
      p.batch = i == 0 ? std::min(slab_, batch) : tail;
      if (i == 1 && tail == 0) break;
      auto plan = Plan::create(p, Device::cpu(), chain_.epilogue);
      if (!plan.ok()) return plan.status();
      plans_[i] = *plan;
    }
    return {};
  }

  Shape5 result_shape() const override { return result_; }
  bool normalises() const override { return norm_ != nullptr; }
  Status prepare() const override { return {}; }

  std::size_t workspace_bytes(int workers) const override { return static_cast<std::size_t>(layout(workers).total); }

  std::string explain() const override {
    std::string s = "chain of " + to_string(problem_) + " on the cpu, " + to_string(active_isa()) + ": slabs of " +
                    std::to_string(slab_) + " samples, " + std::to_string(halves_[0].size() + halves_[1].size()) +
                    " closing steps" + (normalises() ? ", in two halves" : "") + "\n";
    return s + plans_[0]->explain();
  }

  Status run(const ChainArgs& args, const Launch& launch) const override {
    Executor& executor = launch.executor ? *launch.executor : inline_executor();
    const Layout_ at = layout(executor.workers());
    if (launch.workspace_bytes < static_cast<std::size_t>(at.total) || (at.total > 0 && !launch.workspace))
      return invalid_argument("chain: workspace of " + std::to_string(launch.workspace_bytes) +
                              " bytes is smaller than the " + std::to_string(at.total) +
                              " that workspace_bytes() asks for");
    if (problem_.batch == 0) return {};
    Run r{args, executor, static_cast<char*>(launch.workspace), at, {}, {}, {}, nullptr, nullptr};
    if (Status s = resolve_all(args, r); !s.ok()) return s;
    const Int batch = problem_.batch;
    for (Int n = 0; n < batch; n += slab_)
      if (Status s = first_half(r, n, std::min(slab_, batch - n)); !s.ok()) return s;
    if (!normalises()) return {};
    combine(r);
    for (Int n = 0; n < batch; n += slab_)
      if (Status s = second_half(r, n, std::min(slab_, batch - n)); !s.ok()) return s;
    return {};
  }

 private:
  bool converts() const { return storage_size_ != compute_size_; }

  void arrange(const std::vector<Shape5>& shapes) {
    std::vector<ClosingStep> steps = chain_.closing;
    std::size_t norm = steps.size();
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (steps[i].kind == Kind::batch_norm) norm = i;
    Shape5 shape = shapes.front();
    std::size_t cut = norm;  // steps [norm + 1, cut] are linear and go first
    if (norm < steps.size() && steps[norm].after.empty())
      while (cut + 1 < steps.size() && linear(steps[cut + 1])) ++cut;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (i == norm) {
        statistics_shape_ = shape;
        statistics_at_ = halves_[0].size();
        continue;
      }
      const Shape5 out = shapes[i + 1];
      const bool second = norm < steps.size() && i > cut;
      if (second && halves_[1].empty()) normalise(steps[norm], shape);
      halves_[second].push_back({steps[i], shape, out, flatten(steps[i].after)});
      shape = out;
    }
    if (norm < steps.size() && halves_[1].empty()) normalise(steps[norm], shape);
    if (norm < steps.size()) norm_ = &halves_[1].front().step;
  }

  /// The second half begins with the batch norm's scale and shift, on values of `shape`.
  void normalise(const ClosingStep& step, const Shape5& shape) {
    halves_[1].push_back({step, shape, shape, flatten(step.after)});
    between_ = shape;
  }

  // ---- workspace -----------------------------------------------------------------------------------------------

  /// Offsets: of the inner plan's own workspace, two slabs of values, a slab in the storage type, x after the prologue,
  /// the values between the halves, moments of a slab's planes and what they scale and shift by, the same for the
  /// batch norm, a line for every worker.
  struct Layout_ {
    Int inner = 0, inner_bytes = 0, values[2] = {0, 0}, storage = 0, x = 0, between = 0, moments = 0, channels = 0,
        batch_moments = 0, batch_channels = 0, lines = 0, line = 0, total = 0;
  };
  Layout_ layout(int workers) const {
    Layout_ l;
    Int at = 0;
    const auto take = [&](Int bytes) {
      const Int begin = at;
      at += round_up(bytes);
      return begin;
    };
    std::size_t inner = 0;
    for (const auto& plan : plans_)
      if (plan) inner = std::max(inner, plan->workspace_bytes(Pass::forward, workers));
    l.inner = take(static_cast<Int>(inner));
    l.inner_bytes = static_cast<Int>(inner);
    Int largest = 0, planes = 0, line = 0;
    const bool direct = halves_[0].empty() && !normalises();
    for (const auto& half : halves_)
      for (const Stage& s : half) {
        largest = std::max(largest, sample_of(s.out));
        if (s.step.kind == Kind::plane_norm) planes = std::max(planes, slab_ * s.in[1]);
        line = std::max(line, s.in[4]);
      }
    if (!direct) l.values[0] = take(slab_ * std::max(sample_of(first_), largest) * compute_size_);
    if (halves_[0].size() + halves_[1].size() > 1 || converts()) l.values[1] = take(slab_ * largest * compute_size_);
    if (converts() && !direct)
      l.storage = take(slab_ * std::max(sample_of(first_), sample_of(result_)) * storage_size_);
    if (!chain_.prologue.empty()) l.x = take(slab_ * problem_.in_channels * in_volume() * storage_size_);
    if (normalises()) {
      if (!in_place()) l.between = take(problem_.batch * sample_of(between_) * compute_size_);
      l.batch_moments = take(problem_.batch * statistics_shape_[1] * 16);
      l.batch_channels = take(statistics_shape_[1] * 16);
    }
    l.moments = take(planes * 16);
    l.channels = take(planes * 16);
    l.line = round_up(line * compute_size_);
    l.lines = take(l.line * workers);
    l.total = at;
    return l;
  }
  Int in_volume() const {
    Int n = 1;
    for (int d = 0; d < problem_.rank; ++d) n *= problem_.input[d];
    return n;
  }
  /// The values between the halves already lie where they end.
  bool in_place() const { return !converts() && halves_[1].size() == 1; }

  // ---- a run ---------------------------------------------------------------------------------------------------

  struct Run {
    const ChainArgs& args;
    Executor& executor;
    char* workspace;
    Layout_ at;
    Operand prologue[max_operands], epilogue[max_operands];
    std::vector<std::array<Operand, max_operands>> after[2];
    const void *batch_weight = nullptr, *batch_bias = nullptr;

    double* doubles(Int offset) const { return reinterpret_cast<double*>(workspace + offset); }
  };

  Status resolve_all(const ChainArgs& args, Run& r) const {
    const Geometry g = make_geometry(problem_);
    const Shape5 x{g.batch, g.in_channels(), g.in[0], g.in[1], g.in[2]};
    if (Status s = resolve(chain_.prologue, x, args, r.prologue); !s.ok()) return s;
    if (Status s = resolve(chain_.epilogue, first_, args, r.epilogue); !s.ok()) return s;
    for (int h = 0; h < 2; ++h) {
      r.after[h].resize(halves_[h].size());
      for (std::size_t i = 0; i < halves_[h].size(); ++i)
        if (Status s = resolve(halves_[h][i].step.after, halves_[h][i].out, args, r.after[h][i].data()); !s.ok())
          return s;
    }
    if (!normalises()) return {};
    const Int channels = statistics_shape_[1];
    if (Status s = resolve_vector(norm_->weight, channels, "batch norm weight", args, &r.batch_weight); !s.ok())
      return s;
    return resolve_vector(norm_->bias, channels, "batch norm bias", args, &r.batch_bias);
  }

  Status first_half(const Run& r, Int n, Int count) const {
    const char* x = static_cast<const char*>(r.args.x) + n * problem_.in_channels * in_volume() * storage_size_;
    if (!chain_.prologue.empty()) x = apply_prologue(r, x, n, count);
    const bool direct = halves_[0].empty() && !normalises();
    char* values = r.workspace + r.at.values[0];
    char* result = static_cast<char*>(r.args.y) + n * sample_of(result_) * storage_size_;
    char* between = static_cast<char*>(normalises() && in_place() ? r.args.y : r.workspace + r.at.between) +
                    n * sample_of(between_) * compute_size_;
    // Where the convolution writes: y itself, the values between the halves, or a slab.
    char* y = values;
    if (direct)
      y = result;
    else if (converts())
      y = r.workspace + r.at.storage;
    else if (halves_[0].empty())
      y = between;
    if (Status s = convolve(r, x, y, n, count); !s.ok()) return s;
    if (direct) return {};
    if (converts()) {
      char* to = halves_[0].empty() ? between : values;
      share(r, count * first_[1], count * sample_of(first_), [&](Int i, Int end, int) {
        const Int v = volume_of(first_);
        kernels_->widen(y + i * v * storage_size_, to + i * v * compute_size_, (end - i) * v);
      });
      y = to;
    }
    return stages(r, 0, y, normalises() ? between : nullptr, result, n, count);
  }

  Status second_half(const Run& r, Int n, Int count) const {
    char* between = static_cast<char*>(in_place() ? r.args.y : r.workspace + r.at.between) +
                    n * sample_of(between_) * compute_size_;
    return stages(r, 1, between, nullptr, static_cast<char*>(r.args.y) + n * sample_of(result_) * storage_size_, n,
                  count);
  }

  Status convolve(const Run& r, const char* x, char* y, Int n, Int count) const {
    const Plan& plan = *plans_[count == plans_[0]->problem().batch ? 0 : 1];
    Operand operands[max_operands];
    for (int k = 0; k < chain_.epilogue.operands(); ++k) {
      operands[k] = r.epilogue[k];
      operands[k].data = static_cast<const char*>(operands[k].data) + n * operands[k].stride[0] * storage_size_;
    }
    return plan.forward({.x = x, .w = r.args.w, .b = r.args.b, .y = y, .operands = operands},
                        {r.workspace + r.at.inner, static_cast<std::size_t>(r.at.inner_bytes), &r.executor, nullptr});
  }

  const char* apply_prologue(const Run& r, const char* x, Int n, Int count) const {
    char* to = r.workspace + r.at.x;
    const Geometry g = make_geometry(problem_);
    const Int channels = g.in_channels(), volume = in_volume();
    const bool last = problem_.x_layout == Layout::channels_last;
    const bool spatial = varies_in_space(chain_.prologue, r.prologue);
    // A row: all channels of a position, or a plane (a line of it, where an operand differs in space).
    const Int length = last ? channels : spatial ? g.in[2] : volume;
    share(r, count * channels * volume / length, count * channels * volume, [&](Int i, Int end, int) {
      for (; i < end; ++i) {
        RowPlace place;
        const Int lines = volume / g.in[2];
        Int at = i;
        if (last) {
          place.along_channels = true;
          place.n = n + i / volume, at = i % volume;
          place.w = at % g.in[2], at /= g.in[2];
        } else if (spatial) {
          place.n = n + i / lines / channels, place.c = i / lines % channels, at = i % lines;
        } else {
          place.n = n + i / channels, place.c = i % channels, at = 0;
        }
        place.h = at % g.in[1], place.d = at / g.in[1];
        kernels_->rows(prologue_, r.prologue, place, x + i * length * storage_size_, to + i * length * storage_size_,
                       length);
      }
    });
    return to;
  }

  template <class F>
  static void share(const Run& r, Int units, Int elements, F&& body) {
    share_out(r.executor, units, double(elements) * 4.0, std::forward<F>(body));
  }

  /// All stages of a half on `count` samples. `from` holds their values; the last stage writes to `between` (or leaves
  /// them there), or to the result.
  Status stages(const Run& r, int half, char* from, char* between, char* result, Int n, Int count) const {
    const std::vector<Stage>& list = halves_[half];
    char* slabs[2] = {r.workspace + r.at.values[0], r.workspace + r.at.values[1]};
    for (std::size_t i = 0; i <= list.size(); ++i) {
      if (half == 0 && normalises() && i == statistics_at_) measure(r, from, n, count);
      if (i == list.size()) break;
      const Stage& s = list[i];
      // A window reads what its neighbours write.
      const bool last = i + 1 == list.size(), same = s.in == s.out && s.step.kind != Kind::pool;
      char* other = from == slabs[0] ? slabs[1] : slabs[0];
      char* to = same ? from : other;
      if (last && between) to = between;
      if (last && !between) to = converts() ? (same ? from : other) : result;
      ClosingProgram program;
      program.steps = s.after;
      program.operands = r.after[half][i].data();
      program.spatial = varies_in_space(s.step.after, program.operands);
      program.n0 = n;
      program.channels = s.out[1], program.volume = volume_of(s.out), program.h = s.out[3], program.w = s.out[4];
      if (Status status = stage(r, s, program, from, to, count); !status.ok()) return status;
      from = to;
      if (last && !between && converts())
        share(r, count, count * sample_of(result_), [&](Int k, Int end, int) {
          const Int size = sample_of(result_);
          kernels_->narrow(from + k * size * compute_size_, result + k * size * storage_size_, (end - k) * size);
        });
    }
    return {};
  }

  Status stage(const Run& r, const Stage& s, const ClosingProgram& p, const char* from, char* to, Int count) const {
    const Int elements = count * sample_of(s.in);
    switch (s.step.kind) {
      case Kind::reduce:
      case Kind::softmax: {
        const ClosingRange range{product(s.in, s.step.first, s.step.last), product(s.in, s.step.last + 1, 4),
                                 static_cast<int>(s.step.reduction)};
        const Int outer = count * product(s.in, 1, s.step.first - 1);
        const Int blocks = (range.inner + closing_block - 1) / closing_block;
        const bool reduces = s.step.kind == Kind::reduce;
        share(r, outer * blocks, elements * 4, [&](Int i, Int end, int) {
          for (; i < end; ++i) {
            const Int first = i % blocks * closing_block, block = std::min(closing_block, range.inner - first);
            if (reduces)
              kernels_->reduce(range, from, to, i / blocks, first, block);
            else
              kernels_->softmax(p, range, from, to, i / blocks, first, block);
          }
        });
        if (reduces && p.steps.count > 0) pointwise(r, p, to, to, count);
        return {};
      }
      case Kind::pool: {
        ClosingPool pool;
        for (int d = 0; d < 3; ++d) {
          pool.in[d] = s.in[d + 2], pool.out[d] = s.out[d + 2];
          pool.kernel[d] = s.step.kernel[d], pool.stride[d] = s.step.stride[d], pool.padding[d] = s.step.padding[d];
        }
        pool.average = s.step.average, pool.count_include_pad = s.step.count_include_pad;
        const Int in = volume_of(s.in), out = volume_of(s.out), rows = pool.out[0] * pool.out[1];
        share(r, count * s.in[1] * rows, elements, [&](Int i, Int end, int worker) {
          while (i < end) {
            const Int plane = i / rows, first = i % rows, stop = std::min(rows, first + end - i);
            kernels_->pool(p, pool, from + plane * in * compute_size_, to, plane * out, first, stop,
                           r.workspace + r.at.lines + worker * r.at.line);
            i += stop - first;
          }
        });
        return {};
      }
      case Kind::plane_norm:
        return plane_norm(r, s, p, from, to, count);
      case Kind::row_norm: {
        const Int length = product(s.in, 5 - s.step.dims, 4);
        const void *weight, *bias;
        if (Status t = resolve_vector(s.step.weight, length, "layer norm weight", r.args, &weight); !t.ok()) return t;
        if (Status t = resolve_vector(s.step.bias, length, "layer norm bias", r.args, &bias); !t.ok()) return t;
        share(r, elements / length, elements * 2, [&](Int i, Int end, int) {
          for (; i < end; ++i) kernels_->row_norm(p, from, to, i * length, length, weight, bias, s.step.eps);
        });
        return {};
      }
      case Kind::batch_norm: {
        const Int volume = volume_of(s.in), channels = s.in[1];
        const double* scale = r.doubles(r.at.batch_channels);
        share(r, count * channels, elements, [&](Int i, Int end, int) {
          for (; i < end; ++i) {
            const Int c = i % channels;
            kernels_->affine(p, from, to, i * volume, volume, scale[2 * c], scale[2 * c + 1]);
          }
        });
        return {};
      }
    }
    return {};
  }

  /// Element-wise steps alone: along channels where a channel has one value.
  void pointwise(const Run& r, const ClosingProgram& p, const char* from, char* to, Int count) const {
    if (p.volume == 1) {
      share(r, count, count * p.channels, [&](Int i, Int end, int) {
        for (; i < end; ++i) kernels_->channels(p, from, to, i);
      });
      return;
    }
    share(r, count * p.channels, count * p.channels * p.volume, [&](Int i, Int end, int) {
      for (; i < end; ++i) kernels_->affine(p, from, to, i * p.volume, p.volume, 1.0, 0.0);
    });
  }

  double read_vector(const void* data, Int i) const {
    if (!data) return 0.0;
    double wide = 0.0;
    float narrow = 0.0f;
    const char* at = static_cast<const char*>(data) + i * storage_size_;
    if (compute_size_ == 8) {
      std::memcpy(&wide, at, 8);
      return wide;
    }
    kernels_->widen(at, &narrow, 1);
    return narrow;
  }

  Status plane_norm(const Run& r, const Stage& s, const ClosingProgram& p, const char* from, char* to,
                    Int count) const {
    const Int volume = volume_of(s.in), channels = s.in[1], planes = count * channels, per = channels / s.step.groups;
    const void *weight, *bias;
    if (Status t = resolve_vector(s.step.weight, channels, "group norm weight", r.args, &weight); !t.ok()) return t;
    if (Status t = resolve_vector(s.step.bias, channels, "group norm bias", r.args, &bias); !t.ok()) return t;
    double *moments = r.doubles(r.at.moments), *scale = r.doubles(r.at.channels);
    share(r, planes, planes * volume, [&](Int i, Int end, int) {
      for (; i < end; ++i)
        kernels_->moments(from + i * volume * compute_size_, volume, &moments[2 * i], &moments[2 * i + 1]);
    });
    for (Int g = 0; g < planes; g += per) {
      double mean = 0.0, squares = 0.0;
      merge(moments + 2 * g, per, 1, volume, mean, squares);
      const double inverse = s.step.center_only ? 1.0 : 1.0 / std::sqrt(squares / double(per * volume) + s.step.eps);
      for (Int i = g; i < g + per; ++i) {
        const double gamma = weight ? read_vector(weight, i % channels) : 1.0, beta = read_vector(bias, i % channels);
        scale[2 * i] = inverse * gamma;
        scale[2 * i + 1] = beta - mean * inverse * gamma;
      }
    }
    share(r, planes, planes * volume, [&](Int i, Int end, int) {
      for (; i < end; ++i) kernels_->affine(p, from, to, i * volume, volume, scale[2 * i], scale[2 * i + 1]);
    });
    return {};
  }

  /// Moments of `count` planes of `volume` values, `step` planes apart, as those of one set.
  static void merge(const double* moments, Int count, Int step, Int volume, double& mean, double& squares) {
    mean = squares = 0.0;
    for (Int i = 0; i < count; ++i) mean += moments[2 * i * step];
    mean /= double(count);
    for (Int i = 0; i < count; ++i) {
      const double difference = moments[2 * i * step] - mean;
      squares += moments[2 * i * step + 1] + difference * difference * double(volume);
    }
  }

  /// Moments of the planes that the batch norm sees.
  void measure(const Run& r, const char* from, Int n, Int count) const {
    const Int volume = volume_of(statistics_shape_), channels = statistics_shape_[1];
    double* moments = r.doubles(r.at.batch_moments) + 2 * n * channels;
    share(r, count * channels, count * channels * volume, [&](Int i, Int end, int) {
      for (; i < end; ++i)
        kernels_->moments(from + i * volume * compute_size_, volume, &moments[2 * i], &moments[2 * i + 1]);
    });
  }

  /// Scale and shift of every channel from the moments of all its planes.
  void combine(const Run& r) const {
    const Int volume = volume_of(statistics_shape_), channels = statistics_shape_[1], batch = problem_.batch;
    double* scale = r.doubles(r.at.batch_channels);
    for (Int c = 0; c < channels; ++c) {
      double mean, squares;
      merge(r.doubles(r.at.batch_moments) + 2 * c, batch, channels, volume, mean, squares);
      const double variance = squares / double(batch * volume), inverse = 1.0 / std::sqrt(variance + norm_->eps);
      const double gamma = r.batch_weight ? read_vector(r.batch_weight, c) : 1.0;
      scale[2 * c] = inverse * gamma;
      scale[2 * c + 1] = read_vector(r.batch_bias, c) - mean * inverse * gamma;
      if (r.args.statistics) r.args.statistics[c] = mean, r.args.statistics[channels + c] = variance;
    }
  }

  Problem problem_;
  Chain chain_;
  Shape5 result_, first_, statistics_shape_{}, between_{};
  std::size_t statistics_at_ = 0;
  Int compute_size_, storage_size_, slab_ = 1;
  EpilogueSteps prologue_;
  std::vector<Stage> halves_[2];
  const ClosingStep* norm_ = nullptr;
  const ClosingKernels* kernels_;
  std::shared_ptr<const Plan> plans_[2];
};

}  // namespace

Result<std::shared_ptr<const ChainPlan>> make_cpu_chain(const Problem& problem, const Chain& chain,
                                                        const std::vector<Shape5>& shapes) {
  auto plan = std::make_shared<CpuChain>(problem, chain, shapes);
  if (Status s = plan->make_plans(); !s.ok()) return s;
  return std::shared_ptr<const ChainPlan>(std::move(plan));
}

}  // namespace upconv
