// Interruption: Ctrl-C, SIGTERM and a lost terminal as something to wait for, while there is one
// of these. Make it before any thread is started, so that all of them inherit it.
//
// Threads    made and destroyed on the main thread; the rest safe.
// Ownership  restores what was before; a signal that came meanwhile is used up.
#pragma once

#include <chrono>
#include <csignal>

namespace passband {

class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Readable once one came, and from then on. Nobody is to read it.
  int fd() const { return fd_; }
  // True when one came within `time`, or before.
  bool Within(std::chrono::milliseconds time) const;
  bool Came() const { return Within(std::chrono::milliseconds(0)); }

 private:
  sigset_t before_{};
  int fd_ = -1;
};

}  // namespace passband
