// MemoryTier: a Tier in ordinary memory, for tests of what stands above one.
// Blocks put before a "crash" are gone unless they were flushed.
//
// Threads  safe; one mutex.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "base/hash.h"
#include "base/mutex.h"
#include "kvstore/tier.h"

namespace passband {

class MemoryTier final : public Tier {
 public:
  explicit MemoryTier(uint64_t capacity_bytes, uint64_t generation_bytes = 4096)
      : capacity_bytes_(capacity_bytes), generation_bytes_(generation_bytes) {}

  StatusOr<BlockAddress> Put(std::span<const std::byte> block, uint32_t planes) override {
    MutexLock lock(mutex_);
    if (used_bytes_ + block.size() > capacity_bytes_) {
      return Error(StatusCode::kResourceExhausted, "a block of {} in a tier with {} of {} in use",
                   block.size(), used_bytes_, capacity_bytes_);
    }
    if (filled_bytes_ >= generation_bytes_) {
      ++generation_;
      filled_bytes_ = 0;
    }
    filled_bytes_ += block.size();
    used_bytes_ += block.size();
    const BlockAddress address{generation_, next_number_++};
    blocks_[address] = {{block.begin(), block.end()}, planes, Checksum(block), false};
    return address;
  }

  Status Flush() override {
    MutexLock lock(mutex_);
    for (auto& [address, stored] : blocks_) stored.flushed = true;
    return OkStatus();
  }

  StatusOr<bool> Get(const BlockAddress& address, uint32_t planes, PlaneSet wanted,
                     std::span<std::byte> block) override {
    MutexLock lock(mutex_);
    const auto found = blocks_.find(address);
    if (found == blocks_.end()) return false;
    const Stored& stored = found->second;
    if (stored.bytes.size() != block.size() || stored.planes != planes) {
      return Error(StatusCode::kInvalidArgument, "a block of {} in {} planes into {} in {}",
                   stored.bytes.size(), stored.planes, block.size(), planes);
    }
    if (Checksum(stored.bytes) != stored.checksum) {
      return Error(StatusCode::kDataLoss, "block {} is damaged", address.number);
    }
    const size_t plane_bytes = block.size() / planes;
    for (uint32_t plane = 0; plane < planes; ++plane) {
      if ((wanted >> plane & 1) == 0) continue;
      const auto from = stored.bytes.begin() + static_cast<ptrdiff_t>(plane * plane_bytes);
      std::copy_n(from, plane_bytes, block.begin() + static_cast<ptrdiff_t>(plane * plane_bytes));
    }
    return true;
  }

  void Drop(const BlockAddress& address) override {
    MutexLock lock(mutex_);
    Forget(address);
  }

  StatusOr<uint64_t> DropOldest() override {
    MutexLock lock(mutex_);
    if (blocks_.empty() || blocks_.begin()->first.generation == generation_) {
      return Error(StatusCode::kNotFound, "no generation is full");
    }
    const uint64_t oldest = blocks_.begin()->first.generation;
    while (!blocks_.empty() && blocks_.begin()->first.generation == oldest) {
      Forget(BlockAddress(blocks_.begin()->first));
    }
    return oldest;
  }

  void Claim(const BlockAddress& address) override {
    MutexLock lock(mutex_);
    claimed_.insert(address.generation);
  }

  bool MayHold(const BlockAddress& address) const override {
    MutexLock lock(mutex_);
    return blocks_.contains(address);
  }

  Status DropUnclaimed() override {
    MutexLock lock(mutex_);
    std::vector<BlockAddress> unclaimed;
    for (const auto& [address, stored] : blocks_) {
      if (!claimed_.contains(address.generation)) unclaimed.push_back(address);
    }
    for (const BlockAddress& address : unclaimed) Forget(address);
    claimed_.clear();
    return OkStatus();
  }

  TierStats Stats() const override {
    MutexLock lock(mutex_);
    std::set<uint64_t> generations;
    for (const auto& [address, stored] : blocks_) generations.insert(address.generation);
    return {.capacity_bytes = capacity_bytes_,
            .used_bytes = used_bytes_,
            .blocks = blocks_.size(),
            .generations = generations.size()};
  }

  // Flips a bit of a stored block, as a failing device would.
  void Damage(const BlockAddress& address) {
    MutexLock lock(mutex_);
    blocks_.at(address).bytes.front() ^= std::byte{1};
  }

  // What a killed process leaves: only what was flushed.
  void Crash() {
    MutexLock lock(mutex_);
    std::vector<BlockAddress> lost;
    for (const auto& [address, stored] : blocks_) {
      if (!stored.flushed) lost.push_back(address);
    }
    for (const BlockAddress& address : lost) Forget(address);
    ++generation_;
    filled_bytes_ = 0;
  }

 private:
  struct Stored {
    std::vector<std::byte> bytes;
    uint32_t planes = 0;
    uint64_t checksum = 0;
    bool flushed = false;
  };

  void Forget(const BlockAddress& address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = blocks_.find(address);
    if (found == blocks_.end()) return;
    used_bytes_ -= found->second.bytes.size();
    blocks_.erase(found);
  }

  const uint64_t capacity_bytes_;
  const uint64_t generation_bytes_;
  mutable Mutex mutex_;
  std::map<BlockAddress, Stored> blocks_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> claimed_ ABSL_GUARDED_BY(mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t filled_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
