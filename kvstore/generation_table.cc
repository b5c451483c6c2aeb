#include "kvstore/generation_table.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace passband {

void GenerationTable::Adopt(uint64_t generation, Family family, uint64_t end) {
  MutexLock lock(mutex_);
  Generation& adopted = generations_[generation];
  adopted.family = std::move(family);
  adopted.live.assign(end, false);
  latest_ = std::max(latest_, generation);
}

void GenerationTable::Begin(uint64_t generation, Family family, Time now) {
  MutexLock lock(mutex_);
  PASSBAND_CHECK(active_ == 0 && generation > latest_);
  Generation& begun = generations_[generation];
  begun.family = std::move(family);
  begun.begun = now;
  active_ = generation;
  latest_ = generation;
}

std::optional<GenerationTable::Active> GenerationTable::active() const {
  MutexLock lock(mutex_);
  if (active_ == 0) return std::nullopt;
  const Generation& generation = generations_.at(active_);
  return Active{.next = {active_, generation.live.size()},
                .family = generation.family,
                .bytes = generation.bytes,
                .begun = generation.begun};
}

void GenerationTable::Add(uint64_t bytes) {
  MutexLock lock(mutex_);
  Generation& generation = generations_.at(active_);
  generation.live.push_back(true);
  generation.bytes += bytes;
  ++generation.live_blocks;
  ++blocks_;
}

void GenerationTable::Close() {
  MutexLock lock(mutex_);
  const auto closed = generations_.find(std::exchange(active_, 0));
  if (closed != generations_.end() && closed->second.live_blocks == 0) DoomLocked(closed);
}

GenerationTable::Family GenerationTable::Find(const BlockAddress& address) const {
  MutexLock lock(mutex_);
  const auto found = generations_.find(address.generation);
  if (found == generations_.end() || address.number >= found->second.live.size() ||
      !found->second.live[address.number]) {
    return nullptr;
  }
  return found->second.family;
}

void GenerationTable::Claim(const BlockAddress& address) {
  MutexLock lock(mutex_);
  const auto found = generations_.find(address.generation);
  if (found == generations_.end() || address.number >= found->second.live.size() ||
      found->second.live[address.number]) {
    return;
  }
  found->second.live[address.number] = true;
  ++found->second.live_blocks;
  ++blocks_;
}

bool GenerationTable::Covers(const BlockAddress& address) const {
  MutexLock lock(mutex_);
  const auto found = generations_.find(address.generation);
  return found != generations_.end() && address.number < found->second.live.size();
}

bool GenerationTable::Drop(const BlockAddress& address) {
  MutexLock lock(mutex_);
  const auto found = generations_.find(address.generation);
  if (found == generations_.end() || address.number >= found->second.live.size() ||
      !found->second.live[address.number]) {
    return false;
  }
  found->second.live[address.number] = false;
  --blocks_;
  if (--found->second.live_blocks != 0 || found->first == active_) return false;
  DoomLocked(found);
  return true;
}

void GenerationTable::DoomUnclaimed() {
  MutexLock lock(mutex_);
  for (auto i = generations_.begin(); i != generations_.end();) {
    const auto generation = i++;
    if (generation->second.live_blocks == 0 && generation->first != active_) {
      DoomLocked(generation);
    }
  }
}

void GenerationTable::DoomLocked(Generations::iterator generation) {
  blocks_ -= generation->second.live_blocks;
  doomed_.push_back({generation->first, std::move(generation->second.family)});
  generations_.erase(generation);
}

std::optional<GenerationTable::Taken> GenerationTable::TakeOldestFull() {
  MutexLock lock(mutex_);
  const auto oldest = generations_.begin();
  if (oldest == generations_.end() || oldest->first == active_) return std::nullopt;
  DoomLocked(oldest);
  Taken taken = std::move(doomed_.back());
  doomed_.pop_back();
  return taken;
}

std::optional<GenerationTable::Taken> GenerationTable::TakeDoomed() {
  MutexLock lock(mutex_);
  if (doomed_.empty()) return std::nullopt;
  Taken taken = std::move(doomed_.back());
  doomed_.pop_back();
  return taken;
}

void GenerationTable::GiveBack(Taken taken) {
  MutexLock lock(mutex_);
  doomed_.push_back(std::move(taken));
}

bool GenerationTable::any_doomed() const {
  MutexLock lock(mutex_);
  return !doomed_.empty();
}

uint64_t GenerationTable::latest() const {
  MutexLock lock(mutex_);
  return latest_;
}

std::vector<GenerationTable::Family> GenerationTable::Families() const {
  MutexLock lock(mutex_);
  std::vector<Family> families;
  families.reserve(generations_.size());
  for (const auto& [number, generation] : generations_) families.push_back(generation.family);
  return families;
}

GenerationTable::Counts GenerationTable::Count() const {
  MutexLock lock(mutex_);
  return {.blocks = blocks_, .generations = generations_.size()};
}

}  // namespace passband
