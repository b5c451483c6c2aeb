// Block, BlockRef: 64 tokens of one layer in the arena, and a claim on them.
//
// A block goes back to the arena when its last claim goes. Claims of the prefix
// index are counted apart: a block that nothing but the index claims is
// "cached", memory that may be taken back.
//
// Threads    counts are atomic; the bytes are the claimants' affair (sequence.h
//            says who may write which rows).
// Ownership  the arena owns the Block itself and must outlive every BlockRef.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace passband {

class Arena;

class Block {
 public:
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

  // No other claim exists. It also makes the reads of those who dropped theirs
  // happen before what the caller does next.
  bool exclusive() const { return Claims(counts_.load(std::memory_order_acquire)) == 1; }
  // Nothing but the prefix index claims it.
  bool cached() const { return IsCached(counts_.load(std::memory_order_acquire)); }
  // Claims other than the index's.
  uint32_t users() const {
    const uint64_t counts = counts_.load(std::memory_order_relaxed);
    return Claims(counts) - IndexClaims(counts);
  }

  // The prefix index's own claims; the caller of AddIndexClaim holds another.
  void AddIndexClaim() { counts_.fetch_add(kIndexClaim + 1, std::memory_order_relaxed); }
  void DropIndexClaim();

 private:
  friend class Arena;
  friend class BlockRef;

  // Low half: all claims; high half: those of the index among them.
  static constexpr uint64_t kIndexClaim = uint64_t{1} << 32;
  static uint32_t Claims(uint64_t counts) { return static_cast<uint32_t>(counts); }
  static uint32_t IndexClaims(uint64_t counts) { return static_cast<uint32_t>(counts >> 32); }
  static bool IsCached(uint64_t counts) {
    return Claims(counts) == IndexClaims(counts) && Claims(counts) > 0;
  }

  // A data call claims and drops hundreds of blocks: the usual case is inline.
  void AddClaim() {
    const uint64_t before = counts_.fetch_add(1, std::memory_order_relaxed);
    if (IsCached(before)) LeaveCache();
  }
  // Once the claim is dropped the Block itself may go, unless it was the last.
  void DropClaim() {
    Arena* const arena = arena_;
    const uint64_t bytes = bytes_;
    const uint64_t after = counts_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if (Claims(after) == IndexClaims(after)) AfterLastUser(arena, bytes, after, this);
  }
  void LeaveCache();
  static void AfterLastUser(Arena* arena, uint64_t bytes, uint64_t counts, Block* block);

  std::atomic<uint64_t> counts_{0};
  std::byte* data_ = nullptr;
  Arena* arena_ = nullptr;
  uint64_t bytes_ = 0;
  uint32_t slab_ = 0;
  uint32_t next_free_ = 0;
};

class BlockRef {
 public:
  BlockRef() = default;
  // Adds a claim to a block that cannot go away meanwhile.
  explicit BlockRef(Block* block) : block_(block) {
    if (block_ != nullptr) block_->AddClaim();
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
  Block* block_ = nullptr;
};

}  // namespace passband
