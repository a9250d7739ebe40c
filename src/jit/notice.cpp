// See notice.hpp.
#include "jit/notice.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace upconv::jit {
namespace {

thread_local int quiet_depth = 0;

bool silent() {
  if (quiet_depth > 0) return true;
  const char* value = std::getenv("UPCONV_QUIET");
  return value && *value && std::strcmp(value, "0") != 0;
}

}  // namespace

Notice::Notice(std::string line, std::chrono::milliseconds delay) {
  if (silent()) return;
  try {
    thread_ = std::thread([this, delay, line = std::move(line)] {
      std::unique_lock lock(mutex_);
      if (!ended_.wait_for(lock, delay, [this] { return over_; })) std::fprintf(stderr, "%s\n", line.c_str());
    });
  } catch (const std::system_error&) {  // no more threads: no notice
  }
}

Notice::~Notice() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

Quiet::Quiet() { ++quiet_depth; }
Quiet::~Quiet() { --quiet_depth; }

}  // namespace upconv::jit
