#include "sdk/row_cache.h"

#include <algorithm>
#include <tuple>

#include "base/status.h"

namespace passband {
namespace {

constexpr uint32_t kNoToken = std::numeric_limits<uint32_t>::max();

}  // namespace

RowSlab::RowSlab(uint32_t caches, uint32_t slots, size_t row_bytes)
    : caches_(caches), slots_(slots), row_bytes_(row_bytes) {}

std::byte* RowSlab::Slots(uint32_t cache) {
  if (memory_.size() == 0) memory_ = PageBuffer(size_t{caches_} * slots_ * row_bytes_);
  return memory_.data() + size_t{cache} * slots_ * row_bytes_;
}

RowCache::RowCache(RowSlab* slab, uint32_t index)
    : slab_(slab), index_(index), row_bytes_(slab->row_bytes()) {
  PASSBAND_CHECK(slab->slots() <= kMaxSlots);
}

std::byte* RowCache::Insert(uint32_t token) {
  if (full_at_ == clock_ || slab_->slots() == 0) return nullptr;
  if (rows_ == nullptr) {
    rows_ = slab_->Slots(index_);
    stamps_.resize(slab_->slots());
    tokens_.resize(slab_->slots(), kNoToken);
  }
  uint16_t slot = kNone;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (used_ < slab_->slots()) {
    slot = static_cast<uint16_t>(used_++);
  } else {
    slot = TakeVictim();
  }
  if (slot == kNone) {
    full_at_ = clock_;
    return nullptr;
  }
  if (token >= slot_of_.size()) slot_of_.resize(size_t{token} + 1, kNone);
  slot_of_[token] = slot;
  stamps_[slot] = clock_;
  tokens_[slot] = token;
  return rows_ + slot * row_bytes_;
}

void RowCache::Truncate(uint64_t tokens) {
  for (uint64_t token = tokens; token < slot_of_.size(); ++token) {
    const uint16_t slot = slot_of_[token];
    if (slot == kNone) continue;
    tokens_[slot] = kNoToken;
    free_.push_back(slot);
  }
  if (tokens < slot_of_.size()) slot_of_.resize(tokens);
  full_at_ = 0;
}

size_t RowCache::memory_bytes() const {
  return slot_of_.capacity() * sizeof(uint16_t) + stamps_.capacity() * sizeof(uint64_t) +
         tokens_.capacity() * sizeof(uint32_t) + free_.capacity() * sizeof(uint16_t) +
         victims_.capacity() * sizeof(Victim);
}

uint16_t RowCache::TakeVictim() {
  for (const bool refilled : {false, true}) {
    if (refilled) RefillVictims();
    while (!victims_.empty()) {
      const Victim victim = victims_.back();
      victims_.pop_back();
      if (stamps_[victim.slot] != victim.stamp || tokens_[victim.slot] != victim.token) continue;
      slot_of_[victim.token] = kNone;
      return victim.slot;
    }
  }
  return kNone;
}

void RowCache::RefillVictims() {
  victims_.reserve(slab_->slots());
  for (uint32_t slot = 0; slot < used_; ++slot) {
    if (tokens_[slot] == kNoToken || stamps_[slot] == clock_) continue;
    victims_.push_back({stamps_[slot], tokens_[slot], static_cast<uint16_t>(slot)});
  }
  std::sort(victims_.begin(), victims_.end(), [](const Victim& a, const Victim& b) {
    return std::tie(a.stamp, a.token) > std::tie(b.stamp, b.token);
  });
}

}  // namespace passband
