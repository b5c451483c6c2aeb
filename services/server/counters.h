// Counters: what the server counts while it works, and the sums over its threads.
//
// Each data thread has its own ThreadCounters, so that counting costs it no cache line of
// another's; readers add them up when somebody asks. Names are probe.h's.
//
// Units    in the names; times in seconds where floating, nanoseconds where whole.
// Threads  safe; relaxed atomics. A reader may see a request's count before its bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"

namespace passband::server {

class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void Subtract(uint64_t n = 1) { value_.fetch_sub(n, std::memory_order_relaxed); }
  void Set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Upper bounds in seconds; one more bucket holds what is longer.
inline constexpr std::array<double, 18> kSecondsBuckets = {5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4,
                                                           5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
                                                           5e-2, 0.1,  0.25,   0.5,  1,    2.5};

struct SecondsHistogram {
  void Observe(double seconds);

  std::array<Counter, kSecondsBuckets.size() + 1> buckets;
  Counter sum_nanoseconds;
};

enum class Method : uint8_t { kFetch, kAppend, kSlices, kRead };
inline constexpr size_t kMethods = 4;
const char* Name(Method method);

enum class Transport : uint8_t { kShm, kTcp, kRdma, kSelf, kGrpc, kGrpcTls, kUnknown };
inline constexpr size_t kTransports = 7;
const char* Name(Transport transport);
// By the name that the transport layer uses.
Transport TransportOf(const std::string& name);

// Why a message was not served, or a connection ended, without a request to blame.
enum class TransportError : uint8_t {
  kMalformed,       // not a message of ours
  kUnknownSession,  // nobody we know, or no connection to answer over
  kWrongMac,
  kStaleEpoch,  // of another start of the server
  kConnectFailed,
  kConnectionLost,
  kStuckPeer,         // does not take its replies
  kWrongCertificate,  // not the one that opened the session
  kReplayed,          // its request id was used before
};
inline constexpr size_t kTransportErrors = 9;
const char* Name(TransportError error);

inline constexpr size_t kResults = 17;  // the status codes
// "ok", "not_found", ...
const char* ResultName(StatusCode code);

template <typename Enum>
constexpr size_t Index(Enum value) {
  return static_cast<size_t>(value);
}

struct RequestCounters {
  void Record(StatusCode code, double duration_seconds);
  uint64_t total() const;

  std::array<Counter, kResults> results;
  SecondsHistogram seconds;
};

// What workers report of their attention.
struct SelectionCounters {
  // Reports are a stranger's numbers; absurd ones are cut.
  void Add(uint64_t selected, uint64_t hot, uint64_t full_bytes);

  Counter selected_rows;
  Counter hot_rows;
  Counter full_attention_bytes;
};

struct alignas(64) ThreadCounters {
  RequestCounters& request(Method method, Transport transport) {
    return requests[Index(method)][Index(transport)];
  }
  const RequestCounters& request(Method method, Transport transport) const {
    return requests[Index(method)][Index(transport)];
  }

  std::array<std::array<RequestCounters, kTransports>, kMethods> requests;
  std::array<Counter, kMethods> rows;
  std::array<Counter, kTransports> fetched_bytes;
  std::array<Counter, kTransports> appended_bytes;
  Counter slice_bytes;
  Counter read_bytes;
  SelectionCounters selection;
  std::array<Counter, kTransports> connections;  // now open
  std::array<Counter, kTransportErrors> errors;
  Counter staging_capacity_bytes;
  Counter staging_used_bytes;  // now
};

class Counters {
 public:
  explicit Counters(size_t data_threads);

  ThreadCounters& thread(size_t i) { return *threads_[i]; }
  const std::vector<std::unique_ptr<ThreadCounters>>& threads() const { return threads_; }
  // What came by heartbeat.
  SelectionCounters& heartbeats() { return heartbeats_; }

  struct Totals {
    uint64_t requests = 0;
    uint64_t failed_requests = 0;
    uint64_t fetched_rows = 0;
    uint64_t fetched_bytes = 0;
    uint64_t appended_bytes = 0;
    uint64_t slice_bytes = 0;
    uint64_t read_bytes = 0;
    uint64_t selected_rows = 0;
    uint64_t hot_rows = 0;
    uint64_t full_attention_bytes = 0;
    std::array<uint64_t, kMethods> by_method{};
    std::array<uint64_t, kTransports> connections{};
  };
  Totals Sum() const;

 private:
  std::vector<std::unique_ptr<ThreadCounters>> threads_;
  SelectionCounters heartbeats_;
};

}  // namespace passband::server
