// The inline executor and the default pool. The pool keeps its threads asleep between runs.
#include "upconv/executor.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace upconv {
namespace {

class Inline final : public Executor {
 public:
  int workers() const override { return 1; }
  void run(int count, void (*body)(void*, int), void* context) override {
    for (int i = 0; i < count; ++i) body(context, i);
  }
};

class Pool final : public Executor {
 public:
  explicit Pool(int workers) {
    for (int i = 1; i < workers; ++i) threads_.emplace_back([this, i] { serve(i); });
  }
  ~Pool() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  int workers() const override { return static_cast<int>(threads_.size()) + 1; }

  void run(int count, void (*body)(void*, int), void* context) override {
    std::lock_guard one_caller(callers_);  // several host threads may share a pool
    count = std::min(count, workers());
    {
      std::lock_guard lock(mutex_);
      body_ = body;
      context_ = context;
      count_ = count;
      pending_ = count - 1;
      ++generation_;
    }
    if (count > 1) wake_.notify_all();
    if (count > 0) body(context, 0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_ <= 0; });
  }

 private:
  void serve(int worker) {
    unsigned seen = 0;
    for (;;) {
      void (*body)(void*, int) = nullptr;
      void* context = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
        if (stop_) return;
        seen = generation_;
        if (worker >= count_) continue;
        body = body_;
        context = context_;
      }
      body(context, worker);
      std::lock_guard lock(mutex_);
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  void (*body_)(void*, int) = nullptr;
  void* context_ = nullptr;
  int count_ = 0, pending_ = 0;
  unsigned generation_ = 0;
  bool stop_ = false;
};

}  // namespace

Executor& inline_executor() {
  static Inline executor;
  return executor;
}

std::unique_ptr<Executor> make_thread_pool(int workers) {
  if (workers <= 0) workers = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return std::make_unique<Pool>(workers);
}

}  // namespace upconv
