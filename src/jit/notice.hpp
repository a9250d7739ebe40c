// One line on stderr while a compile takes over a second, so that nobody wonders what a first call waits for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace upconv::jit {

/// Prints `line` unless it ends before `delay`. Prints nothing under UPCONV_QUIET=1 or inside a Quiet.
class Notice {
 public:
  explicit Notice(std::string line, std::chrono::milliseconds delay = std::chrono::seconds(1));
  ~Notice();
  Notice(const Notice&) = delete;
  Notice& operator=(const Notice&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;
};

/// Keeps this thread's compiles silent: the caller shows progress itself.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

}  // namespace upconv::jit
