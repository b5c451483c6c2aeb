// SessionTable: who is connected, proof of who calls, and the end of those who went away.
//
//     Open -> (Authenticate | Find + Touch)* -> End, by the worker or by the reaper
//
// Threads    safe; one leaf mutex. `on_end` runs on the thread that ends the session, with
//            nothing locked, exactly once a session.
// Ownership  shares its sessions with calls under way.
// Errors     kUnauthenticated   no such session, a wrong token, or one that has ended (not
//                               told apart)
//            kInvalidArgument   a tenant name that is none
//            kResourceExhausted max_sessions are open
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "services/server/session.h"

namespace passband::server {

enum class EndReason : uint8_t { kDisconnected, kLeaseExpired, kConnectionLost, kShutdown };
inline constexpr size_t kEndReasons = 4;
const char* Name(EndReason reason);

inline constexpr size_t kMaxTenantName = 64;
inline constexpr char kDefaultTenant[] = "default";
// Letters, digits, '.', '_', '-'; empty counts as one.
bool IsTenantName(const std::string& name);

class SessionTable {
 public:
  struct Options {
    Duration lease = std::chrono::seconds(30);
    Duration reconnect_grace = std::chrono::seconds(2);  // at most the lease
    size_t max_sessions = 4096;
    size_t data_threads = 1;
    const Clock* clock = nullptr;  // null: the real one
  };
  // Closes what the session owned; returns how many sequences that were.
  using OnEnd = std::function<uint64_t(const Session&)>;

  SessionTable(const Options& options, OnEnd on_end);
  ~SessionTable();
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  // `tenant`: empty is "default". `certificate`: session.h. Data threads take turns.
  StatusOr<std::shared_ptr<Session>> Open(const std::string& tenant, const std::string& client,
                                          const std::string& certificate = "");

  // Null when there is none.
  std::shared_ptr<Session> Find(uint64_t id) const;
  // `id` and `token` as call metadata carries them: hexadecimal, lower case. Renews the lease.
  StatusOr<std::shared_ptr<Session>> Authenticate(const std::string& id,
                                                  const std::string& token) const;
  void Touch(Session& session) const { session.Touch(clock_->Now()); }
  void ConnectionLost(Session& session) const;

  // The sequences that were closed with it; kUnauthenticated when it had ended already.
  StatusOr<uint64_t> End(uint64_t id, EndReason reason);
  // Ends those whose lease is over. Returns how many.
  size_t Reap();
  void EndAll(EndReason reason);
  // Calls Reap() several times a second, until StopReaper() or the end of this.
  void StartReaper();
  void StopReaper() { reaper_ = {}; }

  size_t size() const;
  uint64_t ended(EndReason reason) const {
    return ended_[static_cast<size_t>(reason)].load(std::memory_order_relaxed);
  }
  uint64_t epoch() const { return epoch_; }
  Duration lease() const { return options_.lease; }

 private:
  void RunReaper(const std::stop_token& stop);

  const Options options_;
  const OnEnd on_end_;
  const RealClock real_clock_;
  const Clock* const clock_;
  const uint64_t epoch_;
  std::array<std::atomic<uint64_t>, kEndReasons> ended_{};
  mutable Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  size_t next_thread_ ABSL_GUARDED_BY(mutex_) = 0;
  Mutex reaper_mutex_;
  std::condition_variable_any reaper_wakes_;
  std::jthread reaper_;  // Last: it uses everything above.
};

}  // namespace passband::server
