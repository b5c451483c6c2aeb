#include "services/server/restore_queue.h"

#include <algorithm>
#include <utility>

namespace passband::server {
namespace {

// Of requests without a deadline, or with a later one.
constexpr std::chrono::seconds kLongest{30};
constexpr std::chrono::milliseconds kRetryAfter{20};

Time Now() { return std::chrono::steady_clock::now(); }

}  // namespace

RestoreQueue::RestoreQueue(Store& store, std::function<void()> wake) : store_(store) {
  const MutexLock lock(mail_->mutex);
  mail_->wake = std::move(wake);
}

RestoreQueue::~RestoreQueue() {
  std::vector<Ended> dropped;  // outlives the lock
  const MutexLock lock(mail_->mutex);
  mail_->wake = nullptr;
  dropped.swap(mail_->ended);
}

void RestoreQueue::Push(Request request, const MissingBlocks& missing, Find find, Serve serve) {
  if (calls_.size() >= kMaxWaiting) {
    return request.Fail(
        WithRetryAfter(Error(StatusCode::kResourceExhausted,
                             "{} requests wait for rows from the tier below RAM", calls_.size()),
                       kRetryAfter));
  }
  const uint64_t call = ++last_call_;
  calls_.emplace(call, std::make_unique<Call>(
                           Call{std::move(request), std::move(find), std::move(serve), {}}));
  Restore(call, missing);
}

void RestoreQueue::Promote(const MissingBlocks& missing) {
  store_.Restore(missing, Now() + kLongest, [](const Status&, const RestoreHold&) {});
}

void RestoreQueue::Restore(uint64_t call, const MissingBlocks& missing) {
  const Time deadline = std::min(calls_.at(call)->request.deadline(), Now() + kLongest);
  store_.Restore(missing, deadline, [call, mail = mail_](const Status& status, RestoreHold hold) {
    const MutexLock lock(mail->mutex);
    if (mail->wake == nullptr) return;
    mail->ended.push_back({call, status, std::move(hold)});
    mail->any.store(true, std::memory_order_release);
    mail->wake();
  });
}

bool RestoreQueue::RunReady() {
  if (!mail_->any.load(std::memory_order_acquire)) return false;
  std::vector<Ended> ended;
  {
    const MutexLock lock(mail_->mutex);
    ended.swap(mail_->ended);
    mail_->any.store(false, std::memory_order_relaxed);
  }
  for (Ended& one : ended) Continue(std::move(one));
  return true;
}

void RestoreQueue::Continue(Ended ended) {
  const auto found = calls_.find(ended.call);
  Call& call = *found->second;
  call.holds.push_back(std::move(ended.hold));
  PinnedRows rows;
  MissingBlocks missing;
  Status status = ended.status;
  if (status.ok()) status = call.request.CheckAlive(Now());
  if (status.ok()) status = call.find(call.request, rows, missing);
  if (status.ok() && !missing.empty()) return Restore(ended.call, missing);
  const std::unique_ptr<Call> last = std::move(found->second);
  calls_.erase(found);
  if (!status.ok()) return last->request.Fail(status);
  last->serve(std::move(last->request), std::move(rows));
}

}  // namespace passband::server
