// OperatorClient: what whoever runs a passband-server asks of it: how it is, what every tenant
// keeps there, and to drain it. Metadata only; it reaches no rows and needs no session.
//
// Units      bytes, tokens, seconds.
// Threads    safe. Every call has a deadline.
// Ownership  owns the channel.
// Errors     kUnavailable      the server cannot be reached
//            kDeadlineExceeded it did not answer in time
//            kPermissionDenied this is no operator of it: its --operators says who is (Info is for all)
//            kNotFound         no such sequence
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tls_files.h"
#include "sdk/kv_service.h"

namespace passband {

struct ServerInfo {
  std::string version;
  double uptime_seconds = 0;
  bool draining = false;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;    // cached ones included
  uint64_t cached_bytes = 0;  // prefixes that no sequence holds
  uint64_t sessions = 0;
  uint64_t sequences_open = 0;
  uint64_t sequences_sealed = 0;
  uint64_t stored_tokens = 0;
  uint64_t prefix_lookup_tokens = 0;
  uint64_t prefix_hit_tokens = 0;
  uint64_t fetched_rows = 0;
  uint64_t fetched_bytes = 0;
  uint64_t selected_rows = 0;
  uint64_t hot_rows = 0;
  uint64_t full_attention_bytes = 0;
  std::vector<std::string> transports;  // of the data connections now open
  std::string http_address;             // host:port as the server knows itself
};

// A registered model, as the protocol names its parts.
struct ModelSummary {
  std::string fingerprint;
  std::string name;
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t rotary_dim = 0;
  std::string dtype;
  std::string rope_layout;
  uint64_t token_bytes = 0;  // keys and values of one token, all layers
};

struct SequencePage {
  std::vector<SequenceStat> sequences;
  std::vector<ModelSummary> models;  // those that the sequences are of
  bool more = false;
};

struct SequenceOwner {
  uint64_t session = 0;
  std::string client;
  bool connection_lost = false;
};

struct SequenceDetail {
  SequenceStat stat;
  ModelSummary model;
  std::optional<SequenceOwner> owner;  // none: its session has ended
};

class OperatorClient {
 public:
  struct Options {
    std::string address;      // host:port
    TlsTexts tls;             // all empty: no encryption
    std::string server_name;  // as the server's certificate has it; empty: the address's host
    std::chrono::milliseconds timeout{5000};
  };

  explicit OperatorClient(const Options& options);
  ~OperatorClient();
  OperatorClient(const OperatorClient&) = delete;
  OperatorClient& operator=(const OperatorClient&) = delete;

  StatusOr<ServerInfo> Info();
  // In the order of their ids, those after `after`; of all tenants when `tenant` is empty. The
  // server may give fewer than `limit`, and says whether there are more.
  StatusOr<SequencePage> List(const std::string& tenant, SequenceId after, uint32_t limit);
  StatusOr<SequenceDetail> Inspect(SequenceId sequence);
  // No new sessions and sequences from now on. Asking twice is no error.
  Status Drain();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace passband
