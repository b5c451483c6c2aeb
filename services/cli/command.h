// CommandRunner: which subcommand was asked for, and how its outcome becomes
// an exit code.
//
//   0 done; 1 the operation failed; 2 wrong usage; 3 the server cannot be
//   reached; 4 not found; 6 integrity failure; 124 no answer in time
//
// Threads  one at a time.
#pragma once

#include <functional>
#include <utility>

#include "base/status.h"

namespace passband {

class CommandRunner {
 public:
  // Called by the chosen subcommand's callback.
  void Choose(std::function<Status()> run) { run_ = std::move(run); }
  bool chosen() const { return run_ != nullptr; }
  Status Run() const { return run_(); }

 private:
  std::function<Status()> run_;
};

inline int ExitCode(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return 0;
    case StatusCode::kInvalidArgument:
      return 2;
    case StatusCode::kUnavailable:
      return 3;
    case StatusCode::kNotFound:
      return 4;
    case StatusCode::kDataLoss:
      return 6;
    case StatusCode::kDeadlineExceeded:
      return 124;
    default:
      return 1;
  }
}

}  // namespace passband
