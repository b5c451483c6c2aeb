#include "kvstore/write_behind.h"

#include <algorithm>

namespace passband {

void WriteBehind::Written(FamilyId family, uint64_t bytes) {
  MutexLock lock(mutex_);
  families_[family].written += bytes;
  pending_ += bytes;
}

void WriteBehind::Flushed(FamilyId family, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto found = families_.find(family);
  if (found == families_.end()) return;
  bytes = std::min(bytes, found->second.written - found->second.flushed);
  found->second.flushed += bytes;
  pending_ -= bytes;
  ++flushes_;
  changed_.notify_all();
}

void WriteBehind::Forget(FamilyId family) {
  MutexLock lock(mutex_);
  const auto found = families_.find(family);
  if (found == families_.end()) return;
  pending_ -= found->second.written - found->second.flushed;
  families_.erase(found);
  changed_.notify_all();
}

uint64_t WriteBehind::pending_bytes() const {
  MutexLock lock(mutex_);
  return pending_;
}

uint64_t WriteBehind::pending_bytes(FamilyId family) const {
  MutexLock lock(mutex_);
  const auto found = families_.find(family);
  return found == families_.end() ? 0 : found->second.written - found->second.flushed;
}

Status WriteBehind::AwaitPending(uint64_t bytes, Duration timeout) {
  const Time end = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (error_.ok() && pending_ > bytes) {
    if (changed_.wait_until(mutex_, end) == std::cv_status::timeout) {
      return Error(StatusCode::kUnavailable,
                   "the spill device does not keep up: {} bytes wait to be written", pending_);
    }
  }
  return error_;
}

WriteBehind::Mark WriteBehind::Now() const {
  MutexLock lock(mutex_);
  Mark mark;
  for (const auto& [id, family] : families_) {
    if (family.written != family.flushed) mark.emplace(id, family.written);
  }
  return mark;
}

Status WriteBehind::AwaitFlushed(Mark mark, Duration timeout) {
  MutexLock lock(mutex_);
  uint64_t seen = flushes_;
  Time end = std::chrono::steady_clock::now() + timeout;
  while (error_.ok()) {
    std::erase_if(mark, [this](const auto& goal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const auto found = families_.find(goal.first);
      return found == families_.end() || found->second.flushed >= goal.second;
    });
    if (mark.empty()) return OkStatus();
    if (seen != flushes_) {
      seen = flushes_;
      end = std::chrono::steady_clock::now() + timeout;
    }
    if (changed_.wait_until(mutex_, end) == std::cv_status::timeout && seen == flushes_) {
      return Error(StatusCode::kUnavailable,
                   "the spill device does not answer: {} bytes wait to be written", pending_);
    }
  }
  return error_;
}

void WriteBehind::SetError(Status error) {
  MutexLock lock(mutex_);
  error_ = std::move(error);
  ++errors_;
  changed_.notify_all();
}

void WriteBehind::NoteRefusal(const Status& error) {
  MutexLock lock(mutex_);
  if (!error_.ok()) return;
  error_ = error;
  ++errors_;
  changed_.notify_all();
}

void WriteBehind::ClearError(uint64_t seen) {
  MutexLock lock(mutex_);
  if (errors_ == seen) error_ = OkStatus();
}

Status WriteBehind::error() const {
  MutexLock lock(mutex_);
  return error_;
}

uint64_t WriteBehind::errors() const {
  MutexLock lock(mutex_);
  return errors_;
}

}  // namespace passband
