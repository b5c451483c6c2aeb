// PeerProcess: a foreign server on one core, with a folder of its own.
//
// Threads    one at a time.
// Ownership  the destructor kills the process and removes the folder.
// Errors     kUnavailable: it does not start, or does not listen in time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::bench {

class PeerProcess {
 public:
  struct Place {
    std::string folder;
    uint16_t port = 0;  // A free one; the process may find it taken.
    std::string socket() const { return folder + "/socket"; }
  };
  // `words` makes the command line. Listening on the port or on the socket is ready.
  static StatusOr<std::unique_ptr<PeerProcess>> Start(
      const std::function<std::vector<std::string>(const Place&)>& words, bool tcp);
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  const Place& place() const { return place_; }

 private:
  PeerProcess() = default;
  Status Spawn(std::vector<std::string> words);
  Status AwaitListening(bool tcp) const;

  Place place_;
  pid_t pid_ = -1;
};

}  // namespace passband::bench
