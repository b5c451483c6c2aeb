#include "kvstore/block.h"

#include <thread>

#include "base/status.h"
#include "kvstore/block_home.h"

namespace passband {

Block::Block(BlockHome& home, uint64_t bytes, uint32_t planes, TenantSlot tenant)
    : home_(&home),
      bytes_(static_cast<uint32_t>(bytes)),
      plane_count_(static_cast<uint16_t>(planes)),
      tenant_(tenant) {
  home_->shares().AddBlocks(tenant_, 1);
}

Block::~Block() { home_->Bury(*this); }

bool Block::lost() const {
  const uint64_t now = word();
  if ((now & kLost) != 0) return true;
  return (now & kResident) == 0 &&
         generation_.load(std::memory_order_relaxed) <= home_->forgotten_generation();
}

void Block::AddIndexClaim() {
  if (index_claims_++ == 0) word_.fetch_or(kIndexed, std::memory_order_relaxed);
}

void Block::DropIndexClaim() {
  if (--index_claims_ > 0) return;
  BlockHome* const home = home_;
  const uint64_t bytes = bytes_;
  const uint64_t before = word_.fetch_and(~kIndexed, std::memory_order_acq_rel);
  if (IsCached(before)) home->AddCached(-static_cast<int64_t>(bytes));
  if (IsDead(before & ~kIndexed)) Destroy();
}

bool Block::TryClaim() {
  uint64_t now = word();
  while (!IsDead(now)) {
    if (!word_.compare_exchange_weak(now, now + kUser, std::memory_order_acquire)) continue;
    if (IsCached(now)) LeaveCache();
    return true;
  }
  return false;
}

void Block::NoteUse(uint32_t tick) {
  used_.store(tick, std::memory_order_relaxed);
  home_->shares().NoteUse(tenant_, tick);
}

void Block::Destroy() { delete this; }

void Block::LeaveCache() { home_->AddCached(-static_cast<int64_t>(bytes_)); }

// The block may be touched only when nothing is left of it: else it may be gone.
void Block::AfterLastUser(BlockHome& home, uint64_t bytes, uint64_t after) {
  if (IsDead(after)) {
    Destroy();
  } else if (IsCached(after)) {
    home.AddCached(static_cast<int64_t>(bytes));
  }
}

void Block::Freeze() {
  const uint64_t before = word_.fetch_or(kFrozen, std::memory_order_release);
  if ((before & kFrozen) == 0) home_->AddDirty(bytes_);
}

bool Block::TakeForWriting() {
  uint64_t now = word();
  do {
    constexpr uint64_t kNone = kPins | kIndexed | kClean | kWriting | kMoving;
    if (Users(now) != 1 || (now & kNone) != 0 || (now & kFull) == 0) return false;
  } while (
      !word_.compare_exchange_weak(now, now & ~(kFrozen | kWatched), std::memory_order_acq_rel));
  if ((now & kFrozen) != 0) home_->AddDirty(-int64_t{bytes_});
  if ((now & kWatched) != 0) home_->TellWatcher(*this);
  return true;
}

bool Block::BeginWrite() {
  uint64_t now = word();
  do {
    constexpr uint64_t kAll = kResident | kFull | kFrozen;
    if ((now & kAll) != kAll || (now & (kClean | kWriting | kMoving)) != 0) return false;
  } while (!word_.compare_exchange_weak(now, now | kWriting, std::memory_order_acq_rel));
  return true;
}

// A block that is written anew has another address before it is clean again: where that was seen
// in part, it is not the same a second time.
BlockAddress Block::copy() const {
  while (true) {
    const BlockAddress seen = address();
    if (!clean()) return {};
    if (address() == seen) return seen;
  }
}

void Block::EndWrite(const BlockAddress& address) {
  if (!address) {
    word_.fetch_and(~kWriting, std::memory_order_release);
    home_->NoteRoom();
    return;
  }
  number_.store(address.number, std::memory_order_release);
  generation_.store(address.generation, std::memory_order_release);
  home_->AddDirty(-int64_t{bytes_});
  home_->AddClean(tenant_, bytes_);
  // Both flags in one step: the block is never seen as neither.
  word_.fetch_sub(kWriting - kClean);
  if (address.generation <= home_->forgotten_generation()) ForgetCopy();
  home_->NoteRoom();
}

std::byte* Block::Evict() {
  uint64_t now = word();
  do {
    constexpr uint64_t kAll = kResident | kClean;
    if ((now & kAll) != kAll || (now & (kPins | kWriting | kMoving)) != 0) return nullptr;
  } while (!word_.compare_exchange_weak(now, (now & ~(kResident | kFull)) | kMoving,
                                        std::memory_order_acq_rel));
  std::byte* const slot = std::exchange(data_, nullptr);
  loaded_.store(0, std::memory_order_relaxed);
  home_->AddClean(tenant_, -int64_t{bytes_});
  home_->shares().AddRam(tenant_, -int64_t{bytes_});
  home_->AddSpilled(bytes_);
  word_.fetch_and(~kMoving, std::memory_order_release);
  return slot;
}

void Block::ForgetCopy() {
  uint64_t now = word();
  do {
    if ((now & kClean) == 0 || (now & kResident) == 0) return;
    if ((now & kFull) == 0) {  // some planes only: nothing to write again
      MarkLost();
      return;
    }
  } while (!word_.compare_exchange_weak(now, now & ~kClean, std::memory_order_acq_rel));
  home_->AddClean(tenant_, -int64_t{bytes_});
  home_->AddDirty(bytes_);
}

void Block::BecomeResident(std::byte* slot, PlaneSet planes) {
  // An evictor may still be on its way out.
  while ((word() & kMoving) != 0) std::this_thread::yield();
  data_ = slot;
  loaded_.store(planes, std::memory_order_relaxed);
  Touch(home_->tick());
  home_->AddClean(tenant_, bytes_);
  home_->shares().AddRam(tenant_, bytes_);
  home_->AddSpilled(-int64_t{bytes_});
  const uint64_t full = planes == all_planes() ? kFull : 0;
  word_.fetch_add(kResident + full + kPin, std::memory_order_acq_rel);
}

void Block::AddPlanes(PlaneSet planes) {
  const PlaneSet all = loaded_.fetch_or(planes, std::memory_order_acq_rel) | planes;
  if (all == all_planes()) word_.fetch_or(kFull, std::memory_order_release);
}

}  // namespace passband
