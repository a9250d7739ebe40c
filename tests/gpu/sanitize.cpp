// What compute-sanitizer watches: small problems through every candidate and pass, with memory from the driver itself,
// one allocation a tensor, so that a byte beyond any of them is seen. Compares with the CPU engine, loosely.
// tests/gpu/run.py builds it with the library and runs it under each tool: upconv_sanitize [part] [parts].
#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../ops/number.hpp"
#include "cuda/candidates.hpp"
#include "plan/choose.hpp"
#include "plan/way.hpp"
#include "upconv/chain.hpp"
#include "upconv/plan.hpp"

namespace {

using namespace upconv;

/// Tails in every dimension, all windows, groups, layouts, dtypes and precisions that select different code.
constexpr const char* lines[] = {
    "2d n1 c16 o16 i5x19 k3 f32",
    "2d n1 c32 o24 i4x33 k3 p1 b tf32",
    "1d n2 c64 o64 i70 k16 s8 p4 tf32",
    "2d n2 c64 o64 i4x4 k4 s2 p1 bf16",
    "2d n1 c64 o64 i3x66 k3 bf16x3",
    "2d n1 c24 o40 i5x17 k3 s2 p1 op1 tf32",
    "2d n2 c16 o16 i4x35 k4 s2 p1 b bf16x3",
    "2d n1 c32 o16 i6x9 k4 s2 p1 bf16 xl yl",
    "2d n1 c32 o32 i7x11 k3 f16 xl yl",
    "2d n3 c72 o40 i9x10 k3 s2 p1 b bf16 xl wl yl",
    "2d n1 c40 o136 i13x12 k3 p1 tf32 xl yl",
    "2d n2 c128 o128 i4x5 k3x2 s2x3 g2 f16 xl wl yl",
    "2d n1 c48 o32 i3x31 k3x5 s2x3 p1x2 d2x1 tf32",
    "2d n1 c32 o64 i3x21 k3 s5 p1 d2 f32",
    "2d n2 c32 o64 i4x18 k3x5 s2x3 p1x2 d2x1 g4 f32",
    "2d n1 c24 o24 i9x33 k4 s2 p1 g24 f32",
    "2d n1 c24 o24 i9x33 k3 p1 g24 b bf16",
    "2d n1 c24 o24 i5x8 k4 s2 p1 g24 f16 xl yl",
    "2d n1 c16 o8 i5x30 k2 s2 b f32",
    "2d n1 c32 o16 i5x17 k2 s2 bf16",
    "2d n1 c16 o8 i5x16 k4 s4 b tf32 xl yl",
    "2d n1 c8 o3 i9x17 k7 p3 tf32",
    "2d n1 c3 o16 i9x17 k3 s2 f32",
    "2d n1 c128 o96 i3x9 k3 tf32",
    "2d n1 c96 o130 i2x9 k4 s2 p1 f16",
    "2d n1 c1 o1 i7x70 k5 s3 p2 f32",
    "2d n1 c9 o7 i3x5 k3 s2 xl wl yl f32",
    "2d n1 c4 o4 i4x4 k3 s2 p1 f64",
    "1d n2 c32 o64 i130 k5 d3 tf32",
    "1d n1 c64 o32 i33 k16 s8 p4 b bf16",
    "1d n1 c24 o12 i70 k20 s10 p5 f32",
    "1d n2 c6 o1 i40 k64 s16 f32",
    "1d n2 c24 o1 i20 k32 s8 p8 tf32",
    "1d n1 c2 o2 i3 k130 s65 p32 f32",
    "1d n3 c16 o16 i65 k3 p1 f16",
    "1d n1 c5 o9 i19 k3 s5 p2 op4 d2 b bf16x3",
    "3d n1 c32 o32 i2x4x17 k3 s2 p1 tf32",
    "3d n1 c32 o16 i2x5x9 k3 bf16x3",
    "3d n1 c16 o16 i2x3x9 k3x5x7 s2 p1x2x3 op1 g4 f32",
    "3d n1 c8 o8 i2x3x5 k2 s2 f16 xl yl",
    "3d n1 c16 o32 i2x4x6 k3 s2 p1 d2 bf16",
    "3d n1 c32 o64 i3x3x3 k3x5x5 f16",
    "2d n65 c8 o8 i2x2 k2 tf32",
    "3d n1 c16 o16 i2x4x64 k2x3x5 tf32",
};

/// Tiles that are not the first of their kernel anywhere in `lines`: dw with the taps of H as columns, and with lines
/// of dy that begin and end within 16 bytes.
constexpr struct {
  const char* line;
  Pass pass;
  const char* way;
} tiles[] = {
    {"2d n2 c32 o16 i9x64 k3 tf32", Pass::backward_weight, "cuda_weight_wgmma:7"},
    {"3d n1 c16 o16 i2x5x64 k2x3x2 p1 g2 f16", Pass::backward_weight, "cuda_weight_wgmma:7"},
    {"3d n2 c32 o20 i5x4x64 k3 s2 p1 tf32", Pass::backward_weight, "cuda_weight_wgmma"},
    {"3d n1 c32 o20 i3x4x64 k3 s2 p1 bf16", Pass::backward_weight, "cuda_weight_wgmma"},
};

/// A relu behind the layer and one closing step with a bias after it: kernels of closing/.
struct Closing {
  const char* line;
  ClosingStep::Kind kind;
  std::int64_t groups = 1;
  ClosingStep::Reduction reduction = ClosingStep::Reduction::maximum;
};
using Kind = ClosingStep::Kind;
constexpr Closing closings[] = {
    // Norms in one pass: of one block, of clusters of 2, 8 and 16, more sets than blocks or clusters, sets that begin
    // anywhere.
    {"2d n2 c16 o16 i9x13 k3 f32", Kind::plane_norm, 4},
    {"2d n1 c16 o16 i30x31 k3 f32", Kind::plane_norm, 2},
    {"2d n1 c8 o8 i60x61 k3 b f32", Kind::plane_norm, 1},
    {"2d n1 c16 o16 i64x66 k3 f32", Kind::plane_norm, 1},
    {"2d n40 c8 o8 i10x12 k3 f32", Kind::plane_norm, 4},
    {"1d n3 c8 o9 i333 k3 bf16", Kind::plane_norm, 3},
    {"2d n45 c4 o4 i54x56 k3 f32", Kind::plane_norm, 2},
    {"2d n2 c8 o8 i9x13 k3 f64", Kind::plane_norm, 2},
    {"2d n2 c8 o8 i9x13 k3 f32", Kind::batch_norm},
    {"2d n2 c8 o8 i9x13 k3 f32", Kind::row_norm},
    {"2d n2 c8 o24 i9x13 k3 f32", Kind::softmax},
    {"2d n2 c8 o24 i9x13 k3 f16", Kind::reduce, 1, ClosingStep::Reduction::logsumexp},
    {"2d n2 c8 o8 i9x13 k3 f32", Kind::pool},
};

using Pointer = unsigned long long;
struct Gpu {
  int (*cuCtxSetCurrent)(void*);
  int (*cuDevicePrimaryCtxRetain)(void**, int);
  int (*cuInit)(unsigned);
  int (*cuMemAlloc)(Pointer*, std::size_t);
  int (*cuMemFree)(Pointer);
  int (*cuMemcpyHtoD)(Pointer, const void*, std::size_t);
  int (*cuMemcpyDtoH)(void*, Pointer, std::size_t);
  int (*cuCtxSynchronize)();
};

[[noreturn]] void stop(const std::string& what) {
  std::fprintf(stderr, "upconv_sanitize: %s\n", what.c_str());
  std::exit(2);
}

Gpu gpu() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) stop("no CUDA driver");
  Gpu g;
  const auto find = [&](const char* name, auto& f) {
    f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name));
    if (!f) stop(std::string("the driver has no ") + name);
  };
  find("cuInit", g.cuInit);
  find("cuDevicePrimaryCtxRetain", g.cuDevicePrimaryCtxRetain);
  find("cuCtxSetCurrent", g.cuCtxSetCurrent);
  find("cuMemAlloc_v2", g.cuMemAlloc);
  find("cuMemFree_v2", g.cuMemFree);
  find("cuMemcpyHtoD_v2", g.cuMemcpyHtoD);
  find("cuMemcpyDtoH_v2", g.cuMemcpyDtoH);
  find("cuCtxSynchronize", g.cuCtxSynchronize);
  void* context = nullptr;
  if (g.cuInit(0) || g.cuDevicePrimaryCtxRetain(&context, 0) || g.cuCtxSetCurrent(context)) stop("no CUDA device");
  return g;
}

