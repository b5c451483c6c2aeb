// Progress: how far a long piece of work is, on standard error.
//
//   Progress progress("prefill", tokens, "tokens");
//   progress.Advance(512);  // from any thread
//   progress.Finish();
//
//   prefill  ━━━━━━━━━━━━━━━━━━━━━━━━      62%  5,079 / 8,192 tokens  1,204/s  2 s left
//
// On a terminal one line is redrawn, at most ten times a second, and wiped at
// the end. Elsewhere a line is written about every ten seconds, so that a log
// shows life and nothing else.
//
// Threads  safe.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "services/console/terminal.h"

namespace passband {

class Progress {
 public:
  struct Options {
    std::FILE* stream = stderr;
    const Clock* clock = nullptr;  // null: the real one
    bool quiet = false;            // shows nothing
  };

  // `total` 0: not known.
  Progress(std::string label, uint64_t total, std::string unit, Options options);
  Progress(std::string label, uint64_t total, std::string unit)
      : Progress(std::move(label), total, std::move(unit), Options()) {}
  // Finishes.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(uint64_t count);
  // A few words at the end of the line: what is being worked on.
  void Note(const std::string& note);
  // Wipes a redrawn line; later calls do nothing.
  void Finish();

 private:
  Time Now() const;
  void Show();
  std::string Line() const;

  const std::string label_;
  const uint64_t total_;
  const std::string unit_;
  const Options options_;
  const RealClock real_clock_;
  const Terminal terminal_;
  const Time started_;
  Mutex mutex_;
  uint64_t done_ = 0;
  std::string note_;
  Time shown_;
  bool drawn_ = false;
  bool finished_ = false;
};

}  // namespace passband
