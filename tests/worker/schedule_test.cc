// Goal: the schedule of an evaluation runs every walk of every document exactly
// once, after its prefill, with few documents at once, and ends at a failure.
#include "services/worker/eval/schedule.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>

#include "base/thread.h"

namespace passband {
namespace {

// Runs the schedule on `threads` and records what happened.
class Recorder {
 public:
  Recorder(EvalSchedule& schedule, int threads, size_t fail_document) {
    std::vector<std::jthread> lanes;
    for (int i = 0; i < threads; ++i) {
      lanes.push_back(StartThread("lane", [&, fail_document](const std::stop_token&) {
        while (const auto job = schedule.Next()) {
          Begin(*job);
          const bool fails = job->document == fail_document && job->method.has_value();
          const Status status =
              fails ? Error(StatusCode::kInternal, "document {}", job->document) : OkStatus();
          if (schedule.Done(*job, status)) End(job->document);
        }
      }));
    }
  }

  void Begin(const EvalSchedule::Job& job) {
    MutexLock lock(mutex);
    if (!job.method.has_value()) {
      EXPECT_TRUE(prefilled.insert(job.document).second);
      open.insert(job.document);
      most_open = std::max(most_open, open.size());
    } else {
      EXPECT_EQ(prefilled.count(job.document), 1U);
      EXPECT_TRUE(walks.insert({job.document, *job.method}).second);
    }
  }

  void End(size_t document) {
    MutexLock lock(mutex);
    EXPECT_EQ(open.erase(document), 1U);
  }

  Mutex mutex;
  std::set<size_t> prefilled, open;
  std::set<std::pair<size_t, size_t>> walks;
  size_t most_open = 0;
};

constexpr size_t kNone = ~size_t{0};

TEST(EvalSchedule, RunsEveryWalkOnce) {
  for (const int threads : {1, 2, 5}) {
    EvalSchedule schedule(7, 3, 2);
    Recorder recorder(schedule, threads, kNone);
    EXPECT_TRUE(schedule.status().ok());
    EXPECT_EQ(recorder.prefilled.size(), 7U);
    EXPECT_EQ(recorder.walks.size(), 21U);
    EXPECT_TRUE(recorder.open.empty());
    EXPECT_LE(recorder.most_open, 2U);
  }
}

TEST(EvalSchedule, EndsAtTheFirstFailure) {
  EvalSchedule schedule(50, 2, 2);
  Recorder recorder(schedule, 3, 4);
  EXPECT_EQ(schedule.status().code(), StatusCode::kInternal);
  EXPECT_LT(recorder.prefilled.size(), 50U);
}

}  // namespace
}  // namespace passband
