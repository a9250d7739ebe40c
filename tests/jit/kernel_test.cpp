// Loading and launching, against a fake driver where there is no real one: compiled once however many threads and
// devices ask, arguments as given, errors that say what to do.
#include "jit/kernel.hpp"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <latch>
#include <thread>

#include "jit/driver.hpp"
#include "jit/environment.hpp"

namespace upconv::jit::testing {
namespace {

const LaunchShape one_block{{1, 1, 1}, {32, 1, 1}};

/// Launches on `device` with two arguments that do not matter.
Status launch(const Kernel& kernel, int device, void* stream = nullptr) {
  int* p = nullptr;
  int n = 0;
  void* arguments[] = {&p, &n};
  return kernel.launch(device, stream, one_block, arguments);
}

struct Counts {
  int compiles = compiler()->compiles, loads = fake_driver()->modules_loaded, launches = fake_driver()->launches;
};

TEST(Kernels, CompiledOnceForManyThreads) {
  UPCONV_NEEDS_FAKE_DRIVER();
  constexpr int threads = 16;
  const Kernel shared(probe("many threads"));
  const Counts before;
  std::latch start(threads);
  std::vector<std::thread> all;
  std::atomic<int> failed{0};
  for (int i = 0; i < threads; ++i)
    all.emplace_back([&, i] {
      const Kernel own(probe("many threads"));  // another plan with the same program
      start.arrive_and_wait();
      if (!launch(i % 2 ? shared : own, 0).ok()) ++failed;
    });
  for (std::thread& t : all) t.join();
  const Counts after;
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(after.compiles - before.compiles, 1);
  EXPECT_EQ(after.loads - before.loads, 1);
  EXPECT_EQ(after.launches - before.launches, threads);
}

TEST(Kernels, SeveralDevices) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Kernel kernel(probe("several devices"));
  const Counts before;
  for (const int device : {0, 1, 2, 0, 1, 2}) ASSERT_TRUE(launch(kernel, device).ok()) << device;
  const Counts after;
  EXPECT_EQ(after.compiles - before.compiles, 2) << "once for sm_90a, which devices 0 and 1 are, once for sm_80";
  EXPECT_EQ(after.loads - before.loads, 3) << "once a device";
  ASSERT_TRUE(launch(kernel, 3).ok());
  EXPECT_EQ(fake_driver()->context_of_load, 3) << "loaded under its own context";
  for (const int wrong : {-1, 4, 64, 1000}) EXPECT_FALSE(launch(kernel, wrong).ok()) << wrong;
}

TEST(Kernels, AGpuNewerThanTheCompilerTakesPtx) {
  UPCONV_NEEDS_FAKE_DRIVER();
  fake_driver()->major[3] = 99;
  const Status s = launch(Kernel(probe("newer gpu")), 3);
  fake_driver()->major[3] = 12;
  EXPECT_TRUE(s.ok()) << s.message();
  EXPECT_TRUE(fake_driver()->loaded_ptx);
}

TEST(Kernels, TheCallersContextStaysCurrent) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Driver& d = **driver();
  CuContext mine = reinterpret_cast<CuContext>(2), now = nullptr;  // device 1's
  d.cuCtxPushCurrent(mine);
  ASSERT_TRUE(launch(Kernel(probe("context")), 0).ok());
  d.cuCtxGetCurrent(&now);
  EXPECT_EQ(now, mine);
  d.cuCtxPopCurrent(&now);
}

TEST(Kernels, ArgumentsAndShapeArriveAsGiven) {
  UPCONV_NEEDS_FAKE_DRIVER();
  FakeCuda& fake = *fake_driver();
  const Kernel kernel(probe("arguments"), 100 * 1024);
  double a = 0.1, b = -7;
  const char* c = "pointer";
  void* arguments[] = {&a, &b, &c};
  fake.argument_bytes = 8;
  fake.argument_count = 3;
  void* stream = &a;
  const LaunchShape shape{{3, 4, 5}, {64, 2, 1}, 100 * 1024, {2, 1, 1}};
  ASSERT_TRUE(kernel.launch(1, stream, shape, arguments).ok());
  EXPECT_EQ(fake.grid_block_shared, (std::array<unsigned, 7>{3, 4, 5, 64, 2, 1, 100 * 1024}));
  EXPECT_EQ(fake.cluster, (std::array<unsigned, 3>{2, 1, 1}));
  EXPECT_EQ(fake.stream, stream);
  EXPECT_EQ(fake.device, 1);
  EXPECT_EQ(fake.shared_limit, 100 * 1024) << "allowed before the launch";
  EXPECT_EQ(std::memcmp(fake.arguments[0].data(), &a, 8), 0);
  EXPECT_EQ(std::memcmp(fake.arguments[1].data(), &b, 8), 0);
  EXPECT_EQ(std::memcmp(fake.arguments[2].data(), &c, 8), 0);
  ASSERT_TRUE(kernel.launch(1, nullptr, one_block, arguments).ok());
  EXPECT_EQ(fake.cluster, (std::array<unsigned, 3>{0, 0, 0})) << "no cluster unless asked for";
  fake.argument_bytes = fake.argument_count = 0;
}

