#include "services/cli/bench/bench_run.h"

#include <cmath>
#include <condition_variable>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/thread.h"
#include "services/console/progress.h"

namespace passband::bench {
namespace {

constexpr std::chrono::milliseconds kLookEvery{50};
constexpr uint64_t kMiB = uint64_t{1} << 20;

class Crew {
 public:
  Crew(const Plan& plan, const Timing& timing) : plan_(plan), parts_(timing.workers) {
    const uint64_t salt = RandomU64();
    for (size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].thread = StartThread(
          "bench-" + std::to_string(i),
          [this, i, salt](const std::stop_token&) { Work(parts_[i], salt + (i << 16U)); });
    }
  }
  ~Crew() { Stop(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  bool AllReady() {
    MutexLock lock(mutex_);
    return ready_ + ended_ == parts_.size();
  }
  // One failed; nobody has to go on.
  bool Over() const { return stop_; }
  uint64_t filled() const { return filled_; }

  void Begin(Time warm_until, Time end) {
    MutexLock lock(mutex_);
    warm_until_ = warm_until;
    end_ = end;
    begun_ = true;
    changed_.notify_all();
  }

  // Ends the operations under way and everything that was opened.
  void Stop() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      changed_.notify_all();
    }
    Join();
  }
  void Join() {
    for (Part& part : parts_) {
      if (part.thread.joinable()) part.thread.join();
    }
  }

  // After Join().
  StatusOr<Outcome> Sum() const {
    Outcome out;
    for (const Part& part : parts_) {
      PASSBAND_RETURN_IF_ERROR(part.status);
      out.done.Add(part.done);
      if (out.transport.empty()) out.transport = part.transport;
      if (!(part.done.seconds > 0)) continue;
      out.rows_per_second += static_cast<double>(part.done.rows) / part.done.seconds;
      out.bytes_per_second += static_cast<double>(part.done.bytes) / part.done.seconds;
      out.operations_per_second +=
          static_cast<double>(part.done.latency.count()) / part.done.seconds;
    }
    return out;
  }

 private:
  struct Part {
    Done done;
    Status status;
    std::string transport;
    std::jthread thread;
  };

  void Work(Part& part, uint64_t salt) {
    part.status = Measure(part, salt);
    MutexLock lock(mutex_);
    ++ended_;
    if (!part.status.ok()) stop_ = true;
    changed_.notify_all();
  }

  Status Measure(Part& part, uint64_t salt) {
    PASSBAND_ASSIGN_OR_RETURN(const auto work, BenchWork::Connect(plan_, salt));
    part.transport = work->transport();
    Status status = work->Prepare([this] { return !stop_; }, filled_);
    if (status.ok() && AwaitBegin()) {
      const RealClock clock;
      Done warm;
      status = work->Run([&] { return !stop_ && clock.Now() < warm_until_; }, warm);
      if (status.ok()) status = work->Run([&] { return !stop_ && clock.Now() < end_; }, part.done);
    }
    const Status closed = work->Close();
    return status.ok() ? closed : status;
  }

  // False: there is nothing to begin.
  bool AwaitBegin() {
    MutexLock lock(mutex_);
    ++ready_;
    while (!begun_ && !stop_) changed_.wait(mutex_);
    return !stop_;
  }

  const Plan& plan_;
  std::atomic<uint64_t> filled_{0};
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::condition_variable_any changed_;
  size_t ready_ = 0;
  size_t ended_ = 0;
  bool begun_ = false;
  // Written before begun_.
  Time warm_until_;
  Time end_;
  std::vector<Part> parts_;
};

}  // namespace

StatusOr<Outcome> RunBench(const Plan& plan, const Timing& timing, const Interruption& interruption,
                           bool quiet) {
  Crew crew(plan, timing);
  const RealClock clock;
  bool interrupted = false;
  {
    const uint64_t total =
        plan.what == What::kAppend ? 0 : timing.workers * plan.bytes_per_worker() / kMiB;
    Progress progress("filling", total, "MiB", {.quiet = quiet || total == 0});
    uint64_t shown = 0;
    while (!crew.AllReady() && !crew.Over() && !interrupted) {
      interrupted = interruption.Within(kLookEvery);
      const uint64_t filled = crew.filled() / kMiB;
      progress.Advance(filled - std::exchange(shown, filled));
    }
  }
  const Time begin = clock.Now();
  const Time end = begin + timing.warm_up + timing.duration;
  crew.Begin(begin + timing.warm_up, end);
  {
    Progress progress("measuring", static_cast<uint64_t>(std::ceil(Seconds(end - begin))), "s",
                      {.quiet = quiet});
    uint64_t shown = 0;
    while (clock.Now() < end && !crew.Over() && !interrupted) {
      interrupted = interruption.Within(kLookEvery);
      const auto passed = static_cast<uint64_t>(Seconds(clock.Now() - begin));
      progress.Advance(passed - std::exchange(shown, passed));
    }
  }
  crew.Stop();
  PASSBAND_ASSIGN_OR_RETURN(Outcome out, crew.Sum());
  out.interrupted = interrupted;
  return out;
}

}  // namespace passband::bench
