// CommandRunner: which subcommand was asked for, and how its outcome becomes an
// exit code.
//
//   0 done; 1 failed; 2 wrong usage (also of flags against each other); 3 the
//   service cannot be reached, or is gone
//
// Threads  used by main only.
#pragma once

#include <functional>
#include <utility>

#include "base/status.h"

namespace passband {

inline constexpr int kExitUsage = 2;

class CommandRunner {
 public:
  // Called by the chosen subcommand's callback, once its flags are checked.
  void Choose(std::function<Status()> run) { run_ = std::move(run); }
  Status Run() const { return run_(); }

 private:
  std::function<Status()> run_;
};

inline int ExitCode(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return 0;
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
      return 3;
    default:
      return 1;
  }
}

}  // namespace passband
