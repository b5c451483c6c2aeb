// Session: one connected worker, as the server knows it.
//
// A session lives while it is used: every authenticated call or message renews its lease. When
// its data connection is lost the lease shrinks to a short grace, in which the worker may come
// back (a new HELLO, or any call, renews it in full); one that was killed does not, and its
// sequences are closed then.
//
// Units      times are those of the table's clock.
// Threads    safe; what changes is atomic, but for the request ids: a leaf mutex.
// Ownership  shared by the table, calls under way and data connections.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mutex.h"
#include "kvstore/types.h"
#include "services/server/replay_window.h"

namespace passband::server {

class Session {
 public:
  struct Identity {
    uint64_t id = 0;     // random
    MacKey secret{};     // keys the MAC of data-plane headers
    std::string token;   // of control calls: 32 hexadecimal digits
    uint64_t epoch = 0;  // of this start of the server
    std::string tenant;
    std::string client;       // for people
    std::string certificate;  // of the TLS client that opened it: its SHA-256, or empty
    size_t data_thread = 0;   // the one that serves it
  };

  Session(Identity identity, Duration lease, Time now)
      : identity_(std::move(identity)), lease_(lease) {
    Touch(now);
  }

  uint64_t id() const { return identity_.id; }
  OwnerId owner() const { return OwnerId{identity_.id}; }
  const MacKey& secret() const { return identity_.secret; }
  const std::string& token() const { return identity_.token; }
  uint64_t epoch() const { return identity_.epoch; }
  const std::string& tenant() const { return identity_.tenant; }
  const std::string& client() const { return identity_.client; }
  const std::string& certificate() const { return identity_.certificate; }
  size_t data_thread() const { return identity_.data_thread; }

  // It was used: the lease starts anew.
  void Touch(Time now) {
    expires_.store((now + lease_).time_since_epoch().count(), std::memory_order_relaxed);
    lost_.store(false, std::memory_order_relaxed);
  }
  // The data connection broke: the lease ends after `grace` unless it is used again.
  void ConnectionLost(Time now, Duration grace) {
    lost_.store(true, std::memory_order_relaxed);
    expires_.store((now + grace).time_since_epoch().count(), std::memory_order_relaxed);
  }
  bool expired(Time now) const {
    return now.time_since_epoch().count() >= expires_.load(std::memory_order_relaxed);
  }
  bool connection_lost() const { return lost_.load(std::memory_order_relaxed); }

  // Uses a request id of a message that is proved to be this session's. False: it was used
  // before (replay_window.h).
  bool TakeRequestId(uint64_t id) {
    const MutexLock lock(mutex_);
    return request_ids_.Take(id);
  }

  // Set before what the session owned is closed. Whoever gave it something new meanwhile looks
  // here afterwards, and takes it back.
  bool ended() const { return ended_.load(); }
  void MarkEnded() { ended_.store(true); }

 private:
  const Identity identity_;
  const Duration lease_;
  std::atomic<int64_t> expires_{0};
  std::atomic<bool> lost_{false};
  std::atomic<bool> ended_{false};
  Mutex mutex_;
  ReplayWindow request_ids_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband::server
