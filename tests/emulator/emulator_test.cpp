// The emulator itself: small kernels with and without the mistakes that it is there to show, each under several orders
// of its threads, and its arithmetic against plain definitions.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "emulator/toy.hpp"
#include "emulator/translate.hpp"
#include "ops/guarded.hpp"
#include "ops/number.hpp"
#include "ops/random.hpp"

namespace {

using namespace upconv::test;

/// In how many orders a kernel (int* out, int n) leaves out[i] != i.
int wrong_orders(Toy& toy, unsigned threads, unsigned shared_bytes = 0) {
  int wrong = 0;
  for (unsigned long long seed = 1; seed <= orders; ++seed) {
    std::vector<int> out(threads, -1);
    int* p = out.data();
    EXPECT_EQ(toy.launch(threads, {&p}, shared_bytes, 1, seed), "");
    bool good = true;
    for (unsigned i = 0; i < threads; ++i) good = good && out[i] == static_cast<int>(i);
    wrong += !good;
  }
  return wrong;
}

std::string exchange(const std::string& barrier) {
  return R"(extern "C" __global__ void __launch_bounds__(128) kernel(int* out) {
  extern __shared__ __align__(16) int shared[];
  const int t = threadIdx.x, other = t ^ 1;
  shared[t] = other;
  )" + barrier +
         R"(
  out[t] = shared[other];
})";
}

TEST(Emulator, ABarrierIsEnoughAndNeeded) {
  Toy with(exchange("__syncthreads();")), without(exchange(";"));
  EXPECT_EQ(wrong_orders(with, 128, 512), 0);
  EXPECT_GT(wrong_orders(without, 128, 512), 8);
}

TEST(Emulator, AWarpBarrierIsEnoughAndNeeded) {
  Toy with(exchange("__syncwarp();")),
      without(exchange("asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\");"));
  EXPECT_EQ(wrong_orders(with, 96, 512), 0);
  EXPECT_GT(wrong_orders(without, 96, 512), 8);
}

std::string copied(const std::string& wait) {
  return R"(extern "C" __global__ void kernel(int* out, const int* from) {
  __shared__ __align__(16) int shared[64];
  const int t = threadIdx.x;
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared + t));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from + t), "r"(t == 5 ? 0 : 4) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  )" + wait +
         R"(
  __syncthreads();
  out[t] = shared[t ^ 1];
})";
}

TEST(Emulator, CopiesArriveWhenWaitedFor) {
  std::vector<int> from(64), out(64);
  for (int i = 0; i < 64; ++i) from[static_cast<std::size_t>(i)] = 100 + i;
  const int* f = from.data();
  int* o = out.data();
  const auto wrong = [&](const std::string& wait) {
    Toy toy(copied(wait));
    int count = 0;
    for (unsigned long long seed = 1; seed <= orders; ++seed) {
      EXPECT_EQ(toy.launch(64, {&o, &f}, 0, 1, seed), "");
      for (int i = 0; i < 64; ++i) count += out[static_cast<std::size_t>(i)] != ((i ^ 1) == 5 ? 0 : 100 + (i ^ 1));
    }
    return count;
  };
  EXPECT_EQ(wrong("asm volatile(\"cp.async.wait_group %0;\" ::\"n\"(1) : \"memory\");"), 0);
  EXPECT_EQ(wrong("asm volatile(\"cp.async.wait_all;\" ::: \"memory\");"), 0);
  EXPECT_GT(wrong("asm volatile(\"cp.async.wait_group %0;\" ::\"n\"(2) : \"memory\");"), 100);
}

