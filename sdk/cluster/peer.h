// Peer: one of several servers, and the thread that keeps a connection to it: it notices a lost
// one, asks a server that nobody has heard of for a while, and connects again in pauses that
// the circuit breaker draws.
//
// Threads    safe; `on_change` runs on the keeper's thread, with nothing locked.
// Ownership  owns thread and session; borrows book and clock. The destructor waits for an
//            attempt under way, which has its deadline.
// Errors     none; why() says what keeps it from being available.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "sdk/cluster/server_health.h"
#include "sdk/cluster/session.h"
#include "sdk/cluster/session_book.h"
#include "sdk/remote_service.h"

namespace passband {

class Peer {
 public:
  struct Options {
    RemoteOptions remote;  // with its address
    CircuitBreaker::Options breaker;
    // A server that no call succeeded with for so long is asked whether it is there.
    std::chrono::milliseconds check_every{1000};
    // What a new session needs before calls are made over it.
    std::function<Status(Session&)> prepare;
    // It became available, or is no more.
    std::function<void()> on_change;
  };

  Peer(Options options, SessionBook* book, const Clock* clock);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  const std::string& address() const { return health_->address(); }
  ServerHealth& health() const { return *health_; }
  // Null: not connected.
  std::shared_ptr<Session> session() const;
  // Whether sequences may be opened there.
  bool available() const;
  // What it calls itself, or the address: the same after a restart.
  std::string name() const;
  // Of the run that was last connected to; 0: never.
  uint64_t epoch() const;
  // Whether a first attempt has ended, and how the last one did.
  bool attempted() const { return attempted_; }
  Status why() const;

  // Whether it is on the list: otherwise it takes no new sequences, and a lost connection is
  // not made again.
  void SetListed(bool listed);
  bool listed() const { return listed_; }
  // Asks the keeper to end; the destructor waits for it.
  void Stop() { keeper_.request_stop(); }

 private:
  void Run(const std::stop_token& stop);
  void Look();
  void Check(const std::shared_ptr<Session>& session);
  void DropLost();
  Status Try();
  Status Connect();

  const Options options_;
  SessionBook* const book_;
  const Clock* const clock_;
  const std::shared_ptr<ServerHealth> health_;
  std::atomic<bool> attempted_{false};
  std::atomic<bool> listed_{true};
  mutable Mutex mutex_;
  std::shared_ptr<Session> session_ ABSL_GUARDED_BY(mutex_);
  std::string node_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t seen_successes_ = 0;  // the keeper's
  std::jthread keeper_;          // Last: it uses everything above.
};

}  // namespace passband
