#include "services/console/interruption.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/status.h"

namespace passband {

Interruption::Interruption() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
  fd_ = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  PASSBAND_CHECK(fd_ >= 0);
}

Interruption::~Interruption() {
  signalfd_siginfo info;
  while (::read(fd_, &info, sizeof(info)) > 0) {
  }
  ::close(fd_);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool Interruption::Within(std::chrono::milliseconds time) const {
  pollfd entry{fd_, POLLIN, 0};
  const int64_t most = std::numeric_limits<int>::max();
  return ::poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(time.count(), 0, most))) > 0;
}

}  // namespace passband
