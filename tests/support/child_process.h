// ChildProcess: a foreign program that a test starts and ends.
//
// Threads    one at a time.
// Ownership  the destructor ends the process: SIGTERM first, SIGKILL when that takes long.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::test {

class ChildProcess {
 public:
  // Starts `words` (the program's path first). Both its streams go to the file `log`.
  static StatusOr<std::unique_ptr<ChildProcess>> Start(std::vector<std::string> words,
                                                       const std::string& log);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool running();
  // What it wrote so far.
  std::string Log() const;

 private:
  ChildProcess(pid_t pid, std::string log) : pid_(pid), log_(std::move(log)) {}

  pid_t pid_;
  std::string log_;
};

}  // namespace passband::test
