// Goal: every job runs exactly once and Run returns only when all are done,
// for any number of threads, jobs and callers.
#include "llama/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace passband {
namespace {

TEST(WorkerPoolTest, RunsEveryJobOnce) {
  for (const int threads : {1, 2, 5}) {
    WorkerPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const size_t jobs : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> runs(jobs);
      pool.Run(jobs, [&](size_t i) { ++runs[i]; });
      for (size_t i = 0; i < jobs; ++i) ASSERT_EQ(runs[i], 1) << jobs << " jobs, job " << i;
    }
  }
}

TEST(WorkerPoolTest, CallersTakeTurns) {
  WorkerPool pool(3);
  std::atomic<int> total = 0;
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&] {
        for (int round = 0; round < 200; ++round) {
          int own[7] = {};
          pool.Run(7, [&](size_t i) { own[i] = 1; });
          for (const int ran : own) total += ran;
        }
      });
    }
  }
  EXPECT_EQ(total, 4 * 200 * 7);
}

}  // namespace
}  // namespace passband
