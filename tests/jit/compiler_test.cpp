// NVRTC: where it is looked for, what it is asked for a GPU newer than itself, what names a kernel in the cache, what a
// failed compile says, what the machine code tells of registers and spills.
#include "jit/compiler.hpp"

#include <cstdlib>
#include <fstream>
#include <thread>

#include "jit/cubin.hpp"
#include "jit/environment.hpp"
#include "jit/image.hpp"
#include "jit/notice.hpp"

namespace upconv::jit::testing {
namespace {

const std::vector<int> cuda_12_4 = {50, 52, 60, 61, 70, 75, 80, 86, 87, 89, 90};
const std::vector<int> cuda_13_0 = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

TEST(Architectures, WhatNvrtcIsAskedFor) {
  struct Case {
    const char* wanted;
    const std::vector<int>& supported;
    const char* name;
    bool ptx, exact;
  };
  for (const Case& c :
       {Case{"sm_90a", cuda_13_0, "sm_90a", false, true}, Case{"sm_80", cuda_12_4, "sm_80", false, true},
        Case{"sm_100a", cuda_13_0, "sm_100a", false, true}, Case{"sm_100a", cuda_12_4, "compute_90", true, false},
        Case{"sm_120", cuda_12_4, "compute_90", true, false},
        Case{"sm_89", std::vector<int>{80, 86}, "sm_86", false, false},
        Case{"sm_121", std::vector<int>{90, 100, 120}, "sm_120", false, false},
        Case{"sm_103a", std::vector<int>{90, 100}, "sm_100", false, false}}) {
    const auto aim = aim_for(c.wanted, c.supported);
    ASSERT_TRUE(aim.ok()) << c.wanted;
    EXPECT_EQ(aim->name, c.name) << c.wanted;
    EXPECT_EQ(aim->ptx, c.ptx) << c.wanted;
    EXPECT_EQ(aim->exact, c.exact) << c.wanted;
  }
}

TEST(Architectures, WhatItCannotDo) {
  EXPECT_EQ(aim_for("sm_70", cuda_13_0).status().code(), Code::unavailable);
  for (const char* wrong : {"", "sm_", "90", "sm_90b", "sm_90ab", "compute_90"})
    EXPECT_EQ(aim_for(wrong, cuda_13_0).status().code(), Code::invalid_argument) << wrong;
}

TEST(NvrtcSearch, OrderOfPlaces) {
  setenv("CUDA_HOME", "/opt/cuda", 1);
  const auto places = nvrtc_places(std::vector<std::string>{"/env/site-packages"}, std::vector<int>{12, 13});
  unsetenv("CUDA_HOME");
  const auto at = [&](const std::string& place) {
    const auto it = std::find(places.begin(), places.end(), place);
    EXPECT_NE(it, places.end()) << place;
    return it - places.begin();
  };
  EXPECT_LT(at("/env/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
            at("/env/site-packages/nvidia/cu13/lib/libnvrtc.so.13"));
  EXPECT_LT(at("/env/site-packages/nvidia/cu13/lib/libnvrtc.so.13"), at("/opt/cuda/lib64/libnvrtc.so.12"));
  EXPECT_LT(at("/opt/cuda/lib64/libnvrtc.so.13"), at("libnvrtc.so.12"));
}

TEST(NvrtcSearch, WhatIsNoNvrtc) {
  EXPECT_EQ(load_nvrtc("/nowhere/libnvrtc.so.13").status().code(), Code::unavailable);
  const auto wrong = load_nvrtc("libc.so.6");
  EXPECT_EQ(wrong.status().code(), Code::unavailable);
  EXPECT_NE(wrong.status().message().find("libc.so.6 has no nvrtc"), std::string::npos) << wrong.status().message();
}

TEST(Compiler, MakesMachineCode) {
  UPCONV_NEEDS_NVRTC();
  for (const char* architecture : {"sm_80", "sm_90a", "sm_100a", "sm_120"}) {
    const auto built = build(probe("machine code"), architecture, Cache(""));
    ASSERT_TRUE(built.ok()) << built.status().message();
    EXPECT_TRUE(built->compiled);
    const auto resources = resources_of(built->image.code, "probe");
    ASSERT_TRUE(resources.ok()) << resources.status().message();
    EXPECT_GT(resources->registers, 0);
    EXPECT_LT(resources->registers, 40);
    EXPECT_EQ(resources->local_bytes, 0);
  }
}

TEST(Compiler, MakesPtxForAGpuNewerThanItself) {
  UPCONV_NEEDS_NVRTC();
  const Cache cache(new_folder().string());
  const auto built = build(probe("ptx"), "sm_990", cache);
  ASSERT_TRUE(built.ok()) << built.status().message();
  EXPECT_TRUE(built->image.ptx);
  EXPECT_NE(built->image.code.find(".entry probe"), std::string::npos);
  const auto again = build(probe("ptx"), "sm_990", cache);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->image.ptx);
  EXPECT_EQ(again->image.code, built->image.code);
}

TEST(Compiler, ResourcesTellSharedAndLocalMemory) {
  UPCONV_NEEDS_NVRTC();
  const Program p{"types.cuh", "k", R"(extern "C" __global__ void k(float* p, int n) {
    float a[64];
    __shared__ float s[128];
    for (int i = 0; i < 64; ++i) a[i] = p[i * n];
    s[threadIdx.x] = a[3];
    __syncthreads();
    for (int i = 0; i < 64; ++i) p[i] = a[(i * n) & 63] + s[i];
  })"};
  for (const char* architecture : {"sm_80", "sm_90a", "sm_100a", "sm_120"}) {
    const auto built = build(p, architecture, Cache(""));
    ASSERT_TRUE(built.ok()) << built.status().message();
    const auto r = resources_of(built->image.code, "k");
    ASSERT_TRUE(r.ok()) << r.status().message();
    EXPECT_EQ(r->local_bytes, 256) << architecture;
    EXPECT_EQ(r->static_shared_bytes, 512) << architecture;
  }
  const auto built = build(p, "sm_90a", Cache(""));
  EXPECT_FALSE(resources_of(built->image.code, "another").ok());
  for (std::size_t size = 0; size < built->image.code.size(); size += 97)  // never reads beyond its end
    (void)resources_of(std::string_view(built->image.code).substr(0, size), "k");
  EXPECT_FALSE(resources_of("no ELF", "k").ok());
}

TEST(Compiler, LostPerformanceIsNoted) {
  UPCONV_NEEDS_NVRTC();
  const Cache cache(cache_folder());
  const auto notes = [&](const char* between, const char* wait) {
    const Program p{"types.cuh", "products", std::string(R"(
  extern "C" __global__ void products(float* out, unsigned a, unsigned long long b) {
    float s[4] = {0, 0, 0, 0};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int i = 0; i < 2; ++i) {
      asm volatile("wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, %5, 1, 1, 1;"
        : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]) : "r"(a), "l"(b));
      )") + between + R"(
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    )" + wait + R"(
    out[threadIdx.x] = s[0] + s[3];
  })"};
    const auto built = build(p, "sm_90a", cache);
    EXPECT_TRUE(built.ok()) << built.status().message();
    const auto again = build(p, "sm_90a", cache);
    EXPECT_EQ(built->image.notes, again->image.notes) << "from the disk";
    return built->image.notes;
  };
  const char* wait = "asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");";
  EXPECT_EQ(notes("", wait), "");
  EXPECT_NE(notes("s[1] *= 2;", wait).find("(C75"), std::string::npos) << "sums changed while products are under way";
  EXPECT_NE(notes("", "").find("(C75"), std::string::npos) << "sums read that were not waited for";
}