TEST(Emulator, AccessesOutsideAreSeen) {
  int at = 0;
  Toy shared(R"(extern "C" __global__ void kernel(const int* at) {
  extern __shared__ unsigned memory[];
  memory[*at] = 1;
})");
  const int* p = &at;
  at = 15;
  EXPECT_EQ(shared.launch(32, {&p}, 64), "");
  at = 16;
  EXPECT_NE(shared.launch(32, {&p}, 64).find("outside the 64 bytes of dynamic shared memory"), std::string::npos);
  at = -1;
  EXPECT_NE(shared.launch(32, {&p}, 64).find("wrote before its dynamic shared memory"), std::string::npos);

  Toy by_address(R"(extern "C" __global__ void kernel(const int* at) {
  extern __shared__ unsigned memory[];
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(memory)) + *at;
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(7));
})");
  at = 60;
  EXPECT_EQ(by_address.launch(32, {&p}, 64), "");
  at = 64;
  EXPECT_NE(by_address.launch(32, {&p}, 64).find("outside shared memory"), std::string::npos);
  at = 2;
  EXPECT_NE(by_address.launch(32, {&p}, 64).find("misaligned"), std::string::npos);

  Guarded tensor;
  tensor.reset(64, Flush::back, 0, 4);
  Toy global(R"(extern "C" __global__ void kernel(float* to, int at) { to[at] = 1; })");
  void* to = tensor.data();
  at = 15;
  EXPECT_EQ(global.launch(1, {&to, &at}), "");
  at = 16;
  EXPECT_NE(global.launch(1, {&to, &at}).find("outside every tensor"), std::string::npos);
  EXPECT_NE(global.launch(1, {&to, &at}).find("kernel kernel, block (0, 0, 0) of (1, 1, 1), thread 0 of 1"),
            std::string::npos);

  Toy local(R"(extern "C" __global__ void kernel(int* to, int at) {
  int v[4] = {1, 2, 3, 4};
  to[0] = v[at];
  float4 f = *reinterpret_cast<float4*>(to + to[1]);
  to[2] = int(f.x);
})");
  std::vector<int> memory(32);
  auto aligned = reinterpret_cast<std::uintptr_t>(memory.data());
  while (aligned % 16) aligned += 4;
  int* m = reinterpret_cast<int*>(aligned);
  at = 3;
  EXPECT_EQ(local.launch(1, {&m, &at}), "");
  at = 4;
  EXPECT_NE(local.launch(1, {&m, &at}).find("undefined behaviour"), std::string::npos);
  at = 0, m[1] = 1;
  EXPECT_NE(local.launch(1, {&m, &at}).find("undefined behaviour"), std::string::npos);
}

TEST(Emulator, EarlyKernelsWaitForThePrevious) {
  const auto text =
      [](const char* first, const char* last) {
        return std::string(R"(extern "C" __global__ void kernel(int* out) {
  )") + first + R"(
  if (threadIdx.x < 16) asm volatile("st.global.u32 [%0], %1;" ::"l"(out + threadIdx.x), "r"(1) : "memory");
  )" + last + "\n}";
      };
  const char* wait = "asm volatile(\"griddepcontrol.wait;\" ::: \"memory\");";
  std::vector<int> result(16);
  void* p = result.data();
  const auto launch = [&](const std::string& kernel, bool early) {
    return Toy(kernel).launch(32, {&p}, 0, 1, 1, 0, early);
  };
  EXPECT_EQ(launch(text("", ""), false), "");
  EXPECT_EQ(launch(text(wait, ""), true), "");
  EXPECT_NE(launch(text("", wait), true).find("global memory before griddepcontrol.wait"), std::string::npos);
  EXPECT_NE(launch(text(("if (threadIdx.x < 16) " + std::string(wait)).c_str(), ""), true).find("returned without"),
            std::string::npos);
}

TEST(Emulator, BlocksThatNeverEndAreToldFrom) {
  Toy waits(R"(extern "C" __global__ void kernel() {
  __shared__ unsigned long long barrier;
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(33) : "memory");
  __syncthreads();
  if (threadIdx.x >= 32) asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(at) : "memory");
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:}" ::"r"(at), "r"(0) : "memory");
})");
  EXPECT_NE(waits.launch(64, {}).find("never ends; 64 threads wait for an mbarrier"), std::string::npos);
  EXPECT_EQ(waits.launch(65, {}), "");
  Toy apart(R"(extern "C" __global__ void kernel(int* out) {
  if (threadIdx.x < 16) __syncwarp(); else *out = __shfl_sync(0xffffffffu, 1, 0);
})");
  int result = 0;
  int* p = &result;
  EXPECT_NE(apart.launch(32, {&p}).find("met at different instructions"), std::string::npos);
}

TEST(Emulator, PersistentBlocksHaveTheirOwnMemory) {
  Toy toy(R"(template <class T>
__device__ __forceinline__ T first(T v) {
  __shared__ T kept[2][3];
  if (threadIdx.x == 0) kept[1][2] = v;
  __syncthreads();
  return kept[1][2];
}
extern "C" __global__ void kernel(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = first(int(blockIdx.x)) + int(first(0.5 * blockIdx.x)); })");
  std::vector<int> out(7 * 40, -1);
  int* p = out.data();
  EXPECT_EQ(toy.launch(40, {&p}, 0, 7), "");
  for (int i = 0; i < 280; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], i / 40 + i / 40 / 2);
}

