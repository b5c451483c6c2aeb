// Block, BlockRef, Pin: 64 tokens of one layer, wherever their bytes are.
//
// A block is known while anybody claims it, and resident while it has a slot of the arena.
// Claims keep it known; pins keep it known and resident. Life, residency and what is going
// on with it are one atomic word, so that pinning a resident block is one addition.
//
//   frozen    its bytes do not change any more: it may be written to the tier
//   clean     the tier holds it: it may leave the arena at once
//   full      every plane of it is in the slot; a restored block may hold only some
//   lost      the tier no longer has it, or has it damaged
//
// Claims of the prefix index are told apart: a resident block that nothing but the index
// claims is "cached".
//
// Threads    the word is atomic. The slot, the planes and the address change only in the
//            hands of whoever made the word say so: a writer (BeginWrite), one restorer at a
//            time, an evictor inside Evict. The bytes of a block that is not frozen are its
//            claimants' affair (layer.h says who may write which rows).
// Ownership  counted; destroyed with the last claim and pin. Its home must outlive it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kvstore/ram_shares.h"
#include "kvstore/tier.h"

namespace passband {

class BlockHome;
class BlockRef;

class alignas(64) Block {
 public:
  // Valid while pinned, or while the block is claimed and not frozen.
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  uint32_t planes() const { return plane_count_; }
  PlaneSet all_planes() const { return AllPlanes(plane_count_); }
  static PlaneSet AllPlanes(uint32_t planes) { return ~PlaneSet{0} >> (kMaxPlanes - planes); }
  BlockHome& home() const { return *home_; }
  // Whose RAM it takes.
  TenantSlot tenant() const { return tenant_; }

  // Claims other than the index's.
  uint64_t users() const { return Users(word()); }
  bool resident() const { return (word() & kResident) != 0; }
  bool full() const { return (word() & kFull) != 0; }
  bool frozen() const { return (word() & kFrozen) != 0; }
  bool clean() const { return (word() & kClean) != 0; }
  // Nothing but the prefix index claims it. Whoever only reads it still may be pinning it.
  bool unclaimed() const { return Users(word()) == 0; }
  // The same, and it takes memory.
  bool cached() const { return IsCached(word()); }
  // Evict would take its slot; BeginWrite would succeed.
  bool evictable() const {
    return (word() & (kResident | kClean | kPins | kWriting)) == (kResident | kClean);
  }
  bool writable() const {
    constexpr uint64_t kAll = kResident | kFull | kFrozen;
    return (word() & (kAll | kClean | kWriting)) == kAll;
  }
  // No row of it that is not in RAM will come back.
  bool lost() const;

  // The prefix index's own claims, under its lock; the caller of AddIndexClaim holds another.
  void AddIndexClaim();
  void DropIndexClaim();

  // Pins the block if all of it is resident.
  bool TryPinWhole() {
    if ((word_.fetch_add(kPin, std::memory_order_acquire) & kFull) != 0) [[likely]]
      return true;
    Unpin();
    return false;
  }
  // Pins the block if any of it is resident. `planes` names the planes that can be read then.
  bool TryPin(PlaneSet& planes) {
    const uint64_t before = word_.fetch_add(kPin, std::memory_order_acquire);
    if ((before & kFull) != 0) [[likely]] {
      planes = ~PlaneSet{0};
      return true;
    }
    if ((before & kResident) != 0) {
      planes = loaded_.load(std::memory_order_acquire);
      return true;
    }
    Unpin();
    return false;
  }
  // Whoever adds planes tells readers that pinned before.
  PlaneSet loaded() const { return loaded_.load(std::memory_order_acquire); }

  // Remembers when the block was used last, in the ticks of its home.
  void Touch(uint32_t tick) {
    if (used_.load(std::memory_order_relaxed) != tick) NoteUse(tick);
  }
  uint32_t used() const { return used_.load(std::memory_order_relaxed); }

  // The bytes do not change any more.
  void Freeze();
  // True: the caller, who claims the block, may change its bytes: nobody else can see it, and
  // it has no copy below. It also makes the reads of others happen before.
  bool TakeForWriting();

  // The home's watcher is told, once, when the block dies or may be written again. The caller
  // pins it, and it is frozen.
  void Watch() { word_.fetch_or(kWatched, std::memory_order_relaxed); }

  // --- residency; the caller holds a claim -----------------------------------------------

