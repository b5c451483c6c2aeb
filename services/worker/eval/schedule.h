// EvalSchedule: hands out the work of an evaluation to its threads: a document's
// prefill, then its walks, one for each method; few documents at a time, so that
// memory stays small.
//
// Threads  safe.
// Errors   the first failure ends it: Next then says that nothing is left.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"

namespace passband {

class EvalSchedule {
 public:
  struct Job {
    size_t document = 0;
    std::optional<size_t> method;  // none: the prefill
  };

  EvalSchedule(size_t documents, size_t methods, size_t documents_at_once);

  // Waits for a job; none when all is done or something failed.
  std::optional<Job> Next();
  // Reports a job's end. True for the last walk of its document.
  bool Done(const Job& job, const Status& status);

  Status status() const;

 private:
  struct Open {
    size_t document = 0;
    bool ready = false;
    size_t next_method = 0;
    size_t unfinished = 0;
  };

  std::optional<Job> Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t documents_;
  const size_t methods_;
  const size_t documents_at_once_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  size_t next_document_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Open> open_ ABSL_GUARDED_BY(mutex_);
  Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
