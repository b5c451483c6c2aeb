#include "tests/support/server_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace passband::test {
namespace {

constexpr char kReadyFile[] = "ready.json";
constexpr char kLogFile[] = "server.log";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// In the child, after fork: only what is async-signal-safe.
[[noreturn]] void RunServer(char* const* argv, const char* log, const cpu_set_t* cpus) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (cpus != nullptr) ::sched_setaffinity(0, sizeof(*cpus), cpus);
  const int fd = ::open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::execvp(argv[0], argv);
  ::_exit(127);
}

}  // namespace

StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(const Options& options) {
  std::unique_ptr<ServerProcess> out(new ServerProcess());
  std::string folder = (std::filesystem::temp_directory_path() / "passband-test-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    return Error(StatusCode::kUnavailable, "mkdtemp {}: {}", folder, std::strerror(errno));
  }
  out->folder_ = folder;
  out->inotify_ = ::inotify_init1(IN_CLOEXEC);
  ::inotify_add_watch(out->inotify_, folder.c_str(), IN_MOVED_TO | IN_CLOSE_WRITE);
  PASSBAND_RETURN_IF_ERROR(out->Spawn(options));
  PASSBAND_RETURN_IF_ERROR(out->AwaitReady(options.ready_timeout));
  return out;
}

Status ServerProcess::Spawn(const Options& options) {
  std::vector<std::string> words = options.launcher;
  words.insert(words.end(),
               {options.binary, "--host", options.host, "--control-port",
                std::to_string(options.control_port), "--data-port",
                std::to_string(options.data_port), "--http-port", std::to_string(options.http_port),
                "--ready-file", folder_ + "/" + kReadyFile});
  words.insert(words.end(), options.flags.begin(), options.flags.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = folder_ + "/" + kLogFile;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (options.cpu.has_value()) CPU_SET(static_cast<size_t>(*options.cpu), &cpus);
  pid_ = ::fork();
  if (pid_ == 0) RunServer(argv.data(), log.c_str(), options.cpu.has_value() ? &cpus : nullptr);
  if (pid_ > 0) return OkStatus();
  return Error(StatusCode::kUnavailable, "fork: {}", std::strerror(errno));
}

Status ServerProcess::AwaitReady(std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  const std::string ready = folder_ + "/" + kReadyFile;
  bool ended = false;
  while (!std::filesystem::exists(ready) && !ended) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    std::array<pollfd, 2> fds{pollfd{inotify_, POLLIN, 0}, pollfd{process, POLLIN, 0}};
    ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
    ended = (fds[1].revents & POLLIN) != 0;
    std::array<char, 4096> events;
    if ((fds[0].revents & POLLIN) != 0) {
      [[maybe_unused]] const ssize_t bytes = ::read(inotify_, events.data(), events.size());
    }
  }
  ::close(process);
  if (std::filesystem::exists(ready)) return ReadReadyFile();
  return Error(StatusCode::kUnavailable, "passband-server {}; its log:\n{}",
               ended ? "ended before it was ready" : "did not become ready", Log());
}

Status ServerProcess::ReadReadyFile() {
  const auto json = nlohmann::json::parse(ReadFile(folder_ + "/" + kReadyFile), nullptr, false);
  if (json.is_discarded()) return Error(StatusCode::kInternal, "the ready file is no JSON");
  control_address_ = json.value("control_address", "");
  control_port_ = json.value("control_port", uint16_t{0});
  data_port_ = json.value("data_port", uint16_t{0});
  http_port_ = json.value("http_port", uint16_t{0});
  return OkStatus();
}

ServerProcess::~ServerProcess() {
  Kill();
  if (inotify_ >= 0) ::close(inotify_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void ServerProcess::Kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int ServerProcess::Stop() {
  if (pid_ <= 0) return -1;
  ::kill(pid_, SIGTERM);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool ServerProcess::Pause() {
  ::kill(pid_, SIGSTOP);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT);
  return info.si_code == CLD_STOPPED;
}

void ServerProcess::Resume() { ::kill(pid_, SIGCONT); }

std::string ServerProcess::Log() const { return ReadFile(folder_ + "/" + kLogFile); }

}  // namespace passband::test
