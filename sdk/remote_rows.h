// FetchRows, RangeRows: answers on their way from a server (PendingRows).
//
// FetchRows glues the parts of a fetch that was larger than the server answers at
// once: every part is received at its place in one landing buffer.
//
// RangeRows reads a token range of every kv head in windows of tokens, four under
// way at a time. The result is [kv_head][count][item]; a window's reply is
// [kv_head][window][item], so it takes one copy for each kv head, of
// window * item bytes: long runs, whatever the number of tokens. A range of one
// window, or of one kv head, is received in place. Windows after the first four
// are asked for in Wait() and Ready(), each with a deadline of its own.
//
// Threads    one at a time.
// Ownership  keep their channel and their memory; destroyed early, they leave the
//            memory with the calls until those are over.
// Errors     as data_channel.h.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "sdk/data_channel.h"
#include "sdk/kv_service.h"
#include "sdk/landing_pool.h"

namespace passband {

// TrafficStats, counted by many threads.
struct TrafficCounters {
  std::atomic<uint64_t> fetch_requests{0};
  std::atomic<uint64_t> fetched_rows{0};
  std::atomic<uint64_t> fetched_bytes{0};
  std::atomic<uint64_t> appended_bytes{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> slice_bytes{0};
  std::atomic<uint64_t> fetch_wait_nanoseconds{0};

  TrafficStats Snapshot() const;
};

struct TransferOptions {
  std::shared_ptr<DataChannel> channel;
  std::shared_ptr<LandingPool> pool;
  std::shared_ptr<TrafficCounters> traffic;
  std::chrono::milliseconds timeout{};
  bool checksum = false;
};

std::unique_ptr<PendingRows> FailedRows(Status status);

// `report` travels in the header of the first part.
std::unique_ptr<PendingRows> StartRemoteFetch(const TransferOptions& options,
                                              const FetchRequest& request,
                                              const SelectionReport& report);

struct RangePlan {
  RangeRequest range;
  uint32_t kv_heads = 0;
  uint32_t item_bytes = 0;  // A row's or a slice's.
  // With a value, slices of this profile; else rows.
  std::optional<uint64_t> profile;
};
std::unique_ptr<PendingRows> StartRemoteRange(const TransferOptions& options,
                                              const RangePlan& plan);

}  // namespace passband
