#include "tests/chaos/workers.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace passband::chaos {

Workers::Workers(Options options, Board& board)
    : options_(std::move(options)),
      board_(board),
      pids_(options_.count, -1),
      paused_at_(options_.count, 0) {}

Workers::~Workers() {
  for (const pid_t pid : pids_) {
    if (pid <= 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

StatusOr<pid_t> Workers::Spawn(uint32_t index, const std::vector<std::string>& more) {
  const Options::Kind& kind = options_.kinds[index % options_.kinds.size()];
  std::vector<std::string> words = kind.launcher;
  words.insert(words.end(), {options_.binary, "--board", std::to_string(board_.fd()), "--index",
                             std::to_string(index)});
  words.insert(words.end(), kind.flags.begin(), kind.flags.end());
  words.insert(words.end(), options_.flags.begin(), options_.flags.end());
  words.insert(words.end(), more.begin(), more.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (const int error = ::posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), ::environ);
      error != 0) {
    return Error(StatusCode::kUnavailable, "{}: {}", argv[0], std::strerror(error));
  }
  return pid;
}

Status Workers::StartAll() {
  for (uint32_t i = 0; i < options_.count; ++i) {
    PASSBAND_ASSIGN_OR_RETURN(pids_[i], Spawn(i, {}));
  }
  return OkStatus();
}

Status Workers::Replace(uint32_t index) {
  ::kill(pids_[index], SIGKILL);
  ::waitpid(pids_[index], nullptr, 0);
  board_->workers[index].begun_ns = 0;
  PASSBAND_ASSIGN_OR_RETURN(pids_[index], Spawn(index, {}));
  return OkStatus();
}

bool Workers::Pause(uint32_t index) {
  ::kill(pids_[index], SIGSTOP);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(pids_[index]), &info, WSTOPPED | WEXITED | WNOWAIT);
  paused_at_[index] = NowNs();
  return info.si_code == CLD_STOPPED;
}

void Workers::Resume(uint32_t index) {
  board_->workers[index].stopped_ns += NowNs() - paused_at_[index];
  ::kill(pids_[index], SIGCONT);
}

StatusOr<uint32_t> Workers::ReplaceDead() {
  uint32_t dead = 0;
  for (uint32_t i = 0; i < options_.count; ++i) {
    int status = 0;
    if (::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) continue;
    ++dead;
    std::fprintf(stderr, "worker %u ended by itself (%s %d) in %s\n", i,
                 WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                 Name(static_cast<Operation>(board_->workers[i].operation.load())));
    board_->workers[i].begun_ns = 0;
    PASSBAND_ASSIGN_OR_RETURN(pids_[i], Spawn(i, {}));
  }
  return dead;
}

StatusOr<bool> Workers::RunOne(const std::vector<std::string>& flags,
                               std::chrono::seconds timeout) {
  PASSBAND_ASSIGN_OR_RETURN(const pid_t pid, Spawn(0, flags));
  const uint64_t deadline = NowNs() + static_cast<uint64_t>(timeout.count()) * 1'000'000'000u;
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (NowNs() > deadline) {
      std::fprintf(stderr, "'%s' does not end\n", flags[0].c_str());
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return false;
    }
    ::poll(nullptr, 0, 20);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool Workers::AwaitEnd(std::chrono::milliseconds timeout) {
  const uint64_t deadline = NowNs() + static_cast<uint64_t>(timeout.count()) * 1'000'000u;
  bool all = true;
  for (uint32_t i = 0; i < options_.count; ++i) {
    while (::waitpid(pids_[i], nullptr, WNOHANG) == 0) {
      if (NowNs() > deadline) {
        std::fprintf(stderr, "worker %u does not end: it hangs in %s\n", i,
                     Name(static_cast<Operation>(board_->workers[i].operation.load())));
        all = false;
        ::kill(pids_[i], SIGKILL);
        ::waitpid(pids_[i], nullptr, 0);
        break;
      }
      ::poll(nullptr, 0, 10);
    }
    pids_[i] = -1;
  }
  return all;
}

}  // namespace passband::chaos
