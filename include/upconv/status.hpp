// How upconv reports failure: a typed code and a sentence that names operator, value and rule.
// No exception leaves the library; Result<T> is a value or the Status that says why there is none.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace upconv {

enum class Code {
  ok,
  invalid_argument,  ///< The problem breaks a rule of the operator; the message says which.
  unsupported,       ///< A legal problem that this candidate, engine or build does not run.
  unavailable,       ///< A device or library that is not on this machine.
  internal,          ///< A defect of upconv.
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] bool ok() const { return code_ == Code::ok; }
  [[nodiscard]] Code code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }

 private:
  Code code_ = Code::ok;
  std::string message_;
};

[[nodiscard]] inline Status invalid_argument(std::string message) {
  return {Code::invalid_argument, std::move(message)};
}
[[nodiscard]] inline Status unsupported(std::string message) { return {Code::unsupported, std::move(message)}; }

/// A T, or the Status that says why there is none. `value()` may be called only when `ok()`.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: implicit on purpose

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] T& value() & { return *value_; }
  [[nodiscard]] const T& value() const& { return *value_; }
  [[nodiscard]] T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace upconv
