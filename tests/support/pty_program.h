// PtyProgram: a program of ours on a terminal of its own, as a person would run it.
//
// Units      rows and columns; every wait has an end.
// Threads    one at a time.
// Ownership  the destructor kills what still runs.
// Errors     kUnavailable when there is no terminal to be had.
#pragma once

#include <sys/types.h>
#include <termios.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::test {

class PtyProgram {
 public:
  static StatusOr<std::unique_ptr<PtyProgram>> Start(std::vector<std::string> words,
                                                     uint16_t rows = 24, uint16_t columns = 80);
  ~PtyProgram();
  PtyProgram(const PtyProgram&) = delete;
  PtyProgram& operator=(const PtyProgram&) = delete;

  // Everything it wrote so far.
  const std::string& output() const { return output_; }
  // Reads until it has written `text` since the last such call. False: it ended, or a minute
  // passed.
  bool AwaitText(const std::string& text);
  void Type(const std::string& keys) const;
  // Tells the program, too.
  void Resize(uint16_t rows, uint16_t columns) const;
  void Signal(int signal) const;
  // Until it is stopped, as by Ctrl-Z. False: it ended instead.
  bool AwaitStopped() const;
  // Reads to its end. Its exit code; minus the signal that ended it.
  int AwaitEnd();
  // How the terminal is set now.
  termios mode() const;

 private:
  PtyProgram(int terminal, int inside, pid_t pid)
      : terminal_(terminal), inside_(inside), pid_(pid) {}
  // False: nothing came within a minute, or nothing will.
  bool Read();
  bool Ended();

  const int terminal_;
  const int inside_;  // the program's side, so that the terminal outlives it
  pid_t pid_;         // -1 once it has ended
  int status_ = 0;
  std::string output_;
  size_t seen_ = 0;
};

}  // namespace passband::test
