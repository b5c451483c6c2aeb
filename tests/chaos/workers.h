// Workers: the processes that use the service, started again when they are killed.
//
// Threads    one at a time.
// Ownership  the destructor kills them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/chaos/board.h"

namespace passband::chaos {

class Workers {
 public:
  struct Options {
    std::string binary;
    // They take turns: shared memory, TCP, gRPC.
    struct Kind {
      std::vector<std::string> launcher;
      std::vector<std::string> flags;
    };
    std::vector<Kind> kinds;
    std::vector<std::string> flags;  // Of all, beside board and index.
    uint32_t count = 0;
  };

  Workers(Options options, Board& board);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  uint32_t count() const { return options_.count; }
  Status StartAll();
  // SIGKILL, and another in its place.
  Status Replace(uint32_t index);
  // True: it stands still.
  bool Pause(uint32_t index);
  void Resume(uint32_t index);
  // Workers that ended by themselves are a defect: their number. They are replaced.
  StatusOr<uint32_t> ReplaceDead();
  // Runs one more to its end, with these flags beside; true: it is content.
  StatusOr<bool> RunOne(const std::vector<std::string>& flags, std::chrono::seconds timeout);
  // Waits until all have ended. False: some had to be killed.
  bool AwaitEnd(std::chrono::milliseconds timeout);

 private:
  StatusOr<pid_t> Spawn(uint32_t index, const std::vector<std::string>& more);

  const Options options_;
  Board& board_;
  std::vector<pid_t> pids_;
  std::vector<uint64_t> paused_at_;
};

}  // namespace passband::chaos
