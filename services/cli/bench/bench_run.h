// RunBench: many BenchWorks at once, each on a thread and in a session of its own: filled, warmed
// up, measured over the same time, and closed.
//
// Units    seconds.
// Threads  the main thread; starts its own, and waits for their end.
// Errors   the first that a worker met; everything is closed all the same.
#pragma once

#include <chrono>

#include "services/cli/bench/bench_work.h"
#include "services/console/interruption.h"

namespace passband::bench {

struct Timing {
  uint32_t workers = 1;
  std::chrono::nanoseconds warm_up{};
  std::chrono::nanoseconds duration{};
};

struct Outcome {
  Done done;  // while it was measured; its `seconds` are the longest of a worker
  double rows_per_second = 0;
  double bytes_per_second = 0;
  double operations_per_second = 0;
  std::string transport;
  bool interrupted = false;
};

// `quiet`: shows no progress.
StatusOr<Outcome> RunBench(const Plan& plan, const Timing& timing, const Interruption& interruption,
                           bool quiet);

}  // namespace passband::bench
