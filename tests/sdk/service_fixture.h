// What tests of the service share: a small model, rows with known content, and the
// ways to reach a service.
//
// Threads  one at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "profile/profile.h"
#include "sdk/cluster/cluster_service.h"
#include "sdk/kv_service.h"
#include "sdk/remote_service.h"
#include "tests/support/certificates.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband::test {

// 3 layers, 2 kv heads, rows of 128 bytes: a block is 16 KiB.
ModelInfo SmallModel();
// Six chunks a head, chosen and measured at random, for SmallModel().
std::shared_ptr<const Profile> SmallProfile(std::mt19937_64& random);

// What was appended to a sequence: [layer][kv_head] -> rows, one after the other.
class ExpectedRows {
 public:
  ExpectedRows(const ModelInfo& model, uint64_t seed) : model_(model), random_(seed) {}

  // Makes `count` new rows of every kv head, as Append wants them.
  std::vector<std::byte> Grow(uint32_t layer, uint32_t count);
  void Truncate(uint64_t tokens);
  uint64_t length(uint32_t layer) const;
  std::span<const std::byte> Row(uint32_t layer, uint32_t kv_head, uint64_t token) const;
  // [kv_head][count][row_bytes]
  std::vector<std::byte> Range(uint32_t layer, uint64_t first, uint64_t count) const;
  // [kv_head][count][slice_bytes]
  std::vector<std::byte> Slices(const Profile& profile, uint32_t layer, uint64_t first,
                                uint64_t count) const;

 private:
  ModelInfo model_;
  std::mt19937_64 random_;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<std::byte>> rows_;
};

// Appends tokens [length, tokens) of every layer in random pieces, and flushes.
Status AppendUpTo(KvService& service, const ModelInfo& model, SequenceId sequence,
                  ExpectedRows& rows, uint64_t tokens, std::mt19937_64& random);

// kCluster: three servers, over shared memory.
enum class Way { kEmbedded, kShm, kTcp, kGrpc, kMtls, kCluster };
std::string WayName(Way way);

struct ServiceSetup {
  uint64_t ram_bytes = 64 << 20;
  std::vector<std::string> server_flags;
  RemoteOptions remote;
};

// A service, and what it needs to run.
class ServiceUnderTest {
 public:
  // Fails the test when it cannot be started.
  void Start(Way way, ServiceSetup setup = {});
  KvService& operator*() { return *service_; }
  KvService* operator->() { return service_.get(); }
  // Null when embedded.
  ServerProcess* server() { return server_.get(); }
  RemoteService* remote() { return dynamic_cast<RemoteService*>(service_.get()); }
  // Another client of the same service.
  StatusOr<std::unique_ptr<KvService>> Connect(const std::string& tenant);
  StatusOr<std::unique_ptr<RemoteService>> ConnectRemote();
  // Starts the server anew, on the same control port.
  void RestartServer();
  void StopServer() { server_.reset(); }
  void Disconnect() { service_.reset(); }
  void Use(std::unique_ptr<KvService> service) { service_ = std::move(service); }

 private:
  void StartCluster();
  ClusterOptions ClusterOf(const std::string& tenant) const;
  // The server demands certificates; every client has its tenant's.
  void SecureWithTls();
  TlsFiles CertificateOf(const std::string& tenant) const;

  TempFolder folder_;
  std::unique_ptr<CertificateAuthority> authority_;  // null: no TLS
  ServerProcess::Options server_options_;
  std::unique_ptr<ServerProcess> server_;
  std::vector<std::unique_ptr<ServerProcess>> cluster_;
  RemoteOptions remote_;
  std::unique_ptr<KvService> service_;
};

}  // namespace passband::test
