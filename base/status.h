// Status: how a failure travels inside Passband.
//
// An absl::Status with a message that names the ids a reader would search for.
// Programmer errors stop the process (PASSBAND_CHECK); failures are a Status;
// an expected "no" is a plain value.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "fmt/format.h"

namespace passband {

using Status = absl::Status;
template <typename T>
using StatusOr = absl::StatusOr<T>;
using StatusCode = absl::StatusCode;

inline Status OkStatus() { return {}; }

// Makes an error:
//   return Error(StatusCode::kNotFound, "sequence {} is not open", id);
template <typename... Args>
[[nodiscard]] Status Error(StatusCode code, fmt::format_string<Args...> text, Args&&... args) {
  return {code, fmt::format(text, std::forward<Args>(args)...)};
}

// The message as a std::string: Debian's absl::string_view is its own type and
// does not convert.
inline std::string Message(const Status& status) { return std::string(status.message()); }

// The same error with `context` and a colon before its message.
inline Status Annotate(const Status& status, const std::string& context) {
  if (status.ok()) return status;
  Status out(status.code(), context + ": " + Message(status));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

inline constexpr char kRetryAfterPayload[] = "passband.retry_after_ms";

// Attaches the time after which trying again makes sense (kResourceExhausted,
// kUnavailable).
inline Status WithRetryAfter(Status status, std::chrono::milliseconds after) {
  status.SetPayload(kRetryAfterPayload, absl::Cord(std::to_string(after.count())));
  return status;
}

inline std::optional<std::chrono::milliseconds> RetryAfter(const Status& status) {
  const auto payload = status.GetPayload(kRetryAfterPayload);
  if (!payload.has_value()) return std::nullopt;
  return std::chrono::milliseconds(std::stoll(std::string(*payload)));
}

[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);

}  // namespace passband

// Stops the process when a promise of our own code does not hold. Never for
// input from outside.
#define PASSBAND_CHECK(condition)                                              \
  do {                                                                         \
    if (!(condition)) ::passband::CheckFailed(#condition, __FILE__, __LINE__); \
  } while (false)

#define PASSBAND_CONCAT_INNER(a, b) a##b
#define PASSBAND_CONCAT(a, b) PASSBAND_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` is an error.
#define PASSBAND_RETURN_IF_ERROR(expr)                                      \
  do {                                                                      \
    if (::passband::Status passband_status = (expr); !passband_status.ok()) \
      return passband_status;                                               \
  } while (false)

// Assigns the value of a StatusOr to `lhs`, or returns its error.
#define PASSBAND_ASSIGN_OR_RETURN(lhs, expr) \
  PASSBAND_ASSIGN_OR_RETURN_IMPL(PASSBAND_CONCAT(passband_or_, __LINE__), lhs, expr)
#define PASSBAND_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) return std::move(tmp).status();       \
  lhs = *std::move(tmp)
