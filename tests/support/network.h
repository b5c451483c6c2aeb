// Network: two hosts on one machine, joined by a cable that can be pulled: two network
// namespaces and a veth pair. Made with ip(8), so it takes root; where it cannot be made,
// everything runs on the loopback interface and nothing can be partitioned. Call OwnMounts()
// (mounts.h) first, and nothing is left behind, whatever ends the process.
//
// Threads    one at a time.
// Ownership  the destructor removes the namespaces.
// Errors     kFailedPrecondition says what is missing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::test {

class Network {
 public:
  enum class End { kServer, kWorker };

  static StatusOr<std::unique_ptr<Network>> Create();
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // The words that start a program at this end.
  std::vector<std::string> Launcher(End end) const;
  // Moves this thread, and those it starts, to this end. Needs OwnMounts().
  Status Enter(End end) const;
  // The interface at this end.
  std::string Device(End end) const { return end == End::kServer ? "pbserver" : "pbworker"; }
  std::string server_host() const { return "10.91.0.1"; }
  std::string worker_host() const { return "10.91.0.2"; }

  // Runs a program at this end, to its end.
  Status RunAt(End end, const std::vector<std::string>& words) const;
  // Moves an interface of this machine to this end, under another name.
  Status Move(const std::string& device, End end, const std::string& name) const;

  // Takes the interface at this end down: this end sees errors, the other only silence.
  Status Pull(End end);
  Status Plug(End end);

 private:
  explicit Network(std::string suffix) : suffix_(std::move(suffix)) {}
  std::string Name(End end) const;
  Status Build();
  Status AwaitUp(End end) const;

  const std::string suffix_;
};

}  // namespace passband::test
