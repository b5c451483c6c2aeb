// ProcessStats: what the kernel says of this process, for the process_* metrics.
//
// Units    in the names.
// Threads  safe. Reads /proc: not for a hot path.
// Errors   none: what cannot be read is 0.
#pragma once

#include <cstdint>

namespace passband::server {

struct ProcessStats {
  double cpu_seconds = 0;
  double start_time_seconds = 0;  // since the epoch
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t threads = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
  uint64_t locked_limit_bytes = 0;  // UINT64_MAX: none

  static ProcessStats Read();
};

}  // namespace passband::server
