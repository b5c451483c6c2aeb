#include "sdk/cluster/session_book.h"

namespace passband {
namespace {

void Add(const TrafficStats& from, TrafficStats& to) {
  to.fetch_requests += from.fetch_requests;
  to.fetched_rows += from.fetched_rows;
  to.fetched_bytes += from.fetched_bytes;
  to.appended_bytes += from.appended_bytes;
  to.read_bytes += from.read_bytes;
  to.slice_bytes += from.slice_bytes;
  to.fetch_wait_seconds += from.fetch_wait_seconds;
}

}  // namespace

Status SessionBook::Add(const std::shared_ptr<Session>& session) {
  MutexLock lock(mutex_);
  for (uint32_t tried = 0; tried < kMaxSlots; ++tried) {
    const uint32_t slot = next_;
    next_ = (next_ + 1) % kMaxSlots;
    if (slot == slots_.size()) slots_.emplace_back();
    if (slots_[slot].session != nullptr) continue;
    session->set_slot(slot);
    slots_[slot] = {session, session->health().address()};
    return OkStatus();
  }
  return Error(StatusCode::kResourceExhausted, "{} connections to servers are open", kMaxSlots);
}

void SessionBook::Retire(const std::shared_ptr<Session>& session) {
  MutexLock lock(mutex_);
  Slot& slot = slots_[session->slot()];
  if (slot.session != session) return;
  passband::Add(session->remote().traffic(), retired_);
  slot.session = nullptr;
}

StatusOr<std::shared_ptr<Session>> SessionBook::Find(SequenceId id) const {
  const uint32_t slot = Session::SlotOf(id);
  MutexLock lock(mutex_);
  if (slot >= slots_.size()) {
    return Error(StatusCode::kNotFound, "sequence {} is not known here", id);
  }
  if (slots_[slot].session != nullptr) return slots_[slot].session;
  return Error(StatusCode::kNotFound,
               "sequence {} was lost with an earlier connection to passband-server at {}: open it "
               "again, and compute what the service does not have",
               id, slots_[slot].server);
}

bool SessionBook::WasKnown(SequenceId id) const {
  MutexLock lock(mutex_);
  return Session::SlotOf(id) < slots_.size();
}

std::vector<std::shared_ptr<Session>> SessionBook::Sessions() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Session>> out;
  for (const Slot& slot : slots_) {
    if (slot.session != nullptr) out.push_back(slot.session);
  }
  return out;
}

TrafficStats SessionBook::traffic() const {
  MutexLock lock(mutex_);
  TrafficStats out = retired_;
  for (const Slot& slot : slots_) {
    if (slot.session != nullptr) passband::Add(slot.session->remote().traffic(), out);
  }
  return out;
}

}  // namespace passband