TEST(Emulator, ShufflesAndVotes) {
  Toy toy(R"(extern "C" __global__ void kernel(int* out) {
  const int t = threadIdx.x;
  int v = t;
  v = __shfl_xor_sync(0xffffffffu, v, 3);
  v += 100 * __shfl_down_sync(0xffffffffu, t, 16);
  v += 10000 * __shfl_sync(0xffffffffu, t, 9, 8);
  v += __popc(__ballot_sync(0xffffffffu, t % 3 == 0)) * 1000000;
  out[t] = v + (__syncthreads_or(t == 31) ? 0 : 1);
})");
  std::vector<int> out(32);
  int* p = out.data();
  EXPECT_EQ(toy.launch(32, {&p}), "");
  for (int t = 0; t < 32; ++t)
    EXPECT_EQ(out[static_cast<std::size_t>(t)],
              (t ^ 3) + 100 * (t < 16 ? t + 16 : t) + 10000 * (t / 8 * 8 + 1) + 11 * 1000000);
}

/// A warp's product as the manual lays it out, in each kind of operand; `halves` numbers a word.
TEST(Emulator, MatrixProducts) {
  for (const char* type : {"tf32", "bf16", "f16"}) {
    const bool tf32 = std::string(type) == "tf32";
    const int numbers = tf32 ? 1 : 2, depth = 8 * numbers;
    Toy toy(std::string(R"(extern "C" __global__ void kernel(const unsigned* a, const unsigned* b, float* c) {
  const int t = threadIdx.x, g = t / 4, q = t % 4;
  float d[4] = {1, 2, 3, 4};
  asm volatile("mma.sync.aligned.m16n8k)") +
            (tf32 ? "8" : "16") + ".row.col.f32." + type + "." + type +
            R"(.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[g * 8 + q]), "r"(a[(g + 8) * 8 + q]), "r"(a[g * 8 + q + 4]), "r"(a[(g + 8) * 8 + q + 4]),
        "r"(b[g * 8 + q]), "r"(b[g * 8 + q + 4]));
  c[g * 8 + 2 * q] = d[0] - 1, c[g * 8 + 2 * q + 1] = d[1] - 2;
  c[(g + 8) * 8 + 2 * q] = d[2] - 3, c[(g + 8) * 8 + 2 * q + 1] = d[3] - 4;
})");
    Random random(7);
    std::vector<unsigned> a(16 * 8), b(8 * 8);
    std::vector<double> a_values(static_cast<std::size_t>(16 * depth)), b_values(static_cast<std::size_t>(8 * depth));
    const auto fill = [&](std::vector<unsigned>& words, std::vector<double>& values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = double(random.between(-9, 9));
        const auto f = static_cast<float>(values[i]);
        std::uint32_t bits;
        std::memcpy(&bits, &f, 4);
        if (tf32)
          words[i] = bits | 0x1fffu;  // what TF32 does not see
        else
          words[i / 2] |= (std::string(type) == "bf16" ? bits >> 16 : emu_f16_of(f)) << 16 * (i % 2);
      }
    };
    fill(a, a_values);
    fill(b, b_values);
    std::vector<float> c(128);
    const unsigned *pa = a.data(), *pb = b.data();
    float* pc = c.data();
    ASSERT_EQ(toy.launch(32, {&pa, &pb, &pc}), "") << type;
    for (int i = 0; i < 128; ++i) {
      double sum = 0;
      for (int k = 0; k < depth; ++k)
        sum += a_values[static_cast<std::size_t>(i / 8 * depth + k)] *
               b_values[static_cast<std::size_t>(i % 8 * depth + k)];
      EXPECT_EQ(c[static_cast<std::size_t>(i)], static_cast<float>(sum)) << type << " element " << i;
    }
  }
}