  // True: the caller is to write the block to the tier, and to call EndWrite.
  bool BeginWrite();
  bool writing() const { return (word() & kWriting) != 0; }
  // An empty address: it could not be written.
  void EndWrite(const BlockAddress& address);
  BlockAddress address() const {
    return {generation_.load(std::memory_order_acquire), number_.load(std::memory_order_acquire)};
  }
  // Where its copy is; nowhere when it has none. Needs nobody's hands kept off.
  BlockAddress copy() const;
  // Takes the slot of a clean block that nobody pins; null when it must stay.
  std::byte* Evict();
  // The copy below is gone. A block that is all here counts as never written; else it is lost.
  void ForgetCopy();
  // True: it was not known as lost.
  bool MarkLost() { return (word_.fetch_or(kLost, std::memory_order_relaxed) & kLost) == 0; }
  // By the one restorer at work on it. The first planes, in a slot: the block is pinned then.
  // Further ones, of a block that the caller pins.
  void BecomeResident(std::byte* slot, PlaneSet planes);
  void AddPlanes(PlaneSet planes);

 private:
  friend class BlockHome;
  friend class BlockRef;
  friend class Pin;

  // From the lowest bit: 28 bits of pins, 27 of claims, then flags.
  static constexpr uint64_t kPin = 1;
  static constexpr uint64_t kUser = uint64_t{1} << 28;
  static constexpr uint64_t kIndexed = uint64_t{1} << 55;
  static constexpr uint64_t kResident = uint64_t{1} << 56;
  static constexpr uint64_t kFull = uint64_t{1} << 57;
  static constexpr uint64_t kFrozen = uint64_t{1} << 58;
  static constexpr uint64_t kClean = uint64_t{1} << 59;
  static constexpr uint64_t kWriting = uint64_t{1} << 60;
  static constexpr uint64_t kMoving = uint64_t{1} << 61;
  static constexpr uint64_t kLost = uint64_t{1} << 62;
  static constexpr uint64_t kWatched = uint64_t{1} << 63;
  static constexpr uint64_t kPins = kUser - 1;
  static constexpr uint64_t kUsers = kIndexed - kUser;

  static uint64_t Users(uint64_t word) { return (word & kUsers) / kUser; }
  static bool IsCached(uint64_t word) {
    return (word & (kIndexed | kResident | kUsers)) == (kIndexed | kResident);
  }
  static bool IsDead(uint64_t word) { return (word & (kPins | kUsers | kIndexed)) == 0; }

  Block(BlockHome& home, uint64_t bytes, uint32_t planes, TenantSlot tenant);
  ~Block();

  uint64_t word() const { return word_.load(std::memory_order_acquire); }
  void AddClaim() {
    const uint64_t before = word_.fetch_add(kUser, std::memory_order_relaxed);
    if (IsCached(before)) LeaveCache();
  }
  // False when the block is about to be destroyed.
  bool TryClaim();
  // Once claim or pin is dropped the block may be gone.
  void DropClaim() {
    BlockHome* const home = home_;
    const uint64_t bytes = bytes_;
    const uint64_t after = word_.fetch_sub(kUser, std::memory_order_acq_rel) - kUser;
    if (Users(after) == 0) AfterLastUser(*home, bytes, after);
  }
  void Unpin() {
    if (IsDead(word_.fetch_sub(kPin, std::memory_order_acq_rel) - kPin)) Destroy();
  }
  void NoteUse(uint32_t tick);
  void Destroy();
  void LeaveCache();
  void AfterLastUser(BlockHome& home, uint64_t bytes, uint64_t after);

  std::atomic<uint64_t> word_{0};
  std::byte* data_ = nullptr;
  BlockHome* const home_;
  std::atomic<uint32_t> used_{0};
  const uint32_t bytes_;  // a slab's at most
  const uint16_t plane_count_;
  const TenantSlot tenant_;
  uint32_t index_claims_ = 0;
  std::atomic<PlaneSet> loaded_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint64_t> number_{0};
};
static_assert(sizeof(Block) == 64, "a request touches hundreds: one cache line each");

// A claim.
class BlockRef {
 public:
  BlockRef() = default;
  // Adds a claim to a block that cannot go away meanwhile.
  explicit BlockRef(Block* block) : block_(block) {
    if (block_ != nullptr) block_->AddClaim();
  }
  // A claim on a block that may be going away: then nothing.
  static BlockRef Try(Block* block) {
    BlockRef claim;
    if (block->TryClaim()) claim.block_ = block;
    return claim;
  }
  BlockRef(const BlockRef& other) : BlockRef(other.block_) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() {
    if (block_ != nullptr) block_->DropClaim();
  }

  explicit operator bool() const { return block_ != nullptr; }
  Block* get() const { return block_; }
  Block* operator->() const { return block_; }
  bool operator==(const BlockRef&) const = default;

 private:
  friend class BlockHome;

  Block* block_ = nullptr;
};

// Keeps a block where it is.
class Pin {
 public:
  // Takes over a pin that TryPin or BecomeResident took.
  explicit Pin(Block* pinned) : block_(pinned) {}
  Pin(Pin&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Pin& operator=(Pin&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Pin() {
    if (block_ != nullptr) block_->Unpin();
  }

 private:
  Block* block_;
};

}  // namespace passband
