// GrpcMailbox: what gRPC's threads, and others, hand to a data thread over gRPC.
//
// Threads    safe, but for Take, which is the data thread's.
// Ownership  shared by the data thread, and by replies that gRPC has not written yet.
// Errors     none of its own: Post says whether there was room.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "services/server/grpc_call.h"
#include "services/server/session.h"

namespace passband::server {

class GrpcMailbox {
 public:
  // Calls that may wait for the data thread to look at them.
  static constexpr size_t kMaxArrivals = 1024;

  // A call that has proved whose it is.
  struct Arrival {
    std::shared_ptr<GrpcCall> call;
    std::shared_ptr<Session> session;
    transport::RequestHeader header;
    Time time;
  };
  struct Mail {
    std::vector<Arrival> arrivals;
    std::vector<transport::Done> sent;
    std::vector<uint64_t> closed_sessions;
    std::vector<std::promise<void>> drains;
  };

  // False: too many wait, or the data thread has ended; `arrival` is left as it is.
  bool Post(Arrival& arrival);
  // The bytes of a reply are gRPC's no more.
  void Return(transport::Done done);
  void CloseSession(uint64_t session);
  std::future<void> Drain();
  void Wake();
  // Nothing is posted from here on.
  void Close();

  // What has come; waits for it for `longest` at most.
  Mail Take(Duration longest);

  // Replies whose bytes are gRPC's.
  void AddLent() { lent_.fetch_add(1, std::memory_order_relaxed); }
  void DropLent() { lent_.fetch_sub(1, std::memory_order_relaxed); }
  size_t lent() const { return lent_.load(std::memory_order_relaxed); }

 private:
  void NotifyLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  std::condition_variable_any wakes_;
  Mail mail_ ABSL_GUARDED_BY(mutex_);
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> any_{false};
  std::atomic<size_t> lent_{0};
};

}  // namespace passband::server
