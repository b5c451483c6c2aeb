// What makes sequences of Store durable.
#include <chrono>
#include <condition_variable>
#include <future>
#include <utility>

#include "kvstore/store.h"
#include "kvstore/store_impl.h"

namespace passband {
namespace {

constexpr std::chrono::seconds kProgress{1};

// Counts calls that end on other threads.
class Countdown {
 public:
  explicit Countdown(uint64_t count) : left_(count) {}

  void End(const Status& status) {
    MutexLock lock(mutex_);
    --left_;
    if (!status.ok()) ++failed_;
    ended_.notify_all();
  }
  // How many are left, after kProgress at most.
  uint64_t Wait() {
    const Time until = std::chrono::steady_clock::now() + kProgress;
    MutexLock lock(mutex_);
    while (left_ > 0) {
      if (ended_.wait_until(mutex_, until) == std::cv_status::timeout) break;
    }
    return left_;
  }
  uint64_t failed() {
    MutexLock lock(mutex_);
    return failed_;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any ended_;
  uint64_t left_ ABSL_GUARDED_BY(mutex_);
  uint64_t failed_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

void Store::Seal(const std::string& tenant, SequenceId id,
                 std::function<void(const Status&)> done) {
  const auto sequence = impl_->table.Find(tenant, id);
  if (!sequence.ok()) return done(sequence.status());
  if (const Status sealed = (*sequence)->Seal(); !sealed.ok()) return done(sealed);
  if (impl_->sealer == nullptr) return done(OkStatus());
  impl_->sealer->Seal(*sequence, [impl = impl_.get(), sequence = *sequence,
                                  done = std::move(done)](const Status& status) {
    if (status.ok()) impl->RecordLives({sequence});
    done(status);
  });
}

Status Store::Seal(const std::string& tenant, SequenceId id) {
  const auto promise = std::make_shared<std::promise<Status>>();
  Seal(tenant, id, [promise](const Status& status) { promise->set_value(status); });
  return promise->get_future().get();
}

uint64_t Store::SealAll(const std::function<void(uint64_t done, uint64_t of)>& progress) {
  if (impl_->sealer == nullptr) return 0;
  std::vector<std::shared_ptr<Sequence>> sequences;
  uint64_t failed = 0;
  for (const auto& sequence : impl_->table.All()) {
    const StatusOr<Sequence::Length> length = sequence->length();
    if (!length.ok() || length->committed == 0) continue;
    if (sequence->Seal().ok()) {
      sequences.push_back(sequence);
    } else {
      ++failed;
    }
  }
  const auto countdown = std::make_shared<Countdown>(sequences.size());
  for (const auto& sequence : sequences) {
    impl_->sealer->Seal(sequence, [countdown](const Status& status) { countdown->End(status); });
  }
  while (const uint64_t left = countdown->Wait()) {
    progress(sequences.size() - left, sequences.size());
  }
  impl_->RecordLives(sequences, /*idle=*/true);
  return failed + countdown->failed();
}

}  // namespace passband
