// Clock: time as a dependency, so that no test waits for it.
#pragma once

#include <chrono>

namespace passband {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  Time Now() const override { return std::chrono::steady_clock::now(); }
};

// Seconds from `from` to `to`, for metrics and tables.
inline double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace passband
