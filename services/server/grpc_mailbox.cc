#include "services/server/grpc_mailbox.h"

namespace passband::server {

void GrpcMailbox::NotifyLocked() {
  any_.store(true, std::memory_order_release);
  if (waiting_) wakes_.notify_one();
}

bool GrpcMailbox::Post(Arrival& arrival) {
  const MutexLock lock(mutex_);
  if (closed_ || mail_.arrivals.size() >= kMaxArrivals) return false;
  mail_.arrivals.push_back(std::move(arrival));
  NotifyLocked();
  return true;
}

void GrpcMailbox::Return(transport::Done done) {
  const MutexLock lock(mutex_);
  mail_.sent.push_back(std::move(done));
  NotifyLocked();
}

void GrpcMailbox::CloseSession(uint64_t session) {
  const MutexLock lock(mutex_);
  if (closed_) return;
  mail_.closed_sessions.push_back(session);
  NotifyLocked();
}

std::future<void> GrpcMailbox::Drain() {
  const MutexLock lock(mutex_);
  mail_.drains.emplace_back();
  std::future<void> drained = mail_.drains.back().get_future();
  NotifyLocked();
  return drained;
}

void GrpcMailbox::Wake() {
  const MutexLock lock(mutex_);
  NotifyLocked();
}

void GrpcMailbox::Close() {
  const MutexLock lock(mutex_);
  closed_ = true;
}

GrpcMailbox::Mail GrpcMailbox::Take(Duration longest) {
  if (longest == Duration::zero() && !any_.load(std::memory_order_acquire)) return {};
  const MutexLock lock(mutex_);
  if (longest > Duration::zero()) {
    waiting_ = true;
    wakes_.wait_for(mutex_, longest, [this] { return any_.load(std::memory_order_relaxed); });
    waiting_ = false;
  }
  any_.store(false, std::memory_order_relaxed);
  return std::exchange(mail_, {});
}

}  // namespace passband::server