/// Small integers in the problem's dtype: exact in every precision, so the CPU engine's result is the result.
std::vector<unsigned char> numbers(std::int64_t count, DType dtype, unsigned seed) {
  std::vector<unsigned char> bytes(static_cast<std::size_t>(count * size_of(dtype)));
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const int v = static_cast<int>((seed >> 24) % 5) - 2;
    unsigned char* at = bytes.data() + i * size_of(dtype);
    const float f = static_cast<float>(v);
    std::uint32_t bits;
    std::memcpy(&bits, &f, 4);
    switch (dtype) {
      case DType::f64: {
        const double d = v;
        std::memcpy(at, &d, 8);
        break;
      }
      case DType::f32:
        std::memcpy(at, &f, 4);
        break;
      case DType::bf16: {
        const auto h = static_cast<std::uint16_t>(bits >> 16);
        std::memcpy(at, &h, 2);
        break;
      }
      case DType::f16: {
        constexpr std::uint16_t table[] = {0xc000, 0xbc00, 0x0000, 0x3c00, 0x4000};  // -2 to 2
        std::memcpy(at, &table[v + 2], 2);
        break;
      }
    }
  }
  return bytes;
}

struct Tensor {
  std::vector<unsigned char> host;
  Pointer device = 0;
};

struct Trial {
  Gpu& g;
  Problem p;
  Tensor x, w, b, dy;
  std::int64_t counts[4];  ///< Elements of y, dx, dw, db.

