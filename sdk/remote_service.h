// RemoteService: KvService over the network: gRPC for who may reach what
// (control_client.h), UCX active messages or gRPC for rows (data_channel.h).
//
// A call on a sequence comes after the appends made before it: Fork, Truncate and
// Seal wait for them. Truncate also forgives a failed append: the sequence goes on
// from there. Rows that were not flushed when the service is destroyed are lost.
//
// Units      bytes, milliseconds.
// Threads    safe.
// Ownership  the destructor ends the session; PendingRows may outlive it.
// Errors     kv_service.h; once the connection is lost every call fails with
//            kUnavailable (or kUnauthenticated) and says to connect again: make a
//            new one.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tls_files.h"
#include "sdk/kv_service.h"

namespace passband {

struct RemoteOptions {
  std::string control_address;          // host:port
  std::string tenant;                   // Empty: the certificate's, or "default".
  std::string client = "passband-sdk";  // For people who look at the server.

  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds control_timeout{5000};
  std::chrono::milliseconds data_timeout{2000};  // Of one request for or with rows.
  // How long an append that the server's full RAM turned away is tried again.
  std::chrono::milliseconds append_retry_budget{10'000};
  std::chrono::milliseconds flush_timeout{60'000};

  // How rows travel: "ucx", "grpc", or "auto": UCX, unless the server has none or the
  // connection is encrypted.
  std::string data_plane = "auto";
  // Encrypts what travels over gRPC when a file is named. The certificate says whose
  // sequences these are.
  TlsFiles tls;
  std::string tls_server_name;  // As the server's certificate has it; empty: the host.

  // UCX's, as the server's --transports and --net-devices.
  std::string transports = "auto";
  std::string net_devices;
  bool cma = false;

  uint64_t landing_bytes = uint64_t{1} << 30;  // At most, for answers.
  uint64_t append_bytes = uint64_t{64} << 20;  // At most, on their way.
  uint32_t max_outstanding = 0;                // Requests; 0: what the server allows.
  bool verify_checksums = false;               // Of every answer.
  // How long a waiting thread polls before it sleeps.
  std::chrono::microseconds spin{200};
};

class RemoteService final : public KvService {
 public:
  static StatusOr<std::unique_ptr<RemoteService>> Connect(const RemoteOptions& options);
  ~RemoteService() override;

  Status RegisterModel(const ModelInfo& model) override;
  StatusOr<OpenedSequence> Open(const OpenParams& params) override;
  StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens) override;
  Status Extend(SequenceId sequence, uint64_t first, std::span<const uint32_t> token_ids) override;
  Status Truncate(SequenceId sequence, uint64_t tokens) override;
  Status Seal(SequenceId sequence) override;
  Status Pin(SequenceId sequence, std::chrono::milliseconds time) override;
  Status Unpin(SequenceId sequence) override;
  Status Close(SequenceId sequence) override;
  StatusOr<SequenceStat> Stat(SequenceId sequence) override;
  StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit) override;
  StatusOr<uint64_t> Lookup(const std::string& model, std::span<const uint32_t> token_ids) override;

  std::unique_ptr<PendingRows> StartFetch(const FetchRequest& request) override;
  std::unique_ptr<PendingRows> StartRead(const RangeRequest& request) override;
  std::unique_ptr<PendingRows> StartSlices(const RangeRequest& request,
                                           const std::shared_ptr<const Profile>& profile) override;

  Status Append(const AppendRequest& request) override;
  Status Flush(SequenceId sequence) override;
  void Report(const SelectionReport& report) override;

  TrafficStats traffic() const override;
  std::string transport() const override;

  // Why the connection was lost; OK while it is well.
  Status lost() const;
  // Asks whether the server is there and knows this session.
  Status Ping();
  // Of the server's run; another one after each start.
  uint64_t epoch() const;
  // control_client.h: SessionInfo.
  const std::string& node() const;
  const std::string& tenant() const;

  // Memory that answers hold, those that came too late included.
  uint64_t landing_bytes_in_use() const;
  // Requests whose reply has not come, given up or not.
  uint64_t outstanding() const;

 private:
  struct Impl;
  explicit RemoteService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
