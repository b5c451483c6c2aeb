// LapTimer: seconds since the last lap, for the phases of a step.
//
// Threads  one at a time.
#pragma once

#include <chrono>

namespace passband {

class LapTimer {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace passband
