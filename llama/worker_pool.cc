#include "llama/worker_pool.h"

#include <cblas.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "base/thread.h"

namespace passband {
namespace {

// The pool is the only parallelism: products inside its jobs must not start
// threads of their own. OpenBLAS built on OpenMP keeps that per thread.
void KeepProductsOnThisThread() { openblas_set_num_threads(1); }

}  // namespace

struct WorkerPool::State {
  // Held for the whole of a Run, so that concurrent callers take turns.
  Mutex turn;

  Mutex mutex;
  std::condition_variable_any changed;
  const std::function<void(size_t)>* job = nullptr;
  size_t jobs = 0;
  size_t next = 0;
  size_t running = 0;
  std::vector<std::jthread> threads;

  // Takes jobs until none is left. The mutex is held on entry and on return.
  void Drain() {
    while (next < jobs) {
      const size_t index = next++;
      ++running;
      mutex.Unlock();
      (*job)(index);
      mutex.Lock();
      --running;
    }
    if (running == 0) changed.notify_all();
  }

  void Work(const std::stop_token& stop) {
    KeepProductsOnThisThread();
    mutex.Lock();
    while (changed.wait(mutex, stop, [this] { return next < jobs; })) Drain();
    mutex.Unlock();
  }
};

WorkerPool::WorkerPool(int threads) : state_(std::make_unique<State>()) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int wanted = threads > 0 ? threads : cores;
  for (int i = 1; i < wanted; ++i) {
    state_->threads.push_back(
        StartThread(fmt::format("llama-{}", i),
                    [state = state_.get()](const std::stop_token& stop) { state->Work(stop); }));
  }
}

WorkerPool::~WorkerPool() = default;

void WorkerPool::Run(size_t jobs, const std::function<void(size_t)>& job) {
  MutexLock turn(state_->turn);
  KeepProductsOnThisThread();
  if (jobs == 1 || state_->threads.empty()) {
    for (size_t i = 0; i < jobs; ++i) job(i);
    return;
  }
  State& state = *state_;
  state.mutex.Lock();
  state.job = &job;
  state.jobs = jobs;
  state.next = 0;
  state.changed.notify_all();
  state.Drain();
  state.changed.wait(state.mutex, [&state] { return state.running == 0; });
  state.jobs = 0;
  state.next = 0;
  state.mutex.Unlock();
}

int WorkerPool::threads() const { return static_cast<int>(state_->threads.size()) + 1; }

}  // namespace passband
