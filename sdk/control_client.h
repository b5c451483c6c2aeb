// ControlClient: the control plane of one passband-server, as plain calls.
//
// Every call has a deadline and carries the session once there is one.
//
// Threads    safe.
// Ownership  owns the channel; the destructor cancels a heartbeat under way.
// Errors     what the server answered, with its address and what to do about it;
//            kUnavailable when it cannot be reached, kUnauthenticated when it no
//            longer knows the session (expired, or the server was restarted).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "base/status.h"
#include "sdk/grpc_channel.h"
#include "sdk/kv_service.h"
#include "sdk/row_shape.h"

namespace passband {

// What the data plane needs of a session.
struct SessionInfo {
  uint64_t session = 0;
  MacKey secret{};
  uint64_t epoch = 0;  // another one with every start of the server
  std::string node;    // what it is called among several; empty: it does not say
  std::string tenant;  // the session's; empty: it does not say
  std::chrono::milliseconds lease{};
  // Where rows come from: UCX's address (empty: not served), gRPC.
  std::vector<std::byte> data_address;
  bool data_grpc = false;
  uint64_t max_reply_bytes = 0;
  uint32_t max_rows = 0;
  uint32_t max_outstanding = 0;
};

class ControlClient {
 public:
  struct Options {
    GrpcTarget target;
    std::string tenant;
    std::string client;
    std::chrono::milliseconds connect_timeout{5000};
    std::chrono::milliseconds call_timeout{5000};
  };

  explicit ControlClient(const Options& options);
  ~ControlClient();
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  // Starts the session that later calls carry. Once, before any other call.
  StatusOr<SessionInfo> Connect();
  Status Disconnect(std::chrono::milliseconds timeout);
  // Asks whether the server is there and knows the session.
  Status Ping();
  // Starts one in the background, unless one is under way; `on_failure` runs on a
  // thread of gRPC's.
  void Heartbeat(const SelectionReport& report, std::function<void(const Status&)> on_failure);

  Status RegisterModel(const ModelInfo& model);
  // The shape of a registered model; kNotFound when there is none.
  StatusOr<RowShape> FindModel(const std::string& fingerprint);
  StatusOr<uint64_t> RegisterProfile(const std::string& json);

  StatusOr<OpenedSequence> Open(const OpenParams& params);
  StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens);
  Status Extend(SequenceId sequence, uint64_t first, std::span<const uint32_t> token_ids);
  Status Truncate(SequenceId sequence, uint64_t tokens);
  Status Seal(SequenceId sequence);
  Status Pin(SequenceId sequence, std::chrono::milliseconds time);
  Status Unpin(SequenceId sequence);
  Status Close(SequenceId sequence);
  StatusOr<SequenceStat> Stat(SequenceId sequence);
  StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit);
  StatusOr<uint64_t> Lookup(const std::string& model, std::span<const uint32_t> token_ids);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
