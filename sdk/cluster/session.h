// Session: one connection to one of several servers, and whether calls over it are worth making.
//
// A sequence lives with the session that opened it: when the connection is lost the server
// closes what was open over it. From then on every call is kNotFound and says to open it again.
// While the server does not answer and the connection stands, calls are refused at once.
//
// Ids        a server numbers its sequences for itself. Callers see the number together with the
//            session's slot (session_book.h), so that no two servers' are the same, and none of
//            a lost session's is another's. Slot 0 shows the server's own numbers.
// Threads    safe.
// Ownership  shared by calls under way; owns the connection.
// Errors     kNotFound    the session is lost, and the sequence with it
//            kUnavailable the circuit is open (circuit_breaker.h)
//            and what RemoteService says
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "sdk/cluster/server_health.h"
#include "sdk/remote_service.h"

namespace passband {

// 52 bits hold the ids of servers that start before 2054.
inline constexpr int kSlotShift = 52;
inline constexpr uint32_t kMaxSlots = uint32_t{1} << (64 - kSlotShift);

class Session {
 public:
  Session(std::shared_ptr<ServerHealth> health, std::unique_ptr<RemoteService> remote)
      : health_(std::move(health)), remote_(std::move(remote)) {}

  RemoteService& remote() const { return *remote_; }
  ServerHealth& health() const { return *health_; }
  uint32_t slot() const { return slot_; }
  void set_slot(uint32_t slot) { slot_ = slot; }  // Before it is shared.

  // kInternal: the server's number does not fit.
  StatusOr<SequenceId> ToCaller(SequenceId at_server) const;
  static SequenceId ToServer(SequenceId id);
  static uint32_t SlotOf(SequenceId id) { return static_cast<uint32_t>(id.value() >> kSlotShift); }

  // Before a call about a sequence (the caller's id): whether to make it.
  Status Admit(SequenceId id) const;
  // After it: counts the outcome for the circuit, and says what to tell the caller.
  Status Observe(const Status& outcome, SequenceId id);
  // The same where an error may be of long ago (appends): only a lost connection counts.
  Status ObserveLoss(const Status& outcome, SequenceId id);

  bool lost() const { return lost_.load(std::memory_order_acquire); }
  // Finds out whether the connection stands.
  void Look();
  void Lose(const Status& why);
  Status LostError(SequenceId id) const;

  // Registers those of the models that this session has not yet.
  Status RegisterModels(const std::vector<ModelInfo>& models);
  // Closes it as soon as the server answers again. `at_server`: its own number.
  void CloseLater(SequenceId at_server);
  void CloseNow();

 private:
  const std::shared_ptr<ServerHealth> health_;
  const std::unique_ptr<RemoteService> remote_;
  uint32_t slot_ = 0;
  std::atomic<bool> lost_{false};
  mutable Mutex mutex_;
  Status why_lost_ ABSL_GUARDED_BY(mutex_);
  size_t models_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<SequenceId> to_close_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
