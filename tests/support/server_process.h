// ServerProcess: a passband-server of a test or a benchmark, in a process of its own.
//
// Units      seconds.
// Threads    one at a time.
// Ownership  the destructor kills the process and removes its files.
// Errors     kUnavailable with the server's log when it does not become ready.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::test {

class ServerProcess {
 public:
  struct Options {
    std::string binary;
    std::vector<std::string> flags;     // Beside host and ports.
    std::vector<std::string> launcher;  // A program that ends in exec: ip netns exec NAME
    std::string host = "127.0.0.1";
    uint16_t control_port = 0;  // 0: any free one
    uint16_t data_port = 0;
    uint16_t http_port = 0;
    std::optional<int> cpu;  // Runs on this core only.
    std::chrono::seconds ready_timeout{60};
  };

  // Starts it, on free ports of the loopback interface unless told otherwise, and waits
  // until it is ready.
  static StatusOr<std::unique_ptr<ServerProcess>> Start(const Options& options);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& control_address() const { return control_address_; }
  uint16_t control_port() const { return control_port_; }
  uint16_t data_port() const { return data_port_; }
  uint16_t http_port() const { return http_port_; }
  pid_t pid() const { return pid_; }

  // SIGKILL; returns when the process is gone.
  void Kill();
  // SIGTERM; returns the exit status, or -1 when a signal ended it.
  int Stop();
  // SIGSTOP; returns when the process stands still: true, or has ended.
  bool Pause();
  // SIGCONT.
  void Resume();

  // What it wrote so far.
  std::string Log() const;

 private:
  ServerProcess() = default;
  Status Spawn(const Options& options);
  Status AwaitReady(std::chrono::seconds timeout);
  Status ReadReadyFile();

  std::string folder_;
  pid_t pid_ = -1;
  int inotify_ = -1;
  std::string control_address_;
  uint16_t control_port_ = 0;
  uint16_t data_port_ = 0;
  uint16_t http_port_ = 0;
};

}  // namespace passband::test
