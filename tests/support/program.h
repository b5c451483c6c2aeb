// Program: one of our programs, run by a test through the shell.
//
// Threads    one at a time.
// Ownership  the destructor waits for its end.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <string>

namespace passband::test {

struct Outcome {
  int code = -1;
  std::string output;  // standard output; with it standard error where the command says so
};

class Program {
 public:
  explicit Program(const std::string& command) : pipe_(::popen(command.c_str(), "r")) {}
  ~Program() { Finish(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The next byte, or EOF.
  int Next() { return std::fgetc(pipe_); }

  // Reads to the end of its output and waits for its end.
  Outcome Finish() {
    Outcome outcome;
    if (pipe_ == nullptr) return outcome;
    for (int c = Next(); c != EOF; c = Next()) outcome.output += static_cast<char>(c);
    outcome.code = WEXITSTATUS(::pclose(pipe_));
    pipe_ = nullptr;
    return outcome;
  }

 private:
  std::FILE* pipe_;
};

}  // namespace passband::test
