// WorkerPool: a few threads that share the jobs of one loop.
//
// Threads    Run is safe; concurrent callers take turns. Run must not be called
//            from inside a job.
// Ownership  owns its threads; they end with it.
// Errors     none: jobs report through what they write.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace passband {

class WorkerPool {
 public:
  // `threads` in all, the calling thread included; 0: one per core.
  explicit WorkerPool(int threads = 0);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Calls job(i) for every i < jobs, each once, and returns when all are done.
  // Lower indices start earlier.
  void Run(size_t jobs, const std::function<void(size_t)>& job);

  int threads() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace passband