/// 64 x 8 sums of wgmma, read before or after they are waited for.
TEST(Emulator, WarpgroupProductsEndWhenWaitedFor) {
  const auto wrong =
      [](const char* fence, const char* before, const char* after) {
        Toy toy(R"(extern "C" __global__ void kernel(float* out) {
  extern __shared__ __align__(1024) float b[];
  const int t = threadIdx.x;
  if (t < 64) b[t] = t % 4 + 1;  // [half of k][n][k of 4]
  )" + std::string(fence) +
                R"(
  __syncthreads();
  float s[4] = {0, 0, 0, 0};
  const unsigned a = __float_as_uint(float(t / 4));
  const unsigned long long d = (static_cast<unsigned>(__cvta_generic_to_shared(b)) & 0x3ffffu) >> 4 | 128ull >> 4 << 16 | 128ull >> 4 << 32;
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, %9, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, keep, 1, 1;}"
    : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]) : "r"(a), "r"(a), "r"(a), "r"(a), "l"(d), "r"(1));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  )" + before + R"(
  out[t] = s[0] + s[3];
  )" + after + R"(
})");
        int count = 0;
        for (unsigned long long seed = 1; seed <= orders; ++seed) {
          std::vector<float> out(128);
          float* p = out.data();
          EXPECT_EQ(toy.launch(128, {&p}, 256, 1, seed), "");
          // Rows r and r + 8 of a warp hold the same number in all 8 columns: 20 times it in each sum.
          for (int t = 0; t < 128; ++t) count += out[static_cast<std::size_t>(t)] != 40.0f * static_cast<float>(t / 4);
        }
        return count;
      };
  const char* wait = "asm volatile(\"wgmma.wait_group.sync.aligned %0;\" ::\"n\"(0) : \"memory\");";
  const char* fence = "asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\");";
  EXPECT_EQ(wrong(fence, wait, ""), 0);
  EXPECT_GT(wrong(fence, "", wait), 100);
  EXPECT_GT(wrong("", wait, ""), 100) << "what threads wrote and no fence showed";
}

TEST(Emulator, ConversionsRoundToNearestEven) {
  Toy toy(R"(extern "C" __global__ void kernel(const float* from, unsigned* to, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    unsigned tf32, pair;
    unsigned short half, back;
    asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(tf32) : "f"(from[i]));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(from[i]), "f"(0.0f));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(from[i]));
    float widened;
    asm("cvt.f32.f16 %0, %1;" : "=f"(widened) : "h"(half));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(back) : "f"(widened));
    to[3 * i] = tf32, to[3 * i + 1] = pair, to[3 * i + 2] = half | (half == back ? 0u : 1u << 31);
  }
})");
  std::vector<float> from = {
      0.0f,   -0.0f,    1.0f,     65504.0f, 65519.9f,   65520.0f, 1e30f,
      -1e38f, 0x1p-14f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 1e-45f,   std::numeric_limits<float>::infinity(),
      3.4e38f};
  Random random(3);
  while (from.size() < 4000) {
    const auto bits = static_cast<std::uint32_t>(random.bits());
    float v;
    std::memcpy(&v, &bits, 4);
    if (random.one_in(2))
      v = std::ldexp(static_cast<float>(random.between(-8192, 8191)) / 2.0f, int(random.between(-30, 6)));
    if (!std::isnan(v)) from.push_back(v);
  }
  int n = static_cast<int>(from.size());
  std::vector<unsigned> to(from.size() * 3);
  const float* f = from.data();
  unsigned* t = to.data();
  ASSERT_EQ(toy.launch(64, {&f, &t, &n}), "");
  for (std::size_t i = 0; i < from.size(); ++i) {
    const double v = from[i];
    EXPECT_EQ(to[3 * i + 1] >> 16, encode16(v, bfloat_format)) << v;
    EXPECT_EQ(to[3 * i + 2], encode16(v, half_format)) << v;
    float tf32;
    std::memcpy(&tf32, &to[3 * i], 4);
    EXPECT_EQ(to[3 * i] & 0x1fffu, 0u);
    const double step = std::ldexp(1.0, std::max(std::ilogb(v == 0 ? 1e-45 : v), -126) - 10);
    if (std::isfinite(v) && std::isfinite(tf32)) {
      EXPECT_LE(std::fabs(tf32 - v), step / 2) << v;
    }
  }
}

TEST(Translation, WhatIsUnknownIsNamed) {
  Toy toy(
      R"(extern "C" __global__ void kernel() { asm volatile("st.bulk.weak.shared::cta [%0], 64, 0;" :: "r"(0)); })");
  EXPECT_NE(toy.log.find("does not know this PTX: st.bulk.weak"), std::string::npos) << toy.log;
}

TEST(Translation, DoesNotTakeWhatOnlyAGpuGetsWrong) {
  Toy toy(
      R"(extern "C" __global__ void kernel() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); })");
  EXPECT_NE(toy.log.find("does not know this PTX: barrier.cluster.arrive.relaxed"), std::string::npos) << toy.log;
}

TEST(Translation, LeavesCommentsAndStringsAlone) {
  const std::string text =
      "// asm(\"x\") __shared__ int a;\nconst char* s = \"asm(1) __global__\";\nint chasm(int asm_), b;\n";
  EXPECT_EQ(emulator::translate(text, "t.cu"), "#line 1 \"t.cu\"\n" + text);
}

}  // namespace
