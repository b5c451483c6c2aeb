// StatusError: a Status on its way into Python, where passband.errors makes an exception of it.
//
// Threads  thrown and caught by one thread; the translator runs with the GIL.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/status.h"

namespace passband::python {

// What a class of its own in passband.errors stands for, beyond the status code.
enum class Reason : uint8_t { kService, kClosed, kForked, kNoCuda, kArray };

class StatusError final : public std::exception {
 public:
  explicit StatusError(Status status, Reason reason = Reason::kService)
      : status_(std::move(status)), reason_(reason), text_(Message(status_)) {}

  const Status& status() const { return status_; }
  Reason reason() const { return reason_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  Status status_;
  Reason reason_;
  std::string text_;
};

inline void Check(Status status) {
  if (!status.ok()) throw StatusError(std::move(status));
}

template <typename T>
T Take(StatusOr<T> result) {
  if (!result.ok()) throw StatusError(result.status());
  return *std::move(result);
}

// To be called once, when the module is made.
void RegisterStatusTranslator();

}  // namespace passband::python
