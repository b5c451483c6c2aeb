// Status, Result: how a call of the Passband client ends. Standard types only.
//
// Threads    plain values.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace passband::client {

// The numbers are those of gRPC.
enum class Code {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,  // no answer in time
  kNotFound = 5,          // unknown or closed, or another tenant's
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,  // full; see retry_after()
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,  // a token that the layer does not hold
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,      // the service is gone: connect again
  kDataLoss = 15,         // an answer that is not what was asked for
  kUnauthenticated = 16,  // the session is over: connect again
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message,
         std::optional<std::chrono::milliseconds> retry_after = std::nullopt)
      : code_(code), message_(std::move(message)), retry_after_(retry_after) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  // Says what failed, of which id, and what to do.
  const std::string& message() const { return message_; }
  // After which time trying again makes sense, if the service said so.
  std::optional<std::chrono::milliseconds> retry_after() const { return retry_after_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
  std::optional<std::chrono::milliseconds> retry_after_;
};

// A value, or why there is none. Look at ok() before the value.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace passband::client