TEST(Compiler, AFailureSaysEverything) {
  UPCONV_NEEDS_NVRTC();
  Program p = probe("does not compile");
  p.preamble += "this is no C++;\n";
  const auto built = build(p, "sm_90a");
  ASSERT_FALSE(built.ok());
  const std::string& said = built.status().message();
  EXPECT_EQ(built.status().code(), Code::internal);
  for (const char* part : {"entry probe of kernels/types.cuh", "sm_90a", "--std=c++17", "error:", "this is no C++"})
    EXPECT_NE(said.find(part), std::string::npos) << part << " is not in: " << said;
  const auto at = said.find("source: ");
  ASSERT_NE(at, std::string::npos) << said;
  const std::string path = said.substr(at + 8, said.find('\n', at) - at - 8);
  std::ifstream file(path);
  const std::string saved{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(saved.find("this is no C++"), std::string::npos) << path;
  EXPECT_NE(saved.find("struct bf16"), std::string::npos) << "the included sources are in the saved one";
  EXPECT_EQ(saved.find("#include"), std::string::npos) << "so it needs no include path";
}

TEST(Compiler, AFlatSourceIsTheSameProgram) {
  UPCONV_NEEDS_NVRTC();
  const Program p = probe("flat");
  const Program flat{"types.cuh", "probe", flat_source(p)};  // pragma once is gone: a second time would not compile
  EXPECT_FALSE(build(flat, "sm_90a", Cache("")).ok());
  EXPECT_NE(flat_source(p).find("struct bf16"), std::string::npos);
}

TEST(Compiler, WhatNamesAKernel) {
  UPCONV_NEEDS_NVRTC();
  ASSERT_TRUE(nvrtc().ok());
  const Nvrtc& n = **nvrtc();
  const auto key = [&](const Program& p, const char* architecture) {
    return key_of(p, n, *aim_for(architecture, n.architectures));
  };
  const Program p = probe("a");
  EXPECT_EQ(key(p, "sm_90a"), key(probe("a"), "sm_90a"));
  EXPECT_NE(key(p, "sm_90a"), key(probe("b"), "sm_90a")) << "another preamble";
  EXPECT_NE(key(p, "sm_90a"), key(p, "sm_80")) << "another architecture";
  Program entry = p;
  entry.entry = "another";
  EXPECT_NE(key(p, "sm_90a"), key(entry, "sm_90a"));
  Nvrtc newer = n;
  ++newer.minor;
  const Aim aim = *aim_for("sm_90a", n.architectures);
  EXPECT_NE(key_of(p, n, aim), key_of(p, newer, aim)) << "another compiler";
  newer = n;
  newer.path = "/elsewhere/libnvrtc.so.13";
  EXPECT_EQ(key_of(p, n, aim), key_of(p, newer, aim)) << "a path does not matter";
}

TEST(Compiler, DiskComesBeforeCompiling) {
  UPCONV_NEEDS_NVRTC();
  const auto folder = new_folder();
  const Cache cache(folder.string());
  const int before = compiler()->compiles;
  const auto first = build(probe("disk"), "sm_90a", cache);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(first->compiled);
  const auto second = build(probe("disk"), "sm_90a", cache);
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(second->compiled);
  EXPECT_EQ(second->image.code, first->image.code);
  EXPECT_EQ(compiler()->compiles - before, 1);
  ASSERT_EQ(cache.entries().size(), 1u);
  EXPECT_TRUE(cache.entries()[0].about.starts_with("types.cuh probe sm_90a nvrtc-")) << cache.entries()[0].about;
}

TEST(Compiler, WithoutAPlaceToKeepItStillCompiles) {
  UPCONV_NEEDS_NVRTC();
  for (const char* folder : {"", "/proc/upconv"}) {
    const auto built = build(probe("homeless"), "sm_90a", Cache(folder));
    ASSERT_TRUE(built.ok()) << built.status().message();
    EXPECT_TRUE(built->compiled);
  }
}

/// What `act` writes to stderr.
template <class Act>
std::string stderr_of(Act act) {
  ::testing::internal::CaptureStderr();
  act();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Notices, OnlyAfterTheirDelay) {
  using std::chrono::milliseconds;
  const auto nap = [](int ms) { std::this_thread::sleep_for(milliseconds(ms)); };
  EXPECT_EQ(stderr_of([&] {
              const Notice notice("slow", milliseconds(20));
              nap(200);
            }),
            "slow\n");
  EXPECT_EQ(stderr_of([&] { const Notice notice("fast", milliseconds(2000)); }), "");
  EXPECT_EQ(stderr_of([&] {
              const Quiet quiet;
              const Notice notice("someone else shows progress", milliseconds(5));
              nap(100);
            }),
            "");
}

TEST(Notices, SwitchedOff) {
  const auto said = [](const char* value) {
    setenv("UPCONV_QUIET", value, 1);
    const std::string text = stderr_of([] {
      const Notice notice("slow", std::chrono::milliseconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    });
    unsetenv("UPCONV_QUIET");
    return text;
  };
  EXPECT_EQ(said("1"), "");
  EXPECT_EQ(said("0"), "slow\n");
}

TEST(Notices, ASlowCompileIsAnnounced) {
  UPCONV_NEEDS_NVRTC();
  compiler()->delay_ms = 1200;
  const std::string said = stderr_of([] { ASSERT_TRUE(build(probe("slow"), "sm_90a").ok()); });
  compiler()->delay_ms = 0;
  EXPECT_NE(said.find("upconv: compiling types.cuh (probe) for sm_90a"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_EQ(stderr_of([] { ASSERT_TRUE(build(probe("slow"), "sm_90a").ok()); }), "") << "from the disk";
}

}  // namespace
}  // namespace upconv::jit::testing
