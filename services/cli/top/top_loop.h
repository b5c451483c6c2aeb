// RunTop: looks at a server's metrics again and again, and shows what it did between two looks.
//
// Threads  the main thread, before any other is started.
// Errors   kUnavailable, kDeadlineExceeded when the server is not there, or goes away while
//          nobody watches (a screen waits for its return).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "services/console/interruption.h"

namespace passband::top {

struct TopOptions {
  std::string metrics;  // host:port of the HTTP port
  std::string server;   // as people know it
  std::chrono::milliseconds interval{1000};
  std::chrono::milliseconds timeout{5000};
  uint64_t count = 0;  // of ticks; 0: until interrupted
  bool once = false;   // the whole screen, once, as text
  bool json = false;
};

Status RunTop(const TopOptions& options, const Interruption& interruption);

}  // namespace passband::top