  Tensor make(std::int64_t count, unsigned seed) {
    Tensor t{numbers(count, p.dtype, seed), 0};
    if (g.cuMemAlloc(&t.device, t.host.size()) || g.cuMemcpyHtoD(t.device, t.host.data(), t.host.size()))
      stop("cannot allocate");
    return t;
  }

  Trial(Gpu& gpu, const Problem& problem) : g(gpu), p(problem) {
    std::int64_t in = p.batch * p.in_channels, taps = p.in_channels * (p.out_channels / p.groups);
    std::int64_t out = p.batch * p.out_channels;
    const Extent o = output_size(p);
    for (int d = 0; d < p.rank; ++d) in *= p.input[d], taps *= p.kernel[d], out *= o[d];
    x = make(in, 1), w = make(taps, 2), b = make(p.out_channels, 3), dy = make(out, 4);
    counts[0] = out, counts[1] = in, counts[2] = taps, counts[3] = p.out_channels;
  }
  ~Trial() {
    for (Tensor* t : {&x, &w, &b, &dy}) g.cuMemFree(t->device);
  }

  Status run(const Plan& plan, Pass pass, bool device, void* result, const Launch& launch) {
    const auto at = [device](const Tensor& t) {
      return device ? reinterpret_cast<const void*>(t.device) : static_cast<const void*>(t.host.data());
    };
    switch (pass) {
      case Pass::forward:
        return plan.forward({at(x), at(w), p.bias ? at(b) : nullptr, result}, launch);
      case Pass::backward_input:
        return plan.backward_input({at(dy), at(w), result}, launch);
      case Pass::backward_weight:
        return plan.backward_weight({at(x), at(dy), result}, launch);
      case Pass::backward_bias:
        return plan.backward_bias({at(dy), result}, launch);
    }
    return {};
  }

