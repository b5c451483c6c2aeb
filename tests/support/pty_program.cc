#include "tests/support/pty_program.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

namespace passband::test {
namespace {

constexpr int kSliceMs = 20;
constexpr int kSlices = 60'000 / kSliceMs;

[[noreturn]] void Become(int terminal, std::vector<std::string>& words) {
  ::setsid();
  ::ioctl(terminal, TIOCSCTTY, 0);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(terminal, stream);
  ::setenv("TERM", "xterm-256color", 1);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

StatusOr<std::unique_ptr<PtyProgram>> PtyProgram::Start(std::vector<std::string> words,
                                                        uint16_t rows, uint16_t columns) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) {
    return Error(StatusCode::kUnavailable, "no terminal to be had");
  }
  const int inside = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  ::ioctl(terminal, TIOCSWINSZ, &size);
  const pid_t pid = ::fork();
  if (pid == 0) Become(inside, words);
  std::unique_ptr<PtyProgram> program(new PtyProgram(terminal, inside, pid));
  if (inside < 0 || pid < 0) return Error(StatusCode::kUnavailable, "no program on a terminal");
  return program;
}

PtyProgram::~PtyProgram() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(inside_);
  ::close(terminal_);
}

bool PtyProgram::Ended() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ < 0;
}

bool PtyProgram::Read() {
  for (int slice = 0; slice < kSlices; ++slice) {
    const bool last = Ended();  // Before looking: it wrote nothing after its end.
    pollfd entry{terminal_, POLLIN, 0};
    if (::poll(&entry, 1, last ? 0 : kSliceMs) <= 0) {
      if (last) return false;
      continue;
    }
    std::array<char, 4096> chunk{};
    const ssize_t got = ::read(terminal_, chunk.data(), chunk.size());
    if (got <= 0) return false;
    output_.append(chunk.data(), static_cast<size_t>(got));
    return true;
  }
  return false;
}

bool PtyProgram::AwaitText(const std::string& text) {
  while (true) {
    const size_t found = output_.find(text, seen_);
    if (found != std::string::npos) {
      seen_ = found + text.size();
      return true;
    }
    if (!Read()) return false;
  }
}

void PtyProgram::Type(const std::string& keys) const {
  PASSBAND_CHECK(::write(terminal_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

void PtyProgram::Resize(uint16_t rows, uint16_t columns) const {
  const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  ::ioctl(terminal_, TIOCSWINSZ, &size);
  Signal(SIGWINCH);
}

void PtyProgram::Signal(int signal) const { ::kill(pid_, signal); }

bool PtyProgram::AwaitStopped() const {
  int status = 0;
  return ::waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status);
}

int PtyProgram::AwaitEnd() {
  while (Read()) {
  }
  if (!Ended()) return -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
}

termios PtyProgram::mode() const {
  termios mode{};
  ::tcgetattr(terminal_, &mode);
  return mode;
}

}  // namespace passband::test
