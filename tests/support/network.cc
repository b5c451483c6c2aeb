#include "tests/support/network.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace passband::test {
namespace {

Status Ip(std::vector<std::string> words) {
  words.insert(words.begin(), "ip");
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  // What ip says of a missing right belongs to the reason we give.
  pid_t pid = -1;
  int status = 0;
  if (const int error = ::posix_spawnp(&pid, "ip", nullptr, nullptr, argv.data(), ::environ);
      error != 0) {
    return Error(StatusCode::kFailedPrecondition, "ip(8) of iproute2 is needed");
  }
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return OkStatus();
  return Error(StatusCode::kFailedPrecondition, "'{}' failed", line);
}

}  // namespace

StatusOr<std::unique_ptr<Network>> Network::Create() {
  if (::geteuid() != 0) {
    return Error(StatusCode::kFailedPrecondition, "network namespaces take root");
  }
  std::unique_ptr<Network> out(new Network(std::to_string(::getpid())));
  PASSBAND_RETURN_IF_ERROR(out->Build());
  return out;
}

std::string Network::Name(End end) const {
  return (end == End::kServer ? "pb-chaos-server-" : "pb-chaos-worker-") + suffix_;
}

Status Network::Build() {
  const std::string server = Name(End::kServer);
  const std::string worker = Name(End::kWorker);
  PASSBAND_RETURN_IF_ERROR(Ip({"netns", "add", server}));
  PASSBAND_RETURN_IF_ERROR(Ip({"netns", "add", worker}));
  PASSBAND_RETURN_IF_ERROR(Ip({"-n", server, "link", "add", Device(End::kServer), "type", "veth",
                               "peer", "name", Device(End::kWorker), "netns", worker}));
  PASSBAND_RETURN_IF_ERROR(
      Ip({"-n", server, "addr", "add", server_host() + "/24", "dev", Device(End::kServer)}));
  PASSBAND_RETURN_IF_ERROR(
      Ip({"-n", worker, "addr", "add", worker_host() + "/24", "dev", Device(End::kWorker)}));
  for (const End end : {End::kServer, End::kWorker}) {
    PASSBAND_RETURN_IF_ERROR(Ip({"-n", Name(end), "link", "set", "lo", "up"}));
    PASSBAND_RETURN_IF_ERROR(Plug(end));
  }
  for (const End end : {End::kServer, End::kWorker}) PASSBAND_RETURN_IF_ERROR(AwaitUp(end));
  return OkStatus();
}

// The kernel takes a moment; UCX does not see an interface before.
Status Network::AwaitUp(End end) const {
  const std::string state = "/sys/class/net/" + Device(end) + "/operstate";
  Status up;
  for (int attempt = 0; attempt < 100; ++attempt) {
    up = RunAt(end, {"grep", "-q", "up", state});
    if (up.ok()) return up;
    ::poll(nullptr, 0, 50);
  }
  return up;
}

std::vector<std::string> Network::Launcher(End end) const {
  return {"ip", "netns", "exec", Name(end)};
}

Status Network::RunAt(End end, const std::vector<std::string>& words) const {
  std::vector<std::string> all = {"netns", "exec", Name(end)};
  all.insert(all.end(), words.begin(), words.end());
  return Ip(std::move(all));
}

Status Network::Move(const std::string& device, End end, const std::string& name) const {
  return Ip({"link", "set", device, "netns", Name(end), "name", name});
}

Status Network::Enter(End end) const {
  const int fd = ::open(("/run/netns/" + Name(end)).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) {
    return Error(StatusCode::kFailedPrecondition, "setns: {}", std::strerror(errno));
  }
  ::close(fd);
  // Interfaces are looked up there.
  if (::mount("none", "/sys", "sysfs", 0, nullptr) != 0) {
    return Error(StatusCode::kFailedPrecondition, "/sys: {}", std::strerror(errno));
  }
  return OkStatus();
}

Status Network::Pull(End end) { return Ip({"-n", Name(end), "link", "set", Device(end), "down"}); }
Status Network::Plug(End end) { return Ip({"-n", Name(end), "link", "set", Device(end), "up"}); }

Network::~Network() {
  for (const End end : {End::kServer, End::kWorker}) Ip({"netns", "del", Name(end)}).IgnoreError();
}

}  // namespace passband::test
