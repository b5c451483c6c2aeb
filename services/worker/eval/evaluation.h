// Evaluation: measures selection methods on the same documents.
//
// A document is prefilled once, exactly, into the service; then each method
// starts a sequence of its own on that prefix (slices are attached, rows are
// not) and walks the document's last 640 positions. Every row that a method
// attends to comes through the engine, so bytes and hit rates are what a worker
// would see, hot rows starting cold.
//
//   EvalRunner runner(model, service, maker, settings, plan);
//   runner.Run(threads, on_steps)
//
// Threads    Run starts its own; everything given must outlive it.
// Memory     a document's keys for each of at most `threads` documents at once.
// Errors     the first of the engine's, the model's or the tasks' errors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "llama/model.h"
#include "llama/tasks.h"
#include "sdk/engine.h"
#include "services/worker/eval/plan.h"
#include "services/worker/eval/probe.h"

namespace passband {

// One method on one task, over all documents.
struct EvalResult {
  Task task = Task::kBooks;
  Combination combination;
  TaskScore score;  // the task's own (llama/tasks.h)
  TaskScore bits;   // bits of every scored byte
  ProbeSums probe;
  EngineStats engine;
  uint64_t tokens = 0;  // scored positions walked
  double seconds = 0;   // of walking, summed over documents

  // Of the selected rows outside the tail, the share that needed no fetch.
  double hit_rate() const;
  // Fetched bytes as a share of what full attention would have read.
  double share_of_full() const;
};

class EvalRunner {
 public:
  EvalRunner(const LlamaModel& model, KvService& service, const TaskMaker& maker,
             EvalSettings settings, std::vector<Combination> plan);
  ~EvalRunner();

  // What `on_steps` adds up to: (position, layer) pairs, prefill included.
  uint64_t total_steps() const;

  // Results by task, then in the plan's order. Documents and methods are spread
  // over `threads`; the numbers do not depend on how many.
  StatusOr<std::vector<EvalResult>> Run(int threads, std::function<void(uint64_t)> on_steps);

  // Seconds that exact prefills took, summed.
  double prefill_seconds();

 private:
  struct Document;
  // What one walk of one document measured.
  struct Measure {
    TaskScore score, bits;
    ProbeSums probe;
    double seconds = 0;
  };

  Status CreateEngines();
  Status Prefill(size_t document);
  Status Walk(size_t document, size_t method);
  // A sequence of `engine` that holds the document's prefix.
  StatusOr<std::unique_ptr<WorkerSequence>> StartOn(const Document& document, Engine& engine);
  std::vector<EvalResult> Collect() const;
  Engine& engine(size_t document, size_t method) const;

  const LlamaModel& model_;
  KvService& service_;
  const TaskMaker& maker_;
  const EvalSettings settings_;
  const std::vector<Combination> plan_;
  std::function<void(uint64_t)> on_steps_;
  std::unique_ptr<Engine> prefill_engine_;
  std::vector<std::unique_ptr<Engine>> engines_;      // [task][method]
  std::vector<std::unique_ptr<Document>> documents_;  // [task][document]; null when not at work
  std::vector<std::vector<Measure>> measures_;        // [task][document], [method]
  Mutex mutex_;
  double prefill_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
