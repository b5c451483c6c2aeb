// ProgressDriver: who drives a connection that several threads use.
//
// The thread that waits drives: it polls, then sleeps on the source's events, so
// that an answer is seen by the thread that wants it, without a switch. Of several
// that wait, one drives and the others sleep. When nobody waits, the thread
// "pb-pump" does: for what is under way (appends), for keepalive, for the heartbeat.
//
// Threads    safe. Every use of the source happens under a Lock.
// Ownership  borrows the source, which must outlive it.
// Errors     none; what fails shows in the callbacks of the source.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "sdk/event_source.h"

namespace passband {

class ProgressDriver {
 public:
  struct Options {
    // How long a waiting thread polls since something last moved. Where it is usually
    // quiet for longer, it sleeps soon, and leaves the core to others.
    std::chrono::microseconds spin{200};
    // Called with the lock held after each progress; cheap when there is nothing.
    std::function<void(Time now)> after_progress;
    // With the lock held: whether transfers are under way.
    std::function<bool()> busy;
    // Without the lock, by the pump, each `heartbeat_every`.
    std::function<void()> heartbeat;
    Duration heartbeat_every = std::chrono::seconds(1);
  };

  // The source's lock. A thread that polls gives way to one that constructs it.
  class Lock {
   public:
    explicit Lock(ProgressDriver& driver);
    void Release() { lock_.unlock(); }
    void Regain();

   private:
    friend class ProgressDriver;
    ProgressDriver& driver_;
    std::unique_lock<std::mutex> lock_;
  };

  ProgressDriver(EventSource& source, Options options);
  ~ProgressDriver();
  ProgressDriver(const ProgressDriver&) = delete;
  ProgressDriver& operator=(const ProgressDriver&) = delete;

  void StartPump();
  // Ends the pump, and every wait that is not ready.
  void Stop();

  // Drives until ready(), which is called under the lock. False: the deadline, or
  // Stop(), came first.
  bool WaitUntil(Lock& lock, absl::FunctionRef<bool()> ready, Time deadline);
  // Does what can be done now.
  void Poll(Lock& lock);

  // With the lock held: something that somebody may wait for has happened.
  void NotifyDone();
  // With the lock held: something was sent, and must get on.
  void NotifySent();

 private:
  enum class Leader { kNone, kPump, kWaiter };

  bool Lead(Lock& lock, absl::FunctionRef<bool()> ready, Time deadline);
  bool Progress(Time& now);
  void Sleep(Lock& lock, Duration longest);
  void WakeSleepers();
  void GiveWay(Lock& lock);
  Duration Spin() const;
  void LearnQuiet(Duration longest);
  void WakePump();
  void Pump(std::stop_token stop);
  void PumpTransfers(Lock& lock, Time until);

  EventSource& source_;
  const Options options_;
  const int wake_fd_;
  std::mutex mutex_;
  std::atomic<int> contenders_{0};
  // Guarded by mutex_:
  std::condition_variable waiters_wake_;
  std::condition_variable pump_wake_;
  Leader leader_ = Leader::kNone;
  int followers_ = 0;
  int sleepers_ = 0;
  bool pump_rests_ = false;
  bool pump_parked_ = false;  // Until nobody leads and something is under way.
  Duration usual_quiet_{};    // How long nothing moves in a wait: a moving mean.
  bool stopped_ = false;
  Time last_sent_;

  std::jthread pump_;
};

}  // namespace passband
