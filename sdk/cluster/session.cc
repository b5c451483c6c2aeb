#include "sdk/cluster/session.h"

#include <utility>

#include "base/log.h"
#include "sdk/control_call.h"

namespace passband {
namespace {

constexpr uint64_t kServerBits = (uint64_t{1} << kSlotShift) - 1;

}  // namespace

StatusOr<SequenceId> Session::ToCaller(SequenceId at_server) const {
  if ((at_server.value() & ~kServerBits) == 0) {
    return SequenceId((uint64_t{slot_} << kSlotShift) | at_server.value());
  }
  return Error(StatusCode::kInternal, "passband-server at {} numbers a sequence {}, beyond 2^{}",
               health_->address(), at_server, kSlotShift);
}

SequenceId Session::ToServer(SequenceId id) { return SequenceId(id.value() & kServerBits); }

Status Session::Admit(SequenceId id) const {
  if (lost()) return LostError(id);
  if (health_->breaker.closed()) return OkStatus();
  return Annotate(health_->breaker.Refusal(health_->address()), fmt::format("sequence {}", id));
}

Status Session::Observe(const Status& outcome, SequenceId id) {
  CircuitBreaker& breaker = health_->breaker;
  if (lost()) return outcome.ok() ? outcome : LostError(id);
  const StatusCode code = outcome.code();
  const bool unanswered = code == StatusCode::kDeadlineExceeded ||
                          (code == StatusCode::kUnavailable && !IsAnswer(outcome));
  if (code != StatusCode::kUnauthenticated && !unanswered) {
    breaker.Succeeded();
    return outcome;
  }
  Status told = ObserveLoss(outcome, id);
  if (!lost()) {
    breaker.Failed(outcome);
    if (!breaker.closed()) health_->Wake();
  }
  return told;
}

Status Session::ObserveLoss(const Status& outcome, SequenceId id) {
  if (outcome.ok()) return outcome;
  if (outcome.code() == StatusCode::kUnauthenticated) {
    Lose(outcome);
  } else if (outcome.code() == StatusCode::kUnavailable ||
             outcome.code() == StatusCode::kDeadlineExceeded) {
    Look();
  }
  return lost() ? LostError(id) : outcome;
}

void Session::Look() {
  if (const Status why = remote_->lost(); !why.ok()) Lose(why);
}

void Session::Lose(const Status& why) {
  {
    MutexLock lock(mutex_);
    if (lost()) return;
    why_lost_ = why;
    lost_.store(true, std::memory_order_release);
  }
  ++health_->lost_connections;
  health_->breaker.Trip(why);
  health_->Wake();
  log::Warn("server_lost", {{"server", health_->address()}, {"why", why}});
}

Status Session::LostError(SequenceId id) const {
  MutexLock lock(mutex_);
  return Error(StatusCode::kNotFound,
               "sequence {} is lost with the connection to passband-server at {}: open it again, "
               "and compute what the service does not have ({})",
               id, health_->address(), Message(why_lost_));
}

Status Session::RegisterModels(const std::vector<ModelInfo>& models) {
  size_t known = 0;
  {
    MutexLock lock(mutex_);
    known = models_;
  }
  // Registering one twice does no harm.
  for (; known < models.size(); ++known) {
    PASSBAND_RETURN_IF_ERROR(remote_->RegisterModel(models[known]));
  }
  MutexLock lock(mutex_);
  models_ = std::max(models_, known);
  return OkStatus();
}

void Session::CloseLater(SequenceId at_server) {
  MutexLock lock(mutex_);
  to_close_.push_back(at_server);
}

void Session::CloseNow() {
  std::vector<SequenceId> ids;
  {
    MutexLock lock(mutex_);
    ids.swap(to_close_);
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Status closed = remote_->Close(ids[i]);
    if (closed.ok() || closed.code() == StatusCode::kNotFound) continue;
    MutexLock lock(mutex_);
    to_close_.insert(to_close_.end(), ids.begin() + static_cast<ptrdiff_t>(i), ids.end());
    return;
  }
}

}  // namespace passband