  std::vector<unsigned char> on_cpu(Pass pass) {
    const auto plan = Plan::create(p);
    if (!plan.ok()) stop(plan.status().message());
    std::vector<unsigned char> result(static_cast<std::size_t>(counts[index_of(pass)] * size_of(p.dtype)));
    const std::size_t bytes = (*plan)->workspace_bytes(pass, 1);
    void* workspace = std::aligned_alloc(64, (bytes + 127) / 64 * 64);
    const Status s = run(**plan, pass, false, result.data(), {.workspace = workspace, .workspace_bytes = bytes});
    std::free(workspace);
    if (!s.ok()) stop(s.message());
    return result;
  }

  /// Runs one candidate; 0 when it declines, 1 when right, -1 when wrong.
  int on_gpu(Pass pass, const std::string& only, const std::vector<unsigned char>& wanted) {
    const auto plan = Plan::create(p, Device::cuda(0), {}, only);
    if (!plan.ok()) return 0;
    if (!only.starts_with((*plan)->candidate(pass)) || (*plan)->candidate(pass).empty()) return 0;
    const std::size_t bytes = (*plan)->workspace_bytes(pass, 1);
    Pointer result = 0, workspace = 0;
    if (g.cuMemAlloc(&result, wanted.size()) || (bytes && g.cuMemAlloc(&workspace, bytes))) stop("cannot allocate");
    const Status s = run(**plan, pass, true, reinterpret_cast<void*>(result),
                         {.workspace = reinterpret_cast<void*>(workspace), .workspace_bytes = bytes});
    if (!s.ok()) stop(to_string(p) + " by " + only + ": " + s.message());
    if (g.cuCtxSynchronize()) stop(to_string(p) + " by " + only + ": the kernel failed");
    std::vector<unsigned char> got(wanted.size());
    if (g.cuMemcpyDtoH(got.data(), result, got.size())) stop("cannot copy back");
    g.cuMemFree(result);
    if (workspace) g.cuMemFree(workspace);
    return same(got, wanted) ? 1 : -1;
  }

  /// Equal as numbers: 0 and -0 are the same.
  bool same(const std::vector<unsigned char>& a, const std::vector<unsigned char>& b) const {
    const auto n = static_cast<std::size_t>(size_of(p.dtype));
    for (std::size_t i = 0; i < a.size(); i += n) {
      if (std::memcmp(&a[i], &b[i], n) == 0) continue;
      for (const auto* v : {&a[i], &b[i]})
        for (std::size_t k = 0; k < n; ++k)
          if ((v[k] & (k + 1 == n ? 0x7f : 0xff)) != 0) return false;
    }
    return true;
  }
};

