// ReplyQueue: turns accepted jobs into replies, a slice of rows at a time, so that the transport
// is never kept waiting for a long one.
//
//     Push -> waiting (for staging memory) -> running -> sent
//
// FETCH goes before the bulk of READ and SLICES, because a decode step waits for it; every fourth
// slice is the bulk's all the same. One connection holds a quarter of the memory at most (or one
// reply): a peer that does not take its replies leaves the others theirs. What does not fit waits;
// beyond kMaxWaiting it is refused with a retry-after, not queued without bound.
//
// Units      a slice is kSliceRows rows.
// Threads    its data thread.
// Ownership  owns the jobs until they are sent; `staging` must outlive it, and it must outlive
//            every send (the worker's end completes them).
#pragma once

#include <cstddef>
#include <deque>
#include <memory>

#include "base/clock.h"
#include "services/server/reply_job.h"
#include "services/server/staging.h"

namespace passband::server {

class ReplyQueue {
 public:
  static constexpr size_t kSliceRows = 512;
  static constexpr size_t kMaxWaiting = 256;

  explicit ReplyQueue(Staging& staging) : staging_(staging) {}
  ReplyQueue(const ReplyQueue&) = delete;
  ReplyQueue& operator=(const ReplyQueue&) = delete;

  // Takes the job over, or fails its request.
  void Push(std::unique_ptr<ReplyJob> job);
  // Fills one slice, and sends the reply that is complete with it. False: nothing to do.
  bool RunSlice();
  // Fails what waits for memory longer than its client does.
  void ExpireWaiting(Time now);
  // Jobs that are not sent yet.
  size_t size() const { return waiting_.size() + fetches_.size() + bulk_.size() + sending_; }
  bool waiting() const { return !waiting_.empty(); }

 private:
  using Jobs = std::deque<std::unique_ptr<ReplyJob>>;

  enum class Admission : uint8_t { kAdmitted, kOverShare, kNoMemory };

  Admission Admit(std::unique_ptr<ReplyJob>& job);
  void AdmitWaiting();
  Jobs& NextJobs();
  void Send(std::unique_ptr<ReplyJob> job);

  Staging& staging_;
  Jobs waiting_;
  Jobs fetches_;
  Jobs bulk_;
  size_t sending_ = 0;
  unsigned turn_ = 0;
};

}  // namespace passband::server
