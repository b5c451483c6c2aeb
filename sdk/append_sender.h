// AppendSender: sends rows behind the caller's back, in order, and remembers what
// became of them.
//
// Copies rows into registered memory and sends them when the lanes (append_lane.h)
// and the channel's window allow. Bytes in flight are bounded: Append() then waits,
// so that a fast writer feels a slow service. The first failure poisons the
// sequence: nothing more of it is sent until Forget().
//
// Threads    safe; one sequence has one appending thread at a time.
// Ownership  borrows the channel, which must be closed before this is destroyed.
// Errors     what the service answered, with the sequence and the tokens;
//            kDeadlineExceeded when there is no room for `room_timeout`.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "base/ids.h"
#include "base/status.h"
#include "sdk/append_lane.h"
#include "sdk/data_channel.h"
#include "sdk/kv_service.h"
#include "sdk/landing_pool.h"

namespace passband {

class AppendSender {
 public:
  struct Options {
    uint64_t max_bytes = 0;  // In flight.
    std::chrono::milliseconds send_timeout{};
    std::chrono::milliseconds room_timeout{};
    std::chrono::milliseconds flush_timeout{};
    AppendLane::Options lane;
  };
  // What the header of an append says about its rows.
  struct Shape {
    uint16_t kv_heads = 0;
    uint32_t row_bytes = 0;
  };

  AppendSender(DataChannel& channel, std::shared_ptr<LandingPool> pool, const Options& options);
  ~AppendSender();

  Status Append(const AppendRequest& request, const Shape& shape);
  // Waits until everything appended so far is stored; or, the sequence poisoned,
  // until nothing of it is under way.
  Status Flush(SequenceId sequence);
  // Waits, for `send_timeout` at most, until the server is through with all that was sent of
  // the sequence, given up or not: what it takes up later would land behind a Truncate.
  Status AwaitAnswers(SequenceId sequence);
  // Drops what is not sent, and the sequence's failure.
  void Forget(SequenceId sequence);

 private:
  struct Item;
  struct Lane;
  struct Sequence;

  Status WaitForRoom(DataChannel::Lock& lock, const Sequence& sequence, uint64_t bytes);
  std::shared_ptr<Sequence> Find(SequenceId id);
  void SendDue(Sequence& sequence, Lane& lane, Time now);
  std::shared_ptr<Call> CallFor(const std::shared_ptr<Item>& item);
  void Answered(const std::shared_ptr<Item>& item, const Status& answer);
  void DropWaiting(Sequence& sequence);
  void Tick(Time now);

  DataChannel& channel_;
  const std::shared_ptr<LandingPool> pool_;
  const Options options_;
  // Guarded by the channel's lock:
  std::unordered_map<SequenceId, std::shared_ptr<Sequence>> sequences_;
  uint64_t bytes_ = 0;
};

}  // namespace passband
