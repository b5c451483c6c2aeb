// KvService: what a worker asks of the service that stores keys and values.
//
// Three implementations with the same behaviour, byte for byte: RemoteService
// (gRPC and, mostly, UCX; sdk/remote_service.h), ClusterService (several of those;
// sdk/cluster/) and EmbeddedService (a store in this process, sdk/embedded/). One
// contract test runs over all.
//
// Units      lengths and indices in tokens.
// Threads    safe. One sequence has one appending thread at a time.
// Ownership  a PendingRows owns the memory its rows land in.
// Errors     as store.h names them, and kUnavailable (service gone),
//            kDeadlineExceeded (no answer in time), kUnauthenticated (session
//            expired). A call never waits longer than its deadline.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "kernels/types.h"
#include "profile/profile.h"

namespace passband {

// The part of a model that the service needs to know.
struct ModelInfo {
  ModelFingerprint fingerprint;
  std::string name;
  uint32_t layers = 0;
  uint32_t query_heads = 0;
  uint32_t kv_heads = 0;
  kernels::HeadShape head;

  uint32_t group() const { return query_heads / kv_heads; }
  uint64_t token_bytes() const { return uint64_t{layers} * kv_heads * head.row_bytes(); }
};

struct OpenParams {
  std::string model;  // ModelFingerprint::text() of a registered model
  std::vector<uint32_t> token_ids;
  bool share_prefix = true;
  uint64_t max_tokens = 0;
  // Closed when nobody used it for so long, sealed or not; zero: as the service is set up.
  std::chrono::milliseconds ttl{};
};

struct OpenedSequence {
  SequenceId id;
  uint64_t matched_tokens = 0;  // multiple of 64
};

struct SequenceStat {
  SequenceId id;
  std::string tenant;
  std::string model;
  bool sealed = false;
  uint64_t committed_tokens = 0;
  uint64_t known_tokens = 0;
  uint64_t shared_tokens = 0;
  uint64_t resident_bytes = 0;
  double idle_seconds = 0;
  std::chrono::milliseconds ttl{};         // zero: none
  std::chrono::milliseconds pinned_for{};  // zero: it is not
};

// Rows wanted of one (sequence, layer, kv head).
struct FetchGroup {
  SequenceId sequence;
  uint32_t layer = 0;
  uint32_t kv_head = 0;
  std::span<const uint32_t> tokens;
};

// What selection did since the last report; summed by the service's metrics.
struct SelectionReport {
  uint64_t selected_rows = 0;
  uint64_t hot_rows = 0;  // of these, held by the worker already
  uint64_t full_attention_bytes = 0;
};

struct FetchRequest {
  std::span<const FetchGroup> groups;  // read before StartFetch returns
  uint32_t row_bytes = 0;
  SelectionReport report;
};

// An answer on its way. Destroyed before it came, it is abandoned safely.
class PendingRows {
 public:
  virtual ~PendingRows() = default;
  virtual bool Ready() = 0;
  // Waits within the request's deadline. The bytes, in the order asked for,
  // live as long as this object. Exactly the bytes asked for, or an error.
  virtual StatusOr<std::span<const std::byte>> Wait() = 0;
};

struct AppendRequest {
  SequenceId sequence;
  uint32_t layer = 0;
  uint64_t first_token = 0;
  uint32_t count = 0;               // within one block of 64 tokens
  std::span<const std::byte> rows;  // [kv_head][count][row_bytes]
};

struct RangeRequest {
  SequenceId sequence;
  uint32_t layer = 0;
  uint64_t first_token = 0;
  uint64_t count = 0;
};

// What a client saw of its service, for tables and logs.
struct TrafficStats {
  uint64_t fetch_requests = 0;
  uint64_t fetched_rows = 0;
  uint64_t fetched_bytes = 0;
  uint64_t appended_bytes = 0;
  uint64_t read_bytes = 0;
  uint64_t slice_bytes = 0;
  double fetch_wait_seconds = 0;
};

class KvService {
 public:
  virtual ~KvService() = default;

  virtual Status RegisterModel(const ModelInfo& model) = 0;
  virtual StatusOr<OpenedSequence> Open(const OpenParams& params) = 0;
  virtual StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens) = 0;
  virtual Status Extend(SequenceId sequence, uint64_t first,
                        std::span<const uint32_t> token_ids) = 0;
  virtual Status Truncate(SequenceId sequence, uint64_t tokens) = 0;
  virtual Status Seal(SequenceId sequence) = 0;
  // Keeps a sealed sequence, and its rows in RAM, for a time (zero: an hour), whatever becomes of
  // this client; the tenant's limit of pinned bytes permitting (kResourceExhausted). Renews a pin.
  virtual Status Pin(SequenceId sequence, std::chrono::milliseconds time) = 0;
  virtual Status Unpin(SequenceId sequence) = 0;
  virtual Status Close(SequenceId sequence) = 0;
  virtual StatusOr<SequenceStat> Stat(SequenceId sequence) = 0;
  virtual StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit) = 0;
  virtual StatusOr<uint64_t> Lookup(const std::string& model,
                                    std::span<const uint32_t> token_ids) = 0;

  // One request for many sequences, layers and heads. Larger ones than the
  // service answers at once are split inside.
  virtual std::unique_ptr<PendingRows> StartFetch(const FetchRequest& request) = 0;
  // Every kv head's rows of a token range: [kv_head][count][row_bytes].
  virtual std::unique_ptr<PendingRows> StartRead(const RangeRequest& request) = 0;
  // Every kv head's slices of a token range, cut by the service:
  // [kv_head][count][slice_bytes]. The profile is registered when first used.
  virtual std::unique_ptr<PendingRows> StartSlices(
      const RangeRequest& request, const std::shared_ptr<const Profile>& profile) = 0;

  // Sends rows behind the caller's back; `rows` is copied before it returns.
  // A failure shows in Flush, and in every later Append of the sequence.
  virtual Status Append(const AppendRequest& request) = 0;
  // Waits until everything appended to the sequence so far is stored.
  virtual Status Flush(SequenceId sequence) = 0;
  // Adds to the numbers that the next request carries to the service.
  virtual void Report(const SelectionReport& report) = 0;

  virtual TrafficStats traffic() const = 0;
  // "shm", "tcp", "rdma", "grpc", "grpc+tls" or "embedded": what really carries the rows.
  virtual std::string transport() const = 0;
};

}  // namespace passband
