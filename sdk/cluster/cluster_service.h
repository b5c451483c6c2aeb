// ClusterService: KvService over one or several passband-servers.
//
// A sequence is opened on the first available server of its order (placement.h), and stays there:
// every call about it goes to that server, a fetch for many sequences to all of theirs at once.
// Connections are kept by themselves (peer.h). Of a server that is gone:
//   * new sequences go to the next server of their order;
//   * its sequences are lost: kNotFound. Open them again, with their token ids, and append the
//     rows that the answer says are missing; what another sequence stored of the same prefix
//     need not be computed;
//   * while it does not answer but its connection stands, calls about its sequences are
//     kUnavailable at once, with the time after which it is asked again.
// Sealed sequences survive their server's restart, but not under the ids of a lost connection:
// open them again, by their tokens.
//
// Threads    safe.
// Ownership  owns the connections; PendingRows may outlive it. The destructor waits for attempts
//            to connect that are under way.
// Errors     kv_service.h, and as above. No call waits longer than its server's own deadline, but
//            Open: for each server that it tries, and `open_wait`.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "sdk/cluster/circuit_breaker.h"
#include "sdk/cluster/server_list.h"
#include "sdk/kv_service.h"
#include "sdk/remote_service.h"

namespace passband {

struct ClusterOptions {
  std::string servers;   // server_list.h
  RemoteOptions remote;  // of each; its address is not used
  CircuitBreaker::Options breaker;
  // How long Connect and Open wait for a server when none is available.
  std::chrono::milliseconds open_wait{0};
  // Connect goes on with those that answered until then.
  std::chrono::milliseconds settle{1000};
  std::chrono::milliseconds check_every{1000};
  std::chrono::milliseconds refresh{30'000};  // of names
  Resolver resolver;                          // none: the system's
};

// What a client knows of one server, for tables and metrics.
struct ServerStatus {
  std::string address;
  std::string name;  // what it calls itself, or the address
  CircuitBreaker::State circuit = CircuitBreaker::State::kOpen;
  bool available = false;
  uint64_t epoch = 0;  // of its last known run
  std::string why;     // it is not available
  uint64_t openings = 0;
  uint64_t connections = 0;
  uint64_t lost_connections = 0;
  uint64_t opened_first = 0;  // sequences that belong there
  uint64_t opened_later = 0;  // that belong to a server which was not available
};

class ClusterService final : public KvService {
 public:
  // kUnavailable when no server can be reached; of a single one its own error.
  static StatusOr<std::unique_ptr<ClusterService>> Connect(const ClusterOptions& options);
  ~ClusterService() override;

  Status RegisterModel(const ModelInfo& model) override;
  StatusOr<OpenedSequence> Open(const OpenParams& params) override;
  StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens) override;
  Status Extend(SequenceId sequence, uint64_t first, std::span<const uint32_t> token_ids) override;
  Status Truncate(SequenceId sequence, uint64_t tokens) override;
  Status Seal(SequenceId sequence) override;
  Status Pin(SequenceId sequence, std::chrono::milliseconds time) override;
  Status Unpin(SequenceId sequence) override;
  // Of a lost one nothing is left to close: OK. While its server does not answer it is closed later.
  Status Close(SequenceId sequence) override;
  StatusOr<SequenceStat> Stat(SequenceId sequence) override;
  // Of the servers that are available, one after the other.
  StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit) override;
  // Asks the server where it would be opened.
  // Asks the server that an Open of these ids would go to; what was opened without its first
  // block and told later may lie on another.
  StatusOr<uint64_t> Lookup(const std::string& model, std::span<const uint32_t> token_ids) override;

  std::unique_ptr<PendingRows> StartFetch(const FetchRequest& request) override;
  std::unique_ptr<PendingRows> StartRead(const RangeRequest& request) override;
  std::unique_ptr<PendingRows> StartSlices(const RangeRequest& request,
                                           const std::shared_ptr<const Profile>& profile) override;

  Status Append(const AppendRequest& request) override;
  Status Flush(SequenceId sequence) override;
  void Report(const SelectionReport& report) override;

  TrafficStats traffic() const override;
  // Those of all connections, as in "shm+tcp".
  std::string transport() const override;

  // In the order of their addresses.
  std::vector<ServerStatus> Servers() const;
  // Where a sequence is, and what it is called there; kNotFound when it is lost.
  struct Place {
    std::string address;
    SequenceId id;
  };
  StatusOr<Place> Find(SequenceId sequence) const;

 private:
  struct Impl;
  explicit ClusterService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