/// A chain on the GPU beside the CPU engine; 1 when close, -1 when not.
int try_chain(Gpu& g, const Problem& p, const Closing& wanted) {
  ClosingStep step;
  step.kind = wanted.kind, step.groups = wanted.groups, step.reduction = wanted.reduction;
  step.kernel = step.stride = {1, 2, 2};
  step.after.steps.push_back({.activation = Activation::tanh});
  Chain chain;
  chain.epilogue.steps.push_back({});  // relu
  chain.closing.push_back(step);
  Trial t(g, p);
  const auto run = [&](Device device) {
    const bool on_gpu = device.kind == Device::Kind::cuda;
    const auto plan = ChainPlan::create(p, device, chain);
    if (!plan.ok()) stop(plan.status().message());
    std::int64_t count = 1;
    for (std::int64_t n : (*plan)->result_shape()) count *= n;
    std::vector<unsigned char> y(static_cast<std::size_t>(count * size_of(p.dtype)));
    const std::size_t bytes = (*plan)->workspace_bytes(1);
    Pointer result = 0, workspace = 0;
    if (on_gpu && (g.cuMemAlloc(&result, y.size()) || (bytes && g.cuMemAlloc(&workspace, bytes))))
      stop("cannot allocate");
    void* room = on_gpu ? reinterpret_cast<void*>(workspace) : std::aligned_alloc(64, (bytes + 127) / 64 * 64);
    const auto at = [&](const Tensor& v) {
      return on_gpu ? reinterpret_cast<const void*>(v.device) : static_cast<const void*>(v.host.data());
    };
    const ChainArgs args{.x = at(t.x),
                         .w = at(t.w),
                         .b = p.bias ? at(t.b) : nullptr,
                         .y = on_gpu ? reinterpret_cast<void*>(result) : y.data()};
    const Status s = (*plan)->run(args, {.workspace = room, .workspace_bytes = bytes});
    if (!s.ok()) stop(to_string(p) + " in a chain: " + s.message());
    if (!on_gpu) return std::free(room), y;
    if (g.cuCtxSynchronize()) stop(to_string(p) + " in a chain: a kernel failed");
    if (g.cuMemcpyDtoH(y.data(), result, y.size())) stop("cannot copy back");
    g.cuMemFree(result);
    if (workspace) g.cuMemFree(workspace);
    return y;
  };
  const auto got = run(Device::cuda(0)), right = run(Device{});
  const double bound = p.dtype == DType::f32 || p.dtype == DType::f64 ? 1e-4 : 2e-2;
  const std::int64_t count = static_cast<std::int64_t>(right.size()) / size_of(p.dtype);
  for (std::int64_t i = 0; i < count; ++i) {
    const double error = test::load_element(p.dtype, got.data(), i) - test::load_element(p.dtype, right.data(), i);
    if (!(std::abs(error) <= bound)) return -1;
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const int part = argc > 1 ? std::atoi(argv[1]) : 0, parts = argc > 2 ? std::atoi(argv[2]) : 1;
  Gpu g = gpu();
  int ran = 0, wrong = 0, number = 0;
  const auto try_one = [&](Trial& trial, Pass pass, const std::string& name, const std::vector<unsigned char>& wanted) {
    const int result = trial.on_gpu(pass, name, wanted);
    ran += result != 0;
    if (result >= 0) return result;
    ++wrong;
    std::printf("WRONG %s of \"%s\" by %s\n", std::string(to_string(pass)).c_str(), to_string(trial.p).c_str(),
                name.c_str());
    return result;
  };
  for (const char* line : lines) {
    if (number++ % parts != part) continue;
    const auto p = parse_problem(line);
    if (!p.ok()) stop(p.status().message());
    Trial trial(g, *p);
    for (Pass pass : passes) {
      const auto wanted = trial.on_cpu(pass);
      for (const cuda::Candidate& c : cuda::candidates(pass))
        for (const bool residues : {false, true}) {
          try_one(trial, pass, Way{std::string(c.name), residues}.name(), wanted);
        }
    }
  }
  for (const auto& tile : tiles) {
    if (number++ % parts != part) continue;
    const auto p = parse_problem(tile.line);
    if (!p.ok()) stop(p.status().message());
    Trial trial(g, *p);
    if (try_one(trial, tile.pass, tile.way, trial.on_cpu(tile.pass)) == 0)
      stop(std::string(tile.way) + " does not take " + tile.line);
  }
  for (const Closing& closing : closings) {
    if (number++ % parts != part) continue;
    const auto p = parse_problem(closing.line);
    if (!p.ok()) stop(p.status().message());
    ++ran;
    if (try_chain(g, *p, closing) > 0) continue;
    ++wrong;
    std::printf("WRONG a chain of \"%s\"\n", closing.line);
  }
  std::printf("%d runs, %d wrong\n", ran, wrong);
  return wrong ? 1 : 0;
}
