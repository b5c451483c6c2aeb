#include "sdk/progress_driver.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "base/status.h"
#include "base/thread.h"

namespace passband {
namespace {

// UCX's descriptors have been seen to miss an event.
constexpr auto kLongestSleep = std::chrono::milliseconds(10);
// How soon the pump takes over what nobody waits for.
constexpr auto kPumpTick = std::chrono::milliseconds(1);
// After this long without traffic it looks rarely: for keepalive only.
constexpr auto kPumpRestsAfter = std::chrono::milliseconds(50);
constexpr auto kPumpRest = std::chrono::milliseconds(200);
// How long a thread polls that sleeps next, for what comes in several pieces.
constexpr auto kShortSpin = std::chrono::microseconds(10);
// A wait counts for one in this many in how long it is usually quiet.
constexpr int kWaitsRemembered = 8;

Time Now() { return std::chrono::steady_clock::now(); }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

timespec ToTimespec(Duration duration) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

}  // namespace

ProgressDriver::Lock::Lock(ProgressDriver& driver)
    : driver_(driver), lock_(driver.mutex_, std::defer_lock) {
  Regain();
}

void ProgressDriver::Lock::Regain() {
  driver_.contenders_.fetch_add(1, std::memory_order_relaxed);
  lock_.lock();
  driver_.contenders_.fetch_sub(1, std::memory_order_relaxed);
}

ProgressDriver::ProgressDriver(EventSource& source, Options options)
    : source_(source),
      options_(std::move(options)),
      wake_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      last_sent_(Now()) {
  PASSBAND_CHECK(wake_fd_ >= 0);
}

ProgressDriver::~ProgressDriver() {
  Stop();
  ::close(wake_fd_);
}

void ProgressDriver::StartPump() {
  pump_ = StartThread("pb-pump", [this](std::stop_token stop) { Pump(stop); });
}

void ProgressDriver::Stop() {
  {
    Lock lock(*this);
    stopped_ = true;
    pump_.request_stop();
    pump_wake_.notify_all();
    NotifyDone();
  }
  if (pump_.joinable()) pump_.join();
}

void ProgressDriver::NotifyDone() {
  if (followers_ > 0) waiters_wake_.notify_all();
  WakeSleepers();
}

void ProgressDriver::NotifySent() {
  last_sent_ = Now();
  // A sleeping thread armed the source before this was sent.
  WakeSleepers();
  if (pump_rests_ || (pump_parked_ && leader_ == Leader::kNone)) WakePump();
}

void ProgressDriver::WakePump() {
  pump_parked_ = false;
  pump_wake_.notify_all();
}

bool ProgressDriver::Progress(Time& now) {
  const bool moved = source_.Progress();
  now = Now();
  options_.after_progress(now);
  return moved;
}

void ProgressDriver::Poll(Lock&) {
  Time now;
  Progress(now);
}

void ProgressDriver::GiveWay(Lock& lock) {
  if (contenders_.load(std::memory_order_relaxed) == 0) return;
  lock.lock_.unlock();
  while (contenders_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
  lock.lock_.lock();
}

void ProgressDriver::Sleep(Lock& lock, Duration longest) {
  const StatusOr<bool> armed = source_.Arm();
  if (!armed.ok() || !*armed) return;
  std::array<pollfd, 2> events{pollfd{source_.event_fd(), POLLIN, 0}, pollfd{wake_fd_, POLLIN, 0}};
  const timespec limit = ToTimespec(std::clamp<Duration>(longest, Duration::zero(), kLongestSleep));
  ++sleepers_;
  lock.Release();
  ::ppoll(events.data(), events.size(), &limit, nullptr);
  lock.Regain();
  if (--sleepers_ > 0) return;  // The last one to wake takes the call away.
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t bytes = ::read(wake_fd_, &count, sizeof(count));
}

void ProgressDriver::WakeSleepers() {
  if (sleepers_ == 0) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t bytes = ::write(wake_fd_, &one, sizeof(one));
}

Duration ProgressDriver::Spin() const {
  const Duration spin = options_.spin;
  return usual_quiet_ <= spin ? spin : std::min<Duration>(spin, kShortSpin);
}

void ProgressDriver::LearnQuiet(Duration longest) {
  // A very long one says no more than that polling was in vain.
  longest = std::min<Duration>(longest, 2 * options_.spin);
  usual_quiet_ += (longest - usual_quiet_) / kWaitsRemembered;
}

bool ProgressDriver::Lead(Lock& lock, absl::FunctionRef<bool()> ready, Time deadline) {
  Time now = Now();
  Time moved_at = now;
  Duration longest_quiet{};
  const Duration spin = Spin();
  while (!stopped_) {
    const bool moved = Progress(now);
    if (moved) {
      longest_quiet = std::max<Duration>(longest_quiet, now - moved_at);
      moved_at = now;
    }
    if (ready()) {
      LearnQuiet(longest_quiet);
      return true;
    }
    if (now >= deadline) return false;
    if (now - moved_at >= spin) {
      Sleep(lock, deadline - now);
    } else {
      Pause();
    }
    GiveWay(lock);
  }
  return ready();
}

bool ProgressDriver::WaitUntil(Lock& lock, absl::FunctionRef<bool()> ready, Time deadline) {
  while (!ready()) {
    const Time now = Now();
    if (now >= deadline || stopped_) return false;
    if (leader_ == Leader::kWaiter) {
      ++followers_;
      waiters_wake_.wait_until(lock.lock_, deadline);
      --followers_;
      continue;
    }
    leader_ = Leader::kWaiter;  // From the pump, too: it steps back when it wakes.
    const bool is_ready = Lead(lock, ready, deadline);
    leader_ = Leader::kNone;
    if (followers_ > 0) waiters_wake_.notify_all();
    if (pump_parked_ && options_.busy()) WakePump();
    return is_ready;
  }
  return true;
}

void ProgressDriver::PumpTransfers(Lock& lock, Time until) {
  leader_ = Leader::kPump;
  Time now = Now();
  while (leader_ == Leader::kPump && !stopped_ && now < until) {
    const bool moved = Progress(now);
    if (!options_.busy()) break;
    if (!moved) Sleep(lock, until - now);
    GiveWay(lock);
  }
  if (leader_ == Leader::kPump) leader_ = Leader::kNone;
}

void ProgressDriver::Pump(std::stop_token stop) {
  Lock lock(*this);
  Time next_heartbeat = Now() + options_.heartbeat_every;
  while (!stop.stop_requested()) {
    if (leader_ == Leader::kNone) PumpTransfers(lock, next_heartbeat);
    Time now = Now();
    if (now >= next_heartbeat) {
      next_heartbeat = now + options_.heartbeat_every;
      lock.Release();
      if (options_.heartbeat) options_.heartbeat();
      lock.Regain();
      continue;
    }
    if (leader_ == Leader::kWaiter) {
      pump_parked_ = true;
      pump_wake_.wait_until(lock.lock_, next_heartbeat,
                            [&] { return !pump_parked_ || stop.stop_requested(); });
      pump_parked_ = false;
      now = Now();
    }
    pump_rests_ = leader_ == Leader::kNone && now - last_sent_ > kPumpRestsAfter;
    const Duration tick = pump_rests_ ? Duration(kPumpRest) : Duration(kPumpTick);
    if (!stop.stop_requested()) {
      pump_wake_.wait_for(lock.lock_, std::min<Duration>(tick, next_heartbeat - now));
    }
    pump_rests_ = false;
  }
}

}  // namespace passband