TEST(Kernels, BeginBesideTheEndOfTheOneBefore) {
  UPCONV_NEEDS_FAKE_DRIVER();
  FakeCuda& fake = *fake_driver();
  const Kernel kernel(probe("overlap"));
  fake.argument_bytes = 4;
  fake.argument_count = 2;
  for (const int device : {0, 1, 2, 3}) {
    ASSERT_TRUE(launch(kernel, device).ok());
    EXPECT_EQ(fake.overlaps, fake.major[static_cast<std::size_t>(device)] >= 9) << device;
  }
  int p = 0, n = 0;
  void* arguments[] = {&p, &n};
  ASSERT_TRUE(kernel.launch(0, nullptr, {{2, 1, 1}, {32, 1, 1}, 0, {2, 1, 1}}, arguments).ok());
  EXPECT_TRUE(fake.overlaps);
  EXPECT_EQ(fake.cluster, (std::array<unsigned, 3>{2, 1, 1})) << "both attributes of one launch";
  fake.argument_bytes = fake.argument_count = 0;
}

TEST(Kernels, SharedMemoryLimitOnlyGrows) {
  UPCONV_NEEDS_FAKE_DRIVER();
  FakeCuda& fake = *fake_driver();
  ASSERT_TRUE(Kernel(probe("limit"), 200 * 1024).prepare(0).ok());
  EXPECT_EQ(fake.shared_limit, 200 * 1024);
  ASSERT_TRUE(Kernel(probe("limit"), 64 * 1024).prepare(0).ok());
  EXPECT_EQ(fake.shared_limit, 200 * 1024) << "the same function serves both";
  const int before = fake.attributes_set;
  ASSERT_TRUE(Kernel(probe("no limit")).prepare(0).ok());
  EXPECT_EQ(fake.attributes_set, before) << "no dynamic memory needs no asking";
  ASSERT_TRUE(Kernel(probe("small limit"), 47 * 1024).prepare(0).ok());
  EXPECT_EQ(fake.shared_limit, 47 * 1024) << "static memory may bring it above 48 KiB";
}

TEST(Kernels, FirstLaunchInsideACaptureSaysWhatToDo) {
  UPCONV_NEEDS_FAKE_DRIVER();
  FakeCuda& fake = *fake_driver();
  const Kernel kernel(probe("capture"));
  int stream = 0;
  fake.capturing = &stream;
  const Counts before;
  const Status s = launch(kernel, 0, &stream);
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_NE(s.message().find("run it once before the capture"), std::string::npos) << s.message();
  EXPECT_EQ(Counts().compiles, before.compiles);
  EXPECT_EQ(Counts().launches, before.launches);
  EXPECT_TRUE(launch(kernel, 0, nullptr).ok()) << "on a stream that is not captured";
  EXPECT_EQ(fake.mode_at_load, 2) << "loading does not disturb a capture by another thread";
  EXPECT_TRUE(launch(kernel, 0, &stream).ok()) << "once compiled it can be captured";
  EXPECT_TRUE(launch(Kernel(probe("capture")), 0, &stream).ok()) << "by another plan with the same program too";
  EXPECT_FALSE(launch(kernel, 1, &stream).ok()) << "on another device it is not loaded";
  fake.capturing = nullptr;
}

TEST(Kernels, PreparedKernelsLaunchWithoutCompiling) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Kernel kernel(probe("prepared"));
  ASSERT_TRUE(kernel.prepare(0).ok());
  const Counts before;
  ASSERT_TRUE(launch(kernel, 0).ok());
  EXPECT_EQ(Counts().compiles, before.compiles);
  EXPECT_EQ(Counts().loads, before.loads);
}

TEST(Kernels, AFailedCompileIsToldAgainWithoutCompiling) {
  UPCONV_NEEDS_FAKE_DRIVER();
  Program p = probe("fails");
  p.preamble += "not C++\n";
  const Counts before;
  const Status first = launch(Kernel(p), 0), second = launch(Kernel(p), 0);
  EXPECT_EQ(first.code(), Code::internal);
  EXPECT_NE(first.message().find("not C++"), std::string::npos) << first.message();
  EXPECT_EQ(second.message(), first.message());
  EXPECT_EQ(Counts().compiles - before.compiles, 1);
}

TEST(Kernels, AFailedLoadIsTriedAgain) {
  UPCONV_NEEDS_FAKE_DRIVER();
  FakeCuda& fake = *fake_driver();
  const Kernel kernel(probe("no memory"));
  fake.refuse_load = 2;
  const Status s = launch(kernel, 0);
  fake.refuse_load = 0;
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_NE(s.message().find("out of memory"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("types.cuh"), std::string::npos) << s.message();
  EXPECT_TRUE(launch(kernel, 0).ok());
}

TEST(Kernels, AnEntryThatIsNotThere) {
  UPCONV_NEEDS_FAKE_DRIVER();
  Program p = probe("entry");
  p.entry = "prob";
  const Status s = launch(Kernel(p), 0);
  EXPECT_NE(s.message().find("has no entry prob"), std::string::npos) << s.message();
}

TEST(Kernels, ALaunchThatTheDriverRefuses) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Kernel kernel(probe("refused"));
  fake_driver()->refuse_launch = 2;
  const Status s = launch(kernel, 0);
  fake_driver()->refuse_launch = 0;
  EXPECT_NE(s.message().find("launching probe: out of memory"), std::string::npos) << s.message();
}

TEST(Kernels, HostTimeOfALaunch) {
  UPCONV_NEEDS_FAKE_DRIVER();
  const Kernel kernel(probe("timed"));
  ASSERT_TRUE(launch(kernel, 0).ok());
  const CurrentContext context(**driver(), 0);  // as torch leaves it
  constexpr int launches = 200000;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < launches; ++i) (void)launch(kernel, 0);
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  std::printf("%.0f ns a launch, the driver's own time not counted\n", took.count() / launches);
  EXPECT_LT(took.count() / launches, 5000) << "a launch looks up a function and nothing else";
}

}  // namespace
}  // namespace upconv::jit::testing
