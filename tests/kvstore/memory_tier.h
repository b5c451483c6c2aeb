// MemoryTier: a Tier in ordinary memory, for tests of what stands above one.
// When full it forgets what was put first.
//
// Threads  safe; one mutex.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "base/hash.h"
#include "base/mutex.h"
#include "kvstore/tier.h"

namespace passband {

class MemoryTier final : public Tier {
 public:
  explicit MemoryTier(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  Status Put(const BlockKey& key, std::span<const std::byte> bytes) override {
    MutexLock lock(mutex_);
    if (blocks_.contains(key)) return OkStatus();
    if (bytes.size() > capacity_bytes_) {
      return Error(StatusCode::kResourceExhausted, "a block of {} in a tier of {}", bytes.size(),
                   capacity_bytes_);
    }
    while (used_bytes_ + bytes.size() > capacity_bytes_) Forget(order_.front());
    blocks_[key] = {{bytes.begin(), bytes.end()}, Checksum(bytes)};
    order_.push_back(key);
    used_bytes_ += bytes.size();
    return OkStatus();
  }

  StatusOr<bool> Get(const BlockKey& key, std::span<std::byte> bytes) override {
    MutexLock lock(mutex_);
    const auto found = blocks_.find(key);
    if (found == blocks_.end()) return false;
    const Stored& stored = found->second;
    if (stored.bytes.size() != bytes.size()) {
      return Error(StatusCode::kInvalidArgument, "a block of {} into {}", stored.bytes.size(),
                   bytes.size());
    }
    if (Checksum(stored.bytes) != stored.checksum) {
      Forget(key);
      return Error(StatusCode::kDataLoss, "block {} is damaged", key.number);
    }
    std::copy(stored.bytes.begin(), stored.bytes.end(), bytes.begin());
    return true;
  }

  Status Drop(const BlockKey& key) override {
    MutexLock lock(mutex_);
    if (blocks_.contains(key)) Forget(key);
    return OkStatus();
  }

  TierStats Stats() const override {
    MutexLock lock(mutex_);
    return {.capacity_bytes = capacity_bytes_, .used_bytes = used_bytes_, .blocks = blocks_.size()};
  }

  // Flips a bit of a stored block, as a failing device would.
  void Damage(const BlockKey& key) {
    MutexLock lock(mutex_);
    blocks_.at(key).bytes.front() ^= std::byte{1};
  }

 private:
  struct Stored {
    std::vector<std::byte> bytes;
    uint64_t checksum = 0;
  };

  void Forget(BlockKey key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    used_bytes_ -= blocks_.at(key).bytes.size();
    blocks_.erase(key);
    std::erase(order_, key);
  }

  const uint64_t capacity_bytes_;
  mutable Mutex mutex_;
  std::map<BlockKey, Stored> blocks_ ABSL_GUARDED_BY(mutex_);
  std::deque<BlockKey> order_ ABSL_GUARDED_BY(mutex_);
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
