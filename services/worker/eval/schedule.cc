#include "services/worker/eval/schedule.h"

#include <algorithm>

namespace passband {

EvalSchedule::EvalSchedule(size_t documents, size_t methods, size_t documents_at_once)
    : documents_(documents), methods_(methods), documents_at_once_(documents_at_once) {}

std::optional<EvalSchedule::Job> EvalSchedule::Take() {
  for (Open& open : open_) {
    if (open.ready && open.next_method < methods_) return Job{open.document, open.next_method++};
  }
  if (next_document_ == documents_ || open_.size() >= documents_at_once_) return std::nullopt;
  open_.push_back({next_document_, false, 0, methods_});
  return Job{next_document_++, std::nullopt};
}

std::optional<EvalSchedule::Job> EvalSchedule::Next() {
  MutexLock lock(mutex_);
  while (status_.ok()) {
    if (const auto job = Take(); job.has_value()) return job;
    if (open_.empty() && next_document_ == documents_) break;
    changed_.wait(mutex_);
  }
  return std::nullopt;
}

bool EvalSchedule::Done(const Job& job, const Status& status) {
  MutexLock lock(mutex_);
  if (!status.ok() && status_.ok()) status_ = status;
  const auto open = std::find_if(open_.begin(), open_.end(), [&](const Open& candidate) {
    return candidate.document == job.document;
  });
  PASSBAND_CHECK(open != open_.end());
  if (!job.method.has_value()) {
    open->ready = true;
  } else {
    --open->unfinished;
  }
  const bool last = open->unfinished == 0;
  if (last) open_.erase(open);
  changed_.notify_all();
  return last;
}

Status EvalSchedule::status() const {
  MutexLock lock(mutex_);
  return status_;
}

}  // namespace passband
