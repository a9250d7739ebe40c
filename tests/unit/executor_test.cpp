// The pool: each worker called once a run, reusable, shared by host threads, for any count up to its size.
#include "upconv/executor.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace upconv {
namespace {

struct Calls {
  std::array<std::atomic<int>, 64> of{};
  std::atomic<int> running{0}, most_running{0};
  static void body(void* context, int worker) {
    Calls& c = *static_cast<Calls*>(context);
    const int now = ++c.running;
    for (int seen = c.most_running; now > seen && !c.most_running.compare_exchange_weak(seen, now);) {
    }
    ++c.of[static_cast<std::size_t>(worker)];
    --c.running;
  }
  void expect_each(int count, int times) const {
    for (int i = 0; i < int(of.size()); ++i)
      ASSERT_EQ(of[static_cast<std::size_t>(i)], i < count ? times : 0) << "worker " << i;
  }
};

TEST(Executor, InlineRunsEverythingOnTheCaller) {
  EXPECT_EQ(inline_executor().workers(), 1);
  struct Seen {
    std::set<std::thread::id> threads;
    int calls = 0;
  } seen;
  for (int i = 0; i < 3; ++i)
    inline_executor().run(
        1,
        [](void* c, int worker) {
          auto& s = *static_cast<Seen*>(c);
          s.threads.insert(std::this_thread::get_id());
          s.calls += 1 + 100 * worker;
        },
        &seen);
  EXPECT_EQ(seen.calls, 3);
  EXPECT_EQ(seen.threads, std::set<std::thread::id>{std::this_thread::get_id()});
}

TEST(Executor, PoolCallsEachWorkerOnceARun) {
  for (int workers : {1, 2, 3, 5, 8}) {
    const auto pool = make_thread_pool(workers);
    ASSERT_EQ(pool->workers(), workers);
    for (int count = 1; count <= workers; ++count) {
      Calls calls;
      for (int run = 0; run < 200; ++run) pool->run(count, Calls::body, &calls);
      calls.expect_each(count, 200);
      EXPECT_LE(calls.most_running, count);
    }
  }
}

TEST(Executor, PoolOfTheMachinesSize) {
  EXPECT_GE(make_thread_pool()->workers(), 1);
  EXPECT_GE(make_thread_pool(-3)->workers(), 1);
}

/// What a run wrote is visible when it returns.
TEST(Executor, RunReturnsWhenAllIsDone) {
  const auto pool = make_thread_pool(4);
  for (int run = 0; run < 500; ++run) {
    int plain[4] = {0, 0, 0, 0};  // not atomic: the pool must order it
    pool->run(
        4, [](void* c, int worker) { static_cast<int*>(c)[worker] = worker + 1; }, plain);
    for (int i = 0; i < 4; ++i) ASSERT_EQ(plain[i], i + 1);
  }
}

TEST(Executor, ManyHostThreadsShareAPool) {
  const auto pool = make_thread_pool(3);
  std::vector<std::thread> hosts;
  std::vector<Calls> calls(8);
  for (Calls& c : calls)
    hosts.emplace_back([&pool, &c] {
      for (int run = 0; run < 100; ++run) pool->run(1 + run % 3, Calls::body, &c);
    });
  for (std::thread& t : hosts) t.join();
  for (const Calls& c : calls) {
    EXPECT_EQ(c.of[0], 100);
    EXPECT_EQ(c.of[1], 66);
    EXPECT_EQ(c.of[2], 33);
    EXPECT_EQ(c.of[3], 0);
  }
}

TEST(Executor, PoolsComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    const auto pool = make_thread_pool(4);
    Calls calls;
    if (i % 2) pool->run(4, Calls::body, &calls);  // also one that never ran
    calls.expect_each(i % 2 ? 4 : 0, 1);
  }
}

}  // namespace
}  // namespace upconv
