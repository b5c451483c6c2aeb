#include "services/server/reply_queue.h"

#include <algorithm>
#include <utility>

namespace passband::server {
namespace {

constexpr unsigned kBulkTurn = 4;
constexpr uint64_t kShares = 4;
constexpr std::chrono::milliseconds kRetryAfter{5};

}  // namespace

void ReplyQueue::Push(std::unique_ptr<ReplyJob> job) {
  if (waiting_.empty() && Admit(job) == Admission::kAdmitted) return;
  if (waiting_.size() >= kMaxWaiting) {
    job->request.Fail(WithRetryAfter(
        Error(StatusCode::kResourceExhausted,
              "{} of {} bytes of reply memory are in use and {} requests wait for some",
              staging_.used_bytes(), staging_.capacity_bytes(), waiting_.size()),
        kRetryAfter));
    return;
  }
  waiting_.push_back(std::move(job));
  AdmitWaiting();
}

ReplyQueue::Admission ReplyQueue::Admit(std::unique_ptr<ReplyJob>& job) {
  const uint64_t held = job->request.connection().staged_bytes();
  if (held > 0 && held + job->bytes() > staging_.capacity_bytes() / kShares) {
    return Admission::kOverShare;
  }
  auto buffer = staging_.Allocate(job->bytes());
  if (!buffer.has_value()) return Admission::kNoMemory;
  job->Stage(*std::move(buffer));
  Jobs& jobs = job->request.method() == Method::kFetch ? fetches_ : bulk_;
  jobs.push_back(std::move(job));
  return Admission::kAdmitted;
}

void ReplyQueue::AdmitWaiting() {
  for (auto job = waiting_.begin(); job != waiting_.end();) {
    switch (Admit(*job)) {
      case Admission::kAdmitted:
        job = waiting_.erase(job);
        break;
      case Admission::kOverShare:
        ++job;
        break;
      // No overtaking: a large reply would wait for ever behind small ones.
      case Admission::kNoMemory:
        return;
    }
  }
}

ReplyQueue::Jobs& ReplyQueue::NextJobs() {
  if (bulk_.empty()) return fetches_;
  if (fetches_.empty()) return bulk_;
  return ++turn_ % kBulkTurn == 0 ? bulk_ : fetches_;
}

bool ReplyQueue::RunSlice() {
  Jobs& jobs = NextJobs();
  if (jobs.empty()) return false;
  ReplyJob& job = *jobs.front();
  const Status alive = job.request.CheckAlive(std::chrono::steady_clock::now());
  if (!alive.ok()) {
    job.request.Fail(alive);
    jobs.pop_front();
    AdmitWaiting();
    return true;
  }
  const size_t rows = std::min(kSliceRows, job.row_count() - job.filled);
  job.Fill(job.filled, rows, job.staged().data() + job.filled * job.row_bytes());
  job.filled += rows;
  if (job.filled < job.row_count()) return true;
  std::unique_ptr<ReplyJob> whole = std::move(jobs.front());
  jobs.pop_front();
  whole->NoteFilled();
  Send(std::move(whole));
  return true;
}

void ReplyQueue::Send(std::unique_ptr<ReplyJob> job) {
  ++sending_;
  ReplyJob& sent = *job;
  sent.request.Reply(sent.staged(), sent.row_count(), staging_.memory(),
                     [this, job = std::move(job)](const Status& status) mutable {
                       if (status.ok()) job->CountSent();
                       job.reset();
                       --sending_;
                       AdmitWaiting();
                     });
}

void ReplyQueue::ExpireWaiting(Time now) {
  const auto gone = [now](std::unique_ptr<ReplyJob>& job) {
    const Status alive = job->request.CheckAlive(now);
    if (!alive.ok()) job->request.Fail(alive);
    return !alive.ok();
  };
  if (std::erase_if(waiting_, gone) > 0) AdmitWaiting();
}

}  // namespace passband::server
