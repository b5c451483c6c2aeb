#include "services/server/counters.h"

#include <algorithm>
#include <string>

namespace passband::server {
namespace {

// More rows or bytes than a report can honestly hold.
constexpr uint64_t kMaxReport = uint64_t{1} << 44;

}  // namespace

void SecondsHistogram::Observe(double seconds) {
  const auto bound = std::lower_bound(kSecondsBuckets.begin(), kSecondsBuckets.end(), seconds);
  buckets[static_cast<size_t>(bound - kSecondsBuckets.begin())].Add();
  sum_nanoseconds.Add(static_cast<uint64_t>(std::max(seconds, 0.0) * 1e9));
}

const char* Name(Method method) {
  static constexpr const char* kNames[kMethods] = {"fetch", "append", "slices", "read"};
  return kNames[Index(method)];
}

const char* Name(Transport transport) {
  static constexpr const char* kNames[kTransports] = {"shm",  "tcp",      "rdma",   "self",
                                                      "grpc", "grpc+tls", "unknown"};
  return kNames[Index(transport)];
}

Transport TransportOf(const std::string& name) {
  for (size_t i = 0; i < kTransports; ++i) {
    if (name == Name(static_cast<Transport>(i))) return static_cast<Transport>(i);
  }
  return Transport::kUnknown;
}

const char* Name(TransportError error) {
  static constexpr const char* kNames[kTransportErrors] = {
      "malformed",       "unknown_session", "wrong_mac",         "stale_epoch", "connect_failed",
      "connection_lost", "stuck_peer",      "wrong_certificate", "replayed"};
  return kNames[Index(error)];
}

const char* ResultName(StatusCode code) {
  static constexpr const char* kNames[kResults] = {"ok",
                                                   "cancelled",
                                                   "unknown",
                                                   "invalid_argument",
                                                   "deadline_exceeded",
                                                   "not_found",
                                                   "already_exists",
                                                   "permission_denied",
                                                   "resource_exhausted",
                                                   "failed_precondition",
                                                   "aborted",
                                                   "out_of_range",
                                                   "unimplemented",
                                                   "internal",
                                                   "unavailable",
                                                   "data_loss",
                                                   "unauthenticated"};
  const auto index = static_cast<size_t>(code);
  return kNames[index < kResults ? index : Index(StatusCode::kUnknown)];
}

void RequestCounters::Record(StatusCode code, double duration_seconds) {
  const auto index = static_cast<size_t>(code);
  results[index < kResults ? index : Index(StatusCode::kUnknown)].Add();
  seconds.Observe(duration_seconds);
}

uint64_t RequestCounters::total() const {
  uint64_t sum = 0;
  for (const Counter& result : results) sum += result.value();
  return sum;
}

void SelectionCounters::Add(uint64_t selected, uint64_t hot, uint64_t full_bytes) {
  selected_rows.Add(std::min(selected, kMaxReport));
  hot_rows.Add(std::min(hot, kMaxReport));
  full_attention_bytes.Add(std::min(full_bytes, kMaxReport));
}

Counters::Counters(size_t data_threads) {
  for (size_t i = 0; i < data_threads; ++i) threads_.push_back(std::make_unique<ThreadCounters>());
}

Counters::Totals Counters::Sum() const {
  Totals out;
  const auto add_selection = [&out](const SelectionCounters& selection) {
    out.selected_rows += selection.selected_rows.value();
    out.hot_rows += selection.hot_rows.value();
    out.full_attention_bytes += selection.full_attention_bytes.value();
  };
  add_selection(heartbeats_);
  for (const auto& thread : threads_) {
    add_selection(thread->selection);
    out.fetched_rows += thread->rows[Index(Method::kFetch)].value();
    out.slice_bytes += thread->slice_bytes.value();
    out.read_bytes += thread->read_bytes.value();
    for (size_t t = 0; t < kTransports; ++t) {
      out.fetched_bytes += thread->fetched_bytes[t].value();
      out.appended_bytes += thread->appended_bytes[t].value();
      out.connections[t] += thread->connections[t].value();
      for (size_t m = 0; m < kMethods; ++m) {
        const RequestCounters& request = thread->requests[m][t];
        const uint64_t total = request.total();
        out.by_method[m] += total;
        out.requests += total;
        out.failed_requests += total - request.results[0].value();
      }
    }
  }
  return out;
}

}  // namespace passband::server
