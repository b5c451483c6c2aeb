// passband-server: keeps keys and values in RAM and serves them to workers.
#include <csignal>
#include <iostream>

#include "base/log.h"
#include "services/server/server.h"
#include "services/server/settings.h"

namespace {

using passband::Message;
using passband::StatusCode;

constexpr int kUsageError = 2;
constexpr int kStartError = 1;

// Threads started later inherit the mask, so that only WaitForSignal sees them.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

}  // namespace

int main(int argc, char** argv) {
  const auto settings = passband::server::LoadSettings(argc, argv);
  if (settings.status().code() == StatusCode::kCancelled) return 0;
  if (!settings.ok()) {
    std::cerr << Message(settings.status()) << "\n";
    return kUsageError;
  }
  const sigset_t signals = BlockStopSignals();
  const auto logging = passband::log::Configure(settings->log_level, settings->log_format);
  if (!logging.ok()) {
    std::cerr << Message(logging) << "\n";
    return kUsageError;
  }
  auto server = passband::server::Server::Start(*settings);
  if (!server.ok()) {
    std::cerr << "passband-server cannot start: " << Message(server.status()) << "\n";
    return kStartError;
  }
  int signal = 0;
  sigwait(&signals, &signal);
  passband::log::Info("stopping", {{"signal", signal}});
  (*server)->Stop();
  return 0;
}
