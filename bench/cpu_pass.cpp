// Times one pass of one problem on the CPU engine, and checks it against the plain-loop reference on request.
//   upconv_cpu_pass "2d n8 c64 o64 i128x128 k3 g8" [pass] [candidate or -] [workers] [check]
// pass: forward | dx | dw | db | all. Prints minimum milliseconds (of the calling thread's processor time too, which a
// busy machine disturbs less), GFLOP/s and GB/s of compulsory traffic.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "upconv/plan.hpp"

namespace {

using namespace upconv;

/// 64-byte aligned memory, touched before it is timed.
struct Buffer {
  explicit Buffer(std::size_t bytes) : size(bytes), data(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    std::memset(data, 0xff, bytes);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
  std::size_t size;
  void* data;
};

float half_to_float(std::uint16_t h) {
  const int e = (h >> 10) & 31, m = h & 1023;
  const float v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(float(1024 + m), e - 25) : std::ldexp(float(m), -24);
  return h & 0x8000 ? -v : v;
}

double element(const Buffer& b, DType t, std::size_t i) {
  switch (t) {
    case DType::f32: return static_cast<const float*>(b.data)[i];
    case DType::f64: return static_cast<const double*>(b.data)[i];
    case DType::f16: return half_to_float(static_cast<const std::uint16_t*>(b.data)[i]);
    case DType::bf16: {
      const std::uint32_t u = std::uint32_t(static_cast<const std::uint16_t*>(b.data)[i]) << 16;
      float f;
      std::memcpy(&f, &u, 4);
      return f;
    }
  }
  return 0.0;
}

/// Values k/16, |k| <= 16: exact in every dtype.
void fill(Buffer& b, DType t, unsigned seed) {
  std::mt19937 random(seed);
  const std::size_t n = b.size / std::size_t(size_of(t));
  for (std::size_t i = 0; i < n; ++i) {
    const float v = float(int(random() % 33) - 16) / 16.0f;
    std::uint32_t u;
    std::memcpy(&u, &v, 4);
    switch (t) {
      case DType::f32: static_cast<float*>(b.data)[i] = v; break;
      case DType::f64: static_cast<double*>(b.data)[i] = v; break;
      case DType::bf16: static_cast<std::uint16_t*>(b.data)[i] = std::uint16_t(u >> 16); break;
      case DType::f16:
        static_cast<std::uint16_t*>(b.data)[i] =
            v == 0.0f ? 0 : std::uint16_t(((u >> 16) & 0x8000u) | (((u & 0x7fffffffu) - 0x38000000u) >> 13));
    }
  }
}

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

struct Tensors {
  Tensors(const Problem& p, double x_elements, double y_elements, double w_elements)
      : x(std::size_t(x_elements) * size_of(p.dtype)), y(std::size_t(y_elements) * size_of(p.dtype)),
        w(std::size_t(w_elements) * size_of(p.dtype)), b(std::size_t(p.out_channels * size_of(p.dtype))) {}
  Buffer x, y, w, b;
};

Status run(const Plan& plan, Pass pass, const Tensors& in, Tensors& out, const Launch& launch) {
  switch (pass) {
    case Pass::forward:
      return plan.forward({in.x.data, in.w.data, plan.problem().bias ? in.b.data : nullptr, out.y.data}, launch);
    case Pass::backward_input: return plan.backward_input({in.y.data, in.w.data, out.x.data}, launch);
    case Pass::backward_weight: return plan.backward_weight({in.x.data, in.y.data, out.w.data}, launch);
    case Pass::backward_bias: return plan.backward_bias({in.y.data, out.b.data}, launch);
  }
  return {};
}

const Buffer& result(const Tensors& t, Pass pass) {
  switch (pass) {
    case Pass::forward: return t.y;
    case Pass::backward_input: return t.x;
    case Pass::backward_weight: return t.w;
    case Pass::backward_bias: return t.b;
  }
  return t.y;
}

int time_pass(const Problem& p, Pass pass, const std::string& only, int workers, bool check) {
  auto made = Plan::create(p, Device::cpu(), {}, only);
  if (!made.ok()) return std::printf("%s\n", made.status().message().c_str()), 1;
  const Plan& plan = *made.value();
  const Extent o = output_size(p);
  double xs = double(p.batch) * double(p.in_channels), ys = double(p.batch) * double(p.out_channels);
  double ws = double(p.in_channels) * double(p.out_channels / p.groups);
  for (int d = 0; d < p.rank; ++d) xs *= double(p.input[d]), ys *= double(o[d]), ws *= double(p.kernel[d]);
  Tensors in(p, xs, ys, ws), out(p, xs, ys, ws);
  fill(in.x, p.dtype, 1), fill(in.y, p.dtype, 2), fill(in.w, p.dtype, 3), fill(in.b, p.dtype, 4);
  const auto pool = make_thread_pool(workers);
  Buffer workspace(plan.workspace_bytes(pass, workers) + 64);
  const Launch launch{workspace.data, workspace.size, pool.get()};
  double best = 1e30, busy = 1e30, first = 0.0, total = 0.0;
  for (int i = 0; i < 3 || (i < 200 && total < 0.6); ++i) {
    const auto start = std::chrono::steady_clock::now();
    const double thread_start = thread_seconds();
    if (Status s = run(plan, pass, in, out, launch); !s.ok()) return std::printf("%s\n", s.message().c_str()), 1;
    const double t = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i == 0) first = t;
    busy = std::min(busy, thread_seconds() - thread_start);
    best = std::min(best, t), total += t;
  }
  std::printf("%-15s %-15s %9.3f ms (cpu %.3f) %8.2f GFLOP/s %7.2f GB/s  first %.3f ms  workspace %.2f MB", to_string(pass).data(),
              plan.candidate(pass).c_str(), best * 1e3, busy * 1e3, flop(p) / best * 1e-9, min_bytes(p, pass) / best * 1e-9, first * 1e3,
              double(plan.workspace_bytes(pass, workers)) * 1e-6);
  if (check) {
    auto oracle = Plan::create(p, Device::cpu(), {}, "cpu_reference");
    Tensors want(p, xs, ys, ws);
    if (Status s = run(*oracle.value(), pass, in, want, {nullptr, 0, pool.get()}); !s.ok()) return 1;
    const Buffer &a = result(out, pass), &b = result(want, pass);
    double worst = 0.0, scale = 1e-30;
    for (std::size_t i = 0; i < a.size / std::size_t(size_of(p.dtype)); ++i) {
      const double u = element(a, p.dtype, i), v = element(b, p.dtype, i), e = std::fabs(u - v);
      worst = e <= worst ? worst : std::isnan(e) ? INFINITY : e;
      scale = std::max(scale, std::fabs(v));
    }
    std::printf("  error %.2g of %.3g%s", worst, scale, worst > 1e-2 * scale ? "  WRONG" : "");
  }
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::printf("usage: %s \"problem\" [pass] [candidate or -] [workers] [check]\n", argv[0]), 2;
  const auto p = parse_problem(argv[1]);
  if (!p.ok()) return std::printf("%s\n", p.status().message().c_str()), 2;
  const std::string pass = argc > 2 ? argv[2] : "forward";
  std::string only = argc > 3 ? argv[3] : "-";
  if (only == "-") only.clear();
  const int workers = argc > 4 ? std::atoi(argv[4]) : 1;
  const bool check = argc > 5 && std::string(argv[5]) == "check";
  int failed = 0;
  const std::pair<const char*, Pass> passes[] = {{"forward", Pass::forward},
                                                 {"dx", Pass::backward_input},
                                                 {"dw", Pass::backward_weight},
                                                 {"db", Pass::backward_bias}};
  for (const auto& [name, value] : passes)
    if (pass == name || pass == "all") failed |= time_pass(*p, value, only, workers, check);
  return failed;
}
