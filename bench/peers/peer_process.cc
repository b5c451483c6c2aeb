#include "bench/peers/peer_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "bench/peers/peer.h"

namespace passband::bench {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(10);
constexpr int kAttempts = 5;

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  out.sin_port = htons(port);
  return out;
}

StatusOr<uint16_t> FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(fd);
  if (!bound) return Error(StatusCode::kUnavailable, "no free port: {}", std::strerror(errno));
  return ntohs(address.sin_port);
}

bool Listens(const PeerProcess::Place& place, bool tcp) {
  const int fd = ::socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = -1;
  if (tcp) {
    const sockaddr_in address = Loopback(place.port);
    result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } else {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    place.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
    result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  ::close(fd);
  return result == 0;
}

// In the child, after fork: only what is async-signal-safe.
[[noreturn]] void RunPeer(char* const* argv, const char* log) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(kServerCpu, &cpus);
  ::sched_setaffinity(0, sizeof(cpus), &cpus);
  const int fd = ::open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::execvp(argv[0], argv);
  ::_exit(127);
}

}  // namespace

StatusOr<std::unique_ptr<PeerProcess>> PeerProcess::Start(
    const std::function<std::vector<std::string>(const Place&)>& words, bool tcp) {
  Status last;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::unique_ptr<PeerProcess> out(new PeerProcess());
    std::string folder = (std::filesystem::temp_directory_path() / "passband-peer-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) {
      return Error(StatusCode::kUnavailable, "mkdtemp {}: {}", folder, std::strerror(errno));
    }
    out->place_.folder = folder;
    PASSBAND_ASSIGN_OR_RETURN(out->place_.port, FreePort());
    PASSBAND_RETURN_IF_ERROR(out->Spawn(words(out->place_)));
    last = out->AwaitListening(tcp);
    if (last.ok()) return out;
  }
  return last;
}

Status PeerProcess::Spawn(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = place_.folder + "/log";
  pid_ = ::fork();
  if (pid_ == 0) RunPeer(argv.data(), log.c_str());
  if (pid_ > 0) return OkStatus();
  return Error(StatusCode::kUnavailable, "fork: {}", std::strerror(errno));
}

Status PeerProcess::AwaitListening(bool tcp) const {
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (std::chrono::steady_clock::now() < deadline) {
    if (Listens(place_, tcp)) return OkStatus();
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    if (info.si_pid == pid_) {
      return Error(StatusCode::kUnavailable,
                   "a peer ended at once with status {}: are redis-server and memcached installed "
                   "(deploy/debian-packages-bench.txt)?",
                   info.si_status);
    }
    ::poll(nullptr, 0, 5);
  }
  return Error(StatusCode::kUnavailable, "a peer does not listen");
}

PeerProcess::~PeerProcess() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(place_.folder, ignored);
}

}  // namespace passband::bench
