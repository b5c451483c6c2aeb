// LiveScreen: the whole terminal, redrawn from time to time, and as it was before afterwards:
// also when the program is stopped (Ctrl-Z) and goes on, and when the terminal changes its size.
//
// Threads    one at a time; made after an Interruption, before any other thread.
// Ownership  the destructor gives the terminal back.
// Errors     kFailedPrecondition when standard output is no terminal.
#pragma once

#include <termios.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace passband {

class LiveScreen {
 public:
  static StatusOr<std::unique_ptr<LiveScreen>> Open();
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  // As many of the lines, and of each as much, as there is room for.
  void Draw(std::vector<std::string> lines);

  // Redraws when the terminal changes, until the time is over: true. False: somebody pressed q,
  // or `stop` became readable.
  bool WaitUntil(Time end, int stop);

 private:
  LiveScreen() = default;
  void Enter();
  void Leave();
  void Redraw() const;
  // Of a signal that waits.
  void OnSignal();
  // False: q, or the terminal is gone.
  bool OnKey();

  std::vector<std::string> lines_;
  sigset_t mask_before_{};
  int signals_ = -1;
  bool keys_ = false;  // standard input is a terminal
  termios mode_before_{};
};

}  // namespace passband
